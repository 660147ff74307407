// @ts-check
// How a video follows the master clock, and who may hold it. Pure.

/** Further off than this, a video jumps; nearer, its rate bends. */
export const SEEK_ABOVE_S = 0.35;
export const RATE_MIN = 0.8;
export const RATE_MAX = 1.25;
const GAIN = 1.2;
/** A tile without pictures for so long is starving. */
export const STARVED_AFTER_MS = 250;
/** Samples of the error that are kept: ten minutes of nine tiles at ten a second would be 54,000; the newest 6,000 say enough. */
const SAMPLES_MAX = 6000;

/**
 * @param {number} error seconds the video is ahead of the clock
 * @param {number} speed
 * @returns {{seek: true} | {seek: false, rate: number}}
 */
export function correction(error, speed) {
  if (Math.abs(error) > SEEK_ABOVE_S * Math.max(1, speed)) return { seek: true };
  const bend = Math.min(RATE_MAX, Math.max(RATE_MIN, 1 - (GAIN * error) / Math.max(1, speed)));
  return { seek: false, rate: speed * bend };
}

/** When every video is later than this, the machine is late, and the clock yields instead of them all jumping. */
export const LATE_ALL_S = 0.12;

/**
 * How far the clock goes back so that the best of the videos is on time.
 * @param {(number | null)[]} errors seconds ahead of the clock, null for a tile that plays nothing @param {number} speed @returns {number} seconds, 0 or negative
 */
export function slip(errors, speed) {
  const known = /** @type {number[]} */ (errors.filter((e) => e !== null));
  const best = Math.max(...known);
  return known.length > 0 && best < -LATE_ALL_S * Math.max(1, speed) ? best : 0;
}

/** Which starving tiles hold the clock, and which have used up its patience. */
export class HoldJudge {
  constructor() {
    /** @type {Map<string, number>} */ this.starvedSince = new Map();
    /** @type {Set<string>} tiles the others no longer wait for */ this.passed = new Set();
  }

  /** @param {string} tile @param {boolean} starved @param {number} now steady ms */
  report(tile, starved, now) {
    if (!starved) { this.starvedSince.delete(tile); this.passed.delete(tile); } else if (!this.starvedSince.has(tile)) this.starvedSince.set(tile, now);
  }

  /** @param {number} now @returns {string[]} tiles the clock waits for */
  waiting(now) {
    return [...this.starvedSince].filter(([tile, since]) => now - since >= STARVED_AFTER_MS && !this.passed.has(tile)).map(([tile]) => tile);
  }

  /** The hold was long enough: goes on without those that starve now. */
  pass() { for (const tile of this.starvedSince.keys()) this.passed.add(tile); }
  reset() { this.starvedSince.clear(); this.passed.clear(); }
}

/** Errors and seeks, for the figures the page shows and tests read. */
export class SyncStats {
  constructor() {
    /** @type {number[]} */ this.errors = [];
    this.at = 0;
    this.seeks = 0;
    /** Times the clock yielded. */ this.slips = 0;
    this.since = 0;
  }

  /** @param {number} now */
  clear(now) {
    this.errors = [];
    this.at = 0;
    this.seeks = 0;
    this.slips = 0;
    this.since = now;
  }

  /** @param {number} error seconds */
  add(error) {
    this.errors[this.at] = Math.abs(error);
    this.at = (this.at + 1) % SAMPLES_MAX;
  }

  /** @param {number} now steady ms */
  figures(now) {
    const sorted = [...this.errors].sort((a, b) => a - b);
    const of = (/** @type {number} */ q) => (sorted.length > 0 ? Math.round(1000 * sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]) : 0);
    const minutes = Math.max((now - this.since) / 60000, 1 / 60);
    return { samples: sorted.length, medianMs: of(0.5), p95Ms: of(0.95), worstMs: of(1), seeks: this.seeks, slips: this.slips, seeksPerMinute: this.seeks / minutes };
  }
}
