// @ts-check
// One camera of the wall: video by MSE, or pictures decoded by the office where the browser cannot.
import { signal } from '../core/view.js';
import { BASE } from '../core/api.js';
import { Feed } from './mse.js';
import { correction } from './sync.js';
import { fragmentAt, heldEnd, keyAt } from './plan.js';
import { KEYS_FROM } from './clock.js';
import { pieceAt } from './lanes.js';

/** Pictures of the office a second at most. */
const PICTURE_EVERY_MS = 200;
/** A video that runs for so long without a picture is not decoded at all: the office's pictures take over. */
const BLACK_AFTER_MS = 2000;
/** @typedef {{kind: 'video' | 'pictures' | 'gap' | 'loading' | 'failed', reason?: string, from?: number, to?: number, error?: any, clock?: string, soundLost?: string | null, clockSet?: boolean, fid?: string | number}} Status */

export class Tile {
  /**
   * @param {string} site @param {number} originMs
   * @param {{sound: () => boolean, purpose: () => boolean, shown: (site: string, fid: string | number, wallUs: number) => void, stats: import('./sync.js').SyncStats}} to
   */
  constructor(site, originMs, to) {
    this.site = site;
    this.originMs = originMs;
    this.to = to;
    this.video = document.createElement('video');
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.disablePictureInPicture = true;
    this.video.tabIndex = -1;
    this.image = document.createElement('img');
    this.image.alt = '';
    this.image.hidden = true;
    this.feed = new Feed(this.video, site, originMs, { sound: to.sound, purpose: to.purpose, changed() {} });
    /** @type {import('./lanes.js').Piece & any} */ this.lane = { site, spans: [], gaps: [], events: [] };
    /** @type {import('../core/view.js').Signal<Status>} */ this.status = signal(/** @type {Status} */ ({ kind: 'loading' }));
    this.joined = false;
    this.lead = 0.08;
    /** @type {Set<string>} files this browser shows black */ this.black = new Set();
    this.blackSince = 0;
    this.pictureAt = 0;
    this.pictureKey = '';
    this.pictureBusy = false;
    /** Seconds from one picture to the next, measured. */ this.interval = 1 / 25;
    this.lastMedia = NaN;
    this.watch();
  }

  /** Follows what is presented: the wall time of every picture on the screen. */
  watch() {
    const video = /** @type {any} */ (this.video);
    if (!video.requestVideoFrameCallback) return;
    const next = (/** @type {number} */ _, /** @type {{mediaTime: number}} */ picture) => {
      const gap = picture.mediaTime - this.lastMedia;
      if (gap > 0.004 && gap < 0.5) this.interval = this.interval * 0.8 + gap * 0.2;
      this.lastMedia = picture.mediaTime;
      const { kind, fid } = this.status.peek();
      if (kind === 'video' && fid !== undefined && !document.hidden) this.to.shown(this.site, fid, this.originMs * 1000 + picture.mediaTime * 1e6);
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
  }

  /** Why a file has no picture at a time: its own index says it, or the lane. @param {import('./mse.js').File_ | null} file @param {number} wall */
  gapAt(file, wall) {
    const own = file?.index.gaps?.find((/** @type {any} */ g) => Date.parse(g.from) <= wall && wall < Date.parse(g.to));
    return own ? { reason: own.reason, from: Date.parse(own.from), to: Date.parse(own.to) } : this.lane.gaps.find((g) => g.from <= wall && wall < g.to) ?? null;
  }

  /** The first and the last picture of the file at a time, as far as it is loaded; ms. @param {number} wall */
  pictures(wall) {
    const piece = pieceAt(this.lane, wall);
    const list = piece.kind === 'file' ? this.feed.file(piece.fid)?.fragments ?? [] : [];
    const t = (wall - this.originMs) / 1000;
    const first = fragmentAt(list, t) >= 0 ? t : list.find((f) => f.start >= t)?.start;
    return list.length > 0 ? { first: first === undefined ? wall : this.originMs + first * 1000, last: this.originMs + list[list.length - 1].end * 1000 } : null;
  }

  close() { this.feed.close(); }
  restart() { this.joined = false; this.feed.restart(); }

  /** @param {Status} next */
  set(next) {
    const now = this.status.peek();
    if (now.kind !== next.kind || now.fid !== next.fid || now.reason !== next.reason || now.from !== next.from || now.to !== next.to
      || now.error !== next.error || now.clock !== next.clock || now.soundLost !== next.soundLost || now.clockSet !== next.clockSet) this.status.value = next;
  }

  /**
   * One step of the loop, every 100 ms.
   * @param {number} wall ms @param {number} speed @param {boolean} running @returns {boolean} whether it starves
   */
  step(wall, speed, running) {
    const t = (wall - this.originMs) / 1000;
    this.feed.want(t, this.lane.spans);
    const piece = pieceAt(this.lane, wall);
    if (piece.kind === 'gap') {
      this.rest();
      this.set({ kind: 'gap', reason: piece.reason, from: piece.from, to: piece.to });
      return false;
    }
    const file = this.feed.file(piece.fid);
    const clock = file?.index.clock ?? piece.clock;
    const gap = fragmentAt(file?.fragments ?? [], t) < 0 ? this.gapAt(file, wall) : null;
    if (gap) {
      this.rest();
      this.set({ kind: 'gap', reason: gap.reason, from: gap.from, to: gap.to });
      return false;
    }
    const error = this.feed.failure(piece.fid);
    if (error && !this.feed.has(t)) {
      this.rest();
      this.set({ kind: 'failed', error, fid: piece.fid });
      return false;
    }
    if (!file) { this.set({ kind: 'loading', fid: piece.fid, clock }); return true; }
    if (file.way.way === 'pictures' || this.black.has(String(piece.fid))) return this.picture(file, piece.fid, t, clock);
    this.image.hidden = true;
    if (!this.feed.has(t)) {
      const at = fragmentAt(file.fragments, t);
      const comes = at >= 0 && !file.have.has(at);
      const end = at >= 0 && !comes ? heldEnd(this.video.buffered, t, this.interval) : null;
      if (end !== null) {
        this.set({ kind: 'video', fid: piece.fid, clock, soundLost: file.way.soundLost, clockSet: file.fragments[at].clockSet });
        return this.hold(Math.min(t, end - 0.02), running);
      }
      this.rest();
      this.set(comes ? { kind: 'loading', fid: piece.fid, clock } : { kind: 'gap', reason: at < 0 ? 'no_pictures' : 'no_key_yet', from: wall, to: wall });
      return comes;
    }
    this.set({ kind: 'video', fid: piece.fid, clock, soundLost: file.way.soundLost, clockSet: file.fragments[fragmentAt(file.fragments, t)]?.clockSet });
    if (running && speed >= KEYS_FROM) return this.leap(file, t);
    return this.follow(t, speed, running, file);
  }

  /** Nothing to show: stands still and jumps when there is something again. */
  rest() {
    this.joined = false;
    if (!this.video.paused) this.video.pause();
  }

  /** The last picture before a gap: a video that plays runs into it and stands by itself. @param {number} last @param {boolean} running */
  hold(last, running) {
    if (running && this.joined) return false;
    this.rest();
    if (!this.video.seeking && Math.abs(this.video.currentTime - last) > Math.max(0.1, this.interval)) this.jump(last);
    return false;
  }

  /** @param {number} t @param {number} speed @param {boolean} running @param {import('./mse.js').File_} file */
  follow(t, speed, running, file) {
    const video = this.video;
    if (video.seeking) { return performance.now() - this.seekedAt > 250; }
    if (this.seekedAt && this.joined) {
      this.lead = Math.min(0.3, Math.max(0.02, this.lead * 0.7 + 0.3 * (performance.now() - this.seekedAt) / 1000));
      this.seekedAt = 0;
    }
    if (!running) {
      if (!video.paused) video.pause();
      if (Math.abs(video.currentTime - t) > this.interval * 0.6) { this.jump(t); }
      this.joined = false;
      return false;
    }
    if (!this.joined) {
      this.joined = true;
      if (Math.abs(video.currentTime - t) > 0.1) this.jump(t + (video.readyState < 2 ? 0 : this.lead * speed));
      video.playbackRate = speed;
      video.play().catch(() => null);
      return false;
    }
    if (video.paused) video.play().catch(() => null);
    if (this.isBlack(String(file.fid))) return false;
    const error = video.currentTime - t;
    const act = correction(error, speed);
    // The last pictures before a gap: nothing more comes, so nothing is waited for.
    if (video.readyState < 3 && this.isLast(file, t)) return false;
    if (video.readyState < 3 && error < -0.1) return true;
    this.to.stats.add(error / Math.max(1, speed));
    if (act.seek) { this.to.stats.seeks++; this.jump(t + this.lead * speed); } else if (Math.abs(video.playbackRate - act.rate) > 0.004) video.playbackRate = act.rate;
    return false;
  }

  /** Fast: stands, and jumps from key frame to key frame, so that one picture of each is decoded. @param {import('./mse.js').File_} file @param {number} t */
  leap(file, t) {
    this.rest();
    if (this.isBlack(String(file.fid)) || this.video.seeking) return false;
    const key = file.fragments[keyAt(file.fragments, t)];
    // A little behind its start: rounding must not show the picture before.
    if (key && Math.abs(this.video.currentTime - key.start) > 0.05) this.jump(key.start + 0.01);
    return false;
  }

  seekedAt = 0;

  /** Whether all that follows what is buffered at a time is here already, or does not exist. @param {import('./mse.js').File_} file @param {number} t */
  isLast(file, t) {
    const ranges = this.video.buffered;
    for (let i = 0; i < ranges.length; i++) {
      if (ranges.start(i) - 0.1 > t || t > ranges.end(i) || ranges.end(i) - t > 1) continue;
      const next = fragmentAt(file.fragments, ranges.end(i) + 0.05);
      return next < 0 || file.have.has(next);
    }
    return false;
  }

  /** Seconds this video is ahead of the clock, if it follows it now. @param {number} wall @returns {number | null} */
  error(wall) {
    const on = this.joined && this.status.peek().kind === 'video' && !this.video.seeking && !this.video.paused && this.video.readyState >= 3;
    return on ? this.video.currentTime - (wall - this.originMs) / 1000 : null;
  }

  /** @param {number} t */
  jump(t) {
    this.seekedAt = performance.now();
    this.video.currentTime = Math.max(0, t);
  }

  /** A second check beside `isTypeSupported`: a clock that runs over width 0. @param {string} fid */
  isBlack(fid) {
    if (this.video.videoWidth > 0) { this.blackSince = 0; return false; }
    this.blackSince ||= performance.now();
    if (performance.now() - this.blackSince < BLACK_AFTER_MS) return false;
    this.black.add(fid);
    return true;
  }

  /** @param {import('./mse.js').File_} file @param {string | number} fid @param {number} t @param {string | undefined} clock */
  picture(file, fid, t, clock) {
    if (!this.video.paused) this.video.pause();
    this.joined = false;
    const n = keyAt(file.fragments, t);
    this.set({ kind: 'pictures', fid, clock, reason: file.way.way === 'pictures' ? file.way.codec : 'black' });
    this.image.hidden = false;
    const key = `${fid}/${n}`;
    const now = performance.now();
    if (n >= 0 && key === this.pictureKey && !document.hidden) this.to.shown(this.site, fid, this.originMs * 1000 + t * 1e6);
    if (n < 0 || key === this.pictureKey || this.pictureBusy || now - this.pictureAt < PICTURE_EVERY_MS) return false;
    this.pictureBusy = true;
    this.pictureAt = now;
    const next = new Image();
    next.src = `${BASE}${file.path}/pictures/${n}`;
    next.decode().then(() => { this.image.src = next.src; this.pictureKey = key; }, () => { this.pictureKey = key; })
      .finally(() => { this.pictureBusy = false; });
    return false;
  }

  /** What is on the screen, as a canvas source. */
  get source() {
    const { kind } = this.status.peek();
    if (kind === 'video' && this.video.videoWidth > 0) return { source: this.video, width: this.video.videoWidth, height: this.video.videoHeight, wall: this.originMs + (Number.isFinite(this.lastMedia) ? this.lastMedia : this.video.currentTime) * 1000 };
    if (kind === 'pictures' && this.image.naturalWidth > 0) return { source: this.image, width: this.image.naturalWidth, height: this.image.naturalHeight, wall: NaN };
    return null;
  }
}
