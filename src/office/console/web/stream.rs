//! The stream of events of one page (server-sent events).
#![expect(clippy::disallowed_methods, reason = "shell: starts tasks, waits, reads a clock")]

use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use super::event_ring::{Gone, PageEvent, text};
use super::problem::Problem;
use super::web_state::lock;
use super::{Web, body, limits};
use crate::office::console::people::rights::{ALL_SITES, Right};
use crate::office::console::people::session::{Decision, Session};
use crate::units::WallTime;

/// Events that are sent at once at most.
const BATCH: usize = 256;
/// First bytes of a stream: a browser comes back after two seconds, and proxies pass the head on.
const GREETING: &str = "retry: 2000\n\n";

/// The place of an open stream among those of its session, until it is dropped.
pub(crate) struct OpenStream(Arc<Web>, String);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut streams = lock(&self.0.streams);
        if let Some(open) = streams.get_mut(&self.1) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.1);
            }
        }
    }
}

impl Web {
    /// A place for one more stream of the session; `None` when it has all of its own.
    pub(crate) fn place_for_stream(self: &Arc<Web>, session: &str) -> Option<OpenStream> {
        let mut streams = lock(&self.streams);
        let open = streams.entry(session.to_owned()).or_default();
        if *open >= limits::STREAMS_OF_SESSION {
            return None;
        }
        *open += 1;
        Some(OpenStream(self.clone(), session.to_owned()))
    }
}

/// Begins the stream after the event `after`; without it, with the next event. It ends with its
/// session, with the connection, and with the office.
pub(crate) fn begin(place: OpenStream, cookie: String, after: Option<u64>) -> Body {
    let (sender, body) = body::written();
    tokio::spawn(async move {
        let web = place.0.clone();
        let stop = web.stop.clone();
        let mut stopped = stop.clone();
        tokio::select! {
            () = feed(web, cookie, after, &sender) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
            () = sender.closed() => {}
        }
    });
    body
}

async fn feed(web: Arc<Web>, cookie: String, after: Option<u64>, to: &Sender<io::Result<Bytes>>) {
    let Some(mut session) = check(&web, &cookie).await else { return };
    let mut newest = web.newest.subscribe();
    let mut at = after.unwrap_or_else(|| lock(&web.ring).newest());
    if send(to, GREETING.to_owned()).await.is_err() {
        return;
    }
    let (mut checked, mut sent) = (Instant::now(), Instant::now());
    loop {
        if checked.elapsed() >= limits::STREAM_CHECK {
            // Rights may have changed, or the session was ended: however much there is to send.
            let Some(valid) = check(&web, &cookie).await else { return };
            session = valid;
            checked = Instant::now();
        }
        newest.mark_unchanged();
        let found = lock(&web.ring).after(at, BATCH);
        let lines = match found {
            Ok(events) => {
                at = events.last().map_or(at, |(id, _)| *id);
                let now = web.clock.now().wall;
                let seen = events.iter().filter(|(_, event)| may_see(&web, &session, event, now));
                seen.map(|(id, event)| text(*id, event.kind, &event.data)).collect::<String>()
            }
            Err(Gone) => {
                at = lock(&web.ring).newest();
                text(at, "reset", "{}")
            }
        };
        if !lines.is_empty() {
            if send(to, lines).await.is_err() {
                return;
            }
            sent = Instant::now();
            continue;
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = sleep(limits::STREAM_CHECK) => {
                if sent.elapsed() >= limits::KEEP_ALIVE {
                    if send(to, ": still here\n\n".to_owned()).await.is_err() {
                        return;
                    }
                    sent = Instant::now();
                }
            }
        }
    }
}

async fn check(web: &Arc<Web>, cookie: &str) -> Option<Session> {
    let (web, cookie) = (web.clone(), cookie.to_owned());
    let read = move || -> Result<Option<Session>, Problem> { web.peek_session(&cookie) };
    tokio::task::spawn_blocking(read).await.ok()?.ok()?
}

async fn send(to: &Sender<io::Result<Bytes>>, text: String) -> Result<(), ()> {
    to.send(Ok(text.into())).await.map_err(drop)
}

/// Whether a session may see an event.
fn may_see(web: &Web, session: &Session, event: &PageEvent, now: WallTime) -> bool {
    let group = match &event.site {
        None => ALL_SITES.to_owned(),
        Some(site) => web.known_group(site),
    };
    matches!(session.decide(Right::Board, &group, now), Decision::Allowed(..))
}
