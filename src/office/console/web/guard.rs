//! The guard before every handler: host and origin of the request, session, right, purpose.
//!
//! What belongs here: pure decisions. What does not: reading sessions and files (`dispatch`).

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN};

use super::problem::{Code, Problem};
use super::route::{Method, Takes};
use crate::office::console::people::rights::{ALL_SITES, Limit, Right, Role};
use crate::office::console::people::session::{Decision, Session};
use crate::units::WallTime;

/// Name of the session's cookie over TLS: a browser takes `__Host-` only with `Secure`, for one host
/// and the path `/`.
const TLS_COOKIE: &str = "__Host-s";
/// Name of the session's cookie on loopback without TLS.
const PLAIN_COOKIE: &str = "s";
/// Bytes of a cookie's value at most.
const COOKIE_MAX: usize = 128;

/// Cookies of one request that are tried at most: a browser sends those of other services on
/// 127.0.0.1, whatever their port, and of other paths under the same name.
const COOKIES_MAX: usize = 4;

/// The cookies in a request that may be the session's, in their order.
pub(crate) fn cookies(headers: &HeaderMap, is_tls: bool) -> impl Iterator<Item = &str> {
    let name = if is_tls { TLS_COOKIE } else { PLAIN_COOKIE };
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let own = pairs.filter(move |(other, _)| other.trim() == name).map(|(_, value)| value.trim());
    own.filter(|value| !value.is_empty() && value.len() <= COOKIE_MAX).take(COOKIES_MAX)
}

/// The header that sets the cookie; an empty value removes it.
pub(crate) fn set_cookie(value: &str, is_tls: bool) -> String {
    let age = if value.is_empty() { "; Max-Age=0" } else { "" };
    if is_tls {
        format!("{TLS_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{age}")
    } else {
        format!("{PLAIN_COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{age}")
    }
}

/// Refuses requests that another web site made, and hosts that are not this office.
///
/// A browser says where a request comes from: `Sec-Fetch-Site` since 2023, `Origin` before. A
/// client that says neither is no browser, and has no cookie of one.
pub(crate) fn check_origin(
    method: Method,
    headers: &HeaderMap,
    host: Option<&str>,
    is_tls: bool,
) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = host.or(text(HOST.as_str())).unwrap_or_default();
    if headers.get_all(HOST).iter().count() > 1 {
        return Err(Problem::new(Code::WrongHost, "a request names one host"));
    }
    // A page of another site can give its own name the address 127.0.0.1.
    if !is_tls && !is_loopback_name(host) {
        return Err(Problem::new(Code::WrongHost, "without TLS only localhost is answered"));
    }
    let site = text("sec-fetch-site");
    if !method.is_change() {
        // A link or a picture on another site carries no cookie (SameSite=Strict); scripts cannot
        // read the answer.
        return Ok(());
    }
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Code::WrongOrigin.into());
    }
    if let Some(origin) = text(ORIGIN.as_str()) {
        let scheme = if is_tls { "https://" } else { "http://" };
        if origin.strip_prefix(scheme) != Some(host) {
            return Err(Code::WrongOrigin.into());
        }
    }
    Ok(())
}

/// True for `localhost` and addresses of this machine, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.ends_with(':') => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Refuses a body of another type: a form of another site can only send three of them.
pub(crate) fn check_type(takes: Takes, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_right = match takes {
        Takes::Nothing => true,
        Takes::Json(_) => given == "application/json",
        Takes::Image => given == "image/png" || given == "image/jpeg",
    };
    if is_right { Ok(()) } else { Err(Code::WrongType.into()) }
}

/// What the guard asks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// Nothing but the session.
    Session,
    /// A right for a site of this group; `None`: the site does not exist.
    Site(Right, Option<&'a str>),
    /// A right for at least one of these groups.
    Any(Right),
    /// A right for the whole office.
    Office(Right),
}

/// The role and the limit under which a session may do what it asks for.
pub(crate) fn decide(
    session: Option<&Session>,
    asked: Asked<'_>,
    now: WallTime,
) -> Result<Option<(Role, Option<Limit>)>, Problem> {
    let Some(session) = session else { return Err(Code::NoSession.into()) };
    let decision = match asked {
        Asked::Session => return Ok(None),
        Asked::Site(right, group) => {
            let Some(group) = group else { return Err(Problem::not_found()) };
            if right != Right::Board && session.decide(Right::Board, group, now) == Decision::Denied
            {
                return Err(Problem::not_found());
            }
            match session.decide(right, group, now) {
                Decision::Denied if right == Right::Board => return Err(Problem::not_found()),
                decision => decision,
            }
        }
        Asked::Any(right) => {
            let groups = session.grants.iter().map(|grant| grant.group.as_str());
            let decisions = groups.map(|group| session.decide(right, group, now));
            decisions.min_by_key(|decision| rank(*decision)).unwrap_or(Decision::Denied)
        }
        Asked::Office(right) => session.decide(right, ALL_SITES, now),
    };
    match decision {
        Decision::Allowed(role, limit) => Ok(Some((role, limit))),
        Decision::PurposeMissing => Err(Code::PurposeMissing.into()),
        Decision::Denied => Err(Code::NotAllowed.into()),
    }
}

fn rank(decision: Decision) -> u8 {
    match decision {
        Decision::Allowed(_, None) => 0,
        Decision::Allowed(_, Some(_)) => 1,
        Decision::PurposeMissing => 2,
        Decision::Denied => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn change(pairs: &[(&'static str, &str)], is_tls: bool) -> Result<(), Problem> {
        check_origin(Method::Post, &headers(pairs), None, is_tls)
    }

    #[test]
    fn changes_of_another_site_are_refused() {
        let host = ("host", "office:8443");
        assert!(change(&[host, ("origin", "https://office:8443")], true).is_ok());
        assert!(change(&[host, ("sec-fetch-site", "same-origin")], true).is_ok());
        assert!(change(&[host], true).is_ok(), "no browser");
        let evil = ["https://evil", "https://office", "http://office:8443", "null", ""];
        for origin in evil {
            let refused = change(&[host, ("origin", origin)], true);
            assert_eq!(refused.unwrap_err().code, Code::WrongOrigin, "{origin}");
        }
        for site in ["cross-site", "same-site", "?"] {
            assert!(change(&[host, ("sec-fetch-site", site)], true).is_err(), "{site}");
        }
        let read = headers(&[host, ("origin", "https://evil")]);
        assert!(check_origin(Method::Get, &read, None, true).is_ok());
    }

    #[test]
    fn without_tls_only_loopback_names_are_answered() {
        for host in ["127.0.0.1:80", "localhost:8080", "[::1]:80", "[::1]", "LOCALHOST"] {
            assert!(change(&[("host", host)], false).is_ok(), "{host}");
        }
        for host in ["evil.example:80", "10.0.0.1", "127.0.0.1.evil.example", "", "[::2]:1"] {
            let refused = change(&[("host", host)], false);
            assert_eq!(refused.unwrap_err().code, Code::WrongHost, "{host}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let cookie = |headers: &HeaderMap, is_tls| {
            cookies(headers, is_tls).map(str::to_owned).collect::<Vec<_>>()
        };
        let some = headers(&[("cookie", "a=1; s=abc; __Host-s=xyz")]);
        assert_eq!(cookie(&some, false), ["abc"]);
        assert_eq!(cookie(&some, true), ["xyz"]);
        assert_eq!(cookie(&headers(&[("cookie", "s=")]), false), [""; 0]);
        let long = headers(&[("cookie", &format!("s={}", "a".repeat(200)))]);
        assert_eq!(cookie(&long, false), [""; 0]);
        let many = headers(&[("cookie", "s=1; s=2; s=3; s=4; s=5")]);
        assert_eq!(cookie(&many, false), ["1", "2", "3", "4"]);
        assert!(set_cookie("v", true).starts_with("__Host-s=v; Path=/; Secure; HttpOnly"));
        assert!(set_cookie("", false).ends_with("Max-Age=0"));
    }

    #[test]
    fn a_json_body_says_so() {
        let json = Takes::Json(&[]);
        assert!(
            check_type(json, &headers(&[("content-type", "application/json; charset=utf-8")]))
                .is_ok()
        );
        for other in ["text/plain", "application/x-www-form-urlencoded", ""] {
            assert!(check_type(json, &headers(&[("content-type", other)])).is_err(), "{other}");
        }
    }
}
