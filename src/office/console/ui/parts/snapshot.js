// @ts-check
// A picture of the archive, asked for only when the right and the purpose are there.
import { html, signal } from '../core/view.js';
import { t } from '../core/i18n.js';
import { fileUrl } from '../core/api.js';
import { allowedAt, purpose } from '../core/store.js';
import { icon } from './icon.js';

/** Why there is no picture. @param {string} text */
const empty = (text) => html`<span class="no-picture">${icon('picture')}<small>${text}</small></span>`;

/**
 * @param {{site: string, fid: string | number | null | undefined, alt: string, dim?: boolean}} of
 */
export function picture({ site, fid, alt, dim }) {
  const failed = signal(false);
  return () => {
    if (fid == null) return empty(t('picture.none'));
    if (!allowedAt('snapshot', site)) return empty(t('picture.no_right'));
    if (!purpose.value) return empty(t('picture.no_purpose'));
    if (failed.value) return empty(t('picture.failed'));
    return html`<img class="${dim ? 'picture picture-old' : 'picture'}" src="${fileUrl(site, fid)}" alt="${alt}" loading="lazy" decoding="async" @error=${() => { failed.value = true; }}>`;
  };
}
