/** The service's REST API, and its JSON without loss. */

/** A number that a double cannot hold, or writes in another way: shown as it came. */
export class Exact {
  constructor(text) { this.text = text; }
  toString() { return this.text; }
}

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const MARK = "\u0000#"; // PostgreSQL has no text with a null character

/** JSON as values, with an Exact for each number that would change on the way. */
export function parse(text) {
  const marked = text.replace(TOKEN, (token) =>
    token[0] === '"' || String(Number(token)) === token ? token : JSON.stringify(MARK + token));
  return JSON.parse(marked, (_, value) =>
    typeof value === "string" && value.startsWith(MARK) ? new Exact(value.slice(2)) : value);
}

/** The JSON that `parse` has read, indented. */
export function write(value, indent = "") {
  if (value instanceof Exact) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}  `;
  const list = Array.isArray(value);
  const parts = list
    ? value.map((one) => inner + write(one, inner))
    : Object.entries(value).map(([name, one]) => `${inner}${JSON.stringify(name)}: ${write(one, inner)}`);
  const [open, close] = list ? "[]" : "{}";
  return parts.length ? `${open}\n${parts.join(",\n")}\n${indent}${close}` : open + close;
}

/** What a document has at a dotted path; undefined for nothing. */
export function pick(value, path) {
  if (Array.isArray(value)) {
    const found = value.map((one) => pick(one, path)).filter((one) => one !== undefined);
    return found.length ? found.flat() : undefined;
  }
  if (value === null || typeof value !== "object" || value instanceof Exact) return undefined;
  if (Object.hasOwn(value, path)) return value[path];
  for (let dot = path.indexOf("."); dot > 0; dot = path.indexOf(".", dot + 1)) {
    const head = path.slice(0, dot);
    const found = Object.hasOwn(value, head) ? pick(value[head], path.slice(dot + 1)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/** An answer that is no success, in words (RFC 9457). */
export class Problem extends Error {
  constructor({ title, detail, errors = [], type = "", status = 0, retryAfter = 0, request = "" }) {
    super(detail);
    Object.assign(this, { title, detail, errors, status, retryAfter, request });
    this.kind = type.replace("urn:pg-es-search:", "");
  }
}

const SECRET = "pg-es-search key";
export const secret = {
  get: () => sessionStorage.getItem(SECRET) ?? "",
  set: (text) => (text ? sessionStorage.setItem(SECRET, text) : sessionStorage.removeItem(SECRET)),
};

/** The answer's content and headers. Raises Problem, or AbortError when the signal says so. */
export async function ask(path, { body, signal } = {}) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (secret.get()) headers.Authorization = `Bearer ${secret.get()}`;
  let answer;
  let text;
  try {
    const options = { method: body ? "POST" : "GET", headers, signal, credentials: "same-origin" };
    // Relative: the service may be behind a proxy, under a path.
    answer = await fetch(path, body ? { ...options, body: JSON.stringify(body) } : options);
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No answer", detail: "The service cannot be reached. Is it running?" });
  }
  let content = null;
  try {
    content = parse(text);
  } catch { /* of a proxy, not of the service */ }
  if (answer.ok && content !== null) return { content, headers: answer.headers };
  throw new Problem({
    title: `Status ${answer.status}`,
    detail: answer.statusText || "The answer is not one of the search service.",
    ...content,
    status: answer.status,
    retryAfter: Number(answer.headers.get("Retry-After")) || 0,
    request: answer.headers.get("X-Request-ID") ?? "",
  });
}

/** The command for a POST, with $API_KEY in place of the key. */
export function curl(path, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    `curl -s ${quoted(new URL(path, document.baseURI).href)}`,
    ...(secret.get() ? ['-H "Authorization: Bearer $API_KEY"'] : []),
    "-H 'Content-Type: application/json'",
    `-d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n  ");
}
