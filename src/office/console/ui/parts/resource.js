// @ts-check
import { html, signal, effect, untrack, onCleanup } from '../core/view.js';
import { t, has } from '../core/i18n.js';
import { Problem } from '../core/api.js';

/**
 * A request of a page: `load` follows the signals it reads before its first await.
 * @template T
 * @param {(abort: AbortSignal) => Promise<T>} load
 */
export function resource(load) {
  const state = signal(/** @type {{status: 'loading' | 'ready' | 'failed', data: T | null, error: any}} */ ({ status: 'loading', data: null, error: null }));
  const again = signal(0);
  /** @type {AbortController | null} */ let running = null;
  onCleanup(() => running?.abort());
  effect(() => {
    void again.value;
    running?.abort();
    const mine = running = new AbortController();
    const promise = load(mine.signal);
    untrack(() => { state.value = { ...state.peek(), status: 'loading', error: null }; });
    promise.then(
      (data) => { if (!mine.signal.aborted) state.value = { status: 'ready', data, error: null }; },
      (error) => { if (!mine.signal.aborted) state.value = { status: 'failed', data: state.peek().data, error }; },
    );
  });
  return {
    state,
    reload() { again.value++; },
    /** @param {T} data */
    set(data) { state.value = { status: 'ready', data, error: null }; },
  };
}

/** The sentence of a refusal. @param {any} error */
export function sentence(error) {
  if (error instanceof Problem) {
    const key = `problem.${error.code}`;
    if (has(key)) return t(key, { seconds: error.retryAfter, detail: error.detail });
    return error.detail ? t('problem.with_detail', { detail: error.detail }) : t('problem.other', { status: error.status });
  }
  return t('problem.page', { detail: String(error?.message ?? error) });
}

/** Shows a resource: waiting, failed with «again», or its data. @template T
 * @param {ReturnType<typeof resource<T>>} of @param {(data: T) => any} view */
export const show = (of, view) => () => {
  const { status, data, error } = of.state.value;
  if (status === 'failed') {
    return html`<div class="notice notice-fault" role="alert"><p>${sentence(error)}</p>
      <button class="button" @click=${() => of.reload()}>${t('again')}</button></div>`;
  }
  if (data === null) return html`<p class="waiting" role="status">${t('loading')}</p>`;
  return view(data);
};

/** The list in an answer: `{name: […]}` or a bare array. @param {any} answer @param {string} name @returns {any[]} */
export const listOf = (answer, name) => (Array.isArray(answer) ? answer : answer?.[name] ?? []);
