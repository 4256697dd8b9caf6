// The drawer beside the page: a list, what a figure is made of, or one opportunity.

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
      : figures.low === figures.high ? ["Four endings in five come to ", cash(figures.low), "."]
      : ["Four endings in five lie between ", cash(figures.low), " and ", cash(figures.high), figures.low === figures.p10 && figures.high === figures.p90 ? "." : ": so many are equal at one end that hardly any lie beyond it, and the interval stops sooner at the other."];
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
