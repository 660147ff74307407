//! Messages before the archive: one lane for each site, served in turn, each with a budget of its own. A device that sends more than its
//! budget waits with what it has sent, and what it sends beyond its lane is dropped without a receipt: it sends again. The others do not
//! notice.
//!
//! What belongs here: order and budgets, pure over the time they are reported. What does not: threads ([`super::archive_thread`]).

use std::collections::{HashMap, VecDeque};

use crate::units::{MonoTime, SiteId};

/// Messages and bytes of one site that wait at most: twice what an honest device has on its way (16 messages, two files of 1 MiB each).
const LANE: usize = 1024;
const QUEUE_BYTES: usize = 4 << 20;
/// Bytes of all sites that wait at most; the longest lane gives way.
const ALL_BYTES: usize = 32 << 20;
/// Lanes at most; those that are empty and rested are forgotten.
const LANES: usize = 10_000;
/// What a site may spend: so many in a burst, so many a second behind it.
const MESSAGES: Rate = Rate { burst: 5_000, per_second: 1_000 };
const BYTES: Rate = Rate { burst: 96 << 20, per_second: 20 << 20 };
const ROWS: Rate = Rate { burst: 15_000, per_second: 1_000 };

struct Rate {
    burst: u64,
    per_second: u64,
}

/// A topic and its payload.
pub type Message = (String, Vec<u8>);

/// What a message takes in memory, about.
fn weight((topic, payload): &Message) -> usize {
    topic.len() + payload.len() + 128
}

#[derive(Default)]
struct SiteQueue {
    waiting: VecDeque<Message>,
    bytes: usize,
    /// Spent of each rate; it pays back with time.
    spent: [u64; 3],
    at: MonoTime,
}

/// What a message costs: messages, bytes, rows. What the office answers with much, or writes over and over, counts for many.
fn cost((topic, payload): &Message) -> [u64; 3] {
    let tail = topic.split_once("/up/").map_or("", |(_, tail)| tail);
    let (messages, rows) = match tail {
        "event" => (1, 1 + payload.len() as u64 / 256),
        "config/get" => (500, 0),
        "config/reported" => (50, 50),
        "state" | "birth" | "health" | "rsp" => (20, 20),
        _ if tail.ends_with("/init") || tail.ends_with("/fin") || tail.ends_with("/abort") => (4, 4),
        _ => (1, 0),
    };
    [messages, payload.len() as u64, rows]
}

impl SiteQueue {
    fn refill(&mut self, now: MonoTime) {
        let micros = now.since(self.at);
        // A shorter time would pay for less than a unit, and be forgotten.
        if micros < 10_000 {
            return;
        }
        for (spent, rate) in self.spent.iter_mut().zip([&MESSAGES, &BYTES, &ROWS]) {
            *spent = spent.saturating_sub(rate.per_second.saturating_mul(micros) / 1_000_000);
        }
        self.at = now;
    }

    /// Microseconds until the budget allows the next message.
    fn wait(&self) -> u64 {
        let rates = self.spent.iter().zip([&MESSAGES, &BYTES, &ROWS]);
        rates.map(|(spent, rate)| spent.saturating_sub(rate.burst) * 1_000_000 / rate.per_second).max().unwrap_or(0)
    }
}

/// The lanes.
#[derive(Default)]
pub struct IngestQueue {
    lanes: HashMap<SiteId, SiteQueue>,
    /// Those with something in them, in the order they are served.
    turn: VecDeque<SiteId>,
    bytes: usize,
}

impl IngestQueue {
    /// Takes a message. Gives the site of which one had to be dropped: its own, or that of the longest lane.
    pub fn push(&mut self, site: &SiteId, message: Message, now: MonoTime) -> Option<SiteId> {
        if self.lanes.len() >= LANES && !self.lanes.contains_key(site) {
            self.lanes.retain(|_, lane| {
                lane.refill(now);
                !lane.waiting.is_empty() || lane.spent != [0; 3]
            });
            if self.lanes.len() >= LANES {
                return Some(site.clone());
            }
        }
        let lane = self.lanes.entry(site.clone()).or_insert_with(|| SiteQueue { at: now, ..SiteQueue::default() });
        let len = weight(&message);
        if lane.waiting.len() >= LANE || lane.bytes + len > QUEUE_BYTES {
            return Some(site.clone());
        }
        if lane.waiting.is_empty() {
            self.turn.push_back(site.clone());
        }
        lane.waiting.push_back(message);
        lane.bytes += len;
        self.bytes += len;
        if self.bytes > ALL_BYTES { self.drop_one() } else { None }
    }

    /// Drops the newest message of the longest lane.
    fn drop_one(&mut self) -> Option<SiteId> {
        let (site, lane) = self.lanes.iter_mut().max_by_key(|(_, lane)| lane.bytes)?;
        let (site, message) = (site.clone(), lane.waiting.pop_back()?);
        lane.bytes -= weight(&message);
        self.bytes -= weight(&message);
        if lane.waiting.is_empty() {
            self.turn.retain(|other| *other != site);
        }
        Some(site)
    }

    /// The next messages, one of each site in turn, up to so many or so many bytes; those whose budget is spent wait.
    pub fn take(&mut self, most: usize, most_bytes: usize, now: MonoTime) -> Vec<Message> {
        let (mut taken, mut bytes, mut idle) = (Vec::new(), 0, 0);
        while taken.len() < most && bytes < most_bytes && idle < self.turn.len() {
            let Some(site) = self.turn.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&site) else { continue };
            lane.refill(now);
            if lane.wait() > 0 {
                idle += 1;
                self.turn.push_back(site);
                continue;
            }
            idle = 0;
            if let Some(message) = lane.waiting.pop_front() {
                let len = weight(&message);
                lane.bytes -= len;
                (self.bytes, bytes) = (self.bytes - len, bytes + len);
                lane.spent.iter_mut().zip(cost(&message)).for_each(|(spent, cost)| *spent += cost);
                taken.push(message);
            }
            if !lane.waiting.is_empty() {
                self.turn.push_back(site);
            }
        }
        taken
    }

    /// Microseconds until something can be taken; `None` when nothing waits.
    pub fn wait(&self, now: MonoTime) -> Option<u64> {
        let lanes = self.turn.iter().filter_map(|site| self.lanes.get(site));
        lanes.map(|lane| lane.wait().saturating_sub(now.since(lane.at))).min()
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
    fn one_that_floods_is_served_in_turn_and_its_excess_dropped() {
        let (mut queue, now) = (IngestQueue::default(), MonoTime(1));
        let (loud, calm) = (site("loud"), site("calm"));
        let taken = (0..5_000).filter(|_| queue.push(&loud, event(&loud), now).is_none()).count();
        assert_eq!(taken, LANE);
        assert_eq!(queue.push(&calm, event(&calm), now), None);
        let first = queue.take(2, usize::MAX, now);
        assert!(first.iter().any(|(topic, _)| topic.contains("/calm/")), "it waits behind the flood");
    }

    #[test]
    fn a_spent_budget_waits_and_pays_back_with_time() {
        let (mut queue, mut now, mut served) = (IngestQueue::default(), MonoTime(1), 0);
        let loud = site("loud");
        for _ in 0..1_000 {
            (0..900).for_each(|_| _ = queue.push(&loud, event(&loud), now));
            served += queue.take(900, usize::MAX, now).len();
            now = now.plus_micros(10_000);
        }
        let allowed = (ROWS.burst + 10 * ROWS.per_second) / 2;
        assert!((allowed - 300..allowed + 300).contains(&(served as u64)), "{served} of {allowed} in 10 s");
        while !queue.take(900, usize::MAX, now).is_empty() {}
        let wait = queue.wait(now).unwrap();
        assert!(wait > 0 && queue.take(9, usize::MAX, now).is_empty(), "{wait}");
        assert!(!queue.take(9, usize::MAX, now.plus_micros(wait + 10_000)).is_empty());
    }

    #[test]
    fn all_lanes_together_are_bounded_and_the_longest_gives_way() {
        let (mut queue, now) = (IngestQueue::default(), MonoTime(1));
        let calm = site("calm");
        queue.push(&calm, event(&calm), now);
        for number in 0..20 {
            let loud = site(&format!("loud-{number}"));
            (0..7).for_each(|_| _ = queue.push(&loud, (String::new(), vec![0; 512 << 10]), now));
        }
        assert!(queue.bytes <= ALL_BYTES);
        assert!(queue.lanes[&calm].waiting.len() == 1, "the calm one lost its message");
    }
}
