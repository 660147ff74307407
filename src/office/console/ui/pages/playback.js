// @ts-check
// Synchronous playback: up to nine cameras of one day against one clock.
import { html, signal, untrack } from '../core/view.js';
import { t } from '../core/i18n.js';
import { allowedAt, purpose, sites } from '../core/store.js';
import { replace } from '../core/router.js';
import { date, dateTime, iso, ms, parseLocal, serverNow, startOfDay } from '../core/time.js';
import { form, input } from '../parts/dialog.js';
import { playerView } from '../parts/player_view.js';
import { openWall, TILES_MAX } from '../player/wall.js';
import { siteName } from '../parts/site_words.js';
import { shape } from '../parts/icon.js';

const DAY = 86400000;
/** So many cameras are chosen beforehand: as many as play in full size on a small computer. */
const CHOSEN_MAX = 4;

/** @param {{query: URLSearchParams}} of */
export default function page({ query }) {
  const wanted = (query.get('sites') ?? '').split(',').filter(Boolean).filter((s) => allowedAt('clip', s)).slice(0, TILES_MAX);
  const at = ms(query.get('at'));
  const chosen = signal({ sites: wanted, at: Number.isFinite(at) ? at : serverNow() - 5 * 60000, newest: !Number.isFinite(at) });
  // A few cameras: most likely all of them are wanted.
  const own = sites.peek().filter((s) => allowedAt('clip', s.site)).map((s) => s.site);
  const marked = new Set(wanted.length > 0 || own.length > CHOSEN_MAX ? wanted : own);
  const offered = dateTime(chosen.peek().at);
  const count = signal(marked.size);
  /** @type {HTMLDetailsElement | null} */ let chooser = null;
  const choose = html`<details class="chooser card" ?open=${wanted.length === 0} ref=${(/** @type {any} */ e) => { chooser = e; }}><summary>${t('playback.choose')}</summary>${form({
    label: t('playback.show'),
    submit: async (data) => {
      const time = parseLocal(String(data.get('time')));
      if (time === null) throw t('bad_time');
      if (marked.size === 0) throw t('playback.none_chosen');
      chosen.value = { sites: [...marked], at: time, newest: String(data.get('time')).trim() === offered && chosen.peek().newest };
      if (chooser) chooser.open = false;
      replace('/playback', { sites: [...marked].join(','), at: iso(time) });
    },
    body: html`<fieldset class="site-choices"><legend>${() => t('playback.cameras', { n: count.value, max: TILES_MAX })}</legend>${() => sites.value.filter((s) => allowedAt('clip', s.site)).map((s) => html`<label class="check"><input type="checkbox"
      .checked=${marked.has(s.site)} ?disabled=${() => count.value >= TILES_MAX && !marked.has(s.site)} @change=${(/** @type {any} */ e) => { if (e.target.checked) marked.add(s.site); else marked.delete(s.site); count.value = marked.size; }}>${shape(s.state)} ${siteName(s)}</label>`)}</fieldset>
      ${input(t('playback.time'), { name: 'time', value: offered, placeholder: 'dd/MM/yyyy HH:mm', maxlength: 20 })}`,
  })}</details>`;
  return html`<section class="page playback"><header class="page-head"><h1>${t('page.playback')}</h1><p class="muted">${() => (chosen.value.sites.length > 0 ? date(chosen.value.at) : '')}</p></header>${choose}
    ${() => (chosen.value.sites.length > 0 ? untrack(() => view(chosen.peek())) : html`<p class="notice">${t('playback.about', { max: TILES_MAX })}</p>`)}</section>`;
}

/** @param {{sites: string[], at: number, newest: boolean}} of */
function view(of) {
  const from = startOfDay(of.at);
  const wall = openWall({ sites: of.sites, from, to: Math.max(of.at + 60000, Math.min(from + DAY, serverNow())), at: of.at, newest: of.newest, sound: (s) => allowedAt('sound', s), purpose: () => Boolean(purpose.peek()) });
  return playerView(wall);
}
