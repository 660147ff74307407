//! Basic and Digest authentication of the simulated camera (RFC 2617).

use md5::{Digest as _, Md5};

use crate::units::hex;

const REALM: &str = "taimat-sim";
const NONCE: &str = "5d41402abc4b2a76b9719d911017c592";

/// Whether a digest without qop (RFC 2617 3.2.2.1) proves the password; `None` for another scheme.
pub(super) fn digest_matches(
    given: &str,
    method: &str,
    user: &str,
    password: &str,
) -> Option<bool> {
    let field = |name: &str| {
        let start = given.find(&format!("{name}=\""))? + name.len() + 2;
        given[start..].split('"').next()
    };
    let md5 = |text: String| hex(&Md5::digest(text.as_bytes()));
    let (uri, response) = (field("uri")?, field("response")?);
    let secret = md5(format!("{user}:{REALM}:{password}"));
    Some(response == md5(format!("{secret}:{NONCE}:{}", md5(format!("{method}:{uri}")))))
}

/// The challenge of a 401 response.
pub(super) fn challenge(basic: bool) -> String {
    if basic {
        format!("Basic realm=\"{REALM}\"")
    } else {
        format!("Digest realm=\"{REALM}\", nonce=\"{NONCE}\"")
    }
}
