// @ts-check
// Every site at a glance: state with its reason, last picture with its age, what waits, wear, clock, gaps, SIM.
import { computed, each, effect, html, signal } from '../core/view.js';
import { age, bytes, number, t, word } from '../core/i18n.js';
import { plain } from '../core/text.js';
import { loadSites, sites, sitesState, tick } from '../core/store.js';
import { href } from '../core/router.js';
import { dateTime, ms, serverNow } from '../core/time.js';
import { icon, shape } from '../parts/icon.js';
import { picture } from '../parts/snapshot.js';
import { backlogText, clockText, gapsText, reasonText, siteName, stateMark, STATES } from '../parts/site_words.js';

/** A picture older than this is drawn grey: it says what was, not what is. */
const PICTURE_OLD_S = 15 * 60;
const view = signal(readView());
function readView() { try { return localStorage.getItem('taimat.board') === 'table' ? 'table' : 'tiles'; } catch { return 'tiles'; } }

export default function page() {
  const wanted = signal('');
  const text = signal('');
  const counts = computed(() => Object.fromEntries(STATES.map((s) => [s, sites.value.filter((x) => x.state === s).length])));
  const shown = computed(() => sites.value
    .filter((s) => (!wanted.value || s.state === wanted.value) && (!text.value || plain(`${s.site} ${siteName(s)} ${s.group}`).includes(plain(text.value))))
    .sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state) || a.site.localeCompare(b.site, 'vi', { numeric: true })));
  const alarm = signal('');
  /** @type {Map<string, string>} */ let before = new Map(sites.peek().map((s) => [s.site, s.state]));
  effect(() => {
    const now = new Map(sites.value.map((s) => [s.site, s.state]));
    const worse = sites.value.filter((s) => s.state === 'fault' && before.get(s.site) !== 'fault' && before.size > 0);
    if (worse.length > 0) alarm.value = worse.map((s) => `${siteName(s)}: ${word('state', s.state)}. ${reasonText(s)}`).join(' ');
    before = now;
  });
  const setView = (/** @type {string} */ v) => { view.value = v; try { localStorage.setItem('taimat.board', v); } catch { /* for this page only */ } };
  return html`<section class="page board"><header class="page-head"><h1>${t('page.board')}</h1>
      <div class="counters" role="group" aria-label="${t('board.filter')}">${['ok', 'warn', 'fault', 'unknown'].map((s) => html`<button type="button" class="counter counter-${s}"
        aria-pressed="${() => String(wanted.value === s)}" @click=${() => { wanted.value = wanted.peek() === s ? '' : s; }}>${shape(s)}<b>${() => counts.value[s]}</b> ${t(`state.${s}`)}</button>`)}</div>
      <div class="page-tools"><label class="search"><span class="visually-hidden">${t('search')}</span>${icon('search')}<input type="search" placeholder="${t('board.search')}" @input=${(/** @type {any} */ e) => { text.value = e.target.value; }}></label>
        <div class="segmented" role="group" aria-label="${t('board.view')}">${['tiles', 'table'].map((v) => html`<button type="button" aria-pressed="${() => String(view.value === v)}"
          aria-label="${t(`board.${v}`)}" title="${t(`board.${v}`)}" @click=${() => setView(v)}>${icon(v === 'tiles' ? 'board' : 'table')}</button>`)}</div></div></header>
    <p class="visually-hidden" role="alert">${alarm}</p>
    ${() => (sitesState.value === 'failed' ? html`<p class="notice notice-fault" role="alert">${t('board.failed')} <button class="button" type="button" @click=${loadSites}>${t('again')}</button></p>`
    : sitesState.value === 'loading' ? html`<p class="waiting" role="status">${t('loading')}</p>`
      : sites.value.length === 0 ? html`<p class="notice">${t('board.empty')}</p>` : null)}
    ${() => (view.value === 'tiles'
    ? html`<ul class="tiles">${each(shown, (s) => s.site, tile)}</ul>`
    : html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('page.board')}"><table class="table board-table"><thead><tr>${['site', 'state', 'reason', 'picture', 'backlog', 'wear', 'clock', 'gaps', 'sim', 'seen']
      .map((c) => html`<th scope="col">${t(`board.col_${c}`)}</th>`)}</tr></thead><tbody>${each(shown, (s) => s.site, row)}</tbody></table></div>`)}
  </section>`;
}

const ageOf = (/** @type {any} */ time) => () => { void tick.value; return time ? t('ago', { age: age(time) }) : '–'; };
const old = (/** @type {any} */ s) => s.state === 'unknown' || s.presence === 'lost' || (s.snapshot && serverNow() - ms(s.snapshot.time) > PICTURE_OLD_S * 1000);
const simText = (/** @type {any} */ s) => (s.sim ? `${bytes(s.sim.today)}${s.sim.day_budget ? ` / ${bytes(s.sim.day_budget)}` : ''}` : '–');
const level = (/** @type {number | undefined} */ value, /** @type {number} */ warn, /** @type {number} */ fault) => (value == null ? '' : value >= fault ? 'figure-fault' : value >= warn ? 'figure-warn' : '');
/** One figure of a tile: icon, name for readers, value. @param {string} name @param {string} sign @param {any} value @param {string} [mark] */
const figure = (name, sign, value, mark = '') => html`<div class="figure ${mark}" title="${t(`board.col_${name}`)}">${icon(sign)}<dt class="visually-hidden">${t(`board.col_${name}`)}</dt><dd>${value}</dd></div>`;

/** @param {import('../core/view.js').Signal<any>} s */
function tile(s) {
  const fid = computed(() => s.value.snapshot?.fid ?? null);
  const dim = computed(() => Boolean(old(s.value)));
  return html`<li class="${() => `tile tile-${s.value.state}`}"><a class="tile-link" href="${href(`/sites/${encodeURIComponent(s.peek().site)}`)}">
      <span class="tile-picture">${() => picture({ site: s.peek().site, fid: fid.value, alt: t('picture.last', { site: siteName(s.peek()) }), dim: dim.value })}
        ${() => (s.value.snapshot ? html`<span class="tile-age">${ageOf(s.value.snapshot.time)}</span>` : null)}</span>
      <span class="tile-head"><b>${() => siteName(s.value)}</b><small>${s.peek().site}</small></span></a>
    <p class="tile-state">${() => stateMark(s.value.state)}<span class="tile-reason">${() => reasonText(s.value)}</span></p>
    ${() => html`<dl class="figures">${figure('backlog', 'up', backlogText(s.value), s.value.backlog_bytes > 0 ? 'figure-some' : '')}
      ${figure('wear', 'card', s.value.card_worn_percent == null ? '–' : t('board.worn', { percent: number(s.value.card_worn_percent) }), level(s.value.card_worn_percent, 80, 95))}
      ${figure('clock', 'clock', clockText(s.value.clock), ['rtc', 'unset'].includes(s.value.clock) && s.value.reason?.code !== 'recording_demo' ? 'figure-warn' : '')}
      ${figure('gaps', 'gap', gapsText(s.value), s.value.gaps_today?.count ? 'figure-warn' : '')}
      ${figure('sim', 'sim', simText(s.value), level(s.value.sim?.day_budget ? (100 * s.value.sim.today) / s.value.sim.day_budget : undefined, 90, 100))}
      ${s.value.missing_seq ? figure('missing', 'events', t('board.missing', { n: s.value.missing_seq }), 'figure-warn') : null}</dl>`}</li>`;
}

/** @param {import('../core/view.js').Signal<any>} s */
const row = (s) => html`<tr class="${() => `row-${s.value.state}`}"><th scope="row"><a href="${href(`/sites/${encodeURIComponent(s.peek().site)}`)}">${() => siteName(s.value)}</a> <small>${s.peek().site}</small></th>
  <td>${() => stateMark(s.value.state)}</td><td class="wrap">${() => reasonText(s.value)}</td><td>${() => ageOf(s.value.snapshot?.time)}</td><td>${() => backlogText(s.value)}</td>
  <td class="number">${() => (s.value.card_worn_percent == null ? '–' : `${number(s.value.card_worn_percent)} %`)}</td><td>${() => clockText(s.value.clock)}</td>
  <td>${() => gapsText(s.value)}</td><td>${() => simText(s.value)}</td><td title="${() => dateTime(s.value.seen)}">${() => ageOf(s.value.seen)}</td></tr>`;
