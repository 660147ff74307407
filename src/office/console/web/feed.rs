//! From changes of the archive to events for pages: rows are read again, at most four times a
//! second, and every few seconds all sites are judged, because silence is no message.
#![expect(clippy::disallowed_methods, reason = "shell: starts tasks, waits, reads a clock")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};

use super::Web;
use super::event_ring::PageEvent;
use super::problem::Problem;
use super::web_state::lock;
use crate::office::change::Change;

/// Pause between two readings: changes of one site within it are one event.
const GATHER: Duration = Duration::from_millis(250);
/// Pause between two judgements of all sites.
const JUDGE: Duration = Duration::from_secs(5);
/// Motion events that are read again at once at most; of more, pages read their lists again.
const MOTION_EVENTS_MAX: usize = 500;

/// What changed since the last reading.
#[derive(Debug, Default)]
struct Dirty {
    sites: bool,
    motion_events: BTreeSet<(String, String)>,
    notices: Vec<Value>,
    has_missed: bool,
}

impl Dirty {
    fn is_empty(&self) -> bool {
        !self.sites && !self.has_missed && self.motion_events.is_empty() && self.notices.is_empty()
    }

    fn add(&mut self, change: Change) {
        match change {
            Change::Site { .. } => self.sites = true,
            Change::MotionEvent { site, id } => {
                self.motion_events.insert((site, id));
            }
            Change::File { site, purpose, event, .. } => {
                self.sites |= purpose == "snapshot";
                if !event.is_empty() {
                    self.motion_events.insert((site, event));
                }
            }
            // Files and events are gone: snapshots of sites, clips of events that pages show.
            Change::Released { .. } => self.has_missed = true,
            // The sender of the command waits for the reply itself.
            Change::Reply { .. } => {}
            Change::Notice { site, text } => {
                self.notices.push(json!({"site": site, "text": text}));
            }
        }
        if self.motion_events.len() + self.notices.len() > MOTION_EVENTS_MAX {
            *self = Dirty { has_missed: true, ..Dirty::default() };
        }
    }
}

/// Reads changes until the archive ends.
pub(crate) async fn run(web: Arc<Web>, mut changes: Receiver<Change>) {
    let mut dirty = Dirty { sites: true, ..Dirty::default() };
    let mut shown: HashMap<String, String> = HashMap::new();
    let mut judge_at = Instant::now();
    let mut publish_at = Instant::now();
    let mut stop = web.stop.clone();
    loop {
        let due = if dirty.is_empty() { judge_at } else { publish_at.min(judge_at) };
        tokio::select! {
            change = changes.recv() => {
                if dirty.is_empty() {
                    publish_at = Instant::now() + GATHER;
                }
                match change {
                    Ok(change) => dirty.add(change),
                    Err(RecvError::Lagged(_)) => dirty.has_missed = true,
                    Err(RecvError::Closed) => return,
                }
            }
            () = sleep_until(due) => {
                judge_at = Instant::now() + JUDGE;
                let (work, web) = (std::mem::take(&mut dirty), web.clone());
                let task = tokio::task::spawn_blocking(move || {
                    let published = publish(&web, work, &mut shown);
                    (shown, published)
                });
                let Ok((back, published)) = task.await else { return };
                shown = back;
                if let Err(problem) = published {
                    let detail = problem.detail;
                    tracing::warn!(detail, "events for pages not read; the office tries again in 5 s");
                    dirty.has_missed = true;
                    publish_at = Instant::now() + JUDGE;
                }
            }
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
    }
}

/// Reads what changed and adds the events; a site that looks as before makes none.
fn publish(web: &Web, dirty: Dirty, shown: &mut HashMap<String, String>) -> Result<(), Problem> {
    let mut events = Vec::new();
    web.read_groups()?;
    for view in web.site_views(web.clock.now().wall)? {
        let data = serde_json::to_string(&view).unwrap_or_default();
        web.note_site(&view.site, &view.group, view.privacy_zones != Some(0));
        if shown.get(&view.site) != Some(&data) {
            shown.insert(view.site.clone(), data.clone());
            events.push(PageEvent { kind: "site", site: Some(view.site), data: data.into() });
        }
    }
    for (site, id) in dirty.motion_events {
        if let Some(event) = web.motion_event_view(&site, &id)? {
            let data = event.to_string().into();
            events.push(PageEvent { kind: "motion_event", site: Some(site), data });
        }
    }
    for notice in dirty.notices {
        let site = notice["site"].as_str().map(str::to_owned);
        events.push(PageEvent { kind: "notice", site, data: notice.to_string().into() });
    }
    let mut ring = lock(&web.ring);
    if dirty.has_missed {
        ring.reset();
    }
    events.into_iter().for_each(|event| ring.push(event));
    web.newest.send_replace(ring.newest());
    Ok(())
}
