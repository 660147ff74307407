// @ts-check
// Users, their roles per group, one-time links, sessions.
import { html, signal } from '../core/view.js';
import { language, LANGUAGES, LANGUAGE_NAMES, t } from '../core/i18n.js';
import { get, part, send } from '../core/api.js';
import { loadMe, loadSites, me, sites } from '../core/store.js';
import { dateTime, iso, parseLocal } from '../core/time.js';
import { ROLES } from '../core/rights.js';
import { attempt, form, input, openDialog, select, toast } from '../parts/dialog.js';
import { icon } from '../parts/icon.js';
import { groupName } from '../parts/group.js';
import { listOf, resource, show } from '../parts/resource.js';
import { nameOf, siteName } from '../parts/site_words.js';

export default function page() {
  const users = resource((signal) => get('/users', { signal }));
  const groups = resource((signal) => get('/groups', { signal }));
  const sessions = resource((signal) => get('/sessions', { signal }));
  const groupNames = () => [...new Set(['*', ...listOf(groups.data.peek(), 'groups').map((g) => String(g.id ?? g.group ?? g)), ...Object.keys(me.peek()?.rights ?? {})])];
  const add = () => openDialog(t('people.add'), (close) => form({
    label: t('people.add'), cancel: close,
    submit: async (data) => {
      const role = String(data.get('role'));
      const made = await send('POST', '/users', { name: String(data.get('name')).trim(), language: String(data.get('language')), grants: role ? [{ group: String(data.get('group')), role, until: null }] : [] });
      users.reload();
      close();
      if (made?.token) showLink(made.token);
    },
    body: html`${input(t('login.name'), { name: 'name', maxlength: 64 }, t('people.name_hint'))}<div class="fields">${select(t('role'), 'role', [...ROLES.map((x) => /** @type {[string, string]} */ ([x, t(`role.${x}`)])), ['', t('people.no_roles')]], 'viewer')}
      ${select(t('group'), 'group', groupNames().map((g) => [g, groupName(g)]), groupNames()[0])}${select(t('language'), 'language', LANGUAGES.map((l) => [l, LANGUAGE_NAMES[l]]), 'vi')}</div>`,
  }));
  const reset = async (/** @type {any} */ u) => {
    const answer = await attempt(() => send('POST', `/users/${part(u.id)}/reset`));
    if (answer?.token) showLink(answer.token);
  };
  const change = async (/** @type {any} */ u, /** @type {any} */ what) => { await attempt(() => send('PATCH', `/users/${part(u.id)}`, what), t('saved')); users.reload(); };
  return html`<section class="page people"><header class="page-head"><h1>${t('page.people')}</h1><div class="page-tools"><button class="button button-main" type="button" @click=${add}>${icon('plus')} ${t('people.add')}</button></div></header>
    ${show(users, (answer) => html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('page.people')}"><table class="table"><thead><tr><th scope="col">${t('login.name')}</th><th scope="col">${t('people.roles')}</th><th scope="col">${t('people.last_login')}</th><th scope="col">${t('acts')}</th></tr></thead>
      <tbody>${listOf(answer, 'users').map((u) => html`<tr class="${u.disabled ? 'row-off' : ''}"><th scope="row">${u.name}${u.disabled ? html` <span class="tag">${t('people.disabled')}</span>` : null}${u.has_password === false ? html` <span class="tag tag-new">${t('people.no_password')}</span>` : null}</th>
        <td>${(u.grants ?? []).length === 0 ? t('people.no_roles') : (u.grants ?? []).map((/** @type {any} */ g) => html`<span class="tag">${t(`role.${g.role}`)} · ${groupName(g.group)}${g.until ? ` · ${t('until')} ${dateTime(g.until)}` : ''}</span> `)}</td><td>${u.last_login ? dateTime(u.last_login) : '–'}</td>
        <td><div class="row"><button class="button button-small" type="button" @click=${() => grants(u, groupNames(), (next) => change(u, { grants: next }))}>${t('people.edit_roles')}</button>
          <button class="button button-small" type="button" @click=${() => reset(u)}>${t('people.reset')}</button>
          <button class="button button-small" type="button" ?disabled=${u.id === me.peek()?.user.id} @click=${() => change(u, { disabled: !u.disabled })}>${t(u.disabled ? 'people.enable' : 'people.disable')}</button></div></td></tr>`)}</tbody></table></div>`)}
    <h2>${t('people.matrix')}</h2><p class="muted">${t('people.matrix_about')}</p>
    <h2>${t('people.sessions')}</h2>
    ${show(sessions, (answer) => html`<div class="table-wrap" tabindex="0" role="region" aria-label="${t('people.sessions')}"><table class="table"><thead><tr><th scope="col">${t('login.name')}</th><th scope="col">${t('people.from')}</th><th scope="col">${t('people.started')}</th><th scope="col">${t('people.used')}</th><th scope="col">${t('acts')}</th></tr></thead>
      <tbody>${listOf(answer, 'sessions').map((s) => html`<tr><th scope="row">${s.user?.name ?? s.user}</th><td>${s.address ?? s.from ?? '–'}<br><small>${s.agent ?? ''}</small></td><td>${dateTime(s.started)}</td><td>${dateTime(s.used)}</td>
        <td>${s.current ? html`<span class="tag">${t('people.this_session')}</span>` : html`<button class="button button-small" type="button" @click=${async () => { await attempt(() => send('DELETE', `/sessions/${part(s.id)}`), t('people.revoked')); sessions.reload(); }}>${t('people.revoke')}</button>`}</td></tr>`)}</tbody></table></div>`)}
    ${show(groups, (answer) => html`<div class="row"><h2>${t('people.groups')}</h2><button class="button" type="button" @click=${() => editGroups(listOf(answer, 'groups'), groups.reload)}>${t('groups.edit')}</button></div>
      ${listOf(answer, 'groups').length === 0 ? html`<p class="muted">${t('groups.none')}</p>` : null}<ul class="plain">${listOf(answer, 'groups').map((g) => html`<li><b>${(language.value === 'en' ? g.name_en : g.name_vi) || g.id}</b> <small class="muted">${(g.sites ?? []).map(nameOf).join(', ')}</small></li>`)}</ul>`)}</section>`;
}

/** The one-time link, shown once. @param {string} token */
function showLink(token) {
  const link = `${location.origin}/#/reset/${encodeURIComponent(token)}`;
  openDialog(t('people.link'), () => html`<p>${t('people.link_about')}</p><p><code class="digest">${link}</code></p>
    <button class="button button-main" type="button" @click=${() => navigator.clipboard?.writeText(link).then(() => toast(t('copied')))}>${t('copy')}</button>`, { wide: true });
}

/** @param {any} user @param {string[]} groups @param {(grants: any[]) => Promise<void>} save */
function grants(user, groups, save) {
  const rows = signal(/** @type {any[]} */ ((user.grants ?? []).map((/** @type {any} */ g, /** @type {number} */ i) => ({ ...g, key: i }))));
  openDialog(t('people.roles_of', { name: user.name }), (close) => form({
    label: t('save'), cancel: close,
    submit: async () => {
      const next = rows.peek().map(({ group, role, until }) => {
        const at = until && !/T/.test(until) ? parseLocal(until) : null;
        if (until && !/T/.test(until) && at === null) throw t('bad_time');
        return { group, role, until: at === null ? until || null : iso(at) };
      });
      await save(next);
      close();
    },
    body: html`${() => rows.value.map((r) => html`<div class="grant-row">${select(t('group'), 'group', groups.map((g) => [g, groupName(g)]), r.group, (v) => { r.group = v; })}${select(t('role'), 'role', ROLES.map((x) => [x, t(`role.${x}`)]), r.role, (v) => { r.role = v; })}
      ${input(t('until'), { name: 'until', required: false, value: r.until ? dateTime(r.until) : '', placeholder: 'dd/MM/yyyy', maxlength: 20, input: (/** @type {any} */ e) => { r.until = e.target.value.trim(); } })}
      <button class="button" type="button" aria-label="${t('remove')}" @click=${() => { rows.value = rows.peek().filter((x) => x.key !== r.key); }}>${icon('close')}</button></div>`)}
      <button class="button" type="button" @click=${() => { rows.value = [...rows.peek(), { group: groups[0], role: 'viewer', until: null, key: Date.now() }]; }}>${icon('plus')} ${t('people.add_role')}</button>`,
  }), { wide: true });
}

/** All groups at once: their names, and which sites each has; a site is in one group. @param {any[]} given @param {() => void} reload */
function editGroups(given, reload) {
  const rows = signal(given.map((g, i) => ({ id: g.id, name_vi: g.name_vi, name_en: g.name_en, sites: [...(g.sites ?? [])], key: i, old: true })));
  const set = (/** @type {any} */ r, /** @type {string} */ name) => (/** @type {any} */ e) => { r[name] = e.target.value.trim(); };
  /** A site that joins a group leaves the one it was in. */
  const join = (/** @type {any} */ r, /** @type {string} */ site, /** @type {boolean} */ on) => {
    for (const x of rows.peek()) x.sites = x.sites.filter((/** @type {string} */ s) => s !== site);
    if (on) r.sites.push(site);
    rows.value = [...rows.peek()];
  };
  openDialog(t('groups.edit'), (close) => form({
    label: t('save'), cancel: close,
    submit: async () => {
      await send('PUT', '/groups', { groups: rows.peek().map(({ id, name_vi, name_en, sites: own }) => ({ id, name_vi, name_en, sites: own })) });
      await Promise.all([loadMe(), loadSites()]);
      toast(t('saved'));
      reload();
      close();
    },
    body: html`${() => rows.value.map((r) => html`<fieldset class="stack"><div class="grant-row">${r.old ? html`<p><b>${r.id}</b></p>` : input(t('groups.id'), { name: 'id', value: r.id, maxlength: 64, input: set(r, 'id') }, t('groups.id_hint'))}
      ${input(t('name_vi'), { name: 'name_vi', required: false, value: r.name_vi, maxlength: 64, input: set(r, 'name_vi') })}${input(t('name_en'), { name: 'name_en', required: false, value: r.name_en, maxlength: 64, input: set(r, 'name_en') })}
      <button class="button" type="button" aria-label="${t('remove')}" @click=${() => { rows.value = rows.peek().filter((x) => x.key !== r.key); }}>${icon('close')}</button></div>
      <div class="site-choices" role="group" aria-label="${t('groups.sites', { name: r.name_vi || r.id })}">${sites.peek().map((s) => html`<label class="check"><input type="checkbox" .checked=${r.sites.includes(s.site)} @change=${(/** @type {any} */ e) => join(r, s.site, e.target.checked)}> ${siteName(s)}</label>`)}</div></fieldset>`)}
      <button class="button" type="button" @click=${() => { rows.value = [...rows.peek(), { id: '', name_vi: '', name_en: '', sites: [], key: Date.now(), old: false }]; }}>${icon('plus')} ${t('groups.add')}</button>`,
  }), { wide: true });
}
