// @ts-check
// Several cameras against one clock.
import { onCleanup, signal } from '../core/view.js';
import { get, query, send } from '../core/api.js';
import { iso } from '../core/time.js';
import { MasterClock } from './clock.js';
import { HoldJudge, slip, SyncStats } from './sync.js';
import { clipOf, newestBefore, nextFootage, readLane } from './lanes.js';
import { ShownSpans } from './shown.js';
import { Tile } from './tile.js';

export const TILES_MAX = 9;
const STEP_MS = 100;
/** A clip ends so long before its last picture ends: that picture stays on the screen. */
const LAST_MS = 60;
/** The range of a file can end so much later than its pictures. */
const EDGE_MS = 10000;
const SHOWN_EVERY_MS = 5000;
/** Footage of today grows: the axis is asked for again. */
const AXIS_EVERY_MS = 30000;

/**
 * @param {{sites: string[], from: number, to: number, at: number, newest?: boolean, clip?: {fid?: string | number | null, from: number, to: number}, sound: (site: string) => boolean, purpose: () => boolean}} of
 *   `newest`: the time was not chosen, so the newest footage is better than an empty one; `clip`: an event, whose clip is played from its first picture to its end
 */
export function openWall(of) {
  const steady = () => performance.now();
  const clock = new MasterClock(steady, of.at);
  const judge = new HoldJudge();
  const stats = new SyncStats();
  const seen = new ShownSpans();
  stats.clear(steady());
  let before = of.at;
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
  /** @type {{from: number, to: number} | null} the clip of the event */ let clip = null;
  /** The user has not chosen a time yet. */
  let untouched = true;
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
      if (of.clip && !clip) toClip(of.clip);
      failed.value = null;
    } catch (error) { if (lanes.peek().length === 0) failed.value = error; }
  };
  /** Where the clip begins: not in a gap. @param {NonNullable<typeof of.clip>} event */
  const toClip = (event) => {
    clip = clipOf(lanes.peek()[0], event);
    if (!clip || !untouched) return;
    clip.from = nextFootage(lanes.peek(), Math.max(clip.from, of.at)) ?? clip.from;
    jump(clip.from);
  };
  /** The first picture can be later than the range of the file, and the last one earlier: its index says so. */
  const toPictures = () => {
    const found = clip && untouched && !clock.playing ? tiles[0].pictures(clock.now()) : null;
    if (!clip || !found) return;
    untouched = false;
    if (found.first > clock.now() && found.first < clip.to) { clip.from = found.first; jump(found.first); }
    if (found.last > clip.from && clip.to - found.last < EDGE_MS) clip.to = Math.min(clip.to, found.last);
  };
  const step = () => {
    toPictures();
    if (clip && clock.playing && before < clip.to && clock.now() >= clip.to) { halt(); clock.seek(clip.to - LAST_MS); }
    before = clock.now();
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

  function play() {
    // At the end of the clip: once more.
    if (clip && Math.abs(clip.to - clock.now()) <= LAST_MS * 2) jump(clip.from);
    untouched = false;
    clock.play(); playing.value = true;
    step();
  }
  function halt() { clock.pause(); playing.value = false; judge.reset(); }
  function pause() { halt(); step(); report(); }
  /** @param {number} wall */
  function seek(wall) { untouched = false; jump(wall); }
  /** @param {number} wall */
  function jump(wall) {
    const { from, to } = range.peek();
    clock.seek(Math.min(to, Math.max(from, wall)));
    before = clock.now();
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
