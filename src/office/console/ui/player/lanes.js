// @ts-check
// The axis of one camera: footage, gaps with their reason, and what is not known. Pure; times in ms.

/** @typedef {{from: number, to: number, fid: string | number, clock?: string, codec?: string}} Span */
/** @typedef {{kind: 'file', from: number, to: number, fid: string | number, clock?: string} | {kind: 'gap', from: number, to: number, reason: string}} Piece */

/** @param {any} site one site of `GET /axis` @returns {{site: string, spans: Span[], gaps: {from: number, to: number, reason: string}[], events: {id: string, from: number, to: number}[]}} */
export function readLane(site) {
  const times = (/** @type {any[]} */ list) => (list ?? []).map((x) => ({ ...x, from: Date.parse(x.from), to: Date.parse(x.to ?? x.from) }))
    .filter((x) => Number.isFinite(x.from) && x.to >= x.from).sort((a, b) => a.from - b.from || a.to - b.to);
  return { site: site.site, spans: times(site.spans), gaps: times(site.gaps), events: times(site.events) };
}

/**
 * One line without overlaps from `from` to `to`: files first, then named gaps, then «not in the archive».
 * @param {{spans: Span[], gaps: {from: number, to: number, reason: string}[]}} lane @param {number} from @param {number} to
 * @returns {Piece[]}
 */
export function pieces(lane, from, to) {
  /** @type {Piece[]} */ const out = [];
  let at = from;
  const fill = (/** @type {number} */ end) => {
    for (const gap of lane.gaps) {
      if (gap.to <= at || gap.from >= end) continue;
      if (gap.from > at) out.push({ kind: 'gap', from: at, to: gap.from, reason: 'not_in_archive' });
      const stop = Math.min(gap.to, end);
      out.push({ kind: 'gap', from: Math.max(gap.from, at), to: stop, reason: gap.reason });
      at = stop;
      if (at >= end) return;
    }
    if (at < end) out.push({ kind: 'gap', from: at, to: end, reason: 'not_in_archive' });
    at = end;
  };
  for (const span of lane.spans) {
    if (span.to <= at) continue;
    if (span.from >= to) break;
    if (span.from > at) fill(Math.min(span.from, to));
    const stop = Math.min(span.to, to);
    if (stop > at) out.push({ kind: 'file', from: Math.max(span.from, at), to: stop, fid: span.fid, clock: span.clock });
    at = Math.max(at, stop);
  }
  if (at < to) fill(to);
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

/** The next time at which any camera has footage. @param {{spans: Span[]}[]} lanes @param {number} t @returns {number | null} */
export function nextFootage(lanes, t) {
  let best = Infinity;
  for (const { spans } of lanes) for (const s of spans) if (s.to > t) { best = Math.min(best, Math.max(s.from, t)); }
  return Number.isFinite(best) ? best : null;
}

/** Where the newest footage begins, if no camera has any at a time. @param {{spans: Span[]}[]} lanes @param {number} t @returns {number | null} */
export function newestBefore(lanes, t) {
  const spans = lanes.flatMap((lane) => lane.spans);
  if (spans.length === 0 || spans.some((s) => s.from <= t && t < s.to)) return null;
  return Math.max(...spans.map((s) => s.from));
}
