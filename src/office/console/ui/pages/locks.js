// @ts-check
import { html } from '../core/view.js';
import { bytes, t } from '../core/i18n.js';
import { get, part, send } from '../core/api.js';
import { allowed, allowedAt } from '../core/store.js';
import { dateTime, ms, serverNow } from '../core/time.js';
import { form, input, openDialog, toast } from '../parts/dialog.js';
import { icon } from '../parts/icon.js';
import { lockDialog } from '../parts/lock.js';
import { listOf, resource, show } from '../parts/resource.js';
import { nameOf } from '../parts/site_words.js';

export default function page() {
  const locks = resource((signal) => get('/locks', { signal }));
  const unlock = (/** @type {any} */ lock) => openDialog(t('locks.end'), (close) => html`<p>${t('locks.end_about', { title: lock.title, site: nameOf(lock.site) })}</p>${form({
    label: t('locks.end'), danger: true, cancel: close,
    submit: async (data) => {
      await send('DELETE', `/locks/${part(lock.id)}`, { reason: String(data.get('reason')).trim() });
      toast(t('locks.ended'));
      locks.reload();
      close();
    },
    body: input(t('reason_field'), { name: 'reason', maxlength: 500, minlength: 5 }),
  })}`);
  return html`<section class="page"><header class="page-head"><h1>${t('page.locks')}</h1><div class="page-tools">${allowed('lock') ? html`<button class="button button-main" type="button" @click=${() => lockDialog({}, locks.reload)}>${icon('lock')} ${t('locks.make')}</button>` : null}</div></header>
    <p class="muted">${t('locks.about')}</p>
    ${show(locks, (answer) => (listOf(answer, 'locks').length === 0 ? html`<p class="notice">${t('locks.none')}</p>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('page.locks')}"><table class="table"><thead><tr>${['title', 'case', 'site_col', 'span', 'size', 'by', 'review'].map((c) => html`<th scope="col">${t(`locks.${c}`)}</th>`)}<th scope="col"><span class="visually-hidden">${t('acts')}</span></th></tr></thead>
      <tbody>${listOf(answer, 'locks').map((l) => html`<tr><th scope="row">${l.title}</th><td>${l.case ?? '–'}</td><td class="id">${nameOf(l.site)}</td><td>${dateTime(l.from)}<br>${dateTime(l.to)}</td><td class="number">${bytes(l.bytes)}</td><td>${l.by}<br><small>${dateTime(l.at)}</small></td>
        <td>${l.review ? html`${dateTime(l.review).split(' ')[0]} ${ms(l.review) < serverNow() ? html`<span class="tag tag-new">${t('locks.due')}</span>` : null}` : '–'}</td>
        <td>${allowedAt('unlock', l.site) ? html`<button class="button button-small" type="button" @click=${() => unlock(l)}>${t('locks.end')}</button>` : null}</td></tr>`)}</tbody></table></div>`))}</section>`;
}
