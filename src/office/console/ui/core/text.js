// @ts-check
/** Characters that do not show themselves: control, format (all bidirectional marks), unassigned, separators. */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * Text as it is shown: what a device, a file or a person may have hidden in it is made visible.
 * Every dynamic text node and attribute of the page passes through here.
 * @param {unknown} value
 * @returns {string}
 */
export function visible(value) {
  return String(value).replace(HIDDEN, (c) => {
    if (c === '\n') return '\\n';
    if (c === '\t') return '\\t';
    return `\\u{${/** @type {number} */ (c.codePointAt(0)).toString(16).padStart(2, '0')}}`;
  });
}

/**
 * Vietnamese letters without marks, for search: «Ngã tư chợ» is found by «nga tu cho».
 * @param {string} value
 */
export function plain(value) {
  return value.normalize('NFD').replace(/\p{M}/gu, '').replace(/[đĐ]/g, 'd').toLowerCase();
}
