// @ts-check
// Which way a file is shown in this browser: decided by the exact codec string. Pure.

/** @typedef {{track: string, codec: string, width?: number, height?: number}} Track */
/** @typedef {{way: 'mse', mime: string, tracks: 'all' | 'video', soundLost: string | null} | {way: 'pictures', codec: string}} Way */

/** @param {Track[]} codecs @param {string} kind */
const find = (codecs, kind) => codecs.find((c) => c.track === kind)?.codec ?? null;
/** @param {...(string | null)} codecs */
export const mimeOf = (...codecs) => `video/mp4; codecs="${codecs.filter(Boolean).join(', ')}"`;

/**
 * @param {Track[]} codecs of the whole file
 * @param {boolean} sound whether sound is wanted and allowed
 * @param {(mime: string) => boolean} supports `MediaSource.isTypeSupported`
 * @returns {Way}
 */
export function decide(codecs, sound, supports) {
  const video = find(codecs, 'video');
  const audio = find(codecs, 'audio');
  if (!video || !supports(mimeOf(video))) return { way: 'pictures', codec: video ?? 'none' };
  if (!audio) return { way: 'mse', mime: mimeOf(video), tracks: 'all', soundLost: null };
  // alaw, ulaw and what else MP4 can name but no browser plays: the rest of the file plays without it.
  const playable = supports(mimeOf(video, audio));
  if (sound && playable) return { way: 'mse', mime: mimeOf(video, audio), tracks: 'all', soundLost: null };
  return { way: 'mse', mime: mimeOf(video), tracks: 'video', soundLost: playable ? null : audio };
}
