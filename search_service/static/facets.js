/** The filters beside the results: values to tick, bounds to set, and how many documents have what. */

import { Exact, ask, pick } from "./api.js";
import { counted, el, plain } from "./view.js";

const NUMBERS = /^(byte|short|integer|long|unsigned_long|half_float|float|double|scaled_float)$/;
const FEW = 8;
const MANY = 100;
const BARS = 24;
const OPEN_AT_FIRST = 4;
const DAY = 86_400_000;

export const kind = (type = "") => (NUMBERS.test(type) ? "number" : type.startsWith("date") ? "date" : "values");

/** The fields that have a filter here, those with values to tick first. */
function suitable({ order, filterable, sortable, field_types: types }) {
  const kinds = ["values", "date", "number"];
  const rank = (name) => kinds.indexOf(kind(types[name]));
  const both = order.filter((name) => filterable.includes(name) && sortable.includes(name));
  return both.sort((one, other) => rank(one) - rank(other));
}

/** A filter as a condition of the API. */
export function condition(filter, type) {
  if (filter.is.length) {
    return filter.is.map((text) => (type === "boolean" ? text === "true" : text));
  }
  return { ...(filter.from && { gte: filter.from }), ...(filter.to && { lte: filter.to }) };
}

/** A filter in words. */
export function words({ is, from, to }) {
  if (is.length) return is.join(", ");
  return from && to ? `${from} to ${to}` : from ? `from ${from}` : `up to ${to}`;
}

/** The sections of an index. `change(field, filter)` is told of each choice of the user. */
export class Facets {
  constructor(home, index, fields, filters, change, reload) {
    Object.assign(this, { index, change, reload, sections: new Map() });
    const all = suitable(fields);
    const chosen = [...all.filter((name) => filters.has(name)), ...all.filter((name) => !filters.has(name))];
    const first = chosen.filter((name) => kind(fields.field_types[name]) === "values"
      && !fields.key.includes(name)).slice(0, OPEN_AT_FIRST);
    for (const name of chosen) {
      const made = new Section(name, fields.field_types[name], this);
      made.home.open = filters.has(name) || first.includes(name);
      this.sections.set(name, made);
    }
    home.replaceChildren(...[...this.sections.values()].map((section) => section.home));
    if (!chosen.length) home.append(el("p", { className: "note" }, "No field of this index can be filtered by."));
  }

  /** The facets to ask for, by field: of the sections that are open. */
  async wanted(filters, signal) {
    const asked = {};
    for (const [name, section] of this.sections) {
      const facet = section.home.open ? await section.facet(filters.get(name), signal) : null;
      if (facet) asked[name] = facet;
    }
    return asked;
  }

  show(results, filters) {
    for (const [name, section] of this.sections) section.show(results[name], filters.get(name));
  }
}

const EMPTY = { is: [], from: "", to: "" };

class Section {
  constructor(name, type, facets) {
    Object.assign(this, { name, type, facets, size: FEW, kind: kind(type), filter: EMPTY });
    this.badge = el("span", { className: "badge", hidden: true });
    this.inside = el("div", { className: "inside" });
    const summary = el("summary", {}, el("span", { className: "name", dir: "auto" }, name), this.badge,
      el("span", { className: "type" }, type));
    this.home = el("details", { className: "facet" }, summary, this.inside);
    if (this.kind === "values") this.makeList();
    else this.makeBounds();
    this.home.addEventListener("toggle", () => this.home.open && !this.shown && facets.reload());
  }

  makeList() {
    this.list = el("ul", { className: "ticks" });
    this.more = el("button", { type: "button", className: "quiet", hidden: true }, "More values");
    this.more.onclick = () => {
      this.size = MANY;
      this.facets.reload();
    };
    if (/text|keyword/.test(this.type)) {
      this.find = el("input", { type: "search", placeholder: "Find a value", autocomplete: "off",
        "aria-label": `Find a value of ${this.name}`, hidden: true });
      this.find.oninput = () => this.suggest();
      this.inside.append(this.find);
    }
    this.inside.append(this.list, this.more);
  }

  makeBounds() {
    this.bars = el("div", { className: "bars", hidden: true, "aria-hidden": "true" });
    const bound = (label, end) => {
      const input = el("input", this.kind === "date" ? { type: "date" }
        : { type: "text", inputMode: "decimal", autocomplete: "off", placeholder: "any" });
      input.setAttribute("aria-label", `${this.name}, ${label}`);
      input.onchange = () => this.change({ ...this.filter, is: [], [end]: input.value.trim() });
      return input;
    };
    this.from = bound("from", "from");
    this.to = bound("to", "to");
    this.inside.append(this.bars, el("div", { className: "bounds" }, this.from, "–", this.to));
  }

  change(filter) {
    this.facets.change(this.name, filter);
  }

  /** What to ask for this section; null for nothing. */
  async facet(filter = EMPTY, signal) {
    if (this.kind === "values") return { type: "terms", size: this.size };
    this.extent ??= await this.measure(signal);
    const number = this.number;
    const [low, high] = this.extent;
    const past = this.kind === "date" ? DAY : 0;
    const from = Math.max(low, filter.from ? number(filter.from) : low);
    const to = Math.min(high, filter.to ? number(filter.to) : high) + past;
    this.domain = null;
    if (!(from < to) || Math.max(Math.abs(from), Math.abs(to)) > Number.MAX_SAFE_INTEGER) return null;
    this.domain = [from, to];
    if (this.kind === "number") {
      const step = (to - from) / BARS;
      const power = 10 ** Math.floor(Math.log10(step));
      const nice = [1, 2, 5, 10].find((factor) => factor * power >= step) * power;
      const interval = /float|double/.test(this.type) ? nice : Math.max(1, nice);
      return { type: "histogram", interval: Number(interval.toPrecision(12)) };
    }
    const days = (to - from) / DAY;
    return { type: "dates", every: days <= 62 ? "day" : days <= 1500 ? "month" : "year" };
  }

  /** The least and the greatest value in the index. */
  async measure(signal) {
    const { index } = this.facets;
    const searches = ["asc", "desc"].map((direction) => ({
      index, sort_by: { [this.name]: direction }, facets: {}, fields: [this.name], page_size: 1,
    }));
    const { content } = await ask("search/many", { body: { searches }, signal });
    const extremes = [Math.min, Math.max];
    return content.results.map(({ data: [document] }, end) => {
      const values = [pick(document, this.name) ?? []].flat().filter((value) => value !== null);
      return values.length ? extremes[end](...values.map((value) => this.number(String(value)))) : NaN;
    });
  }

  /** The number, or the day in milliseconds, that a text stands for. */
  get number() {
    return this.kind === "number" ? Number : (text) => Date.parse(text.slice(0, 10));
  }

  show(result, filter = EMPTY) {
    this.filter = filter;
    const active = filter.is.length || filter.from || filter.to;
    this.badge.hidden = !active;
    this.badge.textContent = filter.is.length > 1 ? counted(filter.is.length) : "✓";
    if (this.kind !== "values") {
      if (document.activeElement !== this.from) this.from.value = filter.from;
      if (document.activeElement !== this.to) this.to.value = filter.to;
    }
    this.shown = Boolean(result);
    if (this.kind === "values") {
      if (result && !this.find?.value) this.tick(result);
    } else this.draw(result);
  }

  tick({ buckets, others = 0 }) {
    const known = buckets.map(({ value, count }) => [plain(value), count]);
    const missing = this.filter.is.filter((text) => !known.some(([value]) => value === text));
    const rows = [...missing.map((text) => [text, 0]), ...known];
    const most = Math.max(1, ...known.map(([, count]) => count));
    const focused = document.activeElement?.closest?.(".ticks") === this.list && document.activeElement.value;
    this.list.replaceChildren(...rows.map(([text, count]) => this.row(text, count, most)));
    if (focused) [...this.list.querySelectorAll("input")].find((box) => box.value === focused)?.focus();
    if (!rows.length) this.list.append(el("li", { className: "note" }, "No values"));
    this.more.hidden = !(others > 0 && this.size === FEW);
    if (this.find && others > 0) this.find.hidden = false;
  }

  row(text, count, most) {
    const box = el("input", { type: "checkbox", value: text, checked: this.filter.is.includes(text) });
    box.onchange = () => {
      const rest = this.filter.is.filter((one) => one !== text);
      if (this.find) this.find.value = "";
      this.change({ is: box.checked ? [...rest, text] : rest, from: "", to: "" });
    };
    const made = el("label", {}, box, el("span", { className: "value", dir: "auto", title: text }, text || "(empty)"),
      el("span", { className: "number" }, counted(count)));
    made.style.setProperty("--share", `${(100 * count) / most}%`);
    return el("li", {}, made);
  }

  async suggest() {
    this.asking?.abort();
    this.asking = new AbortController();
    const prefix = this.find.value;
    if (!prefix) {
      this.facets.reload();
      return;
    }
    const parameters = new URLSearchParams({ field: this.name, prefix, size: 20 });
    const path = `search/${encodeURIComponent(this.facets.index)}/suggest?${parameters}`;
    try {
      const { content } = await ask(path, { signal: this.asking.signal });
      if (this.find.value === prefix) this.tick({ buckets: content.suggestions });
    } catch (problem) {
      if (problem.name !== "AbortError") {
        this.list.replaceChildren(el("li", { className: "note" }, problem.detail ?? String(problem)));
      }
    }
  }

  draw(result) {
    this.bars.hidden = !result?.buckets.length || !this.domain;
    if (this.bars.hidden) return;
    const starts = result.buckets.map(({ value }) =>
      (this.kind === "date" ? Date.parse(value) : Number(value instanceof Exact ? value.text : value)));
    const ends = starts.map((start) => this.after(start, result));
    const [low, high] = [Math.min(...starts), Math.max(...ends)];
    const most = Math.max(...result.buckets.map(({ count }) => count));
    this.bars.replaceChildren(...result.buckets.map(({ count }, number) => {
      const [start, end] = [starts[number], ends[number]];
      const [from, to] = this.texts(start, end);
      const bar = el("span", { title: `${from === to ? from : `${from} – ${to}`}: ${counted(count)}` });
      bar.style.setProperty("--left", `${(100 * (start - low)) / (high - low)}%`);
      bar.style.setProperty("--width", `${(100 * (end - start)) / (high - low)}%`);
      bar.style.setProperty("--height", `${Math.max(3, (100 * count) / most)}%`);
      bar.onclick = () => this.change({ is: [], from, to });
      return bar;
    }));
  }

  /** Where the bucket ends that starts here. */
  after(start, { interval, every }) {
    if (this.kind === "number") return start + interval;
    const date = new Date(start);
    if (every === "day") return start + DAY;
    return every === "month" ? date.setUTCMonth(date.getUTCMonth() + 1) : date.setUTCFullYear(date.getUTCFullYear() + 1);
  }

  /** The first and the last value in a bucket, as bounds that are included. */
  texts(start, end) {
    if (this.kind === "date") return [start, end - 1].map((time) => new Date(time).toISOString().slice(0, 10));
    const last = /float|double/.test(this.type) ? end : end - 1;
    return [start, last].map((number) => String(Number(number.toPrecision(12))));
  }
}
