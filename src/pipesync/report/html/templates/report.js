"use strict";
// The page is whole without this script. It adds what needs a reader: one page at a time, filters, lists behind numbers,
// search, and numbers in the reader's locale. The state is the address, `#page?team=...&list=...`, so back works and
// a view can be sent. Texts from the CRM only ever become text nodes.
(() => {
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
    const most = Math.max(figures.p90 || 0, figures.quota || 0, figures.closed || 0) || 1;
    const at = (x) => `${(100 * (x || 0)) / most}%`;
    if (parts.done) parts.done.style.width = at(figures.closed);
    parts.band.style.left = at(figures.p10);
    parts.band.style.width = at((figures.p90 || 0) - (figures.p10 || 0));
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

  // --- The drawer ----------------------------------------------------------------------------------------------

  const drawer = $("#drawer"), inside = $(".body", drawer);
  let opener = null;
  function close() {
    if (depth > 0) history.back();
    else { replace({ list: null, opp: null }); render(); }
  }
  drawer.addEventListener("cancel", (e) => { e.preventDefault(); close(); });
  drawer.addEventListener("click", (e) => { if (e.target === drawer) close(); });
  $(".close", drawer).addEventListener("click", close);

  function showList(data, drill, filter) {
    const conditions = [...new URLSearchParams(drill)];
    const calc = conditions.find((c) => c[0] === "calc");
    if (calc) { showCalc(data, calc[1], conditions, filter); return; }
    const rows = select(data, conditions.some((c) => c[0] === "set") ? {} : filter, conditions);
    const known = conditions.find((c) => c[0] === "set");
    const whole = known && data.sets[known[1]] ? data.sets[known[1]][2] : rows.length;
    inside.replaceChildren(
      el("h2", { id: "drawer-title" }, bdi(titleOf(data, conditions))),
      el("p", { class: "said" }, number("count", rows.length), rows.length === 1 ? " opportunity, " : " opportunities, ", number("money", sum(data, rows), data.currency), " at full amount"),
      listing(data, rows, { note: incomplete(data, rows.length, whole, conditions.some((c) => c[0] === "ever")) }),
    );
  }

  // --- Figures that are not sums of opportunities: what they are made of, and which opportunities decide them --------

  const CALCULATIONS = {
    likely: "How the likely end comes about", spread: "What lies between low and high", reach: "The chance to reach the quota",
    quota: "The quota", coverage: "Coverage", new: "Still to be created",
  };
  const linked = (drill, ...content) => el("a", { class: "drill", href: "#", "data-drill": drill }, content);
  // Each part: what it is, a number or nothing, the list behind it, and whether it is the result.
  function parts(list) {
    return el("table", { class: "parts" }, el("tbody", {}, list.filter((p) => p && p[1]).map(([label, is, drill, isResult, note]) =>
      el("tr", { class: isResult ? "strong" : null }, el("th", { scope: "row" }, label, note ? el("small", { class: "sub" }, note) : null),
        el("td", { class: "right" }, drill ? linked(drill, is) : is)))));
  }
  function showCalc(data, calc, conditions, filter) {
    const known = Object.fromEntries(conditions);
    const scope = SCOPES.find((n) => n in known) || SCOPES.find((n) => filter[n]) || "total";
    const name = scope === "total" ? "" : scope in known ? known[scope] : filter[scope];
    const figures = (data.scopes[scope] || {})[name] || {};
    const within = scope === "total" ? "" : `&${scope}=${encodeURIComponent(name)}`;
    const here = scope === "total" ? {} : { [scope]: name };
    const open = select(data, here, [["state", "open"]]);
    const cash = (x) => number("money", x, data.currency, true);
    const title = `${CALCULATIONS[calc] || calc}${scope === "total" ? "" : `: ${nameOf(data, scope, name)}`}`;
    const wonList = `state=won&closed=period${within}`, openList = `state=open${within}`;
    const lacks = figures.quota === undefined ? [] : [["Quota", cash(figures.quota), `calc=quota${within}`], ["Less what is won", cash(figures.closed || 0), wonList], ["Lacking", cash(figures.gap), "", true]];
    const show = (said, table, ...rest) => inside.replaceChildren(el("h2", { id: "drawer-title" }, bdi(title)), el("p", { class: "said" }, said), table, ...rest.flat());
    if (figures.p50 === undefined && calc !== "quota") { show("Nothing is foretold of this group in this period.", ""); return; }
    if (calc === "likely") {
      show(["Won so far, what is expected of open opportunities, and what is still to be created. The likely end is the middle of 2,000 simulated endings; their average differs where a few large ones decide."],
        parts([["Won so far", cash(figures.closed), wonList], ["Expected of open opportunities", cash(figures.open), openList], ["Still to be created", cash(figures.new), `calc=new${within}`],
          ["On average", cash(figures.mean), "", true], ["Likely end (P50)", cash(figures.p50), `calc=spread${within}`, true, "as many endings above as below"]]),
        section("Open opportunities, by what is expected of each"),
        listing(data, open.filter((i) => expected(data, i) > 0), { columns: [COLUMNS[0], SOON, WORTH, EXPECTED], order: ["expected", true] }));
    } else if (calc === "spread" || calc === "reach") {
      const all = open.reduce((total, i) => total + swing(data, i) ** 2, 0), ranked = open.filter((i) => swing(data, i) > 0).sort((a, b) => swing(data, b) - swing(data, a));
      const ten = ranked.slice(0, 10).reduce((total, i) => total + swing(data, i) ** 2, 0);
      const said = calc === "reach" && figures.reach !== undefined
        ? ["The quota is reached in ", number("count", figures.reach * 2000), " of 2,000 simulated endings."]
        : ["One ending in ten is below ", cash(figures.p10), ", one in ten above ", cash(figures.p90), "."];
      show(said, parts([...(calc === "reach" ? lacks : []), ["Low (P10)", cash(figures.p10)], ["Likely (P50)", cash(figures.p50), `calc=likely${within}`], ["High (P90)", cash(figures.p90)],
        calc === "reach" && figures.reach !== undefined ? ["Chance to reach it", number("share", figures.reach), "", true] : null]),
        section("What decides it"),
        el("p", { class: "said" }, ranked.length ? ["How far each open opportunity alone moves the end up or down. The first ", number("count", Math.min(10, ranked.length)), " make ", number("share", all ? ten / all : 0), " of what single opportunities make uncertain; shared ups and downs and new business come on top."] : "No open opportunity makes a difference any more."),
        ranked.length ? listing(data, ranked, { columns: [COLUMNS[0], SOON, WORTH, SWING], order: ["swing", true] }) : "");
    } else if (calc === "quota") {
      const owners = Object.entries(data.scopes.owner || {}).filter(([id, f]) => f.quota !== undefined && (scope === "total" || (scope === "owner" && id === name) || (scope === "manager" && (data.below[name] || []).includes(id)) || (scope === "team" && data.teams[id] === name)));
      owners.sort((a, b) => b[1].quota - a[1].quota || nameOf(data, "owner", a[0]).localeCompare(nameOf(data, "owner", b[0])));
      const sums = owners.reduce((total, [, f]) => total + f.quota, 0);
      show(figures.quota === undefined ? "There is no quota for this group in this period." : owners.length ? ["The quotas of ", number("count", owners.length), owners.length === 1 ? " owner" : " owners", " come to ", cash(sums), Math.abs(sums - figures.quota) > 0.5 ? "; where a manager has a quota of their own, it stands for the team, or comes on top if it is smaller." : "."] : "It is a quota of its own, not the sum of others.",
        parts(lacks),
        owners.length ? [...section("By owner"), el("div", { class: "scroll", role: "region", "aria-label": "Quotas by owner", tabindex: 0 }, el("table", {},
          el("thead", {}, el("tr", {}, ["Owner", "Quota", "Won", "Lacking", "Chance"].map((t, n) => el("th", { scope: "col", class: n ? "right" : null }, t)))),
          el("tbody", {}, owners.map(([id, f]) => el("tr", {}, el("th", { scope: "row" }, linked(`calc=reach&owner=${encodeURIComponent(id)}`, bdi(nameOf(data, "owner", id)))), [cash(f.quota), cash(f.closed || 0), cash(f.gap), number("share", f.reach)].map((is) => el("td", { class: "right" }, is)))))))] : []);
    } else if (calc === "coverage") {
      const dated = select(data, here, [["state", "open"], ["close", "period"]]);
      show("What is open and dated in the period, over what the quota still lacks. How much is needed follows from what such amounts came to.",
        parts([["Open, to close in the period", cash(sum(data, dated)), `state=open&close=period${within}`], ...lacks, ["Coverage", figures.coverage ? number("number", figures.coverage, "×") : null, "", true], ["Needed at this point", figures.needed ? number("number", figures.needed, "×") : null, "", true, "by what the forecast expects of it"]]),
        section("Open, to close in the period"), listing(data, dated));
    } else {
      const left = Math.max(data.end - data.today, 0);
      const quick = select(data, here, [["state", "won"]]).filter((i) => data.rows.created[i] !== null && data.rows.closed[i] - data.rows.created[i] <= left);
      const recent = select(data, here, [["created", `${iso(data.today - 91)}..${iso(data.today + 1)}`]]);
      show(["What is created from now on and won within the ", number("count", left), " days that are left: how many are created a week, what share of them is won that fast, and what such wins were worth."],
        parts([["Created in the last 13 weeks", number("count", recent.length), `created=${iso(data.today - 91)}..${iso(data.today + 1)}${within}`, false, "a week’s pace, recent weeks weighing more"], ["Won that fast within a year", number("count", quick.length)], ["Still to be created", cash(figures.new), "", true]]),
        section(`Won within ${left} days of their creation`), listing(data, quick, { empty: "Nothing was won that fast within a year." }));
    }
  }
  function fact(label, ...content) { return el("div", {}, el("dt", {}, label), el("dd", {}, content)); }
  function section(title, ...content) { return [el("h3", {}, title), ...content]; }
  function showOpportunity(data, id) {
    const i = data.byId.get(id);
    if (i === undefined) {
      inside.replaceChildren(el("h2", { id: "drawer-title" }, "Not in this report"), el("p", { class: "empty" }, "This opportunity is closed for longer than a year, was deleted, or belongs to somebody that this report does not show."));
      return;
    }
    const d = data.details[i] || {}, r = data.rows;
    const is = STATES[r.state[i]];
    const link = data.link ? data.link.replace("{id}", encodeURIComponent(id)) : null;
    const reasons = (title, list) => list && list.length ? section(title, el("ul", { class: "reasons" }, list.map((w) => el("li", {}, el("span", { class: "points " + (w.points > 0 ? "good" : "bad") }, told("points", w.points)), say(w.text))))) : [];
    const words = { work: "Work on it now", nurture: "Nurture it", let_go: "Let it go" };
    inside.replaceChildren(
      el("h2", { id: "drawer-title" }, bdi(r.name[i])),
      el("p", { class: "said" }, bdi([value(data, "account_name", i), value(data, "product", i), is].filter(Boolean).join(" · "))),
      link && /^https?:/.test(link) ? el("p", {}, el("a", { class: "button", href: link, target: "_blank", rel: "noopener noreferrer" }, "Open in the CRM ↗")) : "",
      el("dl", { class: "facts" },
        fact("Amount", number("money", r.amount[i], data.currency, true)),
        fact("Stage", bdi(value(data, "stage", i) || "–"), d.since ? el("small", { class: "sub" }, "since ", dated(Math.floor(Date.parse(d.since) / DAY))) : null),
        fact("Owner", bdi(data.people[value(data, "owner_id", i)] || value(data, "owner_id", i) || "Nobody")),
        fact(is === "open" ? "To close" : "Closed", dated(is === "open" ? r.close[i] : r.closed[i]), d.pushes ? el("small", { class: "sub" }, `pushed ${d.pushes} ×`) : null),
        is === "open" ? fact("To be won", number("share", r.win[i]), el("small", { class: "sub" }, number("share", r.soon[i]), " in this period")) : null,
        d.expected ? fact("Likely close", el("time", { datetime: d.expected[1] }, told("date", d.expected[1])), el("small", { class: "sub" }, `${told("date", d.expected[0])} – ${told("date", d.expected[2])}`)) : null,
        fact("Next step", bdi(d.next || "–")),
        d.last ? fact("Last activity", dated(Math.floor(Date.parse(d.last) / DAY))) : null,
        d.planned ? fact("Planned", dated(Math.floor(Date.parse(d.planned) / DAY))) : null,
        d.reason ? fact("Lost because", bdi(d.reason)) : null,
      ),
      ...(d.day ? section(words[d.day.place], el("p", {}, bdi(d.day.action + ".")), el("p", { class: "said" }, say(d.day.because))) : []),
      ...(d.findings ? section("Findings", el("ul", { class: "points" }, d.findings.map((f) => el("li", { class: f.severity === "high" || f.severity === "critical" ? "bad" : "" }, say(f.text), el("small", { class: "sub" }, `${f.severity}, since ${told("date", f.since)}`))))) : []),
      ...reasons("What speaks for it", d.up), ...reasons("What speaks against it", d.down),
      ...(d.tasks ? section("Tasks", el("ul", { class: "points" }, d.tasks.map((t) => el("li", {}, bdi(t.subject || "Task"), el("small", { class: "sub" }, t.done ? "done" : t.due ? `due ${told("date", t.due)}` : "open"))))) : []),
      ...section("History", el("ol", { class: "timeline" },
        r.created[i] !== null ? el("li", {}, dated(r.created[i]), " Created") : null,
        (d.events || []).map(([at, field, is_]) => el("li", {}, el("time", { datetime: at }, told("date", at)), " ", FIELDS[field] || field, is_ === null ? " changed" : [" → ", bdi(field === "amount" ? money(Number(is_), null, true) : field === "close_date" ? told("date", is_.slice(0, 10)) : is_)])),
        r.state[i] !== 0 ? el("li", {}, dated(r.closed[i]), ` Closed ${is}`) : null),
      d.events ? "" : el("p", { class: "rest" }, "The steps in between are told of the opportunities with most at stake.")),
    );
  }

  // --- Explorer ------------------------------------------------------------------------------------------------

  function tabs(page) {
    for (const group of $$("[data-tabs]", page)) {
      const buttons = $$("button", group), asked = state.params.get("by");
      const chosen = (buttons.find((b) => b.dataset.tab === asked) || buttons[0]).dataset.tab;
      for (const b of buttons) {
        b.setAttribute("aria-pressed", String(b.dataset.tab === chosen));
        if (!b.dataset.ready) { b.dataset.ready = ""; b.addEventListener("click", () => go({ by: b.dataset.tab })); }
      }
      for (const tab of $$(".tab", group.parentElement)) tab.classList.toggle("current", tab.dataset.tab === chosen);
    }
  }
  // Long tables and lists show their beginning; what a filter leaves counts.
  function fold(page) {
    for (const box of $$("tbody, .items", page)) {
      if (box.closest("[data-list], details")) continue;
      const rows = [...box.children].filter((r) => !r.hidden), most = box.tagName === "TBODY" ? 12 : 10;
      const isOpen = "open" in box.dataset, folds = rows.length > most + 2 && !isOpen;
      rows.forEach((row, n) => row.classList.toggle("over", folds && n >= most));
      const place = box.closest(".scroll") || box;
      let button = place.nextElementSibling;
      if (!button || !button.classList.contains("expand")) {
        if (!folds) continue;
        button = el("button", { type: "button", class: "expand", onclick: () => { box.dataset.open = ""; fold(page); const next = [...box.children].filter((r) => !r.hidden)[most]; const link = next && $("a", next); if (link) link.focus(); } });
        place.after(button);
      }
      button.hidden = !folds;
      button.textContent = `Show all ${format({}).format(rows.length)}`;
    }
  }

  function explore(page, data, filter) {
    const box = $("[data-explorer]", page);
    if (!box) return;
    const input = $("[data-find]", box), asked = state.params.get("show") || "open", shows = asked === "all" ? "" : asked;
    if (document.activeElement !== input) input.value = state.params.get("q") || "";
    for (const chip of $$("[data-state]", box)) chip.setAttribute("aria-pressed", chip.dataset.state === shows);
    const conditions = [];
    if (shows) conditions.push(["state", shows]);
    if (state.params.get("q")) conditions.push(["q", state.params.get("q")]);
    const rows = select(data, filter, conditions);
    const key = JSON.stringify([conditions, filter]);
    if (box.dataset.drawn === key) return;
    box.dataset.drawn = key;
    $("[data-list]", box).replaceChildren(
      el("p", { class: "said", role: "status" }, number("count", rows.length), rows.length === 1 ? " opportunity, " : " opportunities, ", number("money", sum(data, rows), data.currency)),
      listing(data, rows, { note: incomplete(data, rows.length, rows.length), empty: "No opportunity matches. Try fewer words, or another state." }));
    if (!box.dataset.ready) {
      box.dataset.ready = "";
      let waiting;
      input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => { replace({ q: input.value.trim() || null }); render(); }, 60); });
      for (const chip of $$("[data-state]", box)) chip.addEventListener("click", () => go({ show: chip.dataset.state === "open" ? null : chip.dataset.state || "all" }));
    }
  }

  // --- Search --------------------------------------------------------------------------------------------------

  const find = $("#find"), found = $("#found");
  let matches = [], chosen = -1;
  function search() {
    const data = current().data, text = find.value.trim();
    matches = [];
    if (text) {
      const words = text.toLocaleLowerCase().split(/\s+/);
      for (const [id, name] of Object.entries(data.people)) {
        if (words.every((w) => name.toLocaleLowerCase().includes(w))) matches.push({ text: name, sub: "owner", to: { owner: id } });
        if (matches.length === 3) break;
      }
      const rows = select(data, {}, [["q", text]]);
      for (const i of rows.slice(0, 7)) matches.push({ text: data.rows.name[i], sub: STATES[data.rows.state[i]], to: { opp: data.rows.id[i] } });
      if (rows.length > 7) matches.push({ text: `All ${format({}).format(rows.length)}`, sub: "list", to: { list: "q=" + encodeURIComponent(text), opp: null } });
    }
    chosen = matches.length ? 0 : -1;
    found.replaceChildren(...(matches.length ? matches.map((m, n) => el("li", { role: "option", id: `found-${n}`, "aria-selected": n === chosen, onmousedown: (e) => { e.preventDefault(); take(n); } }, bdi(m.text), el("span", { class: "quiet" }, m.sub)))
      : text ? [el("li", { role: "option", "aria-selected": false, "aria-disabled": true }, "Nothing is called that.")] : []));
    found.hidden = !text;
    find.setAttribute("aria-expanded", String(!found.hidden));
    mark();
  }
  function mark() {
    $$("li", found).forEach((li, n) => li.setAttribute("aria-selected", String(n === chosen)));
    if (chosen >= 0) find.setAttribute("aria-activedescendant", `found-${chosen}`); else find.removeAttribute("aria-activedescendant");
  }
  function take(n) {
    if (!matches[n]) return;
    const { to } = matches[n];
    find.value = ""; found.hidden = true; find.setAttribute("aria-expanded", "false");
    go(to);
  }
  find.addEventListener("input", search);
  find.addEventListener("blur", () => { found.hidden = true; find.setAttribute("aria-expanded", "false"); });
  find.addEventListener("keydown", (e) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); chosen = matches.length ? (chosen + (e.key === "ArrowDown" ? 1 : -1) + matches.length) % matches.length : -1; mark(); }
    else if (e.key === "Enter") { e.preventDefault(); take(chosen); }
    else if (e.key === "Escape") { find.value = ""; search(); }
  });
  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) { e.preventDefault(); find.focus(); }
  });

  // --- Showing -------------------------------------------------------------------------------------------------

  const names = $$(".report").map((r) => r.dataset.connection);
  function current() {
    const asked = state.params.get("connection");
    const name = names.includes(asked) ? asked : names[0];
    const report = $$(".report").find((r) => r.dataset.connection === name);
    return { name, report, data: load(name) };
  }
  let last = {};
  function render() {
    state = parse(location.hash);
    const { name, report, data } = current();
    const pages = $$(".page", report);
    let page = pages.find((p) => p.dataset.page === state.page);
    if (!page) { page = pages.find((p) => p.dataset.page === document.body.dataset.home) || pages[0]; state.page = page.dataset.page; }
    const moved = last.page !== state.page || last.name !== name;
    if (moved) {
      for (const r of $$(".report")) r.classList.toggle("current", r === report);
      for (const p of $$(".page")) p.classList.toggle("current", p === page);
      for (const a of $$(".menu a")) {
        if (a.dataset.page === state.page) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
      }
      const chooser = $("#connection");
      if (chooser) chooser.value = name;
      if (last.page !== undefined) { scrollTo(0, 0); $("h1", page).focus({ preventScroll: true }); }
      const link = $('.menu a[aria-current]');
      if (link && link.parentElement.parentElement.scrollWidth > innerWidth) link.scrollIntoView({ block: "nearest", inline: "center" });
    }
    const filter = filterOf(state.params), key = JSON.stringify(filter);
    localise(page);
    if (moved || last.filter !== key) { showFilter(report, data, filter); applyFilter(report, page, data, filter); }
    tabs(page);
    fold(page);
    explore(page, data, filter);
    const list = state.params.get("list"), opp = state.params.get("opp"), wants = list || opp;
    if (wants) {
      const what = JSON.stringify([name, list, opp, key]);
      if (last.drawer !== what) { if (opp) showOpportunity(data, opp); else showList(data, list, filter); drawer.scrollTop = 0; }
      last.drawer = what;
      if (!drawer.open) { opener = document.activeElement; drawer.showModal(); }
    } else {
      last.drawer = null;
      if (drawer.open) { drawer.close(); inside.replaceChildren(); if (opener && opener.isConnected && opener !== document.body) opener.focus({ preventScroll: true }); }
    }
    last = { ...last, page: state.page, name, filter: key };
  }
  // A link gets its whole address before it is followed, so that it can be opened elsewhere and sent.
  function complete(e) {
    const link = e.target.closest && e.target.closest("a[data-drill], .menu a[data-page]");
    if (!link) return;
    if (link.dataset.drill) link.setAttribute("href", merged(target(link.dataset.drill)));  // of a drawing it is no text
    else {
      const kept = Object.fromEntries([...state.params].filter(([k]) => k === "connection" || FILTERS.some(([n]) => n === k)));
      link.href = address(link.dataset.page, new URLSearchParams(kept));
    }
  }
  for (const event of ["pointerover", "focusin", "click"]) document.addEventListener(event, complete, true);
  addEventListener("hashchange", () => { render(); });
  addEventListener("popstate", () => { depth = Math.max(0, (history.state && history.state.depth) || 0); });
  document.addEventListener("click", (e) => { if (e.target.closest && e.target.closest("a[data-drill]")) depth++; });
  const chooser = $("#connection");
  if (chooser) chooser.addEventListener("change", () => { location.hash = address(state.page, new URLSearchParams({ connection: chooser.value })); });

  const root = document.documentElement;
  $("#theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("pipesync-theme", root.dataset.theme); } catch { /* it is forgotten then */ }
  });
  document.addEventListener("click", (e) => {
    const jump = e.target.closest("[data-jump]");
    if (!jump) return;
    const head = $$("h2", jump.closest(".page")).find((h) => h.textContent === jump.dataset.jump);
    if (!head) return;
    head.tabIndex = -1;
    head.focus({ preventScroll: true });
    head.scrollIntoView({ block: "start" });
  });
  $("#print").addEventListener("click", () => print());
  addEventListener("beforeprint", () => localise(document));
  localise($(".foot"));
  render();
})();
