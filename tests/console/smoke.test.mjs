// The console of a real `taimat demo` in Debian's chromium: log-in by the link, board, events, a clip that plays.
// TAIMAT_DEMO=/path/to/taimat (target/debug/taimat without it); TAIMAT_SHOTS=dir keeps pictures of the pages.
import assert from 'node:assert/strict';
import test from 'node:test';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { browserFaults, light, strangers } from './ui/looks.mjs';
import { haveBrowser, openBrowser, sleep } from './ui/webdriver.mjs';
import { unknownGlyphs } from './journeys/steps.mjs';

const root = new URL('../..', import.meta.url).pathname;
const shots = process.env.TAIMAT_SHOTS ?? '';
/** Three sites, their first events and clips take half of it on two cores. */
const SECONDS = 150;
if (shots) mkdirSync(shots, { recursive: true });

/** A demo, with what it printed. */
function startDemo() {
  const out = mkdtempSync(join(tmpdir(), 'taimat-smoke-'));
  const demo = spawn(process.env.TAIMAT_DEMO ?? join(root, 'target/debug/taimat'), ['demo', '--for', `${SECONDS}s`, '--out', out], { stdio: ['ignore', 'pipe', 'pipe'] });
  const found = { demo, out, printed: '', logged: '', ended: false };
  demo.stdout.on('data', (bytes) => { found.printed += bytes; });
  demo.stderr.on('data', (bytes) => { found.logged += bytes; });
  demo.on('exit', () => { found.ended = true; });
  return found;
}

/** Waits until the demo has printed something. */
async function printed(found, pattern, ms) {
  for (const end = Date.now() + ms; ;) {
    const hit = pattern.exec(found.printed);
    if (hit) return hit;
    assert.ok(!found.ended && Date.now() < end, `no ${pattern} in\n${found.printed}\n${found.logged.slice(-2000)}`);
    await sleep(100);
  }
}

test('the demo is watched in a browser', { skip: haveBrowser ? false : 'no chromium', timeout: 220000 }, async () => {
  const found = startDemo();
  let browser;
  try {
    const [, link] = await printed(found, /console: .*?(http:\/\/127\.0\.0\.1:\d+\/#\/demo\/\S+)/, 60000);
    const { origin } = new URL(link);
    browser = await openBrowser({ watchRequests: true });
    const shot = async (name) => { if (shots) await browser.shot(join(shots, `${name}.png`)); };
    await browser.go(link);
    await browser.until('location.hash === "#/" || location.hash === "#/board"', 15000, 'the log-in by the link');
    await browser.until('document.querySelectorAll(".tile").length === 3', 15000, 'three sites');
    await browser.until('document.querySelectorAll(".tile-ok, .tile-warn").length === 3', 20000, 'three sites that record');
    await browser.until('[...document.querySelectorAll(".tile img")].filter((i) => i.naturalWidth > 0).length === 3', 90000, 'a picture of each site');
    await shot('board');
    assert.deepEqual(await unknownGlyphs(browser), [], 'every character of both languages has a glyph');

    const events = () => browser.runAsync('const done = arguments[0]; fetch("/api/v1/motion-events?limit=50").then((r) => r.json()).then((b) => done(b.events), () => done([]))');
    let clips = [];
    for (const end = Date.now() + 90000; clips.length < 3 && Date.now() < end; await sleep(500)) {
      clips = [...new Map((await events()).filter((e) => e.clip !== null).map((e) => [e.site, e])).values()];
    }
    assert.equal(clips.length, 3, `each site has an event with a clip: ${clips.map((e) => e.site)}\n${found.printed}`);
    await browser.go(`${origin}/#/events`);
    await browser.until('document.querySelectorAll(".virtual-row").length >= 3', 10000, 'the events');
    await browser.until('document.querySelector(".virtual-row img")?.naturalWidth > 0', 10000, 'a picture of an event');
    await shot('events');

    for (const { site, id } of clips) {
      await browser.go(`${origin}/#/events/${site}/${id}`);
      // A slow machine skips pictures at the start: then the place where the player begins is a gap, and n leaves it.
      await browser.until('["video", "gap"].includes(document.querySelector(".screen")?.dataset.kind)', 15000, `the player of ${site}`);
      if (await browser.run('return document.querySelector(".screen").dataset.kind === "gap"')) await browser.key('n');
      await browser.until(`document.querySelector('.screen[data-site="${site}"]')?.dataset.kind === 'video'`, 15000, `the clip of ${site}`);
      const time = () => browser.run('return document.querySelector("video").currentTime');
      const before = await time();
      await browser.run('document.querySelector(".play").click()');
      for (const end = Date.now() + 10000; (await time()) < before + 1.5; await sleep(100)) assert.ok(Date.now() < end, `the clip of ${site} does not move`);
      const { mean, spread } = await light(browser, 'video');
      console.log(`${site}: mean ${mean}, spread ${spread}`);
      assert.ok(mean > 8 && spread > 4, `the picture of ${site} is black: mean ${mean}, spread ${spread}`);
      await shot(`clip-${site}`);
    }
    for (const page of [`sites/${clips[0].site}`, 'playback', 'plan', 'locks', 'retention', 'people', 'settings']) {
      await browser.go(`${origin}/#/${page}`);
      await browser.until('document.querySelector("h1") && !document.querySelector(".waiting")', 10000, page);
      await sleep(700);
      await shot(page.replace('/', '-'));
    }
    assert.deepEqual(await browserFaults(browser), [], 'no fault in the browser');
    assert.deepEqual(await strangers(browser, origin), [], 'no request to another host');
  } catch (error) {
    if (browser && shots) await browser.shot(join(shots, 'failed.png')).catch(() => null);
    console.log(found.printed);
    throw error;
  } finally {
    await browser?.close();
    if (!found.ended) {
      found.demo.kill('SIGINT');
      for (let i = 0; i < 100 && !found.ended; i++) await sleep(100);
      if (!found.ended) found.demo.kill('SIGKILL');
    }
    rmSync(found.out, { recursive: true, force: true });
  }
});
