//! Headers that every answer has, and which bodies are compressed.

use std::io::Write as _;

use axum::http::header::{ACCEPT_ENCODING, HeaderMap};
use flate2::Compression;
use flate2::write::GzEncoder;

/// The page loads nothing from elsewhere, runs nothing that is not a file of ours, and stands in no
/// frame.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    media-src 'self' blob:; connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Headers of every answer.
pub(crate) const STRICT: [(&str, &str); 8] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=(), display-capture=(), usb=(), serial=()",
    ),
    ("vary", "accept-encoding, cookie"),
];

/// Bytes below which compression saves less than it costs.
const WORTH: usize = 1_024;

/// True when a client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let given = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| {
        given.split(',').any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name == "gzip" || name == "*");
            is_gzip && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    })
}

/// True for bodies that become smaller.
pub(crate) fn is_text(content_type: &str, size: usize) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    size >= WORTH
        && (kind.starts_with("text/") && kind != "text/event-stream"
            || matches!(kind, "application/json" | "application/problem+json" | "image/svg+xml"))
}

/// Compresses; `None` when it fails, and the body is then sent as it is.
pub(crate) fn gzip(body: &[u8], level: u32) -> Option<Vec<u8>> {
    let mut encoder =
        GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(level.min(9)));
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn gzip_is_used_where_the_client_takes_it() {
        let takes = |given: &'static str| {
            takes_gzip(&[(ACCEPT_ENCODING, HeaderValue::from_static(given))].into_iter().collect())
        };
        assert!(takes("gzip, deflate, br"));
        assert!(takes("br;q=1.0, gzip;q=0.8"));
        assert!(!takes("gzip;q=0"));
        assert!(!takes("identity"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn footage_and_streams_are_not_compressed() {
        assert!(is_text("application/json", 5_000));
        assert!(is_text("text/javascript; charset=utf-8", 5_000));
        assert!(!is_text("application/json", 100));
        for other in ["video/mp4", "image/jpeg", "text/event-stream"] {
            assert!(!is_text(other, 5_000), "{other}");
        }
    }

    #[test]
    fn the_policy_names_no_other_place() {
        assert!(!POLICY.contains("http"));
        assert!(!POLICY.contains("unsafe"));
    }
}
