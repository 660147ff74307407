import assert from 'node:assert/strict';
import test from 'node:test';
import { readFileSync } from 'node:fs';
import { installDom, settle } from './fake_dom.mjs';

const { element } = installDom();
const { computed, each, effect, html, render, root, signal } = await import('../../../src/office/console/ui/core/view.js');
const { visible, plain } = await import('../../../src/office/console/ui/core/text.js');

test('the view layer stays within 250 lines', () => {
  const text = readFileSync(new URL('../../../src/office/console/ui/core/view.js', import.meta.url), 'utf8');
  assert.ok(text.split('\n').length - 1 <= 250);
});

test('text of a device becomes a text node', () => {
  const box = element('div');
  render(box, () => html`<p title="${'<b>"\u202e'}">${'<img src=x onerror=alert(1)>\u202Ecod.exe'}</p>`);
  const p = box.firstChild;
  assert.equal(p.childNodes.length, 1);
  assert.equal(p.textContent, '<img src=x onerror=alert(1)>\\u{202e}cod.exe');
  assert.equal(p.attributes.title, '<b>"\\u{202e}');
});

test('control and bidi characters are shown', () => {
  assert.equal(visible('a\u0007b\u200Fc\nd\u2066'), 'a\\u{07}b\\u{200f}c\\nd\\u{2066}');
  assert.equal(visible('Ngã tư chợ Ễ ự ặ'), 'Ngã tư chợ Ễ ự ặ');
  assert.equal(plain('Đường Ngã tư'), 'duong nga tu');
});

test('addresses elsewhere never become links', () => {
  const box = element('div');
  for (const url of ['javascript:alert(1)', 'https://example.org/', '//example.org', 'data:text/html,x']) {
    render(box, () => html`<a href="${url}">x</a>`);
    assert.equal(box.firstChild.attributes.href, undefined, url);
  }
  render(box, () => html`<a href="${'#/board'}">x</a>`);
  assert.equal(box.firstChild.attributes.href, '#/board');
});

test('a region follows its signal and cleans up', async () => {
  const s = signal('a');
  let runs = 0;
  const box = element('div');
  const end = render(box, () => html`<p>${() => { runs++; return s.value; }}</p>`);
  assert.equal(box.textContent, 'a');
  s.value = 'b';
  await settle();
  assert.equal(box.textContent, 'b');
  end();
  s.value = 'c';
  await settle();
  assert.equal(runs, 2);
});

test('a parent runs before the child it replaces', async () => {
  const s = signal(/** @type {{n: number} | null} */ ({ n: 1 }));
  const box = element('div');
  const errors = [];
  const before = console.error;
  console.error = (e) => errors.push(e);
  render(box, () => html`${() => (s.value ? html`<p>${() => s.value.n}</p>` : html`<i>none</i>`)}`);
  s.value = null;
  await settle();
  console.error = before;
  assert.equal(box.textContent, 'none');
  assert.deepEqual(errors, []);
});

test('a computed value is fresh when it is read', () => {
  root(() => {
    const a = signal(1);
    const twice = computed(() => a.value * 2);
    assert.equal(twice.value, 2);
    a.value = 5;
    assert.equal(twice.value, 10);
  });
});

test('rows keep their elements when the order changes', async () => {
  const list = signal([{ id: 1, t: 'a' }, { id: 2, t: 'b' }, { id: 3, t: 'c' }]);
  const box = element('ul');
  render(box, () => html`${each(list, (x) => x.id, (x) => html`<li>${() => x.value.t}</li>`)}`);
  const items = () => box.childNodes.filter((n) => n.tag === 'li');
  const [one, two] = items();
  list.value = [{ id: 2, t: 'B' }, { id: 4, t: 'd' }, { id: 1, t: 'a' }];
  await settle();
  assert.deepEqual(items().map((n) => n.textContent), ['B', 'd', 'a']);
  assert.equal(items()[0], two);
  assert.equal(items()[2], one);
  list.value = [];
  await settle();
  assert.equal(items().length, 0);
});

test('an effect loop ends with a message', async () => {
  const s = signal(0);
  const messages = [];
  const before = console.error;
  console.error = (m) => messages.push(String(m));
  root((dispose) => { effect(() => { s.value = s.value + 1; }); return dispose; });
  await settle();
  console.error = before;
  assert.ok(messages.some((m) => m.includes('without end')));
});
