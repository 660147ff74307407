//! Purposes: why a session looks at footage.

use crate::listed_enum::listed_enum;
use crate::units::WallTime;

/// Hours that a purpose lasts: a duty's share between two breaks.
pub const PURPOSE_HOURS: u32 = 4;
/// Characters of a case number at most.
pub const CASE_MAX: usize = 64;

listed_enum! {
    /// The kind of a purpose.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum PurposeKind {
        /// Duty watch.
        Duty,
        /// A case; its number is given.
        Case,
        /// Maintenance of cameras and devices.
        Maintenance,
        /// Supervision of others' work.
        Supervision,
        /// The request of a data subject; its number is given.
        DataSubject,
        /// Training.
        Training,
    }

    /// All kinds.
    pub const ALL;
}

impl PurposeKind {
    /// The name in the API and in the trail.
    pub fn as_str(self) -> &'static str {
        match self {
            PurposeKind::Duty => "duty",
            PurposeKind::Case => "case",
            PurposeKind::Maintenance => "maintenance",
            PurposeKind::Supervision => "supervision",
            PurposeKind::DataSubject => "data_subject",
            PurposeKind::Training => "training",
        }
    }

    /// The kind of a name.
    pub fn parse(name: &str) -> Option<PurposeKind> {
        PurposeKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// True when a number (of a case, of a request) belongs to the purpose.
    pub fn needs_number(self) -> bool {
        matches!(self, PurposeKind::Case | PurposeKind::DataSubject)
    }
}

/// The purpose of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// The kind.
    pub kind: PurposeKind,
    /// Number of the case or request; empty for the other kinds.
    pub case: String,
    /// When the purpose ends.
    pub until: WallTime,
}

impl Purpose {
    /// A purpose that begins now.
    ///
    /// # Errors
    /// A sentence when the number is missing, too long, or given where none belongs.
    pub fn begin(kind: PurposeKind, case: &str, now: WallTime) -> Result<Purpose, String> {
        let case = case.trim();
        let name = kind.as_str();
        if kind.needs_number() && case.is_empty() {
            return Err(format!("the purpose {name} needs a number"));
        }
        if !kind.needs_number() && !case.is_empty() {
            return Err(format!("the purpose {name} has no number"));
        }
        if case.chars().count() > CASE_MAX {
            return Err(format!("a number has at most {CASE_MAX} characters"));
        }
        let until = now.plus_micros(i64::from(PURPOSE_HOURS) * 3_600_000_000);
        Ok(Purpose { kind, case: case.to_owned(), until })
    }

    /// True until the purpose ends.
    pub fn holds(&self, now: WallTime) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_needs_a_number_and_a_duty_has_none() {
        let now = WallTime(0);
        assert!(Purpose::begin(PurposeKind::Case, " ", now).is_err());
        assert!(Purpose::begin(PurposeKind::Duty, "7", now).is_err());
        assert!(Purpose::begin(PurposeKind::Case, &"9".repeat(65), now).is_err());
        let purpose = Purpose::begin(PurposeKind::Case, " 2026-0031 ", now).unwrap();
        assert_eq!(purpose.case, "2026-0031");
        assert!(purpose.holds(WallTime(4 * 3_600_000_000 - 1)));
        assert!(!purpose.holds(WallTime(4 * 3_600_000_000)));
    }

    #[test]
    fn each_kind_is_found_by_its_name() {
        for kind in PurposeKind::ALL {
            assert_eq!(PurposeKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(PurposeKind::parse(""), None);
    }
}
