// @ts-check
// What every page shares: who is logged in, the sites, the stream's state, what the stream brings.
import { computed, signal } from './view.js';
import * as api from './api.js';
import { openStream } from './stream.js';
import { can, canAt, purposeNow } from './rights.js';
import { serverNow, setServerNow, setZone } from './time.js';

/** @type {import('./view.js').Signal<import('./rights.js').Me | null>} */
export const me = signal(/** @type {any} */ (null));
export const office = signal(/** @type {any} */ ({}));
/** @type {import('./view.js').Signal<any[]>} */
export const sites = signal(/** @type {any[]} */ ([]));
export const sitesState = signal(/** @type {'loading' | 'ready' | 'failed'} */ ('loading'));
export const streamState = signal(/** @type {'open' | 'waiting' | 'ended'} */ ('ended'));
/** Counts resets: a page that shows lists loads them again when it changes. */
export const resets = signal(0);
/** The second of the page: ages follow it. */
export const tick = signal(0);
/** Set when footage was asked for without a purpose. */
export const purposeWanted = signal(false);

export const purpose = computed(() => { void tick.value; return purposeNow(me.value, serverNow()); });
export const allowed = (/** @type {string} */ right) => can(me.value, right);
export const allowedAt = (/** @type {string} */ right, /** @type {string} */ site) => canAt(me.value, right, site);
export const siteOf = (/** @type {string} */ site) => sites.value.find((s) => s.site === site);

/** @type {Set<(type: string, data: any) => void>} */ const listeners = new Set();
/** @param {(type: string, data: any) => void} fn @returns {() => void} */
export function onStream(fn) { listeners.add(fn); return () => listeners.delete(fn); }

export async function loadOffice() {
  office.value = await api.get('/state', { quiet: true });
  if (office.value.time_zone) setZone(office.value.time_zone);
}
/** Whether there is a session at all, as far as the office says it. */
export const mayHaveSession = () => office.peek().session !== false;
export async function loadMe() { me.value = await api.get('/me', { quiet: true }); }
let asking = false;
/** Rights hang on groups: a site that is new, or has another group, needs them read again. @param {{site: string, group?: string}[]} seen */
function followGroups(seen) {
  const known = me.peek()?.sites;
  if (asking || !known || seen.every((s) => known[s.site] === (s.group ?? ''))) return;
  asking = true;
  loadMe().catch(() => null).finally(() => { asking = false; });
}
export async function loadSites() {
  try {
    const answer = await api.get('/sites');
    setServerNow(answer.now);
    sites.value = answer.sites;
    sitesState.value = 'ready';
    followGroups(answer.sites);
  } catch { if (sitesState.peek() !== 'ready') sitesState.value = 'failed'; }
}

/** @type {(() => void) | null} */ let close = null;
export function startStream(/** @type {() => void} */ unauthorized) {
  stopStream();
  close = openStream(`${api.BASE}/stream`, {
    event(type, data) {
      if (type === 'site') {
        const now = sites.peek();
        const at = now.findIndex((s) => s.site === data.site);
        sites.value = at < 0 ? [...now, data] : now.with(at, { ...now[at], ...data });
        followGroups([data]);
      }
      for (const fn of [...listeners]) fn(type, data);
    },
    state(state) { streamState.value = state; },
    reset() { loadSites(); resets.value++; },
    unauthorized,
  });
}
export function stopStream() { close?.(); close = null; }
export function forget() {
  stopStream();
  me.value = null;
  sites.value = [];
  sitesState.value = 'loading';
}
