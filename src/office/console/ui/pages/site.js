// @ts-check
// One site: what it says of itself, health over time, presence, gaps, ring, versions, log tail.
import { effect, every, html, signal, untrack } from '../core/view.js';
import { bytes, duration, lengthOf, number, t, word } from '../core/i18n.js';
import { get, part, query, send } from '../core/api.js';
import { allowedAt, siteOf } from '../core/store.js';
import { href } from '../core/router.js';
import { date, dateTime, iso, ms, serverNow } from '../core/time.js';
import { chart, plainNumber } from '../parts/chart.js';
import { attempt } from '../parts/dialog.js';
import { icon } from '../parts/icon.js';
import { listOf, resource, show } from '../parts/resource.js';
import { picture } from '../parts/snapshot.js';
import { backlogText, clockText, gapsText, nameOf, reasonText, stateMark, whenShort } from '../parts/site_words.js';

/** What a step of a series is where it is not the newest value. @type {Record<string, 'lowest' | 'highest'>} */
const KINDS = { clock: 'lowest', recording: 'lowest', available: 'lowest', backlog: 'highest', backlog_entries: 'highest', backlog_age: 'highest', pinned: 'highest', memory_only: 'highest', slowest_sync_us: 'highest', blind: 'highest' };
/** Counters of a health message. @type {Record<string, string>} */
const COUNTERS = {
  rate: 'uplink.rate', wear: 'storage.worn_percent', used: 'storage.used', budget: 'storage.budget', available: 'storage.available', pinned: 'storage.pinned', memory_only: 'storage.memory_only', card_faults: 'storage.faults',
  slowest_sync_us: 'storage.slowest_sync_us', connect_failures: 'camera.connect_failures', lost_packets: 'camera.lost_packets', blind: 'motion.blind', motion_events: 'motion.events', bytes_today: 'uplink.bytes_today', bytes_month: 'uplink.bytes_month',
};
/** What holds now by the last health message. @param {any} health @param {string} name @returns {number | undefined} */
export function presentOf(health, name) {
  if (!health) return undefined;
  if (name === 'recording') return health.camera === undefined ? undefined : Number(health.camera === 'recording');
  if (name === 'clock') { const at = ['unset', 'rtc', 'camera', 'ntp'].indexOf(health.clock); return at < 0 ? undefined : at; }
  return { backlog: health.backlog?.bytes, backlog_entries: health.backlog?.n, backlog_age: health.backlog?.oldest }[name] ?? health.counters?.[COUNTERS[name] ?? name];
}
/** The present value is read so often. */
const NOW_EVERY_MS = 30000;
const yesNo = (/** @type {number} */ v) => t(v ? 'yes' : 'no');
/** @param {any} health @param {any} site @param {string} name */
function presentText(health, site, name) {
  const v = presentOf(health, name);
  // What was said before a silence is no present value: its time stands beside it.
  return v === undefined ? '–' : `${(FORMATS[name] ?? plainNumber)(v)}${site.presence && site.presence !== 'online' && health.t ? ` (${whenShort(health.t)})` : ''}`;
}
const SPANS = { 6: 60, 24: 300, 168: 3600, 720: 14400 };
/** Series the page knows how to write; others are shown as plain numbers. @type {Record<string, (v: number) => string>} */
const FORMATS = {
  rate: (v) => `${bytes(v)}/s`, backlog: bytes, used: bytes, budget: bytes, available: bytes, pinned: bytes, bytes_today: bytes, bytes_month: bytes,
  wear: (v) => `${number(v)} %`, recording: yesNo, blind: yesNo, memory_only: yesNo, backlog_age: duration, slowest_sync_us: (v) => `${number(v / 1000, 1)} ms`,
};

/** @param {{params: Record<string, string>}} of */
export default function page({ params }) {
  const site = params.site;
  const path = `/sites/${part(site)}`;
  const hours = signal(24);
  const bounds = () => { const to = serverNow(); return { from: iso(to - hours.value * 3600000), to: iso(to) }; };
  const detail = resource((signal) => get(path, { signal }));
  const health = resource(async (signal) => {
    const asked = bounds();
    const step = /** @type {any} */ (SPANS)[hours.value];
    const found = await get(`${path}/health${query({ ...asked, step })}`, { signal });
    return { ...found, from: Math.min(ms(asked.from) / 1000, found.t[0] ?? Infinity), to: ms(asked.to) / 1000 };
  });
  const last = signal(/** @type {any} */ (null));
  effect(() => { if (detail.data.value) last.value = detail.data.value.health ?? null; });
  every(NOW_EVERY_MS, () => { get(path).then((d) => { last.value = d.health ?? null; }, () => null); });
  // A device that is new has too little for a day's chart.
  let looked = false;
  effect(() => { const t_ = health.data.value?.t; if (t_ && !looked) { looked = true; if (t_.length === 0 || t_[0] * 1000 > serverNow() - 6 * 3600000) hours.value = 6; } });
  const presence = resource((signal) => get(`${path}/presence${query(bounds())}`, { signal }));
  const gaps = resource((signal) => get(`${path}/gaps${query(bounds())}`, { signal }));
  const live = () => siteOf(site) ?? detail.data.value ?? { site };
  return html`<section class="page site"><header class="page-head"><p><a href="#/board">${icon('left')} ${t('page.board')}</a></p><h1>${() => nameOf(site)} <small>${site}</small></h1>
      <div class="page-tools">${allowedAt('clip', site) ? html`<a class="button button-main" href="${href('/playback', { sites: site, at: iso(serverNow() - 300000) })}">${icon('play')} ${t('page.playback')}</a>` : null}
        <a class="button" href="${href('/events', { site })}">${icon('events')} ${t('page.events')}</a></div></header>
    <div class="site-top"><div class="card"><div class="detail-picture">${() => picture({ site, fid: live().snapshot?.fid, alt: t('picture.last', { site: nameOf(site) }), dim: live().presence === 'lost' })}</div>
        <p class="muted">${() => (live().snapshot ? dateTime(live().snapshot.time) : t('picture.none'))}</p></div>
      <div class="card"><p class="site-state">${() => stateMark(live().state ?? 'unknown')} ${() => reasonText(live())}</p>
        ${() => { const s = live(); return html`<dl class="facts"><dt>${t('site.presence')}</dt><dd>${word('presence', s.presence)}</dd><dt>${t('board.col_seen')}</dt><dd>${dateTime(s.seen)}</dd>
          <dt>${t('site.recording')}</dt><dd>${s.recording == null ? '–' : t(s.recording ? 'yes' : 'no')}</dd><dt>${t('board.col_clock')}</dt><dd>${clockText(s.clock)}</dd><dt>${t('board.col_backlog')}</dt><dd>${backlogText(s)}</dd>
          <dt>${t('board.col_wear')}</dt><dd>${s.card_worn_percent == null ? '–' : `${number(s.card_worn_percent)} %`}</dd>
          <dt>${t('board.col_gaps')}</dt><dd>${gapsText(s)}</dd>
          ${s.sim ? html`<dt>${t('board.col_sim')}</dt><dd>${t('site.sim', { today: bytes(s.sim.today), day: s.sim.day_budget ? bytes(s.sim.day_budget) : '∞', month: bytes(s.sim.month), budget: s.sim.month_budget ? bytes(s.sim.month_budget) : '∞' })}</dd>` : null}
          <dt>${t('site.version')}</dt><dd>${s.version ?? '–'}</dd></dl>`; }}</div></div>
    <div class="row"><h2>${t('site.health')}</h2><div class="segmented" role="group" aria-label="${t('site.span')}">${Object.keys(SPANS).map((h) => html`<button type="button" aria-pressed="${() => String(hours.value === Number(h))}" @click=${() => { hours.value = Number(h); }}>${t(`site.span_${h}`)}</button>`)}</div></div>
    ${show(health, (h) => untrack(() => (h.t.length === 0 ? html`<p class="notice">${t('site.no_health')}</p>` : html`<div class="charts">${Object.entries(h.series).map(([name, values]) => chart({ title: word('series', name), step: h.step, from: h.from, to: h.to, kind: KINDS[name], now: () => presentText(last.value, live(), name), times: h.t, values: /** @type {any} */ (values), format: FORMATS[name] ?? plainNumber, max: name === 'wear' ? 100 : undefined }))}</div>`)))}
    <div class="columns"><div class="card"><h2>${t('site.presence')}</h2>${show(presence, (list) => spans(listOf(list, 'presence'), (p) => word('presence', p.state)))}</div>
      <div class="card"><h2>${t('axis.gaps')}</h2>${show(gaps, (list) => spans(listOf(list, 'gaps'), (g) => word('gap', g.reason)))}</div></div>
    ${allowedAt('device_command', site) || allowedAt('device_ping', site) ? commands(path, allowedAt('device_command', site) ? ['ping', 'log-tail', 'ring-status'] : ['ping']) : null}
    <div class="columns">${show(detail, (d) => html`${['birth', 'health', 'ring'].map((name) => html`<details class="card"><summary><h2>${t(`site.${name}_words`)}</h2></summary>${tree(d[name])}</details>`)}`)}</div></section>`;
}

/** @param {any[]} list @param {(x: any) => string} what */
const spans = (list, what) => (list.length === 0 ? html`<p class="muted">${t('nothing')}</p>` : html`<div class="table-wrap table-short" tabindex="0" role="region" aria-label="${t('site.spans')}"><table class="table"><thead><tr><th scope="col">${t('from')}</th><th scope="col">${t('length')}</th><th scope="col">${t('board.col_reason')}</th></tr></thead>
  <tbody>${list.slice().reverse().slice(0, 200).map((x) => html`<tr><td>${dateTime(x.from)}</td><td>${x.to ? lengthOf(ms(x.from), ms(x.to)) : t('event.open')}</td><td>${what(x)}</td></tr>`)}</tbody></table></div>`);

/** The device's words as they came: names and values, nothing interpreted. @param {any} value */
function tree(value) {
  if (value === null || typeof value !== 'object') return html`<p class="muted">${t('nothing')}</p>`;
  /** @type {[string, any][]} */ const rows = [];
  const walk = (/** @type {any} */ v, /** @type {string} */ name) => {
    if (rows.length > 400) return;
    if (v !== null && typeof v === 'object') for (const [k, x] of Object.entries(v)) walk(x, name ? `${name}.${k}` : k);
    else rows.push([name, v]);
  };
  walk(value, '');
  return html`<dl class="facts facts-words">${rows.map(([k, v]) => html`<dt>${k}</dt><dd>${String(v)}</dd>`)}</dl>`;
}

/** The lines of a log in a reply, wherever the envelope holds them. @param {any} reply @param {number} [depth] @returns {any[] | null} */
function linesOf(reply, depth = 0) {
  if (reply === null || typeof reply !== 'object' || depth > 3) return null;
  if (Array.isArray(reply.lines)) return reply.lines;
  if (typeof reply.lines === 'string') return reply.lines.split('\n');
  for (const value of Object.values(reply)) { const found = linesOf(value, depth + 1); if (found) return found; }
  return null;
}

/** @param {string} path @param {string[]} names */
function commands(path, names) {
  const answer = signal(/** @type {any} */ (null));
  const busy = signal('');
  const ask = async (/** @type {string} */ name) => {
    busy.value = name;
    const reply = await attempt(() => send('POST', `${path}/commands/${name}`));
    if (reply !== undefined) answer.value = { name, reply, at: Date.now() };
    busy.value = '';
  };
  return html`<div class="card"><h2>${t('site.commands')}</h2><p class="muted">${t('site.commands_about')}</p><div class="row">${names.map((name) => html`<button class="button" type="button" ?disabled=${() => busy.value !== ''} @click=${() => ask(name)}>${() => (busy.value === name ? t('loading') : t(`command.${name}`))}</button>`)}</div>
    <div role="status">${() => {
    if (!answer.value) return null;
    const { name, reply, at } = answer.value;
    const lines = linesOf(reply);
    return html`<p class="muted">${t(`command.${name}`)} · ${date(at)} ${dateTime(at).split(' ')[1]}</p>${Array.isArray(lines) ? html`<ol class="log" tabindex="0" aria-label="${t('command.log-tail')}">${lines.map((l) => html`<li>${typeof l === 'string' ? l : JSON.stringify(l)}</li>`)}</ol>` : tree(reply)}`;
  }}</div></div>`;
}
