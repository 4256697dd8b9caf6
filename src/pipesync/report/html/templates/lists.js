// Which opportunities a filter and a list hold, and what a filter changes on a page.

// --- Which opportunities -------------------------------------------------------------------------------------

function filterOf(params) {
  const found = {};
  for (const [name] of FILTERS) if (params.get(name)) found[name] = params.get(name);
  return found;
}
function select(data, filter, conditions) {
  const wanted = { ...filter };
  for (const [key, is] of conditions) wanted[key] = is;
  let rows = null;
  const tests = [];
  for (const [key, is] of Object.entries(wanted)) {
    if (key === "set") { rows = (data.sets[is] || ["", [], 0])[1]; continue; }
    if (key === "ever" || key === "calc") continue;
    if (key === "state") { const code = STATES.indexOf(is); tests.push((i) => data.rows.state[i] === code); continue; }
    if (key === "closed" || key === "created" || key === "close" || key === "likely") {
      const column = data.rows[key], [from, to] = between(data, is);
      tests.push((i) => column[i] !== null && column[i] >= from && column[i] < to);
      continue;
    }
    if (key === "year") { const late = new Set(data.rows.late); tests.push((i) => data.rows.state[i] > 0 && !late.has(i)); continue; }
    if (key === "manager") { const people = new Set(data.below[is] || []); tests.push((i) => people.has(value(data, "owner_id", i) || "")); continue; }
    if (key === "sold") { const sold = new Set(data.sold[is] || []); tests.push((i) => sold.has(i)); continue; }
    if (key === "rule") { const n = data.rules.findIndex((r) => r[0] === is); tests.push((i) => (data.rows.found[i] || []).includes(n)); continue; }
    if (key === "findings") { tests.push((i) => i in data.rows.found); continue; }
    if (key === "severity") { tests.push((i) => (data.rows.severity[i] || []).includes(is)); continue; }
    if (key === "q") { const words = is.toLocaleLowerCase().split(/\s+/).filter(Boolean); tests.push((i) => words.every((w) => data.text[i].includes(w))); continue; }
    if (key === "period") { tests.push(period(data, is)); continue; }
    const column = data.rows[COLUMN[key] || key];
    if (!column) continue;
    const code = column[0].indexOf(is);
    tests.push(is === "" ? (i) => column[1][i] < 0 : (i) => column[1][i] === code && code >= 0);
  }
  const found = [];
  const keep = (i) => { for (const test of tests) if (!test(i)) return; found.push(i); };
  if (rows) rows.forEach(keep); else for (let i = 0; i < data.size; i++) keep(i);
  return found;
}
// "period", or a day and the day after the last: "2026-10-01..2027-01-01"; either may be left out.
function between(data, is) {
  if (is === "period") return [data.start, data.end];
  const [from, to] = is.split("..");
  return [from ? Date.parse(from) / DAY : -Infinity, to ? Date.parse(to) / DAY : Infinity];
}
function period(data, is) {
  const close = data.rows.close;
  if (is === "this") return (i) => close[i] !== null && close[i] >= data.start && close[i] < data.end;
  if (is === "later") return (i) => close[i] !== null && close[i] >= data.end;
  if (is === "past") return (i) => close[i] !== null && close[i] < data.today && data.rows.state[i] === 0;
  return (i) => close[i] === null;
}

// --- Filters -------------------------------------------------------------------------------------------------

const bars = new Map();
function filterBar(report, data) {
  if (bars.has(report)) return bars.get(report);
  const form = $("[data-filters]", report);
  const selects = {};
  for (const [name, label] of FILTERS) {
    let choices;
    if (name === "period") choices = PERIODS;
    else {
      const names = data.rows[COLUMN[name] || name][0];
      choices = names.map((n) => [n, name === "owner" ? data.people[n] || n : n]).sort((a, b) => a[1].localeCompare(b[1]));
      if (choices.length < 2) continue;
    }
    const select_ = el("select", { "aria-label": label, onchange: (e) => go({ [name]: e.target.value }) },
      el("option", { value: "" }, label), choices.map(([is, text]) => el("option", { value: is }, text)));
    selects[name] = select_;
    form.append(el("label", {}, select_));
  }
  const clear = el("button", { type: "button", onclick: () => go(Object.fromEntries(FILTERS.map(([n]) => [n, null]))) }, "Clear");
  form.append(clear);
  form.addEventListener("submit", (e) => e.preventDefault());
  form.hidden = false;
  bars.set(report, { selects, clear });
  return bars.get(report);
}
function showFilter(report, data, filter) {
  const { selects, clear } = filterBar(report, data);
  for (const [name, select_] of Object.entries(selects)) {
    select_.value = filter[name] || "";
    select_.classList.toggle("on", Boolean(filter[name]));
  }
  clear.hidden = !Object.keys(filter).length;
}
function applyFilter(report, page, data, filter) {
  const active = Object.keys(filter).length > 0;
  for (const block of $$(".block", page)) {
    const rows = $$("tbody tr, .items > li, .cards > li", block);
    let faceted = false, left = 0;
    for (const row of rows) {
      let hide = false;
      for (const [name, is] of Object.entries(filter)) {
        if (row.hasAttribute(`data-${name}`)) { faceted = true; if (row.getAttribute(`data-${name}`) !== is) hide = true; }
      }
      row.hidden = hide;
      if (!hide) left++;
    }
    const none = $(".none", block);
    if (none) none.hidden = left > 0 || !rows.length;
    const follows = faceted || $("[data-key^='forecast.total'], [data-key='open.amount'], .funnel, [data-explorer]", block);
    block.classList.toggle("whole", active && !follows && !block.classList.contains("b-note"));
  }
  const scope = ["owner", "team", "product", "pipeline", "currency"].find((n) => filter[n]);
  const group = scope && (data.scopes[scope] || {})[filter[scope]];
  const whole = !scope;
  for (const node of $$("data[data-key]", page)) {
    const [topic, part, what] = node.dataset.key.split(".");
    let is;
    if (topic === "forecast" && part === "total") is = group && group[what];
    else if (["quota", "gap", "reach"].includes(topic) && (part === "total")) is = group && group[topic];
    else if (topic === "coverage" && part === "total") is = group && group.coverage;
    else if (topic === "coverage" && part === "needed" && !what) is = group && group.needed;
    else continue;
    if (whole) { if ("was" in node.dataset) setValue(node, node.dataset.was); } else setValue(node, is);
  }
  const mark = $(".hero .range", page);
  if (mark) placeRange(mark, whole ? null : group || {});
  for (const funnel of $$(".funnel", page).filter((f) => f.tagName === "OL")) fillFunnel(data, funnel, filter, active);
  const open = active ? select(data, filter, [["state", "open"]]) : null;
  for (const node of $$("data[data-key='open.amount'], data[data-key='open.count']", page)) {
    if (open) setValue(node, node.dataset.key === "open.count" ? open.length : sum(data, open));
    else if ("was" in node.dataset) setValue(node, node.dataset.was);
  }
  const note = $("[data-filtered]", report);
  note.hidden = !active;
  if (active) {
    const names = FILTERS.filter(([n]) => filter[n]).map(([n, label]) => `${label} ${n === "owner" ? data.people[filter[n]] || filter[n] : n === "period" ? (PERIODS.find((p) => p[0] === filter[n]) || ["", filter[n]])[1] : filter[n]}`);
    const parts = Object.keys(filter).length;
    let more = "";
    if (parts > 1 && scope) more = ` A forecast is made for one of these at a time; the figures are those of the ${scope}.`;
    else if (!scope) more = " Forecast figures are those of everything; lists and stages follow.";
    note.textContent = `Filtered by ${names.join(", ")}.${more}`;
  }
}
const sum = (data, rows) => rows.reduce((total, i) => total + (data.rows.amount[i] || 0), 0);
function placeRange(mark, figures) {
  const parts = { done: $(".done", mark), band: $(".band", mark), mid: $(".mid", mark), target: $(".target", mark) };
  for (const part of Object.values(parts)) if (part && part.dataset.was === undefined) part.dataset.was = part.getAttribute("style");
  if (!figures) { for (const part of Object.values(parts)) if (part) { part.setAttribute("style", part.dataset.was); part.hidden = false; } return; }
  const most = Math.max(figures.high || 0, figures.quota || 0, figures.closed || 0) || 1;
  const at = (x) => `${(100 * (x || 0)) / most}%`;
  if (parts.done) parts.done.style.width = at(figures.closed);
  parts.band.style.left = at(figures.low);
  parts.band.style.width = at((figures.high || 0) - (figures.low || 0));
  if (parts.mid) parts.mid.style.left = at(figures.p50);
  if (parts.target) { parts.target.hidden = !figures.quota; parts.target.style.left = at(figures.quota); }
}
function fillFunnel(data, funnel, filter, active) {
  const stages = $$("li", funnel);
  if (!active) {
    for (const li of stages) {
      li.hidden = false;
      for (const node of $$("data", li)) if ("was" in node.dataset) setValue(node, node.dataset.was);
      const bar = $(".bar i", li);
      if (bar.dataset.was) bar.style.width = bar.dataset.was;
      const ages = $(".ages", li); if (ages) ages.hidden = false;
    }
    return;
  }
  const rows = select(data, filter, [["state", "open"]]);
  const sums = new Map();
  for (const i of rows) {
    const key = `${value(data, "pipeline", i) || ""}\n${value(data, "stage", i)}`;
    const at = sums.get(key) || [0, 0];
    at[0]++; at[1] += data.rows.amount[i] || 0;
    sums.set(key, at);
  }
  const of = (li) => sums.get(`${li.dataset.pipeline}\n${li.dataset.stage}`) || [0, 0];
  const most = Math.max(...stages.map((li) => of(li)[1]), 1);
  for (const li of stages) {
    const [n, amount] = of(li);
    li.hidden = Boolean(filter.pipeline) && li.dataset.pipeline !== filter.pipeline;
    setValue($(".count data", li), n);
    setValue($(".amount data", li), amount);
    const bar = $(".bar i", li);
    if (!bar.dataset.was) bar.dataset.was = bar.style.width;
    bar.style.width = `${(100 * amount) / most}%`;
    const ages = $(".ages", li); if (ages) ages.hidden = true;
  }
}

// --- Lists ---------------------------------------------------------------------------------------------------

const COLUMNS = [
  ["name", "Opportunity", "", (d, i) => [el("a", { class: "drill strong", "data-drill": "opp=" + encodeURIComponent(d.rows.id[i]), href: "#" }, bdi(d.rows.name[i])), el("small", { class: "sub" }, bdi([value(d, "stage", i), value(d, "account_name", i)].filter(Boolean).join(" · ") || "–"))], (d, i) => d.rows.name[i]],
  ["owner", "Owner", "wide", (d, i) => bdi(d.people[value(d, "owner_id", i)] || value(d, "owner_id", i) || "–"), (d, i) => d.people[value(d, "owner_id", i)] || ""],
  ["close", "Closes", "wide", (d, i) => dated(d.rows.close[i]), (d, i) => d.rows.close[i]],
  ["win", "To be won", "right", (d, i) => d.rows.state[i] === 0 ? number("share", d.rows.win[i]) : el("span", { class: "quiet" }, STATES[d.rows.state[i]]), (d, i) => d.rows.state[i] === 0 ? d.rows.win[i] : -1],
  ["amount", "Amount", "right", (d, i) => number("money", d.rows.amount[i], d.currency, true), (d, i) => d.rows.amount[i]],
];
// Of what is closed, people ask when; of what is open, when it is to close.
function listed(data, rows) {
  return rows.length && rows.every((i) => data.rows.state[i] > 0) ? COLUMNS.map((c) => c[0] === "close" ? WON_ON : c) : COLUMNS;
}
// What single opportunities bring to a forecast, and how far each alone moves it up or down (standard deviation).
const soon = (d, i) => d.rows.soon[i] || 0, worth = (d, i) => d.rows.worth[i] || 0;
const expected = (d, i) => worth(d, i) * soon(d, i);
const swing = (d, i) => worth(d, i) * Math.sqrt(soon(d, i) * (1 - soon(d, i)));
const SOON = ["soon", "In the period", "right", (d, i) => number("share", soon(d, i)), soon];
const WORTH = ["worth", "Amount", "right wide", (d, i) => number("money", worth(d, i), d.currency, true), worth];
const EXPECTED = ["expected", "Expected", "right", (d, i) => number("money", expected(d, i), d.currency, true), expected];
const SWING = ["swing", "Swing, ±", "right", (d, i) => number("money", swing(d, i), d.currency, true), swing];
const WON_ON = ["closed", "Closed", "right wide", (d, i) => dated(d.rows.closed[i]), (d, i) => d.rows.closed[i]];
function listing(data, rows, options = {}) {
  const LIST = options.columns || listed(data, rows);
  let [by, down] = options.order || ["amount", true];
  let shown = SHOWN;
  const box = el("div");
  function draw() {
    const column = LIST.find((c) => c[0] === by);
    const keys = new Map(rows.map((i) => [i, column[4](data, i)]));
    const blank = (x) => x === null || x === undefined || x === "";
    const ordered = [...rows].sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      if (blank(x) || blank(y)) return blank(x) - blank(y);
      const order = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (down ? -order : order) || a - b;
    });
    const head = el("tr", {}, LIST.map(([key, label, kind]) => el("th", { scope: "col", class: kind, "aria-sort": key === by ? (down ? "descending" : "ascending") : null },
      el("button", { type: "button", class: "sort", onclick: () => { down = key === by ? !down : kind.startsWith("right"); by = key; draw(); $$("button.sort", box).find((b) => b.textContent === label).focus(); } }, label))));
    const body = ordered.slice(0, shown).map((i) => el("tr", {}, LIST.map(([, , kind, cell], n) => el(n ? "td" : "th", { class: kind, scope: n ? null : "row" }, cell(data, i)))));
    const rest = rows.length - shown;
    box.replaceChildren(
      el("div", { class: "scroll", role: "region", "aria-label": "Opportunities", tabindex: 0 }, el("table", {}, el("thead", {}, head), el("tbody", {}, body))),
      rest > 0 ? el("p", { class: "rest" }, el("button", { type: "button", onclick: () => { shown += 4 * SHOWN; draw(); } }, `Show more (${format({}).format(rest)} left)`)) : "",
      options.note ? el("p", { class: "rest" }, options.note, " ", el("a", { href: `${data.files}-opportunities.csv`, download: true }, `${data.files}-opportunities.csv`)) : "",
    );
    if (!rows.length) box.replaceChildren(el("p", { class: "empty" }, options.empty || "No opportunity is in this list."));
  }
  draw();
  return box;
}
function incomplete(data, kept, whole, ever) {
  if (ever) return "Those that were closed longer than a year ago are counted and not listed; the rest is in";
  if (whole > kept) return `${format({}).format(whole)} in all; the rest is in`;
  return data.total > data.size ? `Of the ${format({}).format(data.size)} largest; all ${format({}).format(data.total)} are in` : "";
}
function titleOf(data, conditions) {
  const known = Object.fromEntries(conditions);
  if (known.set) return (data.sets[known.set] || ["This list is empty now"])[0];
  if (known.q) return `Found for “${known.q}”`;
  if (known.rule) return (data.rules.find((r) => r[0] === known.rule) || [known.rule, known.rule])[1];
  const group = [...SCOPES, "sold", "stage"].filter((name) => name in known && (name !== "pipeline" || !known.stage || data.rows.pipeline[0].length > 1)).map((name) => nameOf(data, name, known[name])).join(", ");
  const what = known.state === "won" ? "Won" : known.state === "lost" ? "Lost" : known.findings ? "With findings" : known.severity ? `With a ${known.severity} finding`
    : known.state === "open" ? "Open" : known.year || known.closed ? "Closed" : known.created ? "Created" : "Opportunities";
  const time = known.closed || known.created || known.close || known.likely;
  const when = known.year ? " in the last 365 days" : !time || time === ALWAYS ? "" : time === "period" ? (known.close ? ", to close in this period" : " in this period")
    : known.likely ? `, likely to close by ${until(data, time)}` : known.created && known.state ? `, created ${from(data, time)}` : ` ${from(data, time)}`;
  return `${what}${when}${group ? `: ${group}` : ""}`;
}
const until = (data, span) => dates.format(new Date((between(data, span)[1] - 1) * DAY));
const from = (data, span) => `from ${dates.format(new Date(between(data, span)[0] * DAY))} to ${until(data, span)}`;
const ALWAYS = "..";
const SCOPES = ["manager", "team", "owner", "product", "source", "segment", "pipeline", "currency"];
const nameOf = (data, scope, is) => (scope === "owner" || scope === "manager" ? data.people[is] || is : is) || "not said";
