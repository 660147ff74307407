// @ts-check
// A plan to pan and zoom: an image or raster tiles, places with their field of view on it.
import { html, listen, onCleanup, signal, svg } from '../core/view.js';
import { t } from '../core/i18n.js';
import { icon } from './icon.js';

const TILE = 256;
const SCALE_MAX = 16;
const STEP = 60;

/** Web Mercator of a place, 0..1. @param {number} lon @param {number} lat */
export function mercator(lon, lat) {
  const s = Math.sin((lat * Math.PI) / 180);
  return { x: (lon + 180) / 360, y: 0.5 - Math.log((1 + s) / (1 - s)) / (4 * Math.PI) };
}

/** A wedge: where a camera looks. @param {number} x @param {number} y @param {number} heading degrees clockwise from up @param {number} fov @param {number} range */
export function wedge(x, y, heading, fov, range) {
  const at = (/** @type {number} */ d) => { const a = ((d - 90) * Math.PI) / 180; return `${(x + range * Math.cos(a)).toFixed(1)} ${(y + range * Math.sin(a)).toFixed(1)}`; };
  return `M${x.toFixed(1)} ${y.toFixed(1)}L${at(heading - fov / 2)}A${range.toFixed(1)} ${range.toFixed(1)} 0 ${fov > 180 ? 1 : 0} 1 ${at(heading + fov / 2)}Z`;
}

/** The tiles in sight. @param {{min_zoom: number, max_zoom: number, bounds: number[]}} set @param {{x: number, y: number, scale: number}} view @param {number} width @param {number} height @param {number} size px of the plan's width at scale 1 */
export function tilesInSight(set, view, width, height, size) {
  const [west, south, east, north] = set.bounds;
  const a = mercator(west, north);
  const b = mercator(east, south);
  const perWorld = (size * view.scale) / (b.x - a.x);
  const z = Math.max(set.min_zoom, Math.min(set.max_zoom, Math.round(Math.log2(perWorld / TILE))));
  const n = 2 ** z;
  const px = perWorld / n;
  const from = { x: a.x + -view.x / perWorld, y: a.y + -view.y / perWorld };
  const to = { x: from.x + width / perWorld, y: from.y + height / perWorld };
  const out = [];
  const clamp = (/** @type {number} */ v, /** @type {number} */ low, /** @type {number} */ high) => Math.max(Math.floor(low * n), Math.min(Math.floor(high * n - 1e-9), Math.floor(v * n)));
  for (let ty = clamp(from.y, a.y, b.y); ty <= clamp(to.y, a.y, b.y); ty++) {
    for (let tx = clamp(from.x, a.x, b.x); tx <= clamp(to.x, a.x, b.x); tx++) {
      if (out.length < 120) out.push({ id: `${z}/${tx}/${ty}`, left: (tx / n - a.x) * perWorld, top: (ty / n - a.y) * perWorld, size: px });
    }
  }
  return out;
}

/**
 * @param {{image: string | null, tiles: any, aspect: number, places: import('../core/view.js').Signal<any[]>, state: (site: string) => string, name: (site: string) => string,
 *   chosen: import('../core/view.js').Signal<string>, moved: ((site: string, x: number, y: number) => void) | null}} of
 */
export function map(of) {
  const box = signal({ w: 800, h: 500 });
  const view = signal({ x: 0, y: 0, scale: 1 });
  const size = () => Math.min(box.value.w, box.value.h / of.aspect);
  /** @type {Map<number, {x: number, y: number}>} */ const fingers = new Map();
  let dragging = '';
  let moved = 0;
  /** @type {HTMLElement} */ let area;
  const zoom = (/** @type {number} */ by, /** @type {number} */ cx = box.peek().w / 2, /** @type {number} */ cy = box.peek().h / 2) => {
    const v = view.peek();
    const scale = Math.max(1, Math.min(SCALE_MAX, v.scale * by));
    const f = scale / v.scale;
    view.value = { scale, x: cx - (cx - v.x) * f, y: cy - (cy - v.y) * f };
  };
  const pan = (/** @type {number} */ dx, /** @type {number} */ dy) => { const v = view.peek(); view.value = { ...v, x: v.x + dx, y: v.y + dy }; };
  const fit = () => { const s = size(); view.value = { scale: 1, x: (box.peek().w - s) / 2, y: (box.peek().h - s * of.aspect) / 2 }; };
  const point = (/** @type {PointerEvent} */ e) => { const r = area.getBoundingClientRect(); return { x: e.clientX - r.left, y: e.clientY - r.top }; };
  const down = (/** @type {PointerEvent} */ e) => {
    const site = /** @type {Element} */ (e.target).closest('[data-place]')?.getAttribute('data-place') ?? '';
    fingers.set(e.pointerId, point(e));
    moved = 0;
    dragging = of.moved && site && site === of.chosen.peek() ? site : '';
  };
  const move = (/** @type {PointerEvent} */ e) => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    const now = point(e);
    moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    if (moved > 4 && !area.hasPointerCapture(e.pointerId)) area.setPointerCapture(e.pointerId);
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== e.pointerId).map(([, p]) => p);
      const d = (/** @type {{x: number, y: number}} */ p) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
      zoom(d(now) / d(before), other.x, other.y);
    } else if (dragging && of.moved) {
      const v = view.peek();
      const s = size() * v.scale;
      of.moved(dragging, Math.max(0, Math.min(1, (now.x - v.x) / s)), Math.max(0, Math.min(1, (now.y - v.y) / (s * of.aspect))));
    } else pan(now.x - before.x, now.y - before.y);
    fingers.set(e.pointerId, now);
  };
  const up = (/** @type {PointerEvent} */ e) => { fingers.delete(e.pointerId); dragging = ''; };
  const keys = (/** @type {KeyboardEvent} */ e) => {
    /** @type {Record<string, () => void>} */ const acts = { ArrowLeft: () => pan(STEP, 0), ArrowRight: () => pan(-STEP, 0), ArrowUp: () => pan(0, STEP), ArrowDown: () => pan(0, -STEP), '+': () => zoom(1.4), '=': () => zoom(1.4), '-': () => zoom(1 / 1.4), 0: fit };
    if (!acts[e.key] || /** @type {Element} */ (e.target).closest('button')) return;
    e.preventDefault();
    acts[e.key]();
  };
  const observer = new ResizeObserver(([e]) => { box.value = { w: e.contentRect.width, h: e.contentRect.height }; fit(); });
  onCleanup(() => observer.disconnect());
  return html`<div class="map"><div class="map-area" tabindex="0" role="group" aria-label="${t('plan.area')}" @pointerdown=${down} @pointermove=${move} @pointerup=${up} @pointercancel=${up} @keydown=${keys}
      ref=${(/** @type {HTMLElement} */ e) => { area = e; observer.observe(e); listen(e, 'wheel', (/** @type {WheelEvent} */ w) => { w.preventDefault(); const r = e.getBoundingClientRect(); zoom(w.deltaY < 0 ? 1.2 : 1 / 1.2, w.clientX - r.left, w.clientY - r.top); }, { passive: false }); }}>
    <div class="map-ground" style:transform="${() => `translate(${view.value.x}px, ${view.value.y}px)`}">
      ${() => (of.image ? html`<img class="map-image" alt="${t('plan.image')}" src="${of.image}" draggable="false" style:width="${() => `${size() * view.value.scale}px`}" style:height="${() => `${size() * view.value.scale * of.aspect}px`}">` : null)}
      ${() => (of.tiles ? tilesInSight(of.tiles, view.value, box.value.w, box.value.h, size()).map((p) => html`<img class="map-tile" alt="" src="${`/api/v1/tiles/${p.id}`}" draggable="false" style:left="${`${p.left}px`}" style:top="${`${p.top}px`}" style:width="${`${p.size}px`}" style:height="${`${p.size}px`}">`) : null)}</div>
    ${() => { const v = view.value; const s = size() * v.scale; return svg`<svg class="map-places" width="${box.value.w}" height="${box.value.h}">${of.places.value.map((p) => {
    const [x, y] = [v.x + p.x * s, v.y + p.y * s * of.aspect];
    const state = of.state(p.site);
    const choose = () => { if (moved < 6) of.chosen.value = p.site; };
    return svg`<g class="${`place place-${state} ${of.chosen.value === p.site ? 'place-chosen' : ''}`}" data-place="${p.site}" role="button" tabindex="0" aria-pressed="${String(of.chosen.value === p.site)}" aria-label="${`${of.name(p.site)}: ${t(`state.${state}`)}`}" @click=${choose} @keydown=${(/** @type {KeyboardEvent} */ e) => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); moved = 0; choose(); } }}>
      <path class="place-view" d="${wedge(x, y, p.heading ?? 0, p.fov ?? 70, Math.max(18, (p.range ?? 0.08) * s))}"/><circle class="place-target" cx="${x}" cy="${y}" r="22"/>
      ${state === 'fault' ? svg`<rect class="place-mark" x="${x - 8}" y="${y - 8}" width="16" height="16"/>` : state === 'warn' ? svg`<path class="place-mark" d="${`M${x} ${y - 10}L${x + 10} ${y + 8}H${x - 10}Z`}"/>` : state === 'ok' ? svg`<circle class="place-mark" cx="${x}" cy="${y}" r="8"/>` : svg`<path class="place-mark" d="${`M${x} ${y - 10}L${x + 10} ${y}L${x} ${y + 10}L${x - 10} ${y}Z`}"/>`}
      <text class="place-name" x="${x + 13}" y="${y + 4}">${of.name(p.site)}</text></g>`;
  })}</svg>`; }}</div>
    <div class="map-tools"><button class="button" type="button" aria-label="${t('plan.in')}" @click=${() => zoom(1.4)}>${icon('plus')}</button><button class="button" type="button" aria-label="${t('plan.out')}" @click=${() => zoom(1 / 1.4)}>${icon('minus')}</button><button class="button" type="button" aria-label="${t('plan.fit')}" @click=${fit}>${icon('full')}</button></div></div>`;
}
