//! Keys of the file store. The index holds them; only this file makes or reads one.
//!
//! A finished file has `files/{site}/{day}/{name}`, an unfinished one `partial/{site}-{fid}.part`.

/// All finished files.
pub(super) const FINISHED: &str = "files";
/// All unfinished files.
pub(super) const UNFINISHED: &str = "partial";

/// The key of an unfinished file.
pub(crate) fn part(site: &str, fid: &str) -> String {
    format!("{UNFINISHED}/{site}-{fid}.part")
}

/// Site and id in the key of an unfinished file.
pub(crate) fn part_of(key: &str) -> Option<(&str, &str)> {
    let name = key.strip_prefix(UNFINISHED)?.strip_prefix('/')?.strip_suffix(".part")?;
    name.rsplit_once('-')
}

/// The keys that a finished file may have, the preferred one first.
pub(crate) fn finished(site: &str, day: &str, name: &str, fid: &str) -> [String; 3] {
    let day = format!("{FINISHED}/{site}/{day}");
    let short: String = fid.chars().take(8).collect();
    [format!("{day}/{name}"), format!("{day}/{short}-{name}"), format!("{day}/{fid}-{name}")]
}

/// The site in the key of a finished file; empty for another key.
pub(crate) fn site_of(key: &str) -> &str {
    let below = key.strip_prefix(FINISHED).and_then(|rest| rest.strip_prefix('/'));
    below.and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_part_gives_its_site_and_id() {
        let fid = "0123456789abcdef0123456789abcdef";
        assert_eq!(part_of(&part("km-17-b", fid)), Some(("km-17-b", fid)));
        for key in
            ["partial/left.part", "partial/km-17-1", "files/km-17-1.part", "partialkm-1.part"]
        {
            assert_eq!(part_of(key), None, "{key}");
        }
        let [key, ..] = finished("km-17", "2026-11-18", "a.mp4", fid);
        assert_eq!((key.as_str(), site_of(&key)), ("files/km-17/2026-11-18/a.mp4", "km-17"));
    }
}
