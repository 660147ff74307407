// @ts-check
import { html } from '../core/view.js';
import { duration, number, t, word } from '../core/i18n.js';

/** What happened, in a sentence. @param {any} e */
export function eventText(e) {
  const place = (e.zones ?? []).join(', ');
  const direction = e.direction ? ` ${word('direction', e.direction)}` : '';
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
