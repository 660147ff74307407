//! Fuzz target of signed documents, state records and the state machine: no input panics or hangs.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use taimat::remote_config::signed_document::Document;
use taimat::remote_config::action::{ConfigEffect, ConfigInput};
use taimat::remote_config::state_machine::{ConfigMachine, ProvenSettings};
use taimat::remote_config::state_record::ConfigState;
use taimat::settings::{RemoteSettings, Settings, TrustedKey, parse};
use taimat::units::{Digest, SiteId, Timestamp};

fn settings() -> Settings {
    let text = "site = \"a\"\ncamera.main_url = \"rtsp://x/\"\nstorage.dir = \"/r\"\nuplink.host = \"localhost\"\n";
    let mut settings = parse::parse(text, &|_| Err("none".into())).expect("valid text");
    settings.remote = RemoteSettings { keys: vec![TrustedKey { name: "k".into(), public: [7; 32], scope: taimat::settings::KeyScope::All }], trial: 60 };
    settings
}

fuzz_target!(|data: &[u8]| {
    let _ = ConfigState::decode(data);
    if let Ok(document) = Document::decode(data, data.len()) {
        let again = document.encode();
        assert_eq!(Document::decode(&again, again.len()).as_ref(), Ok(&document), "a document does not survive a round trip");
        let site = SiteId::parse("a").expect("valid id");
        let _ = document.authentic(&site, &settings().remote.keys);
        let _ = document.in_time(Timestamp::default());
    }
    let known = ProvenSettings { good: settings(), bootstrap: settings(), trying: None };
    let record = ConfigState::of_file(Digest::of(b"file"), String::new(), BTreeSet::new());
    let mut machine = ConfigMachine::new(record, known, [0; 32], Timestamp::default());
    let mut out = Vec::new();
    machine.handle(Timestamp::default(), ConfigInput::Document { bytes: data.to_vec(), len: data.len() }, &mut out);
    machine.handle(Timestamp::default(), ConfigInput::Confirm(data.to_vec()), &mut out);
    assert!(out.iter().all(|effect| !matches!(effect, ConfigEffect::Apply(_) | ConfigEffect::Save(..))), "an unsigned document had an effect");
});
