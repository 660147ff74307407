//! Parser of the configuration: TOML text to [`Settings`], or all problems at once.
//!
//! The caller passes a reader for the files that the configuration names.

use std::cell::RefCell;
use std::path::Path;

use toml::{Table, Value};

use super::parse_motion::motion;
use super::section::Section;
pub use super::section::{KEYS, Problem, Problems};
pub use super::values::is_host;
use super::values::shown;
use super::{
    BandwidthSettings, Broker, CameraSettings, ClipSettings, FileProtocol, Integrations, KeyScope,
    Login, Protocol, QuietHours, RemoteSettings, Settings, StorageSettings, TlsSettings, Transport,
    TrustedKey, UplinkSettings,
};
use crate::units::{Digest, Secret, SiteId};

/// Fallback brokers at most: a disconnected device tries each in turn, and a round must stay short.
const FALLBACKS_MAX: usize = 3;
/// Enrolled keys at most.
const KEYS_MAX: usize = 8;
/// Bytes of a login at most: a larger file is not a login.
const LOGIN_MAX: usize = 512;

/// Reads a file that a configuration names; returns its text or the error.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

/// The parts of a configuration that can be read, whatever else is wrong with it, and what that is.
#[derive(Debug, Default)]
pub struct Parsed {
    /// All of it, with defaults where a key is bad; there when every part is.
    pub whole: Option<Settings>,
    /// The site.
    pub site: Option<SiteId>,
    /// The ring.
    pub storage: Option<StorageSettings>,
    /// The office.
    pub uplink: Option<UplinkSettings>,
    /// Every bad key.
    pub problems: Vec<Problem>,
}

/// Parses a configuration.
///
/// # Errors
/// All bad keys.
pub fn parse(text: &str, read: ReadFile<'_>) -> Result<Settings, Problems> {
    match parts(text, read) {
        Parsed { whole: Some(settings), problems, .. } if problems.is_empty() => Ok(settings),
        Parsed { problems, .. } => Err(Problems(problems)),
    }
}

/// Parses what can be parsed, for who judges the parts further although others are bad.
pub fn parts(text: &str, read: ReadFile<'_>) -> Parsed {
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            let at = error
                .span()
                .map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let problem = Problem { key: format!("line {at}"), reason: error.message().to_owned() };
            return Parsed { problems: vec![problem], ..Parsed::default() };
        }
    };
    let problems = RefCell::new(Vec::new());
    let mut root = Section { path: String::new(), table, problems: &problems };
    let named = root
        .text("site")
        .and_then(|text| SiteId::parse(&text).map_err(|reason| root.bad("site", reason)).ok());
    let site = named.or_else(|| {
        root.missing("site", "the name of this place, a-z 0-9 and '-', e.g. \"km-17\"")
    });
    let camera = camera(root.section("camera"), read);
    let storage = storage(root.section("storage"), site.clone());
    let motion = motion(root.section("motion"));
    let clip = clip(root.section("clip"));
    let uplink = uplink(root.section("uplink"), read);
    let remote = remote(root.section("remote"));
    root.finish();
    let whole = site.clone().zip(camera).zip(storage.clone()).zip(uplink.clone());
    let whole = whole.map(|(((site, camera), storage), uplink)| Settings {
        site,
        camera,
        storage,
        motion,
        clip,
        uplink,
        remote,
    });
    Parsed { whole, site, storage, uplink, problems: problems.into_inner() }
}

/// The form of a camera's URL.
const EXAMPLE: &str = "e.g. rtsp://192.168.1.20/stream1";

fn rtsp_url(section: &mut Section<'_>, key: &str) -> Option<url::Url> {
    let text = section.text(key)?;
    let parsed = match url::Url::parse(&text) {
        // The check precedes the parser: a password with a slash can make `@` part of the path.
        _ if text.contains('@') => {
            Err("must hold no login: write it into a file and name that in camera.login_file"
                .into())
        }
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            Err(format!("must start with rtsp://, {EXAMPLE}"))
        }
        Err(error) => Err(format!("is not a URL: {error}; {EXAMPLE}")),
        Ok(url) if url.scheme() != "rtsp" => {
            Err(format!("must start with rtsp:// ({EXAMPLE}), not with {}:", url.scheme()))
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => {
            Err(format!("has no host; {EXAMPLE}"))
        }
        Ok(url) if !is_host(url.host_str().unwrap_or_default().trim_matches(['[', ']'])) => Err(
            format!("{:?} is no name and no address of a host", url.host_str().unwrap_or_default()),
        ),
        Ok(url) => Ok(url),
    };
    parsed.map_err(|reason| section.bad(key, reason)).ok()
}

/// Reads `login_file`: one line `user:password`.
fn login(section: &mut Section<'_>, read: ReadFile<'_>) -> Option<Login> {
    let path = section.path("login_file")?;
    let parsed = read(&path).and_then(|text| {
        let line = text.trim_end_matches(['\n', '\r']);
        let one_line = line.len() <= LOGIN_MAX && !line.contains(char::is_control);
        let (user, password) =
            line.split_once(':').filter(|_| one_line).ok_or("must hold one line user:password")?;
        Ok(Login { user: user.to_owned(), password: Secret::new(password) })
    });
    parsed.map_err(|reason| section.bad("login_file", format!("{}: {reason}", path.display()))).ok()
}

fn camera(mut section: Section<'_>, read: ReadFile<'_>) -> Option<CameraSettings> {
    let main_url = rtsp_url(&mut section, "main_url")
        .or_else(|| section.missing("main_url", &format!("the RTSP URL to record, {EXAMPLE}")));
    let sub_url = rtsp_url(&mut section, "sub_url");
    let login = login(&mut section, read);
    let audio = section.flag("audio", true);
    let transport = section.one_of(
        "transport",
        &[("tcp", Transport::Tcp), ("udp", Transport::Udp)],
        Transport::Tcp,
    );
    let stall_after = section.duration("stall_after", 1, 60, 5);
    let reconnect_after = section.duration("reconnect_after", 2, 300, 15);
    if reconnect_after < stall_after {
        section.bad("reconnect_after", "must not be shorter than camera.stall_after");
    }
    section.finish();
    Some(CameraSettings {
        main_url: main_url?,
        sub_url,
        login,
        audio,
        transport,
        stall_after,
        reconnect_after,
    })
}

fn storage(mut section: Section<'_>, site: Option<SiteId>) -> Option<StorageSettings> {
    let dir = section.path("dir").or_else(|| {
        section.missing("dir", "where the recording goes, e.g. \"/var/lib/taimat/ring\"")
    });
    let require_mount = section.flag("require_mount", true);
    let segment = section.size("segment", 256 << 10, 1 << 30, 16 << 20);
    let budget = section.size("budget", 1 << 20, 1 << 43, 8 << 30);
    if !segment.is_multiple_of(4096) {
        section.bad("segment", "must be a multiple of 4 KiB (of 4 MiB on cards)");
    }
    if budget < segment * 4 {
        section.bad("budget", "must hold at least 4 segments");
    }
    let journal_slots = section.number("journal_slots", 64..=131_072, 2048) as u32;
    let snapshot_slots = section.number("snapshot_slots", 1..=4096, 64) as u32;
    let still_bytes = section.size("snapshot_size", 16 << 10, 4 << 20, 256 << 10) as u32;
    let pin_quota = section.number("pin_quota", 10..=90, 50) as u8;
    let endurance = section.size("endurance", 0, 1 << 53, 0);
    section.finish();
    let (dir, still_bytes) = (dir?, still_bytes & !4095);
    Some(StorageSettings {
        dir,
        require_mount,
        budget,
        segment,
        journal_slots,
        snapshot_slots,
        still_bytes,
        pin_quota,
        endurance,
        site,
    })
}

fn clip(mut section: Section<'_>) -> ClipSettings {
    let settings = ClipSettings {
        enabled: section.flag("enabled", true),
        snapshot: section.flag("snapshot", true),
        pre_roll: section.duration("pre_roll", 0, 30, 5),
        post_roll: section.duration("post_roll", 0, 60, 5),
        max_requested: section.duration("max_requested", 10, 3600, 600),
    };
    section.finish();
    settings
}

fn uplink(mut section: Section<'_>, read: ReadFile<'_>) -> Option<UplinkSettings> {
    let allow_plain = section.flag("allow_plain", false);
    let fallbacks = section
        .take("fallbacks", "a list of tables [[uplink.fallbacks]]", |value| {
            value.as_array().cloned()
        })
        .unwrap_or_default();
    if fallbacks.len() > FALLBACKS_MAX {
        section.bad(
            "fallbacks",
            format!("has {} brokers, the maximum is {FALLBACKS_MAX}", fallbacks.len()),
        );
    }
    let first = broker(&mut section, allow_plain, read);
    let fallbacks: Vec<Broker> = fallbacks
        .into_iter()
        .enumerate()
        .filter_map(|(i, value)| further(&section, i, value, allow_plain, read))
        .collect();
    for (i, one) in fallbacks.iter().enumerate() {
        let before =
            first.iter().chain(&fallbacks[..i]).any(|other| other.address() == one.address());
        if before {
            section.bad("fallbacks", format!("names {}:{} twice", one.host, one.port));
        }
    }
    let versions = [("auto", None), ("5", Some(Protocol::V5)), ("3.1.1", Some(Protocol::V311))];
    let protocol = section.one_of("protocol", &versions, None);
    let keep_alive = (section.duration("keep_alive", 5, 600, 30) / 1_000_000) as u16;
    let outbox_bytes = section.size("outbox", 1 << 20, 1 << 40, 1 << 30);
    let chunk = section.size("chunk", 4 << 10, 256 << 10, 64 << 10) as u32;
    let health_every = (section.duration("health_every", 5, 3600, 60) / 1_000_000) as u16;
    let quiet = section.take("quiet_hours", "hours such as \"22:00-05:30+07:00\"", |value| {
        QuietHours::parse(value.as_str()?)
    });
    let pace = BandwidthSettings {
        rate_cap: section.size("rate_cap", 0, 1 << 30, 0),
        day_budget: section.size("day_budget", 0, 1 << 44, 0),
        month_budget: section.size("month_budget", 0, 1 << 44, 0),
        quiet,
    };
    let files = section.one_of(
        "files",
        &[("own", FileProtocol::Own), ("emqx", FileProtocol::Emqx)],
        FileProtocol::Own,
    );
    let integrations = section
        .take("integrations", "a list of homeassistant, frigate, onvif", integrations)
        .unwrap_or_default();
    section.finish();
    let Broker { host, port, tls, login } = first?;
    Some(UplinkSettings {
        host,
        port,
        tls,
        login,
        protocol,
        keep_alive,
        outbox_bytes,
        chunk,
        health_every,
        fallbacks,
        pace,
        files,
        integrations,
    })
}

fn integrations(value: &Value) -> Option<Integrations> {
    let mut integrations = Integrations::default();
    for word in value.as_array()? {
        match word.as_str()? {
            "homeassistant" => integrations.home_assistant = true,
            "frigate" => integrations.frigate = true,
            "onvif" => integrations.onvif = true,
            _ => return None,
        }
    }
    Some(integrations)
}

fn broker(section: &mut Section<'_>, allow_plain: bool, read: ReadFile<'_>) -> Option<Broker> {
    let host = section
        .text("host")
        .or_else(|| section.missing("host", "name or address of the office's broker"));
    if let Some(wrong) = host.as_deref().filter(|host| !is_host(host)) {
        let what = "must be the name or the address of a host alone (its port is another key)";
        section.bad("host", format!("{what}, not {}", shown(&Value::from(wrong))));
    }
    let tls = tls(section, read);
    let port = section.number("port", 1..=65_535, if tls.is_some() { 8883 } else { 1883 }) as u16;
    let local = host.as_deref().is_some_and(is_local);
    if tls.is_none() && host.as_deref().is_some_and(is_host) && !local && !allow_plain {
        section.bad("ca_file", "is missing: without TLS only a broker on this machine is allowed (or uplink.allow_plain = true)");
    }
    let login = login(section, read);
    Some(Broker { host: host?, port, tls, login })
}

/// One table of `uplink.fallbacks`.
fn further(
    parent: &Section<'_>,
    number: usize,
    value: Value,
    allow_plain: bool,
    read: ReadFile<'_>,
) -> Option<Broker> {
    let Value::Table(table) = value else {
        parent.bad("fallbacks", format!("entry {number} must be a table"));
        return None;
    };
    let mut section =
        Section { path: format!("uplink.fallbacks[{number}]"), table, problems: parent.problems };
    let broker = broker(&mut section, allow_plain, read);
    section.finish();
    broker
}

fn remote(mut section: Section<'_>) -> RemoteSettings {
    let trial = section.duration("trial", 60, 3600, 600) / 1_000_000;
    let want = format!(
        "a list of at most {KEYS_MAX} texts \"NAME:PUBLIC\" or \"NAME:commands:PUBLIC\", as taimat keygen --office prints them"
    );
    let keys = section.take("keys", &want, |value| {
        value.as_array()?.iter().map(trusted_key).collect::<Option<Vec<_>>>()
    });
    let keys = keys.unwrap_or_default();
    let twice = |(i, key): (usize, &TrustedKey)| {
        keys[..i].iter().any(|other| other.public == key.public || other.name == key.name)
    };
    if keys.len() > KEYS_MAX || keys.iter().enumerate().any(twice) {
        section.bad("keys", format!("must be {want}, each name and key once"));
    }
    section.finish();
    RemoteSettings { keys, trial }
}

/// `NAME:64 hex digits`, or `NAME:commands:64 hex digits`.
fn trusted_key(value: &Value) -> Option<TrustedKey> {
    let (name, rest) = value.as_str()?.split_once(':')?;
    let (scope, public) = match rest.split_once(':') {
        None => (KeyScope::All, rest),
        Some((KeyScope::WORD, public)) => (KeyScope::Commands, public),
        Some(_) => return None,
    };
    let word = (1..=32).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.');
    let public = Digest::from_hex(public)?.0;
    word.then(|| TrustedKey { name: name.to_owned(), public, scope })
}

/// True for a host on this machine. A name such as `127.example` may be anywhere.
pub fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.parse::<core::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls(section: &mut Section<'_>, read: ReadFile<'_>) -> Option<TlsSettings> {
    let (ca, cert, key) =
        (section.path("ca_file"), section.path("cert_file"), section.path("key_file"));
    for (name, path) in [("ca_file", &ca), ("cert_file", &cert), ("key_file", &key)] {
        if let Some(Err(reason)) = path.as_ref().map(|path| read(path)) {
            section.bad(
                name,
                format!(
                    "{}: {reason}",
                    path.as_ref().map(|p| p.display().to_string()).unwrap_or_default()
                ),
            );
        }
    }
    if cert.is_some() != key.is_some() {
        section.bad(
            if cert.is_some() { "key_file" } else { "cert_file" },
            "is missing: certificate and key go together",
        );
    }
    if ca.is_none() && cert.is_some() {
        section.bad(
            "ca_file",
            "is missing: a client certificate needs TLS, and TLS needs the authority of the broker",
        );
    }
    Some(TlsSettings { ca: ca?, identity: cert.zip(key) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &Path) -> Result<String, String> {
        match path.to_str() {
            Some("/login") => Ok("admin:pa:ss\n".into()),
            Some("/pem") => Ok("-----BEGIN".into()),
            _ => Err("No such file or directory".into()),
        }
    }

    const SMALLEST: &str = r#"
        site = "km-17"
        camera.main_url = "rtsp://10.0.0.2/main"
        storage.dir = "/ring"
        uplink.host = "127.0.0.1"
    "#;

    #[test]
    fn a_key_that_needs_quotes_is_named_with_them() {
        let problems = parse("'' = 0\n[camera]\n'a b' = 1\n", &files).unwrap_err();
        let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
        assert!(keys.contains(&"\"\"") && keys.contains(&"camera.\"a b\""), "{keys:?}");
    }

    #[test]
    fn four_keys_are_enough_and_the_rest_has_defaults() {
        let settings = parse(SMALLEST, &files).unwrap();
        assert_eq!(
            (settings.uplink.port, settings.clip.pre_roll, settings.storage.segment),
            (1883, 5_000_000, 16 << 20)
        );
        assert!(settings.storage.require_mount);
    }

    #[test]
    fn every_bad_key_is_reported_at_once_with_its_name() {
        let text = r#"
            sight = "x"
            [camera]
            main_url = "http://cam/"
            sub_url = "rtsp://admin:hunter2@cam/"
            stal_after = "5 s"
            login_file = "/nowhere"
            [storage]
            segment = "5000 B"
            pin_quota = 99
            [motion]
            zones = [{ name = "a b", polygon = [[0, 0], [1, 1]] }]
            [uplink]
            host = "office.example"
            cert_file = "/pem"
            chunk = 65536
        "#;
        let problems = parse(text, &files).unwrap_err();
        let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
        let expected = [
            "site",
            "camera.main_url",
            "camera.sub_url",
            "camera.login_file",
            "camera.stal_after",
            "storage.dir",
            "storage.segment",
            "storage.pin_quota",
            "motion.zones[0].name",
            "motion.zones[0].polygon",
            "uplink.key_file",
            "uplink.ca_file",
            "uplink.chunk",
            "sight",
        ];
        for key in expected {
            assert!(keys.contains(&key), "{key} was not reported: {keys:?}");
        }
        let text = problems.to_string();
        assert!(
            text.contains("did you mean camera.stall_after") && text.contains("/nowhere"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "a password was printed: {text}");
    }

    #[test]
    fn a_path_that_names_no_file_is_a_bad_key() {
        for path in ["", "\\u0000", "/ring\\u001b[31m", "/a\\u0007", "\\n"] {
            for (key, text) in [
                ("storage.dir", SMALLEST.replace("/ring", path)),
                ("camera.login_file", format!("{SMALLEST}\ncamera.login_file = \"{path}\"")),
                ("uplink.ca_file", format!("{SMALLEST}\nuplink.ca_file = \"{path}\"")),
            ] {
                let problems = parse(&text, &files).unwrap_err();
                assert!(
                    problems.0.iter().any(|problem| problem.key == key),
                    "{key} {path}: {problems}"
                );
                assert!(
                    !problems.to_string().contains(|c: char| c.is_control() && c != '\n'),
                    "{problems:?}"
                );
            }
        }
    }

    #[test]
    fn a_login_in_a_url_is_refused_and_not_shown() {
        for url in [
            "admin:12/345@10.0.0.2/s",
            "admin:2024#abc@10.0.0.2/s",
            "admin:1?x@10.0.0.2/s",
            "a@10.0.0.2/s",
        ] {
            let text = SMALLEST.replace("10.0.0.2/main", url);
            let problems = parse(&text, &files).unwrap_err();
            assert_eq!(problems.0[0].key, "camera.main_url");
            assert!(
                !["345", "abc", "1?x"].iter().any(|secret| problems.to_string().contains(secret)),
                "{problems}"
            );
        }
    }

    #[test]
    fn a_password_may_hold_a_colon_and_never_shows() {
        let settings =
            parse(&format!("{SMALLEST}\ncamera.login_file = \"/login\""), &files).unwrap();
        assert_eq!(settings.camera.login.as_ref().unwrap().password.reveal(), "pa:ss");
        assert!(!format!("{settings:?}").contains("pa:ss"));
    }

    #[test]
    fn a_key_has_the_scope_that_stands_before_it_or_none() {
        let key = "ab".repeat(32);
        let scope = |text: &str| {
            let text = format!("{SMALLEST}\n[remote]\nkeys = [{text:?}]");
            parse(&text, &files).map(|settings| settings.remote.keys[0].scope)
        };
        assert_eq!(scope(&format!("office:{key}")), Ok(KeyScope::All));
        assert_eq!(scope(&format!("desk:commands:{key}")), Ok(KeyScope::Commands));
        for wrong in [
            format!("desk:all:{key}"),
            format!("desk::{key}"),
            format!("desk:commands:commands:{key}"),
        ] {
            assert!(scope(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn plain_tcp_goes_to_this_machine_only() {
        let with = |host: &str| parse(&SMALLEST.replace("127.0.0.1", host), &files);
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1"] {
            assert!(with(host).is_ok(), "{host}");
        }
        for host in [
            "127.evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.2",
            "::2",
        ] {
            assert!(
                with(host).is_err_and(|problems| problems.0[0].key == "uplink.ca_file"),
                "{host}"
            );
        }
    }

    #[test]
    fn a_host_that_can_be_none_is_refused() {
        for host in ["mqtt://office", "office:8883", "a b", "", "192.168.1.300", "office/"] {
            let refused = parse(&SMALLEST.replace("127.0.0.1", host), &files).unwrap_err();
            assert!(
                refused.0.len() == 1 && refused.0[0].key == "uplink.host",
                "{host:?}: {refused}"
            );
        }
        let refused = parse(
            &format!("{SMALLEST}\ncamera.sub_url = \"rtsp://192.168.1.300/\"\nuplink.port = 0"),
            &files,
        );
        let keys: Vec<String> =
            refused.unwrap_err().0.into_iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["camera.sub_url", "uplink.port"], "each beside the others");
    }

    #[test]
    fn a_camera_url_of_another_form_says_how_it_begins() {
        for url in [
            "192.168.1.20/stream1",
            "camera",
            "http://10.0.0.2/",
            "rtsps://10.0.0.2/",
            "",
            "rtsp:///s",
        ] {
            let refused =
                parse(&SMALLEST.replace("rtsp://10.0.0.2/main", url), &files).unwrap_err();
            let reason = &refused.0[0].reason;
            assert!(
                refused.0[0].key == "camera.main_url" && reason.contains("rtsp://192.168.1.20/"),
                "{url:?}: {refused}"
            );
        }
    }

    #[test]
    fn text_that_is_not_toml_names_its_line() {
        assert_eq!(parse("site = \"a\"\n[camera\n", &files).unwrap_err().0[0].key, "line 2");
    }

    #[test]
    fn every_key_is_known_to_the_parser() {
        for key in KEYS {
            let value = if *key == "site" {
                "site = 1".to_owned()
            } else {
                format!("{key} = {{ nonsense = 1 }}")
            };
            let problems = parse(&value, &files).unwrap_err();
            let problem = problems
                .0
                .iter()
                .find(|problem| problem.key == *key)
                .unwrap_or_else(|| panic!("{key} is not reported"));
            assert!(!problem.reason.contains("not a key"), "{key} is listed but not read");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = parse(&text, &files);
        }
    }
}
