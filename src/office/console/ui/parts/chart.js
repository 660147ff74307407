// @ts-check
// Charts of health: lines in own SVG, gaps stay gaps, and the same numbers as a table.
import { html, signal, svg, onCleanup } from '../core/view.js';
import { duration, number, t } from '../core/i18n.js';
import { dateTime } from '../core/time.js';
import { ticks } from './axis.js';

const HEIGHT = 120;
const PAD = { left: 62, right: 8, top: 8, bottom: 20 };
/** Rows of the table beside a chart: the newest, the rest is in the picture. */
const ROWS_MAX = 100;

/** A round upper end of the scale. @param {number} value */
export function niceCeil(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 2.5, 5, 10].find((m) => m * power >= value) ?? 10) * power;
}

/** Runs of values between gaps. @param {number[]} times s @param {(number | null)[]} values @param {number} step s @returns {[number, number][][]} */
export function runs(times, values, step) {
  /** @type {[number, number][][]} */ const out = [];
  let last = -Infinity;
  times.forEach((at, i) => {
    const v = values[i];
    if (v == null || !Number.isFinite(v)) { last = -Infinity; return; }
    if (at - last > step * 2.5) out.push([]);
    /** @type {[number, number][]} */ (out.at(-1)).push([at, v]);
    last = at;
  });
  return out;
}

/**
 * A step shows the newest value of its time, or by `kind` the lowest or the highest; `now` is what holds now.
 * @param {{title: string, times: number[], values: (number | null)[], step: number, from: number, to: number, format: (v: number) => string, max?: number, kind?: 'lowest' | 'highest', now: () => string}} of
 */
export function chart(of) {
  const title = of.kind ? `${of.title} (${t(`chart.${of.kind}`, { span: duration(of.step) })})` : of.title;
  const width = signal(420);
  const observer = new ResizeObserver(([e]) => { width.value = Math.max(220, Math.round(e.contentRect.width)); });
  onCleanup(() => observer.disconnect());
  const known = of.values.filter((v) => v != null && Number.isFinite(v)).map(Number);
  const top = of.max ?? niceCeil(Math.max(0, ...known));
  const { from, to, step } = of;
  return html`<figure class="chart"><figcaption><b>${of.title}</b><span><small class="muted">${t('chart.now')}</small> ${of.now}</span></figcaption>${of.kind ? html`<p class="hint">${t(`chart.${of.kind}`, { span: duration(step) })}</p>` : null}
    <div ref=${(/** @type {Element} */ e) => observer.observe(e)}>${() => {
    const w = width.value;
    const x = (/** @type {number} */ at) => PAD.left + ((at - from) / Math.max(1, to - from)) * (w - PAD.left - PAD.right);
    const y = (/** @type {number} */ v) => PAD.top + (1 - Math.min(1, v / top)) * (HEIGHT - PAD.top - PAD.bottom);
    return svg`<svg width="${w}" height="${HEIGHT}" role="img" aria-label="${() => t('chart.label', { title, low: known.length ? of.format(Math.min(...known)) : '–', high: known.length ? of.format(Math.max(...known)) : '–', newest: of.now() })}">
      ${[0, 0.5, 1].filter((f) => f !== 0.5 || ![0, top].some((v) => of.format(v) === of.format(top / 2))).map((f) => svg`<g><line class="tick" x1="${PAD.left}" x2="${w - PAD.right}" y1="${y(top * f)}" y2="${y(top * f)}"/><text class="tick-text" text-anchor="end" x="${PAD.left - 5}" y="${y(top * f) + 4}">${of.format(top * f)}</text></g>`)}
      ${ticks(from * 1000, to * 1000, w - PAD.left - PAD.right).map((k) => svg`<text class="tick-text" text-anchor="${x(k.at / 1000) > w - 24 ? 'end' : 'middle'}" x="${x(k.at / 1000) > w - 24 ? w : x(k.at / 1000)}" y="${HEIGHT - 5}">${k.text}</text>`)}
      ${runs(of.times, of.values, step).map((run) => svg`<path class="chart-line" d="${run.length === 1 ? `M${x(run[0][0]) - 1} ${y(run[0][1])}h2` : `M${run.map(([at, v]) => `${x(at).toFixed(1)} ${y(v).toFixed(1)}`).join('L')}`}"/>`)}</svg>`;
  }}</div>
    <details><summary>${t('chart.table')}</summary><div class="table-wrap table-short" tabindex="0" role="region" aria-label="${of.title}"><table class="table"><thead><tr><th scope="col">${t('time')}</th><th scope="col">${title}</th></tr></thead>
      <tbody>${of.times.map((at, i) => /** @type {[number, number | null]} */ ([at, of.values[i]])).slice(-ROWS_MAX).reverse().map(([at, v]) => html`<tr><td>${dateTime(at * 1000)}</td><td class="number">${v == null ? t('chart.gap') : of.format(v)}</td></tr>`)}</tbody></table></div></details></figure>`;
}
export const plainNumber = (/** @type {number} */ v) => number(v, 1);
