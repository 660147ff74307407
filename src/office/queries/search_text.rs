//! Texts that people search by: characters without case and, in Vietnamese, without marks.

/// `text` with small characters and without marks, composed (NFC) or not (NFD): `Chợ Đông` and `cho dong`
/// are equal.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let is_mark = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    text.chars().flat_map(char::to_lowercase).filter(|c| !is_mark(c)).map(base).collect()
}

/// The base character of a small Vietnamese one with marks.
fn base(c: char) -> char {
    match c {
        'à' | 'á' | 'ả' | 'ã' | 'ạ' | 'ă' | 'ằ' | 'ắ' | 'ẳ' | 'ẵ' | 'ặ' | 'â' | 'ầ' | 'ấ' | 'ẩ'
        | 'ẫ' | 'ậ' => 'a',
        'è' | 'é' | 'ẻ' | 'ẽ' | 'ẹ' | 'ê' | 'ề' | 'ế' | 'ể' | 'ễ' | 'ệ' => 'e',
        'ì' | 'í' | 'ỉ' | 'ĩ' | 'ị' => 'i',
        'ò' | 'ó' | 'ỏ' | 'õ' | 'ọ' | 'ô' | 'ồ' | 'ố' | 'ổ' | 'ỗ' | 'ộ' | 'ơ' | 'ờ' | 'ớ' | 'ở'
        | 'ỡ' | 'ợ' => 'o',
        'ù' | 'ú' | 'ủ' | 'ũ' | 'ụ' | 'ư' | 'ừ' | 'ứ' | 'ử' | 'ữ' | 'ự' => 'u',
        'ỳ' | 'ý' | 'ỷ' | 'ỹ' | 'ỵ' => 'y',
        'đ' => 'd',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vietnamese_is_equal_with_and_without_marks_and_case() {
        for text in ["Chợ Đông", "CHỢ ĐÔNG", "cho dong", "Cho\u{31b}\u{323} Đo\u{302}ng"] {
            assert_eq!(fold(text), "cho dong", "{text}");
        }
        assert_eq!(fold("Ngã tư Nguyễn Huệ"), "nga tu nguyen hue");
        assert_eq!(fold("Ấp Lũy Ỷ Ỵ"), "ap luy y y");
        assert_eq!(fold("日本 KM-17"), "日本 km-17");
    }
}
