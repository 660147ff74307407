//! Questions over TCP to simulated ONVIF cameras on this machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::device::{PATH, Service};
use super::devices::Device;
use super::http_client::ask_all;
use super::report::{Camera, cameras, table};
use crate::settings;
use crate::sim::onvif_camera::{Login, OnvifCamera, Options};
use crate::units::Secret;

fn camera(login: Login, is_odd: bool) -> OnvifCamera {
    camera_ahead(login, is_odd, 0)
}

fn camera_ahead(login: Login, is_odd: bool, ahead: i64) -> OnvifCamera {
    let uris = match is_odd {
        false => ["rtsp://127.0.0.1:8554/main", "rtsp://127.0.0.1:8554/sub"],
        true => ["rtsp://admin:s/3cr3t@0.0.0.0:8554/main?a=1&b=2", "/sub"],
    };
    let options = Options {
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        interface: 0,
        port: 0,
        uris: uris.map(str::to_owned),
        login,
        ahead,
        is_odd,
    };
    OnvifCamera::start(options).unwrap()
}

fn asked(camera: &OnvifCamera, password: Option<&str>) -> Camera {
    let login = password
        .map(|password| settings::Login { user: "admin".into(), password: Secret::new(password) });
    let has_login = login.is_some();
    let device = Device {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        interface: String::new(),
        also: None,
        // Nothing listens on the first.
        services: [1, camera.port()].map(|port| Service { port, path: PATH.into() }).to_vec(),
        name: None,
    };
    let answers = ask_all(vec![device], login, |_, _| {}).unwrap();
    let mut found = cameras(&answers[0].0, &answers[0].1, 420, has_login);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn an_open_camera_names_its_streams_and_its_clock() {
    let found = asked(&camera(Login::Open, false), None);
    assert_eq!(found.main.as_ref().unwrap().url, "rtsp://127.0.0.1:8554/main");
    assert_eq!(found.sub.as_ref().unwrap().url, "rtsp://127.0.0.1:8554/sub");
    let clock = found.clock.as_ref().unwrap();
    assert!(clock.ahead.abs() < 2_000_000 && clock.offset == Some(420), "{clock:?}");
    assert!(
        found.warnings.is_empty() && found.problems.is_empty(),
        "{}",
        table(std::slice::from_ref(&found))
    );
    assert_eq!(found.model, "Simcam Road 1");
}

#[test]
fn the_odd_camera_is_understood_with_its_login() {
    let odd = camera(Login::Token, true);
    let found = asked(&odd, Some("taimat"));
    let text = table(std::slice::from_ref(&found));
    assert_eq!(found.main.as_ref().unwrap().url, "rtsp://127.0.0.1:8554/main?a=1&b=2", "{text}");
    assert_eq!(found.sub.as_ref().unwrap().url, "rtsp://127.0.0.1/sub", "{text}");
    assert_eq!(found.firmware, "1.0 caf\u{e9}");
    for wanted in ["never set", "UTC+8", "H.265", "smart codec", "every 25 s", "left out here"] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(!text.contains("s/3cr3t") && !text.contains("taimat"), "{text}");
    assert!(found.problems.is_empty(), "{text}\n{:?}", odd.asked());
}

#[test]
fn a_login_carries_the_time_of_a_clock_that_is_hours_off() {
    for ahead in [-7 * 3600, 29 * 3600 + 120] {
        let found = asked(&camera_ahead(Login::Token, false, ahead), Some("taimat"));
        let text = table(std::slice::from_ref(&found));
        assert!(found.main.is_some() && found.problems.is_empty(), "{text}");
        let words = if ahead < 0 { "7 h 0 min behind" } else { "1 d 5 h ahead" };
        assert!(text.contains(&format!("{words}, UTC+7")), "{text}");
        assert!(text.contains("set its time by NTP"), "{text}");
    }
}

#[test]
fn cameras_with_a_digest_are_understood() {
    let strict = camera(Login::Digest, false);
    let found = asked(&strict, Some("taimat"));
    assert!(found.main.is_some() && found.problems.is_empty(), "{}", table(&[found]));
}

#[test]
fn a_wrong_login_or_none_is_said_and_not_repeated() {
    for (login, is_odd) in [(Login::Token, true), (Login::Digest, false), (Login::Token, false)] {
        let strict = camera(login, is_odd);
        let text = table(&[asked(&strict, None)]);
        assert!(text.contains("--login-file"), "{text}");
        let without = strict.asked().len();
        let text = table(&[asked(&strict, Some("wr0ng"))]);
        assert!(text.contains("refuses this login") && !text.contains("wr0ng"), "{text}");
        let refused =
            strict.asked()[without..].iter().filter(|line| line.ends_with("refused")).count();
        // Three with a login; the others were asked without.
        assert!(refused <= 10, "{:?}", strict.asked());
    }
}
