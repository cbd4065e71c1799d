// One function for each view: from the API's answer to elements.

import {
  byName, copyButton, duration, facts, fromNanos, h, link, number, plural, preview, sorted, summary, table, tags, when,
} from "./dom.js";

const pretty = (value) => JSON.stringify(sorted(value), null, 2);
const title = (text, ...rest) => h("div", { class: "card-title" }, h("span", null, text), ...rest);
const back = (href, text) => h("a", { class: "back", href }, "← ", text);
const NUMBERS = ["Events", "Users", "Duration"];
const heads = (...names) => h("li", { class: "row head", "aria-hidden": "true" }, names.map((name, index) =>
  h("span", { class: index === names.length - 1 || (index > 0 && NUMBERS.includes(name)) ? "end" : null }, name)));
// Colours that a server wrote for a terminal.
const plain = (text) => String(text).replace(/\u001b\[[0-9;]*m/g, "");

function list(kind, head, rows) {
  return h("div", { class: `card ${kind}` }, h("ul", { class: "rows" }, head, rows));
}

function noHits(text = "Nothing matches the filter.") {
  return h("div", { class: "card pad muted" }, text);
}

function who(distinctId) {
  return distinctId ? h("a", { class: "over", href: link("people", distinctId), title: distinctId }, distinctId) : "–";
}

export function eventRows(events, { person = true } = {}) {
  return events.map((event) => h("li", { class: "row", dataset: { key: `event-${event.id}-${event.arrivals}` } },
    h("span", null, h("a", { class: "main", href: link("event", event.uuid), title: event.event }, event.event), tags(event)),
    h("span", { class: person ? null : "muted" }, person ? who(event.distinct_id) : event.distinct_id),
    h("span", { class: "preview wide" }, summary(event)),
    when(event.timestamp, { class: "end time" })));
}

export function events(answer) {
  if (!answer.results.length) return noHits();
  return list("events", heads("Event", "Person", "Properties", "Time"), eventRows(answer.results));
}

export function event(rows) {
  return rows.map((event) => [
    h("div", { class: "head-line" }, h("div", null, h("h1", null, event.event, tags(event))),
      copyButton(() => pretty(event), "Copy event")),
    h("div", { class: "card pad" }, facts([
      ["Person", who(event.distinct_id), event.person_id ? null : h("span", { class: "tag" }, "no person")],
      ["Time", when(event.timestamp), h("div", { class: "muted mono" }, event.timestamp)],
      ["Received", when(event.received_at), ` by ${event.version}`, event.historical ? ", historical" : ""],
      ["Arrivals", event.arrivals === 1 ? "once" : `${event.arrivals} times, stored once`],
      ["Uuid", h("span", { class: "mono" }, event.uuid)],
      Object.keys(event.groups).length > 0 && ["Groups", Object.entries(event.groups).map(([kind, key]) =>
        h("div", null, `${kind}: ${key}`))],
      event.issue && ["Issue", h("a", { href: link("errors", event.issue) }, "show the error")],
      event.properties.$trace_id && ["Trace", h("a", { class: "mono", href: link("trace", event.properties.$trace_id) },
        event.properties.$trace_id)],
    ])),
    event.errors.length > 0 && problem("PostHog cannot use this exception; it makes no issue", event.errors),
    event.warnings.length > 0 && problem("Ingestion warnings", event.warnings),
    Array.isArray(event.properties.$exception_list) && exceptions(event.properties.$exception_list),
    h("div", { class: "card" }, title("Properties", copyButton(() => pretty(event.properties))),
      table(event.properties, "This event has no properties.")),
    h("details", { class: "card" }, h("summary", null, "As it was sent"), h("pre", { class: "block" }, pretty(event.sent))),
  ]);
}

function problem(text, lines) {
  return h("div", { class: "card pad" }, h("h2", null, text), lines.map((line) =>
    h("div", null, h("span", { class: "tag warn first" }, line))));
}

export function people(answer) {
  if (!answer.results.length) return noHits("No person matches. Personless events make none.");
  return list("people", heads("Person", "Properties", "Events", "Last seen"), answer.results.map((person) =>
    h("li", { class: "row", dataset: { key: `person-${person.id}` } },
      h("span", null, h("a", { class: "main", href: link("people", person.id) }, nameOf(person)),
        person.identified && h("span", { class: "tag good" }, "identified"),
        person.distinct_ids.length > 1 && h("span", { class: "tag" }, `${person.distinct_ids.length} ids`)),
      h("span", { class: "preview wide" }, preview(person.properties)),
      h("span", { class: "end optional" }, number(person.events)),
      when(person.last_seen, { class: "end time" }))));
}

function nameOf(person) {
  const { email, name } = person.properties;
  const known = [email, name].find((value) => typeof value === "string" && value);
  return known || person.main_id || person.id;
}

export function person(person, answer) {
  return [
    h("div", { class: "head-line" }, h("div", null, h("h1", null, nameOf(person),
      person.identified && h("span", { class: "tag good" }, "identified"))),
      copyButton(() => pretty(person), "Copy person")),
    h("div", { class: "card pad" }, facts([
      ["Distinct ids", [...person.distinct_ids].sort((a, b) => (b === person.main_id) - (a === person.main_id)).map((id) => h("div", { class: "mono" }, id))],
      ["First seen", when(person.created_at)],
      ["Last seen", person.last_seen ? when(person.last_seen) : "never"],
      ["Events", number(person.events)],
      ["Person id", h("span", { class: "mono" }, person.id)],
    ])),
    h("div", { class: "card" }, title("Properties", copyButton(() => pretty(person.properties))),
      table(person.properties, "No property is set yet.")),
    h("div", { class: "card events" }, title("Events"),
      h("ul", { class: "rows" }, eventRows(answer.results, { person: false })),
      answer.count > answer.results.length && h("p", { class: "muted row" },
        h("a", { href: `#/events?person=${encodeURIComponent(person.id)}` }, `All ${number(answer.count)} events`))),
  ];
}

export function groups(answer) {
  return list("groups", heads("Group", "Properties", "Events"), answer.results.map((group) =>
    h("li", { class: "row", dataset: { key: `group-${group.type}-${group.key}` } },
      h("span", null, h("span", { class: "tag first" }, group.type), " ", h("span", { class: "main" }, group.key),
        !group.identified && h("span", { class: "tag", title: "seen in $groups, no $groupidentify yet" }, "no properties")),
      h("span", { class: "preview wide" }, preview(group.properties)),
      h("span", { class: "end time" }, number(group.events)))));
}

const percent = (share) => `${Number(share.toFixed(2))}\u202f%`;
const told = (value) => (value === true ? "on" : value === false ? "off" : value === null ? "no answer" : value);

// What code was told, each value with its share of the calls.
function calls(rows) {
  const all = rows.reduce((sum, row) => sum + row.count, 0);
  return rows.map((row) => h("span", { class: "call", title: `${plural(row.count, "call")} of ${number(all)}, ${plural(row.users, "person", "people")}` },
    h("span", { class: row.value === null ? "tag first warn" : row.value === false ? "tag first" : "tag first good" }, told(row.value)),
    h("span", { class: "count" }, number(row.count))));
}

function rollout(flag) {
  if (flag.conditions.length > 1) return `${flag.conditions.length} conditions`;
  const [condition] = flag.conditions;
  const whom = demands(condition).length ? "those who match" : flag.group || condition.group ? "groups" : "people";
  return `${percent(condition.rollout_percentage)} of ${whom}`;
}

function variants(flag) {
  return Object.entries(flag.variants).map(([key, share]) => h("span", { class: "call" },
    h("span", { class: "tag first" }, key), h("span", { class: "count" }, percent(share))));
}

const expired = (flag) => flag.expires && new Date(flag.expires) < new Date();

function flagTags(flag) {
  return [
    !flag.active && h("span", { class: "tag warn", title: "left out of every answer" }, "inactive"),
    flag.experiment && h("span", { class: "tag good", title: flag.experiment }, "experiment"),
    flag.group && h("span", { class: "tag" }, `by ${flag.group}`),
    expired(flag) && h("span", { class: "tag bad", title: `should have been gone by ${flag.expires}` }, "expired"),
  ];
}

export function flags(answer) {
  return [
    answer.problem && problem("The changed file is not in force", answer.problem.split("\n")),
    answer.results.length > 0 && list("flags", heads("Flag", "Rollout", "Variants", "Called"), answer.results.map((flag) =>
      h("li", { class: "row", dataset: { key: `flag-${flag.key}` } },
        h("span", null, h("a", { class: "main", href: link("flags", flag.key), title: flag.name || flag.key }, flag.key), flagTags(flag)),
        h("span", { class: "muted wide" }, rollout(flag)),
        h("span", { class: "optional many" }, variants(flag)),
        h("span", { class: "wide many" }, flag.calls.length ? calls(flag.calls) : h("span", { class: "muted" }, "never called"))))),
    answer.unknown.length > 0 && h("div", { class: "card flags" }, title("Called, and not defined", h("span", { class: "muted" }, "a typo, or a flag that is gone")),
      h("ul", { class: "rows" }, answer.unknown.map((flag) => h("li", { class: "row" },
        h("a", { class: "main", href: `#/events?event=${encodeURIComponent("$feature_flag_called")}&q=${encodeURIComponent(JSON.stringify(flag.key))}` }, flag.key),
        h("span", { class: "optional" }), h("span", { class: "optional" }), h("span", { class: "wide many" }, calls(flag.calls)))))),
  ];
}

function demands(condition) {
  const text = (value) => (typeof value === "string" ? value : Array.isArray(value) ? value.map(text).join(" or ") : JSON.stringify(value));
  return [
    ...condition.properties.map(({ key, operator, value }) => (operator.endsWith("_set") ? `${key} ${words(operator)}`
      : `${key} ${words(operator)} ${text(value)}`)),
    ...condition.cohorts.map((name) => `in cohort ${name}`),
    ...condition.not_cohorts.map((name) => `not in cohort ${name}`),
    ...Object.entries(condition.flags).map(([key, value]) => `flag ${key} is ${told(value)}`),
  ];
}

const WORDS = { exact: "is", gt: ">", gte: "≥", lt: "<", lte: "≤", icontains: "contains", not_icontains: "does not contain" };
const words = (operator) => WORDS[operator] || operator.replaceAll("_", " ");

export function flag(flag, answer) {
  const payloads = Object.keys(flag.payloads);
  return [
    h("div", { class: "head-line" }, h("div", null, h("h1", null, flag.key, flagTags(flag)), flag.name && h("div", { class: "muted" }, flag.name)),
      copyButton(() => pretty(flag), "Copy flag")),
    h("div", { class: "card pad" }, facts([
      ["Rollout", rollout(flag)],
      Object.keys(flag.variants).length > 0 && ["Variants", h("div", { class: "calls" }, variants(flag))],
      ["Called", flag.calls.length ? h("div", { class: "calls" }, calls(flag.calls)) : h("span", { class: "muted" }, "never")],
      flag.experiment && ["Experiment", flag.experiment],
      flag.owner && ["Owner", flag.owner],
      flag.expires && ["Expires", flag.expires],
      flag.evaluation_runtime !== "all" && ["Evaluated", `by ${flag.evaluation_runtime}s only`],
      flag.ensure_experience_continuity && ["Continuity", "the value stays after the log-in"],
    ])),
    h("div", { class: "card" }, title("Conditions", h("span", { class: "muted" }, "the first that is met decides")),
      h("ul", { class: "rows" }, flag.conditions.map((condition) => h("li", { class: "row condition" },
        h("span", null, demands(condition).length ? demands(condition).map((text) => h("div", null, text))
          : condition.group || flag.group ? `every ${condition.group || flag.group}` : "everybody",
          condition.group && demands(condition).length > 0 && h("span", { class: "tag first" }, `by ${condition.group}`)),
        h("span", { class: "end" }, percent(condition.rollout_percentage), condition.variant && h("span", { class: "tag" }, condition.variant)))))),
    payloads.length > 0 && h("div", { class: "card" }, title(payloads.length > 1 ? "Payloads" : "Payload"), table(flag.payloads)),
    answer.results.length > 0 && h("div", { class: "card events" }, title("Calls"), h("ul", { class: "rows" },
      eventRows(answer.results.filter((event) => event.properties.$feature_flag === flag.key)))),
  ];
}

export function issues(answer) {
  return list("issues", heads("Error", "Events", "Users", "Last seen"), answer.results.map((issue) =>
    h("li", { class: "row", dataset: { key: `issue-${issue.id}-${issue.count}` } },
      h("span", null, h("a", { class: "main", href: link("errors", issue.id) }, issue.type),
        issue.level !== "error" && h("span", { class: "tag" }, issue.level), " ", h("span", { class: "muted" }, issue.value)),
      h("span", { class: "end optional" }, number(issue.count)),
      h("span", { class: "end optional" }, number(issue.users)),
      when(issue.last_seen, { class: "end time" }))));
}

export function issue(issue, answer) {
  return [
    h("div", { class: "head-line" }, h("div", null, h("h1", null, issue.type), h("div", { class: "muted" }, issue.value))),
    h("div", { class: "card pad" }, facts([
      ["Events", number(issue.count)], ["Users", number(issue.users)],
      ["First seen", when(issue.first_seen)], ["Last seen", when(issue.last_seen)], ["Level", issue.level],
    ])),
    Array.isArray(issue.exceptions) && exceptions(issue.exceptions),
    h("div", { class: "card events" }, title("Events"), h("ul", { class: "rows" }, eventRows(answer.results))),
  ];
}

function exceptions(entries) {
  return entries.map((entry, index) => {
    if (entry === null || typeof entry !== "object") return null;
    const frames = Array.isArray(entry.stacktrace?.frames) ? entry.stacktrace.frames : [];
    const handled = entry.mechanism?.handled;
    return h("div", { class: "card" },
      title(h("span", null, index > 0 && h("span", { class: "muted" }, "caused by "), String(entry.type ?? "Error"),
        entry.value ? h("span", { class: "muted" }, `: ${entry.value}`) : null),
      h("span", null, entry.mechanism?.type && h("span", { class: "tag" }, entry.mechanism.type),
        handled !== undefined && h("span", { class: handled ? "tag" : "tag bad" }, handled ? "handled" : "unhandled"))),
      frames.length === 0 && h("p", { class: "muted row" }, "No stack: PostHog groups this by its message."),
      // Innermost first: where it broke is what one looks for.
      [...frames].reverse().map(frameOf));
  });
}

function frameOf(frame) {
  if (frame === null || typeof frame !== "object") return null;
  const app = frame.in_app !== false && !/[/\\](dist|site)-packages[/\\]/.test(String(frame.abs_path ?? frame.filename ?? ""));
  const where = [h("strong", null, String(frame.function ?? "?")), " in ",
    h("span", { class: "mono" }, String(frame.filename ?? frame.module ?? "?")),
    frame.lineno ? h("span", { class: "muted" }, `:${frame.lineno}`) : null,
    app ? h("span", { class: "tag good" }, "in app") : null];
  return h("div", { class: `frame ${app ? "app" : "lib"}` }, h("div", { class: "where" }, where), app && context(frame));
}

function context(frame) {
  if (typeof frame.context_line !== "string") return null;
  const line = Number(frame.lineno) || 0;
  const lines = (value) => (Array.isArray(value) ? value.map(String) : []);
  // Custom frames list the lines before nearest first, the others in file order.
  const before = frame.platform === "custom" ? lines(frame.pre_context).reverse() : lines(frame.pre_context);
  const row = (text, n, hit) => h("div", { class: hit ? "hit" : null }, h("span", { class: "n" }, n > 0 ? n : ""), h("code", null, text || " "));
  return h("div", { class: "context", tabindex: "0", role: "region", "aria-label": "source" },
    before.map((text, index) => row(text, line - before.length + index, false)),
    row(frame.context_line, line, true),
    lines(frame.post_context).map((text, index) => row(text, line + 1 + index, false)));
}

export function spans(answer) {
  if (!answer.results.length) return noHits();
  return list("spans", heads("Span", "Service", "Person", "Duration", "Time"), answer.results.map((span) =>
    h("li", { class: "row", dataset: { key: `span-${span.id}` } },
      h("span", null, h("a", { class: "main", href: link("trace", span.trace_id || "none") }, span.name || "(no name)"),
        h("span", { class: "tag" }, span.data.kind), span.data.status.code === 2 && h("span", { class: "tag bad" }, "error")),
      h("span", { class: "muted optional" }, span.service || "–"),
      h("span", { class: "optional" }, who(span.distinct_id)),
      h("span", { class: "end optional" }, duration(span.data.end_ns - span.data.start_ns)),
      when(fromNanos(span.time_ns), { class: "end time" }))));
}

export function trace(id, spanAnswer, logAnswer) {
  const spans = [...spanAnswer.results].sort((a, b) => a.data.start_ns - b.data.start_ns);
  const start = Math.min(...spans.map((span) => span.data.start_ns));
  const end = Math.max(...spans.map((span) => span.data.end_ns));
  const known = new Set(spans.map((span) => span.span_id));
  // A span whose parent was not sent here starts a tree of its own.
  const children = new Map();
  for (const span of spans) {
    const parent = known.has(span.data.parent_span_id) && span.data.parent_span_id !== span.span_id ? span.data.parent_span_id : "";
    children.set(parent, [...(children.get(parent) || []), span]);
  }
  const ordered = [];
  const placed = new Set();
  const visit = (parent, depth) => (children.get(parent) || []).forEach((span) => {
    if (placed.has(span)) return;
    placed.add(span);
    ordered.push([span, depth]);
    if (span.span_id) visit(span.span_id, depth + 1);
  });
  visit("", 0);
  spans.filter((span) => !placed.has(span)).forEach((span) => ordered.push([span, 0])); // cycles
  return [
    h("div", { class: "head-line" }, h("div", null, h("h1", null, "Trace"), h("div", { class: "mono muted" }, id))),
    h("div", { class: "card trace" }, title(plural(spans.length, "span"), spans.length > 0 && h("span", { class: "muted" }, duration(end - start))),
      h("ul", { class: "rows" }, ordered.map(([span, depth]) => spanRow(span, depth, start, end)))),
    spans.length > 0 && h("div", { class: "card" }, title("Attributes"), ordered.map(([span]) => h("details", null,
      h("summary", null, `${span.name} · ${span.service || "no service"}`), table({ ...span.data.attributes, ...prefixed(span.data.resource) }),
      span.data.events.length > 0 && h("pre", { class: "block" }, pretty(span.data.events))))),
    logAnswer.results.length > 0 && logs(logAnswer),
  ];
}

function prefixed(resource) {
  return Object.fromEntries(Object.entries(resource || {}).map(([key, value]) => [`resource: ${key}`, value]));
}

function spanRow(span, depth, start, end) {
  const whole = Math.max(1, end - start);
  const bar = h("span", { class: span.data.status.code === 2 ? "bad" : null });
  bar.style.left = `${((span.data.start_ns - start) / whole) * 100}%`;
  bar.style.width = `${((span.data.end_ns - span.data.start_ns) / whole) * 100}%`;
  const name = h("span", { class: "main", title: span.name }, span.name, h("span", { class: "tag" }, span.data.kind));
  name.style.paddingLeft = `${Math.min(depth, 12) * 14}px`;
  return h("li", { class: "row" }, name, h("span", { class: "track" }, bar),
    h("span", { class: "end" }, duration(span.data.end_ns - span.data.start_ns)));
}

export function logs(answer) {
  if (!answer.results.length) return noHits();
  return h("div", { class: "card logs" }, h("ul", { class: "rows" }, heads("Level", "Message", "Service", "Person", "Time"),
    answer.results.map((log) => h("li", { class: "row", dataset: { key: `log-${log.id}` } },
      h("span", { class: "optional" }, h("span", { class: /err|fatal|crit/i.test(log.data.severity) ? "tag first bad" : "tag first" },
        log.data.severity || "–")),
      h("span", null, log.trace_id ? h("a", { class: "main", href: link("trace", log.trace_id), title: plain(log.name) }, plain(log.name))
        : h("span", { class: "main", title: plain(log.name) }, plain(log.name))),
      h("span", { class: "muted optional" }, log.service || "–"),
      h("span", { class: "optional" }, who(log.distinct_id)),
      when(fromNanos(log.time_ns), { class: "end time" })))));
}

export function refused(answer, stats) {
  const totals = [["refused", "Refused requests"], ["dropped", "Dropped events"], ["warnings", "Warnings"]];
  return [
    h("div", { class: "card pad" }, facts(totals.map(([key, name]) => [name,
      Object.keys(stats[key]).length ? Object.keys(stats[key]).sort(byName).map((reason) =>
        h("div", null, h("span", { class: "mono" }, reason), h("span", { class: "count" }, ` × ${number(stats[key][reason])}`)))
        : h("span", { class: "muted" }, "none")]))),
    answer.results.length > 0 && list("refused", heads("Status", "Reason", "Detail", "Time"), answer.results.map((row) =>
      h("li", { class: "row", dataset: { key: `refusal-${row.id}` } },
        h("span", { class: "optional" }, h("span", { class: row.status === 200 ? "tag first warn" : "tag first bad" }, row.status)),
        h("span", null, h("span", { class: "main" }, row.reason), row.events > 1 && h("span", { class: "tag" }, plural(row.events, "event"))),
        h("span", { class: "muted wide", title: row.detail }, `${row.path}: ${row.detail}`),
        when(row.at, { class: "end time" })))),
  ];
}

export function empty(kind) {
  const origin = location.origin;
  const recipe = (name, text) => h("div", { class: "recipe" }, title(name, copyButton(() => text)), h("pre", null, text));
  const texts = {
    events: ["Nothing has arrived yet", "Send something here; this page shows it at once."],
    people: ["No people yet", "Each identified event makes or finds a person. Personless events make none."],
    groups: ["No groups yet", "Put $groups on an event, or send a $groupidentify."],
    flags: ["No feature flags", "Start with --flags FILE. The file is read again when it changes."],
    errors: ["No errors", "An $exception event with a valid $exception_list makes an issue here."],
    traces: ["No spans yet", "OTLP traces sent to this address show up here."],
    logs: ["No log records yet", "OTLP logs sent to this address show up here."],
    refused: ["Nothing was refused", "What PostHog would refuse or drop is listed here with the reason."],
  };
  const [head, text] = texts[kind];
  if (kind === "flags") {
    return h("div", { class: "card empty" }, h("h1", null, head), h("p", null, text), h("div", { class: "recipes" },
      recipe("flags.yaml", "flags:\n  new-checkout:\n    rollout_percentage: 25\n  button-colour:\n    variants: {control: 50, green: 50}\n    payloads: {green: {hex: \"#0a0\"}}"),
      recipe("The emulator", "otel-posthog emulator --flags flags.yaml"),
      recipe("The PostHog SDK", `from posthog import Posthog\n\nclient = Posthog("phc_local", host="${origin}")\nflags = client.evaluate_flags("ada")\nflags.is_enabled("new-checkout")`)));
  }
  return h("div", { class: "card empty" }, h("h1", null, head), h("p", null, text),
    kind === "refused" ? null : h("div", { class: "recipes" },
      recipe("Any Python service",
        `export OTEL_EXPORTER_OTLP_ENDPOINT=${origin}/i\nexport OTEL_EXPORTER_OTLP_TOKEN=phc_local\nopentelemetry-instrument python app.py`),
      recipe("The PostHog SDK",
        `from posthog import Posthog\n\nclient = Posthog("phc_local", host="${origin}")\nclient.capture("signed_up", distinct_id="ada")\nclient.flush()`),
      recipe("curl",
        `curl ${origin}/batch/ -H 'Content-Type: application/json' -d '{"api_key": "phc_local", "batch": [{"event": "signed_up", "distinct_id": "ada"}]}'`)));
}
export { back };
