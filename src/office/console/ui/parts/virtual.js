// @ts-check
// A list of rows of one height, of which only those in sight exist.
import { computed, each, html, listen, onCleanup, signal } from '../core/view.js';

const OVERSCAN = 6;

/**
 * @template T
 * @param {{items: () => T[], key: (item: T) => string, height: () => number, row: (item: import('../core/view.js').Signal<T>, index: () => number) => Element,
 *   selected: import('../core/view.js').Signal<string>, label: string, id: string, nearEnd: () => void, total: () => number}} of
 */
export function virtualList(of) {
  const top = signal(0);
  const high = signal(600);
  /** @type {HTMLElement} */ let box;
  const window_ = computed(() => {
    const h = of.height();
    const list = of.items();
    const first = Math.max(0, Math.floor(top.value / h) - OVERSCAN);
    const last = Math.min(list.length, Math.ceil((top.value + high.value) / h) + OVERSCAN);
    return list.slice(first, last).map((item, i) => ({ item, index: first + i, id: of.key(item) }));
  });
  const observer = new ResizeObserver(([entry]) => { high.value = entry.contentRect.height; });
  onCleanup(() => observer.disconnect());
  let waiting = false;
  const scrolled = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      top.value = box.scrollTop;
      if (box.scrollTop + box.clientHeight * 2 > box.scrollHeight) of.nearEnd();
    });
  };
  const view = html`<div class="virtual" role="listbox" tabindex="0" id="${of.id}" aria-label="${of.label}" aria-activedescendant="${() => (of.selected.value ? `${of.id}-${of.selected.value}` : null)}"
      ref=${(/** @type {HTMLElement} */ e) => { box = e; observer.observe(e); listen(e, 'scroll', scrolled, { passive: true }); }}>
    <div class="virtual-space" role="presentation" style:height="${() => `${of.items().length * of.height()}px`}">${each(window_, (r) => r.id, (r) => {
    const element = of.row(computedItem(r), () => r.value.index);
    return html`<div class="virtual-row" role="option" id="${`${of.id}-${r.peek().id}`}" aria-selected="${() => String(of.selected.value === r.value.id)}" aria-posinset="${() => r.value.index + 1}"
      aria-setsize="${() => of.total()}" style:transform="${() => `translateY(${r.value.index * of.height()}px)`}" style:height="${() => `${of.height()}px`}"
      @click=${() => { of.selected.value = r.peek().id; }}>${element}</div>`;
  })}</div></div>`;
  return {
    view,
    /** Brings a row into sight. @param {number} index */
    reveal(index) {
      const h = of.height();
      if (index * h < box.scrollTop) box.scrollTop = index * h;
      else if ((index + 1) * h > box.scrollTop + box.clientHeight) box.scrollTop = (index + 1) * h - box.clientHeight;
    },
    /** Rows came in above: what is in sight stays in sight. @param {number} count */
    shifted(count) { if (box && box.scrollTop > 4) box.scrollTop += count * of.height(); },
    focus() { box.focus({ preventScroll: true }); },
  };
}
/** @param {import('../core/view.js').Signal<{item: any}>} r @returns {any} */
const computedItem = (r) => ({ get value() { return r.value.item; }, peek: () => r.peek().item });
