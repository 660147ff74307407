//! Fuzz target of RTSP messages, frames and header values: no input panics, memory stays bounded,
//! and the split of the bytes changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::camera::quirk::QuirkCounts;
use taimat::camera::rtsp::headers;
use taimat::camera::rtsp::limits::BUFFER_MAX;
use taimat::camera::rtsp::message::{Decoder, Item};

fn items(bytes: &[u8], chunk: usize) -> Vec<Vec<u8>> {
    let (mut decoder, mut found) = (Decoder::default(), Vec::new());
    decoder.use_channel(0);
    for piece in bytes.chunks(chunk) {
        decoder.received(piece);
        loop {
            match decoder.next_item() {
                Ok(Some(Item::Frame(_, place))) => found.push(decoder.bytes(place).to_vec()),
                Ok(Some(Item::Message(message))) => found.push(format!("{message:?}").into_bytes()),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
        assert!(decoder.held() <= BUFFER_MAX + chunk);
        decoder.incomplete_body();
        decoder.waiting();
    }
    found
}

fuzz_target!(|data: &[u8]| {
    let whole = items(data, 4096);
    assert_eq!(items(data, 7), whole);
    let mut quirks = QuirkCounts::default();
    headers::session(data, &mut quirks);
    headers::transport(data, &mut quirks);
    headers::is_rtp_info(data);
    taimat::http_auth::challenges([data].into_iter());
});
