// @ts-check
// Purpose before footage: what the session looks at pictures for.
import { html, signal } from '../core/view.js';
import { t } from '../core/i18n.js';
import { send } from '../core/api.js';
import { loadMe, me, purpose, purposeWanted } from '../core/store.js';
import { dateTime } from '../core/time.js';
import { PURPOSES } from '../core/rights.js';
import { form, input, openDialog } from './dialog.js';
import { icon } from './icon.js';

let open = false;
const NEEDS_CASE = new Set(['case', 'data_subject']);

export function choosePurpose() {
  if (open) return;
  open = true;
  const kind = signal(purpose.peek()?.kind ?? (me.peek()?.demo ? 'training' : 'duty'));
  openDialog(t('purpose.title'), (close) => html`<p>${t('purpose.why')}</p>${form({
    label: t('purpose.set'),
    cancel: close,
    submit: async (data) => {
      const words = { kind: kind.peek(), case: String(data.get('case') ?? '').trim() || undefined, reason: String(data.get('reason') ?? '').trim() || undefined };
      await send('POST', '/purpose', words);
      await loadMe();
      purposeWanted.value = false;
      close();
    },
    body: html`<fieldset class="choices"><legend>${t('purpose.choose')}</legend>${PURPOSES.map((p) => html`<label class="choice">
        <input type="radio" name="kind" value="${p}" .checked=${p === kind.peek()} @change=${() => { kind.value = p; }}>
        <span><b>${t(`purpose.${p}`)}</b><small>${t(`purpose.${p}_hint`)}</small></span></label>`)}</fieldset>
      ${() => (NEEDS_CASE.has(kind.value) ? input(t(`purpose.number_${kind.value}`), { name: 'case', maxlength: 64 }) : null)}
      ${input(t('purpose.reason'), { name: 'reason', required: false, maxlength: 300 })}`,
  })}`, { onClose() { open = false; purposeWanted.value = false; } });
}

/** The purpose in words. @param {any} p */
export const purposeText = (p) => (p ? `${t(`purpose.${p.kind}`)}${p.case ? ` ${p.case}` : ''}` : t('purpose.none'));

/** The part of the bar that always says what footage is looked at for. */
export const purposeButton = () => html`<button class="${() => `purpose ${purpose.value ? 'purpose-set' : 'purpose-none'}`}" type="button" @click=${choosePurpose}
  title="${() => (purpose.value ? t('purpose.until', { time: dateTime(purpose.value.until) }) : t('purpose.why'))}">${icon('purpose')}
  <span><small>${() => t('purpose.label')}</small><b>${() => purposeText(purpose.value)}</b></span></button>`;

/** In place of a picture while there is no purpose. */
export const purposeNeeded = () => html`<div class="purpose-needed"><p>${t('purpose.needed')}</p>
  <button class="button button-main" type="button" @click=${choosePurpose}>${t('purpose.title')}</button></div>`;
