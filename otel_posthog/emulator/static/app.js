// Routing, loading and the live connection.
// Routes: #/<tab>?filters, #/event/<uuid>, #/people/<id>, #/flags/<key>, #/errors/<id>, #/trace/<id>.

import { h, number, plural, refreshTimes, toast } from "./dom.js";
import * as views from "./views.js";

const PAGE = 100;
const TABS = [
  ["events", "Events", "stored"], ["people", "People", "persons"], ["groups", "Groups", "groups"],
  ["flags", "Flags", "flags"],
  ["errors", "Errors", "issues"], ["traces", "Traces", "spans"], ["logs", "Logs", "logs"], ["refused", "Refused", null],
];
const SOURCES = { events: "events", people: "persons", traces: "spans", logs: "logs" };

const main = document.getElementById("main");
const state = { shown: "", route: "", run: 0, seen: new Set() };

async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== ""));
  const response = await fetch(`/api/${path}${query.size ? "?" + query : ""}`);
  if (response.status === 404) return null;
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || `HTTP ${response.status}`);
  return response.json();
}

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { tab: parts[0] || "events", id: parts.slice(1).join("/"), query: new URLSearchParams(query || "") };
}

function go(tab, query) {
  const text = new URLSearchParams([...query].filter(([, value]) => value !== "" && value !== "0")).toString();
  location.hash = `#/${tab}${text ? "?" + text : ""}`;
}

async function show({ fresh = false } = {}) {
  const run = ++state.run;
  const here = route();
  try {
    const stats = await get("stats");
    const page = await load(here, stats);
    if (run !== state.run) return; // a newer request overtook this one
    header(here, stats);
    const key = location.hash + JSON.stringify(page.data);
    if (key === state.shown) return;
    state.shown = key;
    render(here, page, fresh);
  } catch (error) {
    if (run !== state.run) return;
    state.shown = "";
    if (!fresh) main.replaceChildren(h("div", { class: "card pad" }, h("h2", null, "This could not be loaded"),
      h("p", { class: "muted" }, String(error.message || error)), h("button", { type: "button", onclick: () => show() }, "Try again")));
  }
}

async function load({ tab, id, query }, stats) {
  const filters = Object.fromEntries(query);
  if (tab === "event") {
    const answer = await get(`events/${encodeURIComponent(id)}`);
    return { data: answer, draw: () => [views.back("#/events", "Events"), answer ? views.event(answer.results) : missing("event")] };
  }
  if (tab === "people" && id) {
    const person = await get(`persons/${encodeURIComponent(id)}`);
    if (!person) return { data: null, draw: () => [views.back("#/people", "People"), missing("person", "Its events may be personless.")] };
    const events = await get("events", { person: person.id, limit: PAGE });
    return { data: [person, events], draw: () => [views.back("#/people", "People"), views.person(person, events)] };
  }
  if (tab === "errors" && id) {
    const issue = await get(`issues/${encodeURIComponent(id)}`);
    if (!issue) return { data: null, draw: () => [views.back("#/errors", "Errors"), missing("error")] };
    const events = await get("events", { issue: id, limit: PAGE });
    return { data: [issue, events], draw: () => [views.back("#/errors", "Errors"), views.issue(issue, events)] };
  }
  if (tab === "trace") {
    const [spans, logs] = await Promise.all([get("spans", { trace_id: id, limit: 1000 }), get("logs", { trace_id: id, limit: 200 })]);
    return { data: [spans, logs], draw: () => [views.back("#/traces", "Traces"), views.trace(id, spans, logs)] };
  }
  if (tab === "flags") {
    const answer = await get("flags");
    if (!id) return { data: answer, draw: () => (answer.results.length || answer.unknown.length || answer.problem ? views.flags(answer) : views.empty(tab)) };
    const flag = answer.results.find((row) => row.key === id);
    if (!flag) return { data: null, draw: () => [views.back("#/flags", "Flags"), missing("flag", "It is not in the file.")] };
    const events = await get("events", { event: "$feature_flag_called", q: JSON.stringify(id), limit: PAGE });
    return { data: [flag, events], draw: () => [views.back("#/flags", "Flags"), views.flag(flag, events)] };
  }
  if (tab === "groups" || tab === "errors" || tab === "refused") {
    const source = { groups: "groups", errors: "issues", refused: "refusals" }[tab];
    const answer = await get(source);
    const draw = { groups: views.groups, errors: views.issues, refused: (rows) => views.refused(rows, stats) }[tab];
    const quiet = tab === "refused" ? ["refused", "dropped", "warnings"].every((key) => !Object.keys(stats[key]).length)
      : !answer.results.length;
    return { data: [answer, tab === "refused" ? [stats.refused, stats.dropped, stats.warnings] : 0],
      draw: () => (quiet ? views.empty(tab) : draw(answer)) };
  }
  const known = SOURCES[tab] ? tab : "events";
  const [answer, names] = await Promise.all([
    get(SOURCES[known], { ...filters, limit: PAGE }), known === "events" ? get("events/names") : null,
  ]);
  const unfiltered = [...query.keys()].every((key) => key === "offset");
  return { data: [answer, names], tools: answer.results.length || !unfiltered ? { tab: known, query, answer, names } : null,
    draw: () => (answer.results.length || !unfiltered ? [
      { events: views.events, people: views.people, traces: views.spans, logs: views.logs }[known](answer), pager(known, query, answer),
    ] : views.empty(known)) };
}

function missing(what, hint = "") {
  return h("div", { class: "card pad" }, h("h2", null, `There is no such ${what}`), h("p", { class: "muted" },
    `It may have been forgotten by a reset. ${hint}`));
}

function render(here, page, fresh) {
  const focused = document.activeElement;
  const memory = focused?.dataset?.focus || focused?.getAttribute?.("href");
  const selection = focused?.tagName === "INPUT" ? [focused.selectionStart, focused.selectionEnd, focused.value] : null;
  const scroll = window.scrollY;
  const samePlace = state.route === location.hash;
  state.route = location.hash;
  main.replaceChildren(...[page.tools && tools(page.tools), page.draw()].flat(Infinity).filter(Boolean));
  for (const row of main.querySelectorAll("[data-key]")) {
    if (fresh && samePlace && state.seen.size && !state.seen.has(row.dataset.key)) row.classList.add("fresh");
  }
  state.seen = new Set([...main.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
  if (memory) {
    const again = [...main.querySelectorAll("[data-focus], a[href]")].find((element) =>
      (element.dataset.focus || element.getAttribute("href")) === memory);
    again?.focus({ preventScroll: true });
    if (again && selection) {
      again.value = selection[2];
      again.setSelectionRange(selection[0], selection[1]);
    }
  }
  window.scrollTo(0, samePlace ? scroll : 0);
  document.title = `${TABS.find(([key]) => key === here.tab)?.[1] || "PostHog emulator"} · PostHog emulator`;
}

function tools({ tab, query, names }) {
  let timer = 0;
  const input = h("input", { type: "search", placeholder: "Filter   ( / )", "aria-label": "Filter", value: query.get("q") || "",
    dataset: { focus: "filter" }, autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { query.set("q", input.value); query.delete("offset"); go(tab, query); }, 200);
  });
  const select = names && h("select", { "aria-label": "Event name", dataset: { focus: "name" }, onchange: (change) => {
    query.set("event", change.target.value); query.delete("offset"); go(tab, query);
  } }, h("option", { value: "" }, "All events"),
    query.get("event") && !names.results.some((row) => row.event === query.get("event")) &&
      h("option", { value: query.get("event"), selected: true }, `${query.get("event")} (0)`), names.results.map((row) =>
    h("option", { value: row.event, selected: row.event === query.get("event") }, `${row.event} (${number(row.count)})`)));
  const other = [...query.keys()].filter((key) => !["q", "event", "offset"].includes(key));
  const reset = h("button", { type: "button", dataset: { focus: "reset" }, onclick: async () => {
    if (!confirm("Forget everything that arrived?")) return;
    const answer = await fetch("/api/reset", { method: "POST" });
    toast(answer.ok ? "Forgotten" : "That failed");
  } }, "Reset");
  return h("div", { class: "tools" }, h("div", { class: "grow" }, input), select,
    other.map((key) => h("button", { type: "button", onclick: () => { query.delete(key); go(tab, query); } }, `${key} ✕`)), reset);
}

function pager(tab, query, answer) {
  if (answer.count <= PAGE) return null;
  const move = (offset) => { query.set("offset", String(offset)); go(tab, query); };
  const last = Math.min(answer.offset + PAGE, answer.count);
  return h("div", { class: "pager" },
    h("button", { type: "button", disabled: answer.offset === 0, dataset: { focus: "newer" }, onclick: () => move(Math.max(0, answer.offset - PAGE)) }, "Newer"),
    h("span", { class: "muted" }, `${number(answer.offset + 1)}–${number(last)} of ${number(answer.count)}`),
    h("button", { type: "button", disabled: last >= answer.count, dataset: { focus: "older" }, onclick: () => move(answer.offset + PAGE) }, "Older"));
}

function header({ tab }, stats) {
  const nav = document.getElementById("tabs");
  const current = { event: "events", trace: "traces" }[tab] || tab;
  const bad = Object.values({ ...stats.refused, ...stats.dropped }).reduce((sum, n) => sum + n, 0);
  const focus = nav.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  nav.replaceChildren(...TABS.map(([key, name, count]) => {
    const n = count ? stats[count] : bad;
    return h("a", { href: `#/${key}`, "aria-current": key === current ? "page" : null, class: key === "refused" && n ? "alarm" : null },
      name, n ? h("span", { class: "count" }, number(n)) : null);
  }));
  if (focus) nav.querySelector(`[href="${CSS.escape(focus)}"]`)?.focus();
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  document.getElementById("live-text").replaceChildren(plural(stats.stored, "event"),
    h("span", { class: "roomy" }, stats.duplicates ? `, ${plural(stats.duplicates, "duplicate")}` : ""));
}

function live() {
  const badge = document.getElementById("live");
  const source = new EventSource("/api/live");
  source.onopen = () => { badge.className = "live on"; badge.title = "live"; };
  source.onmessage = () => show({ fresh: true });
  source.onerror = () => { badge.className = "live off"; badge.title = "the emulator does not answer; trying again"; };
}

document.addEventListener("keydown", (press) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName);
  if (press.key === "/" && !typing) {
    const filter = main.querySelector("[data-focus=filter]");
    if (filter) { press.preventDefault(); filter.focus(); filter.select(); }
  } else if (press.key === "Escape" && typing) {
    document.activeElement.blur();
  }
});
document.querySelector(".skip").addEventListener("click", (click) => { click.preventDefault(); main.focus(); });
window.addEventListener("hashchange", () => show());
setInterval(() => refreshTimes(), 10_000);
// `?live=off` is for pictures and tests: a browser that waits for the network to fall silent would wait for ever.
const still = new URLSearchParams(location.search).get("live") === "off";
show().then(() => { if (!still) live(); });
