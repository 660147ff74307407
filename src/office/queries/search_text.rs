//! Texts that people search by: letters without case and, in Vietnamese, without marks.

/// `text` with small letters and without marks, composed (NFC) or not (NFD): `Chợ Đông` and `cho dong`
/// are equal.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let is_mark = |letter: &char| ('\u{300}'..='\u{36f}').contains(letter);
    text.chars().flat_map(char::to_lowercase).filter(|letter| !is_mark(letter)).map(base).collect()
}

/// The letter below the marks of a small Vietnamese letter.
fn base(letter: char) -> char {
    match letter {
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
