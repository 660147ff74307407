// @ts-check
import { html } from '../core/view.js';
import { t } from '../core/i18n.js';
import { input } from './dialog.js';

/** The office's floor; the office itself decides, also by a list of common passwords. */
export const PASSWORD_MIN = 12;
export const passwordFields = () => html`${input(t('password.new'), { name: 'password', type: 'password', autocomplete: 'new-password', minlength: PASSWORD_MIN, maxlength: 1024 }, t('password.hint', { n: PASSWORD_MIN }))}
  ${input(t('password.again'), { name: 'again', type: 'password', autocomplete: 'new-password', minlength: PASSWORD_MIN, maxlength: 1024 })}`;
/** @param {FormData} data */
export function passwordOf(data) {
  const password = String(data.get('password'));
  if (password !== String(data.get('again'))) throw t('password.differ');
  return password;
}
