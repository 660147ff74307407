// @ts-check
// What the page says about a site: its name, its state, the sentence why.
import { html } from '../core/view.js';
import { age, bytes, has, language, lengthOf, number, t, word } from '../core/i18n.js';
import { clock as clockOf, date, dateTime, ms, serverNow } from '../core/time.js';
import { siteOf } from '../core/store.js';
import { shape } from './icon.js';

export const STATES = ['fault', 'warn', 'unknown', 'ok'];
const ARGUMENTS = /** @type {Record<string, (v: any) => string>} */ ({
  bytes, since: (v) => whenShort(v), clock: (v) => word('clock', v), fault: (v) => word('camera_fault', v), percent: (v) => number(v),
});

/** @param {any} site */
export const siteName = (site) => (language.value === 'en' ? site?.name_en || site?.name_vi : site?.name_vi || site?.name_en) || site?.site || '';
/** @param {string} id */
export const nameOf = (id) => siteName(siteOf(id) ?? { site: id });

/** HH:mm:ss today, else with the date. @param {any} time */
export const whenShort = (time) => (date(time) === date(serverNow()) ? clockOf(time) : dateTime(time));

/** The sentence why a site has its state. @param {any} site */
export function reasonText(site) {
  const code = site?.reason?.code;
  if (!code) return '';
  /** @type {Record<string, string>} */ const args = {};
  for (const [name, value] of Object.entries(site.reason.args ?? {})) args[name] = (ARGUMENTS[name] ?? ((v) => (typeof v === 'number' ? number(v) : String(v))))(value);
  if (args.since === undefined && ms(site.seen)) args.since = whenShort(site.seen);
  return has(`reason.${code}`) ? t(`reason.${code}`, args) : t('reason.unknown_code', { code });
}
/** State by shape, colour and word. @param {string} state */
export const stateMark = (state) => html`<span class="state state-${state}">${shape(state)} ${word('state', state)}</span>`;
/** @param {any} site */
export const backlogText = (site) => (site.backlog_bytes > 0 ? `${bytes(site.backlog_bytes)}${site.backlog_since ? ` · ${age(site.backlog_since)}` : ''}` : t('board.no_backlog'));
/** Gaps of today and their length together. @param {any} site */
export const gapsText = (site) => (site.gaps_today?.count ? t('board.gaps', { n: site.gaps_today.count, span: lengthOf(0, 1000 * site.gaps_today.seconds) }) : t('board.no_gaps'));
/** Clock quality with its bound. @param {string} quality */
export const clockText = (quality) => word('clock', quality);
