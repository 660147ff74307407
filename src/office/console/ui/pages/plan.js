// @ts-check
// The plan of the commune: places by hand, no request leaves the office.
import { html, listen, onCleanup, signal } from '../core/view.js';
import { t } from '../core/i18n.js';
import { get, query, request, send } from '../core/api.js';
import { allowed, loadSites, me, siteOf, sites } from '../core/store.js';
import { guardLeave, href } from '../core/router.js';
import { attempt, field, select, toast } from '../parts/dialog.js';
import { icon } from '../parts/icon.js';
import { map } from '../parts/map.js';
import { listOf, resource, show } from '../parts/resource.js';
import { picture } from '../parts/snapshot.js';
import { nameOf, reasonText, siteName, stateMark } from '../parts/site_words.js';

/** The office takes pictures up to this. */
const IMAGE_BYTES_MAX = 20 * 1024 * 1024;

export default function page() {
  let url = '';
  onCleanup(() => { if (url) URL.revokeObjectURL(url); });
  const ground = resource(async (abort) => {
    const none = () => null;
    const places = await get('/places', { signal: abort });
    const image = places.plan === false ? null : await request('GET', '/plan', { signal: abort, headers: { accept: 'image/*' } }).then((r) => r.blob()).catch(none);
    const tiles = image ? null : places.tiles === undefined && places.plan === undefined ? await get('/tiles', { signal: abort }).catch(none) : places.tiles;
    if (url) URL.revokeObjectURL(url);
    url = image && image.size > 0 ? URL.createObjectURL(image) : '';
    let aspect = 0.65;
    if (url) { const probe = new Image(); probe.src = url; await probe.decode().catch(none); if (probe.naturalWidth > 0) aspect = probe.naturalHeight / probe.naturalWidth; }
    return { image: url || null, tiles: url ? null : tiles, aspect, places: listOf(places, 'places') };
  });
  const upload = async (/** @type {any} */ e) => {
    const file = e.target.files?.[0];
    if (!file) return;
    if (file.size > IMAGE_BYTES_MAX) { toast(t('plan.too_large'), true); return; }
    const done = await attempt(async () => { await request('PUT', '/plan', { bytes: file, headers: { 'content-type': file.type } }); return true; }, t('saved'));
    if (done) ground.reload();
  };
  return html`<section class="page plan"><header class="page-head"><h1>${t('page.plan')}</h1>${allowed('plan') ? html`<div class="page-tools"><label class="button">${icon('picture')} ${t('plan.upload')}<input class="visually-hidden" type="file" accept="image/png,image/jpeg" @change=${upload}></label></div>` : null}</header>
    ${show(ground, (g) => view(g))}</section>`;
}

/** A number within its bounds; a message says when it was another. @param {number} value @param {number} low @param {number} high */
function bounded(value, low, high) {
  const found = Math.max(low, Math.min(high, Number.isFinite(value) ? value : low));
  if (found !== value) toast(t('plan.bounded', { low, high, found }), true);
  return found;
}

/** @param {{image: string | null, tiles: any, aspect: number, places: any[]}} g */
function view(g) {
  const places = signal(g.places.filter((p) => p.x != null && p.y != null));
  const chosen = signal('');
  const editing = signal(false);
  const changed = signal(false);
  // Places that are not saved are lost with the page; without a session they are lost anyway.
  onCleanup(guardLeave(() => !changed.peek() || !me.peek() || confirm(t('plan.leave'))));
  listen(window, 'beforeunload', (/** @type {BeforeUnloadEvent} */ e) => { if (changed.peek()) e.preventDefault(); });
  const set = (/** @type {string} */ site, /** @type {any} */ next) => { places.value = places.peek().map((p) => (p.site === site ? { ...p, ...next } : p)); changed.value = true; };
  const save = async () => {
    const rest = g.places.filter((p) => !places.peek().some((x) => x.site === p.site));
    if (await attempt(async () => { await send('PUT', '/places', { places: [...rest, ...places.peek()] }); return true; }, t('saved'))) { changed.value = false; editing.value = false; loadSites(); }
  };
  const number = (/** @type {string} */ name, /** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ step, /** @type {any} */ p, factor = 1) => field(t(`plan.${name}`), (id) => html`<input id="${id}" type="number" min="${low}" max="${high}" step="${step}"
    .value=${Math.round((p[name] ?? 0) * factor * 100) / 100} @change=${(/** @type {any} */ e) => set(p.site, { [name]: bounded(Number(e.target.value), low, high) / factor })}>`);
  const words = (/** @type {string} */ name, /** @type {any} */ p) => field(t(name), (id) => html`<input id="${id}" maxlength="64" .value=${p[name] ?? ''} @change=${(/** @type {any} */ e) => set(p.site, { [name]: e.target.value.trim() })}>`);
  const unplaced = () => sites.value.filter((s) => !places.value.some((p) => p.site === s.site));
  return html`${g.image || g.tiles ? null : html`<p class="notice">${t('plan.none')}</p>`}
    <div class="plan-split">${map({ image: g.image, tiles: g.tiles, aspect: g.aspect, places, chosen, state: (s) => siteOf(s)?.state ?? 'unknown', name: nameOf, moved: (site, x, y) => { if (editing.peek()) set(site, { x, y }); } })}
    <aside class="card">${() => {
    const p = places.value.find((x) => x.site === chosen.value);
    const s = siteOf(chosen.value);
    return html`${p ? html`<h2>${nameOf(p.site)}</h2>${s ? html`<p>${stateMark(s.state)} ${reasonText(s)}</p><div class="detail-picture">${picture({ site: p.site, fid: s.snapshot?.fid, alt: t('picture.last', { site: nameOf(p.site) }) })}</div>` : null}
      <div class="row"><a class="button" href="${href(`/sites/${encodeURIComponent(p.site)}`)}">${t('page.site')}</a><a class="button" href="${`#/events${query({ site: p.site })}`}">${t('page.events')}</a></div>
      ${editing.value ? html`<div class="fields">${words('name_vi', p)}${words('name_en', p)}${number('x', 0, 100, 0.1, p, 100)}${number('y', 0, 100, 0.1, p, 100)}${number('heading', 0, 359, 1, p)}${number('fov', 5, 360, 1, p)}${number('range', 1, 50, 0.5, p, 100)}</div>
        <button class="button" type="button" @click=${() => { places.value = places.peek().filter((x) => x.site !== p.site); changed.value = true; }}>${t('plan.take_off')}</button>` : null}` : html`<p class="muted">${t('plan.choose')}</p>`}
      ${allowed('plan') ? html`<div class="stack">${editing.value ? html`<p class="muted">${t('plan.edit_about')}</p>${unplaced().length > 0 ? select(t('plan.put'), 'put', [['', '–'], ...unplaced().map((x) => /** @type {[string, string]} */ ([x.site, siteName(x)]))], '', (site) => {
    if (!site) return;
    places.value = [...places.peek(), { site, ...(g.places.find((x) => x.site === site) ?? { name_vi: siteOf(site)?.name_vi, name_en: siteOf(site)?.name_en, group: siteOf(site)?.group }), x: 0.5, y: 0.5, heading: 0, fov: 70, range: 0.08 }];
    chosen.value = site;
    changed.value = true;
  }) : null}` : null}${editing.value || changed.value ? html`<button class="button button-main" type="button" ?disabled=${!changed.value} @click=${save}>${t('save')}</button>` : null}
        <button class="button" type="button" aria-pressed="${String(editing.value)}" @click=${() => { editing.value = !editing.peek(); }}>${t('plan.edit')}</button></div>` : null}`;
  }}
    <h3>${t('plan.list')}</h3><ul class="plain">${() => places.value.map((p) => html`<li><button class="button button-quiet" type="button" @click=${() => { chosen.value = p.site; }}>${stateMark(siteOf(p.site)?.state ?? 'unknown')} ${nameOf(p.site)}</button></li>`)}</ul></aside></div>`;
}
