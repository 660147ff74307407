//! Text of a device as it may be shown: on a terminal, in a log, in JSON. Nothing in it moves a cursor, begins a line, turns the direction
//! of writing or reaches a clipboard.
//!
//! What belongs here: escaping. What does not: what is shown (the command line, the office's log).

/// Characters that do something instead of being seen: C0, DEL, C1, line and paragraph separators, bidirectional controls.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text in one line, with `\xNN` or `\u{NNNN}` for every character that is not seen.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            _ if !acts(c) => out.push(c),
            number @ 0..=0xff => out.push_str(&format!("\\x{number:02x}")),
            number => out.push_str(&format!("\\u{{{number:x}}}")),
        }
    }
    out
}

/// Lines of a text, each as `escape`; tabulators stay.
pub fn shown_lines(text: &str) -> String {
    text.split('\n').map(|line| line.split('\t').map(shown).collect::<Vec<_>>().join("\t")).collect::<Vec<_>>().join("\n")
}

/// Pretty JSON, with a JSON escape for every character that is not seen: it reads as the same value.
///
/// # Errors
/// When the value is none of JSON.
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
        // What the writer itself put between values is a line feed; all others of C0 are escaped already.
        if acts(c) && c != '\n' { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Window title, clipboard, a forged line, C1, DEL, and writing from right to left.
    const EVIL: &str = "a\x1b]0;t\x07\x1b]52;c;eA==\x07\nkm-17 clip\r\t\u{9b}2J\x7f\u{202e}gpj.exe\u{2066} đường";

    #[test]
    fn nothing_that_acts_is_left_in_what_is_shown() {
        let text = shown(EVIL);
        assert!(!text.chars().any(acts), "{text}");
        assert!(text.contains("\\x1b]52") && text.contains("\\u{202e}") && text.ends_with("đường"), "{text}");
        assert_eq!(shown_lines("a\tb\n\x1bc"), "a\tb\n\\x1bc");
    }

    #[test]
    fn shown_json_reads_as_the_same_value() {
        let value = serde_json::json!({"type": EVIL});
        let text = shown_json(&value).unwrap();
        assert!(!text.chars().any(|c| acts(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        let line = shown_json_line(&value).unwrap();
        assert!(!line.chars().any(acts), "{line}");
        assert_eq!(shown_lines(&line), line, "what the command line escapes is escaped already");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }
}
