import assert from 'node:assert/strict';
import test from 'node:test';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { UI } from './mock_server.mjs';
import { setTexts, t, number, bytes, duration, lengthOf, wordsOf } from '../../../src/office/console/ui/core/i18n.js';
import { sentence } from '../../../src/office/console/ui/parts/resource.js';
import { Problem } from '../../../src/office/console/ui/core/api.js';
import { objectText } from '../../../src/office/console/ui/pages/audit.js';
import { presentOf } from '../../../src/office/console/ui/pages/site.js';
import { ROLES, PURPOSES } from '../../../src/office/console/ui/core/rights.js';

const read = (lang) => JSON.parse(readFileSync(join(UI, `i18n/${lang}.json`), 'utf8'));
const vi = read('vi');
const en = read('en');
export const files = (dir = UI) => readdirSync(dir, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? files(join(dir, e.name)) : [join(dir, e.name)]));
const scripts = files().filter((f) => f.endsWith('.js')).map((f) => [f, readFileSync(f, 'utf8')]);
const words = (entry) => (typeof entry === 'string' ? [entry] : Object.values(entry));
const slots = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort();

test('both languages have every key and argument', () => {
  assert.deepEqual(Object.keys(vi).sort(), Object.keys(en).sort());
  for (const key of Object.keys(vi)) {
    for (const text of [...words(vi[key]), ...words(en[key])]) {
      assert.ok(text.trim() !== '', key);
      assert.deepEqual(slots(text), slots(words(en[key]).at(-1)), key);
    }
  }
});

test('every key that a page asks for is there', () => {
  for (const [file, text] of scripts) for (const [, key] of text.matchAll(/\bt\('([a-z0-9_.-]+)'/g)) assert.ok(key in vi, `${file}: ${key}`);
});

test('every word of a closed list has its text', () => {
  const keys = [
    ...ROLES.map((r) => `role.${r}`), ...PURPOSES.flatMap((p) => [`purpose.${p}`, `purpose.${p}_hint`]), ...['ok', 'warn', 'fault', 'unknown'].map((s) => `state.${s}`),
    ...['open', 'waiting', 'ended'].map((s) => `stream.${s}`), ...['real', 'false_alarm', 'none'].map((v) => `verdict.${v}`), ...['ntp', 'camera', 'rtc', 'unset'].map((c) => `clock.${c}`),
    ...['camera_down', 'fell_behind', 'power_cut', 'stopped', 'evicted_pinned', 'damaged', 'disk_error', 'too_large', 'no_key_frame', 'no_key_yet', 'missing', 'several'].map((g) => `gap.${g}`),
    ...['recording', 'recording_demo', 'starting', 'stopping', 'not_recording', 'lost', 'silent', 'memory_only', 'camera_down', 'blind', 'backlog_old', 'card_worn', 'clock_poor', 'missing', 'sim_budget', 'certificate', 'never_heard'].map((r) => `reason.${r}`),
    ...[86400, 21600, 3600, 600, 60].map((z) => `axis.zoom_${z}`), ...[6, 24, 168, 720].map((h) => `site.span_${h}`),
    ...['unreachable', 'login_failed', 'session_expired', 'forbidden', 'too_old', 'privacy_zones', 'wrong_password', 'purpose_bad', 'purpose_missing', 'reason_missing', 'token_bad', 'weak_password', 'not_found', 'conflict', 'too_large', 'invalid', 'busy', 'unavailable', 'internal', 'audit_unavailable', 'no_reply', 'not_available', 'codec_unsupported'].map((p) => `problem.${p}`),
  ];
  for (const key of keys) assert.ok(key in vi, key);
});

test('every text is composed, and only fonts of the system are asked for', () => {
  for (const file of files().filter((f) => /\.(js|json|html|css)$/.test(f))) {
    const text = readFileSync(file, 'utf8');
    // A mark that stands alone is drawn beside its base by some fonts.
    assert.equal(text, text.normalize('NFC'), `${file} is not NFC`);
    assert.doesNotMatch(text, /@font-face|FontFace\(/, file);
  }
  for (const [, stack] of readFileSync(join(UI, 'css/base.css'), 'utf8').matchAll(/font(?:-family)?:([^;]+);/g)) if (stack.includes(',')) assert.match(stack, /(sans-serif|monospace)\s*$/);
});

test('numbers and plurals follow the language', () => {
  setTexts('vi', vi);
  assert.equal(number(10231), '10.231');
  assert.equal(bytes(4.2e9), '4,2 GB');
  assert.equal(duration(7500), '2 giờ 5 phút');
  assert.equal(t('events.count', { n: 1, more: '' }), '1 sự kiện');
  setTexts('en', en);
  assert.equal(number(10231), '10,231');
  assert.equal(t('events.count', { n: 1, more: '' }), '1 event');
  assert.equal(t('events.count', { n: 2, more: '+' }), '2+ events');
  assert.equal(t('no.such.key'), 'no.such.key');
});

test('a weak password is refused in the language of the page', () => {
  const weak = new Problem(422, { code: 'weak_password', detail: 'This is a top-10 common password.' });
  setTexts('vi', vi);
  assert.equal(sentence(weak), vi['problem.weak_password']);
  assert.equal(sentence('Giờ sai'), 'Giờ sai', 'the word of a form is no fault of the page');
  setTexts('en', en);
  assert.match(sentence(weak), /easily guessed.* This is a top-10/);
});

test('a gap is never 0 seconds long', () => {
  setTexts('vi', vi);
  assert.deepEqual([lengthOf(5, 5), lengthOf(0, 400), lengthOf(0, 2000), duration(0)], ['dưới 1 giây', 'dưới 1 giây', '2 giây', '0 giây']);
});

test('the trail says its objects in words', () => {
  setTexts('vi', vi);
  assert.equal(objectText({ object: ['user', 'u7', 'tran.van.b', 'operator', '*'] }, null), 'người dùng tran.van.b Trực ban tất cả điểm');
  assert.equal(objectText({ object: ['lock', '3', 'noted'], site: 'km-17' }, [{ id: 3, site: 'km-17', title: 'Va chạm', case: '31' }]), 'khoá số 3 đã ghi chú: Va chạm (Vụ việc 31)');
  assert.equal(objectText({ object: ['file', '7be1c0ffee0011223344556677'] }, null), 'tệp 7be1c0ffee00…');
  assert.equal(objectText({ object: [] }, null), '–');
  const acts = readFileSync(join(UI, '../audit/act.rs'), 'utf8').matchAll(/ = "([a-z.]+)",/g);
  for (const [, act] of acts) assert.ok(wordsOf('act').includes(act), act);
});

test('the trail says deletions, exports and commands in words', () => {
  const digest = '7be1c0ffee0011223344556677';
  const said = (object, site) => ['vi', 'en'].map((lang) => { setTexts(lang, { vi, en }[lang]); return objectText({ object, site }, null); });
  assert.deepEqual(said(['files', '1200', 'bytes:3456', 'clip:1188', 'snapshot:10', 'requested:2'], 'km-17'), [
    'số tệp: 1.200, dung lượng: 3,5 KB, đoạn ghi: 1.188, ảnh: 10, đoạn lấy theo yêu cầu: 2', 'files: 1,200, size: 3.5 KB, clips: 1,188, pictures: 10, requested footage: 2']);
  assert.deepEqual(said(['files', '1', 'bytes:7', 'later:1', 'No Site']), ['số tệp: 1, dung lượng: 7 B, later: 1, No Site', 'files: 1, size: 7 B, later: 1, No Site']);
  assert.deepEqual(said(['export', digest]), ['xuất sự kiện 7be1c0ffee00…', 'export of event 7be1c0ffee00…']);
  assert.deepEqual(said(['config-push', digest]), ['gửi cấu hình 7be1c0ffee00…', 'configuration sent 7be1c0ffee00…']);
  assert.deepEqual(said(['ping', '9c4b', 'fleet']), ['kiểm tra liên lạc 9c4b mọi thiết bị', 'ping 9c4b all devices']);
  assert.deepEqual(said(['removed', '12', digest]), ['thiếu các bản ghi đến số 12 7be1c0ffee00…', 'records missing up to no. 12 7be1c0ffee00…']);
  assert.deepEqual(said(['user', 'u7', 'clip:10'])[1], 'user clip:10', 'a name is no sum');
  // Every kind that the office writes by name.
  const sources = readdirSync(join(UI, '../../..'), { recursive: true }).filter((f) => f.endsWith('.rs')).map((f) => readFileSync(join(UI, '../../..', f), 'utf8'));
  const kinds = sources.flatMap((text) => [...text.matchAll(/\bEntry::of\([^()]*\)(?:\.(?:site|range)\([^()]*\))*\.object\("([^"]+)"\)/g)].map((m) => m[1]));
  assert.ok(kinds.includes('files') && kinds.includes('export') && kinds.includes('config-push'));
  for (const kind of kinds) assert.ok(`object.${kind}` in vi, kind);
});

test('what a figure is now comes from the last health message', () => {
  const health = { camera: 'recording', clock: 'ntp', backlog: { bytes: 5, n: 2, oldest: 9 }, counters: { 'motion.blind': 0, 'storage.worn_percent': 31 } };
  assert.deepEqual(['recording', 'blind', 'backlog', 'backlog_age', 'clock', 'wear', 'pinned'].map((n) => presentOf(health, n)), [1, 0, 5, 9, 3, 31, undefined]);
  assert.equal(presentOf(null, 'recording'), undefined);
});

test('no page parses text as markup or loads from elsewhere', () => {
  for (const [file, text] of scripts) {
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc/, file);
    assert.doesNotMatch(text.replace('http://www.w3.org/2000/svg', ''), /https?:\/\//, file);
    assert.ok(text.split('\n').length <= 500, file);
  }
  const index = readFileSync(join(UI, 'index.html'), 'utf8');
  assert.doesNotMatch(index, /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
});
