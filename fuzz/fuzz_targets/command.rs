//! A command as it comes from the broker: whatever the bytes are, nothing panics, and nobody's signature is never taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::config::command::{Asked, check};
use taimat::settings::TrustedKey;
use taimat::units::{SiteId, Stamp};
use taimat::uplink::wire::{Ack, Command};

fuzz_target!(|data: &[u8]| {
    let _ = serde_json::from_slice::<Ack>(data);
    let Ok(command) = serde_json::from_slice::<Command>(data) else {
        return;
    };
    let site = SiteId::parse("a").expect("a good id");
    let keys = [TrustedKey { name: "k".into(), public: [7; 32] }];
    let asked = Asked { name: "ping", req_id: &command.req_id, expires: command.expires.as_deref(), args: &command.args };
    assert!(check(&site, &keys, asked, Stamp::default(), |_| 0).is_err(), "nobody signed this");
});
