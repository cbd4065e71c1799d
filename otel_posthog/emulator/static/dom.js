// Elements, text and times. Everything that came from outside becomes a text node, never markup.

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const number = (value) => Number(value || 0).toLocaleString("en");
export const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many || one + "s"}`;

// Paths carry ids that outsiders chose: an id never becomes a path of its own.
export const link = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");

export function ago(date, now = Date.now()) {
  const seconds = Math.round((now - date.getTime()) / 1000);
  const size = Math.abs(seconds);
  if (size < 5) return "just now";
  const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [86400 * 60, 86400, "d"]];
  const [, unit, name] = steps.find(([below]) => size < below) || [0, 86400 * 365.25, "y"];
  const text = `${Math.max(1, Math.floor(size / unit))} ${name}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

export function when(iso, attributes) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return h("span", attributes, "–");
  return h("time", { ...attributes, datetime: iso, title: `${iso}\n${date.toString()}` }, ago(date));
}

export function refreshTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const text = ago(new Date(element.getAttribute("datetime")));
    if (element.textContent !== text) element.textContent = text;
  }
}

export function fromNanos(nanos) {
  return nanos > 0 ? new Date(nanos / 1e6).toISOString() : "";
}

export function duration(nanos) {
  const millis = nanos / 1e6;
  if (millis < 1) return `${Math.max(0, Math.round(millis * 1000))} µs`;
  if (millis < 1000) return `${millis < 10 ? millis.toFixed(1) : Math.round(millis)} ms`;
  return `${(millis / 1000).toFixed(2)} s`;
}

export function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort(byName).map((key) => [key, sorted(value[key])]));
}

// What the app named comes before what PostHog named.
export function byName(a, b) {
  return a.startsWith("$") - b.startsWith("$") || (a < b ? -1 : a > b ? 1 : 0);
}

export function valueOf(value) {
  const kind = value === null ? "null" : typeof value;
  const text = kind === "string" ? value : JSON.stringify(sorted(value), null, kind === "object" ? 2 : 0);
  return h("span", { class: `v-${kind}` }, kind === "string" && value === "" ? '""' : text);
}

// Where and how the service runs, and what posthog-js puts there of the event itself: it tells nothing in a list.
const CONTEXT = new Set([
  "app_version", "deployment_method", "distinct_id", "duration_ms", "environment", "machine", "platform",
  "python_version", "service_name", "slow", "timezone", "title", "token", "trace_sampled",
]);
const isContext = (key) => CONTEXT.has(key) || key.startsWith("http_");

export function preview(properties, skip = () => false) {
  const parts = Object.keys(properties || {})
    .filter((key) => !key.startsWith("$") && !skip(key))
    .sort(byName)
    .slice(0, 6)
    .map((key) => {
      const value = properties[key];
      const text = typeof value === "string" ? value : JSON.stringify(value);
      return `${key}=${text.length > 60 ? text.slice(0, 60) + "…" : text}`;
    });
  return parts.join("  ");
}

// An event that is a request is told by its address; one that only happened in a request is told by its own properties.
function request(event, properties) {
  const where = properties.$pathname || properties.$current_url;
  if (event === "$pageview" && where) return String(where);
  if (event !== "api_request" || !where) return "";
  return [properties.$request_method, where, properties.http_status_code].filter(Boolean).join(" ");
}

// What says most about an event in one line.
export function summary({ event, properties }) {
  const first = Array.isArray(properties.$exception_list) ? properties.$exception_list[0] : null;
  if (event === "$exception" && first && typeof first === "object") return `${first.type ?? "Error"}: ${first.value ?? ""}`;
  if (event === "$groupidentify") return `${properties.$group_type}: ${properties.$group_key}  ${preview(properties.$group_set)}`;
  if (event === "$feature_flag_called") return `${properties.$feature_flag} → ${properties.$feature_flag_response}`;
  if (event === "$create_alias") return `${properties.alias}`;
  if (event === "$identify" && properties.$anon_distinct_id) return `was ${properties.$anon_distinct_id}`;
  const changed = event === "$set" || event === "$identify" ? preview(properties.$set) : "";
  return [request(event, properties), changed, preview(properties, isContext)].filter(Boolean).join("  ");
}

export function copyButton(text, label = "Copy") {
  return h("button", { class: "small", type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text());
      toast("Copied");
    } catch {
      toast("The browser refused; select and copy by hand");
    }
  } }, label);
}

export function toast(text) {
  document.querySelector(".toast")?.remove();
  const element = h("div", { class: "toast", role: "status" }, text);
  document.body.append(element);
  setTimeout(() => element.remove(), 1800);
}

export function table(properties, empty = "none") {
  const rank = (key) => (key.startsWith("$") ? 2 : isContext(key) ? 1 : 0);
  const keys = Object.keys(properties || {}).sort((a, b) => rank(a) - rank(b) || byName(a, b));
  if (!keys.length) return h("p", { class: "muted", style: null }, h("span", { class: "row" }, empty));
  return h("table", { class: "props" }, h("tbody", null, keys.map((key) =>
    h("tr", null, h("th", { scope: "row" }, key), h("td", null, valueOf(properties[key]))))));
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...values]) =>
    h("div", null, h("dt", null, name), h("dd", null, values))));
}

export function tags(event) {
  return [
    event.arrivals > 1 && h("span", { class: "tag warn", title: "de-duplicated by uuid, name, distinct id and day" },
      `received ${event.arrivals} times`),
    event.person_mode !== "full" && h("span", { class: "tag" }, "personless"),
    event.errors?.length > 0 && h("span", { class: "tag bad", title: event.errors.join("\n") }, "invalid"),
    event.warnings?.length > 0 && h("span", { class: "tag warn", title: event.warnings.join("\n") }, "warning"),
  ];
}
