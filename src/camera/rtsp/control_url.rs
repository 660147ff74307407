//! URLs of requests: each is asked of the host that the connection goes to, whatever host the camera
//! names. Cameras behind a NAT name their inner address.

/// The URLs of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlBase {
    /// Host and port, as in the URL of the stream.
    authority: String,
    /// What relative control URLs are appended to.
    base: String,
}

/// Divides an absolute URL into authority and path.
fn divide(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    scheme.chars().all(|c| c.is_ascii_alphanumeric()).then_some(())?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// Host and port of an authority, without a login.
fn host_and_port(authority: &str) -> (String, &str) {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => (name, port),
        _ => (host, "554"),
    };
    (name.to_ascii_lowercase(), if port.is_empty() { "554" } else { port })
}

/// A URL as it may stand in a request line and in a quoted string.
pub fn encoded(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            0..=b' ' | b'"' | b'\\' | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

impl ControlBase {
    /// The base after DESCRIBE of `url`; `named` is `Content-Base` or `Content-Location`. The flag
    /// is true when that names another host.
    pub fn new(url: &str, named: Option<&[u8]>) -> (ControlBase, bool) {
        let url = encoded(url);
        let authority = divide(&url).map_or("", |(authority, _)| authority).to_owned();
        let mut base = ControlBase { authority, base: url };
        let named = named.map(|named| String::from_utf8_lossy(named).trim().to_owned());
        let Some((own, foreign)) = named.and_then(|named| base.own(&named)) else {
            return (base, false);
        };
        base.base = own;
        (base, foreign)
    }

    /// An absolute URL on the host of the connection, and whether it named another one.
    fn own(&self, url: &str) -> Option<(String, bool)> {
        let (authority, path) = divide(url)?;
        let foreign = host_and_port(authority) != host_and_port(&self.authority);
        Some((encoded(&format!("rtsp://{}{path}", self.authority)), foreign))
    }

    /// The URL of a control attribute, and whether it named another host. A relative one is
    /// appended, as cameras mean it, not joined as RFC 1808 says.
    pub fn url(&self, control: Option<&str>) -> (String, bool) {
        let control = control.unwrap_or("*").trim();
        if control == "*" || control.is_empty() {
            return (self.base.clone(), false);
        }
        if let Some(own) = self.own(control) {
            return own;
        }
        let control = control.trim_start_matches('/');
        let slash = if self.base.ends_with('/') || control.starts_with('?') { "" } else { "/" };
        (encoded(&format!("{}{slash}{control}", self.base)), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_urls_are_asked_of_the_configured_host() {
        let url = "rtsp://10.0.0.2:8554/cam?x=1";
        for (base, control, wanted, foreign) in [
            (None, None, "rtsp://10.0.0.2:8554/cam?x=1", false),
            (None, Some("*"), "rtsp://10.0.0.2:8554/cam?x=1", false),
            (None, Some("track1"), "rtsp://10.0.0.2:8554/cam?x=1/track1", false),
            (
                Some("rtsp://10.0.0.2:8554/cam/"),
                Some("track1"),
                "rtsp://10.0.0.2:8554/cam/track1",
                false,
            ),
            (
                Some("rtsp://10.0.0.2:8554/cam"),
                Some("/track1"),
                "rtsp://10.0.0.2:8554/cam/track1",
                false,
            ),
            (
                Some("rtsp://192.168.0.60/cam/"),
                Some("track1"),
                "rtsp://10.0.0.2:8554/cam/track1",
                true,
            ),
            (
                Some("/cam/"),
                Some("?ctype=video"),
                "rtsp://10.0.0.2:8554/cam?x=1?ctype=video",
                false,
            ),
            (
                None,
                Some("rtsp://192.168.0.60/media/video1/video"),
                "rtsp://10.0.0.2:8554/media/video1/video",
                true,
            ),
            (None, Some("rtsp://10.0.0.2:8554/a b\"c"), "rtsp://10.0.0.2:8554/a%20b%22c", false),
            (None, Some("RTSP://10.0.0.2:8554"), "rtsp://10.0.0.2:8554", false),
            (None, Some("rtsp://u:p@h/x\r\ny"), "rtsp://10.0.0.2:8554/x%0D%0Ay", true),
        ] {
            let (found, far) = ControlBase::new(url, base.map(str::as_bytes));
            let (shown, odd) = found.url(control);
            assert_eq!(shown, wanted, "{base:?} {control:?}");
            assert_eq!(far || odd, foreign, "{base:?} {control:?}");
        }
        let (base, _) = ControlBase::new("rtsp://Cam.local/a", None);
        assert!(!base.url(Some("rtsp://cam.LOCAL:554/a/b")).1, "the same host and port");
    }
}
