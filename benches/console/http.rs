//! A small HTTP/1.1 client: one connection that stays open, from an address of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// An answer. The body is as it was sent: compressed where the office compressed it.
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Bytes on the wire, with the head.
    pub bytes: usize,
}

impl Answer {
    /// The body, decompressed.
    pub fn text(&self) -> String {
        if self.headers.get("content-encoding").is_none_or(|encoding| encoding != "gzip") {
            return String::from_utf8_lossy(&self.body).into_owned();
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(&self.body[..]).read_to_string(&mut text).unwrap();
        text
    }
}

/// A connection with a session's cookie.
pub struct Client {
    stream: BufReader<TcpStream>,
    port: u16,
    cookie: String,
}

impl Client {
    /// Connects to the console on `port`. Each address of `from` is a machine of its own for the
    /// office, which bounds the connections of one.
    pub fn open(port: u16, cookie: &str, from: Ipv4Addr) -> std::io::Result<Client> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Client {
            stream: BufReader::with_capacity(64 << 10, stream),
            port,
            cookie: cookie.to_owned(),
        })
    }

    fn ask(&mut self, path: &str, more: &str) -> std::io::Result<()> {
        let Client { stream, port, cookie } = self;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\naccept-encoding: gzip, deflate, br\r\ncookie: s={cookie}\r\n{more}\r\n"
        );
        stream.get_mut().write_all(head.as_bytes())
    }

    fn line(&mut self, count: &mut usize) -> std::io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                *count += read;
                Ok(line.trim_end().to_owned())
            }
        }
    }

    fn head(&mut self, count: &mut usize) -> std::io::Result<(u16, BTreeMap<String, String>)> {
        let first = self.line(count)?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line(count)?;
            let Some((name, value)) = line.split_once(": ") else { return Ok((status, headers)) };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }

    /// Asks for `path`; `more` are further header lines, each with its line end.
    pub fn get_with(&mut self, path: &str, more: &str) -> std::io::Result<Answer> {
        self.ask(path, more)?;
        let mut bytes = 0;
        let (status, headers) = self.head(&mut bytes)?;
        let mut body = Vec::new();
        if let Some(size) = headers.get("content-length").and_then(|size| size.parse().ok()) {
            body.resize(size, 0);
            self.stream.read_exact(&mut body)?;
            bytes += size;
        } else if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let size = usize::from_str_radix(&self.line(&mut bytes)?, 16).unwrap_or(0);
                let at = body.len();
                body.resize(at + size, 0);
                self.stream.read_exact(&mut body[at..])?;
                bytes += size;
                self.line(&mut bytes)?;
                if size == 0 {
                    break;
                }
            }
        }
        Ok(Answer { status, headers, body, bytes })
    }

    /// Asks for `path`, which must be there.
    pub fn get(&mut self, path: &str) -> Answer {
        let answer = self.get_with(path, "").unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    }

    /// Opens the stream of events and reads it until the connection ends; `each` gets the bytes of
    /// each read, and ends it with `false`.
    pub fn stream(mut self, mut each: impl FnMut(&[u8]) -> bool) -> std::io::Result<()> {
        self.ask("/api/v1/stream", "")?;
        let mut bytes = 0;
        let (status, _) = self.head(&mut bytes)?;
        if status != 200 {
            return Err(std::io::Error::other(format!("/api/v1/stream: {status}")));
        }
        loop {
            let read = self.stream.fill_buf()?;
            let length = read.len();
            if length == 0 || !each(read) {
                return Ok(());
            }
            self.stream.consume(length);
        }
    }
}
