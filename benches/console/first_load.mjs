// First load of the console in Debian's chromium, with an empty cache: prints one line of JSON for each load.
//   node first_load.mjs http://127.0.0.1:PORT COOKIE SITES LOADS
// Without a cookie the log-in page is loaded. `ms` is the page's own clock when the last site, or the form, is there.
import { haveBrowser, openBrowser } from '../../tests/console/ui/webdriver.mjs';

const [base, cookie, sites, loads] = process.argv.slice(2);
if (!haveBrowser) process.exit(77);
const isThere = cookie ? `document.querySelectorAll('.tile').length >= ${Number(sites)}` : "document.querySelector('input[type=password]') !== null";
const browser = await openBrowser();
try {
  await browser.cdp('Network.enable', {});
  await browser.cdp('Page.enable', {});
  // The observer sees the change itself: a question by WebDriver would add its own time.
  await browser.cdp('Page.addScriptToEvaluateOnNewDocument', {
    source: `(() => { const look = () => { if (window.shownAt === undefined && ${isThere}) requestAnimationFrame(() => { window.shownAt ??= performance.now(); }); };
      new MutationObserver(look).observe(document, { childList: true, subtree: true }); })();`,
  });
  for (let n = 0; n < Number(loads); n++) {
    await browser.go('about:blank');
    await browser.cdp('Network.clearBrowserCache', {});
    if (cookie) await browser.cdp('Network.setCookie', { name: 's', value: cookie, url: base, httpOnly: true, sameSite: 'Strict' });
    await browser.go(`${base}/#/`);
    const ms = await browser.until('window.shownAt', 20000, 'the first page');
    // Pictures of the sites come after the page and are footage, not the console.
    await browser.until("document.readyState === 'complete'", 20000, 'the load');
    const found = await browser.run(`const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
      const sum = (list) => list.reduce((n, e) => n + e.transferSize, 0);
      const isPicture = (e) => e.name.includes('/api/v1/files/');
      return { bytes: sum(all.filter((e) => !isPicture(e))), requests: all.filter((e) => !isPicture(e)).length, pictures: sum(all.filter(isPicture)) };`);
    console.log(JSON.stringify({ ms, ...found }));
  }
} finally {
  await browser.close();
}
