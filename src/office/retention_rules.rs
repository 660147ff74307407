//! Rules of the retention by purpose and site, below the ceilings of the office.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::error::ArchiveError;
use crate::listed_enum::listed_enum;

/// Rules at most: a few for each group of sites.
const RULES_MAX: usize = 1_000;
/// Sites of all rules together at most: each purpose of each site of the archive.
const SITES_MAX: usize = 40_000;
/// Days of a rule at most: a hundred years.
const DAYS_MAX: u32 = 36_500;

listed_enum! {
    /// What a rule is about.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum RetentionPurpose {
        /// Clips of motion events.
        Clip,
        /// Snapshots.
        Snapshot,
        /// Requested ranges and pictures.
        Requested,
        /// Events, motion events, gaps and presence.
        Event,
    }

    /// All of them.
    pub const ALL;
}

impl RetentionPurpose {
    /// The name in the index and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            RetentionPurpose::Clip => "clip",
            RetentionPurpose::Snapshot => "snapshot",
            RetentionPurpose::Requested => "requested",
            RetentionPurpose::Event => "event",
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// What it is about.
    pub purpose: RetentionPurpose,
    /// The sites of its group; `None` for all sites without a rule of their own.
    pub sites: Option<BTreeSet<String>>,
    /// Days since the receipt, 1 or more.
    pub days: u32,
}

/// The rules of the console. Of two rules for one purpose and site the longer one counts: what is
/// deleted does not come back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionRules {
    /// The rules.
    pub rules: Vec<RetentionRule>,
}

impl RetentionRules {
    /// Checks the bounds.
    ///
    /// # Errors
    /// `Invalid` with the bound.
    pub fn check(&self) -> Result<(), ArchiveError> {
        let sites: usize =
            self.rules.iter().filter_map(|rule| rule.sites.as_ref()).map(BTreeSet::len).sum();
        if self.rules.len() > RULES_MAX || sites > SITES_MAX {
            return Err(ArchiveError::Invalid(format!(
                "at most {RULES_MAX} rules with {SITES_MAX} sites together"
            )));
        }
        match self.rules.iter().find(|rule| !(1..=DAYS_MAX).contains(&rule.days)) {
            Some(rule) => Err(ArchiveError::Invalid(format!(
                "a rule has 1 to {DAYS_MAX} days, not {}",
                rule.days
            ))),
            None => Ok(()),
        }
    }

    /// Days that each site keeps a purpose, for quick look-ups.
    pub(crate) fn by_site(&self) -> SiteDays {
        let mut days = SiteDays::default();
        for rule in &self.rules {
            let longer = |known: &mut u32| *known = (*known).max(rule.days);
            match &rule.sites {
                None => longer(days.others.entry(rule.purpose).or_default()),
                Some(sites) => sites.iter().for_each(|site| {
                    longer(days.own.entry((site.clone(), rule.purpose)).or_default());
                }),
            }
        }
        days
    }
}

/// [`RetentionRules`] by site and purpose.
#[derive(Debug, Default)]
pub(crate) struct SiteDays {
    own: BTreeMap<(String, RetentionPurpose), u32>,
    others: BTreeMap<RetentionPurpose, u32>,
}

impl SiteDays {
    /// Days that a site keeps a purpose; `None` for ever. A ceiling of 0 is none.
    pub(crate) fn days(&self, site: &str, purpose: RetentionPurpose, ceiling: u32) -> Option<u32> {
        let own = self.own.get(&(site.to_owned(), purpose));
        let ruled = own.or_else(|| self.others.get(&purpose)).copied();
        match (ruled, ceiling) {
            (days, 0) => days,
            (days, ceiling) => Some(days.map_or(ceiling, |days| days.min(ceiling))),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(purpose: RetentionPurpose, sites: &[&str], days: u32) -> RetentionRule {
        let own = sites.iter().map(|site| (*site).to_owned()).collect();
        let sites = if sites.is_empty() { None } else { Some(own) };
        RetentionRule { purpose, sites, days }
    }

    #[test]
    fn a_sites_own_rule_and_the_ceiling_win() {
        use RetentionPurpose::{Clip, Event, Snapshot};
        let rules = RetentionRules {
            rules: vec![
                rule(Clip, &[], 30),
                rule(Clip, &["km-17"], 10),
                rule(Clip, &["km-17", "km-18"], 5),
                rule(Snapshot, &[], 90),
            ],
        };
        let days = rules.by_site();
        assert_eq!(days.days("km-17", Clip, 0), Some(10), "the longer of two");
        assert_eq!(days.days("km-18", Clip, 0), Some(5));
        assert_eq!(days.days("km-19", Clip, 0), Some(30));
        assert_eq!(days.days("km-19", Snapshot, 60), Some(60));
        assert_eq!(days.days("km-19", Event, 0), None);
        assert_eq!(days.days("km-19", Event, 60), Some(60));
    }

    #[test]
    fn rules_beyond_their_bounds_are_refused() {
        for days in [0, DAYS_MAX + 1] {
            let rules = RetentionRules { rules: vec![rule(RetentionPurpose::Clip, &[], days)] };
            assert!(matches!(rules.check(), Err(ArchiveError::Invalid(_))));
        }
        let rules =
            RetentionRules { rules: vec![rule(RetentionPurpose::Clip, &[], 1); RULES_MAX + 1] };
        assert!(rules.check().is_err());
        assert!(RetentionRules::default().check().is_ok());
    }
}
