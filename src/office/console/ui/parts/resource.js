// @ts-check
import { html, signal, effect, onCleanup } from '../core/view.js';
import { language, t, has } from '../core/i18n.js';
import { Problem } from '../core/api.js';

/**
 * A request of a page: `load` follows the signals it reads before its first await. While it loads again, the old data stay.
 * @template T
 * @param {(abort: AbortSignal) => Promise<T>} load
 */
export function resource(load) {
  const data = signal(/** @type {T | null} */ (null));
  const error = signal(/** @type {any} */ (null));
  const again = signal(0);
  /** @type {AbortController | null} */ let running = null;
  onCleanup(() => running?.abort());
  effect(() => {
    void again.value;
    running?.abort();
    const mine = running = new AbortController();
    load(mine.signal).then(
      (found) => { if (!mine.signal.aborted) { error.value = null; data.value = found; } },
      (refused) => { if (!mine.signal.aborted) error.value = refused; },
    );
  });
  return { data, error, reload() { again.value++; } };
}

/** The sentence of a refusal; a text is the page's own word to the user. @param {any} error */
export function sentence(error) {
  if (typeof error === 'string') return error;
  if (error instanceof Problem) {
    const key = `problem.${error.code}`;
    // The detail of a weak password is English words of the office: beside a Vietnamese sentence it is left out.
    if (has(key)) return `${t(key, { seconds: error.retryAfter, detail: error.detail })}${error.code === 'weak_password' && language.value === 'en' && error.detail ? ` ${error.detail}` : ''}`;
    return error.detail ? t('problem.with_detail', { detail: error.detail }) : t('problem.other', { status: error.status });
  }
  return t('problem.page', { detail: String(error?.message ?? error) });
}

/** Shows a resource: waiting, failed with «again», or its data. @template T
 * @param {ReturnType<typeof resource<T>>} of @param {(data: T) => any} view */
export const show = (of, view) => () => {
  if (of.error.value) {
    return html`<div class="notice notice-fault" role="alert"><p>${sentence(of.error.value)}</p>
      <button class="button" type="button" @click=${() => of.reload()}>${t('again')}</button></div>`;
  }
  const data = of.data.value;
  return data === null ? html`<p class="waiting" role="status">${t('loading')}</p>` : view(data);
};

/** The list in an answer: `{name: […]}` or a bare array. @param {any} answer @param {string} name @returns {any[]} */
export const listOf = (answer, name) => (Array.isArray(answer) ? answer : answer?.[name] ?? []);
