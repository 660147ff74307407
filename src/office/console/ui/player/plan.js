// @ts-check
// Which bytes a tile needs next. Pure; seconds are seconds since the session's origin.

export const AHEAD_S = 60;
export const BEHIND_S = 30;
/** Bytes of one tile in the browser at most; nine tiles stay below a quarter of a gigabyte. */
export const TILE_BYTES_MAX = 24 * 1024 * 1024;
/** One request at most: small enough to change one's mind. The first after a seek is one fragment group of about a second. */
export const REQUEST_BYTES_MAX = 1024 * 1024;
const FIRST_REQUEST_S = 1.5;
/** Bytes between two fragments that are fetched along: the record box before each of them. */
const BETWEEN_MAX = 4096;
/** Drift of a file's own clock that is smoothed over: below two pictures, which browsers bridge. */
const DRIFT_S = 0.04;

/** @typedef {{offset: number, length: number, start: number, end: number, shift: number, key: boolean, clockSet: boolean}} Fragment */

/**
 * Places a file's fragments on the session's axis. `shift` is the SourceBuffer's timestampOffset.
 * @param {any} index answer of `/files/{site}/{fid}/index` @param {number} originMs
 * @returns {Fragment[]}
 */
export function layout(index, originMs) {
  let shift = NaN;
  return index.fragments.map((/** @type {any} */ f) => {
    const wall = f.wall_us / 1e6 - originMs / 1e3;
    const wish = wall - f.media_us / 1e6;
    if (!(Math.abs(wish - shift) <= DRIFT_S)) shift = wish;
    const start = f.media_us / 1e6 + shift;
    return { offset: f.offset, length: f.length, start, end: start + f.duration_us / 1e6, shift, key: Boolean(f.key), clockSet: f.recorded_wall_us != null };
  });
}

/** The fragment that is on the screen at a time. @param {Fragment[]} fragments @param {number} t @returns {number} index or -1 */
export function fragmentAt(fragments, t) {
  let low = 0;
  let high = fragments.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (fragments[middle].end <= t) low = middle + 1; else if (fragments[middle].start > t) high = middle - 1; else return middle;
  }
  return -1;
}

/** The key fragment whose picture is the newest before a time: only these can be decoded alone. @param {Fragment[]} fragments @param {number} t @returns {number} index or -1 */
export function keyAt(fragments, t) {
  let at = fragmentAt(fragments, t);
  while (at > 0 && !fragments[at].key) at--;
  return at;
}

/**
 * The next request of a file: fragments from the key before `t` that are not there yet, side by side in the file.
 * @param {{fragments: Fragment[], have: Set<number>, t: number, until: number, urgent: boolean, budget: number}} of
 * @returns {{first: number, last: number, offset: number, length: number} | null}
 */
export function nextRequest({ fragments, have, t, until, urgent, budget }) {
  let at = fragments.findIndex((f) => f.end > t);
  if (at < 0 || fragments[at].start >= until) return null;
  while (at > 0 && !fragments[at].key) at--;
  while (at < fragments.length && have.has(at)) at++;
  if (at >= fragments.length || fragments[at].start >= until) return null;
  const most = Math.min(REQUEST_BYTES_MAX, budget);
  let last = at;
  let length = fragments[at].length;
  if (length > budget) return null;
  const enough = urgent ? Math.max(t, fragments[at].start) + FIRST_REQUEST_S : until;
  while (last + 1 < fragments.length) {
    const next = fragments[last + 1];
    const between = next.offset - (fragments[last].offset + fragments[last].length);
    if (have.has(last + 1) || next.start >= enough || between < 0 || between > BETWEEN_MAX || length + between + next.length > most) break;
    length += between + next.length;
    last++;
  }
  return { first: at, last, offset: fragments[at].offset, length };
}

/** Whether a time lies in what is buffered. @param {{length: number, start: (i: number) => number, end: (i: number) => number}} ranges @param {number} t @param {number} [margin] */
export function buffered(ranges, t, margin = 0.05) {
  for (let i = 0; i < ranges.length; i++) if (ranges.start(i) - 0.1 <= t && t + margin <= ranges.end(i)) return true;
  return false;
}

/** Seconds that the last picture before a gap is held at least: a step of the player's loop. */
const HELD_S = 0.1;

/**
 * The end of what is buffered right before a time, while its last picture is still to be shown: a browser ends a range up to a picture
 * before the index does. @param {{length: number, start: (i: number) => number, end: (i: number) => number}} ranges @param {number} t @param {number} interval seconds from picture to picture @returns {number | null}
 */
export function heldEnd(ranges, t, interval) {
  for (let i = ranges.length - 1; i >= 0; i--) {
    if (ranges.start(i) - 0.1 > t) continue;
    return t - ranges.end(i) <= Math.max(HELD_S, interval) ? ranges.end(i) : null;
  }
  return null;
}
