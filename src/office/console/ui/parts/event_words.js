// @ts-check
import { html } from '../core/view.js';
import { duration, number, t, word } from '../core/i18n.js';

const WAYS = ['n', 'ne', 'e', 'se', 's', 'sw', 'w', 'nw'];
/** One of eight directions on the picture. @param {number} degrees clockwise from up */
export const wayOf = (degrees) => WAYS[Math.round((((degrees % 360) + 360) % 360) / 45) % 8];

/** What happened, in a sentence. @param {any} e */
export function eventText(e) {
  // The whole picture is no place.
  const place = (e.zones ?? []).filter((/** @type {string} */ z) => z !== 'all').join(', ');
  const direction = typeof e.direction === 'number' ? ` · ${t('event.direction', { way: t(`way.${wayOf(e.direction)}`) })}` : '';
  return `${word('rule', e.rule)}${direction}${place ? ` · ${place}` : ''}`;
}
/** @param {any} e */
export const eventLength = (e) => (e.state === 'open' ? t('event.open') : duration(e.seconds));
/** @param {any} e */
export const handledMark = (e) => (e.handled
  ? html`<span class="${`tag tag-${e.handled.verdict}`}">${t(`verdict.${e.handled.verdict}`)}</span>` : html`<span class="tag tag-new">${t('event.unhandled')}</span>`);
/** @param {any} e */
export const scoreText = (e) => (e.score == null ? '' : `${number(e.score <= 1 ? e.score * 100 : e.score)} %`);
export const VERDICTS = ['real', 'false_alarm', 'none'];
