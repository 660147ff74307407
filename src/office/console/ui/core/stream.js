// @ts-check
// Server-sent events by fetch: `Last-Event-ID` is ours to send, and a 401 is seen.

/** A parser of the event stream format. @param {(event: {type: string, data: string, id: string}) => void} emit */
export function eventParser(emit) {
  let rest = '';
  let type = '';
  let id = '';
  /** @type {string[]} */ let data = [];
  const line = (/** @type {string} */ text) => {
    if (text === '') {
      if (data.length > 0) emit({ type: type || 'message', data: data.join('\n'), id });
      type = '';
      data = [];
      return;
    }
    if (text.startsWith(':')) return;
    const colon = text.indexOf(':');
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') type = value;
    else if (field === 'data') data.push(value);
    else if (field === 'id' && !value.includes('\0')) id = value;
  };
  return (/** @type {string} */ chunk) => {
    rest += chunk;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const text of lines) line(text);
  };
}

/** Waits between attempts, in ms: the last one repeats. */
export const RETRY_WAITS = [500, 1000, 2000, 5000, 10000];
/** No byte for so long means the connection is dead: the office sends a comment every 15 s. */
const SILENCE_TIMEOUT_MS = 45000;

/**
 * @param {string} url
 * @param {{event: (type: string, data: any) => void, state: (state: 'open' | 'waiting' | 'ended') => void, reset: () => void,
 *   unauthorized: () => void, fetch?: typeof fetch, wait?: (ms: number) => Promise<void>, id?: string}} to
 * @returns {() => void} closes it
 */
export function openStream(url, to) {
  const abort = new AbortController();
  const wait = to.wait ?? ((ms) => new Promise((done) => { setTimeout(done, ms); }));
  let lastId = to.id ?? '';
  let failures = 0;
  const parser = () => eventParser(({ type, data, id }) => {
    if (id) lastId = id;
    if (type === 'reset') { to.reset(); return; }
    let value;
    try { value = JSON.parse(data); } catch { return; }
    to.event(type, value);
  });
  const once = async () => {
    const attempt = new AbortController();
    const end = () => attempt.abort();
    abort.signal.addEventListener('abort', end);
    let silence = setTimeout(end, SILENCE_TIMEOUT_MS);
    try {
      const headers = /** @type {Record<string, string>} */ ({ accept: 'text/event-stream' });
      if (lastId) headers['last-event-id'] = lastId;
      const response = await (to.fetch ?? fetch)(url, { headers, cache: 'no-store', credentials: 'same-origin', signal: attempt.signal });
      if (response.status === 401) { to.unauthorized(); return false; }
      if (!response.ok || !response.body) return true;
      failures = 0;
      to.state('open');
      const feed = parser();
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return true;
        clearTimeout(silence);
        silence = setTimeout(end, SILENCE_TIMEOUT_MS);
        feed(decoder.decode(value, { stream: true }));
      }
    } catch { return true; } finally {
      clearTimeout(silence);
      abort.signal.removeEventListener('abort', end);
    }
  };
  (async () => {
    while (!abort.signal.aborted && await once()) {
      if (abort.signal.aborted) break;
      to.state('waiting');
      await wait(RETRY_WAITS[Math.min(failures++, RETRY_WAITS.length - 1)]);
    }
    to.state('ended');
  })();
  return () => abort.abort();
}
