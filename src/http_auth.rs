//! HTTP authentication, which RTSP has too: challenges (RFC 7235), Digest (RFC 7616, RFC 2617) and
//! Basic (RFC 7617). Pure.
//!
//! A challenge is read liberally and as bytes, for a Digest is computed over the bytes as they came.
//! Nothing that is written here can end a header line. What belongs here: reading a challenge and
//! answering it. What does not: which challenge to answer, and when a login counts as refused; the
//! callers, a camera's session and `discover`, decide that.

use md5::{Digest as _, Md5};

use crate::settings::Login;
use crate::units::{Digest, base64, hex};

/// Challenges of one response that are read; cameras send three at most.
const CHALLENGES_MAX: usize = 8;

/// A challenge of `WWW-Authenticate`: scheme in lower case, and parameters with names in lower
/// case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Challenge {
    /// The scheme in lower case; empty where the header names none.
    pub scheme: String,
    /// Names and values, unquoted.
    params: Vec<(String, Vec<u8>)>,
}

impl Challenge {
    /// The value of a parameter.
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.params.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    /// The value of a parameter as text.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.get(name).unwrap_or_default()).trim().to_owned()
    }
}

/// The challenges of one response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Challenges {
    /// In the order of the headers, [`CHALLENGES_MAX`] at most.
    pub list: Vec<Challenge>,
    /// One is not formed as it should be.
    pub is_odd: bool,
}

impl Challenges {
    /// The Digest challenges that can be answered, in the order of the headers.
    pub fn digests(&self) -> impl Iterator<Item = DigestChallenge> {
        let digests = |c: &&Challenge| c.scheme == "digest" || c.scheme.is_empty();
        self.list.iter().filter(digests).filter_map(DigestChallenge::read)
    }
}

/// Reads the challenges of all `WWW-Authenticate` headers of a response (RFC 7235 4.1).
pub fn challenges<'a>(values: impl Iterator<Item = &'a [u8]>) -> Challenges {
    let mut found = Challenges::default();
    for value in values {
        let mut rest = value;
        let first = found.list.len();
        loop {
            rest = skip(rest, |c| c.is_ascii_whitespace() || c == b',');
            if rest.is_empty() || found.list.len() > CHALLENGES_MAX {
                break;
            }
            let (name, behind) = split(rest, |c| c == b'=' || c == b',' || c.is_ascii_whitespace());
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let behind = skip(behind, |c| c.is_ascii_whitespace());
            let Some(value) = behind.strip_prefix(b"=") else {
                found.list.push(Challenge { scheme: name, params: Vec::new() });
                rest = behind;
                continue;
            };
            if found.list.len() == first {
                found.is_odd = true;
                found.list.push(Challenge::default());
            }
            let (value, behind, odd) = parameter(skip(value, |c| c.is_ascii_whitespace()));
            found.is_odd |= odd && matches!(name.as_str(), "realm" | "nonce" | "opaque");
            if let Some(challenge) = found.list.last_mut() {
                challenge.params.push((name, value));
            }
            rest = behind;
        }
    }
    found.list.truncate(CHALLENGES_MAX);
    found
}

/// The value of a parameter, what follows it, and whether it is not quoted as it should be.
fn parameter(text: &[u8]) -> (Vec<u8>, &[u8], bool) {
    let quote = text.first().copied().filter(|c| *c == b'"' || *c == b'\'');
    let Some(quote) = quote.filter(|quote| text[1..].contains(quote)) else {
        let ends = |at: usize| {
            text[at] == b','
                || text[at].is_ascii_whitespace() && {
                    let next = skip(&text[at..], |c| c.is_ascii_whitespace());
                    let word = split(next, |c| !c.is_ascii_alphanumeric() && c != b'-').0;
                    next.get(word.len()) == Some(&b'=')
                }
        };
        let end = (0..text.len()).find(|at| ends(*at)).unwrap_or(text.len());
        let value = text[..end].trim_ascii();
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        return (value.to_vec(), &text[end..], true);
    };
    let (mut value, mut at) = (Vec::new(), 1);
    while at < text.len() && text[at] != quote {
        if text[at] == b'\\' && at + 1 < text.len() && quote == b'"' {
            at += 1;
        }
        value.push(text[at]);
        at += 1;
    }
    (value, &text[(at + 1).min(text.len())..], quote != b'"')
}

fn skip(text: &[u8], what: impl Fn(u8) -> bool) -> &[u8] {
    let end = text.iter().position(|c| !what(*c)).unwrap_or(text.len());
    &text[end..]
}

fn split(text: &[u8], at: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|c| at(*c)).unwrap_or(text.len()))
}

/// The nonce that `Authentication-Info` names for the next request (RFC 7616 3.5).
pub fn next_nonce(authentication_info: &[u8]) -> Option<Vec<u8>> {
    let with_scheme = [b"Digest ", authentication_info].concat();
    let found = challenges([&with_scheme[..]].into_iter());
    without_line_ends(found.list.first()?.get("nextnonce")?)
}

/// `None` where the value would divide a request.
fn without_line_ends(value: &[u8]) -> Option<Vec<u8>> {
    (!value.iter().any(|byte| matches!(byte, b'\r' | b'\n'))).then(|| value.to_vec())
}

/// The value of `Authorization` by Basic: the password itself goes to the peer.
pub fn basic(login: &Login) -> Vec<u8> {
    let pair = format!("{}:{}", login.user, login.password.reveal());
    format!("Basic {}", base64(pair.as_bytes())).into_bytes()
}

/// The hash of a Digest challenge, the weaker first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    fn hash(self, data: &[u8]) -> String {
        match self {
            Algorithm::Md5 => hex(&Md5::digest(data)),
            Algorithm::Sha256 => Digest::of(data).hex(),
        }
    }
}

/// Protection of a request (RFC 7616 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Qop {
    /// As in RFC 2069.
    None,
    Auth,
    AuthInt,
}

/// A Digest challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestChallenge {
    realm: Vec<u8>,
    /// The nonce; [`next_nonce`] may replace it.
    pub nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    /// The hash.
    pub algorithm: Algorithm,
    /// The algorithm's name as it came; `None` where the challenge has none.
    algorithm_name: Option<String>,
    /// The secret is hashed with nonce and cnonce (`-sess`).
    session: bool,
    qop: Qop,
    userhash: bool,
    utf8: bool,
    /// The last answer was right, only its nonce was too old.
    pub stale: bool,
}

/// A request that a Digest is computed for.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The target, as it stands in the request.
    pub uri: &'a str,
    /// The body, for `auth-int`.
    pub body: &'a [u8],
    /// The number of this request among those with this nonce, from 1.
    pub count: u32,
    /// The client's nonce.
    pub cnonce: &'a str,
}

impl DigestChallenge {
    /// Reads a challenge; `None` when it has no nonce, or an algorithm that is not known.
    fn read(challenge: &Challenge) -> Option<DigestChallenge> {
        let name = challenge.text("algorithm");
        let lower = name.to_ascii_lowercase();
        let (base, session) =
            lower.strip_suffix("-sess").map_or((lower.as_str(), false), |base| (base, true));
        let algorithm = match base {
            "" | "md5" => Algorithm::Md5,
            "sha-256" | "sha256" => Algorithm::Sha256,
            _ => return None,
        };
        let is = |name: &str| challenge.text(name).eq_ignore_ascii_case("true");
        let offered = challenge.text("qop").to_ascii_lowercase();
        let offers = |qop: &str| offered.split([',', ' ']).any(|word| word == qop);
        let qop = if offers("auth") {
            Qop::Auth
        } else if offers("auth-int") {
            Qop::AuthInt
        } else {
            Qop::None
        };
        let clean = |name: &str| without_line_ends(challenge.get(name)?);
        Some(DigestChallenge {
            realm: clean("realm").unwrap_or_default(),
            nonce: clean("nonce")?,
            opaque: clean("opaque"),
            algorithm,
            algorithm_name: Some(name).filter(|name| !name.is_empty()),
            session,
            qop,
            userhash: is("userhash"),
            utf8: challenge.text("charset").eq_ignore_ascii_case("utf-8"),
            stale: is("stale"),
        })
    }

    /// The value of `response`.
    fn response(&self, login: &Login, request: &SignedRequest<'_>) -> String {
        let hash = |parts: &[&[u8]]| self.algorithm.hash(&parts.join(&b':'));
        let (method, uri) = (request.method.as_bytes(), request.uri.as_bytes());
        let cnonce = request.cnonce.as_bytes();
        let mut secret =
            hash(&[login.user.as_bytes(), &self.realm, login.password.reveal().as_bytes()]);
        if self.session {
            secret = hash(&[secret.as_bytes(), &self.nonce, cnonce]);
        }
        let what = match self.qop {
            Qop::AuthInt => hash(&[method, uri, self.algorithm.hash(request.body).as_bytes()]),
            Qop::None | Qop::Auth => hash(&[method, uri]),
        };
        let count = format!("{:08x}", request.count);
        let (secret, what) = (secret.as_bytes(), what.as_bytes());
        match self.qop_name() {
            None => hash(&[secret, &self.nonce, what]),
            Some(qop) => {
                hash(&[secret, &self.nonce, count.as_bytes(), cnonce, qop.as_bytes(), what])
            }
        }
    }

    fn qop_name(&self) -> Option<&'static str> {
        match self.qop {
            Qop::None => None,
            Qop::Auth => Some("auth"),
            Qop::AuthInt => Some("auth-int"),
        }
    }

    /// The value of `Authorization` for a request.
    pub fn answer(&self, login: &Login, request: &SignedRequest<'_>) -> Vec<u8> {
        let user = login.user.as_bytes();
        let mut out = b"Digest ".to_vec();
        if self.userhash {
            let name = self.algorithm.hash(&[user, &self.realm].join(&b':'));
            out.extend(format!("username=\"{name}\", userhash=true").bytes());
        } else if self.utf8 && !login.user.is_ascii() {
            out.extend(b"username*=UTF-8''");
            out.extend(user.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()));
        } else {
            out.extend(b"username=");
            quote(&mut out, user);
        }
        for (name, value) in [("realm", &self.realm[..]), ("nonce", &self.nonce)] {
            out.extend(format!(", {name}=").bytes());
            quote(&mut out, value);
        }
        let response = self.response(login, request);
        out.extend(format!(", uri=\"{}\", response=\"{response}\"", request.uri).bytes());
        if let Some(name) = &self.algorithm_name {
            let name: String = name.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
            out.extend(format!(", algorithm={name}").bytes());
        }
        if let Some(opaque) = &self.opaque {
            out.extend(b", opaque=");
            quote(&mut out, opaque);
        }
        if let Some(qop) = self.qop_name() {
            out.extend(format!(", qop={qop}, nc={:08x}", request.count).bytes());
        }
        if self.qop != Qop::None || self.session {
            out.extend(format!(", cnonce=\"{}\"", request.cnonce).bytes());
        }
        out
    }
}

/// Appends a quoted string (RFC 7230 3.2.6), without line ends: they would divide a request.
fn quote(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    for byte in value.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: Secret::new(password) }
    }

    fn only(header: &str) -> DigestChallenge {
        challenges([header.as_bytes()].into_iter()).digests().next().unwrap()
    }

    fn answer(header: &str, login: &Login, request: SignedRequest<'_>) -> String {
        String::from_utf8(only(header).answer(login, &request)).unwrap()
    }

    /// The value of a parameter of an `Authorization` header.
    fn field<'a>(text: &'a str, name: &str) -> &'a str {
        let at = text.find(&format!("{name}=")).unwrap() + name.len() + 1;
        text[at..].trim_start_matches('"').split(['"', ',']).next().unwrap()
    }

    #[test]
    fn challenges_are_divided_however_they_are_quoted() {
        let read = |values: &[&[u8]]| {
            let found = challenges(values.iter().copied());
            let shown = found
                .list
                .iter()
                .map(|c| {
                    let params = c
                        .params
                        .iter()
                        .map(|(name, value)| format!("{name}:{}", String::from_utf8_lossy(value)));
                    format!("{} {}", c.scheme, params.collect::<Vec<_>>().join("|"))
                })
                .collect::<Vec<_>>()
                .join(" / ");
            (shown, found.is_odd)
        };
        for (values, wanted, odd) in [
            (
                &[&b"Digest realm=\"a, \\\"b\\\"\", nonce=\"n=1\",stale=FALSE"[..]][..],
                "digest realm:a, \"b\"|nonce:n=1|stale:FALSE",
                false,
            ),
            (
                &[b"Basic realm=\"x\", Digest realm=\"y\", qop=\"auth,auth-int\", algorithm=MD5"],
                "basic realm:x / digest realm:y|qop:auth,auth-int|algorithm:MD5",
                false,
            ),
            (
                &[b"Basic realm=\"x\"", b"digest  realm=\"y\""],
                "basic realm:x / digest realm:y",
                false,
            ),
            (
                &[b"Digest realm=IP Camera(12345), nonce=abc==, qop=auth"],
                "digest realm:IP Camera(12345)|nonce:abc==|qop:auth",
                true,
            ),
            (
                &[b"Digest realm='x y' nonce=\"n\" algorithm=MD5 qop=\"auth\""],
                "digest realm:x y|nonce:n|algorithm:MD5|qop:auth",
                true,
            ),
            (&[b"Digest realm = \"x\" , nonce = \"n\""], "digest realm:x|nonce:n", false),
            (&[b"realm=\"x\", nonce=\"n\""], " realm:x|nonce:n", true),
            (&[b"Digest realm=\"x, nonce=n"], "digest realm:x|nonce:n", true),
            (&[b""], "", false),
        ] {
            let (shown, is_odd) = read(values);
            assert_eq!(shown, wanted);
            assert_eq!(is_odd, odd, "{wanted}");
        }
    }

    #[test]
    fn digests_are_those_that_can_be_answered() {
        let digests = |values: &[&str]| -> Vec<(String, Algorithm)> {
            let found = challenges(values.iter().map(|value| value.as_bytes()));
            let shown = |c: DigestChallenge| (String::from_utf8(c.nonce).unwrap(), c.algorithm);
            found.digests().map(shown).collect()
        };
        let one = "Basic realm=\"a, b\", Digest realm=\"r\", nonce=\"n1\", qop=\"auth-int, auth\"";
        let two = "Digest realm=\"r\", nonce=\"n2\", algorithm=SHA-256";
        let other = "Digest realm=\"r\", nonce=\"n3\", algorithm=SHA-512-256";
        assert_eq!(
            digests(&[one, two, other]),
            [("n1".into(), Algorithm::Md5), ("n2".into(), Algorithm::Sha256)]
        );
        for none in [other, "Basic realm=\"x\"", "Digest realm=\"x\"", ""] {
            assert_eq!(digests(&[none]), [], "{none}");
        }
        assert!(only("Digest nonce=n, stale=TRUE").stale);
        let many = "Digest nonce=n, ".repeat(40);
        assert_eq!(digests(&[&many]).len(), CHALLENGES_MAX);
    }

    #[test]
    fn the_examples_of_the_rfcs_come_out() {
        // RFC 7616 3.9.1, with its client nonce.
        let request = SignedRequest {
            method: "GET",
            uri: "/dir/index.html",
            body: b"",
            count: 1,
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        };
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let text = answer(&challenge, &login("Mufasa", "Circle of Life"), request);
            assert_eq!(field(&text, "response"), response);
            assert_eq!((field(&text, "nc"), field(&text, "qop")), ("00000001", "auth"));
            assert!(
                text.contains("opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""),
                "{text}"
            );
        }
        // RFC 2617 3.5.
        let challenge = "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        let request = SignedRequest { cnonce: "0a4f113b", ..request };
        let text = answer(challenge, &login("Mufasa", "Circle Of Life"), request);
        assert_eq!(field(&text, "response"), "6629fae49393a05397450978507c4ef1");
        // RFC 7617 2.
        let login = login("Aladdin", "open sesame");
        assert_eq!(basic(&login), b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn variants_of_digest_match_numbers_made_elsewhere() {
        // Computed with hashlib of Python; user "u", password "p".
        for (more, body, response) in [
            ("", &b""[..], "81876d99fc50bb5f7c40f422c6445473"),
            (", algorithm=MD5-sess, qop=\"auth\"", b"", "bbf79fd796d9551f112ae1f9e242a912"),
            (
                ", algorithm=\"SHA-256-sess\", qop=auth",
                b"",
                "587736c94ae711dfdd06eaee03fb04a1b5ef0bc3df64ed11202c54cfe3858866",
            ),
            (", qop=\"auth-int\"", b"x=1", "6b324485fb73f432c3c5383c86f88a8b"),
            (", algorithm=MD5-sess", b"", "a779c0daec9a5a0ad71e9bc861f9e609"),
        ] {
            let challenge = format!("Digest realm=\"đ\", nonce=\"n\"{more}");
            let request = SignedRequest {
                method: "DESCRIBE",
                uri: "rtsp://h/a",
                body,
                count: 1,
                cnonce: "0a4f113b",
            };
            let text = answer(&challenge, &login("u", "p"), request);
            assert_eq!(field(&text, "response"), response, "{more}");
        }
        let post = SignedRequest { method: "POST", uri: "/x", body: b"", count: 1, cnonce: "c" };
        for (header, response) in POSTS {
            let text = answer(header, &login("u", "p"), post);
            assert_eq!(field(&text, "response"), response, "{header}");
        }
        let text = answer("Digest realm=\"đ\", nonce=\"n\", userhash=true", &login("u", "p"), post);
        assert_eq!(field(&text, "username"), "a906f5e2919968fff88a2fe9f25e77be");
        let utf8 = "Digest realm=\"r\", nonce=\"n\", charset=UTF-8";
        assert!(answer(utf8, &login("đ", "p"), post).contains("username*=UTF-8''%C4%91, "));
    }

    const POSTS: [(&str, &str); 4] = [
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
        fn no_challenge_panics_or_begins_a_header(
            scheme in "(Digest |Basic |Digest nonce=)?",
            text in proptest::collection::vec(proptest::sample::select(b"=,;\"'\\ \r\n\t-an1\xff".to_vec()), 0..80),
        ) {
            let value = [scheme.as_bytes(), &text].concat();
            next_nonce(&value);
            let login = login("u\r\nX: y", "p");
            let request = SignedRequest { method: "POST", uri: "/", body: b"", count: 1, cnonce: "c" };
            for found in challenges([&value[..]].into_iter()).digests() {
                let answer = found.answer(&login, &request);
                proptest::prop_assert!(!answer.contains(&b'\r') && !answer.contains(&b'\n'));
            }
        }
    }
}
