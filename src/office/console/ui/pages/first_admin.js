// @ts-check
import { html } from '../core/view.js';
import { t } from '../core/i18n.js';
import { send } from '../core/api.js';
import { loadOffice } from '../core/store.js';
import { go } from '../core/router.js';
import { form, input, toast } from '../parts/dialog.js';
import { enter } from '../app.js';
import { PASSWORD_MIN, passwordFields, passwordOf } from '../parts/password.js';

/** The first admin, and a password set by a one-time link. @param {{params: Record<string, string>, name: string}} of */
export default function page({ params, name }) {
  const first = name === 'first_admin';
  const submit = async (/** @type {FormData} */ data) => {
    const password = passwordOf(data);
    if (first) await send('POST', '/first-admin', { token: params.token, name: String(data.get('name')).trim(), password }, { quiet: true });
    else await send('POST', '/reset', { token: params.token, password }, { quiet: true });
    await loadOffice().catch(() => null);
    // The first admin is logged in by the link; who set a password logs in with it.
    const entered = first && await enter().then(() => true, () => false);
    toast(t(entered ? 'first_admin.done' : 'reset.done'));
    if (!entered) go('/login');
  };
  return html`<section class="log-in"><h1>${t(`page.${name}`)}</h1><p>${t(first ? 'first_admin.about' : 'reset.about', { n: PASSWORD_MIN })}</p>
    ${form({
    label: t(first ? 'first_admin.make' : 'password.set'), submit,
    body: html`${first ? input(t('login.name'), { name: 'name', autocomplete: 'username', maxlength: 64 }, t('people.name_hint')) : null}${passwordFields()}`,
  })}</section>`;
}
