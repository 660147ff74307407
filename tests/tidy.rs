//! House rules as a test: the import law, the I/O ledger, sizes, every key documented.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// Lines of a file at most, without its tests.
const FILE_MAX: usize = 500;
/// Names only shells may use.
const SHELL_ONLY: [&str; 9] =
    ["tokio::", "std::fs", "std::net", "std::thread", "Instant::now", "SystemTime::now", "SystemRandom", "retina::", "rumqttc::"];

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
    let heads = ["mod tests {", "pub(super) mod tests", "pub(crate) mod tests"].map(|head| format!("#[cfg(test)]\n{head}"));
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
fn only_shells_do_input_and_output() {
    for (path, text) in sources() {
        if text.starts_with("//! ⇄") || is_test(&path) || path == Path::new("lib.rs") {
            continue;
        }
        for line in code(&text) {
            for name in SHELL_ONLY {
                assert!(!line.contains(name), "{} is no shell and names {name}: {line}", path.display());
            }
        }
    }
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rooms: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).map(|line| line.trim_end_matches(';')).collect();
    assert!(rooms.len() > 12, "the list of rooms was not found");
    let place = |room: &str| rooms.iter().position(|other| *other == room);
    for (path, text) in sources() {
        let room = path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let Some(own) = place(&room).filter(|_| !is_test(&path)) else { continue };
        if room == "agent" {
            continue;
        }
        for line in code(&text) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let Some(other) = place(&used) else { continue };
                assert!(other <= own, "{}: {room} imports {used}, which lies below it: {line}", path.display());
            }
        }
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
        let found = example.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{last} =")));
        assert!(found, "{key} is not in deploy/taimat.toml");
    }
    for line in docs.lines().filter_map(|line| line.strip_prefix("| `")) {
        let key = line.split('`').next().unwrap();
        assert!(taimat::settings::parse::KEYS.contains(&key), "docs/config.md documents {key}, which does not exist");
    }
}

#[test]
fn the_example_configuration_is_valid_with_and_without_its_comments() {
    let example = std::fs::read_to_string(root().join("deploy/taimat.toml")).unwrap();
    let whole: String = example
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line).to_owned() + "\n")
        .collect();
    let files = |path: &Path| Ok(if path.extension().is_some_and(|e| e == "login") { "user:password" } else { "PEM" }.to_owned());
    for text in [example, whole] {
        taimat::settings::parse::parse(&text, &files).unwrap();
    }
}
