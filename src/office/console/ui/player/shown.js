// @ts-check
// What was on the screen: wall times of pictures, merged into spans, sent every 5 s. Pure but for `send`.

/** Pictures further apart than this are two spans. */
const JOIN_US = 1_500_000;
/** Spans in one report at most: what a person can cause in 5 s is a handful. */
const SPANS_MAX = 64;

export class ShownSpans {
  constructor() {
    /** @type {Map<string, {site: string, fid: string | number, spans: [number, number][]}>} */ this.files = new Map();
    /** Files that were on the screen. @type {Map<string, {site: string, fid: string | number}>} */ this.open = new Map();
    /** Pictures that found no place in a full report. */ this.dropped = 0;
  }

  /** One picture was presented. @param {string} site @param {string | number} fid @param {number} wallUs @param {number} [speed] */
  add(site, fid, wallUs, speed = 1) {
    const key = `${site}/${fid}`;
    let file = this.files.get(key);
    if (!file) { this.files.set(key, file = { site, fid, spans: [] }); this.open.set(key, { site, fid }); }
    const at = Math.round(wallUs);
    const join = JOIN_US * Math.max(1, speed);
    const span = file.spans.find(([from, to]) => at >= from - join && at <= to + join);
    if (span) { span[0] = Math.min(span[0], at); span[1] = Math.max(span[1], at); } else if (file.spans.length < SPANS_MAX) file.spans.push([at, at]);
    else this.dropped++;
  }

  /** Takes what was gathered, with the word that each file has ended: the page is left. */
  end() {
    const reports = [...this.open].map(([key, file]) => ({ ...file, spans: this.files.get(key)?.spans ?? [], ended: true }));
    this.files.clear();
    this.open.clear();
    return reports;
  }

  /** Takes what was gathered. */
  take() {
    const reports = [...this.files.values()];
    this.files.clear();
    return reports;
  }
}
