//! The login of the quirky camera: challenges, and what it accepts (RFC 7616, RFC 7617, RFC 2069).

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};

use super::quirks::{CameraQuirk, CameraQuirk::*, Group};
use crate::units::{MonoTime, base64, hex};

/// User of the camera.
pub(crate) const USER: &str = "user";
/// Password of the camera.
pub(crate) const PASSWORD: &str = "secret";
/// Life of a nonce that expires, microseconds.
const NONCE_LIFE: u64 = 10_000_000;

/// A request as far as the login goes.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) authorization: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// The login of a camera.
#[derive(Debug)]
pub(super) struct Login {
    quirk: Option<CameraQuirk>,
    nonce: u64,
    nonce_since: MonoTime,
    connections: u32,
    /// Authorized requests.
    authorized: u32,
    /// DESCRIBEs of other connections refused at the start.
    refused: u32,
    /// The DESCRIBE of this connection was refused.
    refused_here: bool,
    /// Requests with a wrong password or a stale nonce.
    pub(super) denied: u32,
}

impl Login {
    pub(super) fn new(quirks: &[CameraQuirk]) -> Login {
        let asks = |quirk: &&CameraQuirk| quirk.group() == Group::Login;
        Login {
            quirk: quirks.iter().find(asks).copied(),
            nonce: 1,
            nonce_since: MonoTime(0),
            connections: 0,
            authorized: 0,
            refused: 0,
            refused_here: false,
            denied: 0,
        }
    }

    /// A new connection.
    pub(super) fn connected(&mut self, now: MonoTime) {
        (self.nonce, self.nonce_since) = (self.nonce + 1, now);
        self.refused_here = false;
        self.connections += 1;
    }

    fn has(&self, quirk: CameraQuirk) -> bool {
        self.quirk == Some(quirk)
    }

    /// The headers of a 401, or `None` when the request is allowed.
    pub(super) fn refuses(&mut self, asked: &Asked<'_>, now: MonoTime) -> Option<Vec<String>> {
        self.quirk?;
        let open = match asked.method {
            "OPTIONS" => true,
            "DESCRIBE" => self.has(LoginAtSetup) || self.has(LoginAtPlay),
            "PLAY" => false,
            _ => self.has(LoginAtPlay),
        };
        if open {
            return None;
        }
        let expired = self.has(StaleUpperCase) && now.since(self.nonce_since) > NONCE_LIFE;
        let right = asked.authorization.is_some_and(|given| self.accepts(given, asked));
        if asked.authorization.is_some() && !right {
            self.denied += 1;
        }
        let refusals = match () {
            () if self.has(UnauthorizedThrice) && self.connections > 1 => 3,
            () if self.has(UnauthorizedTwice) => 2,
            () => 0,
        };
        if right && asked.method == "DESCRIBE" && self.refused < refusals && !self.refused_here {
            self.refused_here = true;
            self.refused += 1;
        }
        if self.refused_here {
            return Some(self.challenge(false));
        }
        if expired {
            (self.nonce, self.nonce_since) = (self.nonce + 1, now);
            return Some(self.challenge(true));
        }
        if right && self.has(StaleSameNonce) {
            self.authorized += 1;
            if self.authorized % 2 == 1 {
                return Some(self.challenge(true));
            }
        }
        if self.has(NonceRotates) || self.has(NonceRotatesSilently) {
            self.nonce += 1;
        }
        (!right).then(|| self.challenge(asked.authorization.is_some()))
    }

    fn nonce(&self) -> String {
        format!("nonce{:08x}", self.nonce)
    }

    fn realm(&self) -> &'static str {
        match () {
            () if self.has(RealmUtf8) => "Camera đường 17",
            () if self.has(RealmEscaped) => "a \"big\", camera",
            () if self.has(RealmEmpty) => "",
            () => "cam",
        }
    }

    fn challenge(&self, stale: bool) -> Vec<String> {
        let nonce = self.nonce();
        let realm = self.realm().replace('"', "\\\"");
        let header = |value: String| format!("WWW-Authenticate: {value}");
        let digest = |more: &str| format!("Digest realm=\"{realm}\", nonce=\"{nonce}\"{more}");
        let of = |algorithm: &str| digest(&format!(", algorithm={algorithm}, qop=\"auth\""));
        let Some(quirk) = self.quirk else { return Vec::new() };
        match quirk {
            AuthNoHeader => Vec::new(),
            NoLoginBasic | BasicOnly => vec![header(format!("Basic realm=\"{realm}\""))],
            AuthInt => vec![header(digest(", qop=\"auth,auth-int\", opaque=\"528eacb9\""))],
            AuthIntOnly => vec![header(digest(", qop=\"auth-int\""))],
            DigestSha256 => vec![header(of("SHA-256"))],
            DigestSha256Sess => vec![header(of("SHA-256-sess"))],
            DigestMd5Sess => vec![header(of("MD5-sess"))],
            DigestUserhash => vec![header(of("SHA-256") + ", userhash=true")],
            SeveralChallenges => vec![
                header(format!("Basic realm=\"{realm}\"")),
                header(of("MD5")),
                header(of("SHA-256")),
            ],
            ChallengesInOneHeader => {
                vec![header(format!("Basic realm=\"{realm}\", {}", digest("")))]
            }
            UnknownAlgorithmFirst => vec![header(of("SHA-512-256")), header(of("MD5"))],
            NegotiateFirst => {
                vec![header("Negotiate".into()), header("NTLM".into()), header(digest(""))]
            }
            NonceRotates => vec![header(digest(", stale=true"))],
            StaleSameNonce if stale => vec![header(digest(", stale=true"))],
            StaleUpperCase if stale => vec![header(digest(", STALE=\"TRUE\""))],
            ChallengeUnquoted => {
                vec![header(format!(
                    "Digest realm={realm}, nonce={nonce}, algorithm=MD5, qop=auth"
                ))]
            }
            ChallengeLowerCase => {
                vec![format!("Www-authenticate: digest REALM=\"{realm}\",NONCE=\"{nonce}\"")]
            }
            _ => vec![header(digest(""))],
        }
    }

    /// Whether these credentials are right.
    fn accepts(&self, given: &str, asked: &Asked<'_>) -> bool {
        let password = if self.has(WrongPassword) { "other" } else { PASSWORD };
        let Some((scheme, rest)) = given.split_once(' ') else { return false };
        let takes_basic = matches!(self.quirk, Some(AuthNoHeader | BasicOnly | NoLoginBasic));
        if scheme.eq_ignore_ascii_case("basic") {
            return takes_basic && rest.trim() == base64(format!("{USER}:{password}").as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("digest") || takes_basic {
            return false;
        }
        let fields = fields(rest);
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let algorithm = field("algorithm").to_ascii_uppercase();
        let sha = algorithm.starts_with("SHA-256");
        let hash = |text: &[u8]| {
            if sha {
                hex(ring::digest::digest(&ring::digest::SHA256, text).as_ref())
            } else {
                hex(&Md5::digest(text))
            }
        };
        let wanted = match self.quirk {
            Some(DigestSha256 | DigestUserhash) => algorithm == "SHA-256",
            Some(DigestSha256Sess) => algorithm == "SHA-256-SESS",
            Some(DigestMd5Sess) => algorithm == "MD5-SESS",
            Some(SeveralChallenges) => algorithm == "SHA-256" || algorithm == "MD5",
            _ => algorithm.is_empty() || algorithm == "MD5",
        };
        let realm = self.realm();
        let user = if field("userhash") == "true" {
            hash(format!("{USER}:{realm}").as_bytes())
        } else {
            USER.to_owned()
        };
        let mut a1 = hash(format!("{USER}:{realm}:{password}").as_bytes());
        if algorithm.ends_with("-SESS") {
            a1 = hash(format!("{a1}:{}:{}", field("nonce"), field("cnonce")).as_bytes());
        }
        let mut a2 = format!("{}:{}", asked.method, field("uri"));
        if field("qop") == "auth-int" {
            a2 = format!("{a2}:{}", hash(asked.body));
        }
        let a2 = hash(a2.as_bytes());
        let expected = match field("qop") {
            "" if self.has(AuthIntOnly) => return false,
            "" => format!("{a1}:{}:{a2}", field("nonce")),
            qop => {
                let (nc, cnonce) = (field("nc"), field("cnonce"));
                format!("{a1}:{}:{nc}:{cnonce}:{qop}:{a2}", field("nonce"))
            }
        };
        wanted
            && field("nonce") == self.nonce()
            && field("realm") == realm
            && field("uri") == asked.url
            && field("username") == user
            && field("response") == hash(expected.as_bytes())
    }
}

/// `name=value` or `name="value"` with escapes, parted by commas.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| *c == ',' || c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=') {
            name.push(c);
        }
        if rest.next().is_none() {
            return out;
        }
        let mut value = String::new();
        if rest.next_if_eq(&'"').is_some() {
            while let Some(c) = rest.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(rest.next()),
                    c => value.push(c),
                }
            }
        } else {
            while let Some(c) = rest.next_if(|c| *c != ',') {
                value.push(c);
            }
        }
        out.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
}
