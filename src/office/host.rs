//! ⇄ The office's MQTT client: subscribes to all boxes, keeps what comes, sends receipts, shows its presence.
//!
//! What belongs here: connecting and passing on. What does not: storing ([`super::archive`]).

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::archive::{Archive, Outcome};
use crate::clock::{Clock, SystemClock};
use crate::units::SiteId;
use crate::uplink::client::{self, Ended, Options, Seen};
use crate::uplink::topics;

/// Pause between connections.
const PAUSE: Duration = Duration::from_secs(2);
/// For `going` to leave at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// What is said of a connection we close ourselves.
const CLOSING: &str = "closing";
/// Commands waiting to be published at most.
pub const COMMANDS: usize = 16;

/// A command to publish: site, name, payload.
pub type Command = (SiteId, String, Vec<u8>);

/// Runs the office until `stop`; every line for people goes to `line`.
pub async fn run(
    mut archive: Archive,
    mut options: Options,
    host: &str,
    mut commands: mpsc::Receiver<Command>,
    mut stop: watch::Receiver<bool>,
    mut line: impl FnMut(String),
) {
    let presence = topics::host_state(host);
    options.will = Some((presence.clone(), br#"{"v":1,"state":"lost"}"#.to_vec()));
    let clock = SystemClock::new();
    let mut waiting: VecDeque<(String, Vec<u8>, bool)> = VecDeque::new();
    while !*stop.borrow() {
        let (sender, mut connection) = client::connect(&options);
        sender.subscribe(topics::ALL_UP);
        sender.publish(0, &presence, br#"{"v":1,"state":"online"}"#.to_vec(), true);
        waiting.clear();
        let reason = loop {
            let mut poll = pin!(connection.poll());
            let seen = loop {
                while let Some((topic, payload, retain)) = waiting.front()
                    && sender.publish(0, topic, payload.clone(), *retain)
                {
                    waiting.pop_front();
                }
                tokio::select! {
                    seen = &mut poll => break seen,
                    Some((site, name, payload)) = commands.recv() => {
                        waiting.push_back((topics::dn(&site, &format!("cmd/{name}")), payload, false));
                    }
                    _ = stop.wait_for(|stop| *stop) => {
                        sender.publish(0, &presence, br#"{"v":1,"state":"going"}"#.to_vec(), true);
                        sender.disconnect();
                        break Err(Ended { reason: CLOSING.into(), refused: false, too_large: false });
                    }
                }
            };
            match seen {
                Ok(Seen::Connected(..)) => line(format!("office connected to {}:{}", options.host, options.port)),
                Ok(Seen::Message(topic, payload)) => {
                    let now = clock.now().wall.rfc3339();
                    match archive.take(&topic, &payload, &now) {
                        Ok(outcome) => pass_on(&topic, outcome, &mut waiting, &mut line),
                        // No receipt: the box keeps it and sends it again.
                        Err(error) => line(format!("NOT KEPT: {topic}: {error:#}")),
                    }
                    match archive.take_config(&topic, &payload, &now) {
                        Ok(answer) => {
                            line_of(answer.line, &mut line);
                            waiting.extend(answer.publish.map(|(topic, payload)| (topic, payload, false)));
                        }
                        Err(error) => line(format!("no answer about a configuration: {topic}: {error:#}")),
                    }
                }
                Ok(_) => {}
                Err(ended) => break ended.reason,
            }
        };
        if *stop.borrow() {
            let until = Instant::now() + CLOSE_WITHIN;
            while let Ok(Ok(_)) = timeout(until.saturating_duration_since(Instant::now()), connection.poll()).await {}
            return;
        }
        line(format!("no broker at {}:{}: {reason}", options.host, options.port));
        tokio::select! {
            () = sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

fn pass_on(topic: &str, outcome: Outcome, waiting: &mut VecDeque<(String, Vec<u8>, bool)>, line: &mut impl FnMut(String)) {
    if let (Some(ack), Some((site, _))) = (outcome.ack, topics::read_up(topic)) {
        waiting.push_back((topics::dn(&site, "ack"), serde_json::to_vec(&ack).unwrap_or_default(), false));
    }
    line_of(outcome.line, line);
}

fn line_of(text: Option<String>, line: &mut impl FnMut(String)) {
    if let Some(text) = text {
        line(text);
    }
}
