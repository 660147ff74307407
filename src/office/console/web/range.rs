//! `Range` requests (RFC 9110, section 14): one range of bytes, and `If-Range`.

use std::ops::Range;

/// What part of a representation to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it, with status 200.
    All,
    /// A part, with status 206.
    Part(Range<u64>),
    /// No byte of it exists: status 416.
    Outside,
}

/// What a `Range` header asks of `size` bytes whose strong entity tag is `etag`.
///
/// A range that cannot be read, several ranges, another unit, and an `If-Range` that names another
/// representation ask for all of it, as the RFC permits.
pub(crate) fn wanted(range: Option<&str>, if_range: Option<&str>, etag: &str, size: u64) -> Wanted {
    let Some(range) = range else { return Wanted::All };
    if if_range.is_some_and(|tag| tag != etag) {
        return Wanted::All;
    }
    let one = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'));
    let Some((first, last)) = one.filter(|(_, last)| !last.contains(',')) else {
        return Wanted::All;
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Wanted::All,
    };
    if part.is_empty() { Wanted::Outside } else { Wanted::Part(part) }
}

/// Digits; a number beyond `u64` is as large as can be.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// True when an `If-None-Match` header names the entity tag.
pub(crate) fn matches(if_none_match: Option<&str>, etag: &str) -> bool {
    if_none_match.is_some_and(|tags| {
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_100(range: &str) -> Wanted {
        wanted(Some(range), None, "\"a\"", 100)
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        assert_eq!(wanted(None, None, "", 100), Wanted::All);
        assert_eq!(of_100("bytes=0-0"), Wanted::Part(0..1));
        assert_eq!(of_100("bytes=10-19"), Wanted::Part(10..20));
        assert_eq!(of_100("bytes=90-"), Wanted::Part(90..100));
        assert_eq!(of_100("bytes=-5"), Wanted::Part(95..100));
        assert_eq!(of_100("bytes=-500"), Wanted::Part(0..100));
        assert_eq!(of_100("bytes=90-999"), Wanted::Part(90..100));
        assert_eq!(of_100("bytes=90-99999999999999999999999"), Wanted::Part(90..100));
    }

    #[test]
    fn ranges_outside_are_refused() {
        for outside in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(of_100(outside), Wanted::Outside, "{outside}");
        }
        assert_eq!(wanted(Some("bytes=0-"), None, "", 0), Wanted::Outside);
    }

    #[test]
    fn unreadable_and_several_ranges_ask_for_all() {
        for odd in ["", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=+1-2"] {
            assert_eq!(of_100(odd), Wanted::All, "{odd}");
        }
        for odd in ["lines=0-5", "bytes=0-1,5-6", "bytes=0-1, -1", "bytes=1-2-3", "bytes= 1- 2"] {
            assert_eq!(of_100(odd), Wanted::All, "{odd}");
        }
    }

    #[test]
    fn if_range_with_another_tag_asks_for_all() {
        assert_eq!(wanted(Some("bytes=0-1"), Some("\"a\""), "\"a\"", 9), Wanted::Part(0..2));
        for other in ["\"b\"", "W/\"a\"", "Mon, 30 Nov 2026 00:00:00 GMT"] {
            assert_eq!(wanted(Some("bytes=0-1"), Some(other), "\"a\"", 9), Wanted::All);
        }
    }

    #[test]
    fn an_entity_tag_is_found_in_a_list() {
        assert!(matches(Some("\"x\", W/\"a\""), "\"a\""));
        assert!(matches(Some("*"), "\"a\""));
        assert!(!matches(Some("\"x\""), "\"a\""));
        assert!(!matches(None, "\"a\""));
    }
}
