// What is shown: tabs, long lists, the explorer, the search, and the page of the address.

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
