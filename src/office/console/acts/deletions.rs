//! Records of what the retention deleted.

use std::collections::BTreeMap;

use crate::office::console::audit::record::{Act, Entry, Origin};
use crate::office::console::tables::Result;
use crate::office::console::writer::Store;
use crate::office::queries::rows::DeletedTotal;
use crate::office::retention_rules::RetentionPurpose;
use crate::units::{SiteId, WallTime};

/// What a call of [`Store::record_deletions`] wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Sites with a new record.
    pub sites: Vec<String>,
    /// A site that was not due has deletions without a record.
    pub has_withheld: bool,
}

/// The setting that holds which sum the trail has.
fn key(total: &DeletedTotal) -> String {
    format!("deleted {} {}", total.site, total.purpose)
}

impl Store {
    /// Writes one record for each site of which the archive deleted files that no record has, if
    /// the site is due. What the trail has is stored in the same transaction: a power cut neither
    /// loses a deletion nor records it twice.
    ///
    /// # Errors
    /// `Trail` when the records cannot be written; the next call writes them.
    pub fn record_deletions(
        &mut self,
        now: WallTime,
        totals: &[DeletedTotal],
        is_due: impl Fn(&str) -> bool,
    ) -> Result<Recorded> {
        let mut changed: BTreeMap<&str, Vec<(&DeletedTotal, u64, u64)>> = BTreeMap::new();
        for total in totals {
            let noted = self.tables().setting(&key(total))?.unwrap_or_default();
            let mut numbers = noted.split(' ').map(|number| number.parse::<u64>().unwrap_or(0));
            let (files, bytes) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            // Less than noted: an older index was put back. All of it counts again: a deletion that
            // stands twice in the trail is better than one that is missing.
            let (files, bytes) = if total.files < files { (0, 0) } else { (files, bytes) };
            if total.files > files {
                let more = (total, total.files - files, total.bytes.saturating_sub(bytes));
                changed.entry(&total.site).or_default().push(more);
            }
        }
        let all = changed.len();
        changed.retain(|site, _| is_due(site));
        let sites: Vec<String> = changed.keys().map(|site| (*site).to_owned()).collect();
        let recorded = Recorded { has_withheld: sites.len() < all, sites };
        if changed.is_empty() {
            return Ok(recorded);
        }
        self.act(&Origin::office(), now, |tables| {
            for (total, ..) in changed.values().flatten() {
                tables.set_setting(&key(total), &format!("{} {}", total.files, total.bytes))?;
            }
            Ok(((), changed.iter().map(|(site, rows)| entry(site, rows)).collect()))
        })?;
        Ok(recorded)
    }
}

fn entry(site: &str, rows: &[(&DeletedTotal, u64, u64)]) -> Entry {
    // Events are no files: they stand behind the files' sums with their number alone.
    let files = rows.iter().filter(|(total, ..)| total.purpose != RetentionPurpose::Event.as_str());
    let (files, bytes) = files.fold((0, 0), |sum, row| (sum.0 + row.1, sum.1 + row.2));
    let entry = Entry::of(Act::RetentionDelete).object("files").object(files.to_string());
    let entry = entry.object(format!("bytes:{bytes}"));
    let entry = rows
        .iter()
        .fold(entry, |entry, (total, files, _)| entry.object(format!("{}:{files}", total.purpose)));
    match SiteId::parse(site) {
        Ok(site) => entry.site(&site),
        Err(_) => entry.object(site),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::office::console::tables::rows::AuditFilter;

    const NOW: WallTime = WallTime(1_796_000_000_000_000);

    fn total(site: &str, purpose: &str, files: u64) -> DeletedTotal {
        DeletedTotal { site: site.into(), purpose: purpose.into(), files, bytes: files * 10 }
    }

    fn objects(store: &Store) -> Vec<String> {
        let page = store.tables().audit_page(&AuditFilter::default(), 100).unwrap();
        page.into_iter().rev().map(|record| record.object).collect()
    }

    #[test]
    fn each_deletion_is_recorded_once_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let totals = [total("km-17", "clip", 3), total("km-17", "snapshot", 2)];
        let mut store = Store::open(dir.path()).unwrap();
        let recorded = store.record_deletions(NOW, &totals, |_| true).unwrap();
        assert_eq!(recorded, Recorded { sites: vec!["km-17".into()], has_withheld: false });
        drop(store);
        let mut store = Store::open(dir.path()).unwrap();
        let again = store.record_deletions(NOW, &totals, |_| true).unwrap();
        assert_eq!(again, Recorded::default(), "the trail has it");
        let more = [total("km-17", "clip", 4), total("km-18", "clip", 1)];
        let recorded = store.record_deletions(NOW, &more, |site| site == "km-18").unwrap();
        assert_eq!(recorded, Recorded { sites: vec!["km-18".into()], has_withheld: true });
        store.record_deletions(NOW, &more, |_| true).unwrap();
        assert_eq!(
            objects(&store),
            [
                "files 5 bytes:50 clip:3 snapshot:2",
                "files 1 bytes:10 clip:1",
                "files 1 bytes:10 clip:1"
            ]
        );
        assert!(store.verify().unwrap().ok);
    }

    #[test]
    fn deleted_events_are_named_beside_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut totals = vec![total("km-17", "event", 7)];
        store.record_deletions(NOW, &totals, |_| true).unwrap();
        totals = vec![total("km-17", "clip", 2), total("km-17", "event", 9)];
        store.record_deletions(NOW, &totals, |_| true).unwrap();
        let found = objects(&store);
        assert_eq!(found, ["files 0 bytes:0 event:7", "files 2 bytes:20 clip:2 event:2"]);
    }

    #[test]
    fn an_older_index_that_was_put_back_counts_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        for files in [5, 2] {
            store.record_deletions(NOW, &[total("km-17", "clip", files)], |_| true).unwrap();
        }
        assert_eq!(objects(&store)[1], "files 2 bytes:20 clip:2");
    }
}
