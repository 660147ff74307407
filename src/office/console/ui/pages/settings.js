// @ts-check
import { html } from '../core/view.js';
import { language, LANGUAGES, LANGUAGE_NAMES, t } from '../core/i18n.js';
import { send } from '../core/api.js';
import { me } from '../core/store.js';
import { dateTime } from '../core/time.js';
import { form, input, select, toast } from '../parts/dialog.js';
import { groupName } from '../parts/group.js';
import { passwordFields, passwordOf } from '../parts/password.js';
import { chooseLanguage, chooseTheme, lockScreen, signOut, themeNow } from '../app.js';

export default function page() {
  const user = me.peek();
  return html`<section class="page narrow"><h1>${t('page.settings')}</h1>
    <div class="card"><h2>${t('settings.look')}</h2><div class="fields">
      ${select(t('language'), 'language', LANGUAGES.map((l) => [l, LANGUAGE_NAMES[l]]), language.peek(), chooseLanguage)}
      ${select(t('theme'), 'theme', ['auto', 'dark', 'light'].map((x) => [x, t(`theme.${x}`)]), themeNow(), chooseTheme)}</div></div>
    <div class="card"><h2>${t('settings.grants')}</h2><div class="table-wrap" tabindex="0" role="region" aria-label="${t('settings.grants')}"><table class="table"><thead><tr><th scope="col">${t('group')}</th><th scope="col">${t('role')}</th><th scope="col">${t('until')}</th></tr></thead>
      <tbody>${(user?.grants ?? []).map((g) => html`<tr><td>${groupName(g.group)}</td><td>${t(`role.${g.role}`)}</td><td>${g.until ? dateTime(g.until) : t('no_end')}</td></tr>`)}</tbody></table></div></div>
    ${user?.demo ? null : html`<div class="card"><h2>${t('password.change')}</h2>${form({
    label: t('password.set'),
    submit: async (data) => {
      await send('POST', '/password', { old: String(data.get('old')), new: passwordOf(data) });
      toast(t('password.changed'));
    },
    body: html`${input(t('password.old'), { name: 'old', type: 'password', autocomplete: 'current-password', maxlength: 1024 })}${passwordFields()}`,
  })}</div>`}
    <div class="card row"><button class="button" type="button" @click=${lockScreen}>${t('lock_screen')}</button>
      <button class="button" type="button" @click=${signOut}>${t('sign_out')}</button></div></section>`;
}
