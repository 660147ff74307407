// @ts-check
// Two languages, whole: a test holds that vi.json and en.json have the same keys and the same arguments.
import { signal } from './view.js';
import { span, serverNow, ms } from './time.js';

export const LANGUAGES = /** @type {const} */ (['vi', 'en']);
/** Each language in its own words. */
export const LANGUAGE_NAMES = { vi: 'Tiếng Việt', en: 'English' };
/** @type {import('./view.js').Signal<string>} */
export const language = signal('vi');
/** @type {Record<string, string | {one?: string, other: string}>} */ let texts = {};
/** @type {Intl.NumberFormat[]} */ let numbers = [];
let plurals = new Intl.PluralRules('vi');

/** @param {string} lang @param {any} table */
export function setTexts(lang, table) {
  texts = table;
  const locale = lang === 'vi' ? 'vi-VN' : 'en-GB';
  numbers = [0, 1, 2].map((maximumFractionDigits) => new Intl.NumberFormat(locale, { maximumFractionDigits }));
  plurals = new Intl.PluralRules(locale);
  if (typeof document !== 'undefined') document.documentElement.lang = lang;
  language.value = lang;
}

/** @param {string} lang */
export async function loadLanguage(lang) {
  const known = LANGUAGES.includes(/** @type {any} */ (lang)) ? lang : 'vi';
  const response = await fetch(`/ui/i18n/${known}.json`);
  setTexts(known, await response.json());
}

export const has = (/** @type {string} */ key) => Object.hasOwn(texts, key);

/** A text of the page. `{name}` is an argument; numbers are written as the language writes them.
 * @param {string} key @param {Record<string, any>} [args] */
export function t(key, args = {}) {
  void language.value;
  if (!has(key)) return key;
  const entry = texts[key];
  const text = typeof entry === 'string' ? entry : (entry[/** @type {'one' | 'other'} */ (plurals.select(Number(args.n)))] ?? entry.other);
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = args[name];
    return value == null ? (name in args ? '–' : whole) : typeof value === 'number' ? number(value, 1) : String(value);
  });
}

/** A word of a closed list that may grow at the other end: an unknown word is shown as it came.
 * @param {string} group @param {string | null | undefined} value */
export const word = (group, value) => (value ? (has(`${group}.${value}`) ? t(`${group}.${value}`) : value) : t('none'));

/** @param {number | null | undefined} value @param {0 | 1 | 2} [digits] */
export const number = (value, digits = 0) => (value == null || !Number.isFinite(value) ? '–' : numbers[digits]?.format(value) ?? String(value));

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];
/** @param {number | null | undefined} count */
export function bytes(count) {
  if (count == null || !Number.isFinite(count)) return '–';
  let unit = 0;
  let value = count;
  while (value >= 1000 && unit < UNITS.length - 1) { value /= 1000; unit++; }
  return `${number(value, value < 10 && unit > 0 ? 1 : 0)} ${UNITS[unit]}`;
}

/** «2 giờ 5 phút» @param {number | null | undefined} seconds */
export const duration = (seconds) => (seconds == null || !Number.isFinite(seconds) ? '–' : seconds > 0 && seconds < 1 ? t('unit.less')
  : span(seconds).map(([n, unit]) => t(`unit.${unit}`, { n })).join(' '));

/** How long from one time to another: never «0 seconds». @param {number} from ms @param {number} to ms */
export const lengthOf = (from, to) => duration(Math.max(1, to - from) / 1000);
/** All words of a closed list. @param {string} group @returns {string[]} */
export const wordsOf = (group) => { void language.value; return Object.keys(texts).filter((k) => k.startsWith(`${group}.`)).map((k) => k.slice(group.length + 1)); };

/** How long ago. @param {string | number | null | undefined} time @param {number} [now] */
export function age(time, now = serverNow()) {
  const then = ms(time);
  return Number.isFinite(then) ? duration((now - then) / 1000) : '–';
}
