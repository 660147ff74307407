import assert from 'node:assert/strict';
import test from 'node:test';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { gzipSync } from 'node:zlib';
import { UI } from './mock_server.mjs';

/** What the first load of a page asks for: the modules that import each other, the styles, one language. */
function firstLoad(page) {
  const found = new Set(['index.html', 'icon.svg', 'core/theme.js', 'css/base.css', 'css/parts.css', 'css/pages.css', 'i18n/vi.json']);
  const walk = (file) => {
    if (found.has(file)) return;
    found.add(file);
    for (const [, to] of readFileSync(join(UI, file), 'utf8').matchAll(/^(?:import|export) .*?from '(\.[^']+)';/gm)) walk(normalize(join(dirname(file), to)));
  };
  walk('app.js');
  walk(`pages/${page}.js`);
  return [...found];
}

/** What travels is compressed; what the browser parses has a bound of its own. */
test('the first load stays below 180 KB, and below 200 KB unpacked', () => {
  for (const page of ['login', 'board', 'events', 'event', 'playback']) {
    const files = firstLoad(page).map((f) => readFileSync(join(UI, f)));
    const plain = files.reduce((n, b) => n + b.length, 0);
    const packed = files.reduce((n, b) => n + gzipSync(b, { level: 6 }).length, 0);
    console.log(`${page}: ${files.length} files, ${plain} bytes, gzip ${packed}`);
    assert.ok(packed <= 180_000 && plain <= 200_000, `${page}: ${packed}, ${plain}`);
  }
});
