//! Limits of one RTSP session. What exceeds one ends the session with its name; memory stays below
//! [`HELD_MAX`] whatever the camera sends, and however fast or long.

use std::time::Duration;

/// Bytes of one header line: a Digest challenge has some 500, an RTP-Info of two long URLs 1,000.
pub const LINE_MAX: usize = 8 * 1024;
/// Header lines of one message: cameras send at most 20.
pub const HEADERS_MAX: usize = 64;
/// Bytes of the start line and all header lines of one message.
pub const HEAD_MAX: usize = 32 * 1024;
/// Bytes of the body of one message: an SDP of eight media has 4 KiB.
pub const BODY_MAX: usize = 64 * 1024;
/// Bytes received and not yet taken: one message, or one interleaved frame (65,539 bytes) with what
/// came in the same read.
pub const BUFFER_MAX: usize = HEAD_MAX + BODY_MAX + READ_MAX;
/// Bytes of one read of the connection.
pub const READ_MAX: usize = 32 * 1024;
/// Bytes outside of any message and frame, in a row, that end a session: one frame whose length was
/// wrong has at most 64 KiB.
pub const GARBAGE_MAX: usize = 256 * 1024;
/// Lines of an SDP that are read; the rest is skipped. Cameras send some 40.
pub const SDP_LINES_MAX: usize = 512;
/// Media descriptions of an SDP that are read; the rest is skipped. Recorders with a back channel
/// and metadata have five.
pub const SDP_MEDIA_MAX: usize = 16;
/// Requests of one set-up with all repetitions: 401, redirects, two SETUP, PLAY have at most 16.
pub const REQUESTS_MAX: u32 = 24;
/// Redirects of one set-up.
pub const REDIRECTS_MAX: u32 = 3;
/// Connections opened again in one set-up, because the camera closed one after a 401 or a redirect.
pub const RECONNECTS_MAX: u32 = 3;
/// Answers to a request with a new nonce for one request.
pub const NONCES_MAX: u32 = 2;
/// Requests of the camera that are answered in one session; further ones are ignored.
pub const SERVER_REQUESTS_MAX: u32 = 1_000;
/// Time for an answer: slow cameras take 3 s, none takes 10.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Quiet time that ends a DESCRIBE body of unknown length.
pub const BODY_QUIET: Duration = Duration::from_millis(500);
/// Time for the answer to TEARDOWN: cameras with few sessions reject the next one until it is done.
pub const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Session timeout without one from the camera: half of the 60 s of RFC 2326 12.37, because cameras
/// that state none do not keep to the RFC either.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Shortest interval of keep-alive requests.
pub const KEEP_ALIVE_MIN: Duration = Duration::from_secs(2);
/// Longest interval of keep-alive requests: a NAT forgets an idle UDP path after a minute.
pub const KEEP_ALIVE_MAX: Duration = Duration::from_secs(60);
/// Responses in a row that answer no request, and end the session: a camera that sends each response
/// twice sends one between two requests.
pub const UNEXPECTED_MAX: u32 = 64;
/// Bytes that wait to be sent: a request has at most some 1,000, unless the camera's URLs, session id
/// or challenge are long.
pub const OUTPUT_MAX: usize = 64 * 1024;
/// Bytes that one session holds at most: received and not yet taken, a body of unknown length, the
/// last response of the set-up, what is to be sent, and a few events.
pub const HELD_MAX: usize = BUFFER_MAX + 2 * BODY_MAX + HEAD_MAX + OUTPUT_MAX + 4096;
