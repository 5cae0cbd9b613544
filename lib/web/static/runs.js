"use strict";
// Runs: filters, live progress, learning curves with values under the pointer, differences of selected runs.
// Text from data is only set as textContent.

const byId = (id) => document.getElementById(id);
const el = (name, properties = {}, ...children) => { const node = Object.assign(document.createElement(name), properties); node.append(...children); return node; };
const svg = (name, attributes = {}) => { const node = document.createElementNS("http://www.w3.org/2000/svg", name); for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value); return node; };
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a77bd", "#7a8791"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function filter(input, rows) {
  input?.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.querySelectorAll(rows)) {
      const hit = words.every((word) => row.textContent.toLowerCase().includes(word));
      if (row.tagName === "TR") row.classList.toggle("dimmed", !hit); else row.hidden = !hit;
    }
  });
}

// ---- progress of a running study --------------------------------------------------------------------------------------

const progress = byId("progress");
let finished = null;

async function look() {
  let list;
  try { const answer = await fetch(`/api/runs/${encodeURIComponent(progress.dataset.study)}/progress`); if (!answer.ok) return; list = await answer.json(); } catch { return; }
  const waiting = list.filter((one) => one.state !== "finished"), done = list.length - waiting.length;
  progress.hidden = !waiting.length;
  byId("progress-list").replaceChildren(...waiting.map(line));
  const running = waiting.some((one) => one.state === "running");
  if (running) curves();
  setTimeout(look, running ? 3000 : 10000);  // a running study has moments in which no run is
  if (finished !== null && done > finished) renew();  // shows new rows and the report
  finished = done;
}

function line(one) {
  const parts = [el("span", { className: `state ${one.state}`, textContent: one.state }), el("b", { textContent: one.run })];
  if (one.share !== null && one.state === "running") parts.push(Object.assign(el("meter"), { value: one.share, title: `${Math.round(100 * one.share)} %` }));
  parts.push(el("span", { className: "line", textContent: one.failure || one.line }));
  return el("li", {}, ...parts);
}

async function lookAtAll() {
  let all;
  try { const answer = await fetch("/api/runs/progress"); if (!answer.ok) return; all = await answer.json(); } catch { return; }
  const cards = [...document.querySelectorAll("#studies > li")];
  let working = false;
  for (const card of cards) {
    const now = all[card.dataset.study];
    if (!now) continue;
    working ||= now.running.length > 0;
    card.querySelector(".progress").replaceChildren(...now.running.map(line));
    if (Number(card.dataset.finished) < now.finished) { renew(); return; }
  }
  if (Object.keys(all).length > cards.length) { renew(); return; }
  setTimeout(lookAtAll, working ? 3000 : 10000);
}

// ---- the page again, with its filter and its selected runs ------------------------------------------------------------

const KEPT = `kept ${location.pathname}`;

function renew() {
  const unchosen = [...document.querySelectorAll(".choose")].filter((box) => !box.checked).map((box) => box.ariaLabel);
  const fields = [...document.querySelectorAll("input[type=search], #curve")].map((field) => [field.id, field.value]);
  sessionStorage.setItem(KEPT, JSON.stringify({ unchosen, fields }));
  location.reload();
}

function recall() {
  const { unchosen = [], fields = [] } = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
  sessionStorage.removeItem(KEPT);
  for (const box of document.querySelectorAll(".choose")) if (unchosen.includes(box.ariaLabel)) box.checked = false;
  for (const [id, value] of fields) if (byId(id)) { byId(id).value = value; byId(id).dispatchEvent(new Event("input")); }
}

// ---- learning curves --------------------------------------------------------------------------------------------------

let histories = {};

async function curves() {
  if (!byId("chart")) return;
  try { histories = await (await fetch(`/api/runs/${encodeURIComponent(progress.dataset.study)}/curves`)).json(); } catch { return; }
  draw();
}

const chosen = () => [...document.querySelectorAll("#runs tr[data-run]")].filter((row) => row.querySelector(".choose").checked).map((row) => row.dataset.run);

function shown() {
  const known = new Set([...document.querySelectorAll("#runs tr[data-run]")].map((row) => row.dataset.run)), wanted = new Set(chosen());
  return Object.keys(histories).filter((run) => wanted.has(run) || !known.has(run)).filter((run) => histories[run][byId("curve").value]).slice(0, 24);
}

function draw() {
  const chart = byId("chart"), name = byId("curve").value, runs = shown(), isShare = name.includes("accuracy");
  chart.replaceChildren();
  byId("legend").replaceChildren();
  const width = chart.clientWidth, height = chart.clientHeight, left = 52, right = width - 8, top = 8, bottom = height - 26;
  const lines = runs.map((run, place) => ({ run, place, points: histories[run].epoch.map((epoch, at) => [epoch ?? at + 1, histories[run][name][at]]).filter((point) => point[1] !== null) }));
  const all = lines.flatMap((line) => line.points);
  if (!all.length) { chart.append(el("p", { className: "note", textContent: "No selected run has this curve." })); return; }
  const lastEpoch = Math.max(...all.map((point) => point[0]), 2), values = all.map((point) => point[1]).sort((one, other) => one - other);
  let low = values[0], high = isShare ? values.at(-1) : values[Math.floor(values.length * 0.98)];  // clips the highest 2 %, so that an outlier does not flatten the curves
  if (high - low < 1e-9) { high += 0.5; low -= 0.5; }
  const pad = 0.06 * (high - low); low -= pad; high += pad;
  const x = (epoch) => left + (right - left) * (epoch - 1) / (lastEpoch - 1), y = (value) => bottom - (bottom - top) * (Math.min(high, value) - low) / (high - low);
  const words = (value) => (isShare ? `${(100 * value).toFixed(1)} %` : value.toPrecision(3));
  const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (let tick = 0; tick <= 4; tick++) {
    const value = low + (high - low) * tick / 4, label = svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" });
    label.textContent = words(value);
    canvas.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }), label);
  }
  const step = Math.max(1, Math.ceil(lastEpoch / Math.max(4, Math.floor(width / 80))));
  for (let epoch = 1; epoch <= lastEpoch; epoch += step) { const label = svg("text", { x: x(epoch), y: height - 6, "text-anchor": "middle" }); label.textContent = epoch; canvas.append(label); }
  const stroke = (place) => ({ stroke: COLOURS[place % 8], "stroke-dasharray": DASHES[Math.floor(place / 8) % 4] });
  for (const line of lines) canvas.append(svg("path", { class: "line", ...stroke(line.place), d: line.points.map(([epoch, value], at) => `${at ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`).join("") }));
  const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" }), tip = el("div", { className: "tip", hidden: true });
  canvas.append(cursor);
  chart.append(canvas, tip);
  const point = (epoch) => {
    epoch = Math.max(1, Math.min(lastEpoch, Math.round(epoch)));
    chart.dataset.epoch = epoch;
    for (const name_ of ["x1", "x2"]) cursor.setAttribute(name_, x(epoch));
    cursor.setAttribute("visibility", "visible");
    const here = lines.map((line) => [line, line.points.find((one) => one[0] === epoch)]).filter((one) => one[1]).sort((one, other) => other[1][1] - one[1][1]);
    tip.replaceChildren(el("b", { textContent: `epoch ${epoch}` }), ...here.map(([line, one]) => { const label = el("span", { textContent: line.run.split("/").at(-1) }); label.style.setProperty("--c", COLOURS[line.place % 8]); return el("div", {}, label, el("b", { textContent: words(one[1]) })); }));
    tip.hidden = false;
    const at = x(epoch);
    tip.style.cssText = at > width / 2 ? `right:${width - at + 10}px;top:8px` : `left:${at + 10}px;top:8px`;
    chart.setAttribute("aria-label", tip.textContent);
  };
  chart.onpointermove = (event) => point(1 + (event.clientX - chart.getBoundingClientRect().left - left) / (right - left) * (lastEpoch - 1));
  chart.onpointerleave = () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); };
  chart.onkeydown = (event) => { const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key]; if (move) { point(Number(chart.dataset.epoch || 0) + move); event.preventDefault(); } };
  byId("legend").append(...lines.map((line) => { const label = el("span", { textContent: line.run.split("/").at(-1) }); label.style.setProperty("--c", COLOURS[line.place % 8]); return label; }));
}

async function differences() {
  const runs = chosen(), box = byId("differences");
  box.hidden = runs.length < 2 || runs.length > 8;
  if (box.hidden) return;
  const query = new URLSearchParams(runs.map((run) => ["run", run]));
  let found;
  try { found = await (await fetch(`/api/runs/${encodeURIComponent(progress.dataset.study)}/parameters?${query}`)).json(); } catch { return; }
  const names = Object.keys(found), order = [...runs].sort();
  box.hidden = !names.length;
  box.replaceChildren(el("table", {}, el("caption", { textContent: "Parameters in which the selected runs differ" }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", textContent: "Parameter" }), ...order.map((run) => el("th", { scope: "col", textContent: run.split("/").at(-1) })))),
    el("tbody", {}, ...names.map((name) => el("tr", {}, el("th", { scope: "row", textContent: name }), ...found[name].map((value) => el("td", { textContent: value })))))));
}

filter(byId("filter"), "#studies > li");
filter(byId("filter-runs"), "#runs tbody tr");
recall();
if (!progress) lookAtAll();
if (progress) {
  look();
  curves();
  differences();
  byId("curve")?.addEventListener("change", draw);
  for (const box of document.querySelectorAll(".choose")) box.addEventListener("change", () => { draw(); differences(); });
  if (byId("chart")) new ResizeObserver(() => draw()).observe(byId("chart"));
}
for (const frame of document.querySelectorAll("iframe.report")) {
  const fit = () => { const body = frame.contentDocument?.body; if (body) frame.style.height = `${body.offsetHeight + 20}px`; };  // the page itself is never lower than its frame
  frame.addEventListener("load", () => { fit(); if (frame.contentDocument) new ResizeObserver(fit).observe(frame.contentDocument.body); });
  fit();
}
