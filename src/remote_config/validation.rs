//! Validation of a configuration before its trial: keys, files, and continuity of remote access.
//!
//! The functions are pure over a reader of the files that the settings name.

use std::collections::BTreeSet;

use super::credential_scope;
use super::rejection::{RejectReason, Rejection};
use super::state_record::Origin;
use crate::settings::parse::{self, Problem, Problems, ReadFile};
use crate::settings::{KeyScope, Settings, pem};

/// Parses a configuration and checks the PEM files that it names.
///
/// # Errors
/// All invalid keys.
pub fn judge(text: &str, read: ReadFile<'_>) -> Result<Settings, Rejection> {
    let settings = parse::parse(text, read)
        .map_err(|problems| Rejection::bad_keys(RejectReason::Invalid, problems))?;
    match pem::check(&settings.uplink, read) {
        problems if problems.is_empty() => Ok(settings),
        problems => Err(Rejection::bad_keys(RejectReason::Invalid, Problems(problems))),
    }
}

/// The only remote answer about an unusable file: a remote caller must not learn which files exist,
/// or what they hold.
pub const UNUSABLE: &str =
    "cannot be used on this device (check-config on the device names the reason)";

/// [`judge`] for a remote caller.
///
/// # Errors
/// All invalid keys; for files only [`UNUSABLE`].
pub fn judge_afar(text: &str, read: ReadFile<'_>) -> Result<Settings, Rejection> {
    judge(text, read).map_err(|mut refusal| {
        for Problem { key, reason } in &mut refusal.errors {
            // These reasons depend on the text alone.
            let of_text = ["is missing", "is not a key", "must be text", "must be a path"]
                .iter()
                .any(|start| reason.starts_with(start));
            if key.ends_with("_file") && !of_text {
                *reason = UNUSABLE.into();
            }
        }
        refusal
    })
}

/// The configuration that a change is compared with.
#[derive(Debug, Clone, Copy)]
pub struct CurrentConfig<'a> {
    /// The last known good settings.
    pub good: &'a Settings,
    /// Brokers over which a change was confirmed, and those of the bootstrap: host and port.
    pub proven: &'a BTreeSet<(String, u16)>,
}

/// Checks that a remote change keeps the device reachable: it may not change the site, remove every
/// proven broker, add more than one new broker, or remove the signing key. A local edit may do all
/// of that.
///
/// # Errors
/// All keys that break the rule.
pub fn check_continuity(
    next: &Settings,
    against: CurrentConfig<'_>,
    origin: &Origin,
) -> Result<(), Rejection> {
    let Origin::Key(signer) = origin else {
        return Ok(());
    };
    let mut problems = Vec::new();
    let mut bad = |key: &str, reason: String| problems.push(Problem { key: key.into(), reason });
    if next.site != against.good.site {
        bad("site", format!("is {} and cannot be changed remotely", against.good.site));
    }
    let unproven: Vec<String> = unproven(next, against.proven)
        .iter()
        .map(|(host, port)| format!("{host}:{port}"))
        .collect();
    if unproven.len() == next.uplink.brokers().len() {
        let is_same_host = next.uplink.host == against.good.uplink.host;
        bad(
            if is_same_host { "uplink.port" } else { "uplink.host" },
            format!(
                "{} has not proven itself: add it beside a proven broker (uplink.fallbacks), and remove that one after the commit",
                unproven.join(", ")
            ),
        );
    } else if unproven.len() > 1 {
        bad(
            "uplink.fallbacks",
            format!(
                "adds {} new brokers ({}): add one at a time, so that each is proven",
                unproven.len(),
                unproven.join(", ")
            ),
        );
    }
    if !next.remote.keys.iter().any(|key| key.id() == *signer && key.scope == KeyScope::All) {
        bad(
            "remote.keys",
            "lacks the signing key, or narrows its scope: sign the removal of a key with another one that stays".into(),
        );
    }
    if problems.is_empty() {
        credential_scope::judge(next, against.good)
    } else {
        Err(Rejection::bad_keys(RejectReason::Continuity, Problems(problems)))
    }
}

/// Brokers over which no change was confirmed: host and port.
pub fn unproven(settings: &Settings, proven: &BTreeSet<(String, u16)>) -> Vec<(String, u16)> {
    settings
        .uplink
        .brokers()
        .iter()
        .map(|broker| broker.address())
        .filter(|address| !proven.contains(address))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_config::signed_document::tests::{OTHER, RFC, trusted};
    use crate::settings::{Broker, test_settings};

    fn broker(host: &str) -> Broker {
        Broker { host: host.into(), port: 1883, tls: None, login: None }
    }

    fn keys_of(next: &Settings, good: &Settings, proven: &[&str]) -> Vec<String> {
        let proven = proven.iter().map(|host| ((*host).to_owned(), 1883)).collect();
        let origin = Origin::Key(trusted("office", RFC).id());
        match check_continuity(next, CurrentConfig { good, proven: &proven }, &origin) {
            Ok(()) => Vec::new(),
            Err(refusal) => {
                assert_eq!(
                    check_continuity(next, CurrentConfig { good, proven: &proven }, &Origin::File),
                    Ok(()),
                    "a local edit may"
                );
                refusal.errors.into_iter().map(|problem| problem.key).collect()
            }
        }
    }

    #[test]
    fn a_proven_broker_is_removed_only_after_a_new_one_is_proven() {
        let mut good = test_settings();
        good.remote.keys = vec![trusted("office", RFC)];
        let with = |hosts: &[&str]| {
            let brokers: Vec<Broker> = hosts.iter().map(|host| broker(host)).collect();
            Settings { uplink: good.uplink.with_brokers(&brokers), ..good.clone() }
        };
        assert!(keys_of(&with(&["old", "new"]), &good, &["old"]).is_empty());
        assert!(
            keys_of(&with(&["new"]), &good, &["old", "new"]).is_empty(),
            "the new broker is proven"
        );
        assert_eq!(
            keys_of(&with(&["new"]), &good, &["old"]),
            ["uplink.host"],
            "the proven broker is removed first"
        );
        let mut port = with(&["old"]);
        port.uplink.port = 2883;
        let host_of_good = Settings { uplink: with(&["old"]).uplink, ..good.clone() };
        assert_eq!(keys_of(&port, &host_of_good, &["old"]), ["uplink.port"]);
        assert_eq!(keys_of(&with(&["old", "new", "newer"]), &good, &["old"]), ["uplink.fallbacks"]);
    }

    #[test]
    fn the_key_that_signs_and_the_site_stay() {
        let mut good = test_settings();
        good.remote.keys = vec![trusted("office", RFC)];
        let mut next = good.clone();
        next.remote.keys.push(trusted("second", OTHER));
        assert!(keys_of(&next, &good, &["127.0.0.1"]).is_empty(), "enrol beside");
        next.remote.keys.remove(0);
        assert_eq!(keys_of(&next, &good, &["127.0.0.1"]), ["remote.keys"]);
        next.remote.keys.clear();
        next.site = crate::units::SiteId::parse("elsewhere").unwrap();
        assert_eq!(keys_of(&next, &good, &["127.0.0.1"]), ["site", "remote.keys"]);
    }

    #[test]
    fn every_unusable_file_gets_one_remote_answer() {
        let read = |path: &std::path::Path| match path.to_str() {
            Some("/etc/passwd") => Ok("root:x:0:0\nbin:x:1:1\n".to_owned()),
            Some("/empty") => Ok(String::new()),
            Some("/no-login") => Ok("nothing of the kind".to_owned()),
            Some("/secret") => Err("Permission denied (os error 13)".to_owned()),
            Some("/dir") => Err("Is a directory (os error 21)".to_owned()),
            _ => Err("No such file or directory (os error 2)".to_owned()),
        };
        let mut answers = BTreeSet::new();
        for key in ["camera.login_file", "uplink.login_file", "uplink.ca_file"] {
            for path in [
                "/etc/passwd",
                "/empty",
                "/no-login",
                "/secret",
                "/dir",
                "/gone",
                "credential:none",
            ] {
                let text = format!(
                    "site = \"a\"\ncamera.main_url = \"rtsp://x/\"\nstorage.dir = \"/r\"\nuplink.host = \"localhost\"\n{key} = \"{path}\"\n"
                );
                let refusal = judge_afar(&text, &read).unwrap_err();
                assert_eq!(refusal.errors.len(), 1, "{key} {path}: {refusal:?}");
                answers.insert(refusal.line().replace(key, "KEY"));
            }
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert!(answers.first().unwrap().contains(UNUSABLE));
    }

    #[test]
    fn every_bad_key_is_reported_with_the_files_among_them() {
        let read = |path: &std::path::Path| match path.to_str() {
            Some("/pem") => Ok("nothing".to_owned()),
            _ => Err("No such file".to_owned()),
        };
        let text = "site = \"a\"\ncamera.main_url = \"rtsp://x/\"\nstorage.dir = \"/r\"\nuplink.host = \"far\"\nuplink.ca_file = \"/pem\"\n";
        let refusal = judge(text, &read).unwrap_err();
        assert_eq!(
            (refusal.why, refusal.errors[0].key.as_str()),
            (RejectReason::Invalid, "uplink.ca_file")
        );
        let refusal = judge("site = 1\nfoo = 2\n", &read).unwrap_err();
        assert!(refusal.errors.len() >= 5, "{refusal:?}");
    }
}
