//! Login mark: remembers over a power cut that the camera accepted this login.

use crate::settings::CameraSettings;
use crate::units::Digest;

/// A mark of one login at one camera; another user, password or host has another one.
///
/// It has 16 bits of a salted SHA-256: enough to notice that a login changed, and too few to find a
/// password by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginMark([u8; 2]);

impl LoginMark {
    /// The mark of the configured login; `None` without one.
    pub fn of(settings: &CameraSettings) -> Option<LoginMark> {
        let (login, url) = (settings.login.as_ref()?, &settings.main_url);
        let host = format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(554));
        let mut salted = Vec::new();
        for part in ["taimat login", &host, &login.user, login.password.reveal()] {
            salted.extend_from_slice(&(part.len() as u32).to_be_bytes());
            salted.extend_from_slice(part.as_bytes());
        }
        let digest = Digest::of(&salted).0;
        Some(LoginMark([digest[0], digest[1]]))
    }

    /// Its bytes in the journal.
    pub fn encode(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Reads what [`LoginMark::encode`] wrote; `None` for other bytes.
    pub fn decode(bytes: &[u8]) -> Option<LoginMark> {
        bytes.try_into().ok().map(LoginMark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Login, Transport};
    use crate::units::Secret;

    fn mark(url: &str, user: &str, password: &str) -> Option<LoginMark> {
        LoginMark::of(&CameraSettings {
            main_url: url.parse().unwrap(),
            sub_url: None,
            login: Some(Login { user: user.into(), password: Secret::new(password) }),
            audio: true,
            transport: Transport::Tcp,
            stall_after: 0,
            reconnect_after: 0,
        })
    }

    #[test]
    fn another_login_or_host_has_another_mark() {
        let known = mark("rtsp://10.0.0.1/a", "admin", "secret");
        assert_eq!(known, mark("rtsp://10.0.0.1:554/b", "admin", "secret"));
        let others = [
            mark("rtsp://10.0.0.2/a", "admin", "secret"),
            mark("rtsp://10.0.0.1:8554/a", "admin", "secret"),
            mark("rtsp://10.0.0.1/a", "admin", "secrets"),
            mark("rtsp://10.0.0.1/a", "admins", "ecret"),
        ];
        assert_eq!(known.and_then(|known| LoginMark::decode(&known.encode())), known);
        assert!(others.iter().all(|other| *other != known), "{known:?} {others:?}");
    }
}
