"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
// a row: dump, outcome, reason, time, host, release, group, stack, why, report
const [DUMP, OUTCOME, REASON, TIME, HOST, RELEASE, GROUP, STACK, WHY, REPORT] = Array(10).keys();
const SHOWN = 50, BARS = 12;
let picked = null, words = [], groupsShown = SHOWN, dumpsShown = SHOWN;
const el = (id) => document.getElementById(id);
data.rows.sort((a, b) => (b[TIME] ?? -1) - (a[TIME] ?? -1));
const text = data.rows.map(r => [r[DUMP], r[HOST], r[RELEASE], data.groups[r[GROUP]], r[OUTCOME], r[REASON]].join(" ").toLowerCase());
const when = (t) => t === null ? "" : new Date(t * 1000).toISOString().slice(0, 19).replace("T", " ");
function make(name, content, cls) {
  const made = document.createElement(name);
  if (content !== undefined) made.textContent = content;
  if (cls) made.className = cls;
  return made;
}
function count(rows, of) {
  const found = new Map();
  for (const r of rows) { const k = of(r); if (k) found.set(k, (found.get(k) || 0) + 1); }
  return found;
}
const sum = (entries) => entries.reduce((total, e) => total + e[1], 0);
function bars(id, entries, rest) {
  const most = Math.max(1, ...entries.map(e => e[1]));
  if (rest && rest[1]) entries = [...entries, rest];
  el(id).replaceChildren(...entries.map(entry => {
    const [name, n] = entry;
    const row = make("div", undefined, "row"), bar = make("i"), label = make("span", name);
    label.title = name; bar.style.width = entry === rest ? 0 : 100 * n / most + "%";
    row.append(label, bar, make("b", n));
    return row;
  }));
}
function largest(id, found) {
  const all = [...found].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  bars(id, all.slice(0, BARS), [`${all.length - BARS} others`, sum(all.slice(BARS))]);
}
function more(id, left, act) {
  const place = el(id);
  place.replaceChildren();
  if (left <= 0) return;
  const button = make("button", `${left} more`);
  button.type = "button"; button.onclick = act;
  place.append(button);
}
function showGroups(rows) {
  const found = new Map();
  for (const r of rows) { if (!found.has(r[GROUP])) found.set(r[GROUP], []); found.get(r[GROUP]).push(r); }
  const all = [...found].sort((a, b) => b[1].length - a[1].length || a[0] - b[0]);
  el("groups").replaceChildren(...all.slice(0, groupsShown).map(([number, of]) => {
    const line = make("tr", undefined, "pick" + (picked === number ? " picked" : ""));
    const times = of.map(r => r[TIME]).filter(t => t !== null).sort((a, b) => a - b);
    const n = (key) => count(of, r => r[key]).size;
    line.append(make("td", data.groups[number]), ...[of.length, n(HOST), n(RELEASE), n(STACK)].map(v => make("td", v, "n")));
    line.append(make("td", times.length ? when(times[0]) : ""), make("td", times.length ? when(times[times.length - 1]) : ""));
    line.onclick = () => { picked = picked === number ? null : number; dumpsShown = SHOWN; show(); };
    return line;
  }));
  more("moregroups", all.length - groupsShown, () => { groupsShown += SHOWN; show(); });
  return all.length;
}
function showDumps(rows) {
  el("dumps").replaceChildren(...rows.slice(0, dumpsShown).map(r => {
    const line = make("tr"), name = make("td");
    if (r[REPORT]) { const link = make("a", r[DUMP]); link.href = r[REPORT]; name.append(link); } else name.textContent = r[DUMP];
    const why = r[OUTCOME] === "ok" ? r[WHY] : `${r[OUTCOME]}: ${r[REASON]}`;
    line.append(name, make("td", when(r[TIME])), make("td", r[HOST] || ""), make("td", r[RELEASE] || ""), make("td", data.groups[r[GROUP]]), make("td", why));
    return line;
  }));
  more("moredumps", rows.length - dumpsShown, () => { dumpsShown += SHOWN; show(); });
}
function show() {
  const found = data.rows.filter((_, i) => words.every(w => text[i].includes(w)));
  const groups = showGroups(found);
  const rows = picked === null ? found : found.filter(r => r[GROUP] === picked);
  const days = [...count(rows, r => when(r[TIME]).slice(0, 10))].sort((a, b) => a[0] < b[0] ? 1 : -1);
  bars("days", days.slice(0, 2 * BARS), ["before", sum(days.slice(2 * BARS))]);
  largest("kernels", count(rows, r => r[RELEASE]));
  largest("hosts", count(rows, r => r[HOST]));
  showDumps(rows);
  const unread = rows.filter(r => r[OUTCOME] !== "ok").length;
  el("sum").textContent = `${rows.length} dumps, ${groups} groups` + (unread ? `, ${unread} not or not wholly read` : "");
}
el("find").oninput = (event) => { words = event.target.value.toLowerCase().split(/\s+/).filter(w => w); groupsShown = dumpsShown = SHOWN; show(); };
el("all").onclick = () => { picked = null; words = []; el("find").value = ""; show(); };
show();
