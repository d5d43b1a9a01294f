/** Elements and values. Text gets into the page as text nodes only, whatever a document holds. */

import { Exact, write } from "./api.js";

export const BEFORE = "\ue000"; // around a found word in a fragment: characters of nobody
export const AFTER = "\ue001";

const LONGEST = 400; // characters of a value in the list
const DEEPEST = 12; // objects in one another that are shown as such

export const $ = (id) => document.getElementById(id);

/** An element: properties, `aria-…`, `data-…` and `role` as attributes, and what is in it. */
export function el(tag, properties = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(aria|data)-|^role$|^for$|^scope$/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...inside);
  return made;
}

const isNumber = (value) => typeof value === "number" || value instanceof Exact;
const isObject = (value) => value !== null && typeof value === "object" && !(value instanceof Exact);
const isPoint = (value) =>
  isObject(value) && Object.keys(value).length === 2 && isNumber(value.lat) && isNumber(value.lon);

/** A value as text, on one line. */
export function plain(value) {
  if (typeof value === "string") return value;
  if (isPoint(value)) return `${value.lat}, ${value.lon}`;
  if (Array.isArray(value) && !value.some(isObject)) return value.map(plain).join(", ");
  return write(value).replace(/\n\s*/g, " ");
}

/** A value in the list, cut when it is long. `fragments` have the words that were found. */
export function cell(value, type, fragments = []) {
  if (value === null || value === undefined) return none();
  if (typeof value === "string" && fragments.length) return found(value, fragments, LONGEST);
  return leaf(value, type, LONGEST);
}

/** A whole value, objects and lists taken apart. */
export function whole(value, type, fragments = [], depth = 0) {
  if (value === null || value === undefined) return none();
  if (typeof value === "string" && fragments.length) return found(value, fragments, Infinity);
  if (!isObject(value) || isPoint(value) || depth > DEEPEST) return leaf(value, type, Infinity);
  const list = Array.isArray(value);
  if (!Object.keys(value).length) return leaf(value, type, Infinity);
  if (list && !value.some(isObject)) {
    return el("ul", { className: "values" }, ...value.map((one) => el("li", {}, whole(one, type))));
  }
  if (list) {
    const parts = value.map((one) => el("li", {}, whole(one, type, [], depth + 1)));
    return el("ol", { className: "parts" }, ...parts);
  }
  const parts = Object.entries(value).map(([name, one]) =>
    el("div", {}, el("dt", { dir: "auto" }, name), el("dd", {}, whole(one, type, [], depth + 1))));
  return el("dl", { className: "object" }, ...parts);
}

/** Words that were found, marked. */
export function marked(fragment) {
  const made = el("span", { className: "text", dir: "auto" });
  for (const [number, part] of fragment.split(BEFORE).entries()) {
    const [word, rest] = number ? part.split(AFTER) : ["", part];
    if (word) made.append(el("mark", {}, word));
    made.append(rest ?? "");
  }
  return made;
}

function none() {
  return el("span", { className: "none" }, el("span", { "aria-hidden": "true" }, "–"),
    el("span", { className: "hidden" }, "no value"));
}

function leaf(value, type = "", longest) {
  if (typeof value === "string" && type.startsWith("date")) {
    const time = value.replace(/^(\d{4,}-\d\d-\d\d)T/, "$1 ").replace(/(Z|\+00:00)$/, "");
    return el("time", { className: "date", title: value }, time);
  }
  const text = plain(value);
  const className = isNumber(value) || isPoint(value) ? "number"
    : typeof value === "boolean" ? "boolean" : isObject(value) && !Array.isArray(value) ? "json" : "text";
  return el("span", { className, dir: "auto" }, cut(text, longest));
}

/** The text with the fragments' words marked in it; of a text that is cut, the first fragment. */
function found(text, fragments, longest) {
  if (text.length > longest) {
    const first = fragments[0];
    const bare = first.replaceAll(BEFORE, "").replaceAll(AFTER, "");
    return marked(`${text.startsWith(bare) ? "" : "… "}${first}${text.endsWith(bare) ? "" : " …"}`);
  }
  let whole = text;
  for (const fragment of fragments) {
    const bare = fragment.replaceAll(BEFORE, "").replaceAll(AFTER, "");
    whole = whole.replace(bare, () => fragment);
  }
  return marked(whole);
}

function cut(text, longest) {
  return text.length > longest ? `${text.slice(0, longest)}…` : text;
}

/** Seconds in words: 12 s, 3 min, 2 h, 5 days. */
export function duration(seconds) {
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (seconds < 5970) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

export const counted = (number) => number.toLocaleString("en-US");
