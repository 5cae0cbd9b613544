"use strict";
// The data page: a virtual grid over typed arrays, filters, pairs of duplicates, and decisions by keyboard.
// Text from data is only set as textContent.

const byId = (id) => document.getElementById(id);
const page = JSON.parse(byId("about").textContent);
const labelling = page.mode === "label";
const NONE = 65535, GAP = 8, CAPTION = 46, SIZES = [92, 140, 200, 300], MOST_OPTIONS = 250;
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, float32: Float32Array };

let about, A;                                // names and arrays of the data set
let P = null;                                // a run's predictions, aligned with the images
let order = new Uint32Array(0);              // rows that pass the filters, sorted
let at = 0;                                  // the current place in `order`
let anchor = 0;
const selected = new Set();
const details = new Map();                   // row -> description
const filters = { verdict: new Set(), reason: new Set(), class: new Set(), split: new Set(), truth: null, predicted: null, rows: null };
let view = "grid", side = 0, flipped = false, heat = false;
let pairs = [], pair = 0;

// ---- helpers ----------------------------------------------------------------------------------------------------------

const el = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};
const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.1 ? 1 : 0)}\u00a0%`;
const number = (value) => value.toLocaleString("en");
const STATES = { keep: "kept", review: "to review", reject: "rejected" };
const stateOf = (code) => STATES[about.verdicts[code]] ?? about.verdicts[code];
const labelOf = (code) => (code === NONE ? "no label" : about.labels[code]);
const pictureOf = (row, size) => `${page.api}/pictures/${row}?side=${size}&v=${about.version}`;
const opinionOf = (row) => (P ? P.predicted[row] === NONE ? NONE : P.codes[P.predicted[row]] : A.opinion[row]);
const confidenceOf = (row) => (P ? P.confidence[row] : A.confidence[row]);
const splitOf = (row) => (P ? P.split[row] : A.split[row]);
const hasReason = (row, reason) => (A.reasons[row * A.width + (reason >> 3)] >> (reason & 7)) & 1;

function alarm(text) {
  byId("alert").hidden = !text;
  byId("alert").textContent = text;
  clearTimeout(alarm.timer);
  if (text) alarm.timer = setTimeout(() => alarm(""), 9000);
}

async function ask(path, content) {
  const options = content ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) } : {};
  let response;
  try {
    response = await fetch(page.api + path, options);
  } catch {
    throw new Error("The server does not respond. Start `darkroom web` again; earlier decisions are saved.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || `The server answers ${response.status}.`);
  return answer;
}

async function block(path) {
  const response = await fetch(page.api + path);
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || `The server answers ${response.status}.`);
  const buffer = await response.arrayBuffer(), length = new DataView(buffer).getUint32(0, true);
  const arrays = {};
  for (const each of JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)))) {
    const size = each.shape.reduce((product, one) => product * one, 1);
    arrays[each.name] = new TYPES[each.type](buffer, 4 + length + each.offset, size);
    if (each.name === "reasons") arrays.width = each.shape[1];
  }
  return { arrays, response };
}

// ---- filters and order ------------------------------------------------------------------------------------------------

const SORTS = {
  useful: ["most informative first", (row) => A.rank[row]],
  suspicion: ["most suspicious first", (row) => (Number.isNaN(A.score[row]) ? 2 : A.score[row])],
  unsure: ["least confident first", (row) => { const value = confidenceOf(row); return Number.isNaN(value) ? 2 : value; }],
  sure: ["most confident first", (row) => { const value = confidenceOf(row); return Number.isNaN(value) ? 2 : -value; }],
  name: ["file name", null],
  class: ["class", (row) => A.label[row]],
  group: ["duplicates together", (row) => (A.group[row] < 0 ? 2 ** 31 : A.group[row])],
  small: ["smallest first", (row) => A.side[row]],
};

function passes(row, but = "") {
  if (filters.rows && !filters.rows.has(row)) return false;
  if (but !== "verdict" && filters.verdict.size && !filters.verdict.has(A.verdict[row])) return false;
  if (but !== "class" && filters.class.size && !filters.class.has(A.label[row])) return false;
  if (but !== "split" && filters.split.size && !filters.split.has(splitOf(row))) return false;
  if (but !== "reason" && filters.reason.size && ![...filters.reason].some((reason) => reason === "decided" ? A.decided[row]
    : reason === "none" ? Number.isNaN(A.score[row]) : reason === "wrong" ? isWrong(row) : hasReason(row, reason))) return false;
  if (filters.truth !== null && !(P && P.truth[row] === filters.truth)) return false;
  if (filters.predicted !== null && !(P && P.predicted[row] === filters.predicted)) return false;
  const low = Number(byId("low").value) / 100, high = Number(byId("high").value) / 100;
  if (low > 0 || high < 1) {
    const value = confidenceOf(row);
    if (!(value >= low && value <= high)) return false;
  }
  return true;
}

const isWrong = (row) => P && P.truth[row] !== NONE && P.truth[row] !== P.predicted[row];

function apply({ keep = false } = {}) {
  const current = keep ? order[at] : undefined, passing = [];
  for (let row = 0; row < about.files; row++) if (passes(row)) passing.push(row);
  const key = SORTS[byId("sort").value][1];
  if (key) {
    const keys = new Float64Array(about.files);
    for (const row of passing) keys[row] = key(row);
    passing.sort((one, other) => keys[one] - keys[other] || one - other);
  }
  order = Uint32Array.from(passing);
  at = Math.max(0, keep ? order.indexOf(current) : 0);
  anchor = at;
  selected.clear();
  if (!keep) byId("grid").scrollTop = 0;
  makePairs();
  facets();
  show();
  remember();
}

function counted(name) {
  const counts = new Map(), add = (key) => counts.set(key, (counts.get(key) || 0) + 1);
  for (let row = 0; row < about.files; row++) {
    if (!passes(row, name)) continue;
    if (name === "verdict") add(A.verdict[row]);
    else if (name === "class") add(A.label[row]);
    else if (name === "split") add(splitOf(row));
    else {
      for (let reason = 0; reason < about.reasons.length; reason++) if (hasReason(row, reason)) add(reason);
      if (A.decided[row]) add("decided");
      if (isWrong(row)) add("wrong");
      if (!labelling && Number.isNaN(A.score[row])) add("none");
    }
  }
  return counts;
}

function facets() {
  const open = document.activeElement?.dataset?.option, parts = [];
  const add = (name, title, options) => {
    const counts = counted(name), list = el("ul");
    for (const [value, words, meaning] of options) {
      const count = counts.get(value) || 0, chosen = filters[name].has(value);
      if (!count && !chosen) continue;
      const box = el("input", { type: "checkbox", checked: chosen });
      box.dataset.option = `${name}:${value}`;
      box.addEventListener("change", () => {
        if (box.checked) filters[name].add(value); else filters[name].delete(value);
        apply();
      });
      list.append(el("li", {}, el("label", { title: meaning || "" }, box, el("span", { textContent: words }), el("b", { textContent: number(count) }))));
    }
    if (list.children.length) parts.push(el("fieldset", { className: "facet" }, el("legend", { textContent: title }), list));
  };
  add("verdict", labelling ? "State" : "Verdict", about.verdicts.map((_, code) => [code, stateOf(code)]));
  add("reason", labelling ? "More" : "Findings", [["wrong", "predicted wrongly"], ...about.reasons.map((each, code) => [code, each.title, each.meaning]),
    ["decided", "decided by hand"], ["none", "no finding"]]);
  if (A.split.some((code) => code !== 255) || P) add("split", P ? "Split of the run" : "Split of the source", [...about.splits.map((name, code) => [code, name]), [255, "none"]]);
  const classes = [...about.labels.keys()].slice(0, MOST_OPTIONS).map((code) => [code, about.labels[code]]);
  if (!labelling) add("class", "Class", [...classes, [NONE, "no label"]]);
  byId("facets").replaceChildren(...parts);
  if (open) byId("facets").querySelector(`[data-option="${CSS.escape(open)}"]`)?.focus();
  const active = ["verdict", "reason", "class", "split"].reduce((sum, name) => sum + filters[name].size, 0) + (filters.truth !== null) + (filters.rows !== null);
  byId("active-filters").textContent = active ? `(${active} active)` : "";
  summary();
}

function summary() {
  const counts = new Array(about.verdicts.length).fill(0);
  for (const code of A.verdict) counts[code]++;
  byId("summary").textContent = `${number(about.files)} images: ` + about.verdicts.map((_, code) => `${number(counts[code])} ${stateOf(code)}`).join(", ");
  byId("count").textContent = order.length === about.files ? `all ${number(order.length)} shown` : `${number(order.length)} shown`;
}

// ---- the grid ---------------------------------------------------------------------------------------------------------

const tiles = new Map();                     // place -> element
let columns = 1, cell = 140, waiting = 0, lastTop = 0;

function layout() {
  const grid = byId("grid"), wanted = SIZES[byId("size").value], width = grid.clientWidth - GAP;
  columns = Math.max(2, Math.floor(width / (wanted + GAP)));
  cell = width / columns;
}

const rowHeight = () => cell + CAPTION;

function show() {
  byId("grid").hidden = view !== "grid";
  byId("pairs").hidden = view !== "pairs";
  byId("none").hidden = view !== "grid" || order.length > 0;
  byId("view-grid").setAttribute("aria-pressed", view === "grid");
  byId("view-pairs").setAttribute("aria-pressed", view === "pairs");
  if (view === "pairs") { showPair(); return; }
  layout();
  byId("sheet").style.height = `${Math.ceil(order.length / columns) * rowHeight() + GAP}px`;
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  draw(true);
  mark();
}

// Draws the visible tiles. Images are requested once the list rests, so that fast scrolling does not request thousands.
function draw(now = false) {
  const grid = byId("grid"), height = rowHeight();
  const first = Math.max(0, Math.floor(grid.scrollTop / height) - 2) * columns;
  const last = Math.min(order.length, (Math.ceil((grid.scrollTop + grid.clientHeight) / height) + 2) * columns);
  for (const [place, tile] of tiles) if (place < first || place >= last) { tile.remove(); tiles.delete(place); }
  for (let place = first; place < last; place++) if (!tiles.has(place)) {
    const tile = make(place);
    tiles.set(place, tile);
    byId("sheet").append(tile);
  }
  clearTimeout(waiting);
  const fill = () => { for (const tile of tiles.values()) { const image = tile.querySelector("img"); if (image?.dataset.src) { image.src = image.dataset.src; delete image.dataset.src; } } };
  if (now || Math.abs(grid.scrollTop - lastTop) < 2 * height) fill(); else waiting = setTimeout(fill, 90);
  lastTop = grid.scrollTop;
}

function make(place) {
  const row = order[place], tile = el("div", { className: "tile", id: `tile-${place}` });
  tile.setAttribute("role", "option");
  tile.dataset.row = row;
  tile.style.cssText = `left:${GAP / 2 + (place % columns) * cell}px;top:${GAP / 2 + Math.floor(place / columns) * rowHeight()}px;width:${cell}px`;
  const image = el("img", { alt: "", decoding: "async" });
  image.dataset.src = pictureOf(row, cell > 170 ? 320 : 256);
  image.addEventListener("error", () => image.replaceWith(el("span", { className: "lost", textContent: "cannot be read" })));
  const check = el("span", { className: "check", textContent: "✓", ariaHidden: "true" });
  tile.append(el("div", { className: "frame" }, image, el("span", { className: "badge", hidden: true }), check), el("div", { className: "words" }));
  paint(tile);
  return tile;
}

function paint(tile) {
  const row = Number(tile.dataset.row), verdict = about.verdicts[A.verdict[row]], badge = tile.querySelector(".badge"), words = tile.querySelector(".words");
  badge.hidden = verdict === about.verdicts[0] && !A.decided[row];
  badge.textContent = stateOf(A.verdict[row]);
  badge.className = `badge ${A.decided[row] && verdict !== "reject" ? "done" : verdict}`;
  tile.classList.toggle("rejected", verdict === "reject");
  const opinion = opinionOf(row), confidence = confidenceOf(row), reason = [...filters.reason, ...about.reasons.keys()].find((code) => Number.isInteger(code) && hasReason(row, code));
  words.replaceChildren(el("b", { textContent: labelOf(A.label[row]) }));
  if (!labelling && A.label[row] !== A.source_label[row]) words.append(el("i", { textContent: ` (was ${labelOf(A.source_label[row])})` }));
  if (opinion !== NONE && (labelling || opinion !== A.label[row])) words.append(el("span", { className: "other", textContent: ` → ${labelOf(opinion)} ${percent(confidence)}` }));
  else if (P && opinion !== NONE) words.append(el("i", { textContent: ` ${percent(confidence)}` }));
  if (reason !== undefined) words.append(el("br"), el("i", { textContent: about.reasons[reason].title }));
  tile.setAttribute("aria-selected", selected.has(row));
  tile.setAttribute("aria-setsize", order.length);
  tile.setAttribute("aria-posinset", Number(tile.id.slice(5)) + 1);
}

function mark() {
  for (const [place, tile] of tiles) {
    tile.classList.toggle("current", place === at);
    tile.setAttribute("aria-selected", selected.has(order[place]));
  }
  if (tiles.has(at)) byId("grid").setAttribute("aria-activedescendant", `tile-${at}`);
  else byId("grid").removeAttribute("aria-activedescendant");
  byId("chosen").textContent = selected.size ? `${number(selected.size)} selected` : "";
}

function go(place, { extend = false } = {}) {
  if (!order.length) return;
  at = Math.max(0, Math.min(order.length - 1, place));
  if (extend) {
    selected.clear();
    for (let each = Math.min(anchor, at); each <= Math.max(anchor, at); each++) selected.add(order[each]);
  } else anchor = at;
  const grid = byId("grid"), top = Math.floor(at / columns) * rowHeight();
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + rowHeight() > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + rowHeight() - grid.clientHeight + GAP;
  draw();
  mark();
  if (byId("zoom").open) zoom();
}

// ---- decisions --------------------------------------------------------------------------------------------------------

let queue = Promise.resolve(), pending = 0;

function targets() {
  if (view === "pairs" && !byId("zoom").open) return pairs.length ? [pairs[pair][side]] : [];
  return selected.size ? [...selected].sort((one, other) => one - other) : order.length ? [order[at]] : [];
}

// Shows the decision immediately and sends it. A decision that the server refuses is reverted and reported.
function decide(action, label) {
  const rows = targets();
  if (!rows.length) return;
  const before = rows.map((row) => [row, A.verdict[row], A.label[row], A.decided[row]]);
  const code = label === undefined ? -1 : codeOf(label);
  for (const row of rows) {
    if (code >= 0) A.label[row] = code;
    if (labelling) A.verdict[row] = action === "skip" ? 2 : 1;
    else if (code < 0) A.verdict[row] = about.verdicts.indexOf(action);
    else if (about.verdicts[A.verdict[row]] === "review") A.verdict[row] = 0;
    A.decided[row] = 1;
  }
  repaint(rows);
  send("/decide", { rows, action: label === undefined ? action : "relabel", label, version: about.version }, () => {
    for (const [row, verdict, code_, decided] of before) { A.verdict[row] = verdict; A.label[row] = code_; A.decided[row] = decided; }
    repaint(rows);
  });
  const single = !selected.size;
  selected.clear();
  if (view === "pairs" && !byId("zoom").open) { if (action === "reject") movePair(1); else showPair(); }
  else if (single) go(at + 1);
  else mark();
}

function send(path, content, restore) {
  document.documentElement.dataset.pending = ++pending;
  queue = queue.then(() => ask(path, content)).then((answer) => {
    if (answer.names) about.labels = answer.names;
    for (const [place, row] of answer.rows.entries()) { A.verdict[row] = answer.verdicts[place]; A.label[row] = answer.labels[place]; A.decided[row] = answer.decided[place]; }
    about.undo = answer.undo;
    repaint(answer.rows);
    if (path === "/undo" && answer.rows.length) { const place = order.indexOf(answer.rows[0]); if (place >= 0 && view === "grid") go(place); else if (view === "pairs") showPair(); }
  }).catch((error) => { restore(); alarm(error.message); }).finally(() => { document.documentElement.dataset.pending = --pending; });
}

const undo = () => send("/undo", { version: about.version }, () => {});

function codeOf(label) {
  const known = about.labels.indexOf(label);
  if (known >= 0) return known;
  about.labels.push(label);
  return about.labels.length - 1;
}

let counting = 0;

function repaint(rows) {
  const changed = new Set(rows);
  clearTimeout(counting);
  counting = setTimeout(facets, 500);  // delayed, because counting 100,000 images takes time
  for (const tile of tiles.values()) if (changed.has(Number(tile.dataset.row))) paint(tile);
  summary();
  if (byId("zoom").open) zoom();
}

// Assigns the class suggested by cleaning or by the run as the label.
function accept() {
  const rows = targets(), opinions = new Set(rows.map(opinionOf));
  if (opinions.size !== 1 || opinions.has(NONE)) { alarm(opinions.has(NONE) ? "No class is suggested for this image." : "Different classes are suggested for the selected images."); return; }
  decide("relabel", labelOf([...opinions][0]));
}

function chips(into, rows, choose) {
  const first = new Set(rows.map(opinionOf).filter((code) => code !== NONE));
  const codes = [...first, ...about.labels.keys()].filter((code, place, all) => all.indexOf(code) === place).slice(0, 60);
  into.replaceChildren(...codes.map((code) => {
    const digit = about.labels.indexOf(labelOf(code)) + 1;
    const button = el("button", { type: "button", textContent: labelOf(code) });
    if (digit <= 9) button.append(el("kbd", { textContent: digit }));
    button.addEventListener("click", () => choose(labelOf(code)));
    return button;
  }));
}

function relabel() {
  const rows = targets();
  if (!rows.length) return;
  byId("relabel-title").textContent = rows.length > 1 ? `Label of ${number(rows.length)} images` : "Label";
  byId("labels").replaceChildren(...about.labels.map((name) => el("option", { value: name })));
  byId("relabel-text").value = "";
  chips(byId("relabel-chips"), rows, (label) => { byId("relabel").close(); decide("relabel", label); });
  byId("relabel").returnValue = "";
  byId("relabel").showModal();
  byId("relabel-text").focus();
}

byId("relabel").addEventListener("close", () => {
  const text = byId("relabel-text").value.trim();
  if (byId("relabel").returnValue === "ok" && text) {
    const starts = about.labels.filter((name) => name.toLowerCase().startsWith(text.toLowerCase()));
    decide("relabel", about.labels.includes(text) ? text : starts.length === 1 ? starts[0] : text);
  }
});
byId("relabel-cancel").addEventListener("click", () => byId("relabel").close());

// ---- zoom -------------------------------------------------------------------------------------------------------------

const runPath = () => byId("run").value.split("/").map(encodeURIComponent).join("/");

async function zoom() {
  const row = view === "pairs" ? pairs[pair]?.[side] : order[at];
  if (row === undefined) return;
  if (!byId("zoom").open) {
    byId("zoom-classes").after(document.querySelector(".actions"));  // decisions go along into the dialog
    byId("zoom").showModal();
  }
  const image = byId("zoom-image"), wanted = heat && P ? `${page.api}/heat/${row}/${runPath()}?v=${about.version}` : pictureOf(row, 1280);
  if (image.getAttribute("src") !== wanted) image.src = wanted;
  image.alt = `Image ${row + 1}`;
  byId("zoom-heat").hidden = !P || labelling;
  byId("zoom-heat").setAttribute("aria-pressed", heat);
  byId("zoom-label").textContent = `${labelOf(A.label[row])} · ${stateOf(A.verdict[row])}`;
  chips(byId("zoom-classes"), [row], (label) => decide("relabel", label));
  const about_ = await describe(row);
  if ((view === "pairs" ? pairs[pair]?.[side] : order[at]) !== row || !about_) return;
  byId("zoom-path").textContent = about_.path;
  const facts = [el("p", { className: "note", textContent: [about_.size, about_.format, `${Math.ceil(about_.bytes / 1024)} kB`].filter(Boolean).join(" · ") })];
  if (about_.findings.length) facts.push(el("ul", {}, ...about_.findings.map((each) => el("li", {}, el("b", { textContent: each.title }), ` ${each.detail}`))));
  const attributes = Object.entries(about_.attributes);
  if (attributes.length) facts.push(el("p", { className: "note", textContent: attributes.map(([name, value]) => `${name}: ${value}`).join(" · ") }));
  byId("zoom-facts").replaceChildren(...facts);
  const shares = about_.probabilities || (P ? await ask(`/probabilities/${row}/${runPath()}`) : []);
  if ((view === "pairs" ? pairs[pair]?.[side] : order[at]) === row && shares.length) byId("zoom-facts").append(bars(shares));
}

function bars(shares) {
  return el("ul", { className: "bars" }, ...shares.map(([name, share]) => {
    const bar = el("i");
    bar.style.setProperty("--share", `${100 * share}%`);
    return el("li", {}, el("span", { textContent: name }), bar, el("b", { textContent: percent(share) }));
  }));
}

async function describe(row) {
  if (!details.has(row)) {
    const near = [row, order[at + 1], order[at + 2], order[at - 1]].filter((each) => each !== undefined && !details.has(each));
    try { for (const each of await ask("/rows", { rows: near, version: about.version })) details.set(each.row, each); } catch (error) { alarm(error.message); }
  }
  return details.get(row);
}

// ---- pairs of duplicates ----------------------------------------------------------------------------------------------

function makePairs() {
  const wanted = new Set(), members = new Map();
  for (const row of order) if (A.group[row] >= 0) wanted.add(A.group[row]);
  for (let row = 0; row < about.files; row++) if (wanted.has(A.group[row])) members.set(A.group[row], [...(members.get(A.group[row]) || []), row]);
  pairs = [];
  for (const group of wanted) { const [first, ...others] = members.get(group); for (const other of others) pairs.push([first, other]); }
  pair = 0;
  byId("view-pairs").textContent = pairs.length ? `Pairs (${number(pairs.length)})` : "Pairs";
}

async function showPair() {
  const shown = pairs[pair];
  byId("pairs").classList.toggle("flipped", flipped);
  byId("flip").setAttribute("aria-pressed", flipped);
  for (const part of byId("pairs").querySelectorAll(".two, .row")) part.hidden = !shown;
  if (!shown) { byId("pair-title").textContent = "There are no near-duplicates among the filtered images."; return; }
  const differ = A.label[shown[0]] !== A.label[shown[1]];
  byId("pair-title").textContent = `Pair ${number(pair + 1)} of ${number(pairs.length)}${differ ? ": two labels" : ""}${splitOf(shown[0]) !== splitOf(shown[1]) ? ", two splits" : ""}`;
  for (const [place, id] of ["pair-a", "pair-b"].entries()) {
    const row = shown[place], figure = byId(id), image = figure.querySelector("img");
    if (image.getAttribute("src") !== pictureOf(row, 1280)) image.src = pictureOf(row, 1280);
    image.alt = `${place ? "Second" : "First"} of the pair`;
    figure.classList.toggle("current", place === side);
    const split = about.splits[splitOf(row)], words = `${labelOf(A.label[row])} · ${stateOf(A.verdict[row])}${split ? ` · ${split}` : ""}`;
    figure.querySelector("figcaption").textContent = words;
    const known = await describe(row);
    if (pairs[pair] === shown && known) figure.querySelector("figcaption").replaceChildren(el("b", { textContent: words }), el("br"), `${known.path} · ${known.size}`);
  }
}

function movePair(step) {
  pair = Math.max(0, Math.min(pairs.length - 1, pair + step));
  side = step > 0 ? 1 : side;
  showPair();
}

// ---- classes and confusion --------------------------------------------------------------------------------------------

function showClasses() {
  const panel = byId("classes");
  panel.hidden = !panel.hidden;
  if (panel.hidden) { show(); return; }
  const splits = [...about.splits.keys()].filter((code) => { for (let row = 0; row < about.files; row++) if (splitOf(row) === code) return true; return false; });
  const table = new Map();
  for (let row = 0; row < about.files; row++) {
    const line = table.get(A.label[row]) || { before: 0, kept: 0, review: 0, rejected: 0, splits: splits.map(() => 0) };
    line.before++;
    line[["kept", "review", "rejected"][A.verdict[row]]]++;
    const place = splits.indexOf(splitOf(row));
    if (place >= 0) line.splits[place]++;
    table.set(A.label[row], line);
  }
  const heads = ["Class", "Before", "Kept", "To review", "Rejected", ...splits.map((code) => about.splits[code])];
  const lines = [...table].sort((one, other) => other[1].before - one[1].before).map(([code, line]) => {
    const button = el("button", { type: "button", className: "small", textContent: labelOf(code) });
    button.addEventListener("click", () => { filters.class.clear(); filters.class.add(code); panel.hidden = true; apply(); });
    const head = el("th", { scope: "row" }, button);
    return el("tr", {}, head, ...[line.before, line.kept, line.review, line.rejected, ...line.splits].map((value) => el("td", { textContent: number(value) })));
  });
  panel.replaceChildren(el("table", {}, el("caption", { textContent: "Images per class, before and after cleaning" }), el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", textContent: head })))), el("tbody", {}, ...lines)));
  show();
}

function confusion() {
  const panel = byId("confusion");
  byId("open-confusion").hidden = !P;
  if (!P || panel.hidden) { panel.hidden = true; return; }
  const num = P.classes.length, counts = new Float64Array(num * num), truths = new Float64Array(num);
  for (let row = 0; row < about.files; row++) {
    if (P.truth[row] === NONE || (filters.split.size ? !filters.split.has(P.split[row]) : about.splits[P.split[row]] !== "test")) continue;
    counts[P.truth[row] * num + P.predicted[row]]++;
    truths[P.truth[row]]++;
  }
  const press = (truth, predicted) => {
    const same = filters.truth === truth && filters.predicted === predicted;
    filters.truth = same ? null : truth;
    filters.predicted = same ? null : predicted;
    if (!same && !filters.split.size) filters.split.add(about.splits.indexOf("test"));
    byId("sort").value = "sure";
    apply();
    confusion();
  };
  const button = (truth, predicted, words) => {
    const share = counts[truth * num + predicted] / Math.max(1, truths[truth]), one = el("button", { type: "button", textContent: words });
    one.style.setProperty("--cell", truth === predicted ? "#56b4e9" : "#e69f00");
    one.style.setProperty("--tint", `${Math.round(50 * Math.sqrt(share))}%`);
    one.setAttribute("aria-pressed", filters.truth === truth && filters.predicted === predicted);
    one.setAttribute("aria-label", `${counts[truth * num + predicted]} images of ${P.classes[truth]} predicted as ${P.classes[predicted]}`);
    one.addEventListener("click", () => press(truth, predicted));
    return one;
  };
  const where = filters.split.size ? [...filters.split].map((code) => about.splits[code]).join(" and ") : "test";
  if (num <= 24) {
    const head = el("tr", {}, el("td"), ...P.classes.map((name) => el("th", { scope: "col", textContent: name })));
    const lines = P.classes.map((name, truth) => el("tr", {}, el("th", { scope: "row", textContent: name }), ...P.classes.map((_, predicted) =>
      el("td", {}, counts[truth * num + predicted] ? button(truth, predicted, number(counts[truth * num + predicted])) : ""))));
    panel.replaceChildren(el("table", { className: "matrix" }, el("caption", { textContent: `Images of split ${where}: rows are the truth, columns the prediction. Click a number to see its images, most confident first.` }), el("thead", {}, head), el("tbody", {}, ...lines)));
  } else {
    const cells = [...counts.keys()].filter((place) => counts[place] && Math.floor(place / num) !== place % num).sort((one, other) => counts[other] - counts[one]).slice(0, 40);
    panel.replaceChildren(el("p", { className: "note", textContent: `The ${cells.length} largest confusions in split ${where}, truth → prediction.` }), el("div", { className: "chips matrix" }, ...cells.map((place) =>
      button(Math.floor(place / num), place % num, `${P.classes[Math.floor(place / num)]} → ${P.classes[place % num]}: ${counts[place]}`))));
  }
}

async function chooseRun({ keep = false } = {}) {
  P = null;
  filters.truth = filters.predicted = null;
  if (byId("run")?.value) {
    try {
      const { arrays, response } = await block(`/predictions/${runPath()}`);
      P = { ...arrays, classes: JSON.parse(response.headers.get("X-Classes")) };
      P.codes = P.classes.map(codeOf);
    } catch (error) { alarm(error.message); }
  }
  byId("confusion").hidden = !P;
  byId("open-confusion").hidden = !P;
  if (!keep) apply();
  confusion();
}

// ---- the address stores the current view -------------------------------------------------------------------------------

function remember() {
  const query = new URLSearchParams();
  for (const code of filters.verdict) query.append("verdict", about.verdicts[code]);
  for (const code of filters.reason) query.append("reason", typeof code === "number" ? about.reasons[code].name : code);
  for (const code of filters.class) query.append("class", labelOf(code));
  for (const code of filters.split) query.append("split", about.splits[code] ?? "none");
  if (P) query.set("run", byId("run").value);
  if (filters.truth !== null) { query.set("truth", P.classes[filters.truth]); query.set("predicted", P.classes[filters.predicted]); }
  if (byId("sort").value !== byId("sort").options[0].value) query.set("sort", byId("sort").value);
  if (view !== "grid") query.set("view", view);
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
}

async function recall() {
  const query = new URLSearchParams(location.search), codes = (names, wanted) => query.getAll(wanted).map((name) => names.indexOf(name)).filter((code) => code >= 0);
  if (query.get("run") && byId("run")) { byId("run").value = query.get("run"); if (byId("run").value) await chooseRun({ keep: true }); }
  for (const code of codes(about.verdicts, "verdict")) filters.verdict.add(code);
  for (const code of codes(about.reasons.map((each) => each.name), "reason")) filters.reason.add(code);
  for (const name of query.getAll("reason")) if (["decided", "none", "wrong"].includes(name)) filters.reason.add(name);
  for (const code of codes(about.labels, "class")) filters.class.add(code);
  for (const code of codes(about.splits, "split")) filters.split.add(code);
  if (P && query.get("truth")) { const [truth] = codes(P.classes, "truth"), [predicted] = codes(P.classes, "predicted"); if (truth >= 0 && predicted >= 0) { filters.truth = truth; filters.predicted = predicted; } }
  if (query.get("sort") in SORTS) byId("sort").value = query.get("sort");
  if (query.get("view") === "pairs") view = "pairs";
}

// ---- keyboard and mouse ------------------------------------------------------------------------------------------------

const ACTS = {
  keep: () => labelling || decide("keep"), reject: () => labelling || decide("reject"), review: () => labelling || decide("review"), skip: () => labelling && decide("skip"),
  relabel, accept, undo, zoom: () => (byId("zoom").open ? byId("zoom").close() : zoom()),
  pairs: () => { view = view === "pairs" ? "grid" : "pairs"; show(); remember(); }, flip: () => { if (view === "pairs") { if (flipped) { side = 1 - side; } flipped = true; showPair(); } },
  unflip: () => { flipped = !flipped; showPair(); }, heat: () => { if (P) { heat = !heat; if (byId("zoom").open) zoom(); } },
  select: () => { const row = order[at]; if (selected.has(row)) selected.delete(row); else selected.add(row); go(at + 1); },
  all: () => { for (const row of order) selected.add(row); mark(); }, none: () => { selected.clear(); mark(); },
  next: () => (view === "pairs" && !byId("zoom").open ? movePair(1) : go(at + 1)), back: () => (view === "pairs" && !byId("zoom").open ? movePair(-1) : go(at - 1)),
  help: () => byId("help").showModal(),
};
const KEYS = [
  ...(labelling ? [["1 … 9", "assign the class with that number", ""], ["l", "type a class", "relabel"], ["a", "label as predicted", "accept"], ["s", "skip", "skip"]]
    : [["k", "keep", "keep"], ["r", "reject", "reject"], ["v", "set aside for review", "review"], ["l", "relabel: type the class", "relabel"], ["1 … 9", "relabel: the class with that number", ""], ["a", "relabel as suggested", "accept"]]),
  ["z", "undo", "undo"], ["n", "next", "next"], ["b", "previous", "back"], ["x", "select or unselect", "select"], ["Enter", "zoom", "zoom"],
  ["p", "pairs of duplicates, or back to the grid", "pairs"], ["f", "flip between the two images of a pair", "flip"], ["h", "heat-map of the selected run, in the zoom view", "heat"], ["?", "this help", "help"],
];

function press(event) {
  const typing = event.target.matches("input:not([type=checkbox], [type=range]), select, textarea") || byId("relabel").open || byId("help").open || byId("join")?.open;
  if (typing || event.altKey) return;
  if ((event.ctrlKey || event.metaKey) && !["a", "z"].includes(event.key.toLowerCase())) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, controls = event.target.matches("button, a, summary, input");
  if (event.ctrlKey || event.metaKey) { event.preventDefault(); ACTS[key === "a" ? "all" : "undo"](); return; }
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: 4 * columns, PageUp: -4 * columns }[key];
  if (view === "pairs" && !byId("zoom").open && ["ArrowLeft", "ArrowRight"].includes(key)) { side = key === "ArrowRight" ? 1 : 0; showPair(); event.preventDefault(); return; }
  if (view === "pairs" && !byId("zoom").open && ["ArrowUp", "ArrowDown"].includes(key)) { movePair(key === "ArrowDown" ? 1 : -1); event.preventDefault(); return; }
  if (step && !event.target.matches("input")) { go(byId("zoom").open && Math.abs(step) > 1 ? at + Math.sign(step) : at + step, { extend: event.shiftKey }); event.preventDefault(); return; }
  if (key === "Home" || key === "End") { go(key === "Home" ? 0 : order.length - 1, { extend: event.shiftKey }); event.preventDefault(); return; }
  if (key === "Escape") { if (selected.size && !byId("zoom").open) ACTS.none(); return; }
  if (controls && (key === "Enter" || key === " ")) return;
  if (key === " ") { ACTS.select(); event.preventDefault(); return; }
  if (/^[1-9]$/.test(key) && about.labels[Number(key) - 1] !== undefined) { decide("relabel", about.labels[Number(key) - 1]); event.preventDefault(); return; }
  const bound = KEYS.find((each) => each[0] === key && each[2]);
  if (bound) { event.preventDefault(); ACTS[bound[2]](); }
}

function wire() {
  for (const key of Object.keys(SORTS)) {
    if ((key === "useful") !== labelling && (key === "useful" || ["suspicion", "group"].includes(key))) continue;
    byId("sort").append(el("option", { value: key, textContent: SORTS[key][0] }));
  }
  byId("keys").append(...KEYS.map(([key, words]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", { textContent: key.length === 1 ? key.toUpperCase() : key })), el("td", { textContent: words }))),
    el("tr", {}, el("th", { scope: "row" }, el("kbd", { textContent: "Shift + arrows" })), el("td", { textContent: "select several; Ctrl + A selects all" })));
  document.addEventListener("keydown", press);
  for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => ACTS[button.dataset.act]());
  for (const id of ["low", "high"]) byId(id).addEventListener("change", () => apply());
  byId("sort").addEventListener("change", () => apply());
  byId("run")?.addEventListener("change", () => chooseRun());
  byId("size").addEventListener("input", () => { show(); go(at); });
  byId("clear").addEventListener("click", () => { for (const name of ["verdict", "reason", "class", "split"]) filters[name].clear(); filters.truth = filters.predicted = filters.rows = null; byId("low").value = 0; byId("high").value = 100; byId("search").value = ""; apply(); confusion(); });
  byId("search").addEventListener("change", async (event) => {
    const text = event.target.value.trim();
    try { filters.rows = text ? new Set((await ask(`/search?text=${encodeURIComponent(text)}`)).rows) : null; apply(); } catch (error) { alarm(error.message); }
  });
  byId("view-grid").addEventListener("click", () => { view = "grid"; show(); remember(); });
  byId("view-pairs").addEventListener("click", () => { view = "pairs"; show(); remember(); });
  byId("open-classes").addEventListener("click", showClasses);
  byId("open-confusion").addEventListener("click", () => { byId("confusion").hidden = !byId("confusion").hidden; confusion(); show(); });
  byId("open-help").addEventListener("click", ACTS.help);
  byId("zoom-close").addEventListener("click", () => byId("zoom").close());
  byId("zoom-next").addEventListener("click", ACTS.next);
  byId("zoom-back").addEventListener("click", ACTS.back);
  byId("zoom-heat").addEventListener("click", ACTS.heat);
  byId("zoom").addEventListener("close", () => {
    document.querySelector(".stage").append(document.querySelector(".actions"));
    byId(view === "pairs" ? "pair-a" : "grid").focus();
  });
  byId("zoom-image").addEventListener("error", () => { if (heat) { heat = false; alarm("There is no heat-map of this image for this run."); zoom(); } });
  byId("pair-back").addEventListener("click", () => movePair(-1));
  byId("pair-next").addEventListener("click", () => movePair(1));
  byId("flip").addEventListener("click", ACTS.unflip);
  for (const [place, id] of ["pair-a", "pair-b"].entries()) {
    byId(id).addEventListener("click", () => { side = place; showPair(); });
    byId(id).addEventListener("focus", () => { if (side !== place && !flipped) { side = place; showPair(); } });
  }
  const grid = byId("grid");
  grid.addEventListener("scroll", () => requestAnimationFrame(() => draw()), { passive: true });
  grid.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const place = Number(tile.id.slice(5));
    if (event.shiftKey) { go(place, { extend: true }); return; }
    if (event.ctrlKey || event.metaKey || event.target.closest(".check")) { at = place; ACTS.select(); go(place); return; }
    if (place === at && matchMedia("(pointer: coarse)").matches) zoom();
    go(place);
  });
  grid.addEventListener("dblclick", () => zoom());
  new ResizeObserver(() => { if (about && view === "grid") show(); }).observe(grid);
  if (matchMedia("(max-width: 60rem)").matches) byId("rail").open = false;
  window.addEventListener("beforeunload", (event) => { if (pending) event.preventDefault(); });
  if (labelling) wireJoin();
}

function wireJoin() {
  const text = byId("join-text"), command = byId("join-command");
  byId("open-join").addEventListener("click", async () => {
    command.hidden = true;
    byId("join-go").hidden = false;
    try { text.textContent = (await ask("/join")).sentence; } catch (error) { text.textContent = error.message; }
    byId("join").showModal();
  });
  byId("join-close").addEventListener("click", () => byId("join").close());
  byId("join-go").addEventListener("click", async () => {
    byId("join-go").disabled = true;
    text.textContent = "Creating the data set …";
    try {
      const answer = await ask("/join", { version: about.version });
      text.textContent = answer.sentence;
      command.textContent = answer.command;
      command.hidden = false;
      byId("join-go").hidden = true;  // a second press would make a second data set
    } catch (error) { text.textContent = error.message; }
    byId("join-go").disabled = false;
  });
}

async function start() {
  wire();
  try {
    const [names, columns_] = await Promise.all([ask("/about"), block("/arrays")]);
    about = names;
    A = columns_.arrays;
  } catch (error) { byId("summary").textContent = error.message; return; }
  byId("confidence-facet").hidden = !A.confidence.some((value) => !Number.isNaN(value)) && !page.runs?.length;
  await recall();
  apply();
  confusion();
  byId("grid").focus({ preventScroll: true });
  document.documentElement.dataset.ready = "yes";
}

start();
