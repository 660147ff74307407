//! House rules as a test: the import law, the I/O ledger, sizes, every key documented.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// Lines of a file at most, without its tests.
const FILE_MAX: usize = 500;
/// Crates that only shells use. The functions of the standard library are listed in clippy.toml.
const SHELL_CRATES: [&str; 3] = ["tokio::", "retina::", "rumqttc::"];
/// Files that use types of these crates, and no function of them that does I/O.
const USES_THEIR_TYPES: [&str; 10] = [
    "camera/rtp/depacketizer.rs",
    "camera/track_params.rs",
    "cli/office.rs",
    "cli/office_config.rs",
    "office/archive_link.rs",
    "office/console/web/web_state.rs",
    "sim/mqtt_codec.rs",
    "uplink/client.rs",
    "uplink/connection_end.rs",
    "wakeup.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root().join("src")).unwrap().to_owned(), text));
            }
        }
    }
    found
}

/// Where the tests of a file begin.
fn tests_begin(text: &str) -> usize {
    let heads = ["mod tests {", "pub(super) mod tests", "pub(crate) mod tests"]
        .map(|head| format!("#[cfg(test)]\n{head}"));
    heads.iter().filter_map(|head| text.find(head)).min().unwrap_or(text.len())
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> Vec<&str> {
    text[..tests_begin(text)].lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.ends_with("tests.rs")
}

#[test]
fn only_shells_use_async_and_network_crates() {
    let is_shell =
        |text: &str| text.contains("#![expect(") && text.contains("clippy::disallowed_methods");
    let sources = sources();
    assert!(sources.iter().filter(|(_, text)| is_shell(text)).count() > 20, "no shell was found");
    for (path, text) in sources {
        let exempt = USES_THEIR_TYPES.iter().any(|name| path == Path::new(name));
        if is_shell(&text) || exempt || is_test(&path) || path == Path::new("main.rs") {
            continue;
        }
        for line in code(&text) {
            for name in SHELL_CRATES {
                assert!(
                    !line.contains(name),
                    "{} is no shell and names {name}: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_library_is_linted_for_io_outside_of_shells() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(lib.contains("#![cfg_attr(not(test), warn(clippy::disallowed_methods))]"));
    let listed = std::fs::read_to_string(root().join("clippy.toml")).unwrap();
    for name in ["std::time::Instant::now", "std::fs::File::open", "tokio::spawn"] {
        assert!(listed.contains(name), "clippy.toml does not list {name}");
    }
}

#[test]
fn a_module_imports_only_modules_above_it() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rooms: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod "))
        .map(|line| line.trim_end_matches(';'))
        .collect();
    assert!(rooms.len() > 12, "the list of rooms was not found");
    let place = |room: &str| rooms.iter().position(|other| *other == room);
    for (path, text) in sources() {
        let room = path
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let Some(own) = place(&room).filter(|_| !is_test(&path)) else { continue };
        if room == "agent" {
            // It may import every module but those that import it.
            let above = |line: &&str| {
                ["crate::office::", "crate::sim::", "crate::cli::"]
                    .iter()
                    .any(|name| line.contains(name))
            };
            assert_eq!(
                code(&text).into_iter().find(above),
                None,
                "{}: the agent imports what imports it",
                path.display()
            );
            continue;
        }
        for line in code(&text) {
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let Some(other) = place(&used) else { continue };
                assert!(
                    other <= own,
                    "{}: {room} imports {used}, which lies below it: {line}",
                    path.display()
                );
            }
        }
    }
}

/// Where SQL stands: of the archive, and of the console.
const SQL_PLACES: [&str; 2] = ["office/store/sqlite/", "office/console/tables/"];
/// Words that only a database's library or SQL has.
const SQL_WORDS: [&str; 11] = [
    "rusqlite",
    "SELECT ",
    "INSERT INTO",
    "INSERT OR",
    "DELETE FROM",
    "CREATE TABLE",
    "CREATE INDEX",
    "CREATE TRIGGER",
    "ALTER TABLE",
    "PRAGMA ",
    "BEGIN IMMEDIATE",
];

/// True for a line that names the database's library or has SQL.
fn is_sql(line: &str) -> bool {
    SQL_WORDS.iter().any(|word| line.contains(word))
        || line.split_once("UPDATE ").is_some_and(|(_, rest)| rest.contains(" SET "))
}

#[test]
fn sql_stands_behind_the_interface_of_its_store() {
    assert!(
        is_sql("let set = \"UPDATE parts SET target = ?1\";") && !is_sql("UPDATE the SETTINGS")
    );
    let mut places = std::collections::BTreeSet::<&str>::new();
    for (path, text) in sources() {
        let name = path.to_str().unwrap();
        // Tests too: what they do to an index has a name in `office/store/sqlite/simulated.rs`.
        let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        if let Some(place) = SQL_PLACES.iter().find(|place| name.starts_with(**place)) {
            places.extend(lines.any(is_sql).then_some(*place));
            continue;
        }
        // The console's tests break its own database.
        let is_console_test = name.starts_with("office/console/") && is_test(&path);
        let word = lines.find(|line| is_sql(line) && !is_console_test);
        assert!(word.is_none(), "{name}: {word:?}: SQL belongs to {SQL_PLACES:?}");
    }
    assert_eq!(places.len(), SQL_PLACES.len(), "a place of SQL has none: {places:?}");
}

/// The implementations of index and file store, and the names of their files.
const STORE_WORDS: [&str; 9] = [
    "SqliteIndex",
    "SqliteReader",
    "DirectoryStore",
    "FileOps",
    "taimat.sqlite",
    "\"files/",
    "\"partial",
    ".part\"",
    "store::sqlite",
];

#[test]
fn paths_of_the_archive_stand_behind_the_file_store() {
    for (path, text) in sources() {
        let name = path.to_str().unwrap();
        let is_office = ["office/", "cli/", "sim/"].iter().any(|part| name.starts_with(part));
        // The simulator puts its own files and index behind the same interfaces.
        let is_allowed = ["office/store/", "sim/office/"].iter().any(|part| name.starts_with(part));
        if !is_office || is_allowed || is_test(&path) {
            continue;
        }
        let word =
            code(&text).into_iter().find(|line| STORE_WORDS.iter().any(|word| line.contains(word)));
        assert!(word.is_none(), "{name}: {word:?}: paths of the archive belong to office/store");
    }
}

#[test]
fn files_stay_small_enough_to_read() {
    for (path, text) in sources() {
        let lines = text[..tests_begin(&text)].lines().count();
        assert!(lines <= FILE_MAX || is_test(&path), "{} has {lines} lines", path.display());
    }
}

#[test]
fn no_todo_is_left_without_an_issue() {
    for (path, text) in sources() {
        assert!(!text.contains("TODO") && !text.contains("FIXME"), "{}", path.display());
    }
}

#[test]
fn every_key_is_documented_and_in_the_example() {
    let docs = std::fs::read_to_string(root().join("docs/config.md")).unwrap();
    let example = std::fs::read_to_string(root().join("deploy/taimat.toml")).unwrap();
    for key in taimat::settings::parse::KEYS {
        assert!(docs.contains(&format!("| `{key}` |")), "{key} is not in docs/config.md");
        let last = key.rsplit('.').next().unwrap();
        let found = example
            .lines()
            .any(|line| line.trim_start_matches("# ").starts_with(&format!("{last} =")));
        assert!(found, "{key} is not in deploy/taimat.toml");
    }
    for line in docs.lines().filter_map(|line| line.strip_prefix("| `")) {
        let key = line.split('`').next().unwrap();
        assert!(
            taimat::settings::parse::KEYS.contains(&key),
            "docs/config.md documents {key}, which does not exist"
        );
    }
}

#[test]
fn the_example_configuration_is_valid_both_ways() {
    let example = std::fs::read_to_string(root().join("deploy/taimat.toml")).unwrap();
    let whole: String = example
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line).to_owned()
                + "\n"
        })
        .collect();
    let files = |path: &Path| {
        Ok(if path.extension().is_some_and(|e| e == "login") { "user:password" } else { "PEM" }
            .to_owned())
    };
    for text in [example, whole] {
        taimat::settings::parse::parse(&text, &files).unwrap();
    }
}

/// Identifiers that the glossary (CONTRIBUTING.md) has retired; none may come back.
const RETIRED_IDENTIFIERS: &str = "Stamp WallQuality Ticket Pulses Lull LULL Hurry LaneSender LaneReceiver StorageNews StorageOrder \
    SightNews SightOrder SightCounts UplinkNews UplinkOrder CameraNews KeeperNews KeeperOrder HashOrder EventLetter Letter Untold Incidents \
    Incident Glances Churn Story Strain WHYS Stills StillFile Dates Refusal Guarantee SimDisk HostileBroker Temper SimArchive \
    SmallCard Keeper Desk Wiring Begun Owed Mirrors Doors BREATH LOOK_EVERY carry_out look_after offer_waiting tell_untold \
    is_astray is_believed CardStoodStill EvictedWanted Glance Relit Glow Faint Voices Twin Troubles Refusing Gathering lost_sight \
    let_replaced_go LANE_BYTES BLIND_AFTER TOLD_MAX is_relit is_glow is_stubborn open_cells put_off takes_along afford open_stills \
    dates_mut open_hole add_hole ImageCache RingStatement";
/// Files whose names said nothing to a reader of the field, relative to `src/`.
const RETIRED_FILES: &str = "pulse lull mask shown tail lane chain config motion config/begin config/boot settings/raw settings/raw_motion \
    settings/change camera/logins camera/session storage/answers storage/boxes storage/card storage/choose storage/dates storage/document \
    storage/format storage/head storage/heads storage/kept storage/leave_out storage/locate storage/lost storage/slot storage/start \
    storage/stills storage/talk storage/walk clip/assemble clip/worker uplink/link uplink/session uplink/mqtt uplink/pace uplink/mirror \
    uplink/transfer uplink/expiry agent/wiring agent/desk agent/heard agent/incidents agent/jobs agent/keeper agent/shed agent/start \
    agent/stop agent/waiting office/host office/keep office/keeper office/look office/configs office/gaps office/door office/claim \
    office/placing office/parts cli/zone cli/feed cli/fleet sim/archive sim/card sim/disk sim/hostile sim/proxy sim/image sim/pole sim/texts \
    sim/small_card sim/stranding sim/script sim/strict sim/wire sim/image_cache clip/fate storage/ring_statement storage/pending_queries";
/// Words that stood on the wire, in keys and in names of files, as they would be written there.
const RETIRED_WORDS: &str = "\"going\" `going` unsaid sight.blind sight.seeing evicted_wanted card_stood_still files_of motion.passed \
    suppressed.churn suppressed.relit suppressed.glow uplink.mirrors uplink.also still_slots still_size stills.taimat storage.trouble \
    camera.tries uplink.today --feed --cert-key";

/// Every text of the repository that a reader meets, but for the change log, the notes of experiments and the lists of this test.
fn texts() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = ["src", "tests", "benches", "docs", "deploy", "fuzz"]
        .iter()
        .map(|dir| root().join(dir))
        .collect();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_owned();
            if path.is_dir() {
                if !name.ends_with("target") && !name.ends_with("notes") {
                    dirs.push(path);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path)
                && !name.ends_with("tidy.rs")
                && !name.ends_with("prose-words.txt")
            {
                found.push((name, text));
            }
        }
    }
    for name in ["README.md", "ARCHITECTURE.md", "SECURITY.md"] {
        found.extend(std::fs::read_to_string(root().join(name)).map(|text| (name.into(), text)));
    }
    found
}

/// Where `text` has a retired word: as a whole identifier, or as it stands.
fn retired(name: &Path, text: &str) -> Option<String> {
    let identifiers: std::collections::HashSet<&str> =
        RETIRED_IDENTIFIERS.split_whitespace().collect();
    let code = name.extension().is_some_and(|extension| extension == "rs");
    for (number, line) in text.lines().enumerate() {
        let place = |word: &str| {
            Some(format!("{}:{}: {word}: {}", name.display(), number + 1, line.trim()))
        };
        if let Some(word) = line
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .find(|word| code && identifiers.contains(word))
        {
            return place(word);
        }
        if let Some(word) = RETIRED_WORDS.split_whitespace().find(|word| line.contains(word)) {
            return place(word);
        }
    }
    None
}

#[test]
fn retired_names_do_not_come_back() {
    assert!(
        retired(Path::new("a.rs"), "let at: Stamp = now();").is_some(),
        "a planted identifier is found"
    );
    assert!(
        retired(Path::new("a.md"), "| `sight.blind` | none |").is_some(),
        "a planted word of the wire is found"
    );
    for (name, text) in texts() {
        assert_eq!(retired(&name, &text), None);
    }
    for name in RETIRED_FILES.split_whitespace() {
        for path in [format!("src/{name}.rs"), format!("src/{name}/mod.rs")] {
            assert!(!root().join(&path).exists(), "{path} has another name now");
        }
    }
}

/// Words of everyday speech that hide an actor or a term (house style, CONTRIBUTING.md): how often each may stand in each file.
const PROSE_WORDS: [&str; 18] = [
    "nobody",
    "somebody",
    "whoever",
    "anew",
    "told",
    "tells",
    "news",
    "from afar",
    "in one go",
    "takes nothing",
    "given up",
    "let go",
    "owed",
    "hole",
    "holes",
    "letter",
    "believed",
    "at all costs",
];

/// How often each word of [`PROSE_WORDS`] stands in `text`, as a whole word.
fn prose_counts(text: &str) -> Vec<(&'static str, usize)> {
    let text = text.to_lowercase();
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let count = |word: &str| {
        let found = text.match_indices(word);
        found
            .filter(|(at, _)| {
                is_edge(text[..*at].chars().next_back())
                    && is_edge(text[at + word.len()..].chars().next())
            })
            .count()
    };
    PROSE_WORDS.iter().map(|word| (*word, count(word))).filter(|(_, count)| *count > 0).collect()
}

/// `tests/prose-words.txt` holds one line `FILE WORD COUNT` each. Write it again with `TAIMAT_PROSE_WORDS=write cargo test --test tidy`,
/// which refuses to let a count rise.
#[test]
fn counts_of_everyday_words_only_fall() {
    assert_eq!(
        prose_counts("Nobody told the hole; toldx"),
        [("nobody", 1), ("told", 1), ("hole", 1)],
        "planted words are counted"
    );
    let path = root().join("tests/prose-words.txt");
    let ceilings: std::collections::BTreeMap<(String, String), usize> =
        std::fs::read_to_string(&path)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| {
                let (rest, count) = line.rsplit_once(' ')?;
                let (file, word) = rest.split_once(' ')?;
                Some(((file.to_owned(), word.to_owned()), count.parse().ok()?))
            })
            .collect();
    let mut lines = Vec::new();
    let mut risen = Vec::new();
    for (name, text) in texts() {
        for (word, count) in prose_counts(&text) {
            let ceiling =
                ceilings.get(&(name.display().to_string(), word.to_owned())).copied().unwrap_or(0);
            if count > ceiling {
                risen.push(format!(
                    "{}: {word:?} stands {count} times, {ceiling} are allowed",
                    name.display()
                ));
            }
            lines.push(format!(
                "{} {word} {}\n",
                name.display(),
                if ceilings.is_empty() { count } else { count.min(ceiling) }
            ));
        }
    }
    lines.sort();
    if std::env::var("TAIMAT_PROSE_WORDS").is_ok_and(|value| value == "write") {
        std::fs::write(&path, lines.concat()).unwrap();
        assert!(ceilings.is_empty() || risen.is_empty(), "{risen:#?}");
        return;
    }
    assert!(risen.is_empty(), "write what the thing is called (CONTRIBUTING.md): {risen:#?}");
}

#[test]
fn test_names_have_at_most_sixty_characters() {
    const NAME_MAX: usize = 60;
    for (name, text) in texts() {
        let mut lines = text.lines().peekable();
        let mut is_test = false;
        for line in lines.by_ref() {
            let line = line.trim_start();
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let function = line.split("fn ").nth(1).filter(|_| is_test && !line.starts_with("//"));
            if let Some(function) = function.and_then(|rest| rest.split('(').next()) {
                assert!(
                    function.len() <= NAME_MAX,
                    "{}: {function} has {} characters",
                    name.display(),
                    function.len()
                );
                is_test = false;
            }
        }
    }
}
