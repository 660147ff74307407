//! Groups, places, plan, rules of retention, settings.

use std::collections::BTreeSet;

use super::sessions::check_text;
use crate::office::console::audit::record::{Act, AuditNumber, Entry, Origin};
use crate::office::console::error::ConsoleError;
use crate::office::console::people::rights::ALL_SITES;
use crate::office::console::tables::Result;
use crate::office::console::tables::rows::{GroupRow, PlaceRow, PlanImage, RetentionRow};
use crate::office::console::writer::Store;
use crate::units::{Digest, SiteId, WallTime};

/// Groups at most.
const GROUPS_MAX: usize = 100;
/// Places at most: the sites of a large office, ten times over.
const PLACES_MAX: usize = 2_000;
/// Rules of retention at most.
const RULES_MAX: usize = 500;
/// Bytes of the plan at most.
pub const PLAN_MAX: usize = 20 << 20;
/// Characters of a name or title at most.
const NAME_MAX: usize = 100;
/// Characters of a rule's ground at most.
const GROUND_MAX: usize = 500;
/// Days of a rule at most: ten years.
const DAYS_MAX: u32 = 3_653;
/// Characters of a setting at most.
const SETTING_MAX: usize = 4_000;

fn invalid<T>(text: String) -> Result<T> {
    Err(ConsoleError::Invalid(text))
}

fn check_count(what: &str, count: usize, max: usize) -> Result<()> {
    if count > max { invalid(format!("there are {count} {what}, at most {max}")) } else { Ok(()) }
}

fn check_group(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=32).contains(&name.len()) && name.chars().all(good) {
        return Ok(());
    }
    invalid(format!("{name:?} is no group: 1 to 32 characters of a-z, 0-9 and '-'"))
}

/// Refuses a number outside of `low..=high`; NaN is outside.
fn check_number(what: &str, value: Option<f64>, low: f64, high: f64) -> Result<()> {
    match value.filter(|value| !(low..=high).contains(value)) {
        Some(value) => invalid(format!("{what} is {value}, not {low} to {high}")),
        None => Ok(()),
    }
}

/// One record for each row that differs: its key stands in the object.
fn changes<'a, T: PartialEq>(
    act: Act,
    kind: &str,
    (before, after): (&'a [T], &'a [T]),
    key: impl Fn(&'a T) -> Vec<String>,
) -> Vec<Entry> {
    let about = |row: &'a T, word: &str| {
        let entry = Entry::of(act).object(kind);
        key(row).into_iter().fold(entry, Entry::object).object(word)
    };
    let keys = |rows: &'a [T]| rows.iter().map(&key).collect::<BTreeSet<_>>();
    let (old, new) = (keys(before), keys(after));
    let removed = before.iter().filter(|row| !new.contains(&key(row)));
    let set = after.iter().filter(|row| !before.contains(row));
    let word = |row: &'a T| if old.contains(&key(row)) { "changed" } else { "added" };
    removed.map(|row| about(row, "removed")).chain(set.map(|row| about(row, word(row)))).collect()
}

impl Store {
    /// Replaces the groups of sites.
    ///
    /// # Errors
    /// `Invalid`; `Conflict` while a user or site still belongs to a group that would go.
    pub fn set_groups(
        &mut self,
        by: &Origin,
        now: WallTime,
        groups: &[GroupRow],
    ) -> Result<AuditNumber> {
        check_count("groups", groups.len(), GROUPS_MAX)?;
        let mut names = BTreeSet::new();
        for group in groups {
            check_group(&group.name)?;
            check_text("a title", &group.title_vi, NAME_MAX)?;
            check_text("a title", &group.title_en, NAME_MAX)?;
            if !names.insert(group.name.as_str()) {
                return invalid(format!("the group {:?} is given twice", group.name));
            }
        }
        let set = self.act(by, now, |tables| {
            let users = tables.users()?;
            let granted =
                users.iter().flat_map(|user| &user.grants).map(|grant| grant.group.as_str());
            let (places, rules) = (tables.places()?, tables.retention_rules()?);
            let placed = places.iter().map(|place| place.group.as_str());
            let ruled = rules.iter().map(|rule| rule.group.as_str());
            let used = granted
                .chain(placed)
                .chain(ruled)
                .find(|group| !group.is_empty() && *group != ALL_SITES && !names.contains(group));
            if let Some(used) = used {
                let advice = "take its sites, roles and rules away first";
                return Err(ConsoleError::Conflict(format!(
                    "the group {used:?} is in use; {advice}"
                )));
            }
            let before = tables.groups()?;
            tables.replace_groups(groups)?;
            let key = |group: &GroupRow| vec![group.name.clone()];
            Ok(((), changes(Act::GroupChange, "group", (&before, groups), key)))
        })?;
        Ok(set.1)
    }

    /// Replaces the places of the sites.
    ///
    /// # Errors
    /// `Invalid` for a bad value or a group that is not there.
    pub fn set_places(
        &mut self,
        by: &Origin,
        now: WallTime,
        places: &[PlaceRow],
    ) -> Result<AuditNumber> {
        check_count("places", places.len(), PLACES_MAX)?;
        let mut sites = BTreeSet::new();
        for place in places {
            SiteId::parse(&place.site).map_err(ConsoleError::Invalid)?;
            check_text("a name", &place.name_vi, NAME_MAX)?;
            check_text("a name", &place.name_en, NAME_MAX)?;
            check_number("x", place.x, 0.0, 1.0)?;
            check_number("y", place.y, 0.0, 1.0)?;
            check_number("heading", place.heading, 0.0, 360.0)?;
            check_number("fov", place.fov, 0.0, 360.0)?;
            check_number("range", place.range, 0.0, 1.0)?;
            if !sites.insert(place.site.as_str()) {
                return invalid(format!("the site {} is given twice", place.site));
            }
        }
        let set = self.act(by, now, |tables| {
            let groups = tables.groups()?;
            let is_known = |name: &str| groups.iter().any(|group| group.name == name);
            let bad =
                places.iter().find(|place| !place.group.is_empty() && !is_known(&place.group));
            if let Some(bad) = bad {
                return invalid(format!("there is no group {:?} (site {})", bad.group, bad.site));
            }
            let before = tables.places()?;
            tables.replace_places(places)?;
            // The group decides who sees the site: it stands in the record.
            let key = |place: &PlaceRow| vec![place.site.clone(), place.group.clone()];
            Ok(((), changes(Act::PlaceChange, "site", (&before, places), key)))
        })?;
        Ok(set.1)
    }

    /// Replaces the plan. The caller has decoded and encoded the image again.
    ///
    /// # Errors
    /// `Invalid` for another type, or more than 20 MiB.
    pub fn set_plan(
        &mut self,
        by: &Origin,
        now: WallTime,
        plan: &PlanImage,
    ) -> Result<AuditNumber> {
        if !["image/png", "image/jpeg"].contains(&plan.media_type.as_str()) {
            return invalid(format!(
                "{:?} is no type of a plan: image/png or image/jpeg",
                plan.media_type
            ));
        }
        if plan.bytes.len() > PLAN_MAX {
            return invalid(format!("the plan has {} bytes, at most {PLAN_MAX}", plan.bytes.len()));
        }
        let entry =
            Entry::of(Act::PlanChange).object("image").object(Digest::of(&plan.bytes).hex());
        let set = self.act(by, now, |tables| {
            tables.replace_plan(plan)?;
            Ok(((), vec![entry]))
        })?;
        Ok(set.1)
    }

    /// Replaces the rules of retention. The caller hands them to the archive afterwards.
    ///
    /// # Errors
    /// `Invalid` for a bad rule; each needs its ground in words.
    pub fn set_retention(
        &mut self,
        by: &Origin,
        now: WallTime,
        rules: &[RetentionRow],
    ) -> Result<AuditNumber> {
        check_count("rules", rules.len(), RULES_MAX)?;
        let mut keys = BTreeSet::new();
        for RetentionRow { group, purpose, days, ground } in rules {
            check_text("a ground", ground, GROUND_MAX)?;
            check_text("a purpose", purpose, NAME_MAX)?;
            if ground.trim().is_empty() || purpose.is_empty() {
                return invalid(format!(
                    "the rule for {group:?} and {purpose:?} needs a purpose and its ground in words"
                ));
            }
            if *days == 0 || *days > DAYS_MAX {
                return invalid(format!("a rule keeps footage 1 to {DAYS_MAX} days, not {days}"));
            }
            if !keys.insert((group, purpose)) {
                return invalid(format!("the rule for {group:?} and {purpose:?} is given twice"));
            }
        }
        let set = self.act(by, now, |tables| {
            let groups = tables.groups()?;
            let is_known =
                |name: &str| name == ALL_SITES || groups.iter().any(|group| group.name == name);
            if let Some(bad) = rules.iter().find(|rule| !is_known(&rule.group)) {
                return invalid(format!("there is no group {:?}", bad.group));
            }
            let before = tables.retention_rules()?;
            tables.replace_retention(rules)?;
            let key = |rule: &RetentionRow| {
                vec![rule.group.clone(), rule.purpose.clone(), format!("days:{}", rule.days)]
            };
            Ok(((), changes(Act::RetentionChange, "rule", (&before, rules), key)))
        })?;
        Ok(set.1)
    }

    /// Sets a setting of the console.
    ///
    /// # Errors
    /// `Invalid` when it is too long.
    pub fn set_setting(
        &mut self,
        by: &Origin,
        now: WallTime,
        key: &str,
        value: &str,
    ) -> Result<AuditNumber> {
        check_text("a key", key, NAME_MAX)?;
        check_text("a setting", value, SETTING_MAX)?;
        let entry = Entry::of(Act::SettingChange).object("setting").object(key);
        let set = self.act(by, now, |tables| {
            tables.set_setting(key, value)?;
            Ok(((), vec![entry]))
        })?;
        Ok(set.1)
    }
}
