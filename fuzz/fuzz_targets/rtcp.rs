//! Fuzz target of RTCP: no packet panics, and one packet says a bounded number of things.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::camera::rtp::rtcp;

fuzz_target!(|data: &[u8]| {
    assert!(rtcp::read(data).count() <= 32);
});
