//! Faults and rejections of the archive: counted, reported at most once a minute and site.
#![expect(clippy::disallowed_methods, reason = "shell: reads a clock")]

use std::collections::{HashMap, hash_map};
use std::time::{Duration, Instant};

use super::ingest_outcome::Complaint;
use super::notice::{Fault, FaultReport, Notice};
use crate::units::SiteId;

/// Pause between two reports of one kind of fault and site.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Kinds of faults counted at most, by site; further ones are not reported.
const FAULT_KINDS: usize = 256;
/// Time without a rejection after which the archive counts as recovered: a device may send one bad
/// message every few seconds.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Faults of one kind and site.
struct FaultCount {
    reported_at: Instant,
    /// Faults since the last report.
    withheld: u64,
}

/// Reports each kind of fault once a minute and site. A fault of the office itself has no site.
#[derive(Default)]
pub(super) struct FaultLog(HashMap<(Option<SiteId>, Fault), FaultCount>);

impl FaultLog {
    /// Counts faults; returns a report when one is due.
    pub(super) fn count(
        &mut self,
        site: Option<&SiteId>,
        complaint: Complaint,
        many: u64,
    ) -> Option<Notice> {
        let (now, key) = (Instant::now(), (site.cloned(), complaint.fault));
        if self.0.len() >= FAULT_KINDS && !self.0.contains_key(&key) {
            self.0.retain(|_, count| {
                count.reported_at.elapsed() < REPORT_INTERVAL || count.withheld > 0
            });
            if self.0.len() >= FAULT_KINDS {
                return None;
            }
        }
        let (count, is_repeated) = match self.0.entry(key) {
            hash_map::Entry::Vacant(first) => {
                first.insert(FaultCount { reported_at: now, withheld: 0 });
                (many, false)
            }
            hash_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                known.withheld += many;
                if known.reported_at.elapsed() < REPORT_INTERVAL {
                    return None;
                }
                known.reported_at = now;
                (std::mem::take(&mut known.withheld), true)
            }
        };
        let Complaint { fault, detail, is_disk_full } = complaint;
        Some(Notice::Fault(FaultReport {
            site: site.cloned(),
            fault,
            count,
            is_repeated,
            detail,
            is_disk_full,
        }))
    }

    /// Reports the faults withheld for a minute.
    pub(super) fn due(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        for ((site, fault), known) in &mut self.0 {
            if known.withheld > 0 && known.reported_at.elapsed() >= REPORT_INTERVAL {
                known.reported_at = Instant::now();
                notices.push(Notice::Fault(FaultReport {
                    site: site.clone(),
                    fault: *fault,
                    count: std::mem::take(&mut known.withheld),
                    is_repeated: true,
                    detail: String::new(),
                    is_disk_full: false,
                }));
            }
        }
        notices
    }
}

/// Rejections of index and disk since the archive last worked without one.
#[derive(Default)]
pub(super) struct Rejections {
    count: u64,
    last: Option<Instant>,
    /// The disk rejected bytes of a file and has accepted none since.
    pub(super) disk_is_failing: bool,
}

impl Rejections {
    pub(super) fn add(&mut self, is_disk: bool, now: Instant) {
        self.count += 1;
        self.last = Some(now);
        self.disk_is_failing |= is_disk;
    }

    /// Reports the recovery once: after a minute without a rejection, when the disk works too.
    pub(super) fn recovered(&mut self, now: Instant) -> Option<Notice> {
        let is_quiet =
            self.last.is_some_and(|last| now.saturating_duration_since(last) >= RECOVERED_AFTER);
        if !is_quiet || self.disk_is_failing {
            return None;
        }
        let Rejections { count, .. } = std::mem::take(self);
        Some(Notice::Recovered { rejected: count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(detail: &str) -> Complaint {
        Complaint { fault: Fault::MessageNotStored, detail: detail.to_owned(), is_disk_full: false }
    }

    #[test]
    fn a_fault_is_reported_at_once_and_then_withheld() {
        let site = SiteId::parse("km-17").unwrap();
        let mut faults = FaultLog::default();
        let Some(Notice::Fault(report)) =
            faults.count(Some(&site), complaint("database is locked"), 3)
        else {
            panic!("the first fault is not reported");
        };
        assert_eq!((report.count, report.is_repeated), (3, false));
        assert_eq!(faults.count(Some(&site), complaint("database is locked"), 1), None);
        assert!(
            faults.count(None, complaint("database is locked"), 1).is_some(),
            "another site has its own report"
        );
        assert!(faults.due().is_empty(), "a minute is not over");
    }

    #[test]
    fn recovery_is_reported_once_after_a_quiet_minute() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut rejections = Rejections::default();
        assert_eq!(rejections.recovered(after(1000)), None, "there was no rejection");
        rejections.add(false, after(0));
        rejections.add(false, after(30));
        assert_eq!(rejections.recovered(after(89)), None);
        assert_eq!(rejections.recovered(after(90)), Some(Notice::Recovered { rejected: 2 }));
        assert_eq!(rejections.recovered(after(500)), None, "it was reported");
        rejections.add(true, after(600));
        assert_eq!(rejections.recovered(after(900)), None, "the disk has accepted no bytes since");
        rejections.disk_is_failing = false;
        assert!(rejections.recovered(after(901)).is_some());
    }
}
