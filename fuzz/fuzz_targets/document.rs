//! A document, a record and a machine that is sent them: whatever the bytes are, nothing panics and nothing hangs.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use taimat::config::document::Document;
use taimat::config::machine::{Effect, Input, Known, Machine};
use taimat::config::record::Record;
use taimat::settings::{RemoteSettings, Settings, TrustedKey, raw};
use taimat::units::{Digest, SiteId, Stamp};

fn settings() -> Settings {
    let text = "site = \"a\"\ncamera.main_url = \"rtsp://x/\"\nstorage.dir = \"/r\"\nuplink.host = \"localhost\"\n";
    let mut settings = raw::parse(text, &|_| Err("none".into())).expect("a good text");
    settings.remote = RemoteSettings { keys: vec![TrustedKey { name: "k".into(), public: [7; 32] }], trial: 60 };
    settings
}

fuzz_target!(|data: &[u8]| {
    let _ = Record::decode(data);
    if let Ok(document) = Document::decode(data, data.len()) {
        let again = document.encode();
        assert_eq!(Document::decode(&again, again.len()).as_ref(), Ok(&document), "it does not read what it writes");
        let site = SiteId::parse("a").expect("a good id");
        let _ = document.authentic(&site, &settings().remote.keys);
        let _ = document.in_time(Stamp::default());
    }
    let known = Known { good: settings(), bootstrap: settings(), trying: None };
    let record = Record::of_file(Digest::of(b"file"), String::new(), BTreeSet::new());
    let mut machine = Machine::new(record, known, [0; 32], Stamp::default());
    let mut out = Vec::new();
    machine.handle(Stamp::default(), Input::Document { bytes: data.to_vec(), len: data.len() }, &mut out);
    machine.handle(Stamp::default(), Input::Confirm(data.to_vec()), &mut out);
    assert!(out.iter().all(|effect| !matches!(effect, Effect::Apply(_) | Effect::Save(..))), "nobody signed this");
});
