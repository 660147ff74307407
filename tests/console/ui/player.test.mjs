import assert from 'node:assert/strict';
import test from 'node:test';
import { HOLD_MAX_MS, MasterClock } from '../../../src/office/console/ui/player/clock.js';
import { correction, HoldJudge, slip, SyncStats } from '../../../src/office/console/ui/player/sync.js';
import { decide } from '../../../src/office/console/ui/player/codec.js';
import { clipOf, newestBefore, nextFootage, pieceAt, pieces, readLane } from '../../../src/office/console/ui/player/lanes.js';
import { fragmentAt, heldEnd, keyAt, layout, nextRequest } from '../../../src/office/console/ui/player/plan.js';
import { layered, ZOOMS, zoomFor } from '../../../src/office/console/ui/parts/axis.js';
import { gapBehind, lengthen } from '../../../src/office/console/ui/player/bridge.js';
import { ShownSpans } from '../../../src/office/console/ui/player/shown.js';

function fakeClock() { const c = { t: 1000, now: () => c.t, pass(ms) { c.t += ms; } }; return c; }

test('the clock runs by speed, stands in a pause, jumps', () => {
  const steady = fakeClock();
  const clock = new MasterClock(steady.now, 5000);
  steady.pass(100);
  assert.equal(clock.now(), 5000);
  clock.play();
  steady.pass(100);
  assert.equal(clock.now(), 5100);
  clock.setSpeed(4);
  steady.pass(100);
  assert.equal(clock.now(), 5500);
  clock.pause();
  steady.pass(100);
  assert.equal(clock.now(), 5500);
  clock.seek(9000);
  assert.equal(clock.now(), 9000);
});

test('a stall holds the clock two seconds and no longer', () => {
  const steady = fakeClock();
  const clock = new MasterClock(steady.now, 0);
  const judge = new HoldJudge();
  clock.play();
  let held = 0;
  for (let i = 0; i < 60; i++) {
    steady.pass(100);
    judge.report('a', true, steady.now());
    judge.report('b', false, steady.now());
    const waiting = judge.waiting(steady.now());
    if (waiting.length === 0) clock.release(); else if (!clock.hold()) { judge.pass(); clock.release(); } else held += 100;
  }
  assert.ok(held >= HOLD_MAX_MS - 200 && held <= HOLD_MAX_MS + 200, `held ${held}`);
  assert.ok(clock.now() >= 3500, `went on to ${clock.now()}`);
  judge.report('a', false, steady.now());
  judge.report('a', true, steady.now());
  steady.pass(300);
  assert.deepEqual(judge.waiting(steady.now()), ['a'], 'a tile that came back is waited for again');
});

test('a video follows by its rate and jumps when far off', () => {
  assert.deepEqual(correction(0.36, 1), { seek: true });
  assert.deepEqual(correction(-0.36, 1), { seek: true });
  assert.equal(correction(0.1, 1).rate.toFixed(2), '0.88');
  assert.equal(correction(0.3, 1).rate, 0.8);
  assert.equal(correction(-0.3, 1).rate, 1.25);
  assert.equal(correction(0, 2).rate, 2);
});

test('simulated videos come into step and stay there', () => {
  const steady = fakeClock();
  const clock = new MasterClock(steady.now, 0);
  const stats = new SyncStats();
  const videos = [0.3, -0.25, 0.02, -0.34].map((at, i) => ({ at, rate: 1, drift: 1 + (i - 2) * 0.002 }));
  clock.play();
  for (let i = 0; i < 600; i++) {
    steady.pass(100);
    for (const v of videos) {
      v.at += 0.1 * v.rate * v.drift;
      const error = v.at - clock.now() / 1000;
      const act = correction(error, 1);
      if (i > 50) stats.add(error);
      if (act.seek) { stats.seeks++; v.at = clock.now() / 1000; } else v.rate = act.rate;
    }
  }
  const figures = stats.figures(steady.now());
  assert.equal(figures.seeks, 0);
  assert.ok(figures.p95Ms <= 80, `${figures.p95Ms} ms`);
});

test('the clock yields only when every video is late', () => {
  assert.equal(slip([-0.3, -0.2, null], 1), -0.2);
  assert.equal(slip([-0.3, 0.01], 1), 0);
  assert.equal(slip([null], 1), 0);
  assert.equal(slip([], 1), 0);
});

test('the exact codec string decides the way of a file', () => {
  const supports = (mime) => !/hvc1|alaw|ulaw/.test(mime);
  const video = { track: 'video', codec: 'avc1.64001f' };
  assert.deepEqual(decide([video], true, supports), { way: 'mse', mime: 'video/mp4; codecs="avc1.64001f"', tracks: 'all', soundLost: null });
  assert.deepEqual(decide([video, { track: 'audio', codec: 'mp4a.40.2' }], true, supports).mime, 'video/mp4; codecs="avc1.64001f, mp4a.40.2"');
  assert.equal(decide([video, { track: 'audio', codec: 'mp4a.40.2' }], false, supports).tracks, 'video');
  assert.deepEqual(decide([video, { track: 'audio', codec: 'alaw' }], true, supports), { way: 'mse', mime: 'video/mp4; codecs="avc1.64001f"', tracks: 'video', soundLost: 'alaw' });
  assert.deepEqual(decide([{ track: 'video', codec: 'hvc1.1.6.L93.B0' }], true, supports), { way: 'pictures', codec: 'hvc1.1.6.L93.B0' });
  assert.deepEqual(decide([], true, supports), { way: 'pictures', codec: 'none' });
});

test('an axis has no overlap and names what is missing', () => {
  const lane = readLane({ site: 'a', spans: [{ from: '1970-01-01T00:00:10Z', to: '1970-01-01T00:00:20Z', fid: 1 }, { from: '1970-01-01T00:00:15Z', to: '1970-01-01T00:00:30Z', fid: 2 }], gaps: [{ from: '1970-01-01T00:00:30Z', to: '1970-01-01T00:00:40Z', reason: 'power_cut' }], events: [] });
  const found = pieces(lane, 0, 60000);
  assert.deepEqual(found.map((p) => [p.kind, p.from, p.to, p.reason ?? p.fid]), [['gap', 0, 10000, 'not_in_archive'], ['file', 10000, 20000, 1], ['file', 20000, 30000, 2], ['gap', 30000, 40000, 'power_cut'], ['gap', 40000, 60000, 'not_in_archive']]);
  assert.equal(pieceAt(lane, 12000).fid, 1);
  assert.deepEqual([pieceAt(lane, 35000).reason, pieceAt(lane, 50000).reason], ['power_cut', 'not_in_archive']);
  assert.equal(nextFootage([lane], 0), 10000);
  assert.equal(nextFootage([lane], 31000), null);
});

test('a named gap inside a file is a gap on the axis', () => {
  const lane = { spans: [{ from: 0, to: 60000, fid: 1 }, { from: 50000, to: 90000, fid: 2 }], gaps: [{ from: 10000, to: 20000, reason: 'camera_down' }, { from: 55000, to: 65000, reason: 'power_cut' }] };
  assert.deepEqual(pieces(lane, 5000, 100000).map((p) => [p.from, p.to, p.reason ?? p.fid]), [[5000, 10000, 1], [10000, 20000, 'camera_down'], [20000, 55000, 1], [55000, 65000, 'power_cut'], [65000, 90000, 2], [90000, 100000, 'not_in_archive']]);
  assert.deepEqual(layered([{ kind: 'gap' }, { kind: 'file' }]).map((p) => p.kind), ['file', 'gap'], 'a short gap is drawn over its neighbour');
  assert.deepEqual([nextFootage([lane], 12000), nextFootage([lane], 56000), nextFootage([lane], 30000)], [20000, 65000, 30000]);
});

test('an event plays its own clip, and more where it goes on', () => {
  const lane = { spans: [{ from: 0, to: 30000, fid: 'a' }, { from: 30500, to: 60000, fid: 'b' }, { from: 60200, to: 90000, fid: 'c' }] };
  assert.deepEqual(clipOf(lane, { fid: 'b', from: 35000, to: 40000 }), { from: 30500, to: 60000 });
  assert.deepEqual(clipOf(lane, { fid: null, from: 20000, to: 45000 }), { from: 0, to: 60000 });
  assert.equal(clipOf(lane, { fid: 'x', from: 95000, to: 96000 }), null, 'nothing came yet');
});

test('fragments stand at their wall time; small drift is smoothed', () => {
  const f = (i, wall) => ({ offset: i * 1000 + 200, length: 800, media_us: i * 1e6, duration_us: 1e6, wall_us: wall, key: i % 2 === 0 });
  const list = layout({ fragments: [f(0, 10e6), f(1, 11.02e6), f(2, 12e6), f(3, 23e6)] }, 5000);
  assert.deepEqual(list.map((x) => x.start), [5, 6, 7, 18]);
  assert.deepEqual([fragmentAt(list, 6.5), fragmentAt(list, 9), fragmentAt(list, 18)], [1, -1, 3]);
  assert.deepEqual([keyAt(list, 6.5), keyAt(list, 18.5)], [0, 2]);
});

test('requests begin at a key, join over record boxes, keep the budget', () => {
  const list = layout({ fragments: Array.from({ length: 20 }, (_, i) => ({ offset: i * 1000 + 200, length: 800, media_us: i * 1e6, duration_us: 1e6, wall_us: i * 1e6, key: i % 2 === 0 })) }, 0);
  const of = (more) => nextRequest({ fragments: list, have: new Set(), t: 5.5, until: 15, urgent: false, budget: 1e6, ...more });
  assert.deepEqual(of({}), { first: 4, last: 14, offset: 4200, length: 10800 });
  assert.deepEqual(of({ urgent: true }), { first: 4, last: 6, offset: 4200, length: 2800 });
  assert.deepEqual(of({ have: new Set([4, 5]) }).first, 6);
  assert.equal(of({ budget: 2000 }).last, 5);
  assert.equal(of({ budget: 100 }), null);
  assert.equal(of({ have: new Set(list.keys()) }), null);
  assert.equal(of({ t: 30, until: 90 }), null);
});

test('what was shown is merged and bounded', () => {
  const shown = new ShownSpans();
  for (let i = 0; i < 125; i++) shown.add('a', 'f', 1e15 + i * 40000);
  shown.add('a', 'f', 1e15 + 60e6);
  shown.add('b', 'g', 5);
  assert.deepEqual(shown.take(), [{ site: 'a', fid: 'f', spans: [[1e15, 1e15 + 124 * 40000], [1e15 + 60e6, 1e15 + 60e6]] }, { site: 'b', fid: 'g', spans: [[5, 5]] }]);
  assert.deepEqual(shown.take(), []);
  for (let i = 0; i < 100; i++) shown.add('a', 'f', i * 10e6);
  assert.equal(shown.take()[0].spans.length, 64);
  assert.equal(shown.dropped, 36);
});

test('a time that is not chosen gives way to the newest footage', () => {
  const lanes = [{ spans: [{ from: 10, to: 20, fid: 1 }] }, { spans: [{ from: 40, to: 50, fid: 2 }] }];
  assert.equal(newestBefore(lanes, 15), null, 'there is footage');
  assert.equal(newestBefore(lanes, 30), 40);
  assert.equal(newestBefore([{ spans: [] }], 30), null);
});

test('an event opens at ten minutes, a long one wider', () => {
  assert.equal(ZOOMS[zoomFor(0)], 600);
  assert.equal(ZOOMS[zoomFor(150)], 600);
  assert.equal(ZOOMS[zoomFor(600)], 3600);
});

test('the last picture before a gap lasts until the next one', () => {
  const boxOf = (type, ...parts) => { const body = Buffer.concat(parts); const head = Buffer.alloc(8); head.writeUInt32BE(body.length + 8); head.write(type, 4); return Buffer.concat([head, body]); };
  const words = (...list) => Buffer.concat(list.map((n) => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b; }));
  const traf = (track, time, ...durations) => boxOf('traf', boxOf('tfhd', words(0x20000, track)), boxOf('tfdt', words(0, time)), boxOf('trun', words(0x301, durations.length, 0, ...durations.flatMap((d) => [d, 11]))));
  // Two runs of pictures with a gap of 1000 ticks between them, and one of sound; 90,000 ticks a second.
  const moof = boxOf('moof', boxOf('mfhd', words(0, 1)), traf(1, 5000, 3600, 3600), traf(2, 0, 1024), traf(1, 13200, 3600, 2200));
  const bytes = new Uint8Array(Buffer.concat([moof, boxOf('mdat', words(0))])).buffer;
  assert.equal(lengthen(bytes, 14000 / 90000, 0.5), 2);
  const view = Buffer.from(bytes);
  const durations = [];
  for (let at = view.indexOf('trun'); at >= 0; at = view.indexOf('trun', at + 1)) for (let i = 0; i < view.readUInt32BE(at + 8); i++) durations.push(view.readUInt32BE(at + 16 + 8 * i));
  assert.deepEqual(durations, [3600, 4600, 1024, 3600, 2200 + 45000]);
  assert.equal(lengthen(new Uint8Array(16).buffer, 1, 1), 0);
  const f = (start, end, key) => ({ start, end, key });
  assert.equal(gapBehind([f(0, 1, true), f(1.5, 2, false)], 0), 0.5);
  assert.equal(gapBehind([f(0, 1, true), f(1.5, 2, true)], 0), 0, 'a key frame needs nothing before it');
  assert.equal(gapBehind([f(0, 1, true), f(0.9, 2, false)], 0), 0);
});

test('the last picture before a gap is held for a picture, no longer', () => {
  const ranges = (/** @type {[number, number][]} */ ...list) => ({ length: list.length, start: (/** @type {number} */ i) => list[i][0], end: (/** @type {number} */ i) => list[i][1] });
  const two = ranges([0, 4.96], [9, 12]);
  assert.equal(heldEnd(two, 4.93, 0.04), 4.96, 'within the margin of the end');
  assert.equal(heldEnd(two, 4.999, 0.04), 4.96, 'the index says a little more than the buffer');
  assert.equal(heldEnd(two, 5.05, 0.04), 4.96, 'a tenth of a second at least');
  assert.equal(heldEnd(two, 5.07, 0.04), null);
  assert.equal(heldEnd(two, 5.4, 0.5), 4.96, 'the interval of slow pictures');
  assert.equal(heldEnd(two, 8, 0.5), null);
  assert.equal(heldEnd(two, 13, 0.5), null);
  assert.equal(heldEnd(ranges(), 1, 0.5), null);
});
