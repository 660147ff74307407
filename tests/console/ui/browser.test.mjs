// Every page in Debian's chromium by WebDriver, against the drawn office. Skipped where there is no chromedriver.
// TAIMAT_AXE=/path/to/axe.min.js adds the accessibility rules; TAIMAT_SHOTS=dir keeps pictures of every page.
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startMock } from './mock_server.mjs';
import { haveFfmpeg, makeClip } from './mock_clips.mjs';
import { accessibility, browserFaults, fitFaults } from './looks.mjs';
import { haveBrowser, openBrowser, sleep } from './webdriver.mjs';

const axe = process.env.TAIMAT_AXE ? readFileSync(process.env.TAIMAT_AXE, 'utf8') : '';
const shots = process.env.TAIMAT_SHOTS ?? '';
const skip = haveBrowser ? false : 'no chromedriver';
const skipClips = skip || (haveFfmpeg ? false : 'no ffmpeg');
const PAGES = ['board', 'events', 'sites/km-17', 'playback', 'plan', 'locks', 'audit', 'retention', 'people', 'settings'];
const LOOKS = [[1280, 900, 'vi', 'dark'], [1280, 900, 'en', 'light'], [640, 450, 'vi', 'light'], [390, 844, 'en', 'dark'], [320, 640, 'vi', 'dark']];
const dutyPurpose = () => ({ kind: 'duty', until: new Date(Date.now() + 4 * 3600e3).toISOString() });
if (shots) mkdirSync(shots, { recursive: true });

/** What axe finds; looked at after all pages. @type {string[]} */ const faulty = [];
/** @type {any} */ let browser;
before(async () => { if (!skip) browser = await openBrowser(); });
after(async () => { await browser?.close(); });

/** Opens a page. */
async function open(mock, path, [w, h, lang, theme] = LOOKS[0]) {
  await browser.size(w, h);
  await browser.go(`${mock.origin}/ui/icon.svg`);
  await browser.run('localStorage.setItem("taimat.language", arguments[0]); localStorage.setItem("taimat.language.u7", arguments[0]); localStorage.setItem("taimat.theme", arguments[1]); sessionStorage.clear()', lang, theme);
  await browser.go(`${mock.origin}/#/${path}`);
  await browser.until('document.querySelector("h1") && !document.querySelector(".waiting")', 15000, `${path} to be there`);
}
/** Leaves the page before the office goes, so that no request of one test fails in the next. */
async function leave(mock) {
  await browser.go('about:blank');
  await mock.close();
  await browser.logs();
}
async function accessible(what) {
  const found = await accessibility(browser, axe);
  if (found.length > 0) faulty.push(`${what}: ${found.join('\n   ')}`);
}

test('every page in every look: fits, no fault, accessible', { skip, timeout: 400000 }, async () => {
  const mock = await startMock();
  mock.state.purpose = dutyPurpose();
  const event = mock.state.events.find((e) => e.handled);
  try {
    await browser.logs();
    for (const look of LOOKS) {
      for (const page of [...PAGES, `events/${event.site}/${event.id}`]) {
        await open(mock, page, look);
        await sleep(250);
        const name = `${page} ${look.join(' ')}`;
        faulty.push(...(await fitFaults(browser)).map((fault) => `${name}: ${fault}`));
        await accessible(name);
        if (shots) await browser.shot(join(shots, `${name.replace(/[/ ~]/g, '_')}.png`));
        assert.deepEqual(await browserFaults(browser, /\/api\/v1\/tiles/), [], name);
      }
    }
    assert.equal(faulty.splice(0).join('\n'), '');
  } finally { await leave(mock); }
});

test('five wrong passwords lock with a time; then the place is kept', { skip, timeout: 60000 }, async () => {
  const mock = await startMock({ loggedIn: false });
  try {
    await open(mock, 'events');
    await browser.until('location.hash === "#/login"');
    await accessible('log-in');
    if (shots) await browser.shot(join(shots, 'login.png'));
    const attempt = (password) => browser.run(`const [name, pass] = document.querySelectorAll('input'); name.value = 'tran.van.b'; pass.value = arguments[0]; document.querySelector('form').requestSubmit();`, password);
    for (let i = 0; i < 5; i++) { await attempt('sai'); await browser.until('document.querySelector(".form-error").textContent !== "" && !document.querySelector("[type=submit]").disabled'); }
    await attempt('sai');
    await browser.until('/bị khoá đến \\d\\d:\\d\\d:\\d\\d/.test(document.querySelector(".notice-fault")?.textContent)');
    await accessible('locked');
    mock.state.failures = 0;
    await attempt('dung mat khau nay');
    await browser.until('location.hash === "#/events"');
    await browserFaults(browser);
  } finally { await leave(mock); }
});

test('a site turns red and an event appears by the stream', { skip, timeout: 60000 }, async () => {
  const mock = await startMock();
  mock.state.purpose = dutyPurpose();
  try {
    await open(mock, 'board');
    await browser.until('document.querySelectorAll(".tile").length === 9');
    const began = Date.now();
    mock.push('site', { ...mock.state.sites[0], state: 'fault', presence: 'lost', reason: { code: 'lost', args: { since: new Date().toISOString() } } });
    await browser.until('document.querySelectorAll(".tile-fault").length === 3', 3000);
    assert.ok(Date.now() - began < 1000);
    assert.match(await browser.run('return document.querySelector("[role=alert]").textContent'), /Ngã tư chợ: Hỏng\. Mất liên lạc từ/);
    await open(mock, 'events');
    await browser.until('document.querySelectorAll(".virtual-row").length > 5');
    mock.push('motion_event', { ...mock.state.events[0], id: 'new', start: new Date().toISOString(), snapshot: 's3' });
    await browser.until('document.querySelector("#events-km-17~new, [id=\\"events-km-17~new\\"]")?.textContent.includes("Ngã tư chợ")', 2000);
    const streams = mock.state.lastEventIds.length;
    for (const res of mock.state.streams) res.destroy();
    await browser.until('document.querySelector(".link-open")', 5000);
    for (let i = 0; i < 100 && mock.state.lastEventIds.length === streams; i++) await sleep(50);
    assert.equal(mock.state.lastEventIds.at(-1), '2', 'the last id is sent');
    await browserFaults(browser);
  } finally { await leave(mock); }
});

test('ten thousand rows scroll, and the keys work', { skip, timeout: 120000 }, async () => {
  const mock = await startMock({ events: 10500 });
  mock.state.purpose = dutyPurpose();
  try {
    await open(mock, 'events');
    await browser.until('document.querySelectorAll(".virtual-row").length > 5');
    await browser.key('j');
    await browser.key('j');
    await browser.until('document.querySelector(".virtual-row[aria-selected=true]")?.getAttribute("aria-posinset") === "2"');
    await browser.key('h');
    await browser.until('document.querySelector("dialog[open]")');
    await accessible('dialog');
    await browser.run('document.querySelector("dialog form").requestSubmit()');
    await browser.until('!document.querySelector("dialog") && document.querySelector(".virtual-row[aria-selected=true] .tag-real")');
    for (let i = 0; i < 130; i++) { await browser.run('const v = document.querySelector(".virtual"); v.scrollTop = v.scrollHeight'); await sleep(60); }
    await browser.until('document.querySelector(".virtual-space").offsetHeight === 760000', 30000, '10,000 rows');
    const step = await browser.runAsync(`const done = arguments[0]; const v = document.querySelector('.virtual'); const times = []; let i = 0;
      const go = () => { const t = performance.now(); v.scrollTop = (i * 7919 * 76) % 700000; requestAnimationFrame(() => setTimeout(() => { times.push(performance.now() - t); if (++i < 40) go(); else done({ rows: document.querySelectorAll('.virtual-row').length, median: times.sort((a, b) => a - b)[20] }); })); }; go();`);
    console.log('scroll step of 10,000 rows', step);
    assert.ok(step.rows < 60);
    await browser.key('\uE007');
    await browser.until('location.hash.startsWith("#/events/km-")');
    assert.deepEqual(await browserFaults(browser), []);
  } finally { await leave(mock); }
});

test('a search that finds nothing goes on to its end', { skip, timeout: 60000 }, async () => {
  const mock = await startMock({ events: 6000 });
  try {
    await open(mock, 'events');
    await browser.until('document.querySelectorAll(".virtual-row").length > 5');
    await browser.run(`const q = document.querySelector('[name=q]'); q.value = 'zz'; q.dispatchEvent(new Event('input', { bubbles: true }))`);
    const button = 'document.querySelector(".events-list .notice button")';
    await browser.until(`${button}?.textContent === "Tìm tiếp"`, 20000, 'it stops after so many requests');
    assert.match(await browser.run('return document.querySelector(".events-list .notice").textContent'), /Đã tìm ngược đến \d\d\/\d\d\/\d{4}/);
    await browser.run(`${button}.click()`);
    await browser.until('document.querySelector(".events-list .notice")?.textContent.startsWith("Không có sự kiện")', 20000);
    assert.deepEqual(await browserFaults(browser), []);
  } finally { await leave(mock); }
});

test('no footage is asked for before the purpose', { skip, timeout: 60000 }, async () => {
  const mock = await startMock();
  try {
    await open(mock, 'board');
    await sleep(500);
    assert.equal(mock.state.requests.filter((r) => r.includes('/files/')).length, 0);
    await browser.run('document.querySelector(".purpose").click()');
    await browser.until('document.querySelector("dialog[open] fieldset")');
    await accessible('purpose');
    if (shots) await browser.shot(join(shots, 'purpose.png'));
    await browser.run('document.querySelector("dialog input[value=case]").click()');
    await browser.until('document.querySelector("dialog input[name=case]")');
    await browser.run('document.querySelector("dialog input[name=case]").value = "2026-0031"; document.querySelector("dialog form").requestSubmit()');
    await browser.until('document.querySelector(".purpose b").textContent === "Vụ việc 2026-0031" && document.querySelector(".tile img")?.naturalWidth > 0');
    assert.deepEqual(await browserFaults(browser), []);
  } finally { await leave(mock); }
});

const avc = (codec) => [{ track: 'video', codec }];
for (const [count, size, codec, rate] of [[4, '1920x1080', 'avc1.42c028', '2M'], [9, '640x360', 'avc1.42c01e', '500k']]) {
  test(`${count} cameras of ${size} play in step`, { skip: skipClips, timeout: 180000 }, async () => {
    const bytes = makeClip(join(tmpdir(), 'taimat-ui-clips'), size, { size, seconds: 60, rate });
    const sites = ['km-17', 'km-19', 'km-21', 'km-23', 'km-25', 'km-27', 'km-29', 'km-31', 'km-33'].slice(0, count);
    const mock = await startMock({ clips: Object.fromEntries(sites.map((s) => [s, [{ bytes, codecs: avc(codec), from: -600000, seconds: 60 }]])) });
    mock.state.purpose = dutyPurpose();
    try {
      await open(mock, `playback?sites=${sites.join(',')}&at=${new Date(mock.state.now - 598000).toISOString()}`);
      await browser.until(`[...document.querySelectorAll('.screen')].every((s) => s.dataset.kind === 'video')`, 20000);
      await browser.run('document.querySelector(".play").click()');
      await sleep(Number(process.env.TAIMAT_SYNC_SECONDS ?? 20) * 1000);
      const found = await browser.run(`return { ...document.querySelector('.player').dataset, widths: [...document.querySelectorAll('video')].map((v) => v.videoWidth), times: [...document.querySelectorAll('video')].map((v) => v.currentTime) }`);
      const times = found.times.map((t) => Math.round((t - found.times[0]) * 1000));
      console.log(`${count} x ${size}:`, JSON.stringify({ ...found, widths: undefined, times }));
      assert.ok(found.widths.every((w) => w > 0));
      assert.ok(Number(found.p95Ms) <= 80, `p95 ${found.p95Ms} ms`);
      assert.ok(Number(found.seeks) <= count);
      await sleep(5500);
      assert.ok(new Set(mock.state.shown.map((s) => s.site)).size === count, 'what was shown is reported');
      assert.deepEqual(await browserFaults(browser), []);
    } finally { await leave(mock); }
  });
}

test('H.265 shows pictures, G.711 plays without sound, a gap says why', { skip: skipClips, timeout: 90000 }, async () => {
  const dir = join(tmpdir(), 'taimat-ui-clips');
  const short = makeClip(dir, 'short', { seconds: 10 });
  const aac = makeClip(dir, 'aac', { seconds: 10, sound: 'aac' });
  const mock = await startMock({
    gaps: { 'km-17': [{ from: -590000, to: -580000, reason: 'power_cut' }] },
    clips: {
      'km-17': [{ bytes: short, codecs: avc('avc1.42c01e'), from: -600000, seconds: 10 }, { bytes: short, codecs: avc('avc1.42c01e'), from: -580000, seconds: 10 }],
      'km-19': [{ bytes: short, codecs: avc('hvc1.1.6.L63.90'), from: -600000, seconds: 30 }],
      'km-23': [{ bytes: aac, videoOnly: short, codecs: [...avc('avc1.42c01e'), { track: 'audio', codec: 'alaw' }], from: -600000, seconds: 10 }],
    },
  });
  mock.state.purpose = dutyPurpose();
  try {
    await open(mock, `playback?sites=km-17,km-19,km-23&at=${new Date(mock.state.now - 595000).toISOString()}`);
    await browser.until(`[...document.querySelectorAll('.screen')].map((s) => s.dataset.kind).join() === 'video,pictures,video'`, 15000);
    await browser.until('document.querySelector("[data-site=km-19] img").naturalWidth > 0');
    await accessible('playback');
    await browser.run('document.querySelector(".play").click()');
    await browser.until('document.querySelector("[data-site=km-17]").dataset.kind === "gap"', 15000);
    assert.match(await browser.run('return document.querySelector("[data-site=km-17] .tile-card").textContent'), /Mất điện\d\d:\d\d:\d\d – \d\d:\d\d:\d\d/);
    assert.ok(await browser.run(`const r = document.querySelector('[data-site=km-17] .screen-picture').getBoundingClientRect(); return Boolean(document.elementFromPoint(r.left + 20, r.top + 20).closest('.tile-card'))`), 'the gap covers the last picture');
    if (shots) await browser.shot(join(shots, 'playback_gap.png'));
    await browser.key('n');
    await browser.until('document.querySelector("[data-site=km-17]").dataset.kind === "video"', 10000);
    await browser.run('document.querySelector("[data-site=km-17] [title^=Lưu]").click()');
    await browser.until('document.querySelector(".toast")?.textContent.includes("km-17_")');
    assert.deepEqual(await browserFaults(browser), []);
  } finally { await leave(mock); }
});

test('an event plays from its first picture to its clip\'s end', { skip: skipClips, timeout: 60000 }, async () => {
  const bytes = makeClip(join(tmpdir(), 'taimat-ui-clips'), 'short', { seconds: 10 });
  const mock = await startMock({ clips: { 'km-17': [{ bytes, codecs: avc('avc1.42c01e'), from: -600000, seconds: 12 }] } });
  mock.state.purpose = dutyPurpose();
  // The event begins a second after its clip, so three seconds before it there is nothing.
  mock.state.events.push({ ...mock.state.events[1], id: 'ev', site: 'km-17', start: new Date(mock.state.now - 599000).toISOString(), end: new Date(mock.state.now - 596000).toISOString(), clip: 'v0', snapshot: null });
  try {
    await open(mock, 'events/km-17/ev');
    await browser.until('document.querySelector(".screen").dataset.kind === "video"', 15000, 'the first picture');
    await browser.run('document.querySelector(".play").click()');
    await browser.until('document.querySelector(".play").getAttribute("aria-label") === "Dừng"');
    await browser.until('document.querySelector(".play").getAttribute("aria-label") === "Phát"', 30000, 'the end');
    assert.equal(await browser.run('return document.querySelector(".screen").dataset.kind'), 'video', 'the last picture stays');
    assert.deepEqual(await browserFaults(browser), []);
  } finally { await leave(mock); }
});

test('a dialog ends with its page; unsaved places are asked for', { skip, timeout: 60000 }, async () => {
  const mock = await startMock();
  mock.state.purpose = dutyPurpose();
  try {
    await open(mock, 'locks');
    await browser.run('document.querySelector("tbody .button").click()');
    await browser.until('document.querySelector("dialog[open]")');
    await browser.run('location.hash = "#/board"');
    await browser.until('!document.querySelector("dialog") && document.querySelector(".tile")');
    await open(mock, 'plan');
    await browser.run('document.querySelector("[data-place]").dispatchEvent(new MouseEvent("click", { bubbles: true }))');
    await browser.run('[...document.querySelectorAll("aside button")].find((b) => b.textContent.includes("Sửa vị trí")).click()');
    await browser.until('document.querySelector("aside input[type=number]")');
    await browser.run('const field = document.querySelector("aside input[type=number]"); field.value = 150; field.dispatchEvent(new Event("change"))');
    await browser.until('document.querySelector("aside input[type=number]").value === "100" && /0 đến 100/.test(document.querySelector(".toast")?.textContent)');
    await browser.run('window.asked = 0; window.confirm = () => { window.asked++; return window.asked > 1; }; location.hash = "#/board"');
    await browser.until('window.asked === 1 && location.hash === "#/plan" && document.querySelector("aside input[type=number]").value === "100"');
    await browser.run('location.hash = "#/board"');
    await browser.until('window.asked === 2 && document.querySelector(".tile")');
    assert.deepEqual(await browserFaults(browser), []);
  } finally { await leave(mock); }
});

test('nothing that axe calls serious is left', { skip }, () => { assert.equal(faulty.join('\n'), ''); });
