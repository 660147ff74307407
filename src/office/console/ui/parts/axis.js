// @ts-check
// The day's axis of the chosen cameras: footage, gaps hatched with their reason, events, the cursor.
import { html, signal, svg, computed, onCleanup } from '../core/view.js';
import { lengthOf, t, word } from '../core/i18n.js';
import { clock, dateTime, parts } from '../core/time.js';
import { pieces } from '../player/lanes.js';
import { nameOf } from './site_words.js';

const LANE = 22;
const TOP = 18;
/** Room for the text of a tick; nearer to the end it stands on the left of its line. */
const LABEL = 56;
const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200];
export const ZOOMS = [86400, 6 * 3600, 3600, 600, 60];

/** Ticks at round times of the office's clock. @param {number} from @param {number} to @param {number} width px */
export function ticks(from, to, width) {
  const step = (STEPS.find((s) => ((s * 1000) / (to - from)) * width >= 64) ?? 86400) * 1000;
  const p = parts(from);
  const midnight = from - ((+p.hour * 60 + +p.minute) * 60 + +p.second) * 1000 - (from % 1000);
  const out = [];
  for (let at = midnight + Math.ceil((from - midnight) / step) * step; at <= to && out.length < 200; at += step) out.push({ at, text: step < 60000 ? clock(at) : clock(at).slice(0, 5) });
  return out;
}

/** The closest zoom that shows a span with as much around it; ten minutes at least. @param {number} seconds */
export const zoomFor = (seconds) => Math.max(0, ZOOMS.findLastIndex((z) => z >= 600 && z >= 3 * seconds));

/** @param {import('../player/wall.js').Wall} wall @param {number} [zoomed] how far it is zoomed in at first; 0: the whole day */
export function axis(wall, zoomed = 0) {
  const width = signal(900);
  const zoom = signal(zoomed);
  let left = -Infinity;
  const span = computed(() => {
    const { from, to } = wall.range.value;
    return zoom.value === 0 ? to - from : Math.min(to - from, ZOOMS[zoom.value] * 1000);
  });
  const view = computed(() => {
    const { from, to } = wall.range.value;
    const length = span.value;
    const at = wall.now.value;
    let start = left;
    if (at < start + length * 0.05 || at > start + length * 0.95) start = at - length * 0.4;
    start = Math.min(to - length, Math.max(from, start));
    left = start;
    return `${Math.round(start)} ${Math.round(start + length)}`;
  });
  const x = (/** @type {number} */ at, /** @type {number} */ from, /** @type {number} */ to) => ((at - from) / (to - from)) * width.peek();
  const pick = (/** @type {any} */ e) => {
    const box = e.currentTarget.getBoundingClientRect();
    const [from, to] = view.peek().split(' ').map(Number);
    wall.seek(from + ((e.clientX - box.left) / box.width) * (to - from));
  };
  const setZoom = (/** @type {number} */ z) => { left = -Infinity; zoom.value = Math.max(0, Math.min(ZOOMS.length - 1, z)); };
  const keys = (/** @type {KeyboardEvent} */ e) => {
    const big = span.peek() / 50;
    /** @type {Record<string, () => void>} */ const acts = {
      ArrowLeft: () => wall.seek(wall.now.peek() - big), ArrowRight: () => wall.seek(wall.now.peek() + big),
      PageDown: () => wall.seek(wall.now.peek() - span.peek() / 5), PageUp: () => wall.seek(wall.now.peek() + span.peek() / 5),
      Home: () => wall.seek(wall.range.peek().from), End: () => wall.seek(wall.range.peek().to), '+': () => setZoom(zoom.peek() + 1), '-': () => setZoom(zoom.peek() - 1),
    };
    if (!acts[e.key]) return;
    e.preventDefault();
    e.stopPropagation();
    acts[e.key]();
  };
  const observer = new ResizeObserver(([entry]) => { width.value = Math.max(200, Math.round(entry.contentRect.width)); });
  onCleanup(() => observer.disconnect());
  return html`<div class="axis">
    <div class="axis-tools"><div class="segmented" role="group" aria-label="${t('axis.zoom')}">${ZOOMS.map((s, i) => html`<button type="button" aria-pressed="${() => String(zoom.value === i)}" @click=${() => setZoom(i)}>${t(`axis.zoom_${s}`)}</button>`)}</div>
      <span class="legend"><i class="swatch swatch-file"></i>${t('axis.footage')} <i class="swatch swatch-gap"></i>${t('axis.gap')} <i class="swatch swatch-event"></i>${t('axis.event')}</span></div>
    <div class="axis-body"><div class="axis-names" aria-hidden="true">${() => wall.lanes.value.map((lane) => html`<span>${nameOf(lane.site)}</span>`)}</div>
    <div class="axis-plot" role="slider" tabindex="0" aria-label="${t('axis.label')}" aria-valuemin="${() => Math.round(wall.range.value.from / 1000)}" aria-valuemax="${() => Math.round(wall.range.value.to / 1000)}"
      aria-valuenow="${() => Math.round(wall.now.value / 1000)}" aria-valuetext="${() => dateTime(wall.now.value)}" @click=${pick} @keydown=${keys} ref=${(/** @type {Element} */ e) => observer.observe(e)}>
      ${() => {
    const [from, to] = view.value.split(' ').map(Number);
    const w = width.value;
    const lanes = wall.lanes.value;
    return svg`<svg width="${w}" height="${TOP + Math.max(1, lanes.length) * LANE + 2}" aria-hidden="true"><defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" class="hatch-ground"/><rect width="2.5" height="7" class="hatch-line"/></pattern></defs>
      ${ticks(from, to, w).map((k) => svg`<g><line class="tick" x1="${x(k.at, from, to)}" x2="${x(k.at, from, to)}" y1="${TOP - 4}" y2="${TOP + lanes.length * LANE}"/><text class="tick-text" text-anchor="${x(k.at, from, to) > w - LABEL ? 'end' : 'start'}" x="${x(k.at, from, to) + (x(k.at, from, to) > w - LABEL ? -3 : 3)}" y="12">${k.text}</text></g>`)}
      ${lanes.map((lane, i) => svg`<g>${layered(merge(pieces(lane, from, to), (to - from) / w)).map((p) => svg`<rect class="${p.kind === 'file' ? 'axis-file' : 'axis-gap'}" fill="${p.kind === 'file' ? null : p.reason === 'not_in_archive' ? 'none' : 'url(#hatch)'}"
          x="${x(p.from, from, to)}" y="${TOP + i * LANE + 3}" width="${Math.max(p.kind === 'file' ? 1 : 2, x(p.to, from, to) - x(p.from, from, to))}" height="${LANE - 8}"><title>${p.kind === 'file' ? `${clock(p.from)}–${clock(p.to)}` : `${word('gap', p.reason)} ${clock(p.from)}–${clock(p.to)}`}</title></rect>`)}
        ${lane.events.filter((e) => e.to >= from && e.from <= to).map((e) => svg`<rect class="axis-event" x="${x(e.from, from, to)}" y="${TOP + i * LANE + LANE - 7}" width="${Math.max(2, x(e.to, from, to) - x(e.from, from, to))}" height="4"/>`)}</g>`)}</svg>`;
  }}
      <span class="cursor" style:left="${() => { const [from, to] = view.value.split(' ').map(Number); return `${(100 * (wall.now.value - from)) / (to - from)}%`; }}"></span></div></div>
    <details class="gap-table"><summary>${() => t('axis.gaps_table', { n: wall.lanes.value.reduce((n, l) => n + l.gaps.length, 0) })}</summary>
      ${() => html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('axis.gaps')}"><table class="table"><thead><tr><th scope="col">${t('board.col_site')}</th><th scope="col">${t('from')}</th><th scope="col">${t('to')}</th><th scope="col">${t('length')}</th><th scope="col">${t('board.col_reason')}</th></tr></thead>
      <tbody>${wall.lanes.value.flatMap((lane) => lane.gaps.map((g) => html`<tr><td>${nameOf(lane.site)}</td><td>${dateTime(g.from)}</td><td>${dateTime(g.to)}</td><td>${lengthOf(g.from, g.to)}</td><td>${word('gap', g.reason)}</td></tr>`))}</tbody></table></div>`}</details>
  </div>`;
}

/** Gaps are drawn last: a short one must not vanish below the footage beside it. @param {any[]} list */
export const layered = (list) => [...list.filter((p) => p.kind === 'file'), ...list.filter((p) => p.kind !== 'file')];

/** Pieces too narrow to see join their neighbour of the same kind, so that a day of clips stays a few hundred rectangles.
 * @param {import('../player/lanes.js').Piece[]} list @param {number} msOfPixel @returns {any[]} */
export function merge(list, msOfPixel) {
  /** @type {any[]} */ const out = [];
  for (const p of list) {
    const last = out.at(-1);
    if (last && last.kind === p.kind && last.reason === /** @type {any} */ (p).reason && p.from - last.to < msOfPixel) last.to = p.to;
    else out.push({ ...p });
  }
  return out;
}
