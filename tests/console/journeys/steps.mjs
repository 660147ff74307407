// What the journeys do on a page, and what they look for in its words.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UI } from '../ui/mock_server.mjs';
import { sleep } from '../ui/webdriver.mjs';

export const texts = Object.fromEntries(['vi', 'en'].map((l) => [l, JSON.parse(readFileSync(join(UI, `i18n/${l}.json`), 'utf8'))]));
const words = (entry) => (typeof entry === 'string' ? [entry] : Object.values(entry));
/** Texts of one language that the other does not have too. */
const foreign = { vi: new Set(Object.values(texts.en).flatMap(words)), en: new Set(Object.values(texts.vi).flatMap(words)) };
for (const lang of ['vi', 'en']) for (const text of Object.values(texts[lang]).flatMap(words)) foreign[lang].delete(text);

/** Words on the page: text, and what readers and hovering hear. */
const WORDS = `(() => { const found = []; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; (n = walk.nextNode());) if (n.parentElement.closest('script,style,.log,.facts-words') === null && n.data.trim()) found.push(n.data.trim());
  for (const e of document.querySelectorAll('*')) for (const a of ['aria-label', 'title', 'alt']) { const v = e.getAttribute(a); if (v?.trim()) found.push(v.trim()); }
  return found; })()`;
/** Faults of the words on a page: raw keys, arguments without a value, the other language. */
export async function wordFaults(browser, lang) {
  const found = await browser.run(`return ${WORDS}`);
  return found.flatMap((text) => [
    ...(text in texts.vi && !foreign.en.has(text) && /[._]/.test(text) ? [`raw key «${text}»`] : []), ...(/^[a-z_]+(\.[a-z0-9_-]+)+$/.test(text) ? [`raw word «${text}»`] : []),
    ...(/\{\w+\}/.test(text) ? [`empty argument «${text}»`] : []), ...(/\b(undefined|NaN|Invalid Date|\[object)\b/.test(text) ? [`«${text}»`] : []), ...(foreign[lang].has(text) ? [`not ${lang}: «${text}»`] : []),
  ]);
}

/** Opens a page of the console in a look. */
export async function open(browser, origin, path, { size = [1280, 900], scale = 1, lang = 'vi', theme = 'dark' } = {}) {
  await browser.size(...size, scale);
  // A choice of the language belongs to its user; ids are small numbers here.
  await browser.run('for (const of of ["", ...Array.from({ length: 60 }, (_, i) => `.${i}`)]) localStorage.setItem(`taimat.language${of}`, arguments[0]); localStorage.setItem("taimat.theme", arguments[1])', lang, theme);
  // Another address first: the same one would be no new page.
  await browser.go(`${origin}/ui/icon.svg`);
  await browser.go(`${origin}/#/${path}`);
  await browser.until('document.querySelector("h1") && !document.querySelector(".waiting")', 20000, path);
}
/** Puts values into the fields of the newest form, by their names, and sends it. */
export async function send(browser, values) {
  await browser.until('document.querySelector("dialog[open] form, main form")', 10000, 'a form');
  await browser.run(`const forms = [...document.querySelectorAll('dialog[open] form')]; const form = forms.at(-1) ?? document.querySelector('main form');
    for (const [name, value] of Object.entries(arguments[0])) { const field = form.elements[name]; field.value = value; field.dispatchEvent(new Event('input', { bubbles: true })); field.dispatchEvent(new Event('change', { bubbles: true })); }
    form.requestSubmit();`, values);
}
/** Presses the first button or link whose words begin so. */
export async function press(browser, text, within = 'body') {
  const script = `[...document.querySelectorAll(${JSON.stringify(within)} + ' button, ' + ${JSON.stringify(within)} + ' a')].find((e) => e.checkVisibility() && (e.textContent.trim().startsWith(${JSON.stringify(text)}) || e.getAttribute('aria-label')?.startsWith(${JSON.stringify(text)})))`;
  await browser.until(script, 10000, `the button «${text}»`);
  await browser.run(`(${script}).click()`);
}
/** Asks the API as the page would: `{status, body}`. */
export const ask = (browser, method, path, json) => browser.runAsync(`const [method, path, json, done] = arguments;
  fetch('/api/v1' + path, { method, headers: json ? { 'content-type': 'application/json' } : {}, body: json ? JSON.stringify(json) : undefined })
    .then(async (r) => done({ status: r.status, retryAfter: r.headers.get('retry-after'), body: await r.json().catch(() => null) }), (e) => done({ status: 0, body: String(e) }))`, method, path, json ?? null);
export async function logIn(browser, origin, name, password) {
  await browser.go(`${origin}/ui/icon.svg`);
  await browser.cdp('Network.clearBrowserCookies', {});
  await browser.run('sessionStorage.clear(); localStorage.clear()');
  await browser.go(`${origin}/#/login`);
  await browser.until('document.querySelector("main form input[name=password]")', 10000, 'the log-in');
  await send(browser, { name, password });
  await browser.until('location.hash === "#/board" && document.querySelector("h1")', 15000, `the log-in of ${name}`);
}
/** States a purpose through the dialog. */
export async function choosePurpose(browser, kind = 'duty') {
  await browser.until('document.querySelector(".purpose")');
  await browser.run('document.querySelector(".purpose").click()');
  await browser.until(`document.querySelector('dialog[open] input[value=${kind}]')`);
  await browser.run(`document.querySelector('dialog[open] input[value=${kind}]').click()`);
  await send(browser, {});
  await browser.until('!document.querySelector("dialog") && document.querySelector(".purpose-set")', 10000, 'the purpose');
}
/** Every character that the texts of both languages may show, and what an office may be called. */
export const letters = [...new Set(`${Object.values(texts).flatMap((t) => Object.values(t)).flatMap(words).join('')}ẰẮẲẴẶẦẤẨẪẬỀẾỂỄỆỒỐỔỖỘỜỚỞỠỢỪỨỬỮỰỲÝỶỸỴĐđ`)].filter((c) => c.trim());
/** Characters that the fonts of this machine draw as the box of an unknown one, in the fonts that the page asks for. */
export const unknownGlyphs = (browser) => browser.run(`const c = document.createElement('canvas'); c.width = c.height = 40; const p = c.getContext('2d', { willReadFrequently: true });
  p.font = '24px ' + getComputedStyle(document.body).fontFamily; p.textBaseline = 'top';
  const drawn = (x) => { p.clearRect(0, 0, 40, 40); p.fillText(x, 4, 4); return p.getImageData(0, 0, 40, 40).data.join(); };
  const unknown = new Set(['\u0378', '\u{e0fff}', ''].map(drawn)); return arguments[0].filter((x) => unknown.has(drawn(x)));`, letters);
export { sleep };
