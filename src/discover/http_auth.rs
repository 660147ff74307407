//! HTTP Digest authentication (RFC 7616): the answer to a challenge. Basic is never answered: it would hand the
//! password to any machine that asks for it.

use md5::{Digest as _, Md5};
use ring::digest::{SHA256, digest};

use crate::settings::Login;
use crate::units::hex;

/// Bytes of a challenge at most.
const CHALLENGE_MAX: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Md5,
    Sha256,
}

/// A challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// The hash of the password includes both nonces.
    session: bool,
    /// `qop=auth` is offered.
    qop: bool,
    /// The last answer was right, only its nonce was too old.
    pub stale: bool,
}

/// The strongest Digest challenge of the `WWW-Authenticate` headers.
pub fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    headers.flat_map(challenges).max_by_key(|challenge| challenge.algorithm)
}

/// A header may hold several challenges: each starts with its scheme.
fn challenges(header: &str) -> Vec<Challenge> {
    let header: String = header.chars().take(CHALLENGE_MAX).collect();
    let mut found = Vec::new();
    let mut current: Option<Vec<(String, String)>> = None;
    for part in parts(&header) {
        let part = part.trim();
        let (before, value) = part.split_once('=').unwrap_or((part, ""));
        let mut words = before.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let name = match second {
            Some(name) => {
                found.extend(current.take().and_then(|fields| of_fields(&fields)));
                current = first.eq_ignore_ascii_case("digest").then(Vec::new);
                name
            }
            None => first,
        };
        if let Some(fields) = &mut current {
            fields.push((name.to_ascii_lowercase(), unquoted(value)));
        }
    }
    found.extend(current.and_then(|fields| of_fields(&fields)));
    found
}

/// The parts between commas that stand outside of quotes.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    match value.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner).replace("\\\"", "\""),
        None => value.to_owned(),
    }
}

fn of_fields(fields: &[(String, String)]) -> Option<Challenge> {
    let field = |name: &str| fields.iter().find(|(other, _)| other == name).map(|(_, v)| v.clone());
    let named = field("algorithm").unwrap_or_else(|| "MD5".into()).to_ascii_uppercase();
    let (base, session) = match named.strip_suffix("-SESS") {
        Some(base) => (base, true),
        None => (named.as_str(), false),
    };
    let algorithm = match base {
        "MD5" => Algorithm::Md5,
        "SHA-256" => Algorithm::Sha256,
        _ => return None,
    };
    let qops = field("qop").unwrap_or_default();
    let mut offered = qops.split(',').map(str::trim).filter(|word| !word.is_empty()).peekable();
    let none = offered.peek().is_none();
    let qop = offered.any(|word| word.eq_ignore_ascii_case("auth"));
    (none || qop).then_some(Challenge {
        realm: field("realm").unwrap_or_default(),
        nonce: field("nonce")?,
        opaque: field("opaque"),
        algorithm,
        session,
        qop,
        stale: field("stale").is_some_and(|value| value.eq_ignore_ascii_case("true")),
    })
}

impl Challenge {
    /// The value of `Authorization` for a POST of `path`; `count` is 1 for the first request with this nonce.
    pub fn answer(&self, login: &Login, path: &str, cnonce: &str, count: u32) -> String {
        let hash = |text: String| match self.algorithm {
            Algorithm::Md5 => hex(&Md5::digest(text.as_bytes())),
            Algorithm::Sha256 => hex(digest(&SHA256, text.as_bytes()).as_ref()),
        };
        let (realm, nonce) = (&self.realm, &self.nonce);
        let mut secret = hash(format!("{}:{realm}:{}", login.user, login.password.reveal()));
        if self.session {
            secret = hash(format!("{secret}:{nonce}:{cnonce}"));
        }
        let what = hash(format!("POST:{path}"));
        let response = match self.qop {
            true => hash(format!("{secret}:{nonce}:{count:08x}:{cnonce}:auth:{what}")),
            false => hash(format!("{secret}:{nonce}:{what}")),
        };
        let algorithm = match (self.algorithm, self.session) {
            (Algorithm::Md5, false) => "MD5",
            (Algorithm::Md5, true) => "MD5-sess",
            (Algorithm::Sha256, false) => "SHA-256",
            (Algorithm::Sha256, true) => "SHA-256-sess",
        };
        let mut text = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{path}\", response=\"{response}\", algorithm={algorithm}",
            quoted(&login.user),
            quoted(realm),
            quoted(nonce)
        );
        if self.qop {
            text.push_str(&format!(", qop=auth, nc={count:08x}, cnonce=\"{cnonce}\""));
        } else if self.session {
            text.push_str(&format!(", cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &self.opaque {
            text.push_str(&format!(", opaque=\"{}\"", quoted(opaque)));
        }
        text
    }
}

/// Text for a quoted string. A header line cannot be begun by it.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;

    #[test]
    fn the_strongest_of_several_challenges_is_answered() {
        let one = "Basic realm=\"a, b\", Digest realm=\"r\", nonce=\"n1\", qop=\"auth-int, auth\", stale=TRUE";
        let two = "Digest realm=\"r\", nonce=\"n2\", algorithm=SHA-256";
        let other = "Digest realm=\"r\", nonce=\"n3\", algorithm=SHA-512-256";
        let md5 = challenge([one].into_iter()).unwrap();
        assert_eq!((md5.nonce.as_str(), md5.qop, md5.stale), ("n1", true, true));
        let sha = challenge([one, two, other].into_iter()).unwrap();
        assert_eq!((sha.nonce.as_str(), sha.algorithm, sha.qop), ("n2", Algorithm::Sha256, false));
        for none in
            [other, "Basic realm=\"x\"", "Digest realm=\"x\"", "", "Digest nonce=n, qop=auth-int"]
        {
            assert_eq!(challenge([none].into_iter()), None, "{none}");
        }
    }

    #[test]
    fn the_answers_equal_values_of_another_implementation() {
        // hashlib: MD5 of "u:r:p", "POST:/x" and so on.
        let login = Login { user: "u".into(), password: Secret::new("p") };
        let answer = |header: &str| {
            let text = challenge([header].into_iter()).unwrap().answer(&login, "/x", "c", 1);
            let at = text.find("response=\"").unwrap() + 10;
            text[at..].split('"').next().unwrap().to_owned()
        };
        for (header, response) in VALUES {
            assert_eq!(answer(header), response, "{header}");
        }
    }

    const VALUES: [(&str, &str); 4] = [
        ("Digest realm=\"r\", nonce=\"n\"", "c155f87b326ac884071d34256c20a29e"),
        ("Digest realm=\"r\", nonce=\"n\", qop=\"auth\"", "5fa004f487039d8a57b97d87e96c09cd"),
        (
            "Digest realm=\"r\", nonce=\"n\", qop=auth, algorithm=MD5-sess",
            "a2c9204ed7988a47b0676b32f6f89b86",
        ),
        (
            "Digest realm=\"r\", nonce=\"n\", qop=auth, algorithm=SHA-256",
            "d64e8958c06a0066f7402d53fc0ef1431bd2e38753781b3adc53d472ad6980e9",
        ),
    ];

    proptest::proptest! {
        #[test]
        fn no_challenge_panics_or_begins_a_header(text in "(Digest |Basic )?[\\PC\"=,\\\\]{0,80}") {
            let login = Login { user: "u\r\nX: y".into(), password: Secret::new("p") };
            if let Some(found) = challenge([text.as_str()].into_iter()) {
                proptest::prop_assert!(!found.answer(&login, "/", "c", 1).contains(['\r', '\n']));
            }
        }
    }
}
