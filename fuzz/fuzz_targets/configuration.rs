//! Fuzz target of configuration texts and their files: no input panics, and every error names a
//! key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::remote_config::validation;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    // Every named file has the text itself as content: as a login, and as PEM.
    let read = |_: &std::path::Path| Ok(text.clone().into_owned());
    if let Err(refusal) = validation::judge(&text, &read) {
        assert!(!refusal.errors.is_empty() && refusal.errors.iter().all(|problem| !problem.key.is_empty()), "{refusal:?}");
    }
});
