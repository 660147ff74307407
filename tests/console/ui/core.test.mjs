import assert from 'node:assert/strict';
import test from 'node:test';
import { eventParser, openStream } from '../../../src/office/console/ui/core/stream.js';
import { match, parseHash } from '../../../src/office/console/ui/core/router.js';
import { can, canAt, purposeNow } from '../../../src/office/console/ui/core/rights.js';
import { onProblem, Problem, query, request } from '../../../src/office/console/ui/core/api.js';
import * as time from '../../../src/office/console/ui/core/time.js';
import { STEPS_MAX, fits, goesOn } from '../../../src/office/console/ui/pages/events.js';
import { wayOf } from '../../../src/office/console/ui/parts/event_words.js';
import { mercator, tilesInSight, wedge } from '../../../src/office/console/ui/parts/map.js';
import { niceCeil, runs } from '../../../src/office/console/ui/parts/chart.js';
import { merge, ticks } from '../../../src/office/console/ui/parts/axis.js';

time.setZone('Asia/Ho_Chi_Minh');

test('times are written day first with 24 hours', () => {
  assert.equal(time.dateTime('2026-11-24T17:05:09.300Z'), '25/11/2026 00:05:09');
  assert.equal(time.clockTenths(Date.parse('2026-11-24T17:05:09.390Z')), '00:05:09,3');
  assert.equal(time.dateTime(null), '–');
  assert.equal(time.zoneName(), 'UTC+7');
});

test('times are read back in the zone of the office', () => {
  assert.equal(time.parseLocal('25/11/2026 00:05'), Date.parse('2026-11-24T17:05:00Z'));
  assert.equal(time.parseLocal('25/11/2026'), Date.parse('2026-11-24T17:00:00Z'));
  for (const bad of ['31/02/2026', '25-11-2026', '25/11/2026 24:00', 'x', '1/1/26']) assert.equal(time.parseLocal(bad), null, bad);
  assert.equal(time.startOfDay(Date.parse('2026-11-24T17:05:00Z')), Date.parse('2026-11-24T17:00:00Z'));
});

test('an event stream is parsed across chunks', () => {
  const found = [];
  const feed = eventParser((e) => found.push(e));
  for (const chunk of [': open\n\nevent: si', 'te\nid: 7\nda', 'ta: {"a":1}\r\n\r', '\ndata: x\ndata: y\n\n']) feed(chunk);
  assert.deepEqual(found, [{ type: 'site', data: '{"a":1}', id: '7' }, { type: 'message', data: 'x\ny', id: '7' }]);
});

test('a stream resumes with the last id and ends on 401', async () => {
  const ids = [];
  const seen = [];
  const texts = ['event: site\nid: 41\ndata: {"site":"a"}\n\n', 'event: reset\nid: 42\ndata: {}\n\n'];
  let ended;
  const end = new Promise((done) => { ended = done; });
  const fetch_ = async (_, { headers }) => {
    ids.push(headers['last-event-id'] ?? '');
    const text = texts[ids.length - 1];
    return text ? new Response(text) : new Response('', { status: 401 });
  };
  openStream('/x', { event: (type, data) => seen.push([type, data.site]), state: (s) => { if (s === 'ended') ended(); }, reset: () => seen.push('reset'), unauthorized: () => seen.push(401), fetch: fetch_, wait: async () => {} });
  await end;
  assert.deepEqual(ids, ['', '41', '42']);
  assert.deepEqual(seen, [['site', 'a'], 'reset', 401]);
});

test('a refusal carries its code and 401 is noticed', async () => {
  let noticed = 0;
  onProblem({ unauthorized: () => { noticed++; } });
  globalThis.fetch = async () => new Response(JSON.stringify({ code: 'locked', retry_after: 300 }), { status: 429 });
  await assert.rejects(request('POST', '/login', { json: {}, quiet: true }), (e) => e instanceof Problem && e.code === 'locked' && e.retryAfter === 300);
  globalThis.fetch = async () => new Response('oops', { status: 401 });
  await assert.rejects(request('GET', '/me'), (e) => e.code === 'http_401');
  assert.equal(noticed, 1);
  globalThis.fetch = async () => { throw new TypeError('network'); };
  await assert.rejects(request('GET', '/me'), (e) => e.code === 'unreachable');
  assert.equal(query({ a: 1, b: null, c: '', d: 'x y' }), '?a=1&d=x+y');
});

test('routes find their page and parameters', () => {
  const table = [['/events', 'list'], ['/events/:site/:id', 'one']];
  assert.deepEqual(match(table, parseHash('#/events/km%2F1/7?x=1').parts), { target: 'one', params: { site: 'km/1', id: '7' } });
  assert.equal(match(table, parseHash('#/nothing').parts), null);
  assert.equal(parseHash('#/a/%zz').parts[1], '%zz');
});

test('rights are looked up by the group of the site', () => {
  const me = { rights: { a: ['board', 'clip'], b: ['board'] }, sites: { s1: 'a', s2: 'b' }, purpose: { kind: 'duty', until: '2026-01-01T00:00:00Z' } };
  assert.ok(canAt(me, 'clip', 's1') && !canAt(me, 'clip', 's2') && !canAt(me, 'board', 'other') && can(me, 'clip') && !can(null, 'board'));
  assert.ok(canAt({ ...me, rights: { '*': ['lock'] } }, 'lock', 's2'));
  assert.equal(purposeNow(me, Date.parse('2026-01-01T00:00:01Z')), null);
  assert.equal(purposeNow(me, Date.parse('2025-12-31T00:00:01Z'))?.kind, 'duty');
});

test('an event of the stream is held against the filters', () => {
  const e = { site: 'a', rule: 'r', zones: ['z'], start: '2026-01-02T00:00:00.000Z', handled: null };
  assert.ok(fits(e, {}) && fits(e, { site: 'a', zone: 'z', handled: 'no' }));
  for (const f of [{ site: 'b' }, { rule: 'x' }, { zone: 'y' }, { handled: 'yes' }, { from: '2026-01-03T00:00:00.000Z' }, { to: '2026-01-01T00:00:00.000Z' }, { q: 'x' }]) assert.ok(!fits(e, f), JSON.stringify(f));
  assert.deepEqual([0, 44, 359, -90, 180].map(wayOf), ['n', 'ne', 'n', 'w', 's']);
});

test('the plan shows tiles of its bounds only', () => {
  const set = { min_zoom: 10, max_zoom: 16, bounds: [105.8, 20.9, 105.9, 21.0] };
  const tiles = tilesInSight(set, { x: 0, y: 0, scale: 1 }, 800, 600, 600);
  assert.ok(tiles.length > 0 && tiles.length <= 120);
  const z = Number(tiles[0].id.split('/')[0]);
  const left = Math.floor(mercator(105.8, 21.0).x * 2 ** z);
  assert.ok(tiles.every((p) => Number(p.id.split('/')[1]) >= left));
  assert.match(wedge(10, 10, 0, 90, 5), /^M10\.0 10\.0L6\.5 6\.5A5\.0 5\.0 0 0 1 13\.5 6\.5Z$/);
});

test('charts leave gaps open and scales are round', () => {
  assert.deepEqual(runs([0, 60, 120, 180, 600], [1, null, 2, 3, 4], 60).map((r) => r.length), [1, 2, 1]);
  assert.deepEqual([0, 7, 12, 0.3, 2400].map(niceCeil), [1, 10, 20, 0.5, 2500]);
});

test('ticks stand at round times and narrow pieces join', () => {
  const from = Date.parse('2026-11-24T17:00:00Z');
  const found = ticks(from, from + 86400000, 900);
  assert.equal(found[0].text, '00:00');
  assert.ok(found.length <= 15);
  const list = Array.from({ length: 1000 }, (_, i) => ({ kind: 'file', from: i * 100, to: i * 100 + 50, fid: i }));
  assert.equal(merge(list, 200).length, 1);
});

test('a search goes on by itself while it finds few and the page is visible', () => {
  const of = { next: 'x', found: 0, steps: 0, stopped: false, hidden: false };
  assert.equal(goesOn(of), true);
  for (const end of [{ next: null }, { found: 50 }, { steps: STEPS_MAX }, { stopped: true }, { hidden: true }]) assert.equal(goesOn({ ...of, ...end }), false);
});
