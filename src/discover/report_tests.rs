//! Tables and advice.

use super::*;
use crate::discover::config_text::{Surroundings, config_text};
use crate::discover::device::Information;
use crate::units::SiteId;

fn profile(token: &str, size: (u32, u32), coding: Coding, gop: u32) -> Profile {
    let encoder = Encoder {
        coding,
        size,
        rate: Some(25.0),
        kilobits: Some(2048),
        gop: Some(gop),
        smart: gop > 200,
    };
    Profile { token: token.into(), name: token.into(), source: "s".into(), encoder: Some(encoder) }
}

fn device(address: &str) -> Device {
    Device {
        address: address.parse().unwrap(),
        interface: "eth0".into(),
        also: None,
        services: Vec::new(),
        name: Some("Scope name".into()),
    }
}

fn answers(main: &str) -> Answers {
    let (main_profile, sub) =
        (profile("m", (1920, 1080), Coding::H265, 250), profile("s", (640, 360), Coding::H264, 50));
    let time = CameraTime {
        utc: Some(WallTime(20_000_000)),
        offset: Some(480),
        zone: Some("CST-8".into()),
        ntp: Some(false),
    };
    Answers {
        is_onvif: true,
        time: Some((time, WallTime(1_800_000_000_000_000))),
        information: Information {
            maker: "Ma\x1bker".into(),
            model: "X".into(),
            firmware: "1".into(),
        },
        choices: vec![Choice { source: "s".into(), main: main_profile, sub: Some(sub) }],
        uris: [("m".into(), main.into()), ("s".into(), "rtsp://0.0.0.0/s".into())].into(),
        problems: Vec::new(),
    }
}

#[test]
fn a_table_has_urls_without_logins_and_advice() {
    let found = answers("rtsp://admin:hunter2@192.168.1.20/user=admin_password=hunter3_channel=1");
    let list = cameras(&device("192.168.1.20:80"), &found, 420, false);
    let text = table(&list);
    for wanted in [
        "1  192.168.1.20  Ma\\x1bker X",
        "main rtsp://192.168.1.20/user=***_password=***_channel=1",
        "     1920x1080 H.265 25/s, key frame every 10 s",
        "sub  rtsp://192.168.1.20/s",
        "! its clock was never set",
        "! its zone is UTC+8, this machine's UTC+7",
        "! main is H.265",
        "smart codec",
        "set a key frame every 50 pictures (2 s)",
        "! it writes a user and a password",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    let shown = crate::escape::shown_json(&json(&list)).unwrap();
    for secret in ["hunter2", "hunter3", "\x1b"] {
        assert!(!text.contains(secret) && !shown.contains(secret), "{text}\n{shown}");
    }
}

#[test]
fn a_written_configuration_is_valid_and_has_the_whole_url() {
    let site = SiteId::parse("km-17").unwrap();
    let (ring, login) = (std::path::Path::new("/r"), std::path::Path::new("/etc/ca\"m.login"));
    let around = Surroundings { site: &site, ring, is_mounted: false, login: Some(login) };
    let found = answers("rtsp://a:b@192.168.1.20/user=admin_password=hunter3_channel=1");
    let list = cameras(&device("192.168.1.20:80"), &found, 420, false);
    let text = config_text(&list[0], &around).unwrap();
    let settings = crate::settings::parse::parse(&text, &|_| Ok("admin:x".into())).unwrap();
    assert_eq!(settings.camera.main_url.path(), "/user=admin_password=hunter3_channel=1");
    assert_eq!(settings.camera.sub_url.unwrap().as_str(), "rtsp://192.168.1.20/s");
    assert!(!settings.storage.require_mount && settings.camera.login.is_some());
    let around = Surroundings { is_mounted: true, login: None, ..around };
    let text = config_text(&list[0], &around).unwrap();
    assert!(
        crate::settings::parse::parse(&text, &|_| Err("none".into()))
            .unwrap()
            .storage
            .require_mount
    );
    let local = cameras(&device("[fe80::1%3]:80"), &answers("/m"), 420, false);
    assert!(table(&local).contains("link-local"), "{}", table(&local));
    assert!(config_text(&local[0], &around).unwrap_err().contains("link-local"));
}

#[test]
fn problems_say_what_helps_once_each() {
    let mut found = Answers { is_onvif: true, ..Answers::default() };
    found.problems = vec![("A", CallError::NotAuthorized), ("B", CallError::NotAuthorized)];
    let list = cameras(&device("10.0.0.1:80"), &found, 420, false);
    let text = table(&list);
    assert_eq!(text.matches("--login-file").count(), 1, "{text}");
    assert!(text.contains("Scope name") && text.contains("its clock is unknown"), "{text}");
    let text = table(&cameras(&device("10.0.0.1:80"), &found, 420, true));
    assert!(text.contains("refuses this login"), "{text}");
}

#[test]
fn distances_of_clocks_are_words() {
    for (ahead, words) in [
        (-1_500_000, "2 s behind"),
        (61_000_000, "1 min 1 s ahead of"),
        (11_100_000_000, "3 h 5 min ahead of"),
        (-1_800_000_000_000_000, "20833 d 8 h behind"),
    ] {
        assert_eq!(distance(ahead), words);
    }
    assert_eq!([utc(0), utc(420), utc(-210)], ["UTC", "UTC+7", "UTC-3:30"]);
}
