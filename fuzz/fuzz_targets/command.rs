//! Fuzz target of signed commands: no input panics, and none passes without a valid signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::remote_config::signed_command::{CommandRequest, check};
use taimat::settings::TrustedKey;
use taimat::units::{SiteId, Timestamp};
use taimat::uplink::wire::{Ack, Command};

fuzz_target!(|data: &[u8]| {
    let _ = serde_json::from_slice::<Ack>(data);
    let Ok(command) = serde_json::from_slice::<Command>(data) else {
        return;
    };
    let site = SiteId::parse("a").expect("valid id");
    let keys = [TrustedKey { name: "k".into(), public: [7; 32], scope: taimat::settings::KeyScope::All }];
    let asked = CommandRequest { name: "ping", req_id: &command.req_id, expires: command.expires.as_deref(), args: &command.args };
    assert!(check(&site, &keys, asked, Timestamp::default(), |_| 0).is_err(), "a command without a valid signature was accepted");
});
