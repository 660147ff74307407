//! Configuration file of the office (`office.toml`): TOML text to [`OfficeConfig`], or all problems
//! at once, each with its line.
//!
//! What belongs here: keys, their types and ranges, without I/O. What does not: flags, which win
//! over the file (`cli/office_file.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::units::SiteId;

/// Bytes of the file at most.
pub const FILE_MAX: u64 = 64 << 10;
/// Days and GiB of a ceiling at most: a hundred years, a pebibyte.
const DAYS_MAX: u64 = 36_500;
const GIB_MAX: u64 = 1 << 20;
/// Where the console listens unless `web.listen` says otherwise.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);

/// All keys, in the order of deploy/office.toml.
pub const KEYS: [&str; 20] = [
    "dir",
    "host",
    "sites",
    "broker.host",
    "broker.port",
    "broker.ca_file",
    "broker.cert_file",
    "broker.key_file",
    "broker.login_file",
    "broker.allow_plain",
    "broker.protocol",
    "retention.max_days",
    "retention.max_gib",
    "web.enabled",
    "web.listen",
    "web.cert_file",
    "web.key_file",
    "web.tiles_file",
    "keys.sign_file",
    "keys.metrics_token_file",
];
const SECTIONS: [&str; 4] = ["broker", "retention", "web", "keys"];

/// How the office reaches the broker; `None` where the file does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Host name or address.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// PEM of the certificate authority.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain of the office.
    pub cert_file: Option<PathBuf>,
    /// PEM key of this certificate.
    pub key_file: Option<PathBuf>,
    /// File with one line user:password.
    pub login_file: Option<PathBuf>,
    /// A broker on another machine without TLS is allowed.
    pub allow_plain: Option<bool>,
    /// `auto`, `5`, `3.1.1`.
    pub protocol: Option<String>,
}

/// The web console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// `office run` listens.
    pub enabled: bool,
    /// Address and port.
    pub listen: SocketAddr,
    /// PEM certificate chain and PEM key; without them only a loopback address may be listened on.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// MBTiles file of a map below the plan.
    pub tiles_file: Option<PathBuf>,
}

/// The configuration of an office.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfficeConfig {
    /// Directory of the archive.
    pub dir: Option<PathBuf>,
    /// Name of the archive in its presence topic.
    pub host: Option<String>,
    /// The sites to receive; empty for all.
    pub sites: Vec<SiteId>,
    /// The broker.
    pub broker: BrokerConfig,
    /// Days that files and events are kept at most.
    pub max_days: Option<u32>,
    /// GiB of all files at most.
    pub max_gib: Option<u64>,
    /// The console.
    pub web: WebConfig,
    /// Signing key of the office's commands.
    pub sign_file: Option<PathBuf>,
    /// File with the token of `/metrics`.
    pub metrics_token_file: Option<PathBuf>,
}

impl Default for OfficeConfig {
    fn default() -> OfficeConfig {
        OfficeConfig {
            dir: None,
            host: None,
            sites: Vec::new(),
            broker: BrokerConfig::default(),
            max_days: None,
            max_gib: None,
            web: WebConfig { enabled: false, listen: LISTEN, identity: None, tiles_file: None },
            sign_file: None,
            metrics_token_file: None,
        }
    }
}

/// A bad key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key, e.g. `web.listen`.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

/// All problems of a file, by line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, ConfigProblem { line, key, reason }) in self.0.iter().enumerate() {
            write!(f, "{}line {line}: {key}: {reason}", if at > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

/// A value of the file with its line.
struct Entry<'a> {
    line: usize,
    value: DeValue<'a>,
}

/// The entries that no key has taken yet, and the problems so far.
struct Entries<'a> {
    entries: BTreeMap<String, Entry<'a>>,
    lines: BTreeMap<String, usize>,
    problems: Vec<ConfigProblem>,
}

impl<'a> Entries<'a> {
    fn bad(&mut self, key: &str, reason: impl Into<String>) {
        let line = self.lines.get(key).copied().unwrap_or(1);
        self.problems.push(ConfigProblem { line, key: key.into(), reason: reason.into() });
    }

    /// Takes a value that `read` understands; `allowed` says what that is.
    fn take<T>(
        &mut self,
        key: &str,
        allowed: &str,
        read: impl FnOnce(&DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entries.remove(key)?;
        let read = read(&entry.value);
        if read.is_none() {
            self.bad(key, format!("must be {allowed}"));
        }
        read
    }

    fn text(&mut self, key: &str, allowed: &str, good: impl Fn(&str) -> bool) -> Option<String> {
        self.take(key, allowed, |value| value.as_str().filter(|text| good(text)).map(str::to_owned))
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key, "a path, e.g. \"/etc/taimat-office/file.pem\"", |text| !text.is_empty())
            .map(PathBuf::from)
    }

    fn number(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        self.take(key, &format!("a whole number from {min} to {max}"), |value| {
            let digits = value.as_integer()?;
            let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok()?;
            Some(number).filter(|number| (min..=max).contains(number))
        })
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.take(key, "true or false", DeValue::as_bool)
    }
}

/// Parses the file.
///
/// # Errors
/// All bad keys, each with its line and what is allowed.
pub fn parse(text: &str) -> Result<OfficeConfig, ConfigProblems> {
    let line_at = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(span.start));
        let (key, reason) = ("TOML".to_owned(), error.message().to_owned());
        ConfigProblems(vec![ConfigProblem { line, key, reason }])
    })?;
    let mut entries =
        Entries { entries: BTreeMap::new(), lines: BTreeMap::new(), problems: Vec::new() };
    for (name, value) in table.into_inner() {
        let (line, name) = (line_at(name.span().start), name.into_inner().into_owned());
        match value.into_inner() {
            DeValue::Table(section) if SECTIONS.contains(&name.as_str()) => {
                for (key, value) in section {
                    let line = line_at(key.span().start);
                    let key = format!("{name}.{}", key.into_inner());
                    entries.lines.insert(key.clone(), line);
                    entries.entries.insert(key, Entry { line, value: value.into_inner() });
                }
            }
            value => {
                entries.lines.insert(name.clone(), line);
                entries.entries.insert(name, Entry { line, value });
            }
        }
    }
    let config = read(&mut entries);
    let Entries { entries, mut problems, .. } = entries;
    problems.extend(entries.into_iter().map(|(key, entry)| ConfigProblem {
        line: entry.line,
        reason: unknown(&key),
        key,
    }));
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(config) } else { Err(ConfigProblems(problems)) }
}

/// Names the keys of the section of an unknown key.
fn unknown(key: &str) -> String {
    let section = key.split_once('.').map_or("", |(section, _)| section);
    if section.is_empty() && SECTIONS.contains(&key) {
        return format!("is a section: write [{key}] and its keys below");
    }
    let known: Vec<&str> = KEYS
        .iter()
        .filter_map(|known| match known.split_once('.') {
            Some((of, name)) if of == section => Some(name),
            None if section.is_empty() => Some(known),
            _ => None,
        })
        .collect();
    format!("unknown key; known are {}", known.join(", "))
}

fn read(entries: &mut Entries<'_>) -> OfficeConfig {
    let is_name = |text: &str| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let sites = entries.take("sites", "a list of site ids, e.g. [\"km-17\"]", |value| {
        let list = value.as_array()?.iter();
        list.map(|site| SiteId::parse(site.get_ref().as_str()?).ok()).collect::<Option<Vec<_>>>()
    });
    OfficeConfig {
        dir: entries.path("dir"),
        host: entries.text("host", "1 to 32 of a-z 0-9 and '-'", is_name),
        sites: sites.unwrap_or_default(),
        broker: broker(entries),
        max_days: entries
            .number("retention.max_days", 0, DAYS_MAX)
            .and_then(|days| u32::try_from(days).ok()),
        max_gib: entries.number("retention.max_gib", 0, GIB_MAX),
        web: web(entries),
        sign_file: entries.path("keys.sign_file"),
        metrics_token_file: entries.path("keys.metrics_token_file"),
    }
}

fn broker(entries: &mut Entries<'_>) -> BrokerConfig {
    let is_host = |text: &str| {
        (1..=253).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_'))
    };
    let broker = BrokerConfig {
        host: entries.text("broker.host", "a host name or an address without a port", is_host),
        port: entries
            .number("broker.port", 1, u64::from(u16::MAX))
            .and_then(|port| u16::try_from(port).ok()),
        ca_file: entries.path("broker.ca_file"),
        cert_file: entries.path("broker.cert_file"),
        key_file: entries.path("broker.key_file"),
        login_file: entries.path("broker.login_file"),
        allow_plain: entries.flag("broker.allow_plain"),
        protocol: entries.text("broker.protocol", "\"auto\", \"5\" or \"3.1.1\"", |text| {
            matches!(text, "auto" | "5" | "3.1.1")
        }),
    };
    match (&broker.cert_file, &broker.key_file) {
        (Some(_), None) => entries.bad("broker.cert_file", "needs broker.key_file beside it"),
        (None, Some(_)) => entries.bad("broker.key_file", "needs broker.cert_file beside it"),
        (Some(_), Some(_)) if broker.ca_file.is_none() => {
            entries.bad("broker.cert_file", "needs broker.ca_file, which switches TLS on");
        }
        _ => {}
    }
    broker
}

fn web(entries: &mut Entries<'_>) -> WebConfig {
    let enabled = entries.flag("web.enabled").unwrap_or(false);
    let allowed = "an address and a port, e.g. \"127.0.0.1:8443\" or \"[::]:8443\"";
    let listen = entries.take("web.listen", allowed, |value| value.as_str()?.parse().ok());
    let listen: SocketAddr = listen.unwrap_or(LISTEN);
    let (cert, key) = (entries.path("web.cert_file"), entries.path("web.key_file"));
    match (&cert, &key) {
        (Some(_), None) => entries.bad("web.cert_file", "needs web.key_file beside it"),
        (None, Some(_)) => entries.bad("web.key_file", "needs web.cert_file beside it"),
        (None, None) if enabled && !listen.ip().is_loopback() => entries.bad(
            "web.listen",
            "an address of other machines needs web.cert_file and web.key_file; without them listen on 127.0.0.1",
        ),
        _ => {}
    }
    WebConfig {
        enabled,
        listen,
        identity: cert.zip(key),
        tiles_file: entries.path("web.tiles_file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_bad_key_is_named_with_line_and_allowed_values() {
        let text = "dir = 7\nhost = \"Ä\"\nsites = [\"km 17\"]\n[broker]\nport = 0\nprotocol = \"4\"\ncert_file = \"a\"\nallow_plain = 1\nnonsense = 1\n\
            [retention]\nmax_days = -1\nmax_gib = 2000000\n[web]\nenabled = true\nlisten = \"0.0.0.0:443\"\n[colour]\n";
        let lines: Vec<String> = problem(text).lines().map(str::to_owned).collect();
        let expected = [
            "line 1: dir: must be a path",
            "line 2: host: must be 1 to 32 of",
            "line 3: sites: must be a list",
            "line 5: broker.port: must be a whole number from 1 to 65535",
            "line 6: broker.protocol: must be \"auto\"",
            "line 7: broker.cert_file: needs broker.key_file",
            "line 8: broker.allow_plain: must be true or false",
            "line 9: broker.nonsense: unknown key; known are host, port",
            "line 11: retention.max_days: must be a whole number from 0 to 36500",
            "line 12: retention.max_gib: must be a whole number from 0 to 1048576",
            "line 15: web.listen: an address of other machines",
            "line 16: colour: unknown key; known are dir, host, sites",
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn text_that_is_not_toml_names_its_line() {
        assert!(problem("dir = \"a\"\n[web\n").starts_with("line 2: TOML: "));
        assert!(problem("web = true\n").contains("write [web]"));
    }

    #[test]
    fn an_empty_file_has_the_defaults_and_no_listener() {
        let config = parse("").unwrap();
        assert_eq!(config, OfficeConfig::default());
        assert!(!config.web.enabled && config.web.listen.ip().is_loopback());
    }

    #[test]
    fn the_example_is_valid_and_has_every_key() {
        let example = include_str!("../../deploy/office.toml");
        let whole: String = example
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let plain = parse(example).unwrap();
        assert!(!plain.web.enabled, "off by default");
        let config = parse(&whole).unwrap();
        assert!(config.web.identity.is_some() && config.broker.login_file.is_some());
        for key in KEYS {
            let last = key.rsplit('.').next().unwrap();
            let stands = example
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&format!("{last} = ")));
            assert!(stands, "{key}");
            let documented = include_str!("../../docs/office.md").contains(&format!("| `{key}` |"));
            assert!(documented, "{key} is not in docs/office.md");
        }
    }
}
