// @ts-check
// The trail: who did what, searched and verified.
import { html, signal } from '../core/view.js';
import { bytes, has, number, t, word, wordsOf } from '../core/i18n.js';
import { get, query } from '../core/api.js';
import { allowed, sites } from '../core/store.js';
import { dateTime, iso, parseLocal } from '../core/time.js';
import { attempt, form, input, select } from '../parts/dialog.js';
import { icon } from '../parts/icon.js';
import { listOf, resource, show } from '../parts/resource.js';
import { nameOf, siteName } from '../parts/site_words.js';

const PAGE = 100;

export default function page() {
  const filter = signal(/** @type {Record<string, any>} */ ({}));
  const more = signal(/** @type {any[]} */ ([]));
  const first = resource(async (abort) => {
    const f = filter.value;
    const answer = await get(`/audit${query({ ...f, limit: PAGE })}`, { signal: abort });
    more.value = [answer];
    return answer;
  });
  // The title and the case of a lock, for who may see them.
  const locks = resource(async (abort) => (!allowed('board') ? [] : listOf(await get('/locks', { signal: abort }).catch(() => []), 'locks')));
  const verified = signal(/** @type {any} */ (null));
  const loadMore = async () => {
    const next = more.peek().at(-1)?.next;
    const answer = next ? await attempt(() => get(`/audit${query({ ...filter.peek(), before: next, limit: PAGE })}`)) : null;
    if (answer) more.value = [...more.peek(), answer];
  };
  const verify = async () => { verified.value = 'running'; verified.value = await attempt(() => get('/audit/verify')) ?? null; };
  const timeOf = (/** @type {FormData} */ data, /** @type {string} */ name) => {
    const text = String(data.get(name)).trim();
    const at = text ? parseLocal(text) : null;
    if (text && at === null) throw t('bad_time');
    return at === null ? null : iso(at);
  };
  return html`<section class="page audit"><header class="page-head"><h1>${t('page.audit')}</h1><div class="page-tools"><button class="button" type="button" @click=${verify}>${icon('check')} ${t('audit.verify')}</button></div></header>
    <div role="status">${() => {
    const v = verified.value;
    if (v === null) return null;
    if (v === 'running') return html`<p class="notice">${t('loading')}</p>`;
    return v.ok ? html`<p class="notice notice-ok">${t('audit.whole', { n: v.head?.n ?? 0 })} <code class="digest">${v.head?.digest}</code></p>`
      : html`<p class="notice notice-fault" role="alert">${t('audit.broken', { fault: typeof v.fault === 'string' ? v.fault : JSON.stringify(v.fault) })}</p>`;
  }}</div>
    <div class="card">${form({
    class: 'form form-flat', label: t('search'),
    submit: async (data) => { filter.value = { who: String(data.get('who')).trim(), site: String(data.get('site')), act: String(data.get('act')).trim(), from: timeOf(data, 'from'), to: timeOf(data, 'to') }; },
    body: html`<div class="fields">${input(t('audit.who'), { name: 'who', required: false, maxlength: 64 })}${() => select(t('board.col_site'), 'site', [['', t('all')], ...sites.value.map((s) => /** @type {[string, string]} */ ([s.site, siteName(s)]))], '')}
      ${select(t('audit.act'), 'act', [['', t('all')], ...wordsOf('act').map((a) => /** @type {[string, string]} */ ([a, word('act', a)])).sort((a, b) => a[1].localeCompare(b[1], 'vi'))], '')}${input(t('from'), { name: 'from', required: false, placeholder: 'dd/MM/yyyy HH:mm', maxlength: 20 })}${input(t('to'), { name: 'to', required: false, placeholder: 'dd/MM/yyyy HH:mm', maxlength: 20 })}</div>`,
  })}</div>
    ${show(first, () => html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('page.audit')}"><table class="table"><thead><tr>${['n', 't', 'who', 'act', 'site', 'range', 'purpose', 'object', 'result'].map((c) => html`<th scope="col">${t(`audit.${c}`)}</th>`)}</tr></thead>
      <tbody>${() => more.value.flatMap((a) => a.records).map((r) => html`<tr class="${r.result && r.result !== 'ok' ? 'row-denied' : ''}"><td class="number">${number(r.n)}</td><td>${dateTime(r.t)}</td><td>${who(r)}</td><td>${word('act', r.act)}</td>
        <td class="id">${r.site ? nameOf(r.site) : '–'}</td><td>${range(r.range)}</td><td>${purpose(r.purpose)}</td><td class="wrap"><small title="${r.object.join(' ')}">${objectText(r, locks.data.value)}</small>${r.reason ? html`<br>${r.reason}` : null}</td><td>${word('result', r.result)}</td></tr>`)}</tbody></table></div>
      ${() => (more.value.at(-1)?.next ? html`<button class="button" type="button" @click=${loadMore}>${t('more')}</button>` : null)}`)}</section>`;
}
/** Who did it, and how sure that is. @param {any} r */
const who = (r) => (r.who.startsWith('? ') ? html`<span title="${t('audit.unproven_about')}">${t('audit.unproven', { name: r.who.slice(2) })}</span>`
  : r.who === 'office' ? t('role.office') : r.who.startsWith('uid ') ? t('audit.command_line', { uid: r.who.slice(4) }) : html`${r.who}<br><small>${word('role', r.role)}</small>`);

const ID_SHOWN = 12;
/** A sum of a deletion, `clip:10`, in words. @param {string} x */
function sumText(x) {
  const [, of, n] = /^([a-z_]+):(\d+)$/.exec(x) ?? [];
  return of ? `${word('object_word', of)}: ${of === 'bytes' ? bytes(Number(n)) : number(Number(n))}` : null;
}
/** The object of a record in words: its kind, then what belongs to it; long ids are cut (the whole object is the title). @param {any} r @param {any[] | null} locks */
export function objectText(r, locks) {
  const [kind, ...rest] = /** @type {string[]} */ (r.object).filter(Boolean);
  if (!kind) return '–';
  // A user's number says nothing beside the name.
  if (kind === 'user' && /^u\d+$/.test(rest[0] ?? '') && rest.length > 1) rest.shift();
  const lock = kind === 'lock' ? (locks ?? []).find((l) => String(l.id) === rest[0] && (!r.site || l.site === r.site)) : null;
  if (kind === 'files') return [`${word('object', kind)} ${number(Number(rest[0]))}`, ...rest.slice(1).map((x) => sumText(x) ?? nameOf(x))].join(', ');
  const words = rest.map((x) => (has(`object_word.${x}`) ? t(`object_word.${x}`) : has(`role.${x}`) ? t(`role.${x}`) : x === '*' ? t('all_groups') : kind === 'site' && x === r.site ? nameOf(x) : x.length > 20 && !x.includes(' ') ? `${x.slice(0, ID_SHOWN)}…` : x));
  return `${[word('object', kind), ...words].join(' ')}${lock ? `: ${lock.title}${lock.case ? ` (${t('locks.case')} ${lock.case})` : ''}` : ''}`;
}
/** @param {any} p */
const purpose = (p) => (p ? `${word('purpose', p.kind)} ${p.case}`.trim() : '–');
/** @param {[string, string] | null} r */
const range = (r) => (r ? html`${dateTime(r[0])}<br>${dateTime(r[1])}` : '–');
