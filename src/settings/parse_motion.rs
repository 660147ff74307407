//! Parser of the section `motion`: detection, zones and rules.

use toml::{Table, Value};

use super::rules::{CrossingDirection, Hours, Rule, RulePriority, Trigger};
use super::section::Section;
use super::{MotionSettings, Zone, ZoneKind};

/// Zones at most: each is compared with every tracked object in every picture.
const ZONES_MAX: usize = 32;
/// Rules at most: each can have an open event, and the agent follows eight.
const RULES_MAX: usize = 8;
/// Corners of one zone at most.
const CORNERS_MAX: usize = 32;
/// Spans of hours in one rule at most.
const HOURS_MAX: usize = 14;
/// Weekdays as they stand in `hours`, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Speed limit of a rule, picture widths per second: no vehicle is faster.
const SPEED_MAX: f32 = 100.0;

pub(super) fn motion(mut section: Section<'_>) -> MotionSettings {
    let enabled = section.flag("enabled", true);
    let sensitivity = section.number("sensitivity", 1..=10, 5) as u8;
    let fps = section.number("fps", 1..=10, 5) as f32;
    let quiet_after = section.duration("quiet_after", 1, 60, 5);
    let max_event = section.duration("max_event", 10, 600, 120);
    let cooldown = section.duration("cooldown", 0, 3600, 0);
    let utc_offset = section
        .take("utc_offset", "an offset from UTC such as \"+07:00\"", offset)
        .unwrap_or(7 * 60);
    let gating = section.flag("gating", true);
    let cpu = section.number("cpu", 5..=100, 50) as u8;
    let max_temperature = section.number("max_temperature", 40..=120, 80) as u8;
    let zones = tables(&mut section, "zones", ZONES_MAX, zone);
    let rules = tables(&mut section, "rules", RULES_MAX, |section| rule(section, &zones, cooldown));
    section.finish();
    MotionSettings {
        enabled,
        sensitivity,
        fps,
        zones,
        rules,
        quiet_after,
        max_event,
        cooldown,
        utc_offset,
        gating,
        cpu,
        max_temperature,
    }
}

/// Parses a list of tables, each with `read`.
fn tables<T>(
    parent: &mut Section<'_>,
    key: &str,
    most: usize,
    read: impl Fn(Section<'_>) -> Option<T>,
) -> Vec<T> {
    let want = format!("a list of tables [[motion.{key}]]");
    let list = parent.take(key, &want, |value| value.as_array().cloned()).unwrap_or_default();
    if list.len() > most {
        parent.bad(key, format!("has {} entries, the maximum is {most}", list.len()));
        return Vec::new();
    }
    // By what is written: an entry with another fault has its name all the same.
    same_names(parent, key, list.iter().filter_map(|value| value.get("name")?.as_str()));
    let entry = |(number, value): (usize, Value)| {
        let Value::Table(table) = value else {
            parent.bad(key, format!("entry {number} must be a table"));
            return None;
        };
        read(entry_of(parent, key, number, table))
    };
    list.into_iter().enumerate().filter_map(entry).collect()
}

fn entry_of<'a>(parent: &Section<'a>, key: &str, number: usize, table: Table) -> Section<'a> {
    Section { path: format!("{}[{number}]", parent.key(key)), table, problems: parent.problems }
}

fn same_names<'n>(section: &Section<'_>, key: &str, names: impl Iterator<Item = &'n str>) {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            section.bad(key, format!("has two entries named {name:?}"));
        }
        seen.push(name);
    }
}

fn name(section: &mut Section<'_>) -> Option<String> {
    let want = "1 to 32 characters of a-z 0-9 '-' '_'";
    let name = section.text("name").or_else(|| section.missing("name", want))?;
    let good = (1..=32).contains(&name.len())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'));
    if !good {
        section.bad("name", format!("must be {want}"));
    }
    good.then_some(name)
}

fn zone(mut section: Section<'_>) -> Option<Zone> {
    let name = name(&mut section);
    let kinds = [
        ("include", ZoneKind::Include),
        ("exclude", ZoneKind::Exclude),
        ("privacy", ZoneKind::Privacy),
    ];
    let kind = section.one_of("kind", &kinds, ZoneKind::Include);
    let want = format!("3 to {CORNERS_MAX} corners [x, y] from 0 to 1, origin top left");
    let polygon = section.take("polygon", &want, |value| points(value, 3, CORNERS_MAX));
    let polygon = polygon.or_else(|| section.missing("polygon", &want));
    section.finish();
    Some(Zone { name: name?, kind, polygon: polygon? })
}

fn rule(mut section: Section<'_>, zones: &[Zone], cooldown: u64) -> Option<Rule> {
    let name = name(&mut section);
    let on = trigger(&mut section);
    let want = "a list of names of include zones";
    let named = section.take("zones", want, |value| {
        value
            .as_array()?
            .iter()
            .map(|name| name.as_str().map(String::from))
            .collect::<Option<Vec<_>>>()
    });
    let named = named.unwrap_or_default();
    for name in &named {
        if !zones.iter().any(|zone| zone.name == *name && zone.kind == ZoneKind::Include) {
            section.bad(
                "zones",
                format!("names {name:?}, which is not an include zone of motion.zones"),
            );
        }
    }
    if matches!(on, Some(Trigger::Enter | Trigger::Exit))
        && !zones.iter().any(|zone| zone.kind == ZoneKind::Include)
    {
        section.bad("on", "enter and exit need an include zone in motion.zones");
    }
    let min_height = section.decimal("min_height", 0.0..=1.0, 0.0);
    let horizon = section.decimal("horizon", 0.0..=0.99, 0.0);
    let speed = [
        section.decimal("min_speed", 0.0..=SPEED_MAX, 0.0),
        section.decimal("max_speed", 0.0..=SPEED_MAX, SPEED_MAX),
    ];
    if speed[0] >= speed[1] {
        section.bad("max_speed", "must be above min_speed");
    }
    let heading = section.take(
        "heading",
        "two angles [from, to] from 0 to 360, clockwise from up",
        |value| {
            let [from, to] = value.as_array()?.as_slice() else { return None };
            Some([decimal(from, &(0.0..=360.0))?, decimal(to, &(0.0..=360.0))?])
        },
    );
    let want = format!("a list of at most {HOURS_MAX} texts such as \"mon-fri 22:00-05:00\"");
    let hours = section.take("hours", &want, |value| {
        let list = value.as_array().filter(|list| list.len() <= HOURS_MAX)?;
        list.iter().map(|text| hours(text.as_str()?)).collect::<Option<Vec<_>>>()
    });
    let cooldown = section.duration("cooldown", 0, 3600, cooldown / 1_000_000);
    let (clip, snapshot) = (section.flag("clip", true), section.flag("snapshot", true));
    let words = [RulePriority::Low, RulePriority::Normal, RulePriority::High]
        .map(|priority| (priority.as_str(), priority));
    let priority = section.one_of("priority", &words, RulePriority::Normal);
    section.finish();
    let hours = hours.unwrap_or_default();
    Some(Rule {
        name: name?,
        on: on?,
        zones: named,
        min_height,
        horizon,
        speed,
        heading,
        hours,
        cooldown,
        clip,
        snapshot,
        priority,
    })
}

/// Parses the trigger; rejects keys of other triggers.
fn trigger(section: &mut Section<'_>) -> Option<Trigger> {
    let words = ["presence", "enter", "exit", "cross", "dwell"];
    let on = section.one_of("on", &words.map(|word| (word, word)), "presence");
    let directions = [
        ("any", CrossingDirection::Any),
        ("left", CrossingDirection::Left),
        ("right", CrossingDirection::Right),
    ];
    let has_direction = section.table.contains_key("direction");
    let way = section.one_of("direction", &directions, CrossingDirection::Any);
    let line = section.take("line", "two different points [x, y] from 0 to 1", |value| {
        let line: [[f32; 2]; 2] = points(value, 2, 2)?.try_into().ok()?;
        (line[0] != line[1]).then_some(line)
    });
    let has_dwell_time = section.table.contains_key("dwell_time");
    let dwell_time = section.duration("dwell_time", 1, 600, 10);
    if on != "cross" && (line.is_some() || has_direction) {
        section.bad(
            if has_direction { "direction" } else { "line" },
            "belongs to on = \"cross\" only",
        );
    }
    if on != "dwell" && has_dwell_time {
        section.bad("dwell_time", "belongs to on = \"dwell\" only");
    }
    match on {
        "enter" => Some(Trigger::Enter),
        "exit" => Some(Trigger::Exit),
        "dwell" => Some(Trigger::Dwell(dwell_time)),
        "cross" => {
            let line = line
                .or_else(|| section.missing("line", "two points, e.g. [[0.1, 0.6], [0.9, 0.6]]"))?;
            Some(Trigger::Cross { line, way })
        }
        _ => Some(Trigger::Presence),
    }
}

/// `"+07:00"` → minutes east.
fn offset(value: &Value) -> Option<i32> {
    let text = value.as_str()?;
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let minutes = clock(&text[1..])?;
    (minutes <= 14 * 60).then_some(sign * i32::from(minutes))
}

/// `"22:05"` → minutes; 24:00 is the end of a day.
fn clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str, most: u16| {
        let two = text.len() == 2 && text.chars().all(|c| c.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| two && *number <= most)
    };
    let minutes = digits(hours, 24)? * 60 + digits(minutes, 59)?;
    (minutes <= 24 * 60).then_some(minutes)
}

/// `"mon-fri 22:00-05:00"`, `"sat,sun 00:00-24:00"`, `"06:00-18:00"`.
fn hours(text: &str) -> Option<Hours> {
    let (days, span) = text.trim().split_once(' ').unwrap_or(("mon-sun", text.trim()));
    let day = |text: &str| DAYS.iter().position(|day| *day == text);
    let mut bits = 0_u8;
    for part in days.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        (0..=(last + 7 - first) % 7).for_each(|more| bits |= 1 << ((first + more) % 7));
    }
    let (from, to) = span.split_once('-')?;
    let (from, to) = (clock(from)?, clock(to)?);
    (from < 24 * 60).then_some(Hours { days: bits, from, to: to % (24 * 60) })
}

fn decimal(value: &Value, range: &std::ops::RangeInclusive<f32>) -> Option<f32> {
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))? as f32;
    range.contains(&number).then_some(number)
}

fn points(value: &Value, least: usize, most: usize) -> Option<Vec<[f32; 2]>> {
    let point = |value: &Value| match value.as_array()?.as_slice() {
        [x, y] => Some([decimal(x, &(0.0..=1.0))?, decimal(y, &(0.0..=1.0))?]),
        _ => None,
    };
    let points = value.as_array()?.iter().map(point).collect::<Option<Vec<_>>>()?;
    (least..=most).contains(&points.len()).then_some(points)
}

impl Section<'_> {
    /// A decimal number in a range.
    fn decimal(&mut self, key: &str, range: std::ops::RangeInclusive<f32>, default: f32) -> f32 {
        let want = format!("a number from {} to {}", range.start(), range.end());
        self.take(key, &want, |value| decimal(value, &range)).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse::{Problems, parse};

    fn with(motion: &str) -> Result<MotionSettings, Problems> {
        let text = format!(
            "site = \"km-17\"\ncamera.main_url = \"rtsp://10.0.0.2/main\"\nstorage.dir = \"/ring\"\nuplink.host = \"127.0.0.1\"\n[motion]\n{motion}"
        );
        parse(&text, &|_| Err("none".into())).map(|settings| settings.motion)
    }

    const ZONES: &str =
        "zones = [{ name = \"road\", polygon = [[0, 0.5], [1, 0.5], [1, 1], [0, 1]] }]\n";

    #[test]
    fn a_name_used_twice_is_named_beside_other_faults() {
        let named =
            with("zones = [{ name = \"a\" }, { name = \"a\", polygon = [[0, 0], [1, 1]] }]")
                .unwrap_err()
                .to_string();
        let all = ["two entries named \"a\"", "zones[0].polygon", "zones[1].polygon"];
        assert!(all.iter().all(|what| named.contains(what)), "{named}");
    }

    #[test]
    fn a_rule_of_every_kind_is_parsed() {
        let text = format!(
            "{ZONES}cooldown = \"30 s\"\nrules = [\n\
             {{ name = \"any\" }},\n\
             {{ name = \"in\", on = \"enter\", zones = [\"road\"], hours = [\"mon-fri 22:00-05:00\", \"sat,sun 00:00-24:00\"] }},\n\
             {{ name = \"out\", on = \"exit\", priority = \"high\", clip = false }},\n\
             {{ name = \"wrong-way\", on = \"cross\", line = [[0.1, 0.6], [0.9, 0.6]], direction = \"left\", cooldown = \"0 s\" }},\n\
             {{ name = \"loiter\", on = \"dwell\", dwell_time = \"20 s\", min_height = 0.1, horizon = 0.3, heading = [300, 60], min_speed = 0.1 }},\n]"
        );
        let motion = with(&text).unwrap();
        let [any, enter, exit, cross, dwell] = motion.rules.as_slice() else {
            panic!("{:?}", motion.rules)
        };
        assert_eq!((any.on, any.cooldown, any.clip), (Trigger::Presence, 30_000_000, true));
        assert_eq!((enter.on, enter.zones[0].as_str()), (Trigger::Enter, "road"));
        let night = Hours { days: 0b1_1111, from: 1320, to: 300 };
        assert_eq!(enter.hours, [night, Hours { days: 0b110_0000, from: 0, to: 0 }]);
        assert_eq!((exit.priority, exit.clip, exit.snapshot), (RulePriority::High, false, true));
        assert_eq!(
            cross.on,
            Trigger::Cross { line: [[0.1, 0.6], [0.9, 0.6]], way: CrossingDirection::Left }
        );
        assert_eq!((dwell.on, dwell.heading), (Trigger::Dwell(20_000_000), Some([300.0, 60.0])));
    }

    #[test]
    fn every_error_in_a_rule_names_its_key() {
        let bad = [
            ("{ on = \"enter\" }", "motion.rules[0].name"),
            ("{ name = \"Gate\" }", "motion.rules[0].name"),
            ("{ name = \"a\", on = \"cross\" }", "motion.rules[0].line"),
            (
                "{ name = \"a\", on = \"cross\", line = [[0.1, 0.1], [0.1, 0.1]] }",
                "motion.rules[0].line",
            ),
            ("{ name = \"a\", direction = \"left\" }", "motion.rules[0].direction"),
            ("{ name = \"a\", dwell_time = \"3 s\" }", "motion.rules[0].dwell_time"),
            ("{ name = \"a\", zones = [\"lake\"] }", "motion.rules[0].zones"),
            ("{ name = \"a\", hours = [\"someday\"] }", "motion.rules[0].hours"),
            ("{ name = \"a\", hours = [\"25:00-26:00\"] }", "motion.rules[0].hours"),
            ("{ name = \"a\", min_speed = 2, max_speed = 1 }", "motion.rules[0].max_speed"),
            ("{ name = \"a\", heading = [0, 400] }", "motion.rules[0].heading"),
            ("{ name = \"a\", colour = \"red\" }", "motion.rules[0].colour"),
            ("{ name = \"a\" }, { name = \"a\" }", "motion.rules"),
        ];
        for (rule, key) in bad {
            let problems = with(&format!("{ZONES}rules = [{rule}]")).unwrap_err();
            assert!(problems.0.iter().any(|problem| problem.key == key), "{rule}: {problems}");
        }
        assert!(
            with("rules = [{ name = \"a\", on = \"enter\" }]").is_err(),
            "enter without a zone"
        );
        assert!(
            with("utc_offset = \"7\"").is_err()
                && with("utc_offset = \"-03:30\"").unwrap().utc_offset == -210
        );
    }
}
