//! Ingest queue: one bounded queue and one budget for each site, served round-robin.
//!
//! A device over its budget waits, and messages beyond its queue are dropped without a receipt, so
//! it sends them again. Other sites are not delayed. The caller gives the time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::units::{MonoTime, SiteId};

/// Messages and bytes of one queue at most: more than an honest device has in flight (16 messages,
/// two files of 1 MiB each).
const QUEUE_MESSAGES: usize = 1024;
const QUEUE_BYTES: usize = 4 << 20;
/// Bytes of all queues at most; beyond them the longest queue drops its newest message.
const ALL_BYTES: usize = 32 << 20;
/// Queues at most; empty queues with an unspent budget are removed.
const QUEUES: usize = 10_000;
/// Budgets of a site.
const MESSAGES: Rate = Rate { burst: 5_000, per_second: 1_000 };
const BYTES: Rate = Rate { burst: 96 << 20, per_second: 20 << 20 };
const ROWS: Rate = Rate { burst: 15_000, per_second: 1_000 };
/// Microseconds below which a refill would round to nothing.
const REFILL_MIN: u64 = 10_000;

struct Rate {
    burst: u64,
    per_second: u64,
}

/// A topic and its payload.
pub type Message = (String, Vec<u8>);

/// Approximate memory of a message, bytes.
fn weight((topic, payload): &Message) -> usize {
    topic.len() + payload.len() + 128
}

#[derive(Default)]
struct SiteQueue {
    waiting: VecDeque<Message>,
    bytes: usize,
    /// Spent units of each budget; time refills them.
    spent: [u64; 3],
    refilled_at: MonoTime,
}

/// Cost of a message: messages, bytes, rows. A message with a large answer, or one that overwrites
/// rows, costs as much as many.
fn cost((topic, payload): &Message) -> [u64; 3] {
    let tail = topic.split_once("/up/").map_or("", |(_, tail)| tail);
    let (messages, rows) = match tail {
        "event" => (1, 1 + payload.len() as u64 / 256),
        "config/get" => (500, 0),
        "config/reported" => (50, 50),
        "state" | "birth" | "health" | "rsp" => (20, 20),
        _ if tail.ends_with("/init") || tail.ends_with("/fin") || tail.ends_with("/abort") => {
            (4, 4)
        }
        _ => (1, 0),
    };
    [messages, payload.len() as u64, rows]
}

impl SiteQueue {
    fn refill(&mut self, now: MonoTime) {
        let micros = now.since(self.refilled_at);
        if micros < REFILL_MIN {
            return;
        }
        for (spent, rate) in self.spent.iter_mut().zip([&MESSAGES, &BYTES, &ROWS]) {
            *spent = spent.saturating_sub(rate.per_second.saturating_mul(micros) / 1_000_000);
        }
        self.refilled_at = now;
    }

    /// Time until the budget allows the next message, counted from the last refill.
    fn wait(&self) -> Duration {
        let rates = self.spent.iter().zip([&MESSAGES, &BYTES, &ROWS]);
        let micros = rates
            .map(|(spent, rate)| spent.saturating_sub(rate.burst) * 1_000_000 / rate.per_second)
            .max();
        Duration::from_micros(micros.unwrap_or(0))
    }
}

/// The queues of all sites.
#[derive(Default)]
pub struct IngestQueue {
    queues: HashMap<SiteId, SiteQueue>,
    /// Sites with a message, in the order of service.
    turn: VecDeque<SiteId>,
    bytes: usize,
}

impl IngestQueue {
    /// Queues a message. Returns the site that lost a message: this one, or that of the longest
    /// queue.
    pub fn push(&mut self, site: &SiteId, message: Message, now: MonoTime) -> Option<SiteId> {
        if self.queues.len() >= QUEUES && !self.queues.contains_key(site) {
            self.queues.retain(|_, queue| {
                queue.refill(now);
                !queue.waiting.is_empty() || queue.spent != [0; 3]
            });
            if self.queues.len() >= QUEUES {
                return Some(site.clone());
            }
        }
        let queue = self
            .queues
            .entry(site.clone())
            .or_insert_with(|| SiteQueue { refilled_at: now, ..SiteQueue::default() });
        let len = weight(&message);
        if queue.waiting.len() >= QUEUE_MESSAGES || queue.bytes + len > QUEUE_BYTES {
            return Some(site.clone());
        }
        if queue.waiting.is_empty() {
            self.turn.push_back(site.clone());
        }
        queue.waiting.push_back(message);
        queue.bytes += len;
        self.bytes += len;
        if self.bytes > ALL_BYTES { self.drop_one() } else { None }
    }

    /// Drops the newest message of the longest queue.
    fn drop_one(&mut self) -> Option<SiteId> {
        let (site, queue) = self.queues.iter_mut().max_by_key(|(_, queue)| queue.bytes)?;
        let (site, message) = (site.clone(), queue.waiting.pop_back()?);
        queue.bytes -= weight(&message);
        self.bytes -= weight(&message);
        if queue.waiting.is_empty() {
            self.turn.retain(|other| *other != site);
        }
        Some(site)
    }

    /// Takes the next messages, one of each site in turn, until `most` messages or `most_bytes`
    /// bytes. Sites over their budget wait.
    pub fn take(&mut self, most: usize, most_bytes: usize, now: MonoTime) -> Vec<Message> {
        let (mut taken, mut bytes, mut idle) = (Vec::new(), 0, 0);
        while taken.len() < most && bytes < most_bytes && idle < self.turn.len() {
            let Some(site) = self.turn.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&site) else { continue };
            queue.refill(now);
            if queue.wait() > Duration::ZERO {
                idle += 1;
                self.turn.push_back(site);
                continue;
            }
            idle = 0;
            if let Some(message) = queue.waiting.pop_front() {
                let len = weight(&message);
                queue.bytes -= len;
                self.bytes -= len;
                bytes += len;
                queue.spent.iter_mut().zip(cost(&message)).for_each(|(spent, cost)| *spent += cost);
                taken.push(message);
            }
            if !queue.waiting.is_empty() {
                self.turn.push_back(site);
            }
        }
        taken
    }

    /// Time until a message can be taken; `None` when all queues are empty.
    pub fn wait(&self, now: MonoTime) -> Option<Duration> {
        let queues = self.turn.iter().filter_map(|site| self.queues.get(site));
        let left = |queue: &SiteQueue| {
            queue.wait().saturating_sub(Duration::from_micros(now.since(queue.refilled_at)))
        };
        queues.map(left).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::parse(name).unwrap()
    }

    fn event(site: &SiteId) -> Message {
        (crate::uplink::topics::up(site, "event"), vec![0; 400])
    }

    #[test]
    fn a_flooding_site_is_served_in_turn_and_loses_its_excess() {
        let (mut queue, now) = (IngestQueue::default(), MonoTime(1));
        let (loud, calm) = (site("loud"), site("calm"));
        let taken = (0..5_000).filter(|_| queue.push(&loud, event(&loud), now).is_none()).count();
        assert_eq!(taken, QUEUE_MESSAGES);
        assert_eq!(queue.push(&calm, event(&calm), now), None);
        let first = queue.take(2, usize::MAX, now);
        assert!(
            first.iter().any(|(topic, _)| topic.contains("/calm/")),
            "the calm site waits behind the flood"
        );
    }

    #[test]
    fn a_site_over_its_budget_waits_until_the_refill() {
        let (mut queue, mut now, mut served) = (IngestQueue::default(), MonoTime(1), 0);
        let loud = site("loud");
        for _ in 0..1_000 {
            (0..900).for_each(|_| _ = queue.push(&loud, event(&loud), now));
            served += queue.take(900, usize::MAX, now).len();
            now = now.plus_micros(10_000);
        }
        let allowed = (ROWS.burst + 10 * ROWS.per_second) / 2;
        assert!(
            (allowed - 300..allowed + 300).contains(&(served as u64)),
            "{served} of {allowed} in 10 s"
        );
        while !queue.take(900, usize::MAX, now).is_empty() {}
        let wait = queue.wait(now).unwrap();
        assert!(wait > Duration::ZERO && queue.take(9, usize::MAX, now).is_empty(), "{wait:?}");
        assert!(
            !queue
                .take(9, usize::MAX, now.plus_micros(wait.as_micros() as u64 + REFILL_MIN))
                .is_empty()
        );
    }

    #[test]
    fn all_queues_are_bounded_and_the_longest_one_drops() {
        let (mut queue, now) = (IngestQueue::default(), MonoTime(1));
        let calm = site("calm");
        queue.push(&calm, event(&calm), now);
        for number in 0..20 {
            let loud = site(&format!("loud-{number}"));
            (0..7).for_each(|_| _ = queue.push(&loud, (String::new(), vec![0; 512 << 10]), now));
        }
        assert!(queue.bytes <= ALL_BYTES);
        assert!(queue.queues[&calm].waiting.len() == 1, "the calm site lost its message");
    }
}
