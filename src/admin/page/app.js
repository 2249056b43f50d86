// Everything from the log or from the server becomes text nodes, never markup. The address holds the filters.
"use strict";

const $ = (id) => document.getElementById(id);
const FIELDS = ["text", "action", "outcome", "since", "until", "longer_than", "rule", "table", "user", "app", "database", "id", "waited", "overridden", "rolled_back"];
const PAGE = 100;
const state = { order: "new", day: null, dayAt: 0, live: null, statements: [], more: false, limit: PAGE, paused: false, open: new Set(), failing: null, told: null };

// An element with text, attributes (a name beginning with "on" is a listener) and children. Null children are left out.
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

// --- words --------------------------------------------------------------------------------------------------------

const plural = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many || one + "s"}`;

// Rounded before it is divided, so that there is never a "60 s", and nothing below nothing.
function duration(ms) {
  if (ms === null || ms === undefined) return "unknown";
  ms = Math.max(0, ms);
  if (ms < 0.995) return `${ms.toFixed(2)} ms`;
  if (ms < 999.5) return `${ms.toFixed(ms < 9.95 ? 1 : 0)} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  const min = Math.round(s / 60);
  return `${Math.floor(min / 60)} h ${min % 60} min`;
}

function bytes(n) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return `${unit && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

const ago = (ms) => duration(Math.max(0, Date.now() - ms));
const oneLine = (sql) => sql.replace(/\s+/g, " ").trim();
const short = (sql, n) => { const line = oneLine(sql); return line.length > n ? line.slice(0, n - 1) + "…" : line; };

// Rewritten is what Lockkeeper is for: nothing to look at twice. Red is for what failed, or was refused.
const DONE = { rewrite: ["rewritten", ""], reject: ["refused", "bad"], warn: ["warned", "note"], forward: ["forwarded", ""], dry_run: ["dry run", ""] };
const ENDED = { done: "good", warned: "note", rejected: "bad", failed: "bad", cancelled: "note", disconnected: "bad", running: "note", continued: "note", unfinished: "bad", "rolled back": "note", prepared: "note", "dry run": "" };

const chip = (text, kind) => el("span", { class: `chip ${kind || ""}` }, text);

// --- asking -------------------------------------------------------------------------------------------------------

const token = () => sessionStorage.getItem("lockkeeper-token");

async function ask(path, options) {
  const headers = { ...(options && options.headers) };
  if (token()) headers["Authorization"] = `Bearer ${token()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("lockkeeper does not answer: what is shown may be old");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(body.error || `the answer was ${response.status}`), { status: response.status });
  return body;
}

function problem(text) {
  $("problem").textContent = text || "";
  $("problem").hidden = !text;
}

function filters() {
  const wanted = new URLSearchParams();
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (FIELDS.includes(name) && value) wanted.set(name, value);
  }
  return wanted;
}

async function refresh() {
  const wanted = filters();
  const before = wanted.toString();
  wanted.set("limit", state.limit);
  try {
    const [live, log] = await Promise.all([ask("api/live"), ask(`api/statements?${wanted}`)]);
    if (before !== filters().toString()) return;
    state.live = live;
    state.statements = log.statements;
    state.more = log.more;
    state.note = log.note;
    problem(state.told);
  } catch (error) {
    problem(error.message);
    if (error.status === 401) { $("unlock").textContent = "Enter token"; $("unlock").focus(); }
    return;
  }
  show();
  refreshDay();
}

// Once a minute: it is read from the log.
async function refreshDay() {
  if (Date.now() - state.dayAt < 60000) return;
  state.dayAt = Date.now();
  try {
    state.day = await ask("api/day");
  } catch {
    state.day = null;
  }
  strip();
}

// --- now, in one line, and the last 24 hours ------------------------------------------------------------------------

function stateLine() {
  const live = state.live;
  if (!live.live) return ["A log is looked at: nothing is known of now.", ""];
  const plans = live.sessions.filter((s) => s.plan);
  const parts = [];
  let kind = "";
  if (plans.length === 0) parts.push("No plan runs");
  else {
    const first = plans[0].plan;
    parts.push(plans.length === 1 ? `1 plan runs, step ${first.step + 1} of ${Math.max(1, first.steps.length)}, for ${ago(first.since)}` : `${plans.length} plans run`);
    const held = plans.filter((s) => s.plan.blocked_by);
    if (held.length) { parts.push(`${held.length === 1 ? "1 plan waits" : `${held.length} plans wait`} for others`); kind = "note"; }
    const paused = plans.filter((s) => s.plan.paused_by).length;
    if (paused) parts.push(`${paused} paused`);
  }
  if (!live.locks.known) parts.push("who waits is not known: no control connection");
  else {
    const ours = new Set(plans.map((s) => s.backend_pid));
    const waiting = live.locks.rows.filter((row) => row.waits_for);
    const behind = waiting.filter((row) => row.blocked_by.some((pid) => ours.has(pid)));
    const longest = (rows) => duration(Math.max(0, ...rows.map((row) => row.waited_ms || 0)));
    if (behind.length) { parts.push(`${plural(behind.length, "session")} ${behind.length === 1 ? "waits" : "wait"} ${longest(behind)} behind ${plans.length === 1 ? "it" : "them"}`); kind = "bad"; }
    const others = waiting.filter((row) => !behind.includes(row) && !ours.has(row.pid));
    if (others.length) parts.push(`${plural(others.length, "other session")} ${others.length === 1 ? "waits" : "wait"} ${longest(others)}`);
    if (!waiting.length && kind === "") parts.push("nobody waits for a lock");
  }
  const jobs = (live.jobs.rows || []).filter((job) => ["paused", "failed", "interrupted"].includes(job.state));
  if (jobs.length) { parts.push(`${plural(jobs.length, "job")} stopped`); kind = kind || "note"; }
  const asks = (live.approvals || []).length;
  if (asks) { parts.push(`${plural(asks, "statement")} ${asks === 1 ? "waits" : "wait"} for approval`); kind = kind || "note"; }
  if (live.audit_healthy === false) { parts.push("the audit log cannot be written"); kind = "bad"; }
  return [`${parts.join(", ")}.`, kind];
}

function strip() {
  const day = state.day;
  $("day").hidden = !day || !day.slots.length;
  if ($("day").hidden) return;
  const most = Math.max(4, ...day.slots.map((s) => s.plans + s.refused + s.failed));
  const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const sum = { plans: 0, refused: 0, failed: 0, waits: 0, longest: 0 };
  const bars = day.slots.map((slot, n) => {
    const from = day.from_ms + n * day.slot_s * 1000;
    const to = from + day.slot_s * 1000;
    for (const key of ["plans", "refused", "failed", "waits"]) sum[key] += slot[key];
    sum.longest = Math.max(sum.longest, slot.longest_wait_ms);
    const bad = slot.refused + slot.failed;
    const words = [slot.plans && plural(slot.plans, "plan"), slot.refused && `${slot.refused} refused`, slot.failed && `${slot.failed} failed`, slot.waits && `${plural(slot.waits, "plan")} had others wait, up to ${duration(slot.longest_wait_ms)}`].filter(Boolean);
    const label = `${clock(from)} to ${clock(to)}: ${words.join(", ") || "nothing"}`;
    const part = (count, kind) => count ? el("span", { class: kind, style: null, "data-part": Math.min(10, Math.max(1, Math.round(10 * count / most))) }) : null;
    const inner = [part(slot.plans, "plans"), part(bad, "bad"), slot.waits ? el("span", { class: "waits" }) : null];
    const hour = new Date(from);
    const tick = hour.getMinutes() === 0 && hour.getHours() % 6 === 0 ? clock(from) : null;
    return el("li", { "data-tick": tick }, words.length
      ? el("a", { href: `?since=${encodeURIComponent(new Date(from).toISOString())}&until=${encodeURIComponent(new Date(to).toISOString())}`, title: label, "aria-label": label, onclick: follow }, inner)
      : el("span", { class: "none", title: label }));
  });
  $("strip").replaceChildren(...bars);
  const words = [plural(sum.plans, "plan"), `${sum.refused} refused`, `${sum.failed} failed`, sum.waits ? `${sum.waits} had others wait, up to ${duration(sum.longest)}` : null].filter(Boolean);
  $("day-words").textContent = `${words.join(", ")}${day.more ? ", and more than could be looked at" : ""}.`;
}

// --- the log ------------------------------------------------------------------------------------------------------

const running = () => new Set((state.live.sessions || []).filter((s) => s.plan).map((s) => s.plan.id));

function ending(event) {
  if (event.ended) return event.outcome;
  if (running().has(event.id)) return "running";
  return event.continued ? "continued" : "unfinished";
}

// Who waited is told by the control connection alone: without it nothing is known, which is not nothing.
const waits = (event) => event.after && event.after.waits;

function whatIsLeft() {
  const left = [];
  const seen = new Set();
  // Newest first: what succeeded later has settled what failed before.
  for (const event of state.statements) {
    const key = `${event.database} ${oneLine(event.statement)}`;
    const end = ending(event);
    if (!seen.has(key) && ["failed", "cancelled", "disconnected", "unfinished"].includes(end) && event.action !== "reject") {
      left.push({ id: event.id, text: `${end}: ${short(event.statement, 90)}` });
    }
    seen.add(key);
  }
  const checked = new Set();
  for (const event of state.statements) {
    if (!event.after || event.after.invalid === null) continue;
    const tables = `${event.database} ${tablesOf(event).join(" ")}`;
    if (checked.has(tables)) continue;
    checked.add(tables);
    for (const name of event.after.invalid) left.push({ id: event.id, text: `INVALID index ${name}` });
    for (const name of event.after.not_valid || []) left.push({ id: event.id, text: `NOT VALID constraint ${name}` });
  }
  for (const job of (state.live.jobs && state.live.jobs.rows) || []) {
    if (job.state === "due") left.push({ text: job.id === null ? short(job.statement, 120) : `the old table of job ${job.id} is due to be dropped: lockkeeper jobs finish ${job.id}` });
    if (["paused", "failed", "interrupted"].includes(job.state)) left.push({ text: `job ${job.id} is ${job.state}: ${short(job.statement, 70)}` });
  }
  // Newest first: what the script ends with has been run since.
  const since = new Set();
  for (const event of state.statements) {
    if (ending(event) !== "done") continue;
    const last = (event.contract || "").split("\n").map((line) => line.trim().replace(/;$/, "")).filter((line) => line && !line.startsWith("--")).pop();
    if (last && !since.has(`${event.database} ${oneLine(last)}`)) left.push({ id: event.id, text: `by hand, on a later day: ${short(last, 80)}` });
    since.add(`${event.database} ${oneLine(event.statement).replace(/;$/, "")}`);
  }
  return left;
}

const tablesOf = (event) => [...new Set((event.steps || []).map((step) => step.relation))].filter(Boolean);

function glance() {
  const events = state.statements;
  const count = (test) => events.filter(test).length;
  const changed = count((e) => e.action === "rewrite");
  const refused = count((e) => e.outcome === "rejected");
  const failed = count((e) => ["failed", "cancelled", "disconnected", "unfinished"].includes(ending(e)));
  const users = [...new Set(events.map((e) => e.application_name ? `${e.user} (${e.application_name})` : e.user))];
  const known = events.filter(waits);
  const waited = known.filter((e) => e.after.waits.behind_plan > 0);
  const longest = Math.max(0, ...waited.map((e) => e.after.waits.longest_behind_plan_ms));
  const plans = count((e) => e.steps && e.steps.length);
  const left = whatIsLeft();
  const answer = (question, sum, kind, items) => el("div", {},
    el("dt", {}, question),
    el("dd", {}, el("p", { class: `sum ${kind || ""}` }, sum), items && items.length ? el("ul", {}, items.map((item) => el("li", {}, item))) : null));
  const link = (item) => item.id ? el("a", { href: `?id=${encodeURIComponent(item.id)}`, onclick: follow }, item.text) : item.text;
  const rules = new Map();
  for (const e of events) for (const f of e.findings || []) if (f.action === "rewrite" || f.action === "reject") rules.set(f.rule, (rules.get(f.rule) || 0) + 1);
  const top = [...rules].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([rule, n]) => `${rule}: ${n}`);
  const overrides = events.filter(overridden).map((e) => ({ id: e.id, text: overridden(e) }));
  const also = overrides.length ? `, ${overrides.length} overridden` : "";
  const none = events.length === 0;
  $("answers").replaceChildren(
    answer("What ran, and by whom?", none ? "nothing here" : plural(events.length, "statement") + (state.more ? " and more" : ""), "", users.slice(0, 4).concat(users.length > 4 ? [`and ${users.length - 4} more`] : [])),
    answer("What was changed about it?", none ? "nothing here" : `${changed} rewritten, ${refused} refused${also}`, refused || also ? "note" : "", top.concat(overrides.slice(0, 3).map(link))),
    answer("Did anyone wait?", waitedWords(events, known, waited, longest), waited.length ? "note" : known.length && known.length === plans ? "good" : "", waited.slice(0, 3).map((e) => link({ id: e.id, text: `${duration(e.after.waits.longest_behind_plan_ms)} behind ${short(e.statement, 60)}` }))),
    answer("Is anything left to do?", left.length ? plural(left.length, "thing") : failed ? "nothing: what failed was done later" : none ? "nothing here" : "nothing", left.length ? "note" : none || !(state.live.jobs && state.live.jobs.known) ? "" : "good", left.slice(0, 5).map(link)),
  );
}

// What somebody let through on purpose, and why: one statement has one reason, however many rules it met.
function overridden(event) {
  const found = (event.findings || []).find((f) => f.overridden);
  return found ? `${found.rule} overridden: ${short(found.overridden, 80)}` : null;
}

function waitedWords(events, known, waited, longest) {
  const plans = events.filter((e) => e.steps && e.steps.length);
  const going = plans.filter((e) => ending(e) === "running").length;
  const lacking = plans.length - going - known.length;
  if (plans.length === 0) return "no plan ran";
  if (plans.length === going) return "the plans still run";
  if (known.length === 0) return state.live.control === "up" ? "unknown" : "unknown: no control connection";
  const rest = (lacking > 0 ? `, ${lacking} of ${plural(plans.length, "plan")} unknown` : "") + (going > 0 ? `, ${going} still running` : "");
  if (waited.length === 0) return `nobody seen${rest}`;
  return `yes, ${duration(longest)} at the longest${rest}`;
}

function statement(event, longest) {
  const end = ending(event);
  const [done, kind] = DONE[event.action] || [event.action, ""];
  const time = new Date(event.time);
  const began = time.getTime() - (event.ended ? event.duration_ms || 0 : 0);
  const who = [event.user, event.application_name, event.database].filter(Boolean).join(" · ");
  const seen = waits(event);
  const facts = event.ended ? [who, `took ${duration(event.duration_ms)}`] : [who];
  if (event.rows !== null && event.rows !== undefined) facts.push(plural(event.rows, "row"));
  const tried = (event.steps || []).reduce((ms, step) => ms + step.lock_wait_ms, 0);
  if (tried > 0) facts.push(`${duration(tried)} of it for locks`);
  if (seen && seen.behind_plan) facts.push(`${plural(seen.behind_plan, "session")} waited, up to ${duration(seen.longest_behind_plan_ms)}`);
  if (overridden(event)) facts.push(overridden(event));
  const details = el("details", { ontoggle: (e) => {
    if (e.target !== details) return;
    if (details.open) { state.open.add(event.id); if (details.children.length === 1) details.append(story(event)); }
    else state.open.delete(event.id);
  } },
    el("summary", {},
      el("time", { datetime: event.time, title: `began ${new Date(began).toISOString()}, ended ${event.ended ? event.time : "not yet"}` }, new Date(began).toLocaleTimeString("en-GB"), event.ended && event.duration_ms >= 1000 ? el("span", { class: "quiet" }, ` to\u00a0${time.toLocaleTimeString("en-GB")}`) : null),
      el("span", { class: "chips" }, chip(done, kind), done === "refused" && end === "rejected" ? null : chip(end, ENDED[end])),
      el("span", { class: "sql" }, short(event.statement, 400)),
      el("span", { class: "who" }, facts.join(" · ")),
      event.ended ? el("meter", { class: "took", min: 0, max: longest, value: Math.max(event.duration_ms, longest / 200), "aria-hidden": "true", title: `took ${duration(event.duration_ms)}` }) : null));
  const item = el("li", { class: "statement", "data-id": event.id }, details);
  if (state.open.has(event.id)) { details.append(story(event)); details.open = true; }
  return item;
}

function story(event) {
  const steps = event.steps || [];
  const findings = event.findings || [];
  return el("div", { class: "story" },
    el("h3", {}, "What was asked"),
    el("p", { class: "quiet" }, `by ${event.user} from ${event.client}${event.application_name ? ` (${event.application_name})` : ""} in ${event.database}, server process ${event.backend_pid}, ${new Date(event.time).toLocaleString("en-GB")}`),
    el("pre", {}, event.statement),
    event.parameters && event.parameters.length ? el("p", { class: "quiet" }, "with ", event.parameters.map((p, n) => `$${n + 1} = ${p === null ? "NULL" : p}`).join(", ")) : null,
    el("h3", {}, "Why it was ", (DONE[event.action] || [event.action])[0]),
    findings.length ? el("ul", {}, findings.map(finding)) : el("p", {}, "No rule had anything to say."),
    event.why && event.why.length ? el("ul", {}, event.why.map((why) => el("li", {}, why))) : null,
    event.error ? el("p", { class: event.action === "reject" ? "" : "bad" }, `${event.sqlstate || ""} ${event.error}`) : null,
    event.detail ? el("p", { class: "hint" }, event.detail) : null,
    event.hint ? el("p", { class: "hint" }, event.hint) : null,
    steps.length ? [el("h3", {}, "What was run"), stepsTable(steps, ending(event) === "unfinished")] : null,
    steps.length ? checklists(event) : null,
    event.after && event.after.statements && event.after.statements.length ? times(event.after) : null,
    event.rollback_plan && event.rollback_plan.length ? rollback(event) : null,
    el("p", {}, el("a", { href: `?id=${encodeURIComponent(event.id)}`, onclick: follow }, "Link to this statement"), ` (${event.id})`));
}

function finding(f) {
  return el("li", {}, el("code", {}, f.rule), ` (${f.lock} as written, ${f.action}): `, f.message,
    f.overridden ? el("span", { class: "note" }, ` Overridden: ${f.overridden}`) : null);
}

// `cut`: the log ends before the statement does, so that what it does not tell of may have run.
function stepsTable(steps, cut) {
  const ended = (step) => (cut && step.outcome === "not run" ? "not known" : step.outcome);
  const blocker = (b) => `${b.prepared ? `prepared transaction ${b.prepared}` : `pid ${b.pid}`} (${[b.user, b.application_name, b.state, b.age_s === null || b.age_s === undefined ? null : `for ${duration(b.age_s * 1000)}`].filter(Boolean).join(", ")})${b.query ? `: ${short(b.query, 120)}` : ""}`;
  const row = (step, n) => el("tr", {},
    el("td", { class: "number", "data-name": "step" }, n + 1),
    el("td", {}, step.label, el("br"), el("code", {}, step.sql),
      step.error ? el("p", { class: "bad" }, step.error) : null,
      (step.blockers || []).map((b) => el("p", { class: "note" }, `waited for ${blocker(b)}`)),
      step.blockers_unknown ? el("p", { class: "note" }, `whether it waited for others is not known: ${step.blockers_unknown}`) : null),
    el("td", { "data-name": "lock" }, step.lock),
    el("td", { class: "number", "data-name": "took" }, duration(step.duration_ms)),
    el("td", { class: "number", "data-name": "tries" }, `${step.lock_tries}${step.lock_wait_ms ? ` (${duration(step.lock_wait_ms)})` : ""}`),
    el("td", { class: "number", "data-name": "rows" }, step.rows === null || step.rows === undefined ? "–" : step.rows.toLocaleString("en")),
    el("td", { "data-name": "ended" }, chip(ended(step) || "–", ENDED[ended(step)])));
  const heads = [["", "number"], ["Step"], ["Lock"], ["Took", "number"], ["Lock tries", "number"], ["Rows", "number"], ["Ended"]];
  return el("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Steps" }, el("table", { class: "steps" },
    el("thead", {}, el("tr", {}, heads.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))),
    el("tbody", {}, steps.map(row))));
}

// Each line is what was measured; what was not measured is unknown, never assumed.
function checklists(event) {
  const yes = (text) => ["✓", "good", text];
  const no = (text) => ["✗", "bad", text];
  const note = (text) => ["!", "note", text];
  const unknown = (text) => ["?", "quiet", text];
  const list = (title, lines) => el("div", {}, el("h3", {}, title), el("ul", { class: "checklist" }, lines.map(([question, [mark, kind, text]]) =>
    el("li", {}, el("span", { class: `mark ${kind}`, "aria-hidden": "true" }, mark), el("span", {}, el("b", {}, `${question} `), text)))));
  const rules = (event.findings || []).filter((f) => f.action !== "reject").map((f) => f.rule);
  const steps = event.steps;
  const after = event.after || {};
  const tables = after.tables || [];
  const breaking = rules.filter((r) => /^(drop-|rename-|change-type|truncate)/.test(r));
  const stricter = rules.filter((r) => /^(set-not-null|validating-|unique-constraint|exclusion-constraint|constrained-domain)/.test(r));
  const batched = steps.filter((s) => s.rows !== null && s.rows !== undefined);
  const strong = steps.filter((s) => /^(ACCESS EXCLUSIVE|EXCLUSIVE|SHARE|SHARE ROW EXCLUSIVE)$/.test(s.lock));
  const held = Math.max(0, ...strong.map((s) => s.duration_ms - s.lock_wait_ms));
  const before = [
    ["Production-size data?", tables.length ? yes(tables.map((t) => `${t.name}: ${t.bytes === null ? "size unknown" : bytes(t.bytes)}${t.rows === null ? "" : `, about ${Math.round(t.rows).toLocaleString("en")} rows`}`).join("; ") + ", at the time") : unknown("unknown")],
    ["Backwards compatible?", breaking.length ? no(`no: ${breaking.join(", ")}`) : stricter.length ? note(`nothing is taken away, but writes must now satisfy more: ${stricter.join(", ")}`) : yes("no rule found anything taken away, renamed or made stricter")],
    ["Batched?", batched.length ? yes(`${plural(batched.reduce((n, s) => n + s.rows, 0), "row")} changed in batches`) : yes("no rows were to be changed")],
    ["Concurrent?", strong.length ? note(`${strong[0].lock} for at most ${duration(held)}, by short tries; the rest lets readers and writers through`) : yes(`readers and writers went on: ${[...new Set(steps.map((s) => s.lock))].join(", ")}`)],
    ["Rollback plan?", event.rollback_plan && event.rollback_plan.length ? yes(`${plural(event.rollback_plan.length, "statement")}, below`) : no("there is none")],
  ];
  const shapes = after.statements || [];
  const compared = shapes.filter((s) => s.before && s.after);
  const slower = compared.filter((s) => s.after.p99_ms > 2 * s.before.p99_ms && s.after.timed >= 20 && s.before.timed >= 20);
  const behind = after.waits;
  const unclean = [...(after.invalid || []).map((n) => `INVALID index ${n}`), ...(after.not_valid || []).map((n) => `NOT VALID ${n}`)];
  const afterwards = [
    ["Query times before and after:", !shapes.length ? unknown("unknown: no statement on these tables was timed") : !compared.length ? unknown(after.watched_s === null || after.watched_s === undefined ? "after is known a minute later" : "unknown: none was seen both before and after") : slower.length ? no(`${plural(slower.length, "statement")} slower than twice, below`) : yes(`p99 of the most frequent ${duration(compared[0].before.p99_ms)} before, ${duration(compared[0].after.p99_ms)} after`)],
    ["Locks seen:", !behind ? unknown("unknown: no control connection looked") : behind.behind_plan ? note(`${plural(behind.behind_plan, "session")} seen waiting behind it, up to ${duration(behind.longest_behind_plan_ms)}; ${plural(behind.looks, "look")}`) : yes(`nobody seen waiting behind it in ${plural(behind.looks, "look")}${behind.waits ? `, ${behind.waits} behind others` : ""}`)],
    ["Data verified:", event.ended && !["done", "warned"].includes(event.outcome) ? unknown(`nothing is claimed: it ended as ${event.outcome}`) : after.invalid === null || after.invalid === undefined ? unknown("unknown: the catalog could not be asked") : unclean.length ? no(unclean.join(", ")) : yes("0 INVALID indexes, 0 NOT VALID constraints on these tables")],
  ];
  return el("div", { class: "checklists" }, list("Before", before), list("Afterwards", afterwards));
}

function times(after) {
  const cell = (t) => el("td", { class: "number" }, t ? `${duration(t.p50_ms)} / ${duration(t.p99_ms)}` : "not seen", t ? el("br") : null, t ? el("span", { class: "quiet" }, `${t.timed.toLocaleString("en")} timed`) : null);
  return [el("h3", {}, "Query times, p50 / p99, of a sample"),
    el("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Query times" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Statement"), ["Before", "While it ran", "After"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", {}, after.statements.map((s) => el("tr", {}, el("td", {}, el("code", {}, s.statement)), cell(s.before), cell(s.during), cell(s.after))))))];
}

function rollback(event) {
  const text = event.rollback_plan.map((sql) => sql.replace(/;?\s*$/, ";")).join("\n");
  const copy = el("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(pre);
      copy.textContent = "Selected: press Ctrl+C";
    }
  } }, "Copy");
  const pre = el("pre", {}, text);
  return [el("h3", {}, "Rollback plan, in this order"), pre, copy];
}

// --- now ----------------------------------------------------------------------------------------------------------

function plan(session) {
  const p = session.plan;
  const done = p.done;
  const facts = [`step ${p.step + 1} of ${Math.max(1, p.steps.length)}, ${p.steps[p.step] || ""}`, `for ${ago(p.step_since)}`];
  if (p.lock) facts.push(`${p.lock} on ${p.relation}`);
  if (p.lock_tries > 1) facts.push(`${p.lock_tries} tries for the lock`);
  if (p.rows !== null) facts.push(plural(p.rows, "row"));
  if (p.phase) facts.push(p.phase);
  if (p.left_s !== null && p.left_s !== undefined) facts.push(`about ${duration(p.left_s * 1000)} left`);
  return el("article", { class: "card" },
    el("p", { class: "line" }, el("code", {}, short(p.statement, 300))),
    el("p", { class: "line" }, facts.join(" · ")),
    el("progress", { max: 1, value: done === null || done === undefined ? null : done, "aria-label": `progress of ${short(p.statement, 60)}` }),
    el("p", { class: "line quiet" }, done === null || done === undefined ? "how far it is cannot be told" : `${Math.round(done * 100)} %`, ` · ${[session.user, session.application_name, session.database].filter(Boolean).join(" · ")} · server process ${session.backend_pid} · running for ${ago(p.since)}`),
    p.blocked_by ? el("p", { class: "line note" }, `waits for ${p.blocked_by}`) : null,
    p.paused_by ? el("p", { class: "line note" }, `paused by ${p.paused_by}`) : null,
    el("p", { class: "buttons" },
      p.paused_by ? steerButton(`api/plans/${p.id}/resume`, "Resume", "plan") : steerButton(`api/plans/${p.id}/pause`, "Pause", "plan"),
      steerButton(`api/plans/${p.id}/cancel`, "Cancel", "plan", `Cancel the plan?\n\n${short(p.statement, 200)}\n\nWhat its step has done so far may be lost; what is committed stays.`)));
}

// `sure`: asked before.
function steerButton(path, name, what, sure) {
  const button = el("button", { type: "button", disabled: !state.live.can_steer, title: state.live.can_steer ? null : `start lockkeeper with --admin-token-file to steer a ${what} here`, onclick: async () => {
    if (!token()) return $("token").showModal();
    if (sure && !confirm(sure)) return;
    button.disabled = true;
    try {
      const answer = await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
      state.told = null;
      $("count").textContent = answer.message;
    } catch (error) { state.told = error.message; }
    refresh();
  } }, name);
  return button;
}

// Between two tries for a lock nobody waits on the server, but the plan does.
function withPlans(rows, sessions) {
  const all = [...rows];
  for (const s of sessions) {
    const p = s.plan;
    if (!p || !p.blocked_by || all.some((row) => row.pid === s.backend_pid && row.waits_for)) continue;
    const pids = [...p.blocked_by.matchAll(/pid (\d+) \(/g)].map((found) => Number(found[1]));
    const lock = p.lock.split(" ").map((word) => word.charAt(0) + word.slice(1).toLowerCase()).join("");
    const nothing = { user: null, application_name: null, state: null, age_s: null, query: null, waits_for: null, waited_ms: null, blocked_by: [] };
    for (const pid of pids) if (!all.some((row) => row.pid === pid)) all.push({ ...nothing, pid });
    all.push({ ...nothing, pid: s.backend_pid, user: s.user, application_name: s.application_name, state: "between two tries", waits_for: `${lock}Lock on ${p.relation}`, waited_ms: Date.now() - p.step_since, blocked_by: pids });
  }
  return all;
}

function lockTree(rows) {
  const waiting = (pid) => rows.filter((row) => row.blocked_by.includes(pid));
  const shown = new Set();
  const node = (row, path) => {
    shown.add(row.pid);
    const text = [`pid ${row.pid}`, row.user, row.application_name, row.state, row.age_s === null ? null : `transaction for ${duration(row.age_s * 1000)}`].filter(Boolean).join(" · ");
    const below = path.includes(row.pid) ? [] : waiting(row.pid).filter((w, n, all) => all.findIndex((o) => o.pid === w.pid) === n);
    return el("li", {},
      row.waits_for ? el("span", { class: "note" }, `waits for ${row.waits_for}${row.waited_ms === null ? "" : ` for ${duration(row.waited_ms)}`} · `) : el("b", {}, "holds · "),
      text, row.query ? [el("br"), el("code", {}, short(row.query, 160))] : null,
      row.waits_for ? null : el("p", { class: "line quiet" }, "to end it: ", el("code", {}, `SELECT pg_terminate_backend(${row.pid});`)),
      below.length ? el("ul", {}, below.map((w) => node(w, path.concat(row.pid)))) : null);
  };
  const roots = rows.filter((row) => row.blocked_by.length === 0).map((row) => node(row, []));
  // A circle has no root: the server will break it in a moment.
  const rest = rows.filter((row) => !shown.has(row.pid)).map((row) => node(row, []));
  return el("ul", { class: "tree" }, roots, rest);
}

function jobsTable(jobs) {
  const steer = (job, what, name) => steerButton(`api/jobs/${job.id}/${what}`, name, "job");
  const row = (job) => {
    const done = job.percent === null ? null : job.percent / 100;
    return el("article", { class: "card" },
      el("p", { class: "line" }, chip(job.state, { running: "note", done: "good", failed: "bad", paused: "note", interrupted: "bad", due: "note" }[job.state]), job.id === null ? ` ${job.relation} · ${job.owner}` : ` job ${job.id} on ${job.relation} · ${job.owner} · ${plural(job.rows_done, "row")}`),
      el("p", { class: "line" }, el("code", {}, short(job.statement, 200))),
      job.unused ? el("p", { class: "line" }, `What was put aside is ${job.unused}`) : null,
      ["kept", "due"].includes(job.state) ? null : el("progress", { max: 1, value: done, "aria-label": `progress of job ${job.id}` }),
      job.error ? el("p", { class: job.state === "kept" || job.state === "due" ? "line" : "line bad" }, job.error) : null,
      ["kept", "due"].includes(job.state) ? null : el("p", { class: "buttons" }, job.state === "running" ? steer(job, "pause", "Pause") : steer(job, "resume", "Resume"), steer(job, "cancel", "Cancel")));
  };
  return jobs.map(row);
}

function now() {
  const live = state.live;
  $("live").hidden = !live.live;
  if (!live.live) return;
  const plans = live.sessions.filter((session) => session.plan);
  // A button that is about to be pressed stays where it is.
  if (!(document.activeElement && $("plans").contains(document.activeElement))) $("plans").replaceChildren(el("h3", {}, "Plans"), ...(plans.length ? plans.map(plan) : [el("p", { class: "quiet" }, "No plan is running.")]));
  const part = (title, answer, empty, content) => [el("h3", {}, title), ...(!answer.known ? [el("p", { class: "quiet" }, answer.why)] : answer.rows.length ? [content(answer.rows)].flat() : [el("p", { class: "quiet" }, empty)])];
  if (live.locks.known) live.locks.rows = withPlans(live.locks.rows, live.sessions);
  $("locks").replaceChildren(...part("Locks: who waits for whom", live.locks, "Nobody waits for a lock.", lockTree));
  // Decided in the console, where it is known who decides.
  const asks = live.approvals || [];
  $("approvals").replaceChildren(...(asks.length ? [el("h3", {}, "Waiting for approval"), ...asks.map((a) => el("article", { class: "card" },
    el("p", { class: "line" }, el("code", {}, short(a.statement, 300))),
    el("p", { class: "line quiet" }, `asked for by ${a.user} in ${a.database} ${ago(a.asked)} ago (${a.rules})`),
    el("p", { class: "line quiet" }, "to decide, as another role: ", el("code", {}, `lockkeeper approvals --dsn … approve ${a.id} --reason '…'`))))] : []));
  const focused = document.activeElement && $("jobs").contains(document.activeElement);
  if (!focused) $("jobs").replaceChildren(...part("Jobs", live.jobs, "There is no job.", jobsTable));
  const sessions = $("sessions");
  const count = (name) => live.sessions.filter((session) => session.state === name).length;
  sessions.firstElementChild.textContent = `${plural(live.sessions.length, "session")}: ${count("active")} active, ${count("idle in transaction")} idle in transaction, ${count("idle")} idle, ${count("plan")} in a plan`;
  if (sessions.open) sessions.lastElementChild.replaceChildren(el("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Sessions" }, el("table", {},
    el("thead", {}, el("tr", {}, ["Session", "User", "Database", "Application", "Client", "State", "Since", "Statements", "Read"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, live.sessions.slice(0, 200).map((s) => el("tr", {}, [s.session, s.user, s.database, s.application_name, s.client, s.plan ? "in plan" : s.state, ago(s.since), s.statements.toLocaleString("en"), bytes(s.bytes_from_client + s.bytes_from_server)].map((v) => el("td", {}, v))))))));
}

// --- who uses what ------------------------------------------------------------------------------------------------

async function usage() {
  const table = $("usage-form").elements.table.value.trim();
  const found = $("usage-found");
  let answer;
  try {
    answer = await ask(`api/usage?${new URLSearchParams(table ? { table } : {})}`);
  } catch (error) {
    found.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
    return;
  }
  const since = (at) => (at ? `${duration(1000 * Math.max(0, answer.now - at))} ago` : "");
  const what = (row) => (row.column === "" ? "the table" : row.column === "*" ? "the whole row" : row.column);
  const link = (row) => el("button", { type: "button", class: "link", onclick: () => { $("usage-form").elements.table.value = row.relation; usage(); } }, row.relation);
  const names = table ? ["Table", "Column", "Application", "Role", "Database", "Last used", "Last written", "Times", "Newest statement"] : ["Table", "Application", "Role", "Database", "Last used", "Last written", "Times", "Newest statement"];
  const line = (row) => el("tr", {}, [table ? row.relation : link(row), table ? what(row) : null, row.application || "(without a name)", row.role, row.database, since(row.last), since(row.written), row.count.toLocaleString("en"), el("code", {}, short(row.statement, 120))].filter((v) => v !== null).map((v) => el("td", {}, v)));
  found.replaceChildren(...[
    el("p", { class: "quiet" }, `Watched for ${duration(1000 * answer.watched_s)}, by ${answer.together ? "all proxies that keep lockkeeper.usage" : "this proxy alone"}.${answer.more ? " There is more: name a table." : ""}`),
    answer.unused && answer.unused.length ? el("p", {}, "Not used since the watch began: ", el("strong", {}, answer.unused.join(", "))) : null,
    answer.rows.length ? el("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Uses" }, el("table", {},
      el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, answer.rows.map(line)))) : el("p", { class: "quiet" }, "Nobody was seen to use it."),
  ].filter(Boolean));
}

// --- the page -----------------------------------------------------------------------------------------------------

function show() {
  const live = state.live;
  $("about").textContent = [live.version, live.live ? `in front of ${live.upstream}` : null, live.policy ? `policy ${live.policy}` : null, live.file ? `log ${live.file}` : "no audit log", live.audit_healthy === false ? "THE AUDIT LOG CANNOT BE WRITTEN" : null, live.draining ? "stopping" : null].filter(Boolean).join(" · ");
  $("pause").hidden = !live.live;
  $("unlock").hidden = !live.can_steer && !token();
  $("unlock").textContent = token() ? "Token is set" : "Enter token";
  const [words, kind] = stateLine();
  if ($("state").textContent !== words) $("state").textContent = words;
  $("state").className = `state ${kind}`;
  glance();
  now();
  const list = $("statements");
  const old = new Map([...list.querySelectorAll("[data-id]")].map((node) => [node.dataset.key, node]));
  const items = [];
  let day = null;
  const longest = Math.max(1, ...state.statements.map((event) => event.duration_ms || 0));
  const ordered = state.order === "long" ? [...state.statements].sort((a, b) => b.duration_ms - a.duration_ms) : state.statements;
  for (const event of ordered) {
    const date = new Date(event.time).toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
    if (date !== day && state.order === "new") { day = date; items.push(el("li", { class: "day" }, day)); }
    const key = `${longest} ${event.id} ${event.time} ${ending(event)} ${event.after ? event.after.watched_s : ""}`;
    let node = old.get(key);
    if (!node) { node = statement(event, longest); node.dataset.key = key; }
    items.push(node);
  }
  // What stays is not touched, so that focus and selection stay as well.
  const same = items.length === list.children.length && items.every((item, n) => item === list.children[n] || (!item.dataset.key && item.textContent === list.children[n].textContent));
  if (!same) list.replaceChildren(...items);
  const wanted = [...filters()].filter(([name]) => name !== "limit");
  $("count").textContent = (state.statements.length ? `${plural(state.statements.length, "statement")}${state.more ? ", there are older ones" : ""}` : live.file ? "No statement matches." : "Without an audit log nothing is remembered: start lockkeeper with --audit FILE.") + (wanted.length ? ` (filtered by ${wanted.map(([name]) => name.replace("_", " ")).join(", ")})` : "") + (state.note ? ` ${state.note}` : "");
  $("older").hidden = !state.more;
}

function fill() {
  const wanted = filters();
  for (const field of $("filters").elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") field.checked = wanted.has(field.name);
    else field.value = wanted.get(field.name) || "";
  }
  $("more").open = ["until", "longer_than", "rule", "table", "user", "app", "database", "waited", "overridden", "rolled_back"].some((name) => wanted.has(name));
  if (wanted.has("id")) state.open.add(wanted.get("id"));
}

function go(wanted) {
  const query = wanted.toString();
  history.pushState(null, "", query ? `?${query}` : location.pathname);
  state.limit = PAGE;
  fill();
  refresh();
}

function follow(e) {
  if (e.ctrlKey || e.metaKey || e.shiftKey || e.button) return;
  e.preventDefault();
  go(new URLSearchParams(new URL(e.currentTarget.href).search));
  $("timeline").focus();
}

$("filters").addEventListener("submit", (e) => {
  e.preventDefault();
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData($("filters"))) if (value.trim()) wanted.set(name, value.trim());
  go(wanted);
});
$("filters").addEventListener("reset", (e) => { e.preventDefault(); go(new URLSearchParams()); });
$("order").addEventListener("change", (e) => { state.order = e.target.value; show(); });
$("older").addEventListener("click", () => { state.limit += PAGE; refresh(); });
$("sessions").addEventListener("toggle", () => state.live && now());
$("usage").addEventListener("toggle", () => $("usage").open && usage());
$("usage-form").addEventListener("submit", (e) => { e.preventDefault(); usage(); });
$("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", state.paused);
  $("pause").textContent = state.paused ? "Updates are paused" : "Pause updates";
  if (!state.paused) refresh();
});
$("unlock").addEventListener("click", () => $("token").showModal());
$("cancel").addEventListener("click", () => $("token").close());
$("forget").addEventListener("click", () => { sessionStorage.removeItem("lockkeeper-token"); $("token").close(); refresh(); });
$("token").querySelector("form").addEventListener("submit", (e) => {
  e.preventDefault();
  const field = e.target.elements.token;
  sessionStorage.setItem("lockkeeper-token", field.value.trim());
  tryToken(field);
});

// A wrong one is said to be at once, not when something is pressed.
async function tryToken(field) {
  const wrong = $("token-wrong");
  wrong.hidden = true;
  try {
    await ask("api/token");
    field.value = "";
    $("token").close();
  } catch (error) {
    sessionStorage.removeItem("lockkeeper-token");
    wrong.textContent = error.status === 401 ? "This is not the token." : error.message;
    wrong.hidden = false;
    field.select();
  }
  refresh();
}
addEventListener("popstate", () => { fill(); refresh(); });

fill();
refresh();
setInterval(() => { if (!state.paused && !document.hidden && (!state.live || state.live.live)) refresh(); }, 2000);
