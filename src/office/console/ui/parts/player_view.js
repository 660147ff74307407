// @ts-check
// The wall with its controls: tiles, axis, clock, speed, single pictures, capture.
import { html, listen, signal, effect } from '../core/view.js';
import { number, t, word } from '../core/i18n.js';
import { allowedAt, me, purpose } from '../core/store.js';
import { clock, clockTenths, date, dateTime, zoneName } from '../core/time.js';
import { SPEEDS } from '../player/clock.js';
import { icon } from './icon.js';
import { axis } from './axis.js';
import { sentence } from './resource.js';
import { toast } from './dialog.js';
import { clockText, nameOf } from './site_words.js';
import { purposeNeeded } from './purpose.js';

const JUMP_MS = 10000;

/** @param {import('../player/tile.js').Tile} tile */
function overlay(tile) {
  const s = tile.status.value;
  if (s.kind === 'gap') {
    const known = Number.isFinite(s.from) && Number.isFinite(s.to) && s.from !== s.to;
    return html`<div class="tile-card hatched"><p><b>${word('gap', s.reason)}</b>${known ? html`<span>${clock(s.from)} – ${clock(s.to)}</span>` : null}</p></div>`;
  }
  if (s.kind === 'failed') return html`<div class="tile-card"><p role="alert">${sentence(s.error)}</p></div>`;
  if (s.kind === 'loading') return html`<div class="tile-card tile-card-soft"><p>${t('player.loading')}</p></div>`;
  if (s.kind === 'pictures') return html`<span class="tile-note">${t('player.pictures', { codec: s.reason === 'black' ? '' : s.reason })}</span>`;
  if (s.clockSet) return html`<span class="tile-note">${t('player.clock_set')}</span>`;
  return s.soundLost && allowedAt('sound', tile.site) ? html`<span class="tile-note">${t('player.sound_lost', { codec: s.soundLost })}</span>` : null;
}

/** Saves what is on the screen, with place and time below the picture. @param {import('../player/tile.js').Tile} tile @param {number} wall */
function capture(tile, wall) {
  const found = tile.source;
  if (!found) { toast(t('player.nothing'), true); return; }
  const at = Number.isFinite(found.wall) ? found.wall : wall;
  const band = Math.max(24, Math.round(found.height / 18));
  const canvas = document.createElement('canvas');
  canvas.width = found.width;
  canvas.height = found.height + band;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  pen.drawImage(found.source, 0, 0, found.width, found.height);
  pen.fillStyle = '#000';
  pen.fillRect(0, found.height, found.width, band);
  pen.fillStyle = '#fff';
  pen.font = `${Math.round(band * 0.5)}px system-ui, sans-serif`;
  pen.textBaseline = 'middle';
  pen.fillText(`${nameOf(tile.site)} (${tile.site}) · ${date(at)} ${clockTenths(at)} ${zoneName(at)} · ${clockText(tile.status.peek().clock ?? '')} · ${me.peek()?.user.name}`, band * 0.4, found.height + band / 2, found.width - band * 0.8);
  canvas.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = `${tile.site}_${dateTime(at).replace(/[/:]/g, '').replace(' ', '_')}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    toast(t('player.captured', { name: link.download }));
  }, 'image/png');
}

/** @param {import('../player/wall.js').Wall} wall @param {{shortcuts?: boolean, zoom?: number}} [options] */
export function playerView(wall, options = {}) {
  const large = signal(wall.tiles.length === 1 ? wall.tiles[0].site : '');
  const chosen = () => wall.tiles.find((x) => x.site === large.peek()) ?? wall.tiles[0];
  const tileView = (/** @type {import('../player/tile.js').Tile} */ tile) => html`<figure class="${() => `screen ${large.value === tile.site && wall.tiles.length > 1 ? 'screen-large' : ''}`}" data-site="${tile.site}" data-kind="${() => tile.status.value.kind}">
    <div class="screen-picture" ref=${(/** @type {Element} */ e) => e.append(tile.video, tile.image)}>${() => (purpose.value ? overlay(tile) : purposeNeeded())}</div>
    <figcaption><b>${nameOf(tile.site)}</b> <span class="muted">${() => (tile.status.value.clock ? clockText(tile.status.value.clock) : '')}</span><span class="bar-space"></span>
      ${() => (allowedAt('sound', tile.site) ? html`<button class="button button-small" type="button" aria-pressed="${() => String(wall.soundOf.value === tile.site)}" aria-label="${t('player.sound', { site: nameOf(tile.site) })}" @click=${() => wall.listenTo(tile.site)}>${() => icon(wall.soundOf.value === tile.site ? 'sound' : 'mute')}</button>` : null)}
      <button class="button button-small" type="button" aria-label="${t('player.capture', { site: nameOf(tile.site) })}" title="${t('player.capture', { site: nameOf(tile.site) })}" @click=${() => capture(tile, wall.now.peek())}>${icon('picture')}</button>
      ${wall.tiles.length > 1 ? html`<button class="button button-small" type="button" aria-pressed="${() => String(large.value === tile.site)}" aria-label="${t('player.large', { site: nameOf(tile.site) })}" @click=${() => { large.value = large.peek() === tile.site ? '' : tile.site; }}>${icon('full')}</button>` : null}
    </figcaption></figure>`;
  const button = (/** @type {string} */ sign, /** @type {string} */ name, /** @type {() => void} */ act, /** @type {string} */ key) => html`<button class="button" type="button" aria-label="${t(`player.${name}`)}" title="${t(`player.${name}`)} (${key})" @click=${act}>${icon(sign)}</button>`;
  /** @type {Record<string, (e: KeyboardEvent) => void>} */ const keys = {
    ' ': () => wall.toggle(), k: () => wall.toggle(), j: () => wall.seek(wall.now.peek() - JUMP_MS), l: () => wall.seek(wall.now.peek() + JUMP_MS),
    ArrowLeft: (e) => (e.shiftKey ? wall.seek(wall.now.peek() - 1000) : wall.picture(-1)), ArrowRight: (e) => (e.shiftKey ? wall.seek(wall.now.peek() + 1000) : wall.picture(1)),
    '>': () => faster(1), '<': () => faster(-1), n: () => wall.skipGap(), p: () => capture(chosen(), wall.now.peek()),
  };
  const faster = (/** @type {number} */ by) => wall.setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(wall.speed.peek()) + by))]);
  if (options.shortcuts !== false) {
    listen(window, 'keydown', (/** @type {KeyboardEvent} */ e) => {
      const at = /** @type {HTMLElement} */ (e.target);
      if (e.ctrlKey || e.metaKey || e.altKey || at.closest('input,select,textarea,dialog') || (e.key === ' ' && at.closest('button,a,summary'))) return;
      const act = keys[e.key.length === 1 ? e.key.toLowerCase() : e.key];
      if (act) { e.preventDefault(); act(e); }
    });
  }
  return html`<div class="player" ref=${(/** @type {HTMLElement} */ e) => effect(() => { void wall.now.value; figures(wall, e); })}>
    ${() => (wall.failed.value ? html`<p class="notice notice-fault" role="alert">${sentence(wall.failed.value)} <button class="button" type="button" @click=${wall.loadAxis}>${t('again')}</button></p>` : null)}
    <div class="${() => `screens screens-${wall.tiles.length} ${large.value && wall.tiles.length > 1 ? 'screens-one' : ''}`}">${wall.tiles.map(tileView)}</div>
    <div class="controls" role="group" aria-label="${t('player.controls')}">
      ${button('previous', 'previous_picture', () => wall.picture(-1), '←')}${button('back10', 'back', () => wall.seek(wall.now.peek() - JUMP_MS), 'J')}
      <button class="button button-main play" type="button" aria-label="${() => t(wall.playing.value ? 'player.pause' : 'player.play')}" title="K" @click=${wall.toggle}>${() => icon(wall.playing.value ? 'pause' : 'play')}</button>
      ${button('forward10', 'forward', () => wall.seek(wall.now.peek() + JUMP_MS), 'L')}${button('next', 'next_picture', () => wall.picture(1), '→')}
      <label class="speed"><span class="visually-hidden">${t('player.speed')}</span><select @change=${(/** @type {any} */ e) => wall.setSpeed(Number(e.target.value))}>${SPEEDS.map((s) => html`<option value="${s}" ?selected=${() => wall.speed.value === s}>${number(s, 2)}×</option>`)}</select></label>
      <output class="now"><b>${() => clockTenths(wall.now.value)}</b><small>${() => date(wall.now.value)} ${zoneName()}</small></output>
      ${button('skip', 'skip_gap', wall.skipGap, 'N')}
      <label class="check"><input type="checkbox" @change=${(/** @type {any} */ e) => { wall.skips.value = e.target.checked; }}> ${t('player.skip_gaps')}</label>
      ${wall.tiles.length > 1 ? html`<label class="check"><input type="checkbox" checked @change=${(/** @type {any} */ e) => { wall.waits.value = e.target.checked; }}> ${t('player.wait')}</label>` : null}
      <span class="waiting-for" role="status">${() => (wall.waitingFor.value.length > 0 ? t('player.waiting_for', { sites: wall.waitingFor.value.map(nameOf).join(', ') }) : '')}</span>
    </div>${axis(wall, options.zoom)}</div>`;
}

let figuresAt = 0;
/** The figures of the synchronisation as data attributes: tests read them. @param {import('../player/wall.js').Wall} wall @param {HTMLElement} element */
function figures(wall, element) {
  if (performance.now() - figuresAt < 1000) return;
  figuresAt = performance.now();
  const f = wall.figures();
  element.dataset.p95Ms = String(f.p95Ms);
  element.dataset.medianMs = String(f.medianMs);
  element.dataset.worstMs = String(f.worstMs);
  element.dataset.seeks = String(f.seeks);
  element.dataset.slips = String(f.slips);
  element.dataset.samples = String(f.samples);
}
