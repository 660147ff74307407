//! From a request to its answer: guard, body, handler on a thread of its own, strict headers.
#![expect(clippy::disallowed_methods, reason = "shell: starts tasks, reads a clock, waits")]

use axum::body::Body as HttpBody;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode, request};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Body};
use super::call::Call;
use super::guard;
use super::problem::{Code, Problem};
use super::route::{Route, Takes, Weight};
use super::server::Peer;
use super::{Web, admission, body, headers, limits, stream};

/// Compression of answers that are built for each request: speed counts more than the last percent.
const GZIP_LEVEL: u32 = 1;

/// Parameters of the path, percent-decoded.
pub(crate) type Params = Result<RawPathParams, RawPathParamsRejection>;

/// Answers a request that the router found a row for.
pub(crate) async fn answer(
    web: Arc<Web>,
    route: &'static Route,
    params: Params,
    request: Request,
) -> Response {
    // A path that is no UTF-8 names nothing.
    let Ok(params) = params else {
        return unrouted(Code::NotFound, request.headers());
    };
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let until = started + limits::HANDLER_TIMEOUT;
    let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut cookie = String::new();
    let takes_gzip = headers::takes_gzip(&head.headers);
    let answered = match prepare(&web, route, params, head, body, until).await {
        Ok((call, permit)) => {
            cookie.clone_from(&call.cookie);
            execute(route, call, permit, until).await
        }
        Err(problem) => Err(problem),
    };
    let answer = answered.unwrap_or_else(|problem| {
        if problem.code == Code::Internal {
            let (method, path) = (route.method.as_str(), route.path);
            tracing::error!(method, path, detail = problem.detail, "web request failed");
        }
        Problem { detail: shown_detail(&problem), ..problem }.into()
    });
    web.counts.request(route, answer.status, started.elapsed());
    respond(answer, takes_gzip, cookie)
}

/// A fault of the office stands in its log: it may name files.
fn shown_detail(problem: &Problem) -> String {
    if problem.code == Code::Internal { String::new() } else { problem.detail.clone() }
}

/// The call, after everything that can refuse it, and the place among the heavy ones.
async fn prepare(
    web: &Arc<Web>,
    route: &'static Route,
    params: Vec<(String, String)>,
    head: request::Parts,
    body: HttpBody,
    until: Instant,
) -> Result<(Call, Option<OwnedSemaphorePermit>), Problem> {
    let peer = *head.extensions.get::<Peer>().ok_or(Code::Internal)?;
    let host = head.uri.authority().map(|authority| authority.as_str());
    guard::check_origin(route.method, &head.headers, host, peer.is_tls)?;
    guard::check_type(route.takes, &head.headers)?;
    let query = head.uri.query().unwrap_or_default();
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let call = Call {
        web: web.clone(),
        session: None,
        cookie: String::new(),
        allowed: None,
        file: None,
        peer,
        params,
        query,
        headers: head.headers,
        body: Bytes::new(),
        now: web.clock.now().wall,
    };
    // Before the body: no user without a right makes the office hold 20 MiB.
    let mut call = blocking(until, None, move || admission::admit(route, call)).await?;
    call.body = read_body(body, route.takes, until).await?;
    let places = match route.weight {
        Weight::Quick => return Ok((call, None)),
        Weight::Heavy => &web.heavy,
        Weight::Command => &web.commands,
        Weight::Login => &web.logins,
    };
    match timeout_at(until, places.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok((call, Some(permit))),
        _ => Err(Code::Busy.into()),
    }
}

/// Runs the handler. A stream of events begins after it, with its own place.
async fn execute(
    route: &'static Route,
    call: Call,
    permit: Option<OwnedSemaphorePermit>,
    until: Instant,
) -> Result<Answer, Problem> {
    blocking(until, permit, move || (route.handler)(&call)).await
}

/// Runs what blocks on a thread of its own. After `until` the request waits for it no longer; its place
/// among the heavy ones is free when it has really ended.
async fn blocking<T: Send + 'static>(
    until: Instant,
    permit: Option<OwnedSemaphorePermit>,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let task = tokio::task::spawn_blocking(move || {
        let _until_dropped = permit;
        work()
    });
    match timeout_at(until, task).await {
        Ok(Ok(done)) => done,
        Ok(Err(panicked)) => Err(Problem::new(Code::Internal, panicked.to_string())),
        Err(_) => Err(Code::Timeout.into()),
    }
}

/// The whole body, within its limit and until `until`.
async fn read_body(body: HttpBody, takes: Takes, until: Instant) -> Result<Bytes, Problem> {
    let most = match takes {
        Takes::Nothing => return Ok(Bytes::new()),
        Takes::Json(_) => limits::BODY_MAX,
        Takes::Image => limits::PLAN_MAX,
    };
    let read = async {
        let mut body = std::pin::pin!(body);
        let mut whole = BytesMut::new();
        while let Some(frame) =
            std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
        {
            let frame = frame.map_err(|error| Problem::bad(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > most {
                return Err(Problem::new(Code::TooLarge, format!("at most {most} bytes")));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    };
    timeout_at(until, read).await.unwrap_or_else(|_| Err(Code::Slow.into()))
}

/// The response on the connection: strict headers, and gzip where it helps.
fn respond(answer: Answer, takes_gzip: bool, cookie: String) -> Response {
    let kind = answer.headers.iter().find(|(name, _)| *name == CONTENT_TYPE);
    let kind = kind.map(|(_, kind)| kind.clone()).unwrap_or_default();
    let has_encoding = answer.headers.iter().any(|(name, _)| *name == CONTENT_ENCODING);
    let mut is_compressed = false;
    let body = match answer.body {
        Body::Bytes(bytes)
            if takes_gzip && !has_encoding && headers::is_text(&kind, bytes.len()) =>
        {
            let smaller = headers::gzip(&bytes, GZIP_LEVEL);
            is_compressed = smaller.is_some();
            smaller.map_or_else(|| HttpBody::from(bytes), HttpBody::from)
        }
        Body::Bytes(bytes) => HttpBody::from(bytes),
        Body::Pieces(source, range) => body::pieces(source, range),
        Body::Stream(after, place) => stream::begin(place, cookie, after),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    let into = response.headers_mut();
    for (name, value) in headers::STRICT {
        into.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in answer.headers {
        // A value that is no header's would be of our own making.
        if let Ok(value) = HeaderValue::try_from(value) {
            into.append(name, value);
        }
    }
    if is_compressed {
        into.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The answer where the table has no row: the path is unknown, or does not know the method.
pub(crate) fn unrouted(code: Code, request_headers: &HeaderMap) -> Response {
    respond(Problem::from(code).into(), headers::takes_gzip(request_headers), String::new())
}
