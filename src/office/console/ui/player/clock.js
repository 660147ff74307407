// @ts-check
// The master clock of playback: wall time of the footage. No video is the master; the clock is.

/** A tile that starves holds the clock for so long at most. */
export const HOLD_MAX_MS = 2000;
export const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];
/** From this speed on only key frames are decoded: every picture of nine cameras would be 900 a second. */
export const KEYS_FROM = 4;

export class MasterClock {
  /** @param {() => number} now a steady clock in ms (`performance.now`) @param {number} wall ms since 1970 */
  constructor(now, wall) {
    this.steady = now;
    this.base = wall;
    this.since = now();
    this.speed = 1;
    this.playing = false;
    /** @type {number | null} when the hold began */ this.heldSince = null;
  }

  /** Wall time of the footage, ms. */
  now() {
    return this.running ? this.base + (this.steady() - this.since) * this.speed : this.base;
  }

  get running() { return this.playing && this.heldSince === null; }

  /** Writes down where the clock is, before its way of running changes. */
  settle() {
    this.base = this.now();
    this.since = this.steady();
  }

  play() { this.settle(); this.playing = true; this.since = this.steady(); }
  pause() { this.settle(); this.playing = false; this.heldSince = null; }
  /** @param {number} wall */
  seek(wall) { this.base = wall; this.since = this.steady(); if (this.heldSince !== null) this.heldSince = this.steady(); }
  /** @param {number} speed */
  setSpeed(speed) { this.settle(); this.speed = speed; }

  /** Stands still while a tile waits for its bytes. @returns {boolean} false when the patience of this hold is used up */
  hold() {
    if (!this.playing) return true;
    if (this.heldSince === null) { this.settle(); this.heldSince = this.steady(); }
    return this.steady() - this.heldSince < HOLD_MAX_MS;
  }

  release() {
    if (this.heldSince === null) return;
    this.heldSince = null;
    this.since = this.steady();
  }
}
