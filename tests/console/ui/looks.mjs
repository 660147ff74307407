// What the tests in a browser look for on every page: pictures, faults, other hosts, accessibility, fit.

/** Brightness of a picture and how much it differs within: a black or grey one does not differ. `what` is a selector of a video or an image. */
export const light = (browser, what) => browser.run(`const e = document.querySelector(arguments[0]); const c = document.createElement('canvas'); c.width = 64; c.height = 36; const p = c.getContext('2d'); p.drawImage(e, 0, 0, 64, 36);
  const l = []; const d = p.getImageData(0, 0, 64, 36).data; for (let i = 0; i < d.length; i += 4) l.push((d[i] + d[i + 1] + d[i + 2]) / 3);
  const mean = l.reduce((a, b) => a + b) / l.length; return { mean: Math.round(mean), spread: Math.round(Math.sqrt(l.reduce((a, b) => a + (b - mean) ** 2, 0) / l.length)) }`, what);
/** Faults that the browser noted (failed scripts, refused by the CSP, failed requests) but for those that were asked for. */
export const browserFaults = async (browser, expected = /$^/) => (await browser.logs()).filter((l) => l.level === 'SEVERE' && !expected.test(l.message)).map((l) => l.message);
/** Addresses of other hosts that the browser asked for. */
export const strangers = async (browser, origin) => (await browser.requests()).filter((url) => /^(https?|wss?):/.test(url) && new URL(url).origin !== origin);
/** Serious findings of axe. It is put into the page by WebDriver; the office never serves it. */
export async function accessibility(browser, axe) {
  if (!axe) return [];
  return browser.runAsync(`${axe}; const done = arguments[arguments.length - 1]; axe.run(document, { resultTypes: ['violations'] }).then((r) => done(r.violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => 'axe ' + v.id + ': ' + v.nodes.slice(0, 3).map((n) => n.target.join(' ') + ' ' + n.any.map((a) => a.message).join('; ')).join(' | '))), (e) => done(['axe: ' + e]))`);
}
/** What does not fit: sideways scroll, and targets that a finger misses. */
export async function fitFaults(browser) {
  const over = await browser.run('return document.documentElement.scrollWidth - document.documentElement.clientWidth');
  const small = await browser.run(`return [...document.querySelectorAll('button, select, input:not([type=checkbox]):not([type=radio]):not(.visually-hidden), a.button, a.menu-link, summary')].filter((e) => e.checkVisibility()).filter((e) => e.getBoundingClientRect().height < 43.5).map((e) => e.outerHTML.slice(0, 90))`);
  return [...(over > 0 ? [`scrolls sideways by ${over} px`] : []), ...small.map((e) => `target below 44 px: ${e}`)];
}
