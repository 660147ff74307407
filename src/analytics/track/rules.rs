//! Rules: decide by zones, lines and conditions whether a confirmed object is an event.

use crate::analytics::SuppressReason;
use crate::analytics::detect::picture::Grid;
use crate::analytics::track::tracker::{Track, TrackState};
use crate::settings::rules::{CrossingDirection, Rule, Trigger};
use crate::settings::{Zone, ZoneKind};
use crate::units::Timestamp;

/// Name of the zone when none is configured: the whole picture.
const WHOLE: &str = "all";
/// Name of the rule when none is configured.
const DEFAULT: &str = "motion";

/// True when a point lies in a polygon (crossing number; Shimrat 1962).
pub fn inside(polygon: &[[f32; 2]], point: [f32; 2]) -> bool {
    let previous = polygon.iter().cycle().skip(polygon.len().saturating_sub(1));
    let crossings = polygon.iter().zip(previous).filter(|(a, b)| {
        (a[1] > point[1]) != (b[1] > point[1])
            && point[0] < (b[0] - a[0]) * (point[1] - a[1]) / (b[1] - a[1]) + a[0]
    });
    crossings.count() % 2 == 1
}

/// Positive to the right of the line from `a` to `b`, in the picture's axes (y downwards).
fn side(a: [f32; 2], b: [f32; 2], point: [f32; 2]) -> f32 {
    (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
}

/// The direction in which a step crosses a line; `None` when it does not.
fn crossing([a, b]: [[f32; 2]; 2], from: [f32; 2], to: [f32; 2]) -> Option<CrossingDirection> {
    let (before, after) = (side(a, b, from), side(a, b, to));
    let between = (side(from, to, a) > 0.0) != (side(from, to, b) > 0.0);
    if !between || (before > 0.0) == (after > 0.0) {
        return None;
    }
    Some(if after > 0.0 { CrossingDirection::Right } else { CrossingDirection::Left })
}

/// The verdict of a rule on an object in a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleVerdict {
    /// The rule fires, or its event continues, in these zones.
    Fires(Vec<String>),
    /// A condition of the rule is not met.
    Rejected(SuppressReason),
    /// The rule does not fire.
    Nothing,
}

/// The memory of one rule about one object.
struct TrackMemory {
    rule: usize,
    track: u64,
    /// Position in the previous picture: the bottom centre of the bounding box, 0..=1.
    before: [f32; 2],
    /// Time of entry into the zones; `None` outside.
    inside: Option<Timestamp>,
    /// The rule has fired for the object.
    fired: bool,
    /// The last reason for a rejection; each is counted once in a row.
    rejected: Option<SuppressReason>,
}

/// Objects that crossed the line of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineCount {
    /// Name of the rule.
    pub rule: String,
    /// Crossings from right to left of the line.
    pub left: u64,
    /// Crossings from left to right of the line.
    pub right: u64,
}

/// The rules and zones of one camera, with their memory of objects.
pub struct Rules {
    rules: Vec<Rule>,
    zones: Vec<Zone>,
    utc_offset: i32,
    memories: Vec<TrackMemory>,
    lines: Vec<LineCount>,
}

impl Rules {
    /// Builds the rules of the settings. Without any, one rule fires for everything that moves in a
    /// zone.
    pub fn new(rules: &[Rule], zones: &[Zone], cooldown: u64, utc_offset: i32) -> Rules {
        let default = || vec![Rule::presence(DEFAULT, cooldown)];
        let rules = if rules.is_empty() { default() } else { rules.to_vec() };
        let crosses = rules.iter().filter(|rule| matches!(rule.on, Trigger::Cross { .. }));
        let lines = crosses
            .map(|rule| LineCount { rule: rule.name.clone(), ..LineCount::default() })
            .collect();
        Rules { rules, zones: zones.to_vec(), utc_offset, memories: Vec::new(), lines }
    }

    /// Continues the line counts of the rules with the same names in `before`.
    pub fn continue_counts(&mut self, before: &Rules) {
        for line in &mut self.lines {
            line.clone_from(
                before.lines.iter().find(|old| old.rule == line.rule).unwrap_or(&line.clone()),
            );
        }
    }

    /// All rules, in configuration order.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// All zones, in configuration order.
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Line counts since the start, in configuration order.
    pub fn lines(&self) -> &[LineCount] {
        &self.lines
    }

    /// For each cell of a grid, true when no exclusion or privacy zone covers it.
    pub fn unmasked_cells(&self, grid: Grid) -> Vec<bool> {
        let masks: Vec<&Zone> =
            self.zones.iter().filter(|zone| zone.kind != ZoneKind::Include).collect();
        let point = |at: usize| {
            let (x, y) = (at % grid.width, at / grid.width);
            [(x as f32 + 0.5) / grid.width as f32, (y as f32 + 0.5) / grid.height as f32]
        };
        (0..grid.cells())
            .map(|at| !masks.iter().any(|zone| inside(&zone.polygon, point(at))))
            .collect()
    }

    /// Names of the zones of a rule that contain a point.
    fn zones_at(&self, rule: &Rule, point: [f32; 2]) -> Vec<String> {
        let masks = |zone: &&Zone| zone.kind != ZoneKind::Include;
        if self.zones.iter().filter(masks).any(|zone| inside(&zone.polygon, point)) {
            return Vec::new();
        }
        let mut include =
            self.zones.iter().filter(|zone| zone.kind == ZoneKind::Include).peekable();
        if include.peek().is_none() {
            return vec![WHOLE.to_owned()];
        }
        let named = |zone: &&Zone| rule.zones.is_empty() || rule.zones.contains(&zone.name);
        include
            .filter(named)
            .filter(|zone| inside(&zone.polygon, point))
            .map(|zone| zone.name.clone())
            .collect()
    }

    /// Applies rule number `number` to a confirmed object. `gone` is true when the object has just
    /// left the picture.
    pub fn judge(
        &mut self,
        number: usize,
        track: &Track,
        gone: bool,
        at: Timestamp,
    ) -> RuleVerdict {
        let Some(rule) = self.rules.get(number).cloned() else {
            return RuleVerdict::Nothing;
        };
        if gone && rule.on != Trigger::Exit {
            return RuleVerdict::Nothing;
        }
        let now = track.anchor();
        let zones = self.zones_at(&rule, now);
        let (index, fresh) = self.memory(number, track, &rule);
        let before = self.memories[index].before;
        let was_inside = self.memories[index].inside.is_some();
        self.count_line(&rule, before, now);
        let memory = &mut self.memories[index];
        memory.before = now;
        memory.inside = if zones.is_empty() { None } else { memory.inside.or(Some(at)) };
        let stayed = memory.inside.map_or(0, |since| at.mono.since(since.mono));
        let happened = match rule.on {
            Trigger::Presence => !zones.is_empty() && track.state == TrackState::Moving,
            Trigger::Enter => {
                !zones.is_empty() && (!was_inside || fresh && track.entered_over_edge())
            }
            Trigger::Exit => was_inside && (zones.is_empty() || gone && track.is_leaving()),
            Trigger::Cross { line, way } => crossing(line, before, now)
                .is_some_and(|crossed| way == CrossingDirection::Any || way == crossed),
            Trigger::Dwell(stay) => stayed >= stay,
        };
        if memory.fired {
            // The event continues while the object is inside, or at all after a crossing.
            let goes_on = !zones.is_empty() || matches!(rule.on, Trigger::Cross { .. });
            return if goes_on || happened {
                RuleVerdict::Fires(zones)
            } else {
                RuleVerdict::Nothing
            };
        }
        if !happened {
            return RuleVerdict::Nothing;
        }
        let unmet = unmet_condition(&rule, track, at, self.utc_offset);
        let memory = &mut self.memories[index];
        match unmet {
            None => {
                memory.fired = true;
                RuleVerdict::Fires(zones)
            }
            Some(why) if memory.rejected != Some(why) => {
                memory.rejected = Some(why);
                RuleVerdict::Rejected(why)
            }
            Some(_) => RuleVerdict::Nothing,
        }
    }

    /// The index of the memory, and whether it is new. A new one starts at the first position of
    /// the object.
    fn memory(&mut self, number: usize, track: &Track, rule: &Rule) -> (usize, bool) {
        if let Some(index) = self
            .memories
            .iter()
            .position(|memory| memory.rule == number && memory.track == track.id)
        {
            return (index, false);
        }
        let before = track.first_anchor();
        let inside = (!self.zones_at(rule, before).is_empty()).then_some(track.first);
        self.memories.push(TrackMemory {
            rule: number,
            track: track.id,
            before,
            inside,
            fired: false,
            rejected: None,
        });
        (self.memories.len() - 1, true)
    }

    fn count_line(&mut self, rule: &Rule, before: [f32; 2], now: [f32; 2]) {
        let Trigger::Cross { line, .. } = rule.on else { return };
        let Some(count) = self.lines.iter_mut().find(|count| count.rule == rule.name) else {
            return;
        };
        match crossing(line, before, now) {
            Some(CrossingDirection::Left) => count.left += 1,
            Some(CrossingDirection::Right | CrossingDirection::Any) => count.right += 1,
            None => {}
        }
    }

    /// True when a rule has fired for an object: while the object stays, the event continues.
    pub fn has_fired(&self, number: usize, track: u64) -> bool {
        self.memories
            .iter()
            .any(|memory| memory.rule == number && memory.track == track && memory.fired)
    }

    /// Resets a rule that has fired for an object, because its start was suppressed.
    pub fn reset_fired(&mut self, number: usize, track: u64) {
        self.memories
            .iter_mut()
            .filter(|memory| memory.rule == number && memory.track == track)
            .for_each(|memory| memory.fired = false);
    }

    /// Removes the memory of objects that are not `alive`.
    pub fn forget(&mut self, alive: impl Fn(u64) -> bool) {
        self.memories.retain(|memory| alive(memory.track));
    }
}

/// The first condition of a rule that an object does not meet.
fn unmet_condition(
    rule: &Rule,
    track: &Track,
    at: Timestamp,
    utc_offset: i32,
) -> Option<SuppressReason> {
    let [_, _, _, high] = track.picture_box();
    let foot = track.anchor()[1];
    let near = ((foot - rule.horizon) / (1.0 - rule.horizon)).clamp(0.0, 1.0);
    let speed = track.speed();
    let turns = |[from, to]: [f32; 2]| {
        track.direction().is_none_or(|heading| {
            (heading - from).rem_euclid(360.0) > (to - from).rem_euclid(360.0)
        })
    };
    match rule {
        _ if high < rule.min_height * near => Some(SuppressReason::Size),
        _ if !(rule.speed[0]..=rule.speed[1]).contains(&speed) => Some(SuppressReason::Speed),
        Rule { heading: Some(heading), .. } if turns(*heading) => Some(SuppressReason::Heading),
        _ if !rule.applies(at, utc_offset) => Some(SuppressReason::Hours),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::detect::blobs::Blob;
    use crate::analytics::detect::stages::Stages;
    use crate::analytics::track::tracker::Tracker;
    use crate::units::MonoTime;

    const GRID: Grid = Grid { width: 320, height: 180 };

    fn zone(name: &str, kind: ZoneKind, polygon: &[[f32; 2]]) -> Zone {
        Zone { name: name.into(), kind, polygon: polygon.to_vec() }
    }

    fn band(name: &str, left: f32, right: f32) -> Zone {
        zone(name, ZoneKind::Include, &[[left, 0.0], [right, 0.0], [right, 1.0], [left, 1.0]])
    }

    /// Moves a box of 20 x 40 cells along `lefts`, its left edges at ten pictures a second. Returns
    /// the picture at which the rule first fired, its first rejection, and the rules.
    fn walk(
        rule: Rule,
        zones: &[Zone],
        lefts: impl Iterator<Item = f32>,
    ) -> (Option<usize>, Option<SuppressReason>, Rules) {
        let mut rules = Rules::new(&[rule], zones, 0, 0);
        let mut tracker = Tracker::default();
        let mut fired = None;
        let mut rejected = None;
        for (number, left) in lefts.enumerate() {
            let at = Timestamp {
                mono: MonoTime(1_000_000 + number as u64 * 100_000),
                ..Timestamp::default()
            };
            let blob =
                Blob { bbox: [left, 100.0, left + 20.0, 140.0], area: 800.0, cells: vec![0] };
            tracker.step(&[blob], &[0.0], at, GRID, Stages::ALL);
            let track = tracker.tracks[0].clone();
            if track.is_confirmed() {
                match rules.judge(0, &track, false, at) {
                    RuleVerdict::Fires(_) => fired = fired.or(Some(number)),
                    RuleVerdict::Rejected(why) => rejected = rejected.or(Some(why)),
                    RuleVerdict::Nothing => {}
                }
            }
        }
        (fired, rejected, rules)
    }

    fn rightwards() -> impl Iterator<Item = f32> {
        (0..60).map(|number| 4.0 + number as f32 * 5.0)
    }

    fn rule(on: Trigger) -> Rule {
        Rule { on, ..Rule::presence("r", 0) }
    }

    #[test]
    fn without_zones_the_whole_picture_is_one_less_exclusions() {
        let left = band("left", 0.0, 0.5);
        let tree =
            zone("tree", ZoneKind::Exclude, &[[0.0, 0.0], [0.2, 0.0], [0.2, 1.0], [0.0, 1.0]]);
        let at = |zones: &[Zone], point| {
            Rules::new(&[], zones, 0, 0).zones_at(&Rule::presence("r", 0), point)
        };
        assert_eq!(at(&[], [0.9, 0.9]), ["all"]);
        assert_eq!(at(std::slice::from_ref(&tree), [0.9, 0.9]), ["all"]);
        let both = [left, tree];
        assert_eq!(at(&both, [0.3, 0.5]), ["left"]);
        assert!(at(&both, [0.1, 0.5]).is_empty() && at(&both, [0.8, 0.5]).is_empty());
        let open = Rules::new(&[], &both, 0, 0).unmasked_cells(GRID);
        assert!(!open[10] && open[100]);
    }

    #[test]
    fn enter_and_exit_fire_when_the_feet_cross_the_zone_edge() {
        let zones = [band("middle", 0.4, 0.6)];
        let (entered, _, _) = walk(rule(Trigger::Enter), &zones, rightwards());
        let (left, _, _) = walk(rule(Trigger::Exit), &zones, rightwards());
        // The feet are ten cells right of the left edge; 128 and 192 cells are 0.4 and 0.6.
        assert_eq!((entered, left), (Some(23), Some(36)));
        assert_eq!(walk(rule(Trigger::Enter), &[band("far", 0.99, 1.0)], rightwards()).0, None);
    }

    #[test]
    fn a_line_fires_in_its_direction_and_counts_both() {
        let line = [[0.5, 0.2], [0.5, 1.0]];
        let (any, _, rules) =
            walk(rule(Trigger::Cross { line, way: CrossingDirection::Any }), &[], rightwards());
        assert_eq!(any, Some(30));
        // Seen from the line's first point (above) to its second, the right side of the picture is
        // on the left.
        assert_eq!((rules.lines()[0].left, rules.lines()[0].right), (1, 0));
        let (wrong, _, rules) =
            walk(rule(Trigger::Cross { line, way: CrossingDirection::Right }), &[], rightwards());
        assert_eq!((wrong, rules.lines()[0].left), (None, 1));
        assert_eq!(
            walk(
                rule(Trigger::Cross {
                    line: [[0.5, 0.0], [0.5, 0.3]],
                    way: CrossingDirection::Any
                }),
                &[],
                rightwards()
            )
            .0,
            None
        );
    }

    #[test]
    fn dwell_fires_after_its_time_and_not_for_a_passer_by() {
        let zones = [band("middle", 0.4, 0.6)];
        let waits = (0..120).map(|number| 4.0 + (number.min(25) as f32) * 5.0);
        let (fired, _, _) = walk(rule(Trigger::Dwell(5_000_000)), &zones, waits);
        assert_eq!(fired, Some(73));
        assert_eq!(walk(rule(Trigger::Dwell(5_000_000)), &zones, rightwards()).0, None);
    }

    #[test]
    fn size_speed_and_heading_reject_with_their_reason() {
        let presence = || rule(Trigger::Presence);
        let rejected = |rule: Rule| walk(rule, &[], rightwards()).1;
        assert_eq!(rejected(Rule { min_height: 0.5, ..presence() }), Some(SuppressReason::Size));
        assert_eq!(
            rejected(Rule { min_height: 0.5, horizon: 0.75, ..presence() }),
            None,
            "at a distance it is large enough"
        );
        assert_eq!(rejected(Rule { speed: [1.0, 9.0], ..presence() }), Some(SuppressReason::Speed));
        assert_eq!(
            rejected(Rule { heading: Some([225.0, 315.0]), ..presence() }),
            Some(SuppressReason::Heading)
        );
        assert_eq!(rejected(Rule { heading: Some([45.0, 135.0]), ..presence() }), None);
    }
}
