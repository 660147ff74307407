// @ts-check
// One event: its clip in the player, its day, its facts, notes and marks.
import { html, signal, untrack } from '../core/view.js';
import { t } from '../core/i18n.js';
import { get } from '../core/api.js';
import { allowedAt, purpose } from '../core/store.js';
import { href } from '../core/router.js';
import { dateTime, ms, serverNow, startOfDay } from '../core/time.js';
import { listOf, resource, show } from '../parts/resource.js';
import { picture } from '../parts/snapshot.js';
import { playerView } from '../parts/player_view.js';
import { openWall } from '../player/wall.js';
import { icon } from '../parts/icon.js';
import { clockText, nameOf } from '../parts/site_words.js';
import { eventLength, eventText, handledMark, scoreText } from '../parts/event_words.js';
import { zoomFor } from '../parts/axis.js';
import { eventPath, handleDialog } from '../parts/handle.js';
import { lockDialog } from '../parts/lock.js';

const DAY = 86400000;
/** Seconds before the event at which the player begins. */
const LEAD_MS = 3000;

/** @param {{params: Record<string, string>}} of */
export default function page({ params }) {
  const event = resource((signal) => get(eventPath(params), { signal }));
  return html`<section class="page event-page"><header class="page-head"><p><a href="#/events">${icon('left')} ${t('page.events')}</a></p><h1>${nameOf(params.site)}</h1></header>
    ${show(event, (e) => untrack(() => view(e)))}</section>`;
}

/** @param {any} given */
function view(given) {
  const event = signal(given);
  const reload = () => get(eventPath(given)).then((next) => { event.value = next; }).catch(() => null);
  const e = given;
  const start = ms(e.start);
  const from = startOfDay(start);
  const player = allowedAt('clip', e.site)
    ? playerView(openWall({ sites: [e.site], from, to: Math.min(from + DAY, Math.max(serverNow(), start + 60000)), at: start - LEAD_MS, clip: { fid: e.clip, from: start, to: e.end ? ms(e.end) : start }, sound: (s) => allowedAt('sound', s), purpose: () => Boolean(purpose.peek()) }), { zoom: zoomFor(e.end ? (ms(e.end) - start) / 1000 : 0) })
    : html`<div class="detail-picture">${picture({ site: e.site, fid: e.snapshot, alt: t('picture.event', { site: nameOf(e.site), time: dateTime(e.start) }) })}</div><p class="notice">${t('event.no_clip_right')}</p>`;
  return html`<div class="event-split"><div>${player}</div><aside class="card">${() => facts(event.value, reload)}</aside></div>`;
}

/** @param {any} e @param {() => void} reload */
function facts(e, reload) {
  const start = ms(e.start);
  return html`<h2>${eventText(e)}</h2>
    <dl class="facts"><dt>${t('from')}</dt><dd>${dateTime(e.start)}</dd><dt>${t('to')}</dt><dd>${e.end ? dateTime(e.end) : t('event.open')}</dd><dt>${t('length')}</dt><dd>${eventLength(e)}</dd>
      <dt>${t('board.col_clock')}</dt><dd>${clockText(e.clock)}</dd><dt>${t('event.score')}</dt><dd>${scoreText(e) || '–'}</dd>
      <dt>${t('event.clip')}</dt><dd>${e.clip == null ? t('event.clip_missing') : t('event.clip_here')}</dd><dt>${t('events.handled')}</dt><dd>${handledMark(e)} ${e.handled ? html`${e.handled.by}, ${dateTime(e.handled.at)}` : null}</dd></dl>
    <h3>${t('event.notes')}</h3>${listOf(e.notes, 'notes').length === 0 ? html`<p class="muted">${t('event.no_notes')}</p>` : html`<ul class="notes">${listOf(e.notes, 'notes').map((n) => html`<li><p>${n.note ?? n.text}</p><small>${n.by}, ${dateTime(n.at)}</small></li>`)}</ul>`}
    <div class="stack">${allowedAt('handle', e.site) ? html`<button class="button button-main" type="button" @click=${() => handleDialog(e, reload)}>${icon('check')} ${t('handle.title')}</button>` : null}
      ${allowedAt('lock', e.site) ? html`<button class="button" type="button" @click=${() => lockDialog({ site: e.site, from: start - 60000, to: (e.end ? ms(e.end) : start) + 60000 }, () => {})}>${icon('lock')} ${t('locks.make')}</button>` : null}
      ${allowedAt('clip', e.site) ? html`<a class="button" href="${href('/playback', { sites: e.site, at: e.start })}">${icon('play')} ${t('event.with_others')}</a>` : null}</div>`;
}
