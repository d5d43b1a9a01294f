/** The page: its state is its address, and what it shows is the API's answer to that. */

import { Problem, ask, curl, pick, secret, write } from "./api.js";
import { Facets, condition, kind, words } from "./facets.js";
import { $, AFTER, BEFORE, cell, counted, duration, el, marked, plain, whole } from "./view.js";

const COLUMNS = 8; // shown when none are chosen
const PAUSE = 200; // ms after the last letter that is typed
const SIZE = 20;
const POLL = 30_000; // ms between two looks at how fresh the index is

let state = {};
let indices = [];
let fields = null; // of state.index
let facets = null;
let documents = []; // of this page
let highlights = [];
let opened = null; // the document in the drawer
let asked = ""; // the search whose answer is shown
let asking = new AbortController();
let looking = new AbortController();
let loadedAt = 0; // of `indices`, by the clock that only goes forward
let denied = false; // the caller may not have facets or highlights

/* ---- state and address ---- */

function read(address) {
  const given = new URLSearchParams(address);
  const filters = new Map();
  for (const [name, value] of given) {
    const [, end, field] = /^(is|from|to)\.(.+)$/s.exec(name) ?? [];
    if (!field) continue;
    const filter = filters.get(field) ?? { is: [], from: "", to: "" };
    if (end === "is") filter.is.push(value);
    else filter[end] = value;
    filters.set(field, filter);
  }
  return {
    index: given.get("index") ?? "",
    q: given.get("q") ?? "",
    filters,
    sort: given.get("sort") ?? "",
    fields: given.get("fields")?.split(",").filter(Boolean) ?? [],
    page: Math.max(1, Math.trunc(Number(given.get("page"))) || 1),
    size: Number(given.get("size")) || SIZE,
    document: given.get("document"),
  };
}

function address({ index, q, filters, sort, fields: names, page, size, document: id }) {
  const made = new URLSearchParams();
  const put = (name, value) => value && made.append(name, value);
  put("index", index);
  put("q", q);
  for (const [field, { is, from, to }] of filters) {
    for (const value of is) made.append(`is.${field}`, value);
    put(`from.${field}`, from);
    put(`to.${field}`, to);
  }
  put("sort", sort);
  put("fields", names.join(","));
  put("page", page > 1 && String(page));
  put("size", size !== SIZE && String(size));
  if (id !== null) made.append("document", id);
  return `?${made}`;
}

/** Change the state, and the address with it: a new entry of the history, or the same one. */
function go(changes, { replace = false, ...mark } = {}) {
  const search = ["q", "filters", "sort", "size", "index"].some((name) => name in changes);
  state = { ...state, ...(search && { page: 1 }), ...changes };
  history[replace ? "replaceState" : "pushState"](mark, "", address(state));
  if ("q" in changes) fill();
  return show();
}

/** Put the words in their box, where they are not already: that would move the caret. */
function fill() {
  if ($("q").value !== state.q) $("q").value = state.q;
}

function filter(field, wanted) {
  const filters = new Map(state.filters);
  filters.delete(field);
  if (wanted.is.length || wanted.from || wanted.to) filters.set(field, wanted);
  go({ filters });
}

/* ---- asking ---- */

function matching() {
  const conditions = [...state.filters].map(([name, one]) => [name, condition(one, fields.field_types[name])]);
  return {
    index: state.index,
    ...(state.q.trim() && { q: state.q }),
    ...(conditions.length && { query_fields: Object.fromEntries(conditions) }),
  };
}

function columns() {
  if (state.fields.length) return state.fields;
  const wanted = [...fields.key, ...state.filters.keys(), ...(state.sort ? Object.keys(directions()) : [])];
  const first = wanted.filter((name) => fields.fields.includes(name));
  return [...new Set([...first, ...fields.order])].slice(0, Math.max(COLUMNS, fields.key.length));
}

function request() {
  const names = [...new Set([...fields.key, ...columns()])];
  return {
    ...matching(),
    ...(names.length && { fields: names }),
    ...(state.sort && { sort_by: directions() }),
    page: state.page,
    page_size: state.size,
  };
}

function directions() {
  return Object.fromEntries(state.sort.split(",").map((name) =>
    (name.startsWith("-") ? [name.slice(1), "desc"] : [name, "asc"])));
}

async function show() {
  try {
    if (!indices.length) await list();
    if (!state.index && indices.length) {
      state.index = indices[0].index;
      history.replaceState(history.state, "", address(state));
    }
    if (!indices.length) return empty("Nothing to search yet", "No index is loaded, or none that you may read.");
    if (fields?.index !== state.index) await describe();
    const wanted = JSON.stringify(request());
    if (wanted !== asked) await search(wanted);
    drawer();
  } catch (problem) {
    if (problem.name !== "AbortError") fail(problem);
  }
}

async function list() {
  const { content } = await ask("indices");
  indices = content.indices;
  loadedAt = performance.now();
  const names = indices.map(({ index }) => index);
  $("index").replaceChildren(...names.map((name) => el("option", {}, name)));
  $("index").disabled = !names.length;
}

async function describe() {
  const name = state.index;
  $("index").value = name;
  busy(true);
  fields = facets = null;
  asked = "";
  $("facets").replaceChildren();
  const [{ content }, sample] = await Promise.all([
    ask(`indices/${encodeURIComponent(name)}/fields`),
    ask("search", { body: { index: name, page_size: 1 } })]);
  if (name !== state.index) throw new DOMException("", "AbortError");
  // A document has its fields in the order of the table's columns; the mapping has them by name.
  const order = leaves(sample.content.data[0] ?? {}, "", new Set(content.fields));
  fields = { ...content, order: [...new Set([...order, ...content.fields])] };
  facets = new Facets($("facets"), name, fields, state.filters, filter, reload);
  const texts = fields.fields.filter((one) => /text$/.test(fields.field_types[one]));
  $("q").placeholder = texts.length ? `Search ${name}` : `${name} has no text to search in; use the filters`;
  document.title = `${name} · Search`;
}

function leaves(value, path, known) {
  if (known.has(path)) return [path];
  if (Array.isArray(value)) return value.flatMap((one) => leaves(one, path, known));
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([name, one]) => leaves(one, path ? `${path}.${name}` : name, known));
}

/** The same search again, for what a section of the filters wants to know. */
async function reload() {
  try {
    if (asked) await search(asked);
  } catch (problem) {
    if (problem.name !== "AbortError") fail(problem);
  }
}

async function search(wanted) {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const started = performance.now();
  busy(true);
  const body = JSON.parse(wanted);
  try {
    const every = denied ? {} : await facets.wanted(state.filters, signal);
    const mine = Object.fromEntries(Object.entries(every).filter(([name]) => !state.filters.has(name)));
    const others = Object.keys(every).filter((name) => state.filters.has(name));
    const full = {
      ...body,
      ...(Object.keys(mine).length && { facets: mine }),
      ...(body.q && !denied && { highlight: { before: BEFORE, after: AFTER, fragments: 3, fragment_size: 250 } }),
    };
    const [{ content }, rest] = await Promise.all([
      ask("search", { body: full, signal }), without(others, every, body, signal)]);
    if (signal.aborted) return;
    asked = wanted;
    documents = content.data;
    highlights = content.highlights ?? [];
    const found = { ...content.facets, ...rest };
    facets.show(Object.fromEntries(Object.keys(found).map((name) => [name, { ...found[name], ...every[name] }])),
      state.filters);
    results(content.meta, performance.now() - started);
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    if (problem.kind === "feature-denied" && !denied) {
      denied = true;
      $("facets").replaceChildren();
      await search(wanted);
      return;
    }
    asked = "";
    throw problem;
  } finally {
    if (asking.signal === signal) busy(false);
  }
}

/** The facets of fields that are filtered by, each as it is without that filter. */
async function without(names, every, body, signal) {
  if (!names.length) return {};
  const searches = names.slice(0, 10).map((name) => {
    const { [name]: _, ...conditions } = body.query_fields;
    return { index: body.index, ...(body.q && { q: body.q }), query_fields: conditions, page_size: 1,
      fields: body.fields?.slice(0, 1), facets: { [name]: every[name] } };
  });
  const { content } = await ask("search/many", { body: { searches }, signal });
  return Object.assign({}, ...content.results.map((result) => result.facets));
}

/* ---- showing ---- */

function busy(on) {
  $("list").setAttribute("aria-busy", on);
  $("progress").hidden = !on;
}

function fail(problem) {
  busy(false);
  const known = problem instanceof Problem ? problem : new Problem({ title: "Defect of this page", detail: String(problem) });
  if (known.status === 401) return sign(known.detail);
  const again = el("button", { type: "button", className: "primary" }, "Try again");
  again.onclick = () => show();
  if (known.retryAfter) {
    const until = performance.now() + known.retryAfter * 1000;
    const tick = () => {
      const left = Math.ceil((until - performance.now()) / 1000);
      again.disabled = left > 0;
      again.textContent = left > 0 ? `Try again in ${duration(left)}` : "Try again";
      if (left > 0 && again.isConnected) setTimeout(tick, 250);
    };
    queueMicrotask(tick);
  }
  const mistakes = known.errors.map(({ location, detail }) =>
    el("li", {}, el("code", {}, location), ` ${detail}`));
  $("message").replaceChildren(el("h2", {}, known.title),
    mistakes.length ? el("ul", {}, ...mistakes) : el("p", {}, known.detail), again,
    known.request ? el("p", { className: "note" }, `Request ${known.request}`) : "");
  $("message").hidden = false;
  $("list").replaceChildren();
  $("count").textContent = "";
  $("pages").hidden = true;
  if (!fields) return;
  facets.show({}, state.filters);
  chips();
  sorting();
  choices();
}

function empty(title, text, ...more) {
  busy(false);
  $("list").replaceChildren(el("div", { className: "empty" }, el("h2", {}, title), el("p", {}, text), ...more));
}

function results({ total_records: total, total_pages: pages, has_next: more }, time) {
  $("message").hidden = true;
  $("message").replaceChildren();
  $("count").replaceChildren(el("strong", {}, counted(total)), ` document${total === 1 ? "" : "s"}`,
    el("span", { className: "note" }, ` in ${Math.max(1, Math.round(time))} ms`));
  chips();
  sorting();
  choices();
  $("pages").hidden = total <= Math.min(10, state.size);
  $("back").disabled = state.page === 1;
  $("next").disabled = !more;
  $("where").textContent = `Page ${counted(state.page)} of ${counted(Math.max(1, pages))}`;
  $("size").value = state.size;
  if (documents.length) $("list").replaceChildren(table());
  else if (total) empty("No such page", `There are ${counted(pages)} pages.`, button("First page", () => go({ page: 1 })));
  else empty("Nothing found", "No document meets all of this.", state.q || state.filters.size
    ? button("Clear all", () => go({ q: "", filters: new Map() })) : "");
}

const button = (text, onclick) => el("button", { type: "button", onclick }, text);

function table() {
  const names = columns();
  const sorts = state.sort ? directions() : {};
  const head = names.map((name) => {
    const sort = sorts[name];
    const label = el("span", { dir: "auto" }, name);
    const made = el("th", { scope: "col", role: "columnheader", className: look(name) },
      fields.sortable.includes(name) ? el("button", { type: "button", onclick: () => order(name) }, label) : label);
    if (sort) made.setAttribute("aria-sort", `${sort}ending`);
    return made;
  });
  const rows = documents.map((one, number) => {
    const highlight = highlights[number] ?? {};
    const cells = names.map((name, column) => {
      const value = cell(pick(one, name), fields.field_types[name], highlight[name]);
      return el("td", { role: "cell", "data-label": name, className: look(name) }, column ? value : opener(one, number, value));
    });
    const elsewhere = Object.entries(highlight).filter(([name]) => !names.includes(name));
    if (elsewhere.length) {
      const parts = elsewhere.slice(0, 3).map(([name, [fragment]]) =>
        el("span", { className: "found" }, el("code", {}, name), " ", marked(fragment)));
      cells[0].append(el("div", { className: "elsewhere" }, ...parts));
    }
    const row = el("tr", { role: "row" }, ...cells);
    row.onclick = (event) => event.target.closest("a, button") || String(getSelection()) || open(number);
    return row;
  });
  return el("table", { role: "table", "aria-label": `Documents of ${state.index}` },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
    el("tbody", { role: "rowgroup" }, ...rows));
}

const look = (name) => (kind(fields.field_types[name]) === "number" ? "number" : "");

function opener(one, number, value) {
  const id = identity(one);
  const made = id === null ? el("button", { type: "button" }, value)
    : el("a", { href: address({ ...state, document: id }) }, value);
  made.classList.add("open");
  made.onclick = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    open(number);
  };
  return made;
}

function chips() {
  const made = [...state.filters].map(([name, one]) => {
    const remove = el("button", { type: "button", "aria-label": `Remove the filter ${name}: ${words(one)}` }, "✕");
    remove.onclick = () => filter(name, { is: [], from: "", to: "" });
    return el("li", {}, el("span", { dir: "auto" }, `${name}: ${words(one)}`), remove);
  });
  if (made.length > 1) made.push(el("li", { className: "clear" }, button("Clear all", () => go({ filters: new Map() }))));
  $("chips").replaceChildren(...made);
  $("chips").hidden = !made.length;
}

function order(name) {
  const now = directions()[name];
  go({ sort: now === "asc" ? `-${name}` : now === "desc" ? "" : name });
}

function sorting() {
  const names = fields.order.filter((name) => fields.sortable.includes(name));
  const options = names.map((name) => el("option", { value: name }, name));
  $("sort").replaceChildren(el("option", { value: "" }, state.q ? "relevance" : "key"), ...options);
  $("sort").value = state.sort.split(",")[0].replace(/^-/, "");
  const down = state.sort.startsWith("-");
  $("direction").hidden = !state.sort;
  $("direction").textContent = down ? "↓" : "↑";
  $("direction").setAttribute("aria-label", down ? "Descending; sort ascending" : "Ascending; sort descending");
}

function choices() {
  const shown = columns();
  $("choose").textContent = `Fields ${shown.length}/${fields.fields.length}`;
  if ($("fields").matches(":popover-open")) return;
  const boxes = fields.order.map((name) => {
    const box = el("input", { type: "checkbox", value: name, checked: shown.includes(name) });
    box.onchange = () => {
      const now = columns();
      const names = box.checked ? [...now, name] : now.filter((one) => one !== name);
      if (names.length) go({ fields: names });
      else box.checked = true;
    };
    return el("label", {}, box, el("span", { dir: "auto" }, name), el("span", { className: "type" }, fields.field_types[name]));
  });
  const preset = (text, names) => button(text, () => {
    $("fields").hidePopover();
    go({ fields: names });
  });
  $("fields").replaceChildren(el("div", { className: "actions" }, preset("All", fields.order), preset("Default", [])), ...boxes);
}

/** How fresh the index is, by what was true when it was asked for and the time since. */
function age() {
  const index = indices.find((one) => one.index === state.index);
  $("freshness").hidden = !index;
  if (!index) return;
  const known = index.lag_seconds !== null;
  const lag = known ? index.lag_seconds + (performance.now() - loadedAt) / 1000 : 0;
  const text = known ? `In step with ${index.table} as of ${duration(lag)} ago` : `Not yet in step with ${index.table}`;
  if ($("freshness").textContent !== text) $("freshness").textContent = text;
  $("freshness").title = known ? `Every change committed before ${index.in_step_at} is here.` : "";
  $("freshness").dataset.state = !known ? "unknown" : lag < 300 ? "fresh" : "late";
}

/* ---- one document ---- */

/** The text that names a document in an address; null when its key is not known. */
function identity(one) {
  const values = fields.key.map((name) => pick(one, name));
  if (!values.length || values.some((value) => value === undefined || value === null)) return null;
  return values.length === 1 ? plain(values[0]) : JSON.stringify(values.map(plain));
}

function open(number) {
  const id = identity(documents[number]);
  if (id !== null) go({ document: id }, { opened: true });
  else reveal(documents[number], number);
}

function place() {
  return documents.findIndex((one) => one === opened || (state.document !== null && identity(one) === state.document));
}

async function drawer() {
  const dialog = $("document");
  if (state.document === null) {
    if (dialog.open && opened && identity(opened) !== null) dialog.close();
    return;
  }
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  const names = fields.key;
  let values = [state.document];
  try {
    if (names.length > 1) values = JSON.parse(state.document);
  } catch { /* no such document, then */ }
  try {
    const is = (name, text) => (fields.field_types[name] === "boolean" ? text === "true" : text);
    const conditions = Object.fromEntries(names.map((name, number) => [name, is(name, values[number] ?? "")]));
    const body = { index: state.index, query_fields: conditions, page_size: 1 };
    const { content } = names.length ? await ask("search", { body, signal }) : { content: { data: [] } };
    if (signal.aborted) return;
    reveal(content.data[0] ?? null, place());
  } catch (problem) {
    if (problem.name !== "AbortError") reveal(null, -1, problem);
  }
}

function reveal(one, number, problem) {
  opened = one;
  const dialog = $("document");
  const name = state.document ?? `Document ${number + 1}`;
  $("title").textContent = `${state.index} · ${name}`;
  $("earlier").disabled = number < 1;
  $("later").disabled = number < 0 || number >= documents.length - 1;
  $("raw").hidden = $("copy").hidden = !one;
  $("link").hidden = state.document === null;
  $("earlier").onclick = () => step(number - 1);
  $("later").onclick = () => step(number + 1);
  const highlight = highlights[number] ?? {};
  if (!one) {
    $("body").replaceChildren(el("div", { className: "empty" }, el("h2", {}, problem?.title ?? "No such document"),
      el("p", {}, problem?.detail ?? `The index ${state.index} has no document ${name} now.`)));
  } else if ($("raw").getAttribute("aria-pressed") === "true") {
    $("body").replaceChildren(el("pre", {}, write(one)));
  } else {
    const rows = fields.order.map((path) => el("div", {},
      el("dt", {}, el("span", { dir: "auto" }, path), el("span", { className: "type" }, fields.field_types[path])),
      el("dd", {}, whole(pick(one, path), fields.field_types[path], highlight[path]))));
    $("body").replaceChildren(el("dl", { className: "document" }, ...rows));
  }
  $("body").scrollTop = 0;
  if (!dialog.open) dialog.showModal();
}

function step(number) {
  if (!documents[number]) return;
  const id = identity(documents[number]);
  if (id === null) reveal(documents[number], number);
  else go({ document: id }, { replace: true, opened: history.state?.opened });
}

/* ---- keys, clipboard, credentials ---- */

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not over plain http, except on this machine
    const area = el("textarea", { value: text, readOnly: true });
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.dataset.text ?? button.textContent;
  button.dataset.text = before;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

function sign(note) {
  $("sign-note").textContent = note ?? "Sent with each request, as the API wants it.";
  $("secret").value = "";
  $("forget").hidden = !secret.get();
  if (!$("sign").open) $("sign").showModal();
}

function use(text) {
  secret.set(text.trim());
  $("sign").close();
  $("key").dataset.state = secret.get() ? "set" : "";
  indices = [];
  fields = null;
  asked = "";
  denied = false;
  documents = [];
  $("list").replaceChildren();
  $("facets").replaceChildren();
  show();
}

function listen() {
  let typing;
  $("q").oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => go({ q: $("q").value }, { replace: history.state?.typed, typed: true }), PAUSE);
  };
  $("form").onsubmit = (event) => {
    event.preventDefault();
    clearTimeout(typing);
    if ($("q").value !== state.q) go({ q: $("q").value });
    else show();
  };
  $("index").onchange = () => go({ index: $("index").value, filters: new Map(), sort: "", fields: [], document: null });
  $("sort").onchange = () => go({ sort: $("sort").value });
  $("direction").onclick = () => go({ sort: state.sort.startsWith("-") ? state.sort.slice(1) : `-${state.sort}` });
  $("size").onchange = () => go({ size: Number($("size").value) });
  const turn = async (page) => {
    await go({ page });
    scrollTo({ top: 0 });
  };
  $("back").onclick = () => turn(state.page - 1);
  $("next").onclick = () => turn(state.page + 1);
  $("fields").addEventListener("toggle", (event) => {
    if (event.newState !== "open") return choices();
    const { right, bottom } = $("choose").getBoundingClientRect();
    $("fields").style.setProperty("top", `${bottom + 6}px`);
    $("fields").style.setProperty("right", `${Math.max(8, innerWidth - right)}px`);
  });
  $("curl").onclick = () => {
    if (!fields) return;
    $("command-text").textContent = curl("search", request());
    $("command-note").textContent = secret.get() ? "Set API_KEY to your key first: export API_KEY=…" : "";
    $("command").showModal();
  };
  $("copy-command").onclick = () => copy($("command-text").textContent, $("copy-command"));
  $("copy").onclick = () => copy(write(opened), $("copy"));
  $("link").onclick = () => copy(location.href, $("link"));
  $("raw").onclick = () => {
    $("raw").setAttribute("aria-pressed", $("raw").getAttribute("aria-pressed") !== "true");
    reveal(opened, place());
  };
  $("document").addEventListener("close", () => {
    if (state.document === null) return;
    if (history.state?.opened) history.back();
    else go({ document: null }, { replace: true });
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").onclick = () => dialog.close();
    // A click beside it; one within hits what is in it.
    dialog.addEventListener("mousedown", (event) => event.target === dialog && dialog.close());
  }
  $("key").onclick = () => sign();
  $("forget").onclick = () => use("");
  $("sign-form").onsubmit = (event) => {
    event.preventDefault();
    use($("secret").value);
  };
  addEventListener("popstate", () => {
    clearTimeout(typing);
    state = read(location.search);
    fill();
    show();
  });
  addEventListener("keydown", keys);
  setInterval(age, 1000);
  setInterval(async () => {
    if (document.hidden || !indices.length) return;
    try {
      ({ content: { indices } } = await ask("indices"));
      loadedAt = performance.now();
    } catch { /* the age that is shown grows on */ }
  }, POLL);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { activeElement } = document;
  if ($("document").open) {
    if (event.key === "ArrowLeft") step(place() - 1);
    if (event.key === "ArrowRight") step(place() + 1);
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "/" && !activeElement.matches("input, select, textarea")) {
    event.preventDefault();
    $("q").focus();
    $("q").select();
  } else if (/^Arrow(Up|Down)$/.test(event.key)) {
    const rows = [...document.querySelectorAll(".open")];
    const at = rows.indexOf(activeElement);
    if (at < 0 && (activeElement !== $("q") || event.key === "ArrowUp")) return;
    const to = at + (event.key === "ArrowDown" ? 1 : -1);
    if (to >= rows.length) return;
    event.preventDefault();
    (rows[to] ?? $("q")).focus();
  } else if (event.key === "Escape" && activeElement === $("q") && state.q) {
    event.preventDefault();
    go({ q: "" });
  }
}

state = read(location.search);
$("key").dataset.state = secret.get() ? "set" : "";
$("filters").open = matchMedia("(min-width: 761px)").matches;
fill();
listen();
show().then(age);
