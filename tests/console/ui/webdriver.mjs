// The few words of WebDriver that the tests need, over plain HTTP to Debian's chromedriver.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';

const BROWSERS = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium'];
export const browserPath = BROWSERS.find(existsSync);
export const haveBrowser = Boolean(browserPath) && existsSync('/usr/bin/chromedriver');
export const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });

export const freePort = () => new Promise((done) => { const s = createServer(); s.listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => done(port)); }); });

export async function openBrowser({ width = 1280, height = 900, dark = true, args = [], watchRequests = false } = {}) {
  const port = await freePort();
  const driver = spawn('/usr/bin/chromedriver', [`--port=${port}`], { stdio: 'ignore', detached: true });
  // The driver leads a group of its own with its browser: both end with this process, whatever ends it.
  const end = () => { try { process.kill(-driver.pid, 'SIGKILL'); } catch { /* it is gone */ } };
  process.once('exit', end);
  const base = `http://127.0.0.1:${port}`;
  const call = async (method, path, body) => {
    const response = await fetch(base + path, { method, body: body === undefined ? undefined : JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${path}: ${value?.message?.split('\n')[0]}`);
    return value;
  };
  for (let i = 0; i < 100; i++) { try { await call('GET', '/status'); break; } catch { await sleep(100); } }
  const made = await call('POST', '/session', {
    capabilities: { alwaysMatch: { browserName: 'chrome', 'goog:loggingPrefs': { browser: 'ALL', ...(watchRequests ? { performance: 'ALL' } : {}) }, 'goog:chromeOptions': { binary: browserPath, args: ['--headless', '--no-sandbox', '--disable-gpu', '--autoplay-policy=no-user-gesture-required', `--window-size=${width},${height}`, ...args] } } },
  });
  const session = `/session/${made.sessionId}`;
  // axe walks a whole page: half a minute, the driver's own limit, is too little on a busy computer.
  await call('POST', `${session}/timeouts`, { script: 120000 });
  const cdp = (cmd, params) => call('POST', `${session}/goog/cdp/execute`, { cmd, params });
  const browser = {
    cdp,
    go: (url) => call('POST', `${session}/url`, { url }),
    run: (script, ...args) => call('POST', `${session}/execute/sync`, { script, args }),
    runAsync: (script, ...args) => call('POST', `${session}/execute/async`, { script, args }),
    logs: () => call('POST', `${session}/se/log`, { type: 'browser' }),
    /** Addresses that the browser asked for, with `watchRequests`. */
    async requests() {
      const entries = (await call('POST', `${session}/se/log`, { type: 'performance' })).map((entry) => JSON.parse(entry.message).message);
      return entries.filter((m) => m.method === 'Network.requestWillBeSent').map((m) => m.params.request.url);
    },
    async shot(path) { await writeFile(path, Buffer.from(await call('GET', `${session}/screenshot`), 'base64')); },
    size: (w, h, scale = 1) => cdp('Emulation.setDeviceMetricsOverride', { width: w, height: h, deviceScaleFactor: scale, mobile: false }),
    theme: (name) => cdp('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: name }] }),
    key: (text) => call('POST', `${session}/actions`, { actions: [{ type: 'key', id: 'k', actions: [{ type: 'keyDown', value: text }, { type: 'keyUp', value: text }] }] }),
    /** Waits until a script gives something true. */
    async until(script, ms = 10000, what = script) {
      for (const end = Date.now() + ms; ;) {
        const value = await browser.run(`return (${script})`);
        if (value) return value;
        if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
        await sleep(50);
      }
    },
    async close() { await call('DELETE', session).catch(() => null); process.removeListener('exit', end); end(); },
  };
  await browser.theme(dark ? 'dark' : 'light');
  return browser;
}
