//! Figures of a health message for charts, and the differences of its counters.

use std::collections::BTreeMap;

use crate::uplink::wire::Health;

/// How two readings of one step become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    /// The newer one: a counter, or a state.
    Last,
    /// The larger one: what an operator must not overlook.
    Max,
    /// The smaller one.
    Min,
}

/// One figure of the health history.
pub(crate) struct Figure {
    /// Its name in charts.
    pub(crate) name: &'static str,
    /// The counter of the health message, or empty for a field of its own.
    counter: &'static str,
    pub(crate) combine: Combine,
}

const fn figure(name: &'static str, counter: &'static str, combine: Combine) -> Figure {
    Figure { name, counter, combine }
}

/// The figures in their stored order. New ones go to the end: older rows then lack them.
pub(crate) const FIGURES: [Figure; 20] = [
    figure("rate", "uplink.rate", Combine::Last),
    figure("backlog", "", Combine::Max),
    figure("backlog_entries", "", Combine::Max),
    figure("backlog_age", "", Combine::Max),
    figure("clock", "", Combine::Min),
    figure("recording", "", Combine::Min),
    figure("wear", "storage.worn_percent", Combine::Last),
    figure("used", "storage.used", Combine::Last),
    figure("budget", "storage.budget", Combine::Last),
    figure("available", "storage.available", Combine::Min),
    figure("pinned", "storage.pinned", Combine::Max),
    figure("memory_only", "storage.memory_only", Combine::Max),
    figure("card_faults", "storage.faults", Combine::Last),
    figure("slowest_sync_us", "storage.slowest_sync_us", Combine::Max),
    figure("connect_failures", "camera.connect_failures", Combine::Last),
    figure("lost_packets", "camera.lost_packets", Combine::Last),
    figure("blind", "motion.blind", Combine::Max),
    figure("motion_events", "motion.events", Combine::Last),
    figure("bytes_today", "uplink.bytes_today", Combine::Last),
    figure("bytes_month", "uplink.bytes_month", Combine::Last),
];

/// The figures of one step; `None` where the device does not say.
pub(crate) type Figures = [Option<u64>; FIGURES.len()];

/// The figures of a health message.
pub(crate) fn figures(health: &Health) -> Figures {
    FIGURES.map(|figure| match figure.name {
        "backlog" => Some(health.backlog.bytes),
        "backlog_entries" => Some(health.backlog.n),
        "backlog_age" => Some(health.backlog.oldest),
        "clock" => Some(health.clock as u64),
        "recording" => Some(u64::from(health.camera == "recording")),
        _ => health.counters.get(figure.counter).copied(),
    })
}

/// Two readings of one step as one; `newer` came later.
pub(crate) fn combine(older: Figures, newer: Figures) -> Figures {
    let mut both = newer;
    for (at, figure) in FIGURES.iter().enumerate() {
        both[at] = match (older[at], newer[at], figure.combine) {
            (Some(older), Some(newer), Combine::Max) => Some(older.max(newer)),
            (Some(older), Some(newer), Combine::Min) => Some(older.min(newer)),
            (older, newer, _) => newer.or(older),
        };
    }
    both
}

/// The figures as they are stored: a JSON list.
pub(crate) fn to_text(figures: &Figures) -> String {
    serde_json::to_string(figures).unwrap_or_default()
}

/// Stored figures. A row of an older version lacks the last ones.
pub(crate) fn from_text(text: &str) -> Figures {
    let stored: Vec<Option<u64>> = serde_json::from_str(text).unwrap_or_default();
    std::array::from_fn(|at| stored.get(at).copied().flatten())
}

/// Rules counted from one health message at most: a device has 8.
const RULES_MAX: usize = 16;
/// Bytes of a rule's name at most.
const RULE_MAX: usize = 64;

/// Objects that crossed a line between two health messages: by rule and direction.
///
/// Counters count since the boot. After a new boot, or on another ring, all of them are new. A
/// message that is older than the one before adds nothing.
pub(crate) fn line_counts(
    before: Option<&Health>,
    now: &Health,
) -> BTreeMap<(String, &'static str), u64> {
    let same_boot = before.filter(|before| (before.ring, before.boot) == (now.ring, now.boot));
    let mut counts = BTreeMap::new();
    if same_boot.is_some_and(|before| before.uptime > now.uptime) {
        return counts;
    }
    for (name, value) in &now.counters {
        let Some(line) = name.strip_prefix("motion.line.") else { continue };
        let Some((rule, way)) = line.rsplit_once('.') else { continue };
        let way = match way {
            "left" => "left",
            "right" => "right",
            _ => continue,
        };
        let counted = same_boot.and_then(|before| before.counters.get(name)).copied();
        let passed = value.saturating_sub(counted.unwrap_or_default());
        if passed > 0 && (1..=RULE_MAX).contains(&rule.len()) && counts.len() < RULES_MAX * 2 {
            counts.insert((rule.to_owned(), way), passed);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::RingId;

    fn health(boot: u32, uptime: u64, left: u64) -> Health {
        let counters = [("motion.line.gate.left".to_owned(), left), ("uplink.rate".into(), 1000)];
        Health { ring: RingId(1), boot, uptime, counters: counters.into(), ..Health::default() }
    }

    fn left(before: Option<&Health>, now: &Health) -> u64 {
        line_counts(before, now).values().sum()
    }

    #[test]
    fn line_counts_are_differences_and_begin_again_at_a_boot() {
        assert_eq!(left(None, &health(1, 60, 5)), 5);
        assert_eq!(left(Some(&health(1, 60, 5)), &health(1, 120, 8)), 3);
        assert_eq!(left(Some(&health(1, 120, 8)), &health(2, 30, 2)), 2);
        assert_eq!(left(Some(&health(1, 120, 8)), &health(1, 60, 5)), 0, "an older message");
        let other = Health { ring: RingId(2), ..health(1, 30, 4) };
        assert_eq!(left(Some(&health(1, 120, 8)), &other), 4);
    }

    #[test]
    fn a_flood_of_rules_is_cut_at_the_bound() {
        let counters = (0..500).map(|n| (format!("motion.line.r{n}.left"), 1)).collect();
        let flood = Health { counters, ..Health::default() };
        assert_eq!(line_counts(None, &flood).len(), RULES_MAX * 2);
    }

    #[test]
    fn figures_survive_their_stored_form_and_older_rows() {
        let figures = figures(&health(1, 60, 5));
        assert_eq!(from_text(&to_text(&figures)), figures);
        assert_eq!(figures[0], Some(1000));
        assert_eq!(from_text("[7]")[0], Some(7));
        assert_eq!(from_text("[7]")[1..], [None; FIGURES.len() - 1]);
    }

    #[test]
    fn a_step_keeps_the_worst_backlog_and_the_newest_rate() {
        let (mut older, mut newer) = (Figures::default(), Figures::default());
        (older[0], older[1], older[5]) = (Some(9), Some(100), Some(0));
        (newer[0], newer[1], newer[5]) = (Some(1), Some(50), Some(1));
        let both = combine(older, newer);
        assert_eq!((both[0], both[1], both[5]), (Some(1), Some(100), Some(0)));
    }
}
