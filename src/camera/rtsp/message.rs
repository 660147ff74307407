//! Messages of RTSP (RFC 2326, RFC 7826) and interleaved frames, from bytes.
//!
//! It reads liberally: LF alone ends a line, blanks may stand around everything, a reason phrase
//! may be missing, header values are bytes. Bytes between messages are skipped. It is strict only
//! about sizes ([`super::limits`]).

use std::ops::Range;

use super::limits::{BODY_MAX, BUFFER_MAX, GARBAGE_MAX, HEAD_MAX, HEADERS_MAX, LINE_MAX};
use crate::camera::quirk::{Quirk, QuirkCounts};
use crate::redact::KnownLogin;

/// Length of the head of an interleaved frame (RFC 2326 10.12): `$`, channel, length.
const FRAME_HEAD: usize = 4;
/// What a message begins with: a response, one of HTTP, or a request that a camera may send.
const BEGINS: [&str; 8] = [
    "RTSP/",
    "HTTP/",
    "OPTIONS ",
    "GET_PARAMETER ",
    "SET_PARAMETER ",
    "ANNOUNCE ",
    "REDIRECT ",
    "TEARDOWN ",
];

/// The header lines of a message, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(pub Vec<(String, Vec<u8>)>);

impl Headers {
    /// The first value of a header, without regard to case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }
}

/// A message with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub start: Start,
    /// Its headers.
    pub headers: Headers,
    /// Its body, as far as `Content-Length` goes.
    pub body: Vec<u8>,
}

impl Message {
    /// Bytes of headers and body.
    pub fn size(&self) -> usize {
        let header = |(name, value): &(String, Vec<u8>)| name.len() + value.len();
        self.body.len() + self.headers.0.iter().map(header).sum::<usize>()
    }
}

/// The start line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A response: status code and reason phrase.
    Response(u16, String),
    /// A request: its method.
    Request(String),
}

/// What stands next in the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message(Box<Message>),
    /// An interleaved frame: its channel, and the place of its data ([`Decoder::bytes`]).
    Frame(u8, Range<usize>),
}

/// Divides the bytes of a connection into messages and frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are taken.
    at: usize,
    /// The last bytes were no message and no frame: the next frame must prove itself.
    astray: bool,
    /// Bytes skipped since the last message or frame.
    skipped: usize,
    /// Channels in use: what follows `$` while astray.
    channels: Vec<u8>,
    /// More bytes came than [`BUFFER_MAX`]: they were dropped.
    is_full: bool,
    /// The login that texts must not show.
    login: KnownLogin,
    /// Deviations so far.
    pub quirks: QuirkCounts,
}

impl Decoder {
    /// A decoder whose texts do not show this login.
    pub fn new(login: KnownLogin) -> Decoder {
        Decoder { login, ..Decoder::default() }
    }

    /// Adds received bytes. Those beyond [`BUFFER_MAX`] are dropped: the next item is an error.
    pub fn received(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            // Frames are taken as they come: what is left is less than one of them.
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let room = BUFFER_MAX.saturating_sub(self.buffer.len());
        self.is_full |= bytes.len() > room;
        self.buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Names a channel that the camera uses.
    pub fn use_channel(&mut self, channel: u8) {
        if !self.channels.contains(&channel) {
            self.channels.push(channel);
        }
    }

    /// The data of an interleaved frame; valid until the next [`Decoder::received`].
    pub fn bytes(&self, place: Range<usize>) -> &[u8] {
        self.buffer.get(place).unwrap_or_default()
    }

    /// Bytes held, taken or not.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// The next message or frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// A sentence, when a size exceeds its limit or the peer does not speak RTSP.
    pub fn next_item(&mut self) -> Result<Option<Item>, String> {
        loop {
            let rest = &self.buffer[self.at..];
            if self.is_full {
                return Err(format!("more than {BUFFER_MAX} bytes wait"));
            }
            let Some(first) = rest.first() else { return Ok(None) };
            match first {
                b'$' => match self.frame() {
                    Ok(found) => return Ok(found),
                    Err(()) => self.skip(1)?,
                },
                b'\r' | b'\n' | b' ' | b'\t' if !self.astray => self.at += 1,
                _ => match self.begins_message() {
                    None => return Ok(None),
                    Some(true) => {
                        let message = self.message()?;
                        if message.is_some() {
                            (self.astray, self.skipped) = (false, 0);
                        }
                        return Ok(message.map(|message| Item::Message(Box::new(message))));
                    }
                    Some(false) => self.skip(1)?,
                },
            }
        }
    }

    /// How much of the body that is awaited has come: bytes, and bytes announced.
    pub fn incomplete_body(&self) -> Option<(usize, usize)> {
        let rest = &self.buffer[self.at..];
        let (end, lines) = head(rest).ok()??;
        let length = content_length(&headers(&lines, &mut QuirkCounts::default()).ok()?).ok()??;
        Some((rest.len() - end, length)).filter(|(have, want)| have < want)
    }

    /// The start of what waits, for an error: at most 60 bytes, without line ends.
    pub fn waiting(&self) -> String {
        let rest = &self.buffer[self.at..];
        let shown = String::from_utf8_lossy(&rest[..rest.len().min(LINE_MAX)]);
        let shown = shown.replace(|c: char| c.is_control(), " ");
        crate::redact::masked(&beginning(&self.login.hidden(&shown)))
    }

    /// Whether anything but text waits: the end of a body of unknown length.
    pub fn text_ended(&self) -> bool {
        self.is_full || self.buffer.len() > self.at
    }

    /// Takes the text that waits before the next frame or message: a body that is longer than its
    /// `Content-Length`, or has none. At most `room` bytes are taken.
    pub fn take_text(&mut self, room: usize) -> Vec<u8> {
        let rest = &self.buffer[self.at..];
        let plain = |c: u8| c >= b' ' || matches!(c, b'\r' | b'\n' | b'\t');
        let text =
            |at: usize| plain(rest[at]) && rest[at] != b'$' && !rest[at..].starts_with(b"RTSP/");
        let len = (0..rest.len().min(room)).take_while(|at| text(*at)).count();
        let taken = rest[..len].to_vec();
        self.at += len;
        taken
    }

    /// The interleaved frame that begins here; `Err` when this `$` begins none.
    fn frame(&mut self) -> Result<Option<Item>, ()> {
        let rest = &self.buffer[self.at..];
        let Some(head) = rest.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let (channel, len) = (head[1], usize::from(u16::from_be_bytes([head[2], head[3]])));
        if self.astray {
            let Some(version) = rest.get(FRAME_HEAD) else { return Ok(None) };
            if !self.channels.contains(&channel) || version >> 6 != 2 || len < 8 {
                return Err(());
            }
        }
        if rest.len() < FRAME_HEAD + len {
            return Ok(None);
        }
        let begin = self.at + FRAME_HEAD;
        self.at = begin + len;
        (self.astray, self.skipped) = (false, 0);
        Ok(Some(Item::Frame(channel, begin..begin + len)))
    }

    /// Whether a message begins here; `None` until that is known.
    fn begins_message(&self) -> Option<bool> {
        let rest = &self.buffer[self.at..];
        let mut undecided = false;
        for begin in BEGINS {
            let len = rest.len().min(begin.len());
            if rest[..len].eq_ignore_ascii_case(&begin.as_bytes()[..len]) {
                if len == begin.len() {
                    return Some(true);
                }
                undecided = true;
            }
        }
        if undecided { None } else { Some(false) }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), String> {
        if !self.astray {
            self.quirks.note(Quirk::Garbage);
        }
        self.astray = true;
        self.at += bytes;
        self.skipped += bytes;
        if self.skipped > GARBAGE_MAX {
            return Err(format!("{} bytes in a row are no RTSP: {}", self.skipped, self.waiting()));
        }
        Ok(())
    }

    /// The message that begins here, or `None` until it is complete.
    fn message(&mut self) -> Result<Option<Message>, String> {
        let rest = &self.buffer[self.at..];
        if rest.len() >= 5 && rest[..5].eq_ignore_ascii_case(b"HTTP/") {
            return Err("the answer is HTTP: this is not the RTSP port".into());
        }
        let Some((end, lines)) = head(rest)? else { return Ok(None) };
        let mut quirks = self.quirks;
        let headers = headers(&lines, &mut quirks)?;
        let body = match content_length(&headers) {
            Ok(length) => length.unwrap_or(0),
            Err(()) => {
                quirks.note(Quirk::BodyLength);
                0
            }
        };
        if body > BODY_MAX {
            return Err(format!("a body of {body} bytes is too large: at most {BODY_MAX}"));
        }
        if rest.len() < end + body {
            return Ok(None);
        }
        let start = start(lines[0], &self.login, &mut quirks)?;
        if !rest[..end].ends_with(b"\r\n\r\n") {
            quirks.note(Quirk::LineEnds);
        }
        let message = Message { start, headers, body: rest[end..end + body].to_vec() };
        self.quirks = quirks;
        self.at += end + body;
        Ok(Some(message))
    }
}

/// The length of a head with its empty line, and its lines.
type Head<'b> = (usize, Vec<&'b [u8]>);

/// The lines of the head that `bytes` begin with, and its length with the empty line; `None` until
/// it is complete.
fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, String> {
    let (mut lines, mut at) = (Vec::new(), 0);
    loop {
        let line = match bytes[at..].iter().take(LINE_MAX).position(|c| *c == b'\n') {
            Some(len) => &bytes[at..at + len],
            None if bytes.len() - at >= LINE_MAX => {
                return Err(format!("a header line is longer than {LINE_MAX} bytes"));
            }
            None => return Ok(None),
        };
        at += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Ok(Some((at, lines)));
        }
        lines.push(line);
        if lines.len() > HEADERS_MAX + 1 {
            return Err(format!("more than {HEADERS_MAX} header lines"));
        }
        if at > HEAD_MAX {
            return Err(format!("a header of more than {HEAD_MAX} bytes"));
        }
    }
}

/// The first characters of a text, for messages. A login is hidden before that: a part of it would
/// not be found.
fn beginning(text: &str) -> String {
    text.chars().take(60).collect()
}

fn start(line: &[u8], login: &KnownLogin, quirks: &mut QuirkCounts) -> Result<Start, String> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    if !first.to_ascii_uppercase().starts_with("RTSP/") {
        return Ok(Start::Request(first.to_owned()));
    }
    if first.ends_with("/2.0") {
        quirks.note(Quirk::Version2);
    }
    let status = words.next().unwrap_or_default();
    let status =
        status.parse().ok().filter(|code| (100..1000).contains(code)).ok_or_else(|| {
            let shown: String = text.chars().filter(|c| !c.is_control()).collect();
            let shown = crate::redact::masked(&beginning(&login.hidden(&shown)));
            format!("a status line that cannot be read: {shown}")
        })?;
    let reason: Vec<&str> = words.collect();
    if reason.is_empty() {
        quirks.note(Quirk::StatusLine);
    }
    let reason: String = reason.join(" ").chars().filter(|c| !c.is_control()).collect();
    Ok(Start::Response(status, beginning(&login.hidden(&reason))))
}

/// The headers of the lines after the first. A line without a colon is skipped, a line that begins
/// with a blank continues the one before it.
fn headers(lines: &[&[u8]], quirks: &mut QuirkCounts) -> Result<Headers, String> {
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines.get(1..).unwrap_or_default() {
        if line[0] == b' ' || line[0] == b'\t' {
            quirks.note(Quirk::LineEnds);
            if let Some((_, value)) = headers.last_mut() {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let Some(colon) = line.iter().position(|c| *c == b':') else {
            quirks.note(Quirk::LineEnds);
            continue;
        };
        let name = String::from_utf8_lossy(line[..colon].trim_ascii()).into_owned();
        let value = line[colon + 1..].trim_ascii();
        if value.iter().any(|byte| *byte >= 0x80) {
            quirks.note(Quirk::HeaderBytes);
        }
        headers.push((name, value.to_vec()));
    }
    Ok(Headers(headers))
}

/// The length of the body. A header that is no number is an error.
fn content_length(headers: &Headers) -> Result<Option<usize>, ()> {
    let Some(value) = headers.get("content-length") else { return Ok(None) };
    let digits: Vec<u8> = value.iter().copied().take_while(u8::is_ascii_digit).collect();
    // More digits than any length has: larger than every limit.
    match std::str::from_utf8(&digits) {
        Ok("") | Err(_) => Err(()),
        Ok(digits) => Ok(Some(digits.parse().unwrap_or(usize::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], chunk: usize) -> (Vec<Item>, Decoder) {
        let (mut decoder, mut items) = (Decoder::default(), Vec::new());
        decoder.use_channel(0);
        for piece in bytes.chunks(chunk) {
            decoder.received(piece);
            while let Some(item) = decoder.next_item().unwrap() {
                items.push(match item {
                    Item::Frame(channel, place) => {
                        Item::Frame(channel, 0..decoder.bytes(place).len())
                    }
                    message => message,
                });
            }
        }
        (items, decoder)
    }

    fn message(bytes: &[u8]) -> (Message, QuirkCounts) {
        let (items, decoder) = all(bytes, bytes.len());
        match items.into_iter().next() {
            Some(Item::Message(message)) => (*message, decoder.quirks),
            other => panic!("{other:?}"),
        }
    }

    fn names(quirks: &QuirkCounts) -> Vec<&'static str> {
        quirks.seen().map(|(quirk, _)| quirk.name()).collect()
    }

    #[test]
    fn messages_and_frames_are_found_at_any_split() {
        let bytes =
            b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\nv=0\n$\0\0\x02\x80\x60\
                      OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 7\r\n\r\n\r\n$\x01\0\x01\x80";
        for chunk in 1..bytes.len() {
            let (items, _) = all(bytes, chunk);
            assert_eq!(items.len(), 4, "{chunk}: {items:?}");
            assert!(
                matches!(&items[0], Item::Message(m) if m.start == Start::Response(200, "OK".into()) && m.body == b"v=0\n")
            );
            assert_eq!(items[1], Item::Frame(0, 0..2));
            assert!(
                matches!(&items[2], Item::Message(m) if m.start == Start::Request("OPTIONS".into()))
            );
            assert_eq!(items[3], Item::Frame(1, 0..1));
        }
    }

    #[test]
    fn odd_lines_are_read_and_counted() {
        for (bytes, reason, quirk) in [
            (&b"RTSP/1.0 200\r\nA: b\r\n\r\n"[..], "", &["status_line"][..]),
            (b"RTSP/1.0 200 OK\nA:b\n\n", "OK", &["line_ends"]),
            (b"RTSP/1.0 200 OK\nA:b\r\n\n", "OK", &["line_ends"]),
            (b"RTSP/1.0  200   Yes it is \r\nA  :   b  \r\n\r\n", "Yes it is", &[]),
            (b"RTSP/1.0 200 OK\r\nno colon here\r\nA: b\r\n\r\n", "OK", &["line_ends"]),
            (b"rtsp/1.0 200 OK\r\na: b\r\n\r\n", "OK", &[]),
            (b"RTSP/2.0 200 OK\r\nA: b\r\n\r\n", "OK", &["rtsp_2"]),
            (b"\r\n \r\nRTSP/1.0 200 OK\r\nA: b\r\n\r\n", "OK", &[]),
        ] {
            let (message, quirks) = message(bytes);
            assert_eq!(message.start, Start::Response(200, reason.into()));
            assert_eq!(message.headers.get("a"), Some(&b"b"[..]), "{bytes:?}");
            assert_eq!(names(&quirks), quirk, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn header_values_are_bytes_and_folded_lines_are_joined() {
        let (message, quirks) = message(b"RTSP/1.0 401 No\r\nX: \xff\xfe\xc4\x91\r\nY: one\r\n  two\r\nContent-Length: -5\r\n\r\n");
        assert_eq!(message.headers.get("x"), Some(&b"\xff\xfe\xc4\x91"[..]));
        assert_eq!(message.headers.get("y"), Some(&b"one two"[..]));
        assert_eq!(names(&quirks), ["line_ends", "header_bytes", "body_length"]);
    }

    #[test]
    fn bytes_between_messages_and_frames_are_skipped() {
        let bytes = b"RTSP/1.0 200 OK\r\n\r\n\x01GARBAGE$\x09\x00\x08zz$\0\0\x08\x80\x60\0\0\0\0\0\0junk RTSP/1.0 200 OK\r\n\r\n";
        for chunk in 1..bytes.len() {
            let (items, decoder) = all(bytes, chunk);
            assert_eq!(items.len(), 3, "{chunk}: {items:?}");
            assert_eq!(items[1], Item::Frame(0, 0..8));
            assert_eq!(names(&decoder.quirks), ["garbage"]);
        }
    }

    /// Feeds an endless stream. Returns the error and the bytes held at most.
    fn endless(first: &[u8], piece: &[u8]) -> (String, usize) {
        let (mut decoder, mut held) = (Decoder::default(), 0);
        decoder.received(first);
        for _ in 0..100_000 {
            decoder.received(piece);
            held = held.max(decoder.held());
            match decoder.next_item() {
                Ok(_) => {}
                Err(error) => return (error, held),
            }
        }
        panic!("no end");
    }

    #[test]
    fn endless_headers_and_bodies_end_by_name() {
        let head = b"RTSP/1.0 200 OK\r\n";
        for (first, piece, why) in [
            (&head[..], &[b'x'; 1000][..], "longer than 8192"),
            (head, b"A: b\r\n", "64 header lines"),
            (head, &[&b"A: "[..], &[b'b'; 1500], b"\r\n"].concat(), "of more than 32768"),
            (b"RTSP/1.0 200 OK\r\nContent-Length: 65537\r\n\r\n", &[0; 10], "65537 bytes"),
            (
                b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                &[0; 10],
                "too large",
            ),
            (b"x", &[0; 1000], "are no RTSP"),
            (b"HTTP/1.1 400 Bad\r\n", b"x", "HTTP"),
            (b"RTSP/1.0 abc OK\r\n\r\n", b"x", "status line"),
        ] {
            let (error, held) = endless(first, piece);
            assert!(error.contains(why), "{error}");
            assert!(held <= 160 * 1024, "{held} bytes held");
        }
    }

    #[test]
    fn an_incomplete_body_says_how_much_is_missing() {
        let mut decoder = Decoder::default();
        decoder.received(b"RTSP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        assert_eq!((decoder.next_item(), decoder.incomplete_body()), (Ok(None), Some((3, 9))));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_and_splits_change_nothing(
            parts in proptest::collection::vec(proptest::sample::select(vec![
                &b"RTSP/1.0 200 OK\r\n"[..], b"CSeq: 1\r\n", b"Content-Length: 3\r\n", b"\r\n", b"$\0\0\x08", b"\x80",
                b"\xff\0", b"OPTIONS * RTSP/1.0\r\n", b"GET ", b"\n", b" ", b"Content-Length: x\n", b"a=b", b"R", b"RTSP/",
            ]), 0..40),
            chunk in 1_usize..50,
        ) {
            let bytes = parts.concat();
            let run = |chunk: usize| {
                let (mut decoder, mut items) = (Decoder::default(), Vec::new());
                decoder.use_channel(0);
                for piece in bytes.chunks(chunk) {
                    decoder.received(piece);
                    loop {
                        match decoder.next_item() {
                            Ok(Some(Item::Frame(channel, place))) => items.push((Some(channel), decoder.bytes(place).to_vec())),
                            Ok(Some(Item::Message(message))) => items.push((None, format!("{message:?}").into_bytes())),
                            Ok(None) => break,
                            Err(error) => { items.push((None, error.split(':').next().unwrap_or_default().into())); return items; }
                        }
                    }
                }
                items
            };
            proptest::prop_assert_eq!(run(chunk), run(bytes.len().max(1)));
        }
    }
}
