//! Scope of credentials: a remote change or dry run sends a login only to the host that it belongs
//! to.
//!
//! Otherwise an office's key could make the device send a password to any host.

use url::Url;

use super::rejection::{RejectReason, Rejection};
use crate::settings::parse::{Problem, Problems};
use crate::settings::{Broker, CameraSettings, Login, Settings};

/// Note of a dry run that connected without the login.
pub const WITHHELD: &str = "asked without the login: it goes only to the host it was set up for";
/// The default port of RTSP (RFC 2326, 3.2).
const RTSP_PORT: u16 = 554;

fn address(url: &Url) -> (String, u16) {
    (url.host_str().unwrap_or_default().to_ascii_lowercase(), url.port().unwrap_or(RTSP_PORT))
}

/// True when a camera in force has this address.
pub fn is_known_camera(now: &CameraSettings, url: &Url) -> bool {
    [Some(&now.main_url), now.sub_url.as_ref()]
        .into_iter()
        .flatten()
        .any(|known| address(known) == address(url))
}

/// True when a dry run may send `next`'s login to `url`: the camera in force, with its present
/// login.
pub fn may_show_camera(now: &CameraSettings, next: &CameraSettings, url: &Url) -> bool {
    next.login.is_none() || next.login == now.login && is_known_camera(now, url)
}

/// True when a dry run may send this broker its login: a broker in force, with its present login.
pub fn may_show_broker(now: &Settings, broker: &Broker) -> bool {
    let same = |known: &Broker| known.address() == broker.address() && known.login == broker.login;
    broker.login.is_none() || now.uplink.brokers().iter().any(same)
}

/// Rejects a remote change that sends the camera's login to a broker, or a broker's login to a
/// camera. A new broker may get the brokers' login: an office moves this way, with a signature of a
/// key without a scope.
///
/// # Errors
/// All keys with such a login.
pub fn judge(next: &Settings, good: &Settings) -> Result<(), Rejection> {
    let of_brokers = |login: &Option<Login>| {
        login.is_some() && good.uplink.brokers().iter().any(|known| known.login == *login)
    };
    let of_camera = |login: &Option<Login>| login.is_some() && good.camera.login == *login;
    let mut problems = Vec::new();
    let mut bad = |key: String| {
        let reason = "names the login of a host of another kind (camera or broker)".into();
        problems.push(Problem { key, reason });
    };
    if of_brokers(&next.camera.login) && !of_camera(&next.camera.login) {
        bad("camera.login_file".into());
    }
    for (number, broker) in next.uplink.brokers().iter().enumerate() {
        if of_camera(&broker.login) && !of_brokers(&broker.login) {
            bad(if number == 0 {
                "uplink.login_file".into()
            } else {
                format!("uplink.fallbacks[{}].login_file", number - 1)
            });
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Rejection::bad_keys(RejectReason::Continuity, Problems(problems)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::test_settings;
    use crate::units::Secret;

    fn login(user: &str) -> Option<Login> {
        Some(Login { user: user.into(), password: Secret::new("secret") })
    }

    fn good() -> Settings {
        let mut good = test_settings();
        (good.camera.login, good.uplink.login) = (login("camera"), login("broker"));
        good
    }

    #[test]
    fn a_login_is_sent_to_its_own_host_only() {
        let good = good();
        let url = |text: &str| Url::parse(text).unwrap();
        let shown = |login: Option<Login>, text: &str| {
            may_show_camera(
                &good.camera,
                &CameraSettings { login, ..good.camera.clone() },
                &url(text),
            )
        };
        assert!(
            shown(login("camera"), "rtsp://127.0.0.1/other")
                && shown(login("camera"), "rtsp://127.0.0.1:554/main")
        );
        assert!(shown(None, "rtsp://far/x"), "there is no login to send");
        for (user, text) in [
            ("camera", "rtsp://127.0.0.1:8554/main"),
            ("camera", "rtsp://far/main"),
            ("broker", "rtsp://127.0.0.1/main"),
        ] {
            assert!(!shown(login(user), text), "{user} {text}");
        }
        let broker = |host: &str, user| Broker {
            host: host.into(),
            port: 1883,
            tls: None,
            login: login(user),
        };
        assert!(may_show_broker(&good, &broker("127.0.0.1", "broker")));
        for other in [
            broker("far", "broker"),
            broker("127.0.0.1", "camera"),
            Broker { port: 9, ..broker("127.0.0.1", "broker") },
        ] {
            assert!(!may_show_broker(&good, &other), "{other:?}");
        }
    }

    #[test]
    fn a_remote_change_moves_no_login_to_another_kind_of_host() {
        let good = good();
        let keys = |next: &Settings| match judge(next, &good) {
            Ok(()) => Vec::new(),
            Err(refusal) => {
                refusal.errors.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
            }
        };
        assert!(keys(&good).is_empty());
        let broker = |host: &str, user| Broker {
            host: host.into(),
            port: 8883,
            tls: None,
            login: login(user),
        };
        let mut next = good.clone();
        next.uplink.fallbacks = vec![broker("moved", "broker"), broker("new", "its own")];
        assert!(keys(&next).is_empty());
        next.uplink.fallbacks = vec![broker("new", "broker"), broker("newer", "camera")];
        assert_eq!(keys(&next), ["uplink.fallbacks[1].login_file"]);
        next.camera.login = login("broker");
        assert_eq!(keys(&next)[0], "camera.login_file");
    }
}
