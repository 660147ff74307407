//! To whom a login may be shown when somebody asks remotely: only to the host it was set up for. A dry run, and a change that is
//! judged, must not become a way to have a password sent somewhere.
//!
//! What belongs here: that rule, pure. What does not: connecting (the agent's probe).

use url::Url;

use super::rejection::{RejectReason, Rejection};
use crate::settings::parse::{Problem, Problems};
use crate::settings::{Broker, CameraSettings, Login, Settings};

/// What an answer says where a login was kept back.
pub const WITHHELD: &str = "asked without the login: it goes only to the host it was set up for";
/// The port of RTSP, where a URL names none.
const RTSP_PORT: u16 = 554;

fn address(url: &Url) -> (String, u16) {
    (url.host_str().unwrap_or_default().to_ascii_lowercase(), url.port().unwrap_or(RTSP_PORT))
}

/// Whether a camera in force lies at this address.
pub fn is_known_camera(now: &CameraSettings, url: &Url) -> bool {
    [Some(&now.main_url), now.sub_url.as_ref()].into_iter().flatten().any(|known| address(known) == address(url))
}

/// Whether a dry run may show `next`'s login at `url`: the camera in force, and the login it has now.
pub fn may_show_camera(now: &CameraSettings, next: &CameraSettings, url: &Url) -> bool {
    next.login.is_none() || next.login == now.login && is_known_camera(now, url)
}

/// Whether a dry run may show this broker its login: a broker in force, and the login it has now.
pub fn may_show_broker(now: &Settings, broker: &Broker) -> bool {
    let same = |known: &Broker| known.address() == broker.address() && known.login == broker.login;
    broker.login.is_none() || now.uplink.brokers().iter().any(same)
}

/// What a change remotely may not do with logins: show a camera's to a broker, or a broker's to a camera. That another broker gets the
/// brokers' login is how an office moves: a key without a scope has signed it, and so set it up.
///
/// # Errors
/// Every key that would.
pub fn judge(next: &Settings, good: &Settings) -> Result<(), Rejection> {
    let of_brokers = |login: &Option<Login>| login.is_some() && good.uplink.brokers().iter().any(|known| known.login == *login);
    let of_camera = |login: &Option<Login>| login.is_some() && good.camera.login == *login;
    let mut problems = Vec::new();
    let mut bad = |key: String| {
        let reason = "names a login that was set up for a host of another kind".into();
        problems.push(Problem { key, reason });
    };
    if of_brokers(&next.camera.login) && !of_camera(&next.camera.login) {
        bad("camera.login_file".into());
    }
    for (number, broker) in next.uplink.brokers().iter().enumerate() {
        if of_camera(&broker.login) && !of_brokers(&broker.login) {
            bad(if number == 0 { "uplink.login_file".into() } else { format!("uplink.fallbacks[{}].login_file", number - 1) });
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Rejection::bad_keys(RejectReason::Continuity, Problems(problems))) }
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
    fn a_login_is_shown_to_its_own_host_only() {
        let good = good();
        let url = |text: &str| Url::parse(text).unwrap();
        let shown = |login: Option<Login>, text: &str| {
            may_show_camera(&good.camera, &CameraSettings { login, ..good.camera.clone() }, &url(text))
        };
        assert!(shown(login("camera"), "rtsp://127.0.0.1/other") && shown(login("camera"), "rtsp://127.0.0.1:554/main"));
        assert!(shown(None, "rtsp://far/x"), "nothing to show");
        for (user, text) in
            [("camera", "rtsp://127.0.0.1:8554/main"), ("camera", "rtsp://far/main"), ("broker", "rtsp://127.0.0.1/main")]
        {
            assert!(!shown(login(user), text), "{user} {text}");
        }
        let broker = |host: &str, user| Broker { host: host.into(), port: 1883, tls: None, login: login(user) };
        assert!(may_show_broker(&good, &broker("127.0.0.1", "broker")));
        for other in [broker("far", "broker"), broker("127.0.0.1", "camera"), Broker { port: 9, ..broker("127.0.0.1", "broker") }]
        {
            assert!(!may_show_broker(&good, &other), "{other:?}");
        }
    }

    #[test]
    fn a_change_from_afar_moves_no_login_to_another_kind_of_host() {
        let good = good();
        let keys = |next: &Settings| match judge(next, &good) {
            Ok(()) => Vec::new(),
            Err(refusal) => refusal.errors.into_iter().map(|problem| problem.key).collect::<Vec<_>>(),
        };
        assert!(keys(&good).is_empty());
        let broker = |host: &str, user| Broker { host: host.into(), port: 8883, tls: None, login: login(user) };
        let mut next = good.clone();
        next.uplink.fallbacks = vec![broker("moved", "broker"), broker("new", "its own")];
        assert!(keys(&next).is_empty());
        next.uplink.fallbacks = vec![broker("new", "broker"), broker("newer", "camera")];
        assert_eq!(keys(&next), ["uplink.fallbacks[1].login_file"]);
        next.camera.login = login("broker");
        assert_eq!(keys(&next)[0], "camera.login_file");
    }
}
