//! Checks of a received manifest: file id, site, size, name and times.
//!
//! The archive uses the fields as path and index columns, so each has a limit.

use crate::units::{Digest, SiteId};
use crate::uplink::wire::Manifest;

/// Bytes of one file at most: an hour at 4 Mbit/s.
pub(super) const FILE_MAX: u64 = 2 << 30;
/// Bytes of a manifest at most: an outbox entry of a device is one journal slot.
const MANIFEST_MAX: usize = 4 << 10;
/// Bytes of a file name at most.
const NAME_MAX: usize = 120;
/// Bytes of an event id at most.
const EVENT_ID_MAX: usize = 64;
/// Bytes of a time at most.
const TIME_MAX: usize = 40;

/// Parses the manifest of an `init`.
///
/// # Errors
/// The reason of the rejection, which names the field.
pub(super) fn check_manifest(site: &SiteId, fid: &str, payload: &[u8]) -> Result<Manifest, String> {
    if payload.len() > MANIFEST_MAX {
        return Err(format!(
            "the manifest has {} bytes, the maximum is {MANIFEST_MAX}",
            payload.len()
        ));
    }
    let manifest: Manifest = serde_json::from_slice(payload)
        .map_err(|error| format!("the manifest cannot be read: {error}"))?;
    let wrong = |field: &str, what: &str| Err(format!("`{field}` of the manifest {what}"));
    if Digest::of(payload).hex()[..32] != *fid {
        return Err("the manifest does not match its id".to_owned());
    }
    if manifest.site != site.as_str() {
        return wrong("site", "is not the site that sends it");
    }
    if !(1..=FILE_MAX).contains(&manifest.size) {
        return wrong("size", "is not within 1 byte and 2 GiB");
    }
    if !is_safe(&manifest.name) {
        return wrong("name", "is not 1 to 120 of a-z 0-9 . _ -, or begins with a dot or dash");
    }
    if manifest.event.len() > EVENT_ID_MAX {
        return wrong("event", "is longer than 64 bytes");
    }
    if [&manifest.from, &manifest.to].iter().any(|time| time.len() > TIME_MAX) {
        return wrong("from` or `to", "is longer than 40 bytes");
    }
    if [manifest.records.0, manifest.records.1].iter().any(|number| i64::try_from(*number).is_err())
    {
        return wrong("records", "has a number over 2^63 - 1");
    }
    Ok(manifest)
}

/// True for a file name that stays in its directory.
fn is_safe(name: &str) -> bool {
    let good =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(good) && !name.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::manifest::of_still;
    use crate::units::Timestamp;

    #[test]
    fn an_invalid_manifest_is_rejected_with_its_field() {
        let site = SiteId::parse("km-17").unwrap();
        let good = of_still(&site, "e", Timestamp::default(), b"x");
        let check = |manifest: &Manifest| check_manifest(&site, &manifest.fid(), &manifest.bytes());
        assert_eq!(check(&good), Ok(good.clone()));
        let cases = [
            (Manifest { site: "km-18".into(), ..good.clone() }, "`site`"),
            (Manifest { size: 0, ..good.clone() }, "`size`"),
            (Manifest { size: FILE_MAX + 1, ..good.clone() }, "`size`"),
            (Manifest { name: "../a".into(), ..good.clone() }, "`name`"),
            (Manifest { event: "e".repeat(EVENT_ID_MAX + 1), ..good.clone() }, "`event`"),
            (Manifest { to: "9".repeat(TIME_MAX + 1), ..good.clone() }, "`to`"),
            (Manifest { records: (0, u64::MAX), ..good.clone() }, "`records`"),
        ];
        for (manifest, field) in cases {
            let reason = check(&manifest).unwrap_err();
            assert!(reason.contains(field), "{field}: {reason}");
        }
        assert!(check_manifest(&site, "another id", &good.bytes()).unwrap_err().contains("its id"));
    }
}
