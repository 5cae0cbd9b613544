"use strict";
// The map page. Bokeh provides the frame and the mouse, `Cloud` draws the points. This script holds the data of the points, which
// are visible and which are marked. Text from data is only set as textContent.

const about = JSON.parse(document.getElementById("about").textContent);
const api = `/api/maps/${about.id.split("/").map(encodeURIComponent).join("/")}`;
const byId = (id) => document.getElementById(id);
const FLIGHT_MS = 700, SHOWN_AT_ONCE = 60;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const fromAddress = new URLSearchParams(location.hash.slice(1));

const state = {
  method: about.methods[0].name, spaces: [about.spaces[0].name], column: 0, codes: null, hidden: new Set(),
  only: null, marked: new Set(), point: -1, listed: 0, lasso: false, walk: [], step: -1,
};
const plots = [];  // {letter, figure, bokeh, view, element, cloud, ranges, tools, x, y, known, base}
const stored = new Map();

function make(tag, options = {}, ...children) {
  const element = Object.assign(document.createElement(tag), options);
  element.append(...children);
  return element;
}

async function ask(path, options) {
  const response = await fetch(`${api}${path}`, options);
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || `The server returned status ${response.status}.`);
  return response;
}

const post = (path, body, method = "POST") =>
  ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

let telling;
function tell(text, { quietly = false } = {}) {
  const line = byId("message");
  line.textContent = text;
  line.classList.toggle("shown", !quietly);
  clearTimeout(telling);
  telling = setTimeout(() => line.classList.remove("shown"), 4000);
}

const counted = (number) => (number === 1 ? "1 image" : `${number.toLocaleString()} images`);
const areMarked = (number) => `${counted(number)} ${number === 1 ? "is" : "are"} marked.`;
const failed = (error) => tell(error.message);

// ---- points

async function places(space, method) {
  const key = `${space} ${method}`;
  if (!stored.has(key)) {
    const query = new URLSearchParams({ space, method });
    const values = new Float32Array(await (await ask(`/places?${query}`)).arrayBuffer());
    stored.set(key, { x: values.subarray(0, about.points), y: values.subarray(about.points) });
  }
  return stored.get(key);
}

async function codes(index) {
  const key = `column ${index}`;
  if (!stored.has(key)) {
    const content = await (await ask(`/columns/${index}`)).arrayBuffer();
    const numbers = about.columns[index].kind === "numbers";
    stored.set(key, numbers ? new Float32Array(content) : new Uint8Array(content));
  }
  return stored.get(key);
}

function isShown(row) {
  if (state.only && !state.only.has(row)) return false;
  return about.columns[state.column].kind === "numbers" || !state.hidden.has(state.codes[row]);
}

// The colour of each row as 0xBBGGRR.
function colours() {
  const column = about.columns[state.column], numbers = column.kind === "numbers";
  const table = Uint32Array.from([...(numbers ? about.sequence : about.palette.slice(0, column.classes.length)), about.rest], (hex) => {
    const rgb = parseInt(hex.slice(1), 16);
    return (rgb & 255) << 16 | rgb & 0xff00 | rgb >> 16;
  });
  const last = table.length - 1, found = new Uint32Array(about.points);
  for (let row = 0; row < found.length; row++) {
    const code = state.codes[row];
    const place = numbers ? Math.round((code - column.low) / (column.high - column.low) * (last - 1)) : code;
    found[row] = table[place >= 0 && place < last ? place : last];  // NaN gets the last colour
  }
  return found;
}

function paint(plot) {
  plot.cloud.paint(colours());
  filter(plot);
}

// Hidden points have no position, so that neither the drawing nor the lasso includes them.
function filter(plot) {
  const x = Float32Array.from(plot.base.x), y = Float32Array.from(plot.base.y);
  if (state.only || state.hidden.size) {
    for (let row = 0; row < x.length; row++) if (!isShown(row)) x[row] = y[row] = NaN;
  }
  put(plot, x, y);
  walkAnew();
}

function put(plot, x, y) {
  plot.x = x; plot.y = y; plot.known = null;
  plot.cloud.place(x, y);
}

// Points in cells, created when they are first needed.
function grid(plot) { return plot.known ||= new Grid(plot.x, plot.y); }

async function move(plot, space) {
  const target = await places(space, state.method);
  plot.space = space;
  const title = about.methods.find((each) => each.name === state.method);
  const faithful = title.quality && space === about.spaces[0].name
    ? `, keeps ${Math.round(100 * title.quality.preservation)} % of the nearest neighbours` : "";
  byId(`label-${plot.letter}`).textContent = `${about.spaces.find((each) => each.name === space).title}, ${title.title}${faithful}`;
  const from = plot.base && { x: plot.x, y: plot.y };
  plot.base = target;
  if (!from || still.matches) { paint(plot); return point(state.point, { quietly: true }); }
  await fly(plot, from, target);
  paint(plot);
  point(state.point, { quietly: true });
}

function fly(plot, from, to) {
  const began = performance.now(), x = new Float32Array(about.points), y = new Float32Array(about.points);
  plot.cloud.ring(-1);
  unhover();
  return new Promise((done) => {
    requestAnimationFrame(function frame(now) {
      const t = Math.min(1, Math.max(0, now - began) / FLIGHT_MS), share = t * t * (3 - 2 * t);
      for (let row = 0; row < x.length; row++) {
        x[row] = from.x[row] + (to.x[row] - from.x[row]) * share;
        y[row] = from.y[row] + (to.y[row] - from.y[row]) * share;
      }
      put(plot, x, y);
      if (t < 1) requestAnimationFrame(frame); else done();
    });
  });
}

// ---- the frame: equal scale on both axes, whatever the window's shape

function frame(plot, cx = 0.5, cy = 0.5, span = 1.1) {
  const { clientWidth: width, clientHeight: height } = plot.element, least = Math.max(1, Math.min(width, height));
  const dx = span / 2 * width / least, dy = span / 2 * height / least;
  plot.ranges.x.setv({ start: cx - dx, end: cx + dx });
  plot.ranges.y.setv({ start: cy - dy, end: cy + dy });
}

// Bokeh does not draw its empty frame while the map moves.
function hold(plot) {
  plot.figure.hold_render = true;
  clearTimeout(plot.held);
  plot.held = setTimeout(() => { plot.figure.hold_render = false; }, 150);
}

function seen(plot) {
  const { x, y } = plot.ranges;
  const span = Math.min(x.end - x.start, y.end - y.start);
  return { cx: (x.start + x.end) / 2, cy: (y.start + y.end) / 2, span, left: x.start, right: x.end, bottom: y.start, top: y.end };
}

function placeOf(plot, event) {
  const box = plot.element.getBoundingClientRect(), { x, y } = plot.ranges;
  const px = event.clientX - box.left, py = event.clientY - box.top;
  return { x: x.start + px / box.width * (x.end - x.start), y: y.end - py / box.height * (y.end - y.start), px, py,
           reach: 9 * (x.end - x.start) / box.width };
}

// ---- legend

function legend() {
  const column = about.columns[state.column], list = byId("legend");
  list.replaceChildren();
  if (column.kind === "numbers") {
    const ramp = make("div", { className: "ramp" });
    ramp.style.background = `linear-gradient(90deg, ${about.sequence.join(",")})`;
    const ends = make("div", { className: "ends" }, make("span", { textContent: column.low }), make("span", { textContent: column.high }));
    list.append(make("li", {}, ramp, ends), ...rest("no number", (code) => code !== code));
    return;
  }
  column.classes.forEach((name, code) => {
    const dot = make("i");
    dot.style.background = about.palette[code] || about.rest;
    const button = make("button", { type: "button", title: name }, dot, make("span", { textContent: name }),
                        make("em", { textContent: column.counts[code].toLocaleString() }));
    button.setAttribute("aria-pressed", String(!state.hidden.has(code)));
    button.addEventListener("click", (event) => toggle(code, event.altKey || event.shiftKey));
    list.append(make("li", {}, button));
  });
  list.append(...rest("none of these", (code) => code >= column.classes.length));
}

// The line for grey points, if there are any.
function rest(title, is) {
  const count = state.codes.reduce((sum, code) => sum + is(code), 0);
  if (!count) return [];
  const dot = make("i"), number = make("em", { textContent: count.toLocaleString() });
  dot.style.background = about.rest;
  return [make("li", { className: "rest" }, dot, make("span", { textContent: title }), number)];
}

// A click hides one class; Shift-click shows only that class.
function toggle(code, alone) {
  const all = [...about.columns[state.column].classes.keys(), 255];
  if (alone) state.hidden = new Set(all.filter((other) => other !== code));
  else if (!state.hidden.delete(code)) state.hidden.add(code);
  document.querySelectorAll("#legend button").forEach((button, other) => button.setAttribute("aria-pressed", String(!state.hidden.has(other))));
  plots.forEach((plot) => plot.base && filter(plot));
  const hidden = all.filter((other) => state.hidden.has(other)).length;
  tell(hidden ? `${hidden} of ${all.length - 1} classes are hidden.` : "All classes are shown.", { quietly: true });
}

async function colour(index) {
  state.codes = await codes(index);
  state.column = index;
  state.hidden = new Set();
  byId("colour").value = String(index);
  legend();
  plots.forEach((plot) => plot.base && paint(plot));
  if (state.marked.size) shares();
  remember();
}

// ---- one point

function pictureOf(row, large) { return `${api}/thumbnails/${row}${large ? "?large" : ""}`; }

const words = new Map();
async function describe(rows) {
  const missing = rows.filter((row) => !words.has(row));
  if (missing.length) for (const each of await (await post("/points", { rows: missing })).json()) words.set(each.row, each);
  return rows.map((row) => words.get(row));
}

const nameOf = (path) => path.split("/").pop();

let hovered = -1, asked;
function hover(plot, event) {
  const at = placeOf(plot, event), row = plot.x ? grid(plot).nearest(at.x, at.y, at.reach) : -1, box = byId("hover");
  if (row < 0) return unhover();
  const width = byId("stage").clientWidth, left = at.px + plot.element.parentElement.offsetLeft;
  box.style.left = `${left + 210 > width ? left - 200 : left + 16}px`;
  box.style.top = `${Math.min(at.py, Math.max(0, byId("stage").clientHeight - 250))}px`;
  if (row === hovered) return;
  hovered = row;
  clearTimeout(asked);
  asked = setTimeout(async () => {
    const [each] = await describe([row]).catch(() => [null]);
    if (!each || hovered !== row) return;  // the mouse has moved on, or is dragging
    const image = box.querySelector("img");
    image.src = pictureOf(row);
    image.alt = each.path;
    box.querySelector("p").textContent = [nameOf(each.path), ...each.words.map(([title, word]) => `${title}: ${word}`)].join("\n");
    box.hidden = false;
  }, 40);
}

// The point under the mouse has changed: hides its image, and cancels a pending one.
function unhover() {
  hovered = -1;
  clearTimeout(asked);
  byId("hover").hidden = true;
}

async function point(row, { quietly = false, seek = false } = {}) {
  state.point = row;
  for (const plot of plots) {
    const there = row >= 0 && plot.base && plot.x && !Number.isNaN(plot.x[row]);
    plot.cloud.ring(there ? row : -1);
  }
  byId("point").hidden = row < 0;
  if (row < 0 || quietly) return;
  const [each] = await describe([row]);
  if (state.point !== row) return;
  const list = make("dl");
  each.words.forEach(([title, word]) => list.append(make("dt", { textContent: title }), make("dd", { textContent: word })));
  const mark = make("button", { type: "button", className: "small", textContent: state.marked.has(row) ? "Unmark" : "Mark" });
  mark.addEventListener("click", () => { flip(row); mark.textContent = state.marked.has(row) ? "Unmark" : "Mark"; });
  const near = make("button", { type: "button", className: "small", textContent: "Nearest images" });
  near.addEventListener("click", () => nearest(row).catch(failed));
  byId("point-body").replaceChildren(
    make("img", { className: "large", src: pictureOf(row, true), alt: each.path }), make("p", { className: "note", textContent: each.path }),
    list, make("div", { className: "row" }, near, mark), make("ul", { className: "thumbs", id: "near" }));
  if (seek) into(byId("point"));
  tell(`${nameOf(each.path)}: ${each.words.map(([title, word]) => `${title} ${word}`).join(", ")}`, { quietly: true });
}

// Scrolls the side bar, never the page, until the top of a section is visible.
function into(section) {
  const beside = section.closest("aside"), box = beside.getBoundingClientRect(), top = section.getBoundingClientRect().top;
  if (top < box.top || top > box.bottom - 160) beside.scrollTop += top - box.top;
}

async function nearest(row) {
  const found = await (await ask(`/nearest/${row}?space=${encodeURIComponent(plots[0].space)}`)).json();
  found.forEach((each) => words.set(each.row, each));
  byId("near").replaceChildren(...found.map((each) => thumb(each)));
  tell(`The ${found.length} nearest images in the feature space.`, { quietly: true });
}

function thumb(each) {
  const said = each.words.length ? each.words[0][1] : nameOf(each.path);
  const button = make("button", { type: "button", title: each.path }, make("img", { loading: "lazy", src: pictureOf(each.row), alt: each.path }),
                      make("span", { textContent: said }));
  button.addEventListener("click", () => point(each.row).catch(failed));
  return make("li", {}, button);
}

// ---- selection

function mark(rows) {
  state.marked = new Set(rows);
  plots.forEach((plot) => plot.cloud.mark(state.marked));
  state.listed = 0;
  byId("chosen").replaceChildren();
  byId("chosen-count").textContent = state.marked.size ? areMarked(state.marked.size)
    : "No image is marked. Draw a lasso, search, or press space on a point.";
  byId("acts").hidden = !state.marked.size;
  shares();
  list().catch(failed);
  tell(areMarked(state.marked.size), { quietly: true });
}

// The points inside a lasso, by the ray-crossing rule. Shift adds to the marked points, Ctrl intersects with them, both subtract.
function caught(plot, xs, ys) {
  const found = [], left = Math.min(...xs), right = Math.max(...xs), bottom = Math.min(...ys), top = Math.max(...ys);
  grid(plot).each(left, right, bottom, top, (row) => {
    const x = plot.x[row], y = plot.y[row];
    if (x < left || x > right || y < bottom || y > top) return;
    let inside = false;
    for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
      if (ys[i] > y !== ys[j] > y && x < (xs[j] - xs[i]) * (y - ys[i]) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
    }
    if (inside) found.push(row);
  });
  return found.sort((one, other) => one - other);
}

function lasso(plot, xs, ys) {
  const rows = caught(plot, Float64Array.from(xs), Float64Array.from(ys)), { shift = false, ctrl = false } = plot.keys;
  if (!shift && !ctrl) return mark(rows);
  if (shift && !ctrl) return mark([...state.marked, ...rows]);
  const those = new Set(rows);
  mark([...state.marked].filter((row) => those.has(row) !== (shift && ctrl)));
}

function flip(row) {
  const marked = new Set(state.marked);
  if (!marked.delete(row)) marked.add(row);
  mark(marked);
}

function shares() {
  const column = about.columns[state.column], counts = new Map();
  if (column.kind === "classes") for (const row of state.marked) counts.set(state.codes[row], (counts.get(state.codes[row]) || 0) + 1);
  const first = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 6);
  byId("chosen-shares").replaceChildren(...first.map(([code, count]) => {
    const bar = make("i");
    bar.style.width = `${100 * count / state.marked.size}%`;
    return make("li", {}, bar, make("span", { textContent: code === 255 ? "none of these" : column.classes[code] }),
                make("span", { textContent: `${Math.round(100 * count / state.marked.size)} %` }));
  }));
}

async function list() {
  const rows = [...state.marked].slice(state.listed, state.listed + SHOWN_AT_ONCE), marked = state.marked;
  byId("more").hidden = true;
  if (!rows.length) return;
  const found = await describe(rows);
  if (marked !== state.marked) return;
  byId("chosen").append(...found.map(thumb));
  state.listed += rows.length;
  byId("more").hidden = state.listed >= state.marked.size;
}

async function kept() {
  const found = await (await ask("/selections")).json();
  byId("kept").replaceChildren(...found.map((each) => {
    const open = make("button", { type: "button", className: "small", textContent: `${each.name} (${each.rows.length.toLocaleString()})` });
    open.addEventListener("click", () => mark(each.rows));
    const away = make("button", { type: "button", className: "small", textContent: "×", title: `Delete ${each.name}` });
    away.setAttribute("aria-label", `Delete the selection ${each.name}`);
    away.addEventListener("click", () => post("/selections", { name: each.name }, "DELETE").then(kept).catch(failed));
    return make("li", {}, open, away);
  }));
  if (!found.length) byId("kept").append(make("li", { className: "note", textContent: "None yet." }));
}

async function csv() {
  const content = await (await post("/csv", { rows: [...state.marked] })).blob();
  const link = make("a", { href: URL.createObjectURL(content), download: "selection.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function judge(form) {
  const action = form.action.value, body = { rows: [...state.marked], action };
  const fields = new FormData(form);
  body.action = fields.get("action");
  if (body.action === "relabel") body.label = fields.get("label");
  const done = await (await post("/ledger", body)).json();
  byId("undo").hidden = false;
  tell(`${counted(done.files)} sent to the ledger. Runs started from now on use it; this map does not change.`);
}

// ---- keyboard

function walkAnew() { state.walk = []; state.step = -1; }

function walk(by) {
  const plot = plots[0];
  if (!state.walk.length) {
    const view = seen(plot), rows = [];
    grid(plot).each(view.left, view.right, view.bottom, view.top, (row) => {
      if (plot.x[row] >= view.left && plot.x[row] <= view.right && plot.y[row] >= view.bottom && plot.y[row] <= view.top) rows.push(row);
    });
    const far = (row) => (plot.x[row] - view.cx) ** 2 + (plot.y[row] - view.cy) ** 2;
    state.walk = rows.map((row) => [far(row), row]).sort((one, other) => one[0] - other[0]).map((each) => each[1]);
  }
  if (!state.walk.length) return tell("There are no points in view.");
  state.step = (state.step + by + state.walk.length) % state.walk.length;
  point(state.walk[state.step], { seek: true }).catch(failed);
}

function pan(dx, dy, zoom) {
  for (const plot of plots.filter((each) => each.base)) {
    const view = seen(plot);
    frame(plot, view.cx + dx * view.span, view.cy + dy * view.span, view.span * zoom);
  }
  walkAnew();
}

const KEYS = {
  ArrowLeft: () => pan(-0.15, 0, 1), ArrowRight: () => pan(0.15, 0, 1), ArrowUp: () => pan(0, 0.15, 1), ArrowDown: () => pan(0, -0.15, 1),
  "+": () => pan(0, 0, 0.8), "=": () => pan(0, 0, 0.8), "-": () => pan(0, 0, 1.25),
  "0": () => { plots.forEach((plot) => frame(plot)); walkAnew(); },
  n: () => walk(1), p: () => walk(-1),
  Enter: () => state.point >= 0 && nearest(state.point).catch(failed), " ": () => state.point >= 0 && flip(state.point),
  s: () => { state.walk = []; walk(1); mark(state.walk); },
  Escape: () => { mark([]); point(-1); }, c: () => colour((state.column + 1) % about.columns.length).catch(failed),
  b: () => about.spaces.length > 1 && show(state.spaces.length > 1 ? [about.spaces[0].name] : about.spaces.map((each) => each.name)),
  l: () => drag(!state.lasso), "/": () => byId("search").text.focus(), "?": () => byId("keys").showModal(),
};

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select, dialog, textarea");
  const number = Number(event.key);
  if (typing || (event.target.closest("button, a") && ["Enter", " "].includes(event.key))) return;
  if (number >= 1 && number <= about.methods.length) { event.preventDefault(); return method(about.methods[number - 1].name); }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const inside = event.target.closest(".plot");
  if (!KEYS[key] || (!inside && (key.startsWith("Arrow") || key === " "))) return;
  event.preventDefault();
  KEYS[key]();
}

// ---- controls

function choice(parent, values, chosen, act) {
  values.forEach(([value, title]) => {
    const button = make("button", { type: "button", textContent: title });
    button.dataset.value = value;
    button.addEventListener("click", () => act(value));
    parent.append(button);
  });
  press1(parent, chosen);
}

function press1(parent, chosen) {
  parent.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.value === chosen)));
}

async function method(name) {
  state.method = name;
  press1(byId("methods"), name);
  await Promise.all(plots.filter((plot) => plot.space).map((plot) => move(plot, plot.space))).catch(failed);
  tell(about.methods.find((each) => each.name === name).title, { quietly: true });
  remember();
}

async function show(spaces) {
  state.spaces = spaces;
  press1(byId("spaces"), spaces.length > 1 ? "both" : spaces[0]);
  const second = spaces.length > 1;
  byId("plot-b").hidden = !second;
  const views = plots.map(seen);
  if (second && plots.length < 2) await open("b", 1);
  plots.forEach((plot, place) => views[place] && frame(plot, views[place].cx, views[place].cy, views[place].span));
  if (plots[1]) plots[1].space = second ? spaces[1] : undefined;
  await Promise.all(spaces.map((space, place) => move(plots[place], space))).catch(failed);
  if (second) plots[1].cloud.mark(state.marked);
  remember();
}

function drag(lasso) {
  state.lasso = lasso;
  for (const plot of plots) {
    plot.tools.pan.active = !lasso; plot.tools.lasso.active = lasso;
    plot.bokeh.style.opacity = lasso ? 1 : 0;  // hidden, so that it is not composited over the points at every frame
  }
  document.querySelectorAll("[data-drag]").forEach((button) => button.setAttribute("aria-pressed", String((button.dataset.drag === "lasso") === lasso)));
}

function remember() {
  const query = new URLSearchParams({ method: state.method, spaces: state.spaces.join(","), colour: about.columns[state.column].name });
  if (fromAddress.has("drawn")) query.set("drawn", fromAddress.get("drawn"));
  history.replaceState(null, "", `#${query}`);
}

async function open(letter, place) {
  const id = `map-${letter}`, element = byId(id);
  const views = await Bokeh.embed.embed_item(about.items[place], id);
  const document_ = Bokeh.documents[Bokeh.documents.length - 1];
  const model = (name) => document_.get_model_by_name(`${id}-${name}`);
  const figure = model("plot");
  const ranges = { x: figure.x_range, y: figure.y_range };
  const plot = { letter, element, figure, bokeh: element.firstElementChild, view: views.get(figure), ranges, keys: {},
                 tools: { pan: model("pan"), lasso: model("lasso") } };
  plot.cloud = new Cloud(element, { size: about.size, view: () => seen(plot), drawn: fromAddress.get("drawn") });
  plots.push(plot);
  drag(state.lasso);
  frame(plot);
  for (const range of [ranges.x, ranges.y]) range.change.connect(() => { plot.cloud.draw(); hold(plot); });
  new ResizeObserver(() => { const view = seen(plot); frame(plot, view.cx, view.cy, view.span); plot.cloud.draw(); }).observe(element);
  figure.on_event("selectiongeometry", ({ geometry, final }) => final && lasso(plot, geometry.x, geometry.y));
  document_.event_manager.subscribed_models.add(figure);
  const holder = byId(`plot-${letter}`);
  let down;
  holder.addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; holder.focus({ preventScroll: true }); }, true);
  holder.addEventListener("pointermove", (event) => (event.buttons ? unhover() : hover(plot, event)));
  for (const name of ["pointerdown", "pointerleave", "wheel"]) holder.addEventListener(name, unhover, { capture: true, passive: true });
  holder.addEventListener("pointerup", (event) => {
    plot.keys = { shift: event.shiftKey, ctrl: event.ctrlKey };
    if (!down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > 4) { walkAnew(); return; }
    const at = placeOf(plot, event), row = plot.x ? grid(plot).nearest(at.x, at.y, at.reach) : -1;
    if (row >= 0) point(row, { seek: true }).catch(failed);
  }, true);
  return plot;
}

function controls() {
  choice(byId("methods"), about.methods.map((each) => [each.name, each.title.replace("PCA to 30, then ", "PCA → ")]), state.method, method);
  const spaces = about.spaces.map((each) => [each.name, each.title]);
  if (spaces.length > 1) spaces.push(["both", "side by side"]);
  choice(byId("spaces"), spaces, state.spaces[0], (value) => show(value === "both" ? about.spaces.map((each) => each.name) : [value]));
  byId("colour").append(...about.columns.map((each, index) => make("option", { value: index, textContent: each.title })));
  const labels = about.columns.find((each) => each.name === "label");
  byId("labels").append(...(labels?.classes || []).map((value) => make("option", { value })));
  byId("colour").addEventListener("change", (event) => colour(Number(event.target.value)).catch(failed));
  document.querySelectorAll("[data-drag]").forEach((button) => button.addEventListener("click", () => drag(button.dataset.drag === "lasso")));
  byId("all").addEventListener("click", () => { state.only = null; state.hidden = new Set(); legend(); plots.forEach((plot) => plot.base && filter(plot)); });
  byId("none").addEventListener("click", () => mark([]));
  byId("more").addEventListener("click", () => list().catch(failed));
  byId("view").addEventListener("click", () => { state.only = new Set(state.marked); plots.forEach((plot) => plot.base && filter(plot)); tell("Click “All” in the legend to show everything again."); });
  byId("csv").addEventListener("click", () => csv().catch(failed));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  byId("search").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { rows } = await (await ask(`/search?${new URLSearchParams({ text: event.target.text.value })}`)).json();
      mark(rows);
      tell(rows.length ? `${counted(rows.length)} found and marked.` : "No image matches.");
      if (rows.length === 1) point(rows[0]).catch(failed);
    } catch (error) { failed(error); }
  });
  byId("keep").addEventListener("submit", (event) => {
    event.preventDefault();
    post("/selections", { name: event.target.elements.name.value, rows: [...state.marked] })
      .then(() => { event.target.reset(); tell("The selection is saved."); return kept(); }).catch(failed);
  });
  byId("judge").elements.action.addEventListener("change", (event) => { byId("relabel").hidden = event.target.value !== "relabel"; });
  byId("judge").addEventListener("submit", (event) => { event.preventDefault(); judge(event.target).catch(failed); });
  byId("undo").addEventListener("click", () => post("/ledger/undo", {}).then(() => { byId("undo").hidden = true; tell("The last action was undone."); }).catch(failed));
  document.addEventListener("keydown", press);
}

async function begin() {
  if (about.methods.some((each) => each.name === fromAddress.get("method"))) state.method = fromAddress.get("method");
  const wanted = (fromAddress.get("spaces") || "").split(",").filter((name) => about.spaces.some((each) => each.name === name));
  const column = about.columns.findIndex((each) => each.name === (fromAddress.get("colour") || about.target));
  controls();
  state.codes = await codes(Math.max(0, column));
  state.column = Math.max(0, column);
  byId("colour").value = String(state.column);
  await open("a", 0);
  legend();
  await show(wanted.length ? [...new Set(wanted)] : state.spaces);
  byId("waiting").hidden = true;
  document.documentElement.dataset.ready = "yes";
  kept().catch(failed);
}

begin().catch((error) => { byId("waiting").textContent = error.message; });
