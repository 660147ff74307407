// @ts-check
// How long what is kept, by group and purpose, and what would go before a change is saved.
import { html, signal } from '../core/view.js';
import { bytes, number, t, word } from '../core/i18n.js';
import { get, send } from '../core/api.js';
import { me } from '../core/store.js';
import { date } from '../core/time.js';
import { attempt, openDialog, form, toast } from '../parts/dialog.js';
import { icon } from '../parts/icon.js';
import { groupName } from '../parts/group.js';
import { listOf, resource, show } from '../parts/resource.js';
import { nameOf } from '../parts/site_words.js';

const PURPOSES = ['clip', 'snapshot', 'requested'];

export default function page() {
  const rules = resource((signal) => get('/retention', { signal }));
  const storage = resource((signal) => get('/stats/storage', { signal }));
  return html`<section class="page"><header class="page-head"><h1>${t('page.retention')}</h1></header><p class="muted">${t('retention.about')}</p>
    ${show(rules, (answer) => table(listOf(answer, 'rules'), rules.reload))}
    <div class="card"><h2>${t('retention.storage')}</h2>${show(storage, (s) => facts(s))}</div></section>`;
}

/** @param {any} s */
const facts = (s) => {
  const rows = Array.isArray(s) ? s : s.rows ?? s.sites ?? null;
  if (Array.isArray(rows)) {
    const columns = [...new Set(rows.flatMap((r) => Object.keys(r)))].slice(0, 8);
    return html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('retention.storage')}"><table class="table"><thead><tr>${columns.map((c) => html`<th scope="col">${word('storage', c)}</th>`)}</tr></thead>
      <tbody>${rows.map((r) => html`<tr>${columns.map((c) => html`<td class="${typeof r[c] === 'number' ? 'number' : 'id'}">${value(c, r[c])}</td>`)}</tr>`)}</tbody></table></div>`;
  }
  return html`<dl class="facts">${Object.entries(s).filter(([, v]) => v === null || typeof v !== 'object').map(([k, v]) => html`<dt>${word('storage', k)}</dt><dd>${value(k, v)}</dd>`)}</dl>`;
};
/** @param {string} name @param {any} v */
const value = (name, v) => (typeof v === 'number' ? (/bytes|free|size|total/.test(name) ? bytes(v) : number(v, 1)) : /^\d{4}-\d\d-\d\dT/.test(String(v)) ? date(v) : name === 'purpose' ? word('kept', v) : name === 'site' ? nameOf(v) : v ?? '–');

/** @param {any[]} given @param {() => void} reload */
function table(given, reload) {
  const rules = signal(given.map((r, i) => ({ ...r, key: i })));
  const groups = () => [...new Set(['*', ...Object.keys(me.peek()?.rights ?? {}), ...rules.peek().map((r) => r.group)])];
  const set = (/** @type {number} */ key, /** @type {string} */ name, /** @type {any} */ v) => { const r = rules.peek().find((x) => x.key === key); if (r) r[name] = v; };
  const wrong = signal('');
  const clean = () => rules.peek().map(({ group, purpose, days, ground }) => ({ group, purpose, days: Number(days), ground: String(ground).trim() }));
  const preview = async () => {
    const wish = clean();
    const bad = wish.find((r) => !Number.isInteger(r.days) || r.days < 1 || r.days > 3650 || !r.ground);
    wrong.value = bad ? t('retention.bad') : '';
    if (bad) return;
    const found = await attempt(() => send('POST', '/retention/preview', { rules: wish }));
    if (!found) return;
    openDialog(t('retention.preview'), (close) => html`<dl class="facts"><dt>${t('retention.files')}</dt><dd>${number(found.files)}</dd><dt>${t('retention.bytes')}</dt><dd>${bytes(found.bytes)}</dd>
        <dt>${t('retention.oldest')}</dt><dd>${found.oldest ? date(found.oldest) : '–'}</dd><dt>${t('retention.locked')}</dt><dd>${number(found.locked)}</dd></dl>
      <p class="${found.files > 0 ? 'notice notice-warn' : 'notice'}">${found.files > 0 ? t('retention.preview_about', { n: found.files }) : t('retention.preview_none')}</p>${form({
      label: t('retention.save'), danger: found.files > 0, cancel: close, body: null,
      submit: async () => { await send('PUT', '/retention', { rules: wish }); toast(t('saved')); reload(); close(); },
    })}`);
  };
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('page.retention')}"><table class="table table-edit"><thead><tr><th scope="col">${t('group')}</th><th scope="col">${t('retention.purpose')}</th><th scope="col">${t('retention.days')}</th><th scope="col">${t('retention.ground')}</th><th scope="col"><span class="visually-hidden">${t('acts')}</span></th></tr></thead>
    <tbody>${() => (rules.value.length === 0 ? html`<tr><td colspan="5">${t('retention.none')}</td></tr>` : null)}${() => rules.value.map((r) => html`<tr><td><select aria-label="${t('group')}" @change=${(/** @type {any} */ e) => set(r.key, 'group', e.target.value)}>${groups().map((g) => html`<option ?selected=${g === r.group} value="${g}">${groupName(g)}</option>`)}</select></td>
      <td><select aria-label="${t('retention.purpose')}" @change=${(/** @type {any} */ e) => set(r.key, 'purpose', e.target.value)}>${[...new Set([...PURPOSES, r.purpose])].map((p) => html`<option value="${p}" ?selected=${p === r.purpose}>${word('kept', p)}</option>`)}</select></td>
      <td><input type="number" min="1" max="3650" aria-label="${t('retention.days')}" .value=${r.days} @input=${(/** @type {any} */ e) => set(r.key, 'days', e.target.value)}></td>
      <td><input aria-label="${t('retention.ground')}" maxlength="300" .value=${r.ground ?? ''} @input=${(/** @type {any} */ e) => set(r.key, 'ground', e.target.value)}></td>
      <td><button class="button button-small" type="button" aria-label="${t('remove')}" @click=${() => { rules.value = rules.peek().filter((x) => x.key !== r.key); }}>${icon('close')}</button></td></tr>`)}</tbody></table></div>
    <p class="form-error" role="alert">${wrong}</p>
    <div class="row"><button class="button" type="button" @click=${() => { rules.value = [...rules.peek(), { group: groups()[0], purpose: 'clip', days: 30, ground: '', key: Date.now() }]; }}>${icon('plus')} ${t('retention.add')}</button>
      <button class="button button-main" type="button" @click=${preview}>${t('retention.preview')}</button></div>`;
}
