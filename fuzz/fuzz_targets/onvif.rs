//! Fuzz target of what cameras answer to `discover`: XML, SOAP, HTTP, challenges, interfaces. No input panics or hangs, and no
//! password leaves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taimat::discover::device::Service;
use taimat::discover::devices::{Device, Devices};
use taimat::discover::http::{Response, ResponseReader};
use taimat::discover::interfaces::Interfaces;
use taimat::discover::interview::{Exchange, REQUESTS_MAX, interview};
use taimat::discover::{report, stream_uri, ws_discovery, xml};
use taimat::settings::Login;
use taimat::units::{Secret, WallTime};

const PASSWORD: &str = "correct-horse";

/// A camera whose responses are the pieces of the input in turn.
struct Camera<'a> {
    pieces: Vec<&'a [u8]>,
    asked: usize,
}

fn read(bytes: &[u8], piece: usize) -> Result<Response, String> {
    let mut reader = ResponseReader::default();
    for piece in bytes.chunks(piece) {
        if reader.push(piece).map_err(|error| error.to_string())? {
            break;
        }
    }
    reader.finish().map_err(|error| error.to_string())
}

impl Exchange for Camera<'_> {
    fn post(&mut self, service: &Service, authorization: Option<&[u8]>, body: &str) -> Result<Response, String> {
        assert!(!body.contains(PASSWORD) && !service.path.contains(['\r', '\n', ' ']));
        let text = authorization.map(String::from_utf8_lossy);
        assert!(text.is_none_or(|text| !text.contains(PASSWORD) && !text.contains(['\r', '\n'])));
        assert!(xml::parse(body.as_bytes()).is_ok(), "a question is no XML: {body}");
        let piece = self.pieces[self.asked % self.pieces.len()];
        self.asked += 1;
        assert!(self.asked <= REQUESTS_MAX as usize);
        // A body alone stands for a whole response, so that the reader of HTTP does not hide that of XML.
        match piece.starts_with(b"HTTP/") {
            true => read(piece, 7),
            false => Ok(Response { status: 200, headers: Vec::new(), body: piece.to_vec() }),
        }
    }

    fn now(&self) -> WallTime {
        WallTime(1_800_000_000_000_000)
    }

    fn random(&self) -> [u8; 16] {
        [7; 16]
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = xml::parse(data);
    assert_eq!(read(data, 1), read(data, data.len().max(1)), "the size of pieces changes a response");
    let _ = Interfaces::default().take(data);
    let address = "192.168.1.20:80".parse().expect("an address");
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = stream_uri::stream_url(text, &address);
    }
    let mut devices = Devices::default();
    for found in ws_discovery::matches(data).unwrap_or_default() {
        devices.take(address, "eth0", found);
    }
    let pieces: Vec<&[u8]> = data.split(|byte| *byte == 0).filter(|piece| !piece.is_empty()).collect();
    if pieces.is_empty() {
        return;
    }
    let services = vec![Service { port: 80, path: "/".into() }];
    let login = Login { user: "admin".into(), password: Secret::new(PASSWORD) };
    let answers = interview(&mut Camera { pieces, asked: 0 }, &services, Some(&login));
    let device = Device { address, interface: "eth0".into(), also: None, services, name: None };
    let cameras = report::cameras(&device, &answers, 420, true);
    let table = report::table(&cameras);
    assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table}");
    let _ = report::json(&cameras);
});
