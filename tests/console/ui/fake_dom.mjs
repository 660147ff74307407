// As much of the DOM as the view layer touches, for node: nodes, text, attributes, listeners.
class FakeNode {
  constructor() { this.childNodes = []; this.parentNode = null; }
  get firstChild() { return this.childNodes[0] ?? null; }
  get nextSibling() { const list = this.parentNode?.childNodes; return list ? list[list.indexOf(this) + 1] ?? null : null; }
  get textContent() { return this.childNodes.map((c) => c.textContent).join(''); }
  remove() { if (this.parentNode) { const l = this.parentNode.childNodes; l.splice(l.indexOf(this), 1); this.parentNode = null; } }
  insertBefore(node, before) {
    if (node instanceof FakeFragment) { for (const c of [...node.childNodes]) this.insertBefore(c, before); return node; }
    node.remove();
    const at = before ? this.childNodes.indexOf(before) : this.childNodes.length;
    this.childNodes.splice(at, 0, node);
    node.parentNode = this;
    return node;
  }
  appendChild(node) { return this.insertBefore(node, null); }
  append(...nodes) { for (const n of nodes) this.appendChild(n); }
  before(node) { this.parentNode.insertBefore(node, this); }
  replaceChildren() { for (const c of [...this.childNodes]) c.remove(); }
}
class FakeFragment extends FakeNode {}
class FakeText extends FakeNode { constructor(data) { super(); this.data = data; } get textContent() { return this.data; } }
class FakeElement extends FakeNode {
  constructor(tag) { super(); this.tag = tag; this.attributes = {}; this.listeners = {}; this.style = { setProperty: (k, v) => { this.attributes[`style:${k}`] = v; } }; }
  setAttribute(k, v) { this.attributes[k] = v; }
  removeAttribute(k) { delete this.attributes[k]; }
  toggleAttribute(k, on) { if (on) this.attributes[k] = ''; else delete this.attributes[k]; }
  addEventListener(k, fn) { this.listeners[k] = fn; }
}
export function installDom() {
  Object.assign(globalThis, { Node: FakeNode, Text: FakeText, document: { documentElement: {}, createTextNode: (d) => new FakeText(d), createElement: (t) => new FakeElement(t), createElementNS: (_, t) => new FakeElement(t), createDocumentFragment: () => new FakeFragment() } });
  return { element: (tag) => new FakeElement(tag) };
}
export const settle = () => new Promise((done) => { setTimeout(done, 0); });
