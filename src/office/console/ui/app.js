// @ts-check
// The page: who is it, which page, and the frame around it.
import { effect, html, listen, render, signal, untrack } from './core/view.js';
import { language, loadLanguage, LANGUAGES, LANGUAGE_NAMES, t } from './core/i18n.js';
import { onProblem, send } from './core/api.js';
import { go, href, keepPlace, match, route, takePlace } from './core/router.js';
import { allowed, forget, loadMe, loadOffice, loadSites, mayHaveSession, me, office, purposeWanted, startStream, streamState, tick } from './core/store.js';
import { clock, date, serverNow, zoneName } from './core/time.js';
import { icon } from './parts/icon.js';
import { attempt, openDialog, toasts } from './parts/dialog.js';
import { choosePurpose, purposeButton } from './parts/purpose.js';
import { sentence } from './parts/resource.js';

/** @typedef {{name: string, load: () => Promise<any>, right?: string, open?: boolean}} Page */
/** @type {[string, Page][]} */
const PAGES = [
  ['/login', { name: 'login', load: () => import('./pages/login.js'), open: true }],
  ['/first-admin/:token', { name: 'first_admin', load: () => import('./pages/first_admin.js'), open: true }],
  ['/reset/:token', { name: 'reset', load: () => import('./pages/first_admin.js'), open: true }],
  ['/demo/:token', { name: 'demo', load: () => import('./pages/login.js'), open: true }],
  ['/board', { name: 'board', load: () => import('./pages/board.js'), right: 'board' }],
  ['/sites/:site', { name: 'site', load: () => import('./pages/site.js'), right: 'board' }],
  ['/events', { name: 'events', load: () => import('./pages/events.js'), right: 'board' }],
  ['/events/:site/:id', { name: 'event', load: () => import('./pages/event.js'), right: 'board' }],
  ['/playback', { name: 'playback', load: () => import('./pages/playback.js'), right: 'clip' }],
  ['/plan', { name: 'plan', load: () => import('./pages/plan.js'), right: 'board' }],
  ['/locks', { name: 'locks', load: () => import('./pages/locks.js'), right: 'lock' }],
  ['/audit', { name: 'audit', load: () => import('./pages/audit.js'), right: 'audit_read' }],
  ['/retention', { name: 'retention', load: () => import('./pages/retention.js'), right: 'retention' }],
  ['/people', { name: 'people', load: () => import('./pages/people.js'), right: 'people' }],
  ['/settings', { name: 'settings', load: () => import('./pages/settings.js') }],
];
const MENU = ['board', 'events', 'playback', 'plan', 'locks', 'audit', 'retention', 'people'];
/** @type {Record<string, string>} */
const MENU_ICONS = { playback: 'play', locks: 'lock' };
const rightOf = (/** @type {string} */ name) => PAGES.find(([, p]) => p.name === name)?.[1].right;

const found = () => match(PAGES, route.value.parts);
const ready = signal(false);
const failed = signal(/** @type {any} */ (null));
const menuOpen = signal(false);

function toLogin() {
  keepPlace();
  forget();
  go('/login');
}
/** After a log-in: who, the sites, the stream, and back to where the user was. */
export async function enter() {
  await loadMe();
  await ownLanguage();
  await loadSites();
  startStream(toLogin);
  location.hash = takePlace();
}
export async function signOut() {
  await send('POST', '/logout', {}, { quiet: true }).catch(() => null);
  sessionStorage.removeItem('taimat.place');
  forget();
  go('/login');
}
/** Ends the session and keeps the name and the place: the next person must log in. */
export async function lockScreen() {
  sessionStorage.setItem('taimat.name', me.peek()?.user.name ?? '');
  keepPlace();
  await send('POST', '/logout', {}, { quiet: true }).catch(() => null);
  forget();
  go('/login');
}

const stored = (/** @type {string} */ key) => { try { return localStorage.getItem(`taimat.${key}`); } catch { return null; } };
const store = (/** @type {string} */ key, /** @type {string} */ value) => { try { localStorage.setItem(`taimat.${key}`, value); } catch { /* refused: for this page only */ } };
/** A choice belongs to the user who made it: another user of this computer keeps theirs. */
const languageKey = () => (me.peek() ? `language.${me.peek()?.user.id}` : 'language');
/** The user's own choice on this computer, or the language of the account, before that of the browser; the page stays as it is where its texts do not come. */
async function ownLanguage() {
  const wish = stored(languageKey()) ?? me.peek()?.language;
  if (wish && wish !== language.peek()) await loadLanguage(wish).catch(() => null);
}
export async function chooseLanguage(/** @type {string} */ lang) { store(languageKey(), lang); await loadLanguage(lang); }
export function chooseTheme(/** @type {string} */ theme) { store('theme', theme); document.documentElement.dataset.theme = theme; }
export const themeNow = () => document.documentElement.dataset.theme ?? 'auto';

const languageSwitch = () => html`<div class="languages" role="group" aria-label="${t('language')}">${LANGUAGES.map((l) => html`<button type="button"
  class="button button-quiet" lang="${l}" aria-pressed="${String(l === language.value)}" @click=${() => chooseLanguage(l)}>${LANGUAGE_NAMES[l]}</button>`)}</div>`;

const menuLink = (/** @type {string} */ name) => html`<a class="menu-link" href="${href(`/${name}`)}"
  aria-current="${() => ((found()?.target.name ?? '') === name || (name === 'events' && found()?.target.name === 'event') || (name === 'board' && found()?.target.name === 'site') ? 'page' : null)}">
  ${icon(MENU_ICONS[name] ?? name)}<span>${t(`page.${name}`)}</span></a>`;

function userMenu() {
  const user = me.peek();
  openDialog(user?.user.name ?? '', (close) => () => { void language.value; return untrack(() => html`<p class="muted">${[...new Set((user?.grants ?? []).map((g) => g.role))].map((r) => t(`role.${r}`)).join(', ')}</p>
    <div class="stack"><a class="button" href="#/settings" @click=${close}>${icon('settings')} ${t('page.settings')}</a>
    <button class="button" type="button" @click=${() => { close(); lockScreen(); }}>${icon('lock')} ${t('lock_screen')}</button>
    <button class="button" type="button" @click=${() => { close(); signOut(); }}>${icon('signout')} ${t('sign_out')}</button></div>${languageSwitch()}`); });
}

const frame = () => html`<a class="skip" href="#main" @click=${(/** @type {Event} */ e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>${t('skip')}</a>
  <header class="bar">
    <button class="button button-quiet menu-button" type="button" aria-expanded="${() => String(menuOpen.value)}" aria-controls="menu" aria-label="${t('menu')}"
      @click=${() => { menuOpen.value = !menuOpen.value; }}>${icon('menu')}</button>
    <a class="brand" href="#/board"><b>taimat</b><span>${() => office.value.place_name ?? ''}</span></a>
    ${() => (me.value?.demo ? html`<span class="tag tag-demo">${t('demo')}</span>` : null)}
    <span class="bar-space"></span>
    ${() => (allowed('snapshot') || allowed('clip') ? purposeButton() : null)}
    <span class="${() => `link-state link-${streamState.value}`}" role="status"><i aria-hidden="true"></i><span>${() => t(`stream.${streamState.value}`)}</span></span>
    <time class="bar-clock" title="${() => zoneName()}">${() => { void tick.value; return html`<b>${clock(serverNow())}</b><small>${date(serverNow())} ${zoneName()}</small>`; }}</time>
    <button class="button button-quiet user-button" type="button" aria-haspopup="dialog" @click=${userMenu}>${icon('settings')}<span>${() => me.value?.user.name}</span></button>
  </header>
  <nav class="${() => (menuOpen.value ? 'menu menu-open' : 'menu')}" id="menu" aria-label="${t('menu')}">
    ${MENU.filter((name) => allowed(rightOf(name) ?? 'board')).map(menuLink)}</nav>
  <main id="main" tabindex="-1">${content}</main>`;

const bareFrame = () => html`<main id="main" class="bare" tabindex="-1"><div class="bare-box"><p class="brand-large"><b>taimat</b> <span>${office.value.place_name ?? t('office_console')}</span></p>
  ${content}${languageSwitch()}</div></main>`;

/** The page of the route, loaded when it is first needed. */
function content() {
  const at = found();
  if (!at) return html`<section class="page"><h1>${t('not_found')}</h1><p><a href="#/board">${t('page.board')}</a></p></section>`;
  const { right, name } = at.target;
  if (right && !allowed(right) && name !== 'board') return html`<section class="page"><h1>${t(`page.${name}`)}</h1><p class="notice">${t('not_allowed')}</p></section>`;
  const view = signal(/** @type {any} */ (null));
  document.title = `${t(`page.${name}`)} · taimat`;
  at.target.load().then((module) => { view.value = () => module.default({ params: at.params, query: route.peek().query, name }); })
    .catch((error) => { view.value = () => html`<p class="notice notice-fault" role="alert">${sentence(error)}</p>`; });
  return () => (view.value ? untrack(view.value) : html`<p class="waiting" role="status">${t('loading')}</p>`);
}

const app = () => html`${() => {
  if (failed.value) return html`<div class="boot"><p role="alert">${sentence(failed.value)}</p><button class="button" type="button" @click=${() => location.reload()}>${t('again')}</button></div>`;
  if (!ready.value) return html`<p class="boot">taimat…</p>`;
  void language.value;
  const open = found()?.target.open ?? false;
  return shell(open || !me.value);
}}<div class="toasts" aria-live="polite">${() => toasts.value.map((x) => html`<p class="${x.fault ? 'toast toast-fault' : 'toast'}" role="${x.fault ? 'alert' : 'status'}">${x.text}</p>`)}</div>`;
const shell = (/** @type {boolean} */ bare) => untrack(() => (bare ? bareFrame() : frame()));

async function start() {
  render(/** @type {Element} */ (document.getElementById('app')), app);
  onProblem({ unauthorized: toLogin, purposeMissing() { purposeWanted.value = true; } });
  await loadLanguage(stored('language') ?? document.documentElement.lang);
  try {
    await loadOffice();
    if (!stored('language') && office.peek().language && office.peek().language !== language.peek()) await loadLanguage(office.peek().language);
  } catch (error) { failed.value = error; return; }
  try { if (mayHaveSession()) await loadMe(); } catch (error) {
    if (/** @type {any} */ (error).status !== 401) { failed.value = error; return; }
  }
  if (me.peek()) {
    await ownLanguage();
    await loadSites();
    startStream(toLogin);
    if (route.peek().parts.length === 0 || found()?.target.name === 'login') location.hash = takePlace();
  } else if (!found()?.target.open) { keepPlace(); location.hash = '#/login'; }
  ready.value = true;
}

setInterval(() => { tick.value++; }, 1000);
listen(window, 'hashchange', () => {
  menuOpen.value = false;
  const main = document.getElementById('main');
  if (main) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
});
effect(() => { if (purposeWanted.value) untrack(choosePurpose); });
addEventListener('unhandledrejection', (event) => { if (event.reason?.name === 'AbortError') event.preventDefault(); });
start().catch((error) => { failed.value = error; });
export { attempt };
