// @ts-check
import { html } from '../core/view.js';
import { t } from '../core/i18n.js';
import { part, send } from '../core/api.js';
import { VERDICTS } from './event_words.js';
import { field, form, openDialog, toast } from './dialog.js';

/** @param {any} e */
export const eventPath = (e) => `/motion-events/${part(e.site)}/${part(e.id)}`;

/** Marks an event handled, with a note. @param {any} e @param {(next: any) => void} done */
export function handleDialog(e, done) {
  openDialog(t('handle.title'), (close) => form({
    label: t('handle.save'), cancel: close,
    submit: async (data) => {
      const note = String(data.get('note') ?? '').trim();
      const answer = await send('PATCH', eventPath(e), { verdict: String(data.get('verdict')), note: note || undefined });
      done(answer);
      toast(t('handle.saved'));
      close();
    },
    body: html`<fieldset class="choices"><legend>${t('handle.verdict')}</legend>${VERDICTS.map((v) => html`<label class="choice"><input type="radio" name="verdict" value="${v}"
        .checked=${v === (e.handled?.verdict ?? 'real')}><span><b>${t(`verdict.${v}`)}</b></span></label>`)}</fieldset>
      ${field(t('handle.note'), (id) => html`<textarea id="${id}" name="note" rows="3" maxlength="2000"></textarea>`)}`,
  }));
}
