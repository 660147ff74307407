// The console's API on loopback, answered from drawn fixtures; the page itself with its real policy.
// By hand: node tests/console/ui/mock_server.mjs 8099
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { drawnPicture, iso, makeAudit, makeEvents, makeHealth, makeSites } from './mock_fixtures.mjs';
import { indexOf } from './mock_clips.mjs';

export const UI = join(fileURLToPath(new URL('../../../', import.meta.url)), 'src/office/console/ui');
export const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml' };
const ALL = ['board', 'snapshot', 'clip', 'sound', 'unmasked', 'handle', 'lock', 'unlock', 'stats', 'device_ping', 'device_command', 'people', 'retention', 'plan', 'audit_read'];

/** @param {{events?: number, clips?: Record<string, {bytes: Buffer, codecs: any[], loop?: number, from: number, seconds: number}[]>, rights?: string[], delay?: number}} options */
export function startMock(options = {}) {
  const now = Date.now();
  const state = {
    sites: makeSites(now), events: makeEvents(now, options.events ?? 400), purpose: null, failures: 0, loggedIn: options.loggedIn !== false, shown: [], streams: new Set(), nextId: 1, requests: [], bytes: 0, now, lastEventIds: [],
    locks: [{ id: 'l1', site: 'km-17', from: iso(now - 9e6), to: iso(now - 8e6), title: 'Va chạm trước cổng chợ', case: '2026-0031', review: iso(now + 4e9), by: 'tran.van.b', at: iso(now - 7e6), bytes: 412e6 },
      { id: 'l2', site: 'km-19', from: iso(now - 5e9), to: iso(now - 4.999e9), title: 'Đổ rác trộm', case: null, review: iso(now - 1e8), by: 'le.thi.c', at: iso(now - 4e9), bytes: 91e6 }],
  };
  const me = () => ({
    user: { id: 'u7', name: 'Trần Văn B' }, grants: [{ group: 'hong-thai', role: 'operator', until: null }, { group: 'ven-song', role: 'evidence', until: iso(now + 9e9) }],
    rights: { 'hong-thai': options.rights ?? ALL, 'ven-song': options.rights ?? ALL }, sites: Object.fromEntries(state.sites.map((s) => [s.site, s.group])), purpose: state.purpose, language: 'vi', demo: Boolean(options.demo),
  });
  const clipsOf = (site) => options.clips?.[site] ?? [];
  const wallOf = (clip) => now + clip.from;

  const handlers = {
    'GET state': () => ({ version: '0.1.0', first_admin: Boolean(options.firstAdmin), language: 'vi', place_name: 'Xã Hồng Thái', time_zone: 'Asia/Ho_Chi_Minh' }),
    'POST login': (_, body) => {
      if (state.failures >= 5) return [429, { code: 'locked', title: 'Locked', retry_after: 300 }];
      if (body.password !== 'dung mat khau nay') { state.failures++; return [401, { code: 'login_failed', title: 'Wrong' }]; }
      state.loggedIn = true;
      return [204];
    },
    'POST first-admin': () => [204], 'POST reset': () => [204], 'POST demo-login': () => { state.loggedIn = true; return [204]; },
    'POST logout': () => { state.loggedIn = false; state.purpose = null; return [204]; },
    'GET me': me, 'POST purpose': (_, body) => { state.purpose = { ...body, until: iso(Date.now() + 4 * 3600000) }; return [204]; }, 'POST password': () => [204],
    'GET sites': () => ({ now: iso(Date.now()), sites: state.sites }),
    'GET motion-events': (q) => {
      const f = state.events.filter((e) => (!q.get('site') || e.site === q.get('site')) && (!q.get('rule') || e.rule === q.get('rule')) && (!q.get('handled') || (q.get('handled') === 'yes') === Boolean(e.handled)));
      const at = Number(q.get('before') ?? 0);
      const limit = Number(q.get('limit') ?? 100);
      // A text is in no event: each request searches a part, without a find.
      const text = Boolean(q.get('q'));
      const last = f[Math.min(at + limit, f.length) - 1];
      const more = at + limit < f.length;
      return { events: text ? [] : f.slice(at, at + limit), next: more ? String(at + limit) : null, searched_to: more ? last.start : null };
    },
    'GET axis': (q) => ({
      sites: q.get('sites').split(',').map((site) => ({
        site, spans: clipsOf(site).map((c, i) => ({ from: iso(wallOf(c)), to: iso(wallOf(c) + c.seconds * 1000), fid: `v${i}`, clock: 'ntp', codec: c.codecs[0].codec })),
        gaps: [{ from: iso(now - 3 * 3600000), to: iso(now - 2.6 * 3600000), reason: 'power_cut' }, ...(options.gaps?.[site] ?? []).map((g) => ({ from: iso(now + g.from), to: iso(now + g.to), reason: g.reason }))],
        events: state.events.filter((e) => e.site === site).slice(0, 200).map((e) => ({ id: e.id, from: e.start, to: e.end ?? e.start })),
      })),
    }),
    'POST shown': (_, body) => { state.shown.push(body); return [204]; },
    'GET users': () => ({ users: [{ id: 'u1', name: 'quan.tri', disabled: false, grants: [{ group: 'hong-thai', role: 'admin', until: null }], last_login: iso(now - 9e6) }, { id: 'u7', name: 'tran.van.b', disabled: false, grants: me().grants, last_login: iso(now - 6e5) }, { id: 'u9', name: 'le.thi.c', disabled: true, grants: [], last_login: null }] }),
    'GET sessions': () => ({ sessions: [{ id: 'x1', user: 'tran.van.b', address: '10.1.4.21', agent: 'Chrome', started: iso(now - 6e5), used: iso(now), current: true }, { id: 'x2', user: 'quan.tri', address: '10.1.4.9', agent: 'Firefox', started: iso(now - 9e6), used: iso(now - 3e5), current: false }] }),
    'GET groups': () => ({ groups: [{ id: 'hong-thai', name_vi: 'Hồng Thái', name_en: 'Hong Thai', sites: state.sites.slice(0, 6).map((s) => s.site) }, { id: 'ven-song', name_vi: 'Ven sông', name_en: 'Riverside', sites: state.sites.slice(6).map((s) => s.site) }] }),
    'POST users': () => ({ id: 'u10', token: 'abcdefgh' }),
    'GET places': () => ({ places: state.sites.slice(0, 7).map((s, i) => ({ site: s.site, name_vi: s.name_vi, name_en: s.name_en, group: s.group, x: 0.12 + 0.12 * i, y: 0.3 + 0.09 * ((i * 3) % 5), heading: i * 50, fov: 70, range: 0.09 })) }),
    'PUT places': () => [204], 'PUT plan': () => [204],
    'GET retention': () => ({ rules: [{ group: 'hong-thai', purpose: 'clip', days: 30, ground: 'Quy chế vận hành 12/2026' }, { group: 'hong-thai', purpose: 'snapshot', days: 90, ground: 'Quy chế vận hành 12/2026' }, { group: 'ven-song', purpose: 'requested', days: 90, ground: 'Thoả thuận 4/2026' }] }),
    'POST retention/preview': () => ({ files: 812, bytes: 4.1e9, oldest: iso(now - 4e9), locked: 3 }), 'PUT retention': () => [204],
    'GET stats/storage': () => ({ rows: state.sites.slice(0, 4).map((s, i) => ({ site: s.site, purpose: 'clip', files: 1200 * (i + 1), bytes: 3e9 * (i + 1), bytes_lately: 4e8, oldest: iso(now - 2e9) })), unfinished_bytes: 0, free_bytes: 4e11 }),
    'GET locks': () => ({ locks: state.locks }), 'POST locks': () => ({ id: 'l3' }),
    'GET audit': (q) => ({ records: makeAudit(now, 60).map((r) => ({ ...r, n: r.n - Number(q.get('before') ?? 0) })), next: q.get('before') ? null : '60' }),
    'GET audit/verify': () => ({ ok: true, head: { n: 10442, digest: '9f0c3a55'.repeat(8) }, fault: null }),
  };

  function dynamic(method, parts, q, body, req, res) {
    const [a, b, c, d, e] = parts;
    if (a === 'stream') return stream(req, res);
    if (a === 'motion-events' && c) {
      const event = state.events.find((x) => x.site === b && x.id === c);
      if (!event) return [404, { code: 'not_found' }];
      if (method === 'PATCH') event.handled = { by: 'tran.van.b', at: iso(Date.now()), verdict: body.verdict, note: body.note ?? null };
      return { ...event, notes: [{ by: 'le.thi.c', at: iso(now), note: 'Xe ba gác chở gạch, đã nhắc.' }] };
    }
    if (a === 'sites' && b) {
      const site = state.sites.find((s) => s.site === b);
      if (!site) return [404, { code: 'not_found' }];
      if (!c) return { ...site, birth: { v: 1, agent: { version: '0.1.0', commit: 'c5a5646' }, camera: { tracks: 'H.264 1920x1080, AAC' } }, health: { uptime: 81234, camera: 'recording', counters: { 'storage.used': 41e9, 'uplink.rate': 90211 } }, ring: { from: iso(now - 6e8), to: iso(now) } };
      if (c === 'health') return makeHealth(Date.parse(q.get('from')) / 1000 | 0, Date.parse(q.get('to')) / 1000 | 0, Number(q.get('step')));
      if (c === 'presence') return [{ from: iso(now - 8e7), to: iso(now - 9e6), state: 'online' }, { from: iso(now - 9e6), to: null, state: site.presence }];
      if (c === 'gaps') return [{ from: iso(now - 9e6), to: iso(now - 8e6), reason: 'power_cut' }];
      if (c === 'commands') return d === 'log-tail' ? { lines: Array.from({ length: 40 }, (_, i) => `2026-11-30T02:${String(i).padStart(2, '0')}:00Z INFO clip closed site=${b} \u202Ebytes=${i * 811}`) } : { ok: true, rtt_ms: 143 };
    }
    if (a === 'files') return file(method, b, c, d, e, q, req, res);
    if (a === 'plan') { send(res, 200, drawnPlan, 'image/svg+xml'); return null; }
    if (['users', 'sessions', 'locks'].includes(a)) return c === 'reset' ? { token: 'reset-token' } : [204];
    return [404, { code: 'not_found' }];
  }

  function file(method, site, fid, what, n, q, req, res) {
    if (!state.purpose) return [403, { code: 'purpose_missing' }];
    if (fid.startsWith('s')) { send(res, 200, drawnPicture(Number(fid.slice(1))), 'image/svg+xml'); return null; }
    const clips = clipsOf(site);
    const clip = clips[fid.startsWith('v') ? Number(fid.slice(1)) : 0];
    if (!clip) return [404, { code: 'not_found' }];
    if (what === 'index') {
      const video = q.get('tracks') === 'video';
      const index = indexOf(video && clip.videoOnly ? clip.videoOnly : clip.bytes, wallOf(clip), video ? clip.codecs.filter((x) => x.track === 'video') : clip.codecs);
      return { ...index, from: iso(wallOf(clip)), to: iso(wallOf(clip) + clip.seconds * 1000) };
    }
    if (what === 'pictures') { send(res, 200, drawnPicture(Number(n) % 9), 'image/svg+xml'); return null; }
    const bytes = q.get('tracks') === 'video' && clip.videoOnly ? clip.videoOnly : clip.bytes;
    const range = /^bytes=(\d+)-(\d+)$/.exec(req.headers.range ?? '');
    const [from, to] = range ? [Number(range[1]), Math.min(bytes.length - 1, Number(range[2]))] : [0, bytes.length - 1];
    state.bytes += to - from + 1;
    setTimeout(() => {
      res.writeHead(range ? 206 : 200, { 'content-type': 'video/mp4', 'content-length': to - from + 1, 'cache-control': 'private, no-store', ...(range ? { 'content-range': `bytes ${from}-${to}/${bytes.length}` } : {}) });
      res.end(bytes.subarray(from, to + 1));
    }, options.delay?.(site) ?? 0);
    return null;
  }

  function stream(req, res) {
    if (!state.loggedIn) return [401, { code: 'session_expired' }];
    state.lastEventIds.push(req.headers['last-event-id'] ?? '');
    res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    res.write(': open\n\n');
    state.streams.add(res);
    req.on('close', () => state.streams.delete(res));
    return null;
  }
  const send = (res, status, body, type) => { res.writeHead(status, { 'content-type': type, 'cache-control': 'private, no-store', 'x-content-type-options': 'nosniff' }); res.end(body); };
  const open = new Set(['state', 'login', 'logout', 'first-admin', 'reset', 'demo-login']);

  const server = createServer(async (req, res) => {
    const url = new URL(req.url, 'http://x');
    state.requests.push(`${req.method} ${url.pathname}`);
    if (!url.pathname.startsWith('/api/v1/')) {
      const path = url.pathname === '/' ? 'index.html' : normalize(url.pathname).replace(/^\/ui\//, '');
      try {
        const bytes = readFileSync(join(UI, path));
        res.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-security-policy': CSP, 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cache-control': 'no-cache' });
        res.end(bytes);
      } catch { send(res, 404, 'not found', 'text/plain'); }
      return;
    }
    const parts = url.pathname.slice('/api/v1/'.length).split('/').map(decodeURIComponent);
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    let body = {};
    try { body = JSON.parse(Buffer.concat(chunks).toString() || '{}'); } catch { /* bytes */ }
    const handler = handlers[`${req.method} ${parts.join('/')}`];
    let answer;
    if (!state.loggedIn && !open.has(parts[0])) answer = [401, { code: 'session_expired' }];
    else answer = handler ? handler(url.searchParams, body) : dynamic(req.method, parts, url.searchParams, body, req, res);
    if (answer === null) return;
    const [status, json] = Array.isArray(answer) && typeof answer[0] === 'number' ? answer : [200, answer];
    if (status === 204) { res.writeHead(204); res.end(); return; }
    send(res, status, JSON.stringify(status >= 400 ? { status, ...json } : json), status >= 400 ? 'application/problem+json' : 'application/json');
  });
  const drawnPlan = `<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="780" viewBox="0 0 1200 780"><rect width="1200" height="780" fill="#dfe8d8"/><path d="M0 500C300 420 500 640 1200 520v90C600 720 300 520 0 600z" fill="#a9cfe4"/><path d="M0 240h1200M420 0v780M820 0c-60 300 40 500 0 780" stroke="#fff" stroke-width="18" fill="none"/>${Array.from({ length: 40 }, (_, i) => `<rect x="${(i * 137) % 1150}" y="${(i * 89) % 470}" width="34" height="24" fill="#c9b9a0"/>`).join('')}</svg>`;
  return new Promise((done) => {
    server.listen(options.port ?? 0, '127.0.0.1', () => done({
      state, server, origin: `http://127.0.0.1:${server.address().port}`,
      push(type, data) { const id = state.nextId++; for (const res of state.streams) res.write(`event: ${type}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`); },
      close() { server.closeAllConnections(); return new Promise((end) => { server.close(end); }); },
    }));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await startMock({ port: Number(process.argv[2] ?? 8099) });
  console.log(mock.origin);
}
