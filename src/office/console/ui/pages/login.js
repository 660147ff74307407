// @ts-check
import { html, signal, every } from '../core/view.js';
import { duration, t } from '../core/i18n.js';
import { Problem, send } from '../core/api.js';
import { office } from '../core/store.js';
import { clock } from '../core/time.js';
import { go } from '../core/router.js';
import { form, input } from '../parts/dialog.js';
import { sentence } from '../parts/resource.js';
import { enter } from '../app.js';

/** Log-in, and the demo's one-time link. @param {{params: Record<string, string>, name: string}} of */
export default function page({ params, name }) {
  return name === 'demo' ? demo(params.token) : logIn();
}

function logIn() {
  /** When the lock-out ends, on this computer's clock. */
  const lockedUntil = signal(0);
  const now = signal(Date.now());
  const announced = signal('');
  every(1000, () => { now.value = Date.now(); });
  const left = () => Math.max(0, Math.ceil((lockedUntil.value - now.value) / 1000));
  const kept = sessionStorage.getItem('taimat.name') ?? '';
  const submit = async (/** @type {FormData} */ data) => {
    try {
      await send('POST', '/login', { name: String(data.get('name')).trim(), password: String(data.get('password')) }, { quiet: true });
    } catch (error) {
      if (error instanceof Problem && error.code === 'locked') {
        lockedUntil.value = Date.now() + error.retryAfter * 1000;
        now.value = Date.now();
        announced.value = t('login.locked', { time: clock(lockedUntil.peek()) });
        return;
      }
      throw error;
    }
    sessionStorage.removeItem('taimat.name');
    await enter();
  };
  return html`<section class="log-in"><h1>${t('page.login')}</h1>
    ${office.peek().first_admin ? html`<p class="notice">${t('login.no_admin')}</p>` : null}
    ${form({
    label: t('login.go'), submit,
    body: html`${input(t('login.name'), { name: 'name', value: kept, autocomplete: 'username', maxlength: 64, ref: (/** @type {HTMLElement} */ e) => { if (!kept) queueMicrotask(() => e.focus()); } })}
      ${input(t('login.password'), { name: 'password', type: 'password', autocomplete: 'current-password', maxlength: 1024, ref: (/** @type {HTMLElement} */ e) => { if (kept) queueMicrotask(() => e.focus()); } })}`,
  })}
    <div role="alert">${() => (announced.value && lockedUntil.value > 0 && left() > 0 ? html`<p class="notice notice-fault">${announced.value}</p>` : null)}</div>
    ${() => (left() > 0 ? html`<p class="muted" aria-hidden="true">${t('login.left', { left: duration(left()) })}</p>` : null)}
    <p class="muted small">${t('login.watched')}</p></section>`;
}

/** @param {string} token */
function demo(token) {
  const error = signal('');
  const begin = async () => {
    error.value = '';
    try {
      await send('POST', '/demo-login', { token }, { quiet: true });
      await enter();
    } catch (e) { error.value = sentence(e); }
  };
  begin();
  return html`<section class="log-in"><h1>${t('page.demo')}</h1><p>${t('demo.about')}</p>
    ${() => (error.value ? html`<p class="notice notice-fault" role="alert">${error.value}</p>
      <button class="button" type="button" @click=${() => go('/login')}>${t('page.login')}</button>` : html`<p role="status">${t('loading')}</p>`)}</section>`;
}
