// @ts-check
// One video fed by ranges of files: every fragment at its wall time on the session's axis.
import { fileUrl, get, request } from '../core/api.js';
import { decide } from './codec.js';
import { gapBehind, lengthen } from './bridge.js';
import { AHEAD_S, BEHIND_S, TILE_BYTES_MAX, buffered, layout, nextRequest } from './plan.js';

/** Files of a tile whose index is kept. */
const INDEXES_MAX = 48;
/** A file that failed is asked for again after so long. */
const RETRY_MS = 5000;
/** @typedef {import('./plan.js').Fragment} Fragment */
/** @typedef {{fid: string | number, way: import('./codec.js').Way, index: any, fragments: Fragment[], have: Set<number>, init: ArrayBuffer | null, query: string, path: string}} File_ */

const supports = (/** @type {string} */ mime) => typeof MediaSource !== 'undefined' && MediaSource.isTypeSupported(mime);
const once = (/** @type {EventTarget} */ target, /** @type {string} */ type) => new Promise((done) => { target.addEventListener(type, done, { once: true }); });

export class Feed {
  /**
   * @param {HTMLVideoElement} video @param {string} site @param {number} originMs
   * @param {{sound: () => boolean, changed: () => void, purpose: () => boolean}} to
   */
  constructor(video, site, originMs, to) {
    this.video = video;
    this.site = site;
    this.originMs = originMs;
    this.to = to;
    /** @type {Map<string, Promise<File_> | File_>} */ this.files = new Map();
    /** @type {Map<string, {until: number, error: any}>} */ this.failures = new Map();
    /** @type {SourceBuffer | null} */ this.buffer = null;
    this.mime = '';
    this.initOf = '';
    this.bytes = 0;
    this.ahead = AHEAD_S;
    this.t = 0;
    /** @type {import('./lanes.js').Span[]} */ this.spans = [];
    this.pumping = false;
    this.closed = false;
    this.abort = new AbortController();
    this.media = supports('video/mp4; codecs="avc1.42e01e"') ? new MediaSource() : null;
    if (this.media) { this.url = URL.createObjectURL(this.media); video.src = this.url; }
    /** Bytes fetched, for the figures. */ this.fetched = 0;
  }

  close() {
    this.closed = true;
    this.abort.abort();
    this.video.removeAttribute('src');
    this.video.load();
    if (this.url) URL.revokeObjectURL(this.url);
  }

  /** Forgets everything that was fetched (sound was switched on or off). */
  restart() {
    this.files.clear();
    this.failures.clear();
    this.bytes = 0;
    this.initOf = '';
    this.abort.abort();
    this.abort = new AbortController();
    this.purge = true;
  }

  /** The file at a time, if its index is here already. @param {string | number} fid @returns {File_ | null} */
  file(fid) {
    const found = this.files.get(String(fid));
    return found && !(found instanceof Promise) ? found : null;
  }

  /** @param {string | number} fid @returns {any} why a file cannot be shown now */
  failure(fid) { return this.failures.get(String(fid))?.error ?? null; }
  has(/** @type {number} */ t) { return buffered(this.video.buffered, t); }

  /** @param {string | number} fid @returns {Promise<File_>} */
  async load(fid) {
    const path = fileUrl(this.site, fid).slice('/api/v1'.length);
    const whole = await get(`${path}/index`, { signal: this.abort.signal });
    const way = decide(whole.codecs, this.to.sound(), supports);
    const query = way.way === 'mse' && way.tracks === 'video' ? '?tracks=video' : '';
    const index = query ? await get(`${path}/index${query}`, { signal: this.abort.signal }) : whole;
    return { fid, way, index, fragments: layout(index, this.originMs), have: new Set(), init: null, query, path };
  }

  /** Wants footage around `t` of these spans. @param {number} t seconds @param {import('./lanes.js').Span[]} spans */
  want(t, spans) {
    if (Math.abs(t - this.t) > 5) this.cancel(t);
    this.t = t;
    this.spans = spans;
    if (!this.pumping && !this.closed && this.to.purpose()) this.pump();
  }

  /** A jump: what is on its way for another time is not waited for. @param {number} t */
  cancel(t) {
    if (this.has(t)) return;
    this.abort.abort();
    this.abort = new AbortController();
  }

  async pump() {
    this.pumping = true;
    try { while (!this.closed && await this.step()); } catch (error) {
      if (/** @type {any} */ (error)?.name !== 'AbortError') console.warn('playback', this.site, error);
    } finally { this.pumping = false; }
  }

  /** One file index, one request or nothing. @returns {Promise<boolean>} whether there may be more to do */
  async step() {
    const t = this.t;
    await this.trim(t);
    const wall = this.originMs + t * 1000;
    const span = this.spans.find((s) => s.to > wall && s.from < wall + this.ahead * 1000 && this.usable(s.fid, t));
    if (!span) return false;
    const key = String(span.fid);
    try {
      let file = this.files.get(key);
      if (!file) {
        const loading = this.load(span.fid);
        this.files.set(key, loading);
        loading.catch(() => null);
        file = await loading.catch((error) => { this.files.delete(key); throw error; });
        this.files.set(key, file);
        while (this.files.size > INDEXES_MAX) this.files.delete(/** @type {string} */ (this.files.keys().next().value));
        this.to.changed();
        return true;
      }
      await this.fetchNext(await file, t);
    } catch (error) {
      if (/** @type {any} */ (error)?.name === 'AbortError') return true;
      this.recover();
      this.failures.set(key, { until: performance.now() + RETRY_MS, error });
      this.to.changed();
    }
    return true;
  }

  /** After a part that could not be read: the next one begins with the initialisation. */
  recover() {
    this.initOf = '';
    try { if (this.media?.readyState === 'open') this.buffer?.abort(); } catch { /* a removal runs: it ends by itself */ }
  }

  /** Whether a file has something to fetch now. @param {string | number} fid @param {number} t */
  usable(fid, t) {
    const key = String(fid);
    const failed = this.failures.get(key);
    if (failed && failed.until > performance.now()) return false;
    const file = this.files.get(key);
    if (!file || file instanceof Promise) return true;
    return file.way.way === 'mse' && this.request(file, t) !== null;
  }

  /** @param {File_} file @param {number} t */
  request(file, t) {
    return nextRequest({ fragments: file.fragments, have: file.have, t, until: t + this.ahead, urgent: !this.has(t), budget: TILE_BYTES_MAX - this.bytes });
  }

  /** @param {File_} file @param {number} t */
  async fetchNext(file, t) {
    const wish = file.way.way === 'mse' ? this.request(file, t) : null;
    if (!wish || file.way.way !== 'mse' || !this.media) return;
    const signal = this.abort.signal;
    if (!file.init) file.init = await this.range(file, file.index.init.offset, file.index.init.length, signal);
    const bytes = await this.range(file, wish.offset, wish.length, signal);
    await this.open(file.way.mime);
    const key = `${file.fid}${file.query}`;
    for (let i = wish.first; i <= wish.last; i++) {
      if (this.closed || signal.aborted) return;
      const f = file.fragments[i];
      const buffer = /** @type {SourceBuffer} */ (this.buffer);
      if (this.initOf !== key) { await this.append(file.init); this.initOf = key; }
      if (Math.abs(buffer.timestampOffset - f.shift) > 1e-6) buffer.timestampOffset = f.shift;
      const part = bytes.slice(f.offset - wish.offset, f.offset - wish.offset + f.length);
      lengthen(part, f.end - f.start, gapBehind(file.fragments, i));
      await this.append(part);
      file.have.add(i);
      this.bytes += f.length;
    }
    this.failures.delete(String(file.fid));
    this.to.changed();
  }

  /** @param {File_} file @param {number} offset @param {number} length @param {AbortSignal} signal */
  async range(file, offset, length, signal) {
    const response = await request('GET', file.path + file.query, { headers: { range: `bytes=${offset}-${offset + length - 1}`, accept: 'video/mp4' }, signal });
    const bytes = await response.arrayBuffer();
    this.fetched += bytes.byteLength;
    // A server that ignores Range sends the whole file.
    return response.status === 206 ? bytes : bytes.slice(offset, offset + length);
  }

  /** @param {string} mime */
  async open(mime) {
    const media = /** @type {MediaSource} */ (this.media);
    if (media.readyState !== 'open') await once(media, 'sourceopen');
    if (!this.buffer) {
      this.buffer = media.addSourceBuffer(mime);
      media.duration = 8 * 86400;
    } else if (this.mime !== mime) {
      this.buffer.changeType(mime);
      this.initOf = '';
    }
    this.mime = mime;
  }

  /** @param {ArrayBuffer} bytes */
  async append(bytes) {
    const buffer = /** @type {SourceBuffer} */ (this.buffer);
    const ended = new Promise((done, fail) => {
      buffer.addEventListener('updateend', done, { once: true });
      buffer.addEventListener('error', () => fail(new Error('the browser cannot read this part')), { once: true });
    });
    try { buffer.appendBuffer(bytes); } catch (error) {
      if (/** @type {any} */ (error).name !== 'QuotaExceededError') throw error;
      this.ahead = Math.max(5, this.ahead / 2);
      await this.remove(0, Math.max(0.1, this.video.currentTime - 3));
      await this.remove(this.t + this.ahead, Infinity);
      buffer.appendBuffer(bytes);
    }
    await ended;
  }

  /** Removes what is far behind and far ahead. @param {number} t */
  async trim(t) {
    if (!this.buffer || this.buffer.updating) return;
    if (this.purge) { this.purge = false; await this.remove(0, Infinity); return; }
    const ranges = this.video.buffered;
    if (ranges.length === 0) return;
    if (ranges.start(0) < t - BEHIND_S - 10) await this.remove(0, t - BEHIND_S);
    if (ranges.end(ranges.length - 1) > t + this.ahead * 2 + 10) await this.remove(t + this.ahead * 2, Infinity);
  }

  /** @param {number} from @param {number} to */
  async remove(from, to) {
    const buffer = /** @type {SourceBuffer} */ (this.buffer);
    if (!(from < to) || buffer.updating) return;
    const ended = once(buffer, 'updateend');
    buffer.remove(from, to);
    await ended;
    for (const file of this.files.values()) {
      if (file instanceof Promise) continue;
      for (const i of [...file.have]) {
        const f = file.fragments[i];
        if (f && f.start < to && f.end > from) { file.have.delete(i); this.bytes -= f.length; }
      }
    }
  }
}
