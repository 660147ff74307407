// @ts-check
// Signals, effects, templates of DOM nodes, keyed lists. Text becomes text nodes and nothing else.
import { visible } from './text.js';

/** @typedef {{sources: Set<Set<any>>, stale: () => void}} Observer */
/** @typedef {{cleanups: (() => void)[]}} Owner */
/** @template T @typedef {{value: T, peek: () => T}} Signal */

/** @type {Observer | null} */ let observer = null;
/** @type {Owner | null} */ let owner = null;
let lastId = 0;
let queued = false;
/** @type {Set<any>} */ const pending = new Set();
/** Rounds of effects that trigger effects before the page calls it a loop. */
const ROUNDS_MAX = 100;

const subscribe = (/** @type {Set<any>} */ subscribers) => {
  if (observer) { subscribers.add(observer); observer.sources.add(subscribers); }
};
const unsubscribe = (/** @type {Observer} */ node) => {
  for (const subscribers of node.sources) subscribers.delete(node);
  node.sources.clear();
};
const within = (/** @type {any} */ seen, /** @type {any} */ owns, /** @type {() => any} */ run) => {
  const before = /** @type {const} */ ([observer, owner]);
  [observer, owner] = [seen, owns];
  try { return run(); } finally { [observer, owner] = before; }
};
const clear = (/** @type {Owner} */ node) => { for (const cleanup of node.cleanups.splice(0)) cleanup(); };

function flush() {
  for (let round = 0; pending.size > 0; round++) {
    if (round > ROUNDS_MAX) { pending.clear(); console.error('effects trigger each other without end'); break; }
    const batch = [...pending].sort((a, b) => a.id - b.id);
    pending.clear();
    for (const node of batch) {
      try { node.run(); } catch (error) { console.error(error); }
    }
  }
  queued = false;
}

/** A value that effects and templates follow. @template T @param {T} initial @returns {Signal<T>} */
export function signal(initial) {
  let value = initial;
  const subscribers = new Set();
  return {
    get value() { subscribe(subscribers); return value; },
    set value(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const node of [...subscribers]) node.stale();
    },
    peek: () => value,
  };
}

/** A value computed from others, when it is read. @template T @param {() => T} fn @returns {{readonly value: T, peek: () => T}} */
export function computed(fn) {
  /** @type {any} */ let value;
  let dirty = true;
  const subscribers = new Set();
  const node = {
    sources: new Set(),
    stale() { if (!dirty) { dirty = true; for (const next of [...subscribers]) next.stale(); } },
  };
  const read = () => {
    if (dirty) { unsubscribe(node); value = within(node, owner, fn); dirty = false; }
    return value;
  };
  onCleanup(() => { unsubscribe(node); dirty = true; });
  return { get value() { subscribe(subscribers); return read(); }, peek: () => within(null, owner, read) };
}

/** Runs `fn` now and after every change of what it read. @param {() => void} fn @returns {() => void} ends it */
export function effect(fn) {
  const node = {
    id: ++lastId, sources: new Set(), cleanups: /** @type {(() => void)[]} */ ([]), dead: false,
    stale() { pending.add(node); if (!queued) { queued = true; queueMicrotask(flush); } },
    run() { if (node.dead) return; clear(node); unsubscribe(node); within(node, node, fn); },
  };
  const dispose = () => { node.dead = true; clear(node); unsubscribe(node); };
  onCleanup(dispose);
  node.run();
  return dispose;
}

/** Reads without following. @template T @param {() => T} fn @returns {T} */
export const untrack = (fn) => within(null, owner, fn);

/** Runs `fn` when the part of the page that calls this goes away. @param {() => void} fn */
export const onCleanup = (fn) => { owner?.cleanups.push(fn); };

/** An interval that ends with its part of the page. @param {number} ms @param {() => void} fn */
export const every = (ms, fn) => { const id = setInterval(fn, ms); onCleanup(() => clearInterval(id)); };

/** A listener that ends with its part of the page. @param {EventTarget} target @param {string} type @param {(e: any) => void} fn @param {any} [options] */
export function listen(target, type, fn, options) {
  target.addEventListener(type, fn, options);
  onCleanup(() => target.removeEventListener(type, fn, options));
}

/** Runs `fn` with an owner of its own. @template T @param {(dispose: () => void) => T} fn @returns {T} */
export function root(fn) {
  const scope = { cleanups: [] };
  return within(null, scope, () => fn(() => clear(scope)));
}

const TOKEN = /<!--[\s\S]*?-->|<(\/?)([a-zA-Z][\w-]*)((?:\s+[^\s=>/"]+(?:="[^"]*"|=[^\s>"]+)?)*)\s*(\/?)>|[^<]+/g;
const ATTRIBUTE = /([^\s=>/"]+)(?:="([^"]*)"|=([^\s>"]+))?/g;
const VOID = new Set(['br', 'col', 'hr', 'img', 'input', 'meta', 'wbr']);
const SVG = 'http://www.w3.org/2000/svg';
/** What a link or a picture of the page may point at: this office and nothing else. */
const SAFE_URL = /^(\/(?!\/)|#|blob:|data:image\/(png|jpeg);)/;
const URLS = new Set(['href', 'src', 'action', 'formaction', 'poster']);
/** @typedef {{tag: string, attributes: [string, (string | number)[]][], children: any[]}} Element_ */
/** @type {WeakMap<TemplateStringsArray, Element_>} */ const compiled = new WeakMap();

/** Splits literal text at its slots. @param {string} text @param {() => number} slot */
const pieces = (text, slot) => text.split(/(\0)/).filter((p) => p !== '').map((p) => (p === '\0' ? slot() : p));

/** @param {TemplateStringsArray} strings @returns {Element_} */
function compile(strings) {
  let slots = 0;
  const slot = () => slots++;
  /** @type {Element_} */ const top = { tag: '', attributes: [], children: [] };
  const stack = [top];
  for (const [token, close, tag, attributes, selfClose] of strings.join('\0').matchAll(TOKEN)) {
    const parent = /** @type {Element_} */ (stack.at(-1));
    if (token.startsWith('<!--')) continue;
    if (!tag) {
      for (const piece of pieces(token, slot)) {
        if (typeof piece === 'number') parent.children.push(piece);
        else if (piece.trim() || !piece.includes('\n')) parent.children.push(piece.replace(/\s+/g, ' '));
      }
    } else if (close) {
      if (parent.tag !== tag) throw new Error(`template: </${tag}> closes <${parent.tag}>`);
      stack.pop();
    } else {
      /** @type {Element_} */ const child = { tag, attributes: [], children: [] };
      for (const [, name, quoted, bare] of attributes.matchAll(ATTRIBUTE)) child.attributes.push([name, pieces(quoted ?? bare ?? '', slot)]);
      parent.children.push(child);
      if (!selfClose && !VOID.has(tag)) stack.push(child);
    }
  }
  if (stack.length > 1) throw new Error(`template: <${stack.at(-1)?.tag}> is open`);
  return top;
}

const isSignal = (/** @type {any} */ v) => typeof v === 'object' && v !== null && 'peek' in v && 'value' in v;
const isLive = (/** @type {any} */ v) => typeof v === 'function' || isSignal(v);
const read = (/** @type {any} */ v) => (typeof v === 'function' ? v() : isSignal(v) ? v.value : v);

/** @param {any} element @param {string} name @param {any} value */
function setAttribute(element, name, value) {
  if (name.startsWith('.')) element[name.slice(1)] = value;
  else if (name.startsWith('?')) element.toggleAttribute(name.slice(1), Boolean(value));
  else if (name.startsWith('style:')) element.style.setProperty(name.slice(6), value == null ? '' : String(value));
  else if (value == null || value === false) element.removeAttribute(name);
  else if (URLS.has(name) && !SAFE_URL.test(String(value))) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : visible(value));
}

/** @param {Element} element @param {string} name @param {(string | number)[]} parts @param {any[]} values */
function bind(element, name, parts, values) {
  const only = parts.length === 1 && typeof parts[0] === 'number' ? values[parts[0]] : undefined;
  if (name.startsWith('@')) { if (only) element.addEventListener(name.slice(1), only); return; }
  if (name === 'ref') { only(element); return; }
  const of = (/** @type {string | number} */ p) => (typeof p === 'number' ? read(values[p]) : p);
  const apply = () => setAttribute(element, name, parts.length === 1 ? of(parts[0]) : parts.map((p) => of(p) ?? '').join(''));
  if (parts.some((p) => typeof p === 'number' && isLive(values[p]))) effect(apply); else apply();
}

/** Adds a value to a parent: text, node, list, or a region that follows what it reads. @param {Node} parent @param {any} value */
function insert(parent, value) {
  if (value == null || typeof value === 'boolean') return;
  if (Array.isArray(value)) { for (const item of value) insert(parent, item); return; }
  if (value instanceof Node) { parent.appendChild(value); return; }
  if (value.mount) { value.mount(parent); return; }
  if (!isLive(value)) { parent.appendChild(document.createTextNode(visible(value))); return; }
  const [start, end] = [document.createTextNode(''), document.createTextNode('')];
  parent.appendChild(start);
  parent.appendChild(end);
  effect(() => {
    const next = read(value);
    if ((typeof next === 'string' || typeof next === 'number') && start.nextSibling?.nextSibling === end
      && start.nextSibling instanceof Text) { start.nextSibling.data = visible(next); return; }
    while (start.nextSibling && start.nextSibling !== end) start.nextSibling.remove();
    const fragment = document.createDocumentFragment();
    untrack(() => insert(fragment, next));
    end.before(fragment);
  });
}

/** @param {Node} parent @param {any[]} children @param {any[]} values @param {boolean} svg */
function build(parent, children, values, svg) {
  for (const child of children) {
    if (typeof child === 'string') parent.appendChild(document.createTextNode(child));
    else if (typeof child === 'number') insert(parent, values[child]);
    else {
      const inSvg = svg || child.tag === 'svg';
      const element = inSvg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
      build(element, child.children, values, inSvg);
      for (const [name, parts] of child.attributes) bind(element, name, parts, values);
      parent.appendChild(element);
    }
  }
}

/** @param {boolean} svg */
const template = (svg) => (/** @type {TemplateStringsArray} */ strings, /** @type {any[]} */ ...values) => {
  let spec = compiled.get(strings);
  if (!spec) compiled.set(strings, spec = compile(strings));
  const fragment = document.createDocumentFragment();
  build(fragment, spec.children, values, svg);
  return /** @type {any} */ (fragment.childNodes.length === 1 ? fragment.firstChild : fragment);
};
export const html = template(false);
export const svg = template(true);

/** A keyed list. Each row is one element, kept while its key is there; its item is a signal. @template T
 * @param {any} list @param {(item: T) => any} key @param {(item: Signal<T>) => Element} render */
export const each = (list, key, render) => ({
  mount(/** @type {Node} */ parent) {
    const end = document.createTextNode('');
    parent.appendChild(end);
    /** @type {Map<any, {item: Signal<T>, node: Element, dispose: () => void}>} */ const rows = new Map();
    effect(() => {
      const items = new Map();
      for (const item of read(list)) if (!items.has(key(item))) items.set(key(item), item);
      for (const [k, row] of rows) if (!items.has(k)) { row.dispose(); row.node.remove(); rows.delete(k); }
      let next = /** @type {Node} */ (end);
      for (const [k, item] of [...items].reverse()) {
        const row = rows.get(k) ?? /** @type {any} */ (root((dispose) => { const s = signal(item); return { item: s, node: render(s), dispose }; }));
        rows.set(k, row);
        row.item.value = item;
        if (row.node.nextSibling !== next) end.parentNode?.insertBefore(row.node, next);
        next = row.node;
      }
    });
    onCleanup(() => { for (const row of rows.values()) row.dispose(); });
  },
});

/** Puts a view in place of what a container holds. @param {Element} container @param {() => any} view @returns {() => void} */
export const render = (container, view) => root((dispose) => {
  container.replaceChildren();
  insert(container, view());
  return () => { dispose(); container.replaceChildren(); };
});
