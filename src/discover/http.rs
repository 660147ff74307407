//! HTTP/1.1 as far as a question to a camera needs it: one request, one response, then the connection ends.

/// Bytes of the head of a response at most.
pub const HEAD_MAX: usize = 16 * 1024;
/// Bytes of a body at most, and what a document of XML may hold.
pub const BODY_MAX: usize = super::xml::DOCUMENT_MAX;
/// Headers of a response at most.
pub const HEADERS_MAX: usize = 64;
/// Bytes of the line that begins a chunk at most.
const CHUNK_LINE_MAX: usize = 256;

/// Why a response was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The first line names no status.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// Beyond a limit.
    #[error("the answer is too large ({0})")]
    TooLarge(&'static str),
    /// A chunk has no length.
    #[error("the answer has a chunk without a length")]
    BadChunk,
    /// The connection ended without an answer.
    #[error(
        "it closed the connection without an answer; a port of RTSP does so, ONVIF has another"
    )]
    Silent,
    /// It is an RTSP server.
    #[error("this is RTSP, not ONVIF: look for the port of HTTP or ONVIF")]
    Rtsp,
    /// The answer ends within its head.
    #[error("the answer is cut off")]
    CutOff,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names in lower case, values without blanks around them.
    pub headers: Vec<(String, String)>,
    /// The body, without transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// All values of a header; `name` is in lower case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header as the bytes that came.
    pub fn bytes_of(&self, name: &str) -> Vec<Vec<u8>> {
        // `parse_head` made each byte a character.
        let bytes = |value: &str| value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
        self.values(name).map(bytes).collect()
    }
}

/// The bytes of a POST request. `authorization` is the value of that header.
pub fn post(
    host: &str,
    path: &str,
    content_type: &str,
    authorization: Option<&[u8]>,
    body: &str,
) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\nAccept: */*\r\nUser-Agent: taimat\r\n",
        body.len()
    );
    let login = authorization.map(|value| [b"Authorization: ", value, b"\r\n"].concat());
    [head.as_bytes(), login.as_deref().unwrap_or_default(), b"\r\n", body.as_bytes()].concat()
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// Before the line with the length; a line feed of the chunk before may stand first.
    Line,
    /// Inside a chunk, with so many bytes to come.
    Data(usize),
    /// The last chunk was read.
    End,
}

/// Status, headers, and how the end of the body is known.
type Head = (u16, Vec<(String, String)>, Framing);

/// Reads one response from pieces of any size. Each byte is looked at a bounded number of times.
#[derive(Debug, Default)]
pub struct ResponseReader {
    pending: Vec<u8>,
    searched: usize,
    head: Option<Head>,
    body: Vec<u8>,
}

impl ResponseReader {
    /// Takes bytes; true when the response is whole.
    ///
    /// # Errors
    /// It is no HTTP or beyond a limit.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, HttpError> {
        self.pending.extend_from_slice(bytes);
        while self.head.is_none() {
            let Some(end) = self.head_end()? else { return Ok(false) };
            let rest = self.pending.split_off(end);
            let head = std::mem::replace(&mut self.pending, rest);
            self.searched = 0;
            let (status, headers) = parse_head(&head)?;
            // 100 Continue and the like precede the response.
            if status >= 200 {
                let framing = framing(status, &headers)?;
                self.head = Some((status, headers, framing));
            }
        }
        self.take_body()
    }

    /// The end of the connection, or of the time for an answer: the response as far as it came. A body that is shorter
    /// than announced is returned too; whether it is whole is seen by its XML.
    ///
    /// # Errors
    /// The head is not whole.
    pub fn finish(mut self) -> Result<Response, HttpError> {
        if self.head.is_none() && self.pending.is_empty() {
            return Err(HttpError::Silent);
        }
        // A head without the empty line behind it is whole when the connection ends.
        if self.head.is_none() {
            self.push(b"\r\n\r\n")?;
        }
        let (status, headers, _) = self.head.ok_or(HttpError::CutOff)?;
        Ok(Response { status, headers, body: self.body })
    }

    /// Where the head ends: behind an empty line, with or without carriage returns.
    fn head_end(&mut self) -> Result<Option<usize>, HttpError> {
        let from = self.searched.saturating_sub(3);
        let bytes = &self.pending;
        for at in from..bytes.len() {
            if bytes[at..].starts_with(b"\n\n") {
                return Ok(Some(at + 2));
            }
            if bytes[at..].starts_with(b"\n\r\n") {
                return Ok(Some(at + 3));
            }
            if at > HEAD_MAX {
                return Err(HttpError::TooLarge("head"));
            }
        }
        self.searched = bytes.len();
        Ok(None)
    }

    fn take_body(&mut self) -> Result<bool, HttpError> {
        let Some((_, _, framing)) = &mut self.head else { return Ok(false) };
        match framing {
            Framing::UntilClose => self.body.append(&mut self.pending),
            Framing::Length(length) => {
                let missing = length.saturating_sub(self.body.len()).min(self.pending.len());
                self.body.extend(self.pending.drain(..missing));
                return Ok(self.body.len() >= *length);
            }
            Framing::Chunked(chunk) => {
                let (next, used) = take_chunks(*chunk, &self.pending, &mut self.body)?;
                *chunk = next;
                self.pending.drain(..used);
                return Ok(next == Chunk::End);
            }
        }
        if self.body.len() > BODY_MAX { Err(HttpError::TooLarge("body")) } else { Ok(false) }
    }
}

/// Reads chunks as far as `bytes` go: where the reader is then, and how many bytes it used.
fn take_chunks(
    mut chunk: Chunk,
    bytes: &[u8],
    body: &mut Vec<u8>,
) -> Result<(Chunk, usize), HttpError> {
    let mut used = 0;
    loop {
        let rest = &bytes[used..];
        match chunk {
            Chunk::End => return Ok((chunk, bytes.len())),
            Chunk::Data(length) => {
                let taken = length.min(rest.len());
                body.extend_from_slice(&rest[..taken]);
                used += taken;
                chunk = if taken == length { Chunk::Line } else { Chunk::Data(length - taken) };
                if taken < length {
                    return Ok((chunk, used));
                }
            }
            Chunk::Line => {
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                    let long = rest.len() > CHUNK_LINE_MAX;
                    return if long { Err(HttpError::BadChunk) } else { Ok((chunk, used)) };
                };
                if end > CHUNK_LINE_MAX {
                    return Err(HttpError::BadChunk);
                }
                let line = String::from_utf8_lossy(&rest[..end]);
                used += end + 1;
                let digits = line.split(';').next().unwrap_or_default().trim();
                // The line feed that ends the chunk before.
                if digits.is_empty() && end <= 1 {
                    continue;
                }
                let length = usize::from_str_radix(digits, 16).map_err(|_| HttpError::BadChunk)?;
                if length > BODY_MAX.saturating_sub(body.len()) {
                    return Err(HttpError::TooLarge("body"));
                }
                chunk = if length == 0 { Chunk::End } else { Chunk::Data(length) };
            }
        }
    }
}

/// Status and headers of a head. Lines that are no headers are passed over.
fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>), HttpError> {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.lines().skip_while(|line| line.trim().is_empty());
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    let protocol = words.next().unwrap_or_default();
    if protocol.starts_with("RTSP/") {
        return Err(HttpError::Rtsp);
    }
    let is_http = protocol.starts_with("HTTP/");
    let status = words.next().and_then(|word| word.parse().ok());
    let status = status.filter(|status| is_http && (100..=999).contains(status));
    let mut headers = Vec::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if headers.len() == HEADERS_MAX {
            return Err(HttpError::TooLarge("headers"));
        }
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((status.ok_or(HttpError::NotHttp)?, headers))
}

fn framing(status: u16, headers: &[(String, String)]) -> Result<Framing, HttpError> {
    let value =
        |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, v)| v.as_str());
    if matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let coding = value("transfer-encoding").unwrap_or_default().to_ascii_lowercase();
    if coding.contains("chunked") {
        return Ok(Framing::Chunked(Chunk::Line));
    }
    match value("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) if length > BODY_MAX => Err(HttpError::TooLarge("body")),
        Some(Ok(length)) => Ok(Framing::Length(length)),
        // A length that is no number is as good as none.
        Some(Err(_)) | None => Ok(Framing::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Response, HttpError> {
        let mut reader = ResponseReader::default();
        for piece in pieces {
            if reader.push(piece)? {
                break;
            }
        }
        reader.finish()
    }

    #[test]
    fn the_three_framings_give_the_same_body_byte_by_byte() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellotrailing",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhe\n3\nllo\n0\n\n",
            "HTTP/1.0 200\r\nServer: x\r\n\r\nhello",
            "HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-length : 5\r\nnonsense\r\n\r\nhello",
        ] {
            let whole = read(&[text.as_bytes()]).unwrap();
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes).unwrap(), whole, "{text}");
            assert_eq!((whole.status, whole.body.as_slice()), (200, b"hello".as_slice()), "{text}");
        }
    }

    #[test]
    fn header_values_keep_their_bytes() {
        let found = read(&[b"HTTP/1.1 401 No\r\nA: \xc4\x91\xff\r\n\r\n"]).unwrap();
        assert_eq!(found.bytes_of("a"), [b"\xc4\x91\xff"]);
    }

    #[test]
    fn a_body_that_is_cut_off_is_returned_as_far_as_it_came() {
        let cut = read(&[b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhel"]).unwrap();
        assert_eq!(cut.body, b"hel");
        assert_eq!(read(&[b""]), Err(HttpError::Silent));
        assert_eq!(read(&[b"HTTP/1.1 401 No\r\nA: b"]).unwrap().status, 401);
    }

    #[test]
    fn what_is_not_http_or_beyond_a_limit_is_refused() {
        assert_eq!(read(&[b"RTSP/1.0 200 OK\r\n\r\n"]), Err(HttpError::Rtsp));
        assert_eq!(read(&[b"\x16\x03\x01\n\n"]), Err(HttpError::NotHttp));
        let long = vec![b'x'; HEAD_MAX + 2];
        assert_eq!(read(&[&long]), Err(HttpError::TooLarge("head")));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(read(&[many.as_bytes()]), Err(HttpError::TooLarge("headers")));
        for head in ["Content-Length: 99999999", "Transfer-Encoding: chunked\r\n\r\nffffffff"] {
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            assert_eq!(read(&[text.as_bytes()]), Err(HttpError::TooLarge("body")));
        }
        let endless = vec![b'x'; BODY_MAX + 1];
        let error = read(&[b"HTTP/1.1 200 OK\r\n\r\n", &endless]);
        assert_eq!(error, Err(HttpError::TooLarge("body")));
        let chunk = read(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]);
        assert_eq!(chunk, Err(HttpError::BadChunk));
    }

    #[test]
    fn a_request_names_host_length_and_close() {
        let bytes = post("[fe80::1]:80", "/onvif", "text/xml", Some(b"Digest x"), "<a/>");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("POST /onvif HTTP/1.1\r\nHost: [fe80::1]:80\r\n"), "{text}");
        assert!(text.ends_with("Authorization: Digest x\r\n\r\n<a/>"), "{text}");
        assert!(text.contains("Content-Length: 4\r\nConnection: close\r\n"), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_response(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), size in 1_usize..40, framed in 0..3_usize,
        ) {
            let head = ["", "Content-Length: 40\r\n", "Transfer-Encoding: chunked\r\n"][framed];
            let mut all = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
            all.extend(&bytes);
            let pieces: Vec<&[u8]> = all.chunks(size).collect();
            proptest::prop_assert_eq!(read(&pieces), read(&[&all]));
        }
    }
}
