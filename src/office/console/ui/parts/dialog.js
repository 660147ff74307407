// @ts-check
import { html, render, signal } from '../core/view.js';
import { t } from '../core/i18n.js';
import { icon } from './icon.js';
import { sentence } from './resource.js';

let serial = 0;
/** An id for a label and its field. @param {string} name */
export const freshId = (name) => `${name}-${++serial}`;

/**
 * Opens a modal dialog; the browser's `<dialog>` holds the focus and ends on Escape.
 * @param {string} title @param {(close: () => void) => any} view @param {{wide?: boolean, onClose?: () => void}} [options]
 */
export function openDialog(title, view, options = {}) {
  const id = freshId('dialog');
  const element = document.createElement('dialog');
  element.className = options.wide ? 'dialog dialog-wide' : 'dialog';
  element.setAttribute('aria-labelledby', id);
  const before = document.activeElement;
  document.body.append(element);
  const close = () => element.close();
  // A dialog belongs to its page.
  addEventListener('hashchange', close);
  const dispose = render(element, () => html`<header class="dialog-head"><h2 id="${id}">${title}</h2>
    <button class="button button-quiet" type="button" aria-label="${() => t('close')}" @click=${close}>${icon('close')}</button></header>
    <div class="dialog-body">${view(close)}</div>`);
  element.addEventListener('close', () => {
    removeEventListener('hashchange', close);
    dispose();
    element.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
    options.onClose?.();
  });
  element.showModal();
  // A field first, not the button that closes.
  /** @type {HTMLElement | null} */ (element.querySelector('.dialog-body :is(input:checked, input:not([type="radio"]), select, textarea, .button)'))?.focus();
  return close;
}

/** A form that sends once, shows why it was refused and keeps what was typed.
 * @param {{submit: (data: FormData) => Promise<any>, label: string, body: any, danger?: boolean, cancel?: () => void, class?: string}} of */
export function form(of) {
  const busy = signal(false);
  const error = signal('');
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (busy.peek()) return;
    busy.value = true;
    error.value = '';
    try { await of.submit(new FormData(/** @type {HTMLFormElement} */ (event.target))); } catch (e) {
      error.value = sentence(e);
    } finally { busy.value = false; }
  };
  return html`<form class="${of.class ?? 'form'}" @submit=${submit}>${of.body}
    <p class="form-error" role="alert">${error}</p>
    <div class="form-actions">
      <button class="${of.danger ? 'button button-danger' : 'button button-main'}" type="submit" ?disabled=${busy}>${of.label}</button>
      ${of.cancel ? html`<button class="button" type="button" @click=${of.cancel}>${t('cancel')}</button>` : null}
    </div></form>`;
}

/** A labelled field. @param {string} label @param {(id: string, described: string) => any} control @param {string} [hint] */
export function field(label, control, hint) {
  const id = freshId('field');
  return html`<div class="field"><label for="${id}">${label}</label>${control(id, hint ? `${id}-hint` : '')}
    ${hint ? html`<p class="hint" id="${id}-hint">${hint}</p>` : null}</div>`;
}
/** @param {string} label @param {Record<string, any>} a attributes @param {string} [hint] */
export const input = (label, a, hint) => field(label, (id, described) => html`<input id="${id}" name="${a.name}" type="${a.type ?? 'text'}"
  .value=${a.value ?? ''} autocomplete="${a.autocomplete ?? 'off'}" placeholder="${a.placeholder ?? null}" inputmode="${a.inputmode ?? null}" minlength="${a.minlength ?? null}"
  maxlength="${a.maxlength ?? 200}" aria-describedby="${described || null}" ?required=${a.required !== false} @input=${a.input} ref=${(/** @type {any} */ e) => a.ref?.(e)}>`, hint);
/** @param {string} label @param {string} name @param {[string, string][]} options @param {any} value @param {(value: string) => void} [changed] */
export const select = (label, name, options, value, changed) => field(label, (id) => html`<select id="${id}" name="${name}"
  @change=${(/** @type {any} */ e) => changed?.(e.target.value)}>${options.map(([v, text]) => html`<option value="${v}" ?selected=${v === value}>${text}</option>`)}</select>`);

/** Messages that go away by themselves, read aloud politely; faults at once. */
export const toasts = signal(/** @type {{id: number, text: string, fault: boolean}[]} */ ([]));
/** @param {string} text @param {boolean} [fault] */
export function toast(text, fault = false) {
  const id = ++serial;
  toasts.value = [...toasts.peek().slice(-3), { id, text, fault }];
  setTimeout(() => { toasts.value = toasts.peek().filter((x) => x.id !== id); }, fault ? 9000 : 4500);
}
/** Runs an act and says why it was refused. @template T @param {() => Promise<T>} act @param {string} [done] */
export async function attempt(act, done) {
  try {
    const value = await act();
    if (done) toast(done);
    return value;
  } catch (error) { toast(sentence(error), true); return undefined; }
}
