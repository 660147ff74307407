//! Authentication of RTSP requests: Digest (RFC 7616, RFC 2617) and Basic (RFC 7617).
//!
//! Digest is computed over the bytes of the challenge as they came. Basic is used only where nothing
//! better is offered. A refusal counts only when the camera refused credentials on a nonce that it
//! had given for this very request.

use md5::{Digest as _, Md5};

use super::headers::{AuthChallenge, challenges};
use super::limits::NONCES_MAX;
use super::message::Headers;
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::redact::KnownLogin;
use crate::settings::Login;
use crate::units::{Digest, base64, hex};

/// What follows from a 401 response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthVerdict {
    /// The request is sent again, with other credentials.
    Retry,
    /// The camera refused the credentials.
    Refused,
    /// The camera cannot be answered, for this reason; nothing secret was refused.
    Unanswerable(String),
}

/// The hash of a Digest challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Md5,
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
struct DigestChallenge {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    algorithm: Algorithm,
    /// The algorithm's name as it came; `None` where the challenge has none.
    algorithm_name: Option<String>,
    /// The secret is hashed with nonce and cnonce (`-sess`).
    session: bool,
    qop: Qop,
    userhash: bool,
    utf8: bool,
    stale: bool,
}

/// How requests prove the login.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Basic,
    Digest(Box<DigestChallenge>),
}

/// What a response offers.
enum Offer {
    /// It has no challenge.
    Nothing,
    Scheme(Scheme),
    /// Nothing that can be answered, with the names.
    Unknown(String),
}

/// The credentials of one session.
#[derive(Debug)]
pub struct Authenticator {
    login: Option<Login>,
    /// Random bytes, for client nonces.
    seed: [u8; 32],
    scheme: Option<Scheme>,
    /// Requests with the current nonce.
    nonce_count: u32,
    /// The camera accepted the current nonce.
    nonce_accepted: bool,
    /// Connections opened again for this session.
    reconnections: u32,
    /// Requests that carried credentials, up to the first that was accepted.
    unproven: u32,
    /// Client nonces drawn.
    drawn: u64,
    /// Client nonce of the current nonce: `-sess` needs the same one throughout.
    cnonce: String,
    /// The last request carried credentials.
    shown: bool,
    /// New nonces for the current request.
    renewals: u32,
    /// The camera accepted a request with credentials.
    accepted: bool,
}

impl Authenticator {
    /// Without credentials until the camera asks for them.
    pub fn new(login: Option<Login>, seed: [u8; 32]) -> Authenticator {
        Authenticator {
            login,
            seed,
            scheme: None,
            nonce_count: 0,
            nonce_accepted: false,
            reconnections: 0,
            unproven: 0,
            drawn: 0,
            cnonce: String::new(),
            shown: false,
            renewals: 0,
            accepted: false,
        }
    }

    /// True once the camera accepted a request with credentials.
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// How often the login was sent before a camera accepted it.
    pub fn unproven(&self) -> u32 {
        self.unproven
    }

    /// Another connection was opened: its nonce may be another one. Before the login was accepted,
    /// that is assumed [`NONCES_MAX`] times.
    pub fn reconnected(&mut self) {
        self.nonce_accepted |= self.accepted || self.reconnections < NONCES_MAX;
        self.reconnections += 1;
    }

    /// Begins another request, or the first.
    pub fn begin_request(&mut self) {
        self.renewals = 0;
    }

    /// The value of `Authorization` for a request; `None` until the camera asked for it.
    pub fn header(&mut self, method: &str, uri: &str, body: &[u8]) -> Option<Vec<u8>> {
        let (scheme, login) = (self.scheme.clone()?, self.login.clone()?);
        self.shown = true;
        self.unproven += u32::from(!self.accepted);
        match scheme {
            Scheme::Basic => {
                let pair = format!("{}:{}", login.user, login.password.reveal());
                Some(format!("Basic {}", base64(pair.as_bytes())).into_bytes())
            }
            Scheme::Digest(challenge) => {
                self.nonce_count += 1;
                Some(challenge.answer(&login, method, uri, body, self.nonce_count, &self.cnonce))
            }
        }
    }

    /// The camera answered the last request, and not with 401.
    pub fn answered(&mut self, headers: &Headers) {
        if !self.shown {
            return;
        }
        self.accepted = true;
        self.nonce_accepted = true;
        // RFC 7616 3.5: the nonce of the next request.
        let next = headers.get("authentication-info").map(|value| {
            let with_scheme = [b"Digest ", value].concat();
            challenges([&with_scheme[..]].into_iter(), &mut QuirkCounts::default())
        });
        let next = next.and_then(|found| found.first()?.get("nextnonce").map(<[u8]>::to_vec));
        if let (Some(next), Some(Scheme::Digest(challenge))) = (next, &mut self.scheme)
            && challenge.nonce != next
        {
            challenge.nonce = next;
            self.nonce_count = 0;
        }
    }

    /// The camera answered the last request with 401. A request that is sent again needs another
    /// [`Authenticator::header`].
    pub fn unauthorized(&mut self, headers: &Headers, quirks: &mut QuirkCounts) -> AuthVerdict {
        if self.login.is_none() {
            return AuthVerdict::Unanswerable(
                "the camera asks for a login: set camera.login_file".into(),
            );
        }
        let shown = std::mem::take(&mut self.shown);
        let known = self.login.as_ref().map(Login::known).unwrap_or_default();
        match offer(&challenges(headers.all("www-authenticate"), quirks), &known) {
            _ if shown && self.scheme == Some(Scheme::Basic) => AuthVerdict::Refused,
            Offer::Nothing if shown => AuthVerdict::Refused,
            Offer::Nothing => {
                // Cameras that do not say how want Basic.
                quirks.note(Quirk::Challenge);
                self.scheme = Some(Scheme::Basic);
                AuthVerdict::Retry
            }
            Offer::Unknown(_) if shown => AuthVerdict::Refused,
            Offer::Unknown(names) => AuthVerdict::Unanswerable(format!(
                "the camera asks for a login with {names}, which taimat does not know"
            )),
            Offer::Scheme(Scheme::Basic) if shown => AuthVerdict::Refused,
            Offer::Scheme(Scheme::Basic) => {
                self.scheme = Some(Scheme::Basic);
                AuthVerdict::Retry
            }
            Offer::Scheme(Scheme::Digest(challenge)) => self.challenged(challenge, shown, quirks),
        }
    }

    fn challenged(
        &mut self,
        challenge: Box<DigestChallenge>,
        shown: bool,
        quirks: &mut QuirkCounts,
    ) -> AuthVerdict {
        if shown && let Some(Scheme::Digest(last)) = &self.scheme {
            let renewed = challenge.nonce != last.nonce;
            // `stale` on a nonce that was never accepted is what a wrong password looks like, too.
            let expired = self.nonce_accepted && (challenge.stale || renewed);
            if !expired {
                return AuthVerdict::Refused;
            }
            quirks.note(Quirk::NonceChanged);
            self.renewals += 1;
            if self.renewals > NONCES_MAX {
                return AuthVerdict::Refused;
            }
        }
        self.nonce_count = 0;
        self.nonce_accepted = false;
        self.drawn += 1;
        let drawn = [&self.seed[..], &self.drawn.to_be_bytes()].concat();
        self.cnonce = Digest::of(&drawn).hex()[..32].to_owned();
        self.scheme = Some(Scheme::Digest(challenge));
        AuthVerdict::Retry
    }
}

/// The best scheme that a response offers: the first Digest with a known algorithm, else Basic.
fn offer(challenges: &[AuthChallenge], known: &KnownLogin) -> Offer {
    let digests = || challenges.iter().filter(|c| c.scheme == "digest" || c.scheme.is_empty());
    if let Some(found) = digests().find_map(DigestChallenge::read) {
        return Offer::Scheme(Scheme::Digest(Box::new(found)));
    }
    if challenges.iter().any(|challenge| challenge.scheme == "basic") {
        return Offer::Scheme(Scheme::Basic);
    }
    if challenges.is_empty() {
        return Offer::Nothing;
    }
    let names = challenges.iter().map(|challenge| {
        let clean = |text: &str| -> String {
            known.hidden(text).chars().filter(|c| c.is_ascii_graphic()).take(20).collect()
        };
        let algorithm = clean(&challenge.text("algorithm"));
        let more = if algorithm.is_empty() { "" } else { " " };
        format!("{}{more}{algorithm}", clean(&challenge.scheme))
    });
    Offer::Unknown(names.collect::<Vec<_>>().join(", "))
}

impl DigestChallenge {
    /// Reads a challenge; `None` when it has no nonce, or an algorithm that is not known.
    fn read(challenge: &AuthChallenge) -> Option<DigestChallenge> {
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
        let clean = |name: &str| {
            let value = challenge.get(name)?;
            // A line end would divide the request.
            (!value.iter().any(|byte| matches!(byte, b'\r' | b'\n'))).then(|| value.to_vec())
        };
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

    fn answer(
        &self,
        login: &Login,
        method: &str,
        uri: &str,
        body: &[u8],
        count: u32,
        cnonce: &str,
    ) -> Vec<u8> {
        let hash = |parts: &[&[u8]]| self.algorithm.hash(&parts.join(&b':'));
        let user = login.user.as_bytes();
        let mut secret = hash(&[user, &self.realm, login.password.reveal().as_bytes()]);
        if self.session {
            secret = hash(&[secret.as_bytes(), &self.nonce, cnonce.as_bytes()]);
        }
        let body_hash = self.algorithm.hash(body);
        let request = match self.qop {
            Qop::AuthInt => hash(&[method.as_bytes(), uri.as_bytes(), body_hash.as_bytes()]),
            Qop::None | Qop::Auth => hash(&[method.as_bytes(), uri.as_bytes()]),
        };
        let count = format!("{count:08x}");
        let qop = if self.qop == Qop::AuthInt { "auth-int" } else { "auth" };
        let response = match self.qop {
            Qop::None => hash(&[secret.as_bytes(), &self.nonce, request.as_bytes()]),
            Qop::Auth | Qop::AuthInt => hash(&[
                secret.as_bytes(),
                &self.nonce,
                count.as_bytes(),
                cnonce.as_bytes(),
                qop.as_bytes(),
                request.as_bytes(),
            ]),
        };
        let mut out = b"Digest ".to_vec();
        if self.userhash {
            let name = hash(&[user, &self.realm]);
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
        out.extend(format!(", uri=\"{uri}\", response=\"{response}\"").bytes());
        if let Some(name) = &self.algorithm_name {
            let name: String = name.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
            out.extend(format!(", algorithm={name}").bytes());
        }
        if let Some(opaque) = &self.opaque {
            out.extend(b", opaque=");
            quote(&mut out, opaque);
        }
        if self.qop != Qop::None {
            out.extend(format!(", qop={qop}, nc={count}").bytes());
        }
        if self.qop != Qop::None || self.session {
            out.extend(format!(", cnonce=\"{cnonce}\"").bytes());
        }
        out
    }
}

/// Appends a quoted string (RFC 7230 3.2.6).
fn quote(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    for byte in value {
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

    fn authenticator(user: &str, password: &str) -> Authenticator {
        let login = Login { user: user.into(), password: Secret::new(password) };
        Authenticator::new(Some(login), [7; 32])
    }

    fn headers(values: &[&str]) -> Headers {
        Headers(
            values
                .iter()
                .map(|value| ("WWW-Authenticate".to_owned(), value.as_bytes().to_vec()))
                .collect(),
        )
    }

    fn ask(auth: &mut Authenticator, values: &[&str]) -> AuthVerdict {
        auth.unauthorized(&headers(values), &mut QuirkCounts::default())
    }

    fn shown(auth: &mut Authenticator, method: &str, uri: &str) -> String {
        String::from_utf8(auth.header(method, uri, b"").unwrap()).unwrap()
    }

    /// The value of a parameter of an `Authorization` header.
    fn field<'a>(text: &'a str, name: &str) -> &'a str {
        let at = text.find(&format!("{name}=")).unwrap() + name.len() + 1;
        text[at..].trim_start_matches('"').split(['"', ',']).next().unwrap()
    }

    #[test]
    fn the_examples_of_the_rfcs_come_out() {
        // RFC 7616 3.9.1, with its client nonce.
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let mut auth = authenticator("Mufasa", "Circle of Life");
            let challenge = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            assert_eq!(ask(&mut auth, &[&challenge]), AuthVerdict::Retry);
            auth.cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".into();
            let text = shown(&mut auth, "GET", "/dir/index.html");
            assert_eq!(field(&text, "response"), response);
            assert_eq!((field(&text, "nc"), field(&text, "qop")), ("00000001", "auth"));
            assert!(
                text.contains("opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""),
                "{text}"
            );
        }
        // RFC 2617 3.5.
        let mut auth = authenticator("Mufasa", "Circle Of Life");
        ask(
            &mut auth,
            &[
                "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"",
            ],
        );
        auth.cnonce = "0a4f113b".into();
        let text = shown(&mut auth, "GET", "/dir/index.html");
        assert_eq!(field(&text, "response"), "6629fae49393a05397450978507c4ef1");
        // RFC 7617 2.
        let mut auth = authenticator("Aladdin", "open sesame");
        ask(&mut auth, &["Basic realm=\"WallyWorld\""]);
        assert_eq!(shown(&mut auth, "GET", "/"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn variants_of_digest_match_numbers_made_elsewhere() {
        // Computed with hashlib of Python; client nonce 0a4f113b, user "u", password "p".
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
            let mut auth = authenticator("u", "p");
            ask(&mut auth, &[&format!("Digest realm=\"đ\", nonce=\"n\"{more}")]);
            auth.cnonce = "0a4f113b".into();
            let text =
                String::from_utf8(auth.header("DESCRIBE", "rtsp://h/a", body).unwrap()).unwrap();
            assert_eq!(field(&text, "response"), response, "{more}");
        }
        let mut auth = authenticator("u", "p");
        ask(&mut auth, &["Digest realm=\"đ\", nonce=\"n\", userhash=true"]);
        assert_eq!(
            field(&shown(&mut auth, "A", "b"), "username"),
            "a906f5e2919968fff88a2fe9f25e77be"
        );
        let mut auth = authenticator("đ", "p");
        ask(&mut auth, &["Digest realm=\"r\", nonce=\"n\", charset=UTF-8"]);
        assert!(shown(&mut auth, "A", "b").contains("username*=UTF-8''%C4%91, "));
    }

    #[test]
    fn the_best_offer_is_taken_from_one_or_many_headers() {
        for (values, begin) in [
            (&["Basic realm=\"x\"", "Digest realm=\"x\", nonce=\"n\""][..], "Digest"),
            (&["Basic realm=\"x\", Digest realm=\"x\", nonce=\"n\""], "Digest"),
            (
                &["Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256", "Basic realm=\"x\""],
                "Basic",
            ),
            (
                &[
                    "Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256",
                    "Digest realm=\"x\", nonce=\"n\"",
                ],
                "Digest",
            ),
            (&["realm=\"x\", nonce=\"n\""], "Digest"),
            (&[], "Basic"),
        ] {
            let mut auth = authenticator("u", "p");
            assert_eq!(ask(&mut auth, values), AuthVerdict::Retry, "{values:?}");
            assert!(shown(&mut auth, "A", "b").starts_with(begin), "{values:?}");
        }
        for (value, named) in [
            ("Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256", "digest SHA-512-256"),
            ("Bearer", "bearer"),
        ] {
            let verdict = ask(&mut authenticator("u", "p"), &[value]);
            assert!(
                matches!(&verdict, AuthVerdict::Unanswerable(why) if why.contains(named)),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn only_a_refusal_on_a_fresh_nonce_counts() {
        let digest =
            |nonce: &str, more: &str| format!("Digest realm=\"x\", nonce=\"{nonce}\"{more}");
        let mut auth = authenticator("u", "p");
        assert_eq!(ask(&mut auth, &[&digest("1", "")]), AuthVerdict::Retry);
        shown(&mut auth, "DESCRIBE", "b");
        auth.answered(&Headers::default());
        // The nonce expired, with and without `stale`.
        for (nonce, more) in [("2", ""), ("3", ", stale=true"), ("3", ", stale=TRUE")] {
            auth.begin_request();
            shown(&mut auth, "SETUP", "b");
            assert_eq!(
                ask(&mut auth, &[&digest(nonce, more)]),
                AuthVerdict::Retry,
                "{nonce}{more}"
            );
            assert_eq!(
                field(&shown(&mut auth, "SETUP", "b"), "nonce"),
                nonce,
                "the new nonce is used"
            );
            auth.answered(&Headers::default());
        }
        auth.begin_request();
        shown(&mut auth, "PLAY", "b");
        assert_eq!(ask(&mut auth, &[&digest("4", "")]), AuthVerdict::Retry);
        shown(&mut auth, "PLAY", "b");
        assert_eq!(ask(&mut auth, &[&digest("5", "")]), AuthVerdict::Refused, "on a fresh nonce");
    }

    #[test]
    fn a_camera_that_calls_each_nonce_stale_is_not_asked_for_ever() {
        let mut auth = authenticator("u", "p");
        let mut asked = 0;
        loop {
            let challenge = format!("Digest realm=\"x\", nonce=\"{asked}\", stale=true");
            if ask(&mut auth, &[&challenge]) == AuthVerdict::Refused {
                break;
            }
            shown(&mut auth, "DESCRIBE", "b");
            asked += 1;
        }
        assert_eq!(asked, 1, "a fresh nonce is not stale");
    }

    #[test]
    fn without_a_login_nothing_is_shown() {
        let mut auth = Authenticator::new(None, [0; 32]);
        let verdict = ask(&mut auth, &["Digest realm=\"x\", nonce=\"n\""]);
        assert!(
            matches!(&verdict, AuthVerdict::Unanswerable(why) if why.contains("set camera.login_file"))
        );
        assert_eq!(auth.header("A", "b", b""), None);
    }

    #[test]
    fn requests_are_counted_and_the_next_nonce_is_taken() {
        let mut auth = authenticator("u\"\\", "p");
        ask(&mut auth, &["Digest realm=\"a \\\"b\\\"\", nonce=\"n\", qop=\"auth\""]);
        let first = shown(&mut auth, "A", "b");
        assert!(
            first.starts_with("Digest username=\"u\\\"\\\\\", realm=\"a \\\"b\\\"\", "),
            "{first}"
        );
        assert_eq!(field(&shown(&mut auth, "A", "b"), "nc"), "00000002");
        let info = Headers(vec![("Authentication-Info".into(), b"nextnonce=\"m\"".to_vec())]);
        auth.answered(&info);
        let next = shown(&mut auth, "A", "b");
        assert_eq!((field(&next, "nonce"), field(&next, "nc")), ("m", "00000001"));
    }
}
