// The page is whole without this script. It adds what needs a reader: one page at a time, filters, lists behind numbers,
// search, and numbers in the reader's locale. The state is the address, `#page?team=...&list=...`, so back works and
// a view can be sent. Texts from the CRM only ever become text nodes.
// Its files share one scope, which nothing else sees; this one has elements, values, data and the address.
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const DAY = 86400000;
const FILTERS = [
  ["pipeline", "Pipeline"], ["team", "Team"], ["owner", "Owner"], ["product", "Product"], ["currency", "Currency"],
  ["period", "Closes"],
];
const PERIODS = [["this", "in this period"], ["later", "after it"], ["past", "date is past"], ["none", "no date"]];
const COLUMN = { owner: "owner_id", category: "forecast_category", account: "account_name" };
const FIELDS = {
  stage: "Stage", amount: "Amount", close_date: "Close date", forecast_category: "Forecast category", owner_id: "Owner",
};
const STATES = ["open", "won", "lost"];
const SHOWN = 100;
const locale = navigator.languages && navigator.languages.length ? [...navigator.languages] : undefined;
const narrow = matchMedia("(max-width: 640px)");

// --- Elements ------------------------------------------------------------------------------------------------

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) made.append(child);
  return made;
}
const bdi = (...text) => el("bdi", {}, text);
// A sentence: text, or texts and values, each value as [kind, value, unit].
const say = (is) => typeof is === "string" ? bdi(is) : bdi(...is.map((part) => typeof part === "string" ? part : told(part[0], part[1], part[2], true)));

// --- Numbers in the reader's locale --------------------------------------------------------------------------

const formats = new Map();
function format(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) {
    let made;
    try { made = new Intl.NumberFormat(locale, options); } catch { made = new Intl.NumberFormat(locale, { ...options, style: "decimal", currency: undefined }); }
    formats.set(key, made);
  }
  return formats.get(key);
}
const dates = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const days = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", timeZone: "UTC" });
const months = new Intl.DateTimeFormat(locale, { month: "short", year: "numeric", timeZone: "UTC" });
const moments = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

const inCurrency = (unit) => /^[A-Z]{3}$/.test(unit || "") ? { style: "currency", currency: unit } : {};
const exact = (value, unit) => format({ ...inCurrency(unit), maximumFractionDigits: 0 }).format(value);
function money(value, unit, long) {
  const size = Math.abs(value);
  if ((long && !narrow.matches && size < 1e9) || size < 10000) return exact(value, unit);
  return format({ ...inCurrency(unit), notation: "compact", maximumSignificantDigits: 3 }).format(value);
}
function counted(text, unit) {
  return !unit ? text : unit === "×" ? text + "×" : `${text} ${unit}`;
}
function told(kind, raw, unit, long) {
  const value = Number(raw);
  if (kind === "money") return money(value, unit, long);
  if (kind === "amount") return exact(value, unit);
  if (kind === "count") return counted(format({ maximumFractionDigits: 0 }).format(value), unit);
  if (kind === "number") return counted(format({ minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value), unit);
  if (kind === "share") return format({ style: "percent", maximumFractionDigits: value > 0 && value < 0.095 ? 1 : 0 }).format(value);
  if (kind === "points") return counted(format({ signDisplay: "exceptZero", maximumFractionDigits: 0 }).format(value * 100), "points");
  if (kind === "date") return dates.format(new Date(raw + "T00:00:00Z"));
  if (kind === "day") return days.format(new Date(raw + "T00:00:00Z"));
  if (kind === "month") return months.format(new Date(raw + "T00:00:00Z"));
  if (kind === "moment") return moments.format(new Date(raw));
  return raw;
}
function localise(within) {
  for (const node of $$("data[data-kind]:not([data-told])", within)) {
    node.textContent = told(node.dataset.kind, node.value, node.dataset.unit, "long" in node.dataset);
    node.dataset.told = "";
  }
  for (const node of $$("time[data-kind]:not([data-told])", within)) {
    node.textContent = told(node.dataset.kind, node.dateTime);
    node.dataset.told = "";
  }
}
function setValue(node, value) {
  if (!("was" in node.dataset)) node.dataset.was = node.value;
  if (value === undefined || value === null) { node.textContent = "–"; return; }
  node.value = value;
  node.textContent = told(node.dataset.kind, value, node.dataset.unit, "long" in node.dataset);
}
const number = (kind, value, unit, long) =>
  value === null || value === undefined ? el("span", { class: "quiet" }, "–")
    : el("data", { value, "data-kind": kind, "data-unit": unit, "data-told": "" }, told(kind, value, unit, long));
const iso = (days) => new Date(days * DAY).toISOString().slice(0, 10);
const dated = (days) => days === null || days === undefined ? el("span", { class: "quiet" }, "–")
  : el("time", { datetime: iso(days) }, dates.format(new Date(days * DAY)));

// --- Data ----------------------------------------------------------------------------------------------------

const reports = new Map();
function load(name) {
  if (!reports.has(name)) {
    const text = $$('script[type="application/json"]').find((s) => s.dataset.connection === name);
    const data = JSON.parse(text.textContent);
    data.start = Date.parse(data.period.start) / DAY;
    data.end = Date.parse(data.period.end) / DAY;
    data.today = Math.floor(Date.parse(data.asOf) / DAY);
    data.size = data.rows.id.length;
    data.byId = new Map(data.rows.id.map((id, i) => [id, i]));
    data.text = data.rows.name.map((name_, i) =>
      `${name_}\n${value(data, "account_name", i) || ""}\n${data.people[value(data, "owner_id", i)] || ""}`.toLocaleLowerCase());
    reports.set(name, data);
  }
  return reports.get(name);
}
function value(data, column, i) {
  const [names, codes] = data.rows[column];
  return codes[i] < 0 ? null : names[codes[i]];
}

// --- The address ---------------------------------------------------------------------------------------------

function parse(hash) {
  const [page, query = ""] = hash.replace(/^#/, "").split("?");
  return { page: decodeURIComponent(page), params: new URLSearchParams(query) };
}
function address(page, params) {
  const text = params.toString();
  return `#${page}${text ? "?" + text : ""}`;
}
let state = parse(location.hash);
let depth = 0;
function merged(changes, page = state.page) {
  const params = new URLSearchParams(state.params);
  for (const [key, is] of Object.entries(changes)) {
    if (is === null || is === "") params.delete(key);
    else params.set(key, is);
  }
  return address(page, params);
}
function go(changes, page) { location.hash = merged(changes, page); }
function replace(changes) {
  history.replaceState(null, "", merged(changes));
  state = parse(location.hash);
}
function target(drill) {
  const wanted = new URLSearchParams(drill);
  return wanted.has("opp") ? { opp: wanted.get("opp") } : { list: drill, opp: null };
}
