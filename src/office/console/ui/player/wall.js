// @ts-check
// Several cameras against one clock.
import { onCleanup, signal } from '../core/view.js';
import { get, query, send } from '../core/api.js';
import { iso } from '../core/time.js';
import { MasterClock } from './clock.js';
import { HoldJudge, slip, SyncStats } from './sync.js';
import { newestBefore, nextFootage, readLane } from './lanes.js';
import { ShownSpans } from './shown.js';
import { Tile } from './tile.js';

export const TILES_MAX = 9;
const STEP_MS = 100;
const SHOWN_EVERY_MS = 5000;
/** Footage of today grows: the axis is asked for again. */
const AXIS_EVERY_MS = 30000;

/**
 * @param {{sites: string[], from: number, to: number, at: number, newest?: boolean, sound: (site: string) => boolean, purpose: () => boolean}} of
 *   `newest`: the time was not chosen, so the newest footage is better than an empty one
 */
export function openWall(of) {
  const steady = () => performance.now();
  const clock = new MasterClock(steady, of.at);
  const judge = new HoldJudge();
  const stats = new SyncStats();
  const seen = new ShownSpans();
  stats.clear(steady());
  const now = signal(of.at);
  const playing = signal(false);
  const speed = signal(1);
  const waitingFor = signal(/** @type {string[]} */ ([]));
  const waits = signal(true);
  const skips = signal(false);
  const soundOf = signal('');
  const lanes = signal(/** @type {ReturnType<typeof readLane>[]} */ ([]));
  const failed = signal(/** @type {any} */ (null));
  const range = signal({ from: of.from, to: of.to });
  const tiles = of.sites.slice(0, TILES_MAX).map((site) => new Tile(site, of.from, {
    sound: () => soundOf.peek() === site && of.sound(site),
    purpose: of.purpose,
    shown: (s, fid, wallUs) => seen.add(s, fid, wallUs, speed.peek()),
    stats,
  }));

  const loadAxis = async () => {
    const { from, to } = range.peek();
    try {
      const answer = await get(`/axis${query({ sites: tiles.map((x) => x.site).join(','), from: iso(from), to: iso(to) })}`);
      const read = tiles.map((tile) => readLane(answer.sites.find((/** @type {any} */ s) => s.site === tile.site) ?? { site: tile.site }));
      tiles.forEach((tile, i) => { tile.lane = read[i]; });
      lanes.value = read;
      failed.value = null;
    } catch (error) { if (lanes.peek().length === 0) failed.value = error; }
  };
  const step = () => {
    if (skips.peek() && clock.playing) {
      const next = nextFootage(lanes.peek(), clock.now());
      if (next !== null && next - clock.now() > 500) seek(next);
    }
    const late = clock.running ? slip(tiles.map((tile) => tile.error(clock.now())), clock.speed) : 0;
    if (late < 0) { clock.seek(clock.now() + late * 1000); stats.slips++; }
    const wall = clock.now();
    for (const tile of tiles) judge.report(tile.site, tile.step(wall, clock.speed, clock.running), steady());
    const waiting = clock.playing && waits.peek() ? judge.waiting(steady()) : [];
    if (waiting.length === 0) clock.release(); else if (!clock.hold()) { judge.pass(); clock.release(); }
    if (waiting.join() !== waitingFor.peek().join()) waitingFor.value = waiting;
    if (clock.now() >= range.peek().to && clock.playing) pause();
    now.value = clock.now();
  };
  const report = () => {
    for (const one of seen.take()) send('POST', '/shown', one).catch(() => null);
  };
  // The last reports outlive the page; without them the office ends the playback after two minutes.
  const leave = () => {
    for (const one of seen.end()) send('POST', '/shown', one, { keepalive: true, quiet: true }).catch(() => null);
  };
  window.addEventListener('pagehide', leave);

  function play() { clock.play(); playing.value = true; step(); }
  function pause() { clock.pause(); playing.value = false; judge.reset(); step(); report(); }
  /** @param {number} wall */
  function seek(wall) {
    const { from, to } = range.peek();
    clock.seek(Math.min(to, Math.max(from, wall)));
    judge.reset();
    for (const tile of tiles) tile.joined = false;
    step();
  }
  const wall = {
    tiles, now, playing, speed, waitingFor, waits, skips, soundOf, lanes, failed, range, stats, loadAxis, seek, play, pause,
    toggle() { if (clock.playing) pause(); else play(); },
    /** @param {number} x */
    setSpeed(x) { clock.setSpeed(x); speed.value = x; for (const tile of tiles) tile.joined = false; stats.clear(steady()); },
    /** @param {number} count pictures, forward or back */
    picture(count) {
      pause();
      const interval = Math.min(...tiles.map((x) => x.interval));
      seek(clock.now() + count * interval * 1000);
    },
    skipGap() { const next = nextFootage(lanes.peek(), clock.now() + 1); if (next !== null) seek(next); },
    /** Sound of one camera, or of none. @param {string} site */
    listenTo(site) {
      const before = soundOf.peek();
      soundOf.value = before === site ? '' : site;
      for (const tile of tiles) {
        if (tile.site !== before && tile.site !== site) continue;
        tile.video.muted = soundOf.peek() !== tile.site;
        tile.restart();
      }
    },
    figures: () => stats.figures(steady()),
  };
  const timers = [setInterval(step, STEP_MS), setInterval(report, SHOWN_EVERY_MS), setInterval(loadAxis, AXIS_EVERY_MS)];
  onCleanup(() => {
    timers.forEach(clearInterval);
    window.removeEventListener('pagehide', leave);
    leave();
    for (const tile of tiles) tile.close();
  });
  loadAxis().then(() => {
    const newest = of.newest ? newestBefore(lanes.peek(), clock.now()) : null;
    if (newest !== null) seek(newest); else step();
  });
  return wall;
}
/** @typedef {ReturnType<typeof openWall>} Wall */
