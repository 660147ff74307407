// @ts-check
// The feed of motion events: filters, pictures, keyboard, up to 10,000 rows.
import { computed, effect, html, listen, onCleanup, signal, untrack } from '../core/view.js';
import { number, t, word } from '../core/i18n.js';
import { get, query as search } from '../core/api.js';
import { allowedAt, onStream, resets, sites } from '../core/store.js';
import { href, go, replace } from '../core/router.js';
import { clock, date, dateTime, iso, parseLocal } from '../core/time.js';
import { icon } from '../parts/icon.js';
import { picture } from '../parts/snapshot.js';
import { sentence } from '../parts/resource.js';
import { input, select } from '../parts/dialog.js';
import { clockText, nameOf, siteName } from '../parts/site_words.js';
import { eventLength, eventText, handledMark, scoreText } from '../parts/event_words.js';
import { handleDialog } from '../parts/handle.js';
import { virtualList } from '../parts/virtual.js';

export const ROWS_MAX = 10000;
const PAGE = 100;
/** Requests that a search makes by itself: 200,000 events. */
export const STEPS_MAX = 50;

/** Whether a search goes on by itself: there is more, the list is short of half a page, it is not stopped, and the page is visible.
 * @param {{next: string | null, found: number, steps: number, stopped: boolean, hidden: boolean}} of */
export const goesOn = (of) => Boolean(of.next) && of.found * 2 < PAGE && of.steps < STEPS_MAX && !of.stopped && !of.hidden;
const key = (/** @type {any} */ e) => `${e.site}~${e.id}`;

/** Whether an event of the stream belongs into the list. @param {any} e @param {Record<string, string>} f */
export const fits = (e, f) => (!f.site || e.site === f.site) && (!f.rule || e.rule === f.rule) && (!f.zone || (e.zones ?? []).includes(f.zone))
  && (!f.handled || (f.handled === 'no') === !e.handled) && (!f.from || e.start >= f.from) && (!f.to || e.start <= f.to) && !f.q;

/** @param {{query: URLSearchParams}} of */
export default function page({ query }) {
  /** @type {import('../core/view.js').Signal<Record<string, string>>} */
  const filter = signal(Object.fromEntries([...query].filter(([k]) => ['site', 'rule', 'zone', 'handled', 'from', 'to', 'q'].includes(k))));
  const rows = signal(/** @type {any[]} */ ([]));
  const next = signal(/** @type {string | null} */ (null));
  const status = signal(/** @type {'loading' | 'ready' | 'failed'} */ ('loading'));
  const problem = signal(/** @type {any} */ (null));
  const selected = signal('');
  const fresh = signal(0);
  const small = signal(matchMedia('(max-width: 640px)').matches);
  listen(matchMedia('(max-width: 640px)'), 'change', (e) => { small.value = e.matches; });
  let abort = new AbortController();
  /** Where a search stands that finds few: down to which time, whether it goes on. */
  const searched = signal(/** @type {{to: string, runs: boolean} | null} */ (null));
  let [found, steps, stopped] = [0, 0, false];
  const step = (/** @type {string | null} */ to) => {
    const runs = goesOn({ next: next.peek(), found, steps, stopped, hidden: document.hidden });
    searched.value = next.peek() && to && found * 2 < PAGE ? { to, runs } : null;
    if (runs) { steps++; load(true, true); }
  };
  const stop = () => {
    stopped = true;
    abort.abort();
    status.value = 'ready';
    searched.value = searched.peek() && { to: /** @type {any} */ (searched.peek()).to, runs: false };
  };
  listen(document, 'visibilitychange', () => { const at = searched.peek(); if (at && !at.runs && !document.hidden && status.peek() === 'ready') step(at.to); });

  const load = async (/** @type {boolean} */ more, /** @type {boolean} */ byItself = false) => {
    if (more && (status.peek() === 'loading' || !next.peek() || rows.peek().length >= ROWS_MAX)) return;
    abort.abort();
    const mine = abort = new AbortController();
    if (!byItself) { [found, steps, stopped] = [0, 0, false]; if (!more) searched.value = null; }
    status.value = 'loading';
    const f = filter.peek();
    try {
      const answer = await get(`/motion-events${search({ ...f, before: more ? next.peek() : null, limit: PAGE })}`, { signal: mine.signal });
      rows.value = more ? [...rows.peek(), ...answer.events].slice(0, ROWS_MAX) : answer.events;
      next.value = answer.next ?? null;
      found += answer.events.length;
      status.value = 'ready';
      step(answer.searched_to ?? null);
    } catch (error) {
      if (mine.signal.aborted) return;
      problem.value = error;
      status.value = 'failed';
      searched.value = null;
    }
  };
  effect(() => { void filter.value; void resets.value; untrack(() => load(false)); });
  onCleanup(() => abort.abort());
  const put = (/** @type {any} */ e) => {
    const list = rows.peek();
    const at = list.findIndex((x) => key(x) === key(e));
    if (at >= 0) { rows.value = list.with(at, { ...list[at], ...e }); return; }
    if (!fits(e, filter.peek())) return;
    const place = list.findIndex((x) => x.start < e.start);
    rows.value = [...list.slice(0, place < 0 ? list.length : place), e, ...(place < 0 ? [] : list.slice(place))].slice(0, ROWS_MAX);
    if (place === 0) { fresh.value++; list_.shifted(1); }
  };
  onCleanup(onStream((type, e) => { if (type === 'motion_event') put(e); }));
  const setFilter = (/** @type {string} */ name, /** @type {string} */ value) => {
    const f = { ...filter.peek(), [name]: value };
    if (!value) delete f[name];
    filter.value = f;
    replace('/events', f);
  };

  const list_ = virtualList({
    items: () => rows.value, key, height: () => (small.value ? 96 : 76), selected, label: t('page.events'), id: 'events', nearEnd: () => load(true), total: () => (next.value ? -1 : rows.value.length),
    row: (e) => html`<div class="${() => `event-row ${e.value.handled ? 'event-done' : ''}`}"><span class="event-picture">${() => picture({ site: e.peek().site, fid: e.value.snapshot, alt: '' })}</span>
      <span class="event-when"><b>${() => clock(e.value.start)}</b><small>${() => date(e.value.start)}</small></span>
      <span class="event-what"><b>${() => nameOf(e.peek().site)}</b><span>${() => eventText(e.value)}</span></span>
      <span class="event-side"><span>${() => eventLength(e.value)}</span>${() => handledMark(e.value)}</span></div>`,
  });
  const current = computed(() => rows.value.find((e) => key(e) === selected.value) ?? null);
  const move = (/** @type {number} */ by) => {
    const list = rows.peek();
    if (list.length === 0) return;
    const at = list.findIndex((e) => key(e) === selected.peek());
    const to = at < 0 ? 0 : Math.max(0, Math.min(list.length - 1, at + by));
    selected.value = key(list[to]);
    list_.reveal(to);
    if (to > list.length - 20) load(true);
  };
  const openEvent = (/** @type {any} */ e) => go(`/events/${encodeURIComponent(e.site)}/${encodeURIComponent(e.id)}`);
  const handle = (/** @type {any} */ e) => { if (e && allowedAt('handle', e.site)) handleDialog(e, (answer) => put({ ...e, ...answer })); };
  listen(window, 'keydown', (/** @type {KeyboardEvent} */ e) => {
    const at = /** @type {HTMLElement} */ (e.target);
    if (e.ctrlKey || e.metaKey || e.altKey || at.closest('input,select,textarea,dialog')) return;
    const acts = /** @type {Record<string, () => void>} */ ({ j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1), PageDown: () => move(8), PageUp: () => move(-8), h: () => handle(current.peek()) });
    if (e.key === 'Enter' && !at.closest('a,button,summary') && current.peek()) { e.preventDefault(); openEvent(current.peek()); return; }
    const act = acts[e.key.length === 1 ? e.key.toLowerCase() : e.key];
    if (act && (e.key.length === 1 || at.closest('.virtual'))) { e.preventDefault(); act(); }
  });
  const timeField = (/** @type {string} */ name) => input(t(name), {
    name, required: false, placeholder: 'dd/MM/yyyy HH:mm', maxlength: 20, value: filter.peek()[name] ? dateTime(filter.peek()[name]) : '',
    input: (/** @type {any} */ e) => {
      const at = e.target.value.trim() ? parseLocal(e.target.value) : null;
      e.target.setAttribute('aria-invalid', String(Boolean(e.target.value.trim() && at === null)));
      if (at !== null || !e.target.value.trim()) setFilter(name, at === null ? '' : iso(at));
    },
  });
  const rules = computed(() => [...new Set([...rows.value.map((e) => e.rule), filter.value.rule].filter(Boolean))].sort());
  const zones = computed(() => [...new Set([...rows.value.flatMap((e) => e.zones ?? []), filter.value.zone].filter(Boolean))].sort());

  return html`<section class="page events"><header class="page-head"><h1>${t('page.events')}</h1><p class="muted" role="status">${() => (status.value === 'loading' && rows.value.length === 0 ? t('loading')
    : t('events.count', { n: rows.value.length, more: next.value ? '+' : '' }))}${() => (fresh.value ? ` · ${t('events.fresh', { n: fresh.value })}` : '')}</p>
      <p class="keys muted" aria-hidden="true"><kbd>j</kbd> <kbd>k</kbd> ${t('events.keys_move')} · <kbd>Enter</kbd> ${t('events.keys_open')} · <kbd>H</kbd> ${t('events.keys_handle')}</p></header>
    <details class="filters" ?open=${!small.peek()}><summary>${t('filters')}</summary><div class="fields">
      ${() => select(t('board.col_site'), 'site', [['', t('all')], ...sites.value.map((s) => /** @type {[string, string]} */ ([s.site, siteName(s)]))], filter.peek().site ?? '', (v) => setFilter('site', v))}
      ${() => select(t('events.rule'), 'rule', [['', t('all')], ...rules.value.map((r) => /** @type {[string, string]} */ ([r, word('rule', r)]))], filter.peek().rule ?? '', (v) => setFilter('rule', v))}
      ${() => select(t('events.zone'), 'zone', [['', t('all')], ...zones.value.map((z) => /** @type {[string, string]} */ ([z, word('zone', z)]))], filter.peek().zone ?? '', (v) => setFilter('zone', v))}
      ${select(t('events.handled'), 'handled', [['', t('all')], ['no', t('event.unhandled')], ['yes', t('event.handled')]], filter.peek().handled ?? '', (v) => setFilter('handled', v))}
      ${timeField('from')}${timeField('to')}
      ${input(t('search'), { name: 'q', required: false, value: filter.peek().q ?? '', input: debounce((/** @type {any} */ e) => setFilter('q', e.target.value.trim())) })}</div></details>
    ${() => (status.value === 'failed' ? html`<p class="notice notice-fault" role="alert">${sentence(problem.value)} <button class="button" type="button" @click=${() => load(false)}>${t('again')}</button></p>` : null)}
    <div class="events-split"><div class="events-list">${() => (status.value === 'ready' && rows.value.length === 0 && !next.value ? html`<p class="notice">${t('events.none')}</p>` : null)}${() => (searched.value ? html`<p class="notice row"><span>${t('events.searched', { time: dateTime(searched.value.to) })}</span>
        ${searched.value.runs ? html`<button class="button" type="button" @click=${stop}>${t('events.search_stop')}</button>` : html`<button class="button" type="button" @click=${() => load(true)}>${t('events.search_on')}</button>`}</p>` : null)}${list_.view}
      ${() => (rows.value.length >= ROWS_MAX ? html`<p class="notice">${t('events.full', { n: number(ROWS_MAX) })}</p>` : null)}</div>
      <aside class="events-detail" aria-label="${t('events.detail')}">${() => (current.value ? detail(current.value) : html`<p class="muted">${t('events.choose')}</p>`)}</aside></div></section>`;

  function detail(/** @type {any} */ e) {
    return html`<div class="card"><div class="detail-picture">${picture({ site: e.site, fid: e.snapshot, alt: t('picture.event', { site: nameOf(e.site), time: dateTime(e.start) }) })}</div>
      <h2>${nameOf(e.site)}</h2><p>${eventText(e)}</p><dl class="facts"><dt>${t('from')}</dt><dd>${dateTime(e.start)}</dd><dt>${t('length')}</dt><dd>${eventLength(e)}</dd>
      <dt>${t('board.col_clock')}</dt><dd>${clockText(e.clock)}</dd><dt>${t('event.score')}</dt><dd>${scoreText(e) || '–'}</dd><dt>${t('events.handled')}</dt><dd>${handledMark(e)} ${e.handled ? html`${e.handled.by}, ${dateTime(e.handled.at)}` : null}</dd>
      ${e.handled?.note ? html`<dt>${t('handle.note')}</dt><dd>${e.handled.note}</dd>` : null}</dl>
      <div class="row"><a class="button button-main" href="${href(`/events/${encodeURIComponent(e.site)}/${encodeURIComponent(e.id)}`)}">${icon('play')} ${t('events.keys_open')}</a>
        ${allowedAt('handle', e.site) ? html`<button class="button" type="button" @click=${() => handle(e)}>${icon('check')} ${t('handle.title')}</button>` : null}</div></div>`;
  }
}

/** @param {(e: any) => void} fn */
function debounce(fn) {
  let id = 0;
  return (/** @type {any} */ e) => { clearTimeout(id); id = setTimeout(() => fn(e), 300); };
}
