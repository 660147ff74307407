// @ts-check
// The API of the office: JSON, errors as problem+json (RFC 9457) with `code`.

export const BASE = '/api/v1';

/** What the office refused, by its code. */
export class Problem extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    super(body?.detail ?? body?.title ?? `HTTP ${status}`);
    this.status = status;
    /** @type {string} */ this.code = body?.code ?? (status === 0 ? 'unreachable' : `http_${status}`);
    /** @type {string} */ this.detail = body?.detail ?? '';
    this.retryAfter = Number(body?.retry_after) || 0;
    this.body = body ?? {};
  }
}

/** @type {{unauthorized: () => void, purposeMissing: () => void}} */
const hooks = { unauthorized() {}, purposeMissing() {} };
/** @param {Partial<typeof hooks>} given */
export const onProblem = (given) => { Object.assign(hooks, given); };

/** @param {Response} response */
async function problemOf(response) {
  const body = await response.json().catch(() => null);
  const problem = new Problem(response.status, body);
  if (!problem.retryAfter) problem.retryAfter = Number(response.headers.get('retry-after')) || 0;
  return problem;
}

/**
 * @param {string} method @param {string} path below `/api/v1`
 * @param {{json?: any, bytes?: Blob, headers?: Record<string, string>, signal?: AbortSignal, quiet?: boolean, keepalive?: boolean}} [options]
 *   `quiet`: a 401 is the caller's affair (the log-in page itself)
 * @returns {Promise<Response>}
 */
export async function request(method, path, options = {}) {
  /** @type {Record<string, string>} */ const headers = { accept: 'application/json', ...options.headers };
  if (options.json !== undefined) headers['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(BASE + path, {
      method, headers, credentials: 'same-origin', cache: 'no-store', signal: options.signal, keepalive: options.keepalive,
      body: options.json !== undefined ? JSON.stringify(options.json) : options.bytes,
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem(0, { code: 'unreachable' });
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 && !options.quiet) hooks.unauthorized();
  if (problem.code === 'purpose_missing') hooks.purposeMissing();
  throw problem;
}

/** @param {string} path @param {{signal?: AbortSignal, quiet?: boolean}} [options] @returns {Promise<any>} */
export const get = async (path, options) => (await request('GET', path, options)).json();
/** @param {string} method @param {string} path @param {any} [json] @param {any} [options] @returns {Promise<any>} */
export async function send(method, path, json, options) {
  const response = await request(method, path, { ...options, json: json ?? {} });
  return (response.headers.get('content-type') ?? '').includes('json') ? response.json() : null;
}

/** A query string of what is set. @param {Record<string, any>} values */
export function query(values) {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== null && value !== undefined && value !== '') found.set(key, String(value));
  const text = found.toString();
  return text ? `?${text}` : '';
}
/** One part of a path. @param {string | number} part */
export const part = (part) => encodeURIComponent(String(part));
/** @param {string} site @param {string | number} fid */
export const fileUrl = (site, fid) => `${BASE}/files/${part(site)}/${part(fid)}`;
