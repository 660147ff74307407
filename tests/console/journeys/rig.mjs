// A whole chain for journeys in a browser: Mosquitto, the real office with its console, real agents, and cameras that GStreamer
// serves from files drawn by ffmpeg. Everything is on loopback and in one temporary directory, and ends with `close`.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, sleep } from '../ui/webdriver.mjs';

export const ROOT = new URL('../../..', import.meta.url).pathname;
const TAIMAT = process.env.TAIMAT_DEMO ?? join(ROOT, 'target/debug/taimat');
const has = (program) => { try { execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore', env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } }); return true; } catch { return false; } };
const hasRtsp = () => { try { execFileSync('/usr/bin/python3', ['-c', 'import gi; gi.require_version("GstRtspServer", "1.0"); from gi.repository import GstRtspServer'], { stdio: 'ignore' }); return true; } catch { return false; } };
/** What this machine lacks for the chain; empty if nothing. */
export const missing = () => [existsSync(TAIMAT) ? '' : `${TAIMAT}`, has('mosquitto') ? '' : 'mosquitto', has('ffmpeg') ? '' : 'ffmpeg', hasRtsp() ? '' : 'GStreamer\'s RTSP server'].filter(Boolean).join(', ');
/** Load of the machine over the last minute: stands beside each figure. */
export const load = async () => `load ${(await readFile('/proc/loadavg', 'utf8')).split(' ')[0]}`;

/** Waits for something that is not in a browser. */
export async function waitFor(what, ms, test) {
  for (const end = Date.now() + ms; ; await sleep(100)) {
    const found = await test();
    if (found) return found;
    assert.ok(Date.now() < end, `waited ${ms} ms for ${what}`);
  }
}
const listens = (port) => new Promise((done) => { const s = connect(port, '127.0.0.1', () => { s.destroy(); done(true); }); s.on('error', () => done(false)); });

/** What ffmpeg draws: `moving` is a still ground that something crosses in seconds 14 to 19 of each 30. Without noise a camera counts
 * as frozen, without a texture as covered. */
const DRAWN = {
  test: (size, rate) => ['-f', 'lavfi', '-i', `testsrc2=size=${size}:rate=${rate}`],
  moving: (size, rate) => {
    const [w, h] = size.split('x').map(Number);
    const x = `if(between(mod(t,30),14,19),-w+(W+w)*(mod(t,30)-14)/5,-w)`;
    return ['-f', 'lavfi', '-i', `smptehdbars=size=${size}:rate=${rate},eq=saturation=0.3:contrast=0.6,format=yuv420p`,
      '-f', 'lavfi', '-i', `color=c=0x101010:size=${Math.round(w / 5) & ~1}x${Math.round(h / 4) & ~1}:rate=${rate}`, '-filter_complex', `[0][1]overlay=x='${x}':y=H*0.55:eval=frame,noise=alls=3:allf=t`];
  },
};
/** Draws `seconds` once, and repeats them to ten minutes without drawing them again. */
function film(dir, name, { draw = 'test', size, seconds = 20, rate, codec = 'libx264', sound = false, fps = 25 }) {
  const once = join(dir, `${name}-once.mp4`);
  const path = join(dir, `${name}.mp4`);
  if (!existsSync(path)) {
    const parts = codec === 'libx265' ? ['-x265-params', 'log-level=error:keyint=25:min-keyint=25:bframes=0:pools=1'] : ['-sc_threshold', '0'];
    const ffmpeg = (args) => execFileSync('nice', ['ffmpeg', '-v', 'error', '-y', ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
    ffmpeg([...DRAWN[draw](size, fps), ...(sound ? ['-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=8000'] : []), '-t', String(seconds), '-c:v', codec, '-preset', 'ultrafast',
      '-b:v', rate, '-g', String(fps), '-bf', '0', '-pix_fmt', 'yuv420p', ...parts, ...(sound ? ['-c:a', 'pcm_alaw', '-ac', '1'] : []), '-f', sound ? 'mov' : 'mp4', once]);
    ffmpeg(['-stream_loop', String(Math.ceil(600 / seconds)), '-i', once, '-c', 'copy', '-t', '600', '-f', sound ? 'mov' : 'mp4', path]);
    rmSync(once);
  }
  return path;
}

/** Starts broker, cameras and office. */
export async function startRig() {
  const dir = mkdtempSync(join(tmpdir(), 'taimat-journeys-'));
  const films = join(tmpdir(), 'taimat-journey-films');
  const logs = process.env.TAIMAT_SHOTS ?? dir;
  mkdirSync(films, { recursive: true });
  mkdirSync(logs, { recursive: true });
  const [port, rtsp] = [await freePort(), await freePort()];
  const running = new Set();
  const start = (name, program, args) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: dir, env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin`, TAIMAT_LOG: 'info' } });
    const one = { child, printed: '', ended: false, name, /** Called with each line of stdout. @type {(line: string) => void} */ line() {} };
    const file = createWriteStream(join(logs, `${name}.log`), { flags: 'a' });
    child.stderr.pipe(file, { end: false });
    child.stdout.on('data', (bytes) => { one.printed += bytes; file.write(bytes); for (const line of String(bytes).split('\n')) if (line) one.line(line); });
    child.on('exit', () => { one.ended = true; running.delete(one); });
    running.add(one);
    return one;
  };
  const stop = async (one, signal = 'SIGTERM', ms = 10000) => {
    if (one.ended) return;
    one.child.kill(signal);
    for (const end = Date.now() + ms; !one.ended && Date.now() < end;) await sleep(50);
    if (!one.ended) one.child.kill('SIGKILL');
  };
  // A test that is killed leaves nothing behind: agents and office would go on for ever.
  const end = () => { for (const one of running) one.child.kill('SIGKILL'); rmSync(dir, { recursive: true, force: true }); };
  process.once('exit', end);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.once(signal, () => process.exit(1));
  const close = async () => {
    process.removeListener('exit', end);
    // The office last but one, the broker last: no log of a lost connection hides another fault.
    for (const one of [...running].reverse()) await stop(one);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    writeFileSync(join(dir, 'mosquitto.conf'), `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n`);
    start('mosquitto', 'mosquitto', ['-c', join(dir, 'mosquitto.conf')]);
    await waitFor('mosquitto', 10000, () => listens(port));
    const made = {
      road: film(films, 'road', { draw: 'moving', size: '640x360', seconds: 30, rate: '600k' }),
      small: film(films, 'road-small', { draw: 'moving', size: '320x180', seconds: 30, rate: '200k', fps: 10 }),
      sound: film(films, 'sound', { size: '640x360', rate: '500k', sound: true }),
      h265: film(films, 'h265', { size: '640x360', rate: '500k', codec: 'libx265' }),
      p360: film(films, 'p360', { size: '640x360', rate: '500k' }),
      p1080: film(films, 'p1080', { size: '1920x1080', rate: '2M' }),
    };
    const streams = [['road', 'h264', 'none'], ['small', 'h264', 'none'], ['sound', 'h264', 'pcma'], ['h265', 'h265', 'none'], ['p360', 'h264', 'none'], ['p1080', 'h264', 'none']];
    const cameras = start('cameras', '/usr/bin/python3', [join(ROOT, 'tests/peers/gst_rtsp.py'), String(rtsp), ...streams.map(([n, v, a]) => `${n},${made[n]},${v},${a}`)]);
    await waitFor('the cameras', 20000, () => cameras.printed.includes('ready'));
    const archive = join(dir, 'archive');
    const startOffice = async () => {
      const office = start('office', TAIMAT, ['office', 'run', '--dir', archive, '--broker', '127.0.0.1', '--port', String(port), '--web', '127.0.0.1:0']);
      const [, origin] = await waitFor('the console', 30000, () => { assert.ok(!office.ended, office.printed); return /console: (http:\/\/127\.0\.0\.1:\d+)\//.exec(office.printed); });
      return { office, origin };
    };
    const { office, origin } = await startOffice();
    const taimat = (...args) => new Promise((done) => { execFile(TAIMAT, args, { cwd: dir, env: { ...process.env, TAIMAT_LOG: 'error' } }, (error, stdout, stderr) => done({ code: error?.code ?? 0, stdout, stderr })); });
    return {
      dir, logs, office, origin, archive, port, close, stop, taimat,
      /** Starts the agent of a site: `main` and `sub` are names of streams. */
      agent(site, main, { sub = '', motion = false } = {}) {
        writeFileSync(join(dir, `${site}.toml`), `site = "${site}"\n[camera]\nmain_url = "rtsp://127.0.0.1:${rtsp}/${main}"\n${sub ? `sub_url = "rtsp://127.0.0.1:${rtsp}/${sub}"\n` : ''}[storage]\ndir = "ring-${site}"\nrequire_mount = false\nbudget = "96 MiB"\nsegment = "8 MiB"\n[motion]\nenabled = ${motion}\nfps = 5\ncpu = 100\n[uplink]\nhost = "127.0.0.1"\nport = ${port}\nhealth_every = "5 s"\n`);
        return start(site, TAIMAT, ['run', '--config', `${site}.toml`]);
      },
      /** Asks for a past range of a site, ms. */
      clipGet: (site, from, to) => taimat('office', 'cmd', '--broker', '127.0.0.1', '--port', String(port), site, 'clip-get', `from=${new Date(from).toISOString()}`, `to=${new Date(to).toISOString()}`),
    };
  } catch (error) { await close(); throw error; }
}
