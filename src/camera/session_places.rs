//! Session places: some cameras serve one client only. The main stream is recorded, so the sub-stream
//! does without its session.

use std::time::Duration;

use super::auth_limiter::AuthLimiter;
use crate::units::MonoTime;

/// How long the sub-stream does without a session when the camera has no place for it: a camera that
/// was restarted or configured again is noticed soon enough.
pub const SUB_REST: Duration = Duration::from_secs(10 * 60);
/// Longest wait of the sub-stream for the set-up of the main stream.
const MAIN_FIRST: Duration = Duration::from_secs(15);
/// Longest wait of the sub-stream after the camera had no place for the main stream.
const MAIN_RETURN: Duration = Duration::from_secs(60);
/// Interval at which the sub-stream asks again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// An end of the main stream's session so soon after the sub-stream connected is blamed on it.
const BLAME: Duration = Duration::from_secs(3);
/// Age of the sub-stream's last frame at which it still plays.
const ALIVE: Duration = Duration::from_secs(2);
/// Refusals in a row, or sessions of the main stream ended, before the sub-stream rests.
const PATIENCE: u32 = 2;

/// Where the main stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum MainState {
    /// No task has it.
    #[default]
    Absent,
    SettingUp(MonoTime),
    Playing,
    /// Its try ended.
    Down,
    /// The camera had no place for it, at this time.
    Full(MonoTime),
}

/// What the streams of one camera share.
#[derive(Debug, Default)]
pub struct SharedSessions {
    /// Limiter of password tries.
    pub auth: AuthLimiter,
    /// Places for sessions.
    pub places: SessionPlaces,
}

/// The places of one camera.
#[derive(Debug, Default)]
pub struct SessionPlaces {
    main: MainState,
    sub_connected: Option<MonoTime>,
    /// Time of the sub-stream's last frame, about.
    sub_played: Option<MonoTime>,
    /// Tries of the main stream in a row without a place, while the sub-stream played.
    main_refused: u32,
    sub_must_end: bool,
    sub_refused: u32,
    main_harmed: u32,
    sub_rests_until: MonoTime,
}

impl SessionPlaces {
    /// The main stream begins a session.
    pub fn main_sets_up(&mut self, now: MonoTime) {
        self.main = MainState::SettingUp(now);
    }

    /// The main stream plays.
    pub fn main_plays(&mut self) {
        self.main = MainState::Playing;
        self.main_refused = 0;
    }

    /// Whether the main stream plays.
    pub fn is_main_playing(&self) -> bool {
        self.main == MainState::Playing
    }

    /// A session or try of the main stream ended; `full`: the camera had no place for it.
    pub fn main_ended(&mut self, now: MonoTime, full: bool) {
        let played = self.main == MainState::Playing;
        self.main = if full { MainState::Full(now) } else { MainState::Down };
        let Some(since) = self.sub_connected else { return };
        if full {
            // The sub-stream may have the only place. A camera that boots, or has not yet noticed the
            // end of the last session, is full for some seconds, too.
            let alive = self.sub_played.is_some_and(|at| now.duration_since(at) <= ALIVE);
            self.main_refused += u32::from(alive);
            if self.main_refused >= PATIENCE {
                self.sub_rest(now);
                self.sub_must_end = true;
            }
        } else if played && now.duration_since(since) <= BLAME {
            self.main_harmed += 1;
            if self.main_harmed >= PATIENCE {
                self.sub_rest(now);
                self.sub_must_end = true;
            }
        } else if played {
            self.main_harmed = 0;
        }
    }

    /// Whether the sub-stream may connect; else how long it waits, and whether it rests.
    ///
    /// # Errors
    /// The time to wait, and true when there is no place for it.
    pub fn sub_may_connect(&self, now: MonoTime) -> Result<(), (Duration, bool)> {
        if now < self.sub_rests_until {
            return Err((self.sub_rests_until.duration_since(now), true));
        }
        match self.main {
            MainState::SettingUp(since) if now.duration_since(since) < MAIN_FIRST => {
                Err((ASK_AGAIN, false))
            }
            MainState::Full(since) if now.duration_since(since) < MAIN_RETURN => {
                Err((ASK_AGAIN, false))
            }
            _ => Ok(()),
        }
    }

    /// The sub-stream connects.
    pub fn sub_connects(&mut self, now: MonoTime) {
        self.sub_connected = Some(now);
        self.sub_must_end = false;
    }

    /// A frame of the sub-stream came.
    pub fn sub_plays(&mut self, now: MonoTime) {
        self.sub_played = Some(now);
    }

    /// The sub-stream must end its session at once.
    pub fn sub_must_end(&self) -> bool {
        self.sub_must_end
    }

    /// A session or try of the sub-stream ended; `full`: the camera had no place for it.
    pub fn sub_ended(&mut self, now: MonoTime, full: bool) {
        (self.sub_connected, self.sub_played) = (None, None);
        self.sub_must_end = false;
        if !full || self.main != MainState::Playing {
            self.sub_refused = 0;
            return;
        }
        self.sub_refused += 1;
        if self.sub_refused >= PATIENCE {
            self.sub_rest(now);
        }
    }

    fn sub_rest(&mut self, now: MonoTime) {
        (self.sub_refused, self.main_harmed, self.main_refused) = (0, 0, 0);
        self.sub_rests_until = now.plus(SUB_REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime(seconds * 1_000_000)
    }

    #[test]
    fn the_sub_stream_waits_for_the_main_stream() {
        let mut places = SessionPlaces::default();
        assert_eq!(places.sub_may_connect(at(1)), Ok(()), "alone, as in a probe");
        places.main_sets_up(at(1));
        assert!(places.sub_may_connect(at(2)).is_err());
        assert_eq!(places.sub_may_connect(at(16)), Ok(()), "the main stream hangs");
        places.main_plays();
        assert_eq!(places.sub_may_connect(at(2)), Ok(()));
        places.main_ended(at(3), false);
        assert_eq!(places.sub_may_connect(at(4)), Ok(()), "it may be the main stream's own fault");
    }

    #[test]
    fn the_sub_stream_gives_its_place_to_the_main_stream() {
        let mut places = SessionPlaces::default();
        places.main_sets_up(at(0));
        places.main_ended(at(1), false);
        places.sub_connects(at(2));
        for second in [3, 4] {
            assert!(!places.sub_must_end(), "a camera may be full for a moment");
            places.sub_plays(at(second));
            places.main_sets_up(at(second));
            places.main_ended(at(second), true);
        }
        assert!(places.sub_must_end());
        places.sub_ended(at(5), false);
        assert!(!places.sub_must_end());
        assert!(matches!(places.sub_may_connect(at(500)), Err((_, true))));
        places.main_plays();
        assert_eq!(places.sub_may_connect(at(605)), Ok(()));
    }

    #[test]
    fn two_refusals_beside_the_main_stream_rest_the_sub_stream() {
        let mut places = SessionPlaces::default();
        places.main_plays();
        for second in [10, 20] {
            assert_eq!(places.sub_may_connect(at(second)), Ok(()));
            places.sub_connects(at(second));
            places.sub_ended(at(second), true);
        }
        assert!(matches!(places.sub_may_connect(at(21)), Err((_, true))));
        places.sub_connects(at(700));
        places.sub_ended(at(700), true);
        assert_eq!(places.sub_may_connect(at(701)), Ok(()), "one refusal is not yet a rule");
    }

    #[test]
    fn a_sub_stream_that_ends_the_main_stream_rests() {
        let mut places = SessionPlaces::default();
        for second in [10, 20] {
            places.main_plays();
            places.sub_connects(at(second));
            places.main_ended(at(second + 1), false);
        }
        assert!(places.sub_must_end());
        places.sub_ended(at(22), false);
        assert!(matches!(places.sub_may_connect(at(23)), Err((_, true))));
    }

    #[test]
    fn a_camera_that_boots_ends_no_sub_stream() {
        let mut places = SessionPlaces::default();
        places.main_plays();
        places.sub_connects(at(1));
        places.sub_plays(at(10));
        // Both sessions are dead, and only the main stream has noticed.
        for second in 26..40 {
            places.main_sets_up(at(second));
            places.main_ended(at(second), true);
        }
        assert!(!places.sub_must_end());
    }

    #[test]
    fn a_booting_camera_costs_the_sub_stream_no_rest() {
        let mut places = SessionPlaces::default();
        for second in 0..5 {
            places.main_sets_up(at(second));
            places.main_ended(at(second), true);
            assert!(matches!(places.sub_may_connect(at(second)), Err((_, false))));
        }
        places.main_plays();
        assert_eq!(places.sub_may_connect(at(6)), Ok(()));
    }
}
