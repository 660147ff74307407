// @ts-check
// Times: RFC 3339 UTC on the wire, dd/MM/yyyy HH:mm:ss in the office's zone on the page.

let zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
/** @type {Intl.DateTimeFormat | null} */ let format = null;
/** The server's clock minus this computer's. */
let offset = 0;

/** @param {string} name IANA name */
export function setZone(name) {
  try { new Intl.DateTimeFormat('en-GB', { timeZone: name }); zone = name; format = null; } catch { /* an unknown zone: this computer's stays */ }
}
/** @param {string | undefined} now the server's time */
export function setServerNow(now) {
  const t = Date.parse(now ?? '');
  if (Number.isFinite(t)) offset = t - Date.now();
}
export const serverNow = () => Date.now() + offset;

/** @param {number} ms */
export function parts(ms) {
  format ??= new Intl.DateTimeFormat('en-GB', {
    timeZone: zone, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit',
  });
  /** @type {Record<string, string>} */ const found = {};
  for (const { type, value } of format.formatToParts(ms)) found[type] = value;
  return found;
}

/** @param {string | number | null | undefined} time @returns {number} milliseconds or NaN */
export const ms = (time) => (typeof time === 'number' ? time : Date.parse(time ?? ''));

/** dd/MM/yyyy HH:mm:ss @param {string | number | null | undefined} time */
export function dateTime(time) {
  const t = ms(time);
  if (!Number.isFinite(t)) return '–';
  const p = parts(t);
  return `${p.day}/${p.month}/${p.year} ${p.hour}:${p.minute}:${p.second}`;
}
/** dd/MM/yyyy @param {string | number | null | undefined} time */
export const date = (time) => dateTime(time).split(' ')[0];
/** HH:mm:ss @param {string | number | null | undefined} time */
export const clock = (time) => dateTime(time).split(' ')[1] ?? '–';
/** HH:mm:ss,t with tenths @param {number} t */
export const clockTenths = (t) => (Number.isFinite(t) ? `${clock(t)},${Math.floor((((t % 1000) + 1000) % 1000) / 100)}` : '–');

/** The zone's distance from UTC. @param {number} at */
export function zoneOffset(at) {
  const p = parts(at);
  return Date.UTC(+p.year, +p.month - 1, +p.day, +p.hour, +p.minute, +p.second) - Math.floor(at / 1000) * 1000;
}
/** «UTC+7» @param {number} [at] */
export function zoneName(at = serverNow()) {
  const minutes = Math.round(zoneOffset(at) / 60000);
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? '−' : '+'}${Math.floor(Math.abs(minutes) / 60)}${rest ? `:${String(rest).padStart(2, '0')}` : ''}`;
}

/**
 * Reads dd/MM/yyyy, dd/MM/yyyy HH:mm or with seconds, in the office's zone.
 * @param {string} text
 * @returns {number | null}
 */
export function parseLocal(text) {
  const m = /^\s*(\d{1,2})\/(\d{1,2})\/(\d{4})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?\s*$/.exec(text);
  if (!m) return null;
  const [day, month, year, hour, minute, second] = m.slice(1).map((v) => Number(v ?? 0));
  const utc = Date.UTC(year, month - 1, day, hour, minute, second);
  const back = new Date(utc);
  if (back.getUTCDate() !== day || back.getUTCMonth() !== month - 1 || hour > 23 || minute > 59 || second > 59) return null;
  const first = utc - zoneOffset(utc);
  return utc - zoneOffset(first);
}

/** Midnight before a time, in the office's zone. @param {number} t */
export function startOfDay(t) {
  const p = parts(t);
  return /** @type {number} */ (parseLocal(`${p.day}/${p.month}/${p.year}`));
}
export const iso = (/** @type {number} */ t) => new Date(t).toISOString();

/**
 * A span in its largest two units: `[[2,'h'],[5,'min']]`.
 * @param {number} seconds
 * @returns {[number, 's' | 'min' | 'h' | 'd'][]}
 */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return [[s, 's']];
  if (s < 3600) return [[Math.floor(s / 60), 'min'], ...(s < 600 && s % 60 ? [/** @type {[number, 's']} */ ([s % 60, 's'])] : [])];
  if (s < 86400) return [[Math.floor(s / 3600), 'h'], ...(s % 3600 >= 60 ? [/** @type {[number, 'min']} */ ([Math.floor((s % 3600) / 60), 'min'])] : [])];
  return [[Math.floor(s / 86400), 'd'], ...(s % 86400 >= 3600 ? [/** @type {[number, 'h']} */ ([Math.floor((s % 86400) / 3600), 'h'])] : [])];
}
