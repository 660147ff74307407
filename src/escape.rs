//! Escaping: makes text of a device safe for a terminal, a log or JSON output.
//!
//! Escaped text cannot move a cursor, start a line, change the writing direction or write to a
//! clipboard.

/// True for characters with an effect instead of a glyph: C0, DEL, C1, line and paragraph
/// separators, the format characters (category Cf: bidirectional controls, zero-width characters,
/// tags), and what has no width (joiners, fillers, variation selectors).
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text in one line, with `\xNN` or `\u{NNNN}` for each control character.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            _ if !is_control(c) => out.push(c),
            number @ 0..=0xff => out.push_str(&format!("\\x{number:02x}")),
            number => out.push_str(&format!("\\u{{{number:x}}}")),
        }
    }
    out
}

/// A path in one line, as by [`shown`].
pub fn shown_path(path: impl AsRef<std::path::Path>) -> String {
    shown(&path.as_ref().display().to_string())
}

/// The lines of a text, each as by [`shown`]; tabs stay.
pub fn shown_lines(text: &str) -> String {
    text.split('\n')
        .map(|line| line.split('\t').map(shown).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Pretty JSON with a JSON escape for each control character: it parses to the same value.
///
/// # Errors
/// When the value cannot be serialised as JSON.
pub fn shown_json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(escaped_json(&serde_json::to_string_pretty(value)?))
}

/// The same in one line.
///
/// # Errors
/// As above.
pub fn shown_json_line(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(escaped_json(&serde_json::to_string(value)?))
}

fn escaped_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // serde_json escapes all of C0 in strings; the remaining line feeds are its own.
        if is_control(c) && c != '\n' {
            // Beyond the first plane JSON has surrogate pairs.
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c)
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Window title, clipboard, a forged line, C1, DEL, and right-to-left text.
    const EVIL: &str =
        "a\x1b]0;t\x07\x1b]52;c;eA==\x07\nkm-17 clip\r\t\u{9b}2J\x7f\u{202e}gpj.exe\u{2066} đường";

    #[test]
    fn a_path_with_a_line_feed_or_an_escape_is_one_line() {
        assert_eq!(shown_path("/a/b\n\u{1b}[2Jc.mp4"), "/a/b\\x0a\\x1b[2Jc.mp4");
    }

    #[test]
    fn shown_text_has_no_control_characters() {
        let text = shown(EVIL);
        assert!(!text.chars().any(is_control), "{text}");
        assert!(
            text.contains("\\x1b]52") && text.contains("\\u{202e}") && text.ends_with("đường"),
            "{text}"
        );
        assert_eq!(shown_lines("a\tb\n\x1bc"), "a\tb\n\\x1bc");
    }

    #[test]
    fn format_and_zero_width_characters_are_escaped() {
        for c in [
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{2060}',
            '\u{180e}',
            '\u{fff9}',
            '\u{e0001}',
            '\u{feff}',
            '\u{34f}',
            '\u{fe0f}',
        ] {
            let text = shown(&format!("a{c}b"));
            assert!(text.is_ascii(), "{text:?}");
            let value = serde_json::json!({"a": format!("x{c}y")});
            let json = shown_json_line(&value).unwrap();
            assert!(json.is_ascii(), "{json:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        }
    }

    #[test]
    fn shown_json_parses_to_the_same_value() {
        let value = serde_json::json!({"type": EVIL});
        let text = shown_json(&value).unwrap();
        assert!(!text.chars().any(|c| is_control(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        let line = shown_json_line(&value).unwrap();
        assert!(!line.chars().any(is_control), "{line}");
        assert_eq!(shown_lines(&line), line, "what the command line escapes is escaped already");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }
}
