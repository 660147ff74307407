// Clips for the tests, drawn by ffmpeg, and the index of their fragments.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const haveFfmpeg = (() => { try { execFileSync('ffmpeg', ['-version'], { stdio: 'ignore' }); return true; } catch { return false; } })();

/** Draws a clip once. `codec`: h264 or hevc; `sound`: aac, pcm_alaw or none. */
export function makeClip(dir, name, { size = '640x360', seconds = 60, codec = 'libx264', sound = '', rate = '500k', fps = 25 }) {
  mkdirSync(dir, { recursive: true });
  const path = join(dir, `${name}.mp4`);
  if (!existsSync(path)) {
    const args = ['-v', 'error', '-y', '-f', 'lavfi', '-i', `testsrc2=size=${size}:rate=${fps}`, ...(sound ? ['-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=8000'] : []), '-t', String(seconds),
      '-c:v', codec, '-preset', 'ultrafast', '-b:v', rate, '-g', String(fps), '-bf', '0', '-pix_fmt', 'yuv420p', ...(codec === 'libx265' ? ['-tag:v', 'hvc1', '-x265-params', 'log-level=error'] : ['-sc_threshold', '0']), ...(sound ? ['-c:a', sound] : []),
      '-movflags', 'frag_keyframe+empty_moov+default_base_moof', path];
    execFileSync('ffmpeg', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  }
  return readFileSync(path);
}

function* boxes(bytes, from, to) {
  for (let at = from; at + 8 <= to;) {
    const size = bytes.readUInt32BE(at);
    yield { type: bytes.toString('latin1', at + 4, at + 8), at, size, body: at + 8, end: at + size };
    at += size;
  }
}
const child = (bytes, box, ...path) => path.reduce((b, type) => [...boxes(bytes, b.body + (type === 'skip' ? 0 : 0), b.end)].find((x) => x.type === type), box);

/** The index as the office gives it. `wall`: ms of the first picture. */
export function indexOf(bytes, wall, codecs) {
  const top = [...boxes(bytes, 0, bytes.length)];
  const first = top.findIndex((b) => b.type === 'moof');
  const moov = top.find((b) => b.type === 'moov');
  const mdhd = child(bytes, [...boxes(bytes, moov.body, moov.end)].find((b) => b.type === 'trak'), 'mdia', 'mdhd');
  const scale = bytes.readUInt32BE(mdhd.body + (bytes[mdhd.body] === 1 ? 20 : 12));
  const fragments = [];
  for (let i = first; i < top.length - 1; i += 2) {
    const [moof, mdat] = [top[i], top[i + 1]];
    if (moof.type !== 'moof' || mdat?.type !== 'mdat') break;
    const traf = [...boxes(bytes, moof.body, moof.end)].find((b) => b.type === 'traf');
    const tfdt = child(bytes, traf, 'tfdt');
    const media = bytes[tfdt.body] === 1 ? Number(bytes.readBigUInt64BE(tfdt.body + 4)) : bytes.readUInt32BE(tfdt.body + 4);
    fragments.push({ offset: moof.at, length: mdat.end - moof.at, media_us: Math.round((media * 1e6) / scale), key: true });
  }
  fragments.forEach((f, i) => {
    f.duration_us = i + 1 < fragments.length ? fragments[i + 1].media_us - f.media_us : 1e6;
    f.wall_us = wall * 1000 + f.media_us;
  });
  return { codecs, init: { offset: 0, length: top[first].at }, fragments, gaps: [], clock: 'ntp', sha256: '0'.repeat(64), video_only_init: null };
}
