//! Authentication of RTSP requests, over [`crate::http_auth`].
//!
//! Basic is used only where nothing better is offered. A refusal counts only when the camera refused credentials on a nonce that it
//! had given for this very request.

use super::limits::NONCES_MAX;
use super::message::Headers;
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::http_auth::{Challenges, DigestChallenge, SignedRequest, basic, challenges, next_nonce};
use crate::redact::KnownLogin;
use crate::settings::Login;
use crate::units::Digest;

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
            Scheme::Basic => Some(basic(&login)),
            Scheme::Digest(challenge) => {
                self.nonce_count += 1;
                let (count, cnonce) = (self.nonce_count, &*self.cnonce);
                Some(challenge.answer(&login, &SignedRequest { method, uri, body, count, cnonce }))
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
        let next = headers.get("authentication-info").and_then(next_nonce);
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
        let offered = challenges(headers.all("www-authenticate"));
        if offered.is_odd {
            quirks.note(Quirk::Challenge);
        }
        match offer(&offered, &known) {
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
fn offer(offered: &Challenges, known: &KnownLogin) -> Offer {
    if let Some(found) = offered.digests().next() {
        return Offer::Scheme(Scheme::Digest(Box::new(found)));
    }
    let challenges = &offered.list;
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
