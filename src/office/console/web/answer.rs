//! Answers of handlers, without the connection: status, headers, and where the body comes from.

use std::io;
use std::ops::Range;

use axum::http::HeaderName;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, RETRY_AFTER, SET_COOKIE,
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::problem::{Code, Problem};
use super::range::{self, Wanted};
use super::stream::OpenStream;

/// Bytes that a handler reads while they are sent.
pub(crate) trait Pieces: Send {
    /// The next bytes of `range`, at least one; blocks.
    ///
    /// # Errors
    /// When the bytes cannot be read; the answer then ends early, and the client sees it by the
    /// length.
    fn read(&mut self, range: Range<u64>) -> io::Result<Bytes>;
}

/// The body of an answer.
pub(crate) enum Body {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of bytes, read piece by piece.
    Pieces(Box<dyn Pieces>, Range<u64>),
    /// The stream of events, after the event with this number; `None` begins with the next one. It
    /// has its place among those of its session.
    Stream(Option<u64>, OpenStream),
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Body,
}

/// What a representation is: for `Range`, `ETag` and caches.
pub(crate) struct Representation<'a> {
    /// Content type.
    pub(crate) content_type: &'a str,
    /// Strong entity tag, with its quotes.
    pub(crate) etag: String,
    /// Bytes.
    pub(crate) size: u64,
}

impl Answer {
    /// 200 with JSON.
    pub(crate) fn json(value: &impl Serialize) -> Result<Answer, Problem> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        Ok(Answer::of("application/json", body))
    }

    /// 200 with bytes, which no cache may keep.
    pub(crate) fn of(content_type: &str, body: impl Into<Bytes>) -> Answer {
        let headers =
            vec![(CONTENT_TYPE, content_type.to_owned()), (CACHE_CONTROL, "no-store".to_owned())];
        Answer { status: 200, headers, body: Body::Bytes(body.into()) }
    }

    /// 204.
    pub(crate) fn nothing() -> Answer {
        Answer { status: 204, ..Answer::of("application/json", Bytes::new()) }
            .without(&CONTENT_TYPE)
    }

    /// 304.
    pub(crate) fn not_modified(etag: &str) -> Answer {
        Answer { status: 304, ..Answer::nothing() }.with(ETAG, etag)
    }

    /// The stream of events.
    pub(crate) fn stream(after: Option<u64>, place: OpenStream) -> Answer {
        Answer { body: Body::Stream(after, place), ..Answer::of("text/event-stream", Bytes::new()) }
    }

    /// A representation, or the part of it that `range` asks for.
    pub(crate) fn ranged(
        of: &Representation<'_>,
        (range, if_range, if_none_match): (Option<&str>, Option<&str>, Option<&str>),
        pieces: Box<dyn Pieces>,
    ) -> Result<Answer, Problem> {
        if range::matches(if_none_match, &of.etag) {
            return Ok(Answer::not_modified(&of.etag));
        }
        let size = of.size;
        let (status, part) = match range::wanted(range, if_range, &of.etag, size) {
            Wanted::All => (200, 0..size),
            Wanted::Part(part) => (206, part),
            Wanted::Outside => {
                let size = Value::from(size);
                return Err(Problem::from(Code::BadRange).with("size", size));
            }
        };
        let mut answer = Answer::of(of.content_type, Bytes::new())
            .with(CACHE_CONTROL, "private, no-store")
            .with(ACCEPT_RANGES, "bytes")
            .with(ETAG, &of.etag);
        answer.status = status;
        if status == 206 {
            let (first, last) = (part.start, part.end - 1);
            answer = answer.with(CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
        }
        answer.body = Body::Pieces(pieces, part);
        Ok(answer)
    }

    /// With a header; replaces one of the same name, cookies apart.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Answer {
        if name != SET_COOKIE {
            self = self.without(&name);
        }
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &HeaderName) -> Answer {
        self.headers.retain(|(other, _)| other != name);
        self
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Answer {
        let mut answer = Answer::of("application/problem+json", problem.json().to_string());
        answer.status = problem.code.status();
        if let Some(seconds) = problem.more.get("retry_after").and_then(Value::as_u64) {
            answer = answer.with(RETRY_AFTER, &seconds.to_string());
        }
        if let Some(size) = problem.more.get("size").filter(|_| problem.code == Code::BadRange) {
            answer = answer.with(CONTENT_RANGE, &format!("bytes */{size}"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Pieces for Nothing {
        fn read(&mut self, range: Range<u64>) -> io::Result<Bytes> {
            Ok(Bytes::from(vec![0; (range.end - range.start) as usize]))
        }
    }

    fn ranged(range: Option<&str>, if_none_match: Option<&str>) -> Answer {
        let of =
            Representation { content_type: "video/mp4", etag: "\"abc\"".to_owned(), size: 100 };
        match Answer::ranged(&of, (range, None, if_none_match), Box::new(Nothing)) {
            Ok(answer) => answer,
            Err(problem) => problem.into(),
        }
    }

    fn header<'a>(answer: &'a Answer, name: &HeaderName) -> Option<&'a str> {
        answer.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_part_has_status_206_and_its_place() {
        let answer = ranged(Some("bytes=-10"), None);
        assert_eq!(answer.status, 206);
        assert_eq!(header(&answer, &CONTENT_RANGE), Some("bytes 90-99/100"));
        assert_eq!(header(&answer, &CACHE_CONTROL), Some("private, no-store"));
        assert!(matches!(answer.body, Body::Pieces(_, part) if part == (90..100)));
        assert_eq!(ranged(None, None).status, 200);
    }

    #[test]
    fn a_range_outside_names_the_size() {
        let answer = ranged(Some("bytes=100-"), None);
        assert_eq!(answer.status, 416);
        assert_eq!(header(&answer, &CONTENT_RANGE), Some("bytes */100"));
        assert_eq!(header(&answer, &CONTENT_TYPE), Some("application/problem+json"));
    }

    #[test]
    fn an_unchanged_representation_has_no_body() {
        let answer = ranged(Some("bytes=0-1"), Some("\"abc\""));
        assert_eq!(answer.status, 304);
        assert!(matches!(answer.body, Body::Bytes(bytes) if bytes.is_empty()));
    }
}
