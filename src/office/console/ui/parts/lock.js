// @ts-check
import { html } from '../core/view.js';
import { t } from '../core/i18n.js';
import { send } from '../core/api.js';
import { sites } from '../core/store.js';
import { dateTime, iso, parseLocal, serverNow } from '../core/time.js';
import { form, input, openDialog, select, toast } from './dialog.js';
import { siteName } from './site_words.js';

const REVIEW_MS = 90 * 86400000;
const LAST_MS = 10 * 60000;
/** @param {FormData} data @param {string} name @returns {number} */
export function timeOf(data, name) {
  const at = parseLocal(String(data.get(name)));
  if (at === null) throw t('bad_time');
  return at;
}

/** Keeps footage from being deleted. @param {{site?: string, from?: number, to?: number}} of @param {() => void} done */
export function lockDialog(of, done) {
  // Without an event: what was seen just now.
  const { from: first = serverNow() - LAST_MS, to: last = serverNow() } = of;
  openDialog(t('locks.make'), (close) => form({
    label: t('locks.make'), cancel: close,
    submit: async (data) => {
      const from = timeOf(data, 'from');
      const to = timeOf(data, 'to');
      if (to <= from) throw t('bad_range');
      await send('POST', '/locks', {
        site: String(data.get('site')), from: iso(from), to: iso(to), title: String(data.get('title')).trim(), case: String(data.get('case')).trim() || null, review: iso(timeOf(data, 'review')),
      });
      toast(t('locks.made'));
      done();
      close();
    },
    body: html`<p>${t('locks.about')}</p>${select(t('board.col_site'), 'site', sites.peek().map((s) => [s.site, siteName(s)]), of.site ?? '')}
      <div class="fields">${input(t('from'), { name: 'from', value: dateTime(first), placeholder: 'dd/MM/yyyy HH:mm', maxlength: 20 })}
      ${input(t('to'), { name: 'to', value: dateTime(last), placeholder: 'dd/MM/yyyy HH:mm', maxlength: 20 })}</div>
      ${input(t('locks.title'), { name: 'title', maxlength: 200 })}
      <div class="fields">${input(t('locks.case'), { name: 'case', required: false, maxlength: 64 })}
      ${input(t('locks.review'), { name: 'review', value: dateTime(Date.now() + REVIEW_MS).split(' ')[0], placeholder: 'dd/MM/yyyy', maxlength: 20 }, t('locks.review_hint'))}</div>`,
  }));
}
