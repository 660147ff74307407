// @ts-check
// Paths behind «#»: nothing of them reaches the server or its log, so one-time links are safe in them.
import { signal } from './view.js';

/** @typedef {{path: string, parts: string[], query: URLSearchParams}} Route */

/** @param {string} hash @returns {Route} */
export function parseHash(hash) {
  const [path, search = ''] = hash.replace(/^#/, '').split('?', 2);
  const parts = path.split('/').filter(Boolean).map((p) => { try { return decodeURIComponent(p); } catch { return p; } });
  return { path: `/${parts.map(encodeURIComponent).join('/')}`, parts, query: new URLSearchParams(search) };
}

/**
 * Finds a route: `/events/:site/:id`.
 * @template T
 * @param {[string, T][]} table @param {string[]} parts
 * @returns {{target: T, params: Record<string, string>} | null}
 */
export function match(table, parts) {
  for (const [pattern, target] of table) {
    const want = pattern.split('/').filter(Boolean);
    if (want.length !== parts.length) continue;
    /** @type {Record<string, string>} */ const params = {};
    if (want.every((w, i) => (w.startsWith(':') ? ((params[w.slice(1)] = parts[i]), true) : w === parts[i]))) return { target, params };
  }
  return null;
}

export const route = signal(parseHash(typeof location === 'undefined' ? '' : location.hash));
/** @type {(() => boolean) | null} */ let mayLeave = null;
/** Asks before another page is opened; the answer ends that. @param {() => boolean} ask whether the page may go */
export function guardLeave(ask) {
  mayLeave = ask;
  return () => { if (mayLeave === ask) mayLeave = null; };
}
if (typeof addEventListener !== 'undefined') {
  addEventListener('hashchange', (event) => {
    if (mayLeave && !mayLeave()) {
      event.stopImmediatePropagation();
      history.pushState(null, '', new URL(event.oldURL).hash);
      return;
    }
    route.value = parseHash(location.hash);
  });
}

/** @param {string} path @param {Record<string, any>} [values] */
export function href(path, values = {}) {
  const search = new URLSearchParams(Object.entries(values).filter(([, v]) => v !== '' && v != null).map(([k, v]) => [k, String(v)])).toString();
  return `#${path}${search ? `?${search}` : ''}`;
}
/** @param {string} path @param {Record<string, any>} [values] */
export function go(path, values) { location.hash = href(path, values); }
/** Changes the address without a new page. @param {string} path @param {Record<string, any>} values */
export function replace(path, values) { history.replaceState(null, '', href(path, values)); }

const KEPT = 'taimat.place';
/** Remembers where the user was, for after the log-in. */
export function keepPlace() {
  if (!/^#\/(login|first-admin|demo|reset)/.test(location.hash)) sessionStorage.setItem(KEPT, location.hash);
}
export function takePlace() {
  const kept = sessionStorage.getItem(KEPT);
  sessionStorage.removeItem(KEPT);
  return kept && kept.startsWith('#/') ? kept : '#/board';
}
