//! Keep-alive requests: which method, and when. Media itself is the sign of life of the camera;
//! these requests only keep its session from ending.

use std::time::Duration;

use super::limits::{KEEP_ALIVE_MAX, KEEP_ALIVE_MIN, SESSION_TIMEOUT};
use crate::units::MonoTime;

/// Methods in the order of preference.
const METHODS: [&str; 3] = ["GET_PARAMETER", "OPTIONS", "SET_PARAMETER"];

/// The keep-alive state of one session.
#[derive(Debug)]
pub struct KeepAlive {
    interval: Duration,
    /// When the next request is due; `None` before PLAY.
    due: Option<MonoTime>,
    /// The camera names GET_PARAMETER among its methods.
    has_get_parameter: bool,
    /// The methods that the camera refused.
    refused: [bool; METHODS.len()],
}

impl Default for KeepAlive {
    fn default() -> KeepAlive {
        let mut keep_alive = KeepAlive {
            interval: Duration::ZERO,
            due: None,
            has_get_parameter: false,
            refused: [false; METHODS.len()],
        };
        keep_alive.set_timeout(SESSION_TIMEOUT);
        keep_alive
    }
}

impl KeepAlive {
    /// Takes the session timeout of the camera: half of it is the interval.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.interval = (timeout / 2).clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX);
    }

    /// Time between two requests.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Takes the methods of a `Public` header. True if GET_PARAMETER is known to work since now.
    pub fn public(&mut self, value: &[u8]) -> bool {
        let text = String::from_utf8_lossy(value).to_ascii_uppercase();
        let named = text.split([',', ' ', ';']).any(|word| word.trim() == METHODS[0]);
        let learned = named && !self.has_get_parameter;
        self.has_get_parameter |= named;
        learned
    }

    /// Starts or restarts the interval.
    pub fn start(&mut self, now: MonoTime) {
        self.due = Some(now.plus(self.interval));
    }

    /// When the next request is due.
    pub fn due(&self) -> Option<MonoTime> {
        self.due
    }

    /// The method of the next request.
    pub fn method(&self) -> &'static str {
        let usable = |at: &usize| !self.refused[*at] && (*at != 0 || self.has_get_parameter);
        (0..METHODS.len()).find(usable).map_or(METHODS[1], |at| METHODS[at])
    }

    /// Records that the camera refused a method. True if another one can be tried.
    pub fn refuse(&mut self, method: &str) -> bool {
        let before = self.method();
        if let Some(at) = METHODS.iter().position(|own| *own == method) {
            self.refused[at] = true;
        }
        self.method() != before && !self.refused.iter().all(|refused| *refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_parameter_is_used_once_named_and_others_after_refusals() {
        let mut keep_alive = KeepAlive::default();
        assert_eq!(keep_alive.method(), "OPTIONS");
        assert!(!keep_alive.public(b"OPTIONS, DESCRIBE, SET_PARAMETER"));
        assert!(
            keep_alive.public(b"options,get_parameter") && !keep_alive.public(b"GET_PARAMETER")
        );
        assert_eq!(keep_alive.method(), "GET_PARAMETER");
        assert!(keep_alive.refuse("GET_PARAMETER"));
        assert_eq!(keep_alive.method(), "OPTIONS");
        assert!(keep_alive.refuse("OPTIONS"));
        assert_eq!(keep_alive.method(), "SET_PARAMETER");
        assert!(!keep_alive.refuse("SET_PARAMETER"), "nothing else is left");
        assert_eq!(keep_alive.method(), "OPTIONS");
    }

    #[test]
    fn requests_are_due_at_half_the_timeout() {
        let mut keep_alive = KeepAlive::default();
        assert_eq!(keep_alive.due(), None);
        for (timeout, interval) in [(60, 30), (20, 10), (1, 2), (86_400, 60)] {
            keep_alive.set_timeout(Duration::from_secs(timeout));
            keep_alive.start(MonoTime(0));
            assert_eq!(keep_alive.due(), Some(MonoTime(interval * 1_000_000)));
        }
    }
}
