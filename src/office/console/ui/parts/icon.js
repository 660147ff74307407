// @ts-check
// Icons of our own: strokes on a grid of 24.
import { svg } from '../core/view.js';

/** @type {Record<string, string>} */
const PATHS = {
  board: 'M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z',
  events: 'M4 6h16M4 12h16M4 18h10',
  play: 'M7 5l12 7-12 7z',
  pause: 'M8 5v14M16 5v14',
  plan: 'M9 4L3 6.5v13L9 17l6 2.5 6-2.5v-13L15 6.5zM9 4v13M15 6.5v13',
  people: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M16 5a3 3 0 0 1 0 6M18 14.500c2 .6 3.2 2.5 3.5 5',
  audit: 'M6 3h9l4 4v14H6zM15 3v4h4M9 12h7M9 16h7',
  retention: 'M4 7c0-2 3.6-3 8-3s8 1 8 3-3.6 3-8 3-8-1-8-3zM4 7v10c0 2 3.6 3 8 3s8-1 8-3V7M4 12c0 2 3.6 3 8 3s8-1 8-3',
  lock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3',
  settings: 'M4 7h10M18 7h2M4 17h2M10 17h10M16 9.500a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM8 19.500a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z',
  menu: 'M4 6h16M4 12h16M4 18h16',
  close: 'M6 6l12 12M18 6L6 18',
  signout: 'M14 4h5v16h-5M4 12h11M11 8l4 4-4 4',
  camera: 'M3 7h11v10H3zM14 10.500l6-3v9l-6-3',
  gap: 'M4 5v14M20 5v14M8 12h1M12 12h.5M15.5 12h1',
  clock: 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2',
  card: 'M6 3h8l4 4v14H6zM9 7v3M12 7v3',
  up: 'M12 19V6M6 11l6-6 6 6',
  sim: 'M5 20v-4M10 20v-8M15 20V8M20 20V4',
  previous: 'M17 6l-8 6 8 6zM7 6v12',
  next: 'M7 6l8 6-8 6zM17 6v12',
  left: 'M15 5l-7 7 7 7',
  right: 'M9 5l7 7-7 7',
  back10: 'M11 7L5 12l6 5zM19 7l-6 5 6 5z',
  forward10: 'M13 7l6 5-6 5zM5 7l6 5-6 5z',
  picture: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.500h.01',
  check: 'M4.5 12.500l5 5 10-11',
  purpose: 'M12 3l8 3v6c0 5-3.5 7.8-8 9-4.5-1.2-8-4-8-9V6z',
  plus: 'M12 5v14M5 12h14',
  minus: 'M5 12h14',
  search: 'M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5',
  table: 'M4 5h16v14H4zM4 10h16M4 14.500h16M10 10v9',
  sound: 'M4 10v4h4l5 4V6L8 10zM16.5 9a4 4 0 0 1 0 6M18.8 6.500a8 8 0 0 1 0 11',
  mute: 'M4 10v4h4l5 4V6L8 10zM17 10l4 4M21 10l-4 4',
  skip: 'M4 7l6 5-6 5zM14 6v12M20 6v12',
  full: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
};

/** The four states of a site: each has its own shape. @type {Record<string, string>} */
const SHAPES = {
  ok: 'M8 2.200a5.8 5.8 0 1 1 0 11.600A5.8 5.8 0 0 1 8 2.200z',
  warn: 'M8 1.500l7 12.800H1z',
  fault: 'M2 2h12v12H2z',
  unknown: 'M8 1.500L14.5 8 8 14.5 1.5 8z',
};

/** @param {string} name */
export const icon = (name) => svg`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d="${PATHS[name] ?? ''}"/></svg>`;
/** @param {string} state */
export const shape = (state) => svg`<svg class="shape shape-${state}" viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d="${SHAPES[state] ?? SHAPES.unknown}"/></svg>`;
