//! What the simulated power cuts of [`crate::sim::crash`] brought to light, each by itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use super::engine::Engine;
use super::*;
use crate::sim::disk::SimDisk;
use crate::sim::script::{Script, settings, stamp};

/// A ring, and a camera that never stops.
struct Box {
    disk: SimDisk,
    engine: Engine,
    script: Script,
    news: Vec<StorageNews>,
}

fn opened() -> Box {
    let (disk, script) = (SimDisk::new(None), Script::new(1));
    let (engine, news) = Engine::open(Arc::new(disk.clone()), &settings(), stamp(script.now)).unwrap();
    Box { disk, engine, script, news }
}

impl Box {
    fn pictures(&mut self, n: usize) {
        for _ in 0..n {
            self.engine.frame(&self.script.picture(), &mut self.news);
        }
    }

    /// Nothing survives that was not flushed; three seconds later the power is back.
    fn cut(&mut self) {
        self.disk.power_on_with(self.disk.durable());
        self.script.pass(3_000_000);
        self.script.restart();
        self.start();
    }

    fn start(&mut self) {
        let (engine, news) = Engine::open(Arc::new(self.disk.clone()), &settings(), stamp(self.script.now)).unwrap();
        (self.engine, self.news) = (engine, news);
    }

    /// Time between two neighbours in the ring that neither holds nor names footage, milliseconds.
    fn silent(&self) -> Vec<i64> {
        let (index, _) = recovery::heads(&self.disk).unwrap();
        let mut spans = Vec::new();
        for segment in index.live() {
            for found in walk::walk(&self.disk, segment, walk::Depth::Content).unwrap().found {
                let walk::Found::Record(_, record) = found else { panic!("damaged") };
                let end = record.gap.map_or(record.start.wall.plus_micros(record.duration as i64), |(to, ..)| to.wall);
                spans.push((record.start.wall.0, end.0));
            }
        }
        spans.sort_unstable();
        let mut reach = spans[0].0;
        let mut silent = Vec::new();
        for (from, to) in spans {
            silent.extend((from > reach + 50_000).then_some((from - reach) / 1000));
            reach = reach.max(to);
        }
        silent
    }
}

#[test]
fn footage_in_memory_is_recorded_before_the_hole_behind_it() {
    for pictures in 5..15 {
        let mut ring = opened();
        ring.pictures(pictures);
        let (from, to) = (stamp(ring.script.now), stamp(ring.script.now + 300_000));
        ring.engine.order(to, StorageOrder::NoteGap(Gap { from, to, reason: GapReason::CameraDown, bytes: 0 }), &mut ring.news);
        ring.cut();
        ring.pictures(40);
        assert_eq!(ring.silent(), [0_i64; 0], "ms without a name after {pictures} pictures");
    }
}

#[test]
fn a_hole_told_before_the_first_picture_does_not_hide_the_one_since_the_last_start() {
    let mut ring = opened();
    ring.pictures(40);
    ring.cut();
    let from = stamp(ring.script.now);
    ring.script.pass(400_000);
    let to = stamp(ring.script.now);
    ring.engine.order(to, StorageOrder::NoteGap(Gap { from, to, reason: GapReason::CameraDown, bytes: 0 }), &mut ring.news);
    ring.cut();
    ring.pictures(40);
    assert_eq!(ring.silent(), [0_i64; 0], "ms without a name");
}
