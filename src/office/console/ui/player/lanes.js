// @ts-check
// The axis of one camera: footage, gaps with their reason, and what is not known. Pure; times in ms.

/** Files that follow so closely are one clip. */
const JOIN_MS = 1000;

/** @typedef {{from: number, to: number, fid: string | number, clock?: string, codec?: string}} Span */
/** @typedef {{kind: 'file', from: number, to: number, fid: string | number, clock?: string} | {kind: 'gap', from: number, to: number, reason: string}} Piece */

/** @param {any} site one site of `GET /axis` @returns {{site: string, spans: Span[], gaps: {from: number, to: number, reason: string}[], events: {id: string, from: number, to: number}[]}} */
export function readLane(site) {
  const times = (/** @type {any[]} */ list) => (list ?? []).map((x) => ({ ...x, from: Date.parse(x.from), to: Date.parse(x.to ?? x.from) }))
    .filter((x) => Number.isFinite(x.from) && x.to >= x.from).sort((a, b) => a.from - b.from || a.to - b.to);
  return { site: site.site, spans: times(site.spans), gaps: times(site.gaps), events: times(site.events) };
}

/**
 * One line without overlaps from `from` to `to`: named gaps first, for a file's range may hold one; then files, then «not in the archive».
 * @param {{spans: Span[], gaps: {from: number, to: number, reason: string}[]}} lane @param {number} from @param {number} to
 * @returns {Piece[]}
 */
export function pieces(lane, from, to) {
  /** @type {Piece[]} */ const out = [];
  let at = from;
  let i = 0;
  const missing = (/** @type {number} */ end) => { if (end > at) { out.push({ kind: 'gap', from: at, to: end, reason: 'not_in_archive' }); at = end; } };
  const footage = (/** @type {number} */ end) => {
    for (; i < lane.spans.length && lane.spans[i].from < end; i++) {
      const span = lane.spans[i];
      missing(span.from);
      const stop = Math.min(span.to, end);
      if (stop > at) { out.push({ kind: 'file', from: at, to: stop, fid: span.fid, clock: span.clock }); at = stop; }
      if (span.to > end) return;
    }
    missing(end);
  };
  for (const gap of lane.gaps) {
    if (gap.to <= at) continue;
    if (gap.from >= to) break;
    if (gap.from > at) footage(gap.from);
    const stop = Math.min(gap.to, to);
    out.push({ kind: 'gap', from: at, to: stop, reason: gap.reason });
    at = stop;
  }
  if (at < to) footage(to);
  return out;
}

/** What a camera has at a time. @param {{spans: Span[], gaps: {from: number, to: number, reason: string}[]}} lane @param {number} t */
export function pieceAt(lane, t) {
  const span = lane.spans.find((s) => s.from <= t && t < s.to);
  if (span) return /** @type {Piece} */ ({ kind: 'file', ...span });
  const next = lane.spans.find((s) => s.from > t)?.from ?? Infinity;
  const before = lane.spans.reduce((end, s) => (s.to <= t && s.to > end ? s.to : end), -Infinity);
  const gap = lane.gaps.find((g) => g.from <= t && t < g.to);
  if (gap) return /** @type {Piece} */ ({ kind: 'gap', from: Math.max(gap.from, before), to: Math.min(gap.to, next), reason: gap.reason });
  const named = lane.gaps.find((g) => g.from > t)?.from ?? Infinity;
  return /** @type {Piece} */ ({ kind: 'gap', from: before, to: Math.min(next, named), reason: 'not_in_archive' });
}

/** The next time at which any camera has footage outside of its named gaps. @param {{spans: Span[], gaps?: {from: number, to: number}[]}[]} lanes @param {number} t @returns {number | null} */
export function nextFootage(lanes, t) {
  let best = Infinity;
  for (const { spans, gaps = [] } of lanes) {
    let at = t;
    for (const s of spans) {
      at = Math.max(at, s.from);
      for (const g of gaps) if (g.from <= at && at < g.to) at = g.to;
      if (at < s.to) { best = Math.min(best, at); break; }
    }
  }
  return Number.isFinite(best) ? best : null;
}

/** What an event's clip covers: the file of the event, or the one that holds its start; more files where it goes on.
 * @param {{spans: Span[]}} lane @param {{fid?: string | number | null, from: number, to: number}} event @returns {{from: number, to: number} | null} */
export function clipOf(lane, event) {
  const first = lane.spans.find((s) => event.fid != null && String(s.fid) === String(event.fid)) ?? lane.spans.find((s) => s.to > event.from && s.from <= event.to);
  if (!first) return null;
  let end = first.to;
  for (const s of lane.spans) if (end < event.to && s.from <= end + JOIN_MS && s.to > end) end = s.to;
  return { from: first.from, to: end };
}

/** Where the newest footage begins, if no camera has any at a time. @param {{spans: Span[]}[]} lanes @param {number} t @returns {number | null} */
export function newestBefore(lanes, t) {
  const spans = lanes.flatMap((lane) => lane.spans);
  if (spans.length === 0 || spans.some((s) => s.from <= t && t < s.to)) return null;
  return Math.max(...spans.map((s) => s.from));
}
