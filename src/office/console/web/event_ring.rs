//! The newest events for pages, numbered, so that a page that lost its connection goes on where it
//! was.

use std::collections::VecDeque;
use std::sync::Arc;

/// An event for pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageEvent {
    /// `site`, `motion_event`, `notice`.
    pub(crate) kind: &'static str,
    /// Only sessions with the right `board` for this site see it; `None`: with a role for all sites.
    pub(crate) site: Option<String>,
    /// JSON, one line.
    pub(crate) data: Arc<str>,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct EventRing {
    events: VecDeque<PageEvent>,
    /// Number of the newest event.
    newest: u64,
    capacity: usize,
}

/// What a page asks for has left the ring, or is of another run of the office.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl EventRing {
    /// An empty ring. `first` is above every number of an earlier run.
    pub(crate) fn new(first: u64, capacity: usize) -> EventRing {
        EventRing { events: VecDeque::new(), newest: first, capacity }
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, event: PageEvent) {
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.newest += 1;
    }

    /// Forgets all events: pages read everything again.
    pub(crate) fn reset(&mut self) {
        self.events.clear();
        self.newest += 1;
    }

    /// Number of the newest event.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// At most `most` events after the number `after`, with their numbers.
    ///
    /// # Errors
    /// [`Gone`] when the ring does not have all of them.
    pub(crate) fn after(&self, after: u64, most: usize) -> Result<Vec<(u64, PageEvent)>, Gone> {
        let oldest_known = self.newest - self.events.len() as u64;
        if after < oldest_known || after > self.newest {
            return Err(Gone);
        }
        let skipped = (after - oldest_known) as usize;
        let numbered = (after + 1..).zip(self.events.iter().skip(skipped).take(most).cloned());
        Ok(numbered.collect())
    }
}

/// The text of an event in a stream (HTML standard, section 9.2.6). JSON has no line feeds.
pub(crate) fn text(id: u64, kind: &str, data: &str) -> String {
    format!("event: {kind}\nid: {id}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(events: u64) -> EventRing {
        let mut ring = EventRing::new(1_000, 5);
        for n in 0..events {
            ring.push(PageEvent { kind: "site", site: None, data: n.to_string().into() });
        }
        ring
    }

    fn numbers(ring: &EventRing, after: u64) -> Result<Vec<u64>, Gone> {
        ring.after(after, 99).map(|events| events.iter().map(|(n, _)| *n).collect())
    }

    #[test]
    fn a_page_goes_on_after_its_last_event() {
        let ring = ring(3);
        assert_eq!(numbers(&ring, 1_000), Ok(vec![1_001, 1_002, 1_003]));
        assert_eq!(numbers(&ring, 1_002), Ok(vec![1_003]));
        assert_eq!(numbers(&ring, 1_003), Ok(vec![]));
        assert_eq!(ring.after(1_001, 1).unwrap()[0].1.data.as_ref(), "1");
    }

    #[test]
    fn a_page_that_missed_too_much_reads_everything_again() {
        let ring = ring(7);
        assert_eq!(ring.newest(), 1_007);
        assert_eq!(numbers(&ring, 1_001), Err(Gone));
        assert_eq!(numbers(&ring, 1_002).map(|all| all.len()), Ok(5));
        assert_eq!(numbers(&ring, 1_008), Err(Gone), "of another run");
        assert_eq!(numbers(&ring, 0), Err(Gone));
    }

    #[test]
    fn a_reset_sends_all_pages_back() {
        let mut ring = ring(3);
        ring.reset();
        assert_eq!(numbers(&ring, 1_003), Err(Gone));
        assert_eq!(numbers(&ring, 1_004), Ok(vec![]));
    }
}
