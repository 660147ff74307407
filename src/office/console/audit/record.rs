//! One record of the audit trail as text, and back.
//!
//! A record is lines of `name value`, each ended by one line feed, in a fixed order; a line without
//! a value is left out. docs/audit-trail.md is the format. Values that come from outside are
//! escaped ([`word`]): no value contains a space, a line feed or an invisible character, so none
//! can forge a line or a field. A text has exactly one record, and a record exactly one text.

pub use super::act::Act;
use crate::escape::shown;
use crate::listed_enum::listed_enum;
use crate::office::console::people::purpose::PurposeKind;
use crate::office::console::people::rights::Role;
use crate::units::{Digest, SiteId, WallTime};

/// First line of each record: the format and its version.
pub const HEADER: &str = "taimat audit 1";
/// Characters of one value at most; a longer value is cut, with `…` at its end.
pub const VALUE_MAX: usize = 200;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A user of the console.
    User {
        /// The user's number.
        id: i64,
        /// The name at the time of the act.
        name: String,
        /// The role under which it was done; `None` where no role is needed.
        role: Option<Role>,
    },
    /// A name that was typed and is not (yet) proven.
    Unproven(String),
    /// The command line; the number is the user id of the operating system.
    CommandLine(u32),
    /// The office itself.
    Office,
}

/// Who acts, from where and why: the part of a record that a session gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who.
    pub who: Actor,
    /// Public number of the session; empty without one.
    pub session: String,
    /// Address of the request; empty without one.
    pub from: String,
    /// Purpose, with the number of the case or request.
    pub purpose: Option<(PurposeKind, String)>,
}

impl Origin {
    /// The office itself.
    pub fn office() -> Origin {
        Origin { who: Actor::Office, session: String::new(), from: String::new(), purpose: None }
    }

    /// The command line, run by a user of the operating system.
    pub fn command_line(uid: u32) -> Origin {
        Origin { who: Actor::CommandLine(uid), ..Origin::office() }
    }

    /// A name that was typed at an address.
    pub fn unproven(name: &str, from: &str) -> Origin {
        Origin { who: Actor::Unproven(name.to_owned()), from: from.to_owned(), ..Origin::office() }
    }
}

listed_enum! {
    /// How the act ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Outcome {
        /// It was done, or is done as soon as this record is written.
        Ok,
        /// It was refused.
        Denied,
        /// It failed.
        Failed,
    }

    /// All outcomes.
    pub const ALL;
}

impl Outcome {
    /// The outcome's name in the trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Denied => "denied",
            Outcome::Failed => "failed",
        }
    }
}

/// What is done, as a caller gives it; [`Entry::record`] adds the number, the chain and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The act.
    pub act: Act,
    /// The site, where there is one.
    pub site: Option<SiteId>,
    /// Range of the footage in wall time.
    pub range: Option<(WallTime, WallTime)>,
    /// Kind and id of the object, e.g. `file` and its id; more words may follow.
    pub object: Vec<String>,
    /// Free text of the reason; the record has its digest.
    pub reason: Option<String>,
    /// How it ended.
    pub result: Outcome,
}

impl Entry {
    /// An act that succeeds, on nothing in particular.
    pub fn of(act: Act) -> Entry {
        let (site, range, object, reason) = (None, None, Vec::new(), None);
        Entry { act, site, range, object, reason, result: Outcome::Ok }
    }

    /// With a site.
    #[must_use]
    pub fn site(mut self, site: &SiteId) -> Entry {
        self.site = Some(site.clone());
        self
    }

    /// With a range of footage.
    #[must_use]
    pub fn range(mut self, from: WallTime, to: WallTime) -> Entry {
        self.range = Some((from, to));
        self
    }

    /// With one more word of the object, e.g. `file`, then its id.
    #[must_use]
    pub fn object(mut self, word: impl Into<String>) -> Entry {
        self.object.push(word.into());
        self
    }

    /// With a reason in words.
    #[must_use]
    pub fn reason(mut self, text: impl Into<String>) -> Entry {
        self.reason = Some(text.into());
        self
    }

    /// With another result.
    #[must_use]
    pub fn result(mut self, result: Outcome) -> Entry {
        self.result = result;
        self
    }
}

/// Number of a record in the trail; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct AuditNumber(pub u64);

/// A record of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number; one more than that of the record before.
    pub n: AuditNumber,
    /// Digest of the record before; zeros for the first.
    pub prev: Digest,
    /// When, to the millisecond.
    pub t: WallTime,
    /// Who, from where and why.
    pub origin: Origin,
    /// The act.
    pub act: Act,
    /// The site.
    pub site: Option<SiteId>,
    /// Range of the footage in wall time, to the millisecond.
    pub range: Option<(WallTime, WallTime)>,
    /// Words of the object.
    pub object: Vec<String>,
    /// Digest of the reason's text.
    pub reason: Option<Digest>,
    /// How it ended.
    pub result: Outcome,
}

impl Entry {
    /// The record of this entry.
    pub fn record(&self, origin: &Origin, n: AuditNumber, prev: Digest, now: WallTime) -> Record {
        let mut origin = origin.clone();
        match &mut origin.who {
            Actor::User { name, .. } | Actor::Unproven(name) => *name = cut(name),
            Actor::CommandLine(_) | Actor::Office => {}
        }
        origin.session = cut(&origin.session);
        origin.from = cut(&origin.from);
        origin.purpose = origin.purpose.map(|(kind, number)| (kind, cut(&number)));
        Record {
            n,
            prev,
            t: to_millisecond(now),
            origin,
            act: self.act,
            site: self.site.clone(),
            range: self.range.map(|(from, to)| (to_millisecond(from), to_millisecond(to))),
            object: self.object.iter().map(|word| cut(word)).collect(),
            reason: self.reason.as_ref().map(|text| Digest::of(text.as_bytes())),
            result: self.result,
        }
    }
}

/// The value within [`VALUE_MAX`] characters.
fn cut(value: &str) -> String {
    if value.chars().nth(VALUE_MAX).is_none() {
        return value.to_owned();
    }
    value.chars().take(VALUE_MAX - 1).chain(['…']).collect()
}

fn to_millisecond(time: WallTime) -> WallTime {
    // What lies beyond the calendar is its end, as it is written.
    let micros = time.timestamp().as_microsecond();
    WallTime(micros.div_euclid(1_000) * 1_000)
}

/// One word of a record for a value from outside: every space, control or invisible character and
/// every backslash is written `\u{HEX}`; an empty value is `-`, and a value `-` is escaped.
pub fn word(value: &str) -> String {
    match value {
        "" => return "-".to_owned(),
        "-" => return "\\u{2d}".to_owned(),
        _ => {}
    }
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if c == '\\' || c.is_whitespace() || is_invisible(c) {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

fn is_invisible(c: char) -> bool {
    let mut buffer = [0; 4];
    let text = c.encode_utf8(&mut buffer);
    shown(text) != *text
}

/// The value of a word.
fn value(word: &str) -> Option<String> {
    if word == "-" {
        return Some(String::new());
    }
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (digits, after) = rest[at..].strip_prefix("\\u{")?.split_once('}')?;
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

impl Record {
    /// The text of the record: what is hashed and stored.
    pub fn text(&self) -> String {
        let origin = &self.origin;
        let mut out = format!("{HEADER}\n");
        let mut line = |name: &str, value: String| {
            out.push_str(name);
            out.push(' ');
            out.push_str(&value);
            out.push('\n');
        };
        line("n", self.n.0.to_string());
        line("prev", self.prev.hex());
        line("t", self.t.rfc3339());
        line("who", who_text(&origin.who));
        if !origin.session.is_empty() {
            line("session", word(&origin.session));
        }
        if !origin.from.is_empty() {
            line("from", word(&origin.from));
        }
        line("act", self.act.as_str().to_owned());
        if let Some(site) = &self.site {
            line("site", site.as_str().to_owned());
        }
        if let Some((from, to)) = self.range {
            line("range", format!("{} {}", from.rfc3339(), to.rfc3339()));
        }
        if !self.object.is_empty() {
            let words: Vec<String> = self.object.iter().map(|value| word(value)).collect();
            line("object", words.join(" "));
        }
        if let Some((kind, number)) = &origin.purpose {
            let number =
                if number.is_empty() { String::new() } else { format!(" {}", word(number)) };
            line("purpose", format!("{}{number}", kind.as_str()));
        }
        if let Some(reason) = self.reason {
            line("reason", reason.hex());
        }
        line("result", self.result.as_str().to_owned());
        out
    }

    /// Parses the text of a record.
    ///
    /// # Errors
    /// A sentence when the text is not exactly that of a record.
    pub fn parse(text: &str) -> Result<Record, String> {
        let record = parse_lines(text).map_err(|name| format!("line {name:?} is malformed"))?;
        if record.text() != text {
            return Err("the text is not the one of its fields".to_owned());
        }
        Ok(record)
    }
}

fn who_text(who: &Actor) -> String {
    match who {
        Actor::User { id, name, role } => {
            format!("u{id} {} {}", word(name), role.map_or("-", Role::as_str))
        }
        Actor::Unproven(name) => format!("unproven {} -", word(name)),
        Actor::CommandLine(uid) => format!("command_line uid:{uid} -"),
        Actor::Office => "office - -".to_owned(),
    }
}

fn parse_who(text: &str) -> Option<Actor> {
    let mut words = text.split(' ');
    let (kind, name, role) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    Some(match kind {
        "office" => Actor::Office,
        "command_line" => Actor::CommandLine(name.strip_prefix("uid:")?.parse().ok()?),
        "unproven" => Actor::Unproven(value(name)?),
        _ => {
            let role = if role == "-" { None } else { Some(Role::parse(role)?) };
            Actor::User { id: kind.strip_prefix('u')?.parse().ok()?, name: value(name)?, role }
        }
    })
}

/// Parses the lines in any order; [`Record::parse`] compares with the one right text.
fn parse_lines(text: &str) -> Result<Record, &'static str> {
    let find = |name: &'static str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    let need = |name: &'static str| find(name).ok_or(name);
    let plain = |name: &'static str| match find(name) {
        None => Ok(String::new()),
        Some(word) => value(word).filter(|value| !value.is_empty()).ok_or(name),
    };
    let digest = |name: &'static str, text: &str| Digest::from_hex(text).ok_or(name);
    let time = |name: &'static str, text: &str| WallTime::parse(text).map_err(|_| name);
    let range = match find("range") {
        None => None,
        Some(text) => {
            let (from, to) = text.split_once(' ').ok_or("range")?;
            Some((time("range", from)?, time("range", to)?))
        }
    };
    let purpose = match find("purpose") {
        None => None,
        Some(text) => {
            let (kind, number) = text.split_once(' ').unwrap_or((text, "-"));
            let kind = PurposeKind::parse(kind).ok_or("purpose")?;
            Some((kind, value(number).ok_or("purpose")?))
        }
    };
    let object = find("object").map_or(Ok(Vec::new()), |text| {
        text.split(' ').map(|word| value(word).ok_or("object")).collect()
    })?;
    let result = need("result")?;
    let origin = Origin {
        who: parse_who(need("who")?).ok_or("who")?,
        session: plain("session")?,
        from: plain("from")?,
        purpose,
    };
    Ok(Record {
        n: AuditNumber(need("n")?.parse().map_err(|_| "n")?),
        prev: digest("prev", need("prev")?)?,
        t: time("t", need("t")?)?,
        origin,
        act: Act::parse(need("act")?).ok_or("act")?,
        site: find("site").map(|site| SiteId::parse(site).map_err(|_| "site")).transpose()?,
        range,
        object,
        reason: find("reason").map(|text| digest("reason", text)).transpose()?,
        result: Outcome::ALL.into_iter().find(|known| known.as_str() == result).ok_or("result")?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The record of docs/audit-trail.md.
    pub(crate) fn sample() -> Record {
        let origin = Origin {
            who: Actor::User { id: 7, name: "tran.van.b".into(), role: Some(Role::Operator) },
            session: "9f0c3a55".into(),
            from: "10.1.4.21".into(),
            purpose: Some((PurposeKind::Case, "2026-0031".into())),
        };
        let time = |text| WallTime::parse(text).unwrap();
        Entry::of(Act::PlaybackStart)
            .site(&SiteId::parse("km-17").unwrap())
            .range(time("2026-11-24T02:08:00Z"), time("2026-11-24T02:12:30Z"))
            .object("file")
            .object("7be1")
            .reason("Va chạm trước chợ")
            .record(
                &origin,
                AuditNumber(10_442),
                Digest::of(b"the record before"),
                time("2026-11-24T02:31:07.412Z"),
            )
    }

    const GOLDEN: &str = "taimat audit 1
n 10442
prev GOLDEN_PREV
t 2026-11-24T02:31:07.412Z
who u7 tran.van.b operator
session 9f0c3a55
from 10.1.4.21
act playback.start
site km-17
range 2026-11-24T02:08:00.000Z 2026-11-24T02:12:30.000Z
object file 7be1
purpose case 2026-0031
reason GOLDEN_REASON
result ok
";

    #[test]
    fn the_text_of_a_record_is_the_golden_one() {
        let text = sample().text();
        let golden = GOLDEN
            .replace("GOLDEN_PREV", &Digest::of(b"the record before").hex())
            .replace("GOLDEN_REASON", &Digest::of("Va chạm trước chợ".as_bytes()).hex());
        assert_eq!(text, golden);
        assert_eq!(
            Digest::of(text.as_bytes()).hex(),
            "cf1e788a61592a04935000bb4ea5847612f634770913b6c3eee1e7e4a587f0b4"
        );
        assert_eq!(Record::parse(&text), Ok(sample()));
        let docs = include_str!("../../../../docs/audit-trail.md");
        assert!(docs.contains(&text), "docs/audit-trail.md shows another record:\n{text}");
        for act in Act::ALL {
            assert_eq!(Act::parse(act.as_str()), Some(act));
            assert!(docs.contains(&format!("| `{}` |", act.as_str())), "{}", act.as_str());
        }
    }

    #[test]
    fn no_value_forges_a_line_or_a_field() {
        let evil = "x\nact logout\nresult ok \u{2028}\u{202e}\r\t\\u{a} admin";
        let mut origin = Origin::unproven(evil, evil);
        origin.session = evil.to_owned();
        origin.purpose = Some((PurposeKind::Case, evil.to_owned()));
        let entry = Entry::of(Act::Denied).object(evil).object("").object("-").object("a b");
        let record = entry.record(&origin, AuditNumber(1), Digest::default(), WallTime(0));
        let text = record.text();
        assert_eq!(text.lines().count(), 11, "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("act ")).count(), 1);
        assert_eq!(Record::parse(&text), Ok(record));
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let origin = Origin::unproven(&"ễ".repeat(9_000), "::1");
        let record = Entry::of(Act::LoginFailed).record(
            &origin,
            AuditNumber(1),
            Digest::default(),
            WallTime(0),
        );
        let Actor::Unproven(name) = &record.origin.who else { panic!("{record:?}") };
        assert_eq!((name.chars().count(), name.chars().last()), (VALUE_MAX, Some('…')));
        assert_eq!(Record::parse(&record.text()), Ok(record));
    }

    #[test]
    fn a_text_with_other_lines_or_order_is_refused() {
        let text = sample().text();
        let moved = text.replace("site km-17\n", "") + "site km-17\n";
        let doubled = text.replace("result ok\n", "result ok\nresult ok\n");
        let added = text.clone() + "note x\n";
        for bad in [moved, doubled, added, text.trim_end().to_owned(), text.to_uppercase()] {
            assert!(Record::parse(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_word_is_read_back(text in any::<String>()) {
            let written = word(&text);
            prop_assert!(!written.contains([' ', '\n']) && !written.is_empty());
            prop_assert_eq!(value(&written), Some(text));
        }

        #[test]
        fn a_flipped_byte_is_no_record_or_another_one(at in 0usize..400, bit in 0u8..8) {
            let mut bytes = sample().text().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert_ne!(Record::parse(&text), Ok(sample()));
            }
        }
    }
}
