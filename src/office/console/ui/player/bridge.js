// @ts-check
// A gap inside a group of pictures. Browsers drop every picture behind a jump of more than two durations until the next key frame,
// although these pictures build on the ones before the gap and decode well. So the last picture before the gap gets a longer duration. Pure.

/** Boxes of a type, as the places of their bodies. @param {DataView} view @param {number} from @param {number} to @param {string} type @returns {[number, number][]} */
function boxes(view, from, to, type) {
  /** @type {[number, number][]} */ const out = [];
  for (let at = from; at + 8 <= to;) {
    const size = view.getUint32(at);
    if (size < 8 || at + size > to) return out;
    if ([0, 1, 2, 3].every((i) => view.getUint8(at + 4 + i) === type.charCodeAt(i))) out.push([at + 8, at + size]);
    at += size;
  }
  return out;
}

/** One run of samples: its track, its first time, how long it is, and where the duration of its last sample stands.
 * @param {DataView} view @param {[number, number]} traf @returns {{track: number, from: number, ticks: number, last: number} | null} */
function run(view, [from, to]) {
  const [tfhd, tfdt, trun] = ['tfhd', 'tfdt', 'trun'].map((type) => boxes(view, from, to, type)[0]);
  if (!tfhd || !tfdt || !trun) return null;
  const flags = view.getUint32(trun[0]) & 0xffffff;
  const count = view.getUint32(trun[0] + 4);
  const first = trun[0] + 8 + (flags & 0x1 ? 4 : 0) + (flags & 0x4 ? 4 : 0);
  const step = 4 * [0x100, 0x200, 0x400, 0x800].filter((f) => flags & f).length;
  if (!(flags & 0x100) || count === 0 || first + count * step > trun[1]) return null;
  let ticks = 0;
  for (let i = 0; i < count; i++) ticks += view.getUint32(first + i * step);
  return { track: view.getUint32(tfhd[0] + 4), from: view.getUint8(tfdt[0]) === 1 ? Number(view.getBigUint64(tfdt[0] + 4)) : view.getUint32(tfdt[0] + 4), ticks, last: first + (count - 1) * step };
}

/**
 * Lengthens the last sample of each run of the first track until the next run, in place.
 * @param {ArrayBuffer} bytes `moof` and what follows @param {number} seconds its length, by the index @param {number} gap seconds until the next fragment
 * @returns {number} runs that were lengthened; a fragment without durations of its own stays as it is
 */
export function lengthen(bytes, seconds, gap) {
  const view = new DataView(bytes);
  const moof = boxes(view, 0, bytes.byteLength, 'moof')[0];
  const all = moof ? boxes(view, moof[0], moof[1], 'traf').map((traf) => run(view, traf)) : [];
  const runs = /** @type {NonNullable<ReturnType<typeof run>>[]} */ (all.filter((r) => r !== null && r.track === all[0]?.track));
  if (runs.length === 0 || !(seconds > 0)) return 0;
  const end = (/** @type {typeof runs[0]} */ r) => r.from + r.ticks;
  const scale = (end(runs[runs.length - 1]) - runs[0].from) / seconds;
  let done = 0;
  runs.forEach((r, i) => {
    const next = runs[i + 1];
    const more = Math.round(next ? next.from - end(r) : gap * scale);
    if (more <= 0) return;
    view.setUint32(r.last, Math.min(0xffffffff, view.getUint32(r.last) + more));
    done++;
  });
  return done;
}

/** Seconds from the end of a fragment to the next one, if that one builds on it. @param {import('./plan.js').Fragment[]} fragments @param {number} i */
export function gapBehind(fragments, i) {
  const next = fragments[i + 1];
  return next && !next.key ? Math.max(0, next.start - fragments[i].end) : 0;
}
