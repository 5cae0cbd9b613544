"use strict";
// The page that classifies images. Text from data is only set as textContent.

const byId = (id) => document.getElementById(id);
const form = byId("ask");

function report(text, bad = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("bad", bad);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

async function send(files) {
  const pictures = [...files];
  if (!pictures.length) return;
  const path = form.elements.model.value.split("/").map(encodeURIComponent).join("/");
  const run = form.elements.model.value, failures = [];
  report(pictures.length === 1 ? "Classifying …" : `Classifying ${pictures.length} images …`);
  for (const [place, file] of pictures.entries()) {
    const body = new FormData();
    body.append("pictures", file);
    body.append("accuracy", form.elements.accuracy.value);
    try {
      const response = await fetch(`/api/classify/${path}`, { method: "POST", body });
      const content = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(content.error || `The server returned status ${response.status}.`);
      content.answers.forEach((answer) => show(answer, file.name, run));
      report(`${file.name}: ${content.answers[0].label}${place + 1 < pictures.length ? ` (${place + 1} of ${pictures.length})` : ""}`);
    } catch (error) {
      failures.push(`${file.name}: ${error.message}`);
    }
  }
  const named = pictures.length - failures.length;
  if (pictures.length > 1 && !failures.length) report(`${named} images classified.`);
  if (failures.length) report([...(named ? [`${named} of ${pictures.length} images classified.`] : []), ...failures].join("\n"), true);
}

function show(answer, name, run) {
  const item = byId("answer").content.cloneNode(true).firstElementChild;
  item.querySelector("h2").textContent = answer.label;
  item.querySelector(".source").textContent = `${name} · ${run}`;
  const picture = item.querySelector(".picture");
  picture.src = answer.picture;
  picture.alt = `Image ${name}`;
  const heat = item.querySelector(".heat");
  heat.hidden = !answer.heat;
  if (answer.heat) {
    heat.querySelector("img").src = answer.heat;
    heat.querySelector("img").alt = `Heat-map of ${name}: bright regions support ${answer.explained}`;
  }
  const verdict = item.querySelector(".verdict");
  const share = percent(answer.probability);
  verdict.textContent = answer.sure ? `Accepted: ${share}.`
    : answer.threshold === null ? `${share}, but no threshold of this model reaches the target accuracy. Check this image yourself.`
    : `Not accepted: ${share}, below the threshold of ${percent(answer.threshold)}. Check this image yourself.`;
  verdict.classList.toggle("unsure", !answer.sure);
  for (const [label, value] of answer.probabilities) {
    const line = document.createElement("li"), title = document.createElement("span"), bar = document.createElement("i"), number = document.createElement("b");
    title.textContent = title.title = label;
    bar.style.setProperty("--share", `${100 * value}%`);
    number.textContent = percent(value);
    line.append(title, bar, number);
    item.querySelector(".bars").append(line);
  }
  const near = item.querySelector(".near");
  near.hidden = !answer.nearest;
  for (const each of answer.nearest || []) {
    const line = document.createElement("li"), image = document.createElement("img"), words = document.createElement("span");
    if (each.picture) image.src = each.picture;
    image.alt = each.path;
    words.textContent = each.label;
    line.title = each.path;
    line.append(image, words);
    near.querySelector("ul").append(line);
  }
  byId("answers").prepend(item);
}

if (form) {
  const wanted = new URLSearchParams(location.search).get("model");
  if ([...form.elements.model.options].some((option) => option.value === wanted)) form.elements.model.value = wanted;
  for (const id of ["pictures", "camera"]) byId(id).addEventListener("change", (event) => { send(event.target.files).finally(() => { event.target.value = ""; }); });
  document.addEventListener("paste", (event) => send([...event.clipboardData.files].filter((file) => file.type.startsWith("image/"))));
  const drop = byId("drop");
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); send(event.dataTransfer.files); });
}
