//! Addresses of streams as cameras name them, made into URLs that taimat can use.

use std::net::{IpAddr, SocketAddr};

/// Characters of an address at most.
const URI_MAX: usize = 1024;

/// An RTSP URL of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamUrl {
    /// The URL, without user and password before its host. Its path may hold a login (XM); [`crate::redact::masked`] hides that.
    pub url: String,
    /// The camera had written user and password before the host.
    pub had_login: bool,
    /// The camera named another host than the address that answered, which stands here instead.
    pub other_host: Option<String>,
}

/// The URL of a stream. `device` is the address that answered: it stands in for a host that is absent, unspecified or another one.
/// A camera that answered on an IPv6 link-local address alone keeps the IPv4 address it names: URLs have no room for a scope.
///
/// # Errors
/// The address is none of RTSP.
pub fn stream_url(given: &str, device: &SocketAddr) -> Result<StreamUrl, String> {
    let given = given.trim().replace("&amp;", "&");
    if given.is_empty() || given.len() > URI_MAX || !given.chars().all(|c| c.is_ascii_graphic()) {
        return Err("the camera names no usable stream address".into());
    }
    let rest = match given.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rtsp") => Some(rest),
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            return Err(format!("the camera offers its stream by {scheme}:// alone"));
        }
        _ => given.strip_prefix("//"),
    };
    let Some(rest) = rest else {
        let path = if given.starts_with('/') { given } else { format!("/{given}") };
        return Ok(StreamUrl {
            url: format!("rtsp://{}{path}", host(device)),
            had_login: false,
            other_host: None,
        });
    };
    let (rest, had_login) = match rest.rsplit_once('@') {
        Some((login, rest)) if is_login(login) => (rest, true),
        _ => (rest, false),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (named, port) = split_port(authority);
    let literal = named.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let kept = literal.filter(|ip| *ip == device.ip() || is_kept(ip, device));
    let shown = match kept {
        Some(ip) if ip != device.ip() => ip.to_string(),
        _ => host(device),
    };
    let absent = named.is_empty() || literal.is_some_and(|ip| ip.is_unspecified());
    Ok(StreamUrl {
        // Settings refuse an `@` in a URL, because it may end a login.
        url: format!("rtsp://{shown}{port}{}", path.replace('@', "%40")),
        had_login,
        other_host: (kept.is_none() && !absent).then(|| super::short(named)),
    })
}

/// Whether the text before the last `@` is a login: a password may hold a slash, and so may a path hold an `@`.
fn is_login(text: &str) -> bool {
    let Some((authority, _)) = text.split_once('/') else { return true };
    let (host, _) = split_port(authority);
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
}

/// An IPv4 address of the camera that is better than its IPv6 link-local one.
fn is_kept(ip: &IpAddr, device: &SocketAddr) -> bool {
    let link_local = matches!(device.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local());
    let usable = match ip {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(_) => false,
    };
    link_local && usable
}

/// Host, and port with its colon; none for the port of RTSP or one that is no port.
fn split_port(authority: &str) -> (&str, String) {
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[host_end..].rfind(':').map(|at| at + host_end) else {
        return (authority, String::new());
    };
    let port = authority[colon + 1..].parse::<u16>().ok().filter(|port| ![0, 554].contains(port));
    (&authority[..colon], port.map_or(String::new(), |port| format!(":{port}")))
}

/// An address as the host of a URL; a scope is written as RFC 6874 says.
pub fn host(device: &SocketAddr) -> String {
    match device {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("[{}%25{}]", v6.ip(), v6.scope_id()),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_cameras_become_usable_urls() {
        let device: SocketAddr = "192.168.1.20:80".parse().unwrap();
        for (given, url, login, other) in [
            ("rtsp://192.168.1.20:554/main", "rtsp://192.168.1.20/main", false, None),
            (
                "RTSP://192.168.1.20:8554/a?b=1&amp;c=2",
                "rtsp://192.168.1.20:8554/a?b=1&c=2",
                false,
                None,
            ),
            ("rtsp://admin:p@ss/w@192.168.1.20/live", "rtsp://192.168.1.20/live", true, None),
            ("rtsp://admin@0.0.0.0:554/live", "rtsp://192.168.1.20/live", true, None),
            ("rtsp://10.9.9.9/live", "rtsp://192.168.1.20/live", false, Some("10.9.9.9")),
            ("rtsp://cam.local:x/live", "rtsp://192.168.1.20/live", false, Some("cam.local")),
            ("rtsp://[::]:8554/live", "rtsp://192.168.1.20:8554/live", false, None),
            ("/live/0", "rtsp://192.168.1.20/live/0", false, None),
            ("live/0", "rtsp://192.168.1.20/live/0", false, None),
            ("rtsp:///live", "rtsp://192.168.1.20/live", false, None),
            ("rtsp://192.168.1.20/a@b", "rtsp://192.168.1.20/a%40b", false, None),
            ("rtsp://192.168.1.20:8554/a@b", "rtsp://192.168.1.20:8554/a%40b", false, None),
            ("rtsp://admin:12/345@192.168.1.20/s", "rtsp://192.168.1.20/s", true, None),
        ] {
            let made = stream_url(given, &device).unwrap();
            assert_eq!(made.url, url, "{given}");
            assert_eq!((made.had_login, made.other_host.as_deref()), (login, other), "{given}");
        }
        for given in ["", "http://192.168.1.20/x", "rtsps://192.168.1.20/x", "rtsp://a b/", "a\nb"]
        {
            assert!(stream_url(given, &device).is_err(), "{given}");
        }
    }

    #[test]
    fn a_link_local_camera_keeps_the_ipv4_address_it_names() {
        let device: SocketAddr = "[fe80::1%3]:80".parse().unwrap();
        let url = |given: &str| stream_url(given, &device).unwrap().url;
        assert_eq!(url("rtsp://192.168.1.20/a"), "rtsp://192.168.1.20/a");
        assert_eq!(url("rtsp://127.0.0.1/a"), "rtsp://[fe80::1%253]/a");
        assert_eq!(url("/a"), "rtsp://[fe80::1%253]/a");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_no_password_is_kept(text in "\\PC{0,60}", password in "[a-z0-9/#?]{8,12}") {
            let device: SocketAddr = "192.168.1.20:80".parse().unwrap();
            let _ = stream_url(&text, &device);
            let made = stream_url(&format!("rtsp://admin:{password}@10.0.0.2/x"), &device).unwrap();
            proptest::prop_assert!(!made.url.contains(&password), "{}", made.url);
        }
    }
}
