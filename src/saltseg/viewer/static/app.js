import { draw, maskPicture } from "./drawing.js";
import { count, postprocess, scores } from "./postprocess.js";
import { ask, askProgress, askState } from "./server.js";

const $ = (id) => document.getElementById(id);
const HALF = { threshold: 128, hysteresis_high: 0, min_area: 0, fill_holes: false };
const MAX_CANVAS = 32e6; // pixels of the picture

let state; // what the server has
let item; // what is shown
let mask; // its salt
let parameters = { ...HALF };
let zoom = 1;
let source = null; // "image", "tiles" or "survey"
let direction; // of the survey
let opacity = 50; // before P switched the probability off
const position = {}; // of the slice in each direction

/** `ask`, with its error as a message: an item or null. */
async function asked(url, options) {
  try {
    return await ask(url, options);
  } catch (error) {
    say(error.message, true);
    return null;
  }
}

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

// ---------------------------------------------------------------- what is shown

function show(found, from) {
  if (!found) return;
  const fits = !item || item.height !== found.height || item.width !== found.width;
  item = found;
  source = from;
  if (from !== "tiles") $("list").selectedIndex = -1; // so that the same tile can be chosen again
  say("");
  $("readout").textContent = "";
  $("title").textContent = item.title;
  $("canvas").hidden = false;
  $("open-mask").disabled = from !== "image";
  for (const name of ["save-mask", "save-picture"]) $(name).disabled = false;
  for (const name of ["truth", "stored"]) $(`${name}-label`).hidden = !item.layers[name];
  if (fits) zoom = fittingZoom();
  update();
}

/** New parameters or another item: mask, scores and picture at the next frame, once. */
let scheduled = false;
function update() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (!item) return;
    mask = postprocess(item.layers.probability, item.height, item.width, parameters);
    showScores();
    redraw();
  });
}

function redraw() {
  if (!item) return;
  const style = getComputedStyle(document.documentElement);
  const outlines = [
    ["stored", item.layers.stored, 5],
    ["truth", item.layers.truth, 4],
    ["mask", mask, 2],
  ]
    .filter(([name, layer]) => layer && $(`show-${name}`).checked)
    .map(([name, layer, width]) => ({ mask: layer, color: style.getPropertyValue(`--${name}`), width }));
  draw($("canvas"), item, zoom, $("opacity").value / 100, outlines);
  $("opacity-share").textContent = `${$("opacity").value} %`;
  $("zoom").textContent = `${zoom}×`;
}

function showScores() {
  const salt = count(mask);
  $("salt").textContent = `${((100 * salt) / mask.length).toFixed(2)} %`;
  $("pixels").textContent = salt.toLocaleString("en");
  const truth = item.layers.truth;
  for (const row of document.querySelectorAll(".scored")) row.hidden = !truth;
  $("unscored").hidden = Boolean(truth);
  if (!truth) return;
  const found = scores(mask, truth);
  for (const name of ["precision", "recall", "iou"]) $(name).textContent = found[name].toFixed(4);
  $("ap").textContent = found.score.toFixed(1);
}

function fittingZoom() {
  const frame = $("frame");
  const fits = Math.min((frame.clientWidth - 8) / item.width, (frame.clientHeight - 8) / item.height);
  return Math.max(1, Math.min(Math.floor(fits), largestZoom()));
}

function largestZoom() {
  return Math.max(1, Math.min(16, Math.floor(Math.sqrt(MAX_CANVAS / (item.height * item.width)))));
}

function setZoom(value) {
  if (!item) return;
  zoom = Math.max(1, Math.min(value, largestZoom()));
  redraw();
}

function readOut(event) {
  const x = Math.floor(event.offsetX / zoom);
  const y = Math.floor(event.offsetY / zoom);
  if (!item || x < 0 || y < 0 || x >= item.width || y >= item.height) return;
  const at = y * item.width + x;
  const place = (axis, k) => `${axis.name} ${+(axis.first + k * axis.step).toFixed(3)}`;
  const probability = item.layers.probability[at];
  $("readout").textContent =
    `${place(item.x, x)}, ${place(item.y, y)}: gray ${item.layers.image[at]}, ` +
    `probability ${(probability / 255).toFixed(3)} (${probability}/255)`;
}

// ---------------------------------------------------------------- post-processing

const PAIRS = { threshold: "threshold", hysteresis: "hysteresis_high", area: "min_area" };

function showParameters() {
  for (const [id, key] of Object.entries(PAIRS)) {
    $(id).value = $(`${id}-number`).value = parameters[key];
  }
  $("holes").checked = parameters.fill_holes;
  $("threshold-share").textContent = (parameters.threshold / 255).toFixed(3);
  const high = parameters.hysteresis_high;
  $("hysteresis-share").textContent = high > parameters.threshold ? (high / 255).toFixed(3) : "off";
  $("area-share").textContent = "px";
}

function setParameters(changes) {
  parameters = { ...parameters, ...changes };
  showParameters();
  update();
}

/** A typed number, if it is one that fits. */
function typed(input) {
  const value = input.valueAsNumber;
  return Number.isInteger(value) && value >= +input.min && value <= +input.max ? value : null;
}

// ---------------------------------------------------------------- images, tiles, slices

/** Of the upload under way, which asks for its progress; null without one. */
let timer = null;
async function upload(file, kind) {
  if (kind === "mask" && source !== "image") return;
  if (file.size > state.max_bytes) {
    say(`${file.name} is larger than ${state.max_bytes / 1e6} MB; cut it into parts, or use saltseg predict`, true);
    return;
  }
  say(`reading ${file.name} …`);
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    say(`${file.name} cannot be read; is it a folder?`, true);
    return;
  }
  clearInterval(timer);
  const mine = (timer = setInterval(() => showProgress(mine), 500));
  try {
    const found = await asked(`/api/${kind}`, { method: "PUT", body: file });
    stop(mine);
    if (found && kind === "image") {
      show({ ...found, title: file.name, name: file.name.replace(/\.[^.]*$/, "") }, "image");
    } else if (found) {
      addTruth(found, file.name);
    }
  } finally {
    stop(mine);
  }
}

function stop(mine) {
  clearInterval(mine);
  if (timer === mine) timer = null;
}

async function showProgress(mine) {
  const { done, total, seconds_left: left } = await askProgress();
  if (total && timer === mine) say(`predicting: window ${done} of ${total}${left === null ? "" : `, ${Math.ceil(left)} s left`}`);
}

function addTruth(found, name) {
  if (found.height !== item.height || found.width !== item.width) {
    say(`${name} has ${found.height}x${found.width} pixels, the image has ${item.height}x${item.width}`, true);
    return;
  }
  show({ ...item, layers: { ...item.layers, ...found.layers } }, "image");
}

async function loadTile() {
  const option = $("list").selectedOptions[0];
  if (option) show(await asked(`/api/tiles/${option.value}`), "tiles");
}

/** One slice at a time: while it is read, the slider may move on. */
let slicing = false;
let again = false;
async function loadSlice() {
  const here = state.directions.find((one) => one.key === direction);
  $("slice").max = here.numbers.length - 1;
  $("slice").value = position[direction];
  $("slice-number").textContent = `${+here.numbers[position[direction]].toFixed(3)} ${here.unit}`;
  for (const button of $("directions").children) {
    button.setAttribute("aria-pressed", button.value === direction);
  }
  again = true;
  if (slicing) return;
  slicing = true;
  while (again) {
    again = false;
    show(await asked(`/api/slices/${direction}/${position[direction]}`), "survey");
  }
  slicing = false;
}

function step(by) {
  if (source === "survey" || !state.groups.length) {
    if (!direction) return;
    const last = state.directions.find((one) => one.key === direction).numbers.length - 1;
    position[direction] = Math.max(0, Math.min(last, position[direction] + by));
    loadSlice();
  } else {
    const list = $("list");
    list.selectedIndex = Math.max(0, Math.min(list.length - 1, list.selectedIndex + by));
    loadTile();
  }
}

// ---------------------------------------------------------------- saving

function save(canvas, name) {
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, "image/png");
}

// ---------------------------------------------------------------- controls

function toggle(id) {
  if ($(`${id}-label`)?.hidden) return;
  const box = $(`show-${id}`);
  box.checked = !box.checked;
  redraw();
}

function toggleProbability() {
  const slider = $("opacity");
  if (+slider.value) opacity = slider.value;
  slider.value = +slider.value ? 0 : opacity;
  redraw();
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

function toggleHelp() {
  $("help").hidden = !$("help").hidden;
  $("help-button").setAttribute("aria-expanded", !$("help").hidden);
}

const KEYS = {
  "[": () => step(-1),
  "]": () => step(1),
  "+": () => setZoom(zoom + 1),
  "=": () => setZoom(zoom + 1),
  "-": () => setZoom(zoom - 1),
  0: () => item && setZoom(fittingZoom()),
  o: () => state.predicts && $("file").click(),
  m: () => toggle("mask"),
  t: () => toggle("truth"),
  s: () => toggle("stored"),
  p: toggleProbability,
  r: () => setParameters(state.postprocessing),
  h: () => setParameters(HALF),
  d: toggleTheme,
  "?": toggleHelp,
  Escape: () => $("help").hidden || toggleHelp(),
};

function onKey(event) {
  const typing = event.target.matches("select, input[type=number]");
  if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key.length === 1 && !"[]".includes(event.key))) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function onDrop(event) {
  event.preventDefault();
  $("frame").classList.remove("drop");
  const file = event.dataTransfer.files[0];
  if (!file) return;
  if (state.predicts) upload(file, "image");
  else say("nothing here predicts an image; start saltseg view with a run or a model", true);
}

function connect() {
  for (const [id, key] of Object.entries(PAIRS)) {
    $(id).addEventListener("input", () => setParameters({ [key]: $(id).valueAsNumber }));
    const number = $(`${id}-number`);
    number.addEventListener("input", () => {
      const value = typed(number);
      if (value !== null) setParameters({ [key]: value });
    });
    number.addEventListener("change", showParameters);
  }
  $("holes").addEventListener("change", () => setParameters({ fill_holes: $("holes").checked }));
  for (const id of ["opacity", "show-mask", "show-truth", "show-stored"]) $(id).addEventListener("input", redraw);
  const clicks = {
    tuned: KEYS.r, half: KEYS.h, theme: toggleTheme, "help-button": toggleHelp, previous: KEYS["["], next: KEYS["]"],
    in: KEYS["+"], out: KEYS["-"], open: KEYS.o, "open-mask": () => $("mask-file").click(),
    "save-mask": () => save(maskPicture(mask, item.height, item.width), `${item.name}_mask.png`),
    "save-picture": () => save($("canvas"), `${item.name}_picture.png`),
  }; // prettier-ignore
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  for (const [id, kind] of [["file", "image"], ["mask-file", "mask"]]) {
    $(id).addEventListener("change", () => {
      if ($(id).files[0]) upload($(id).files[0], kind);
      $(id).value = ""; // so that the same file can be chosen again
    });
  }
  $("list").addEventListener("change", loadTile);
  $("slice").addEventListener("input", () => {
    position[direction] = $("slice").valueAsNumber;
    loadSlice();
  });
  $("canvas").addEventListener("mousemove", readOut);
  document.addEventListener("keydown", onKey);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("frame").classList.add("drop");
  });
  document.addEventListener("dragleave", () => $("frame").classList.remove("drop"));
  document.addEventListener("drop", onDrop);
}

function fill() {
  $("name").textContent = [state.name, state.survey].filter(Boolean).join(" · ");
  $("images").hidden = !state.predicts;
  $("tiles").hidden = !state.groups.length;
  $("survey").hidden = !state.directions.length;
  $("survey-name").textContent = state.survey;
  $("notes").replaceChildren(...state.notes.map((note) => element("li", { textContent: note })));
  for (const { title, tiles } of state.groups) {
    const group = element("optgroup", { label: title });
    group.append(...tiles.map(([index, text]) => element("option", { value: index, textContent: text })));
    $("list").append(group);
  }
  for (const { key, title, numbers } of state.directions) {
    position[key] = Math.floor(numbers.length / 2);
    const button = element("button", { type: "button", value: key, textContent: title });
    button.addEventListener("click", () => {
      direction = key;
      loadSlice();
    });
    $("directions").append(button);
  }
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

async function start() {
  try {
    state = await askState();
  } catch (error) {
    say(error.message, true);
    return;
  }
  fill();
  connect();
  setParameters(state.postprocessing);
  if (state.directions.length) {
    direction = state.directions[0].key;
    loadSlice();
  } else if (state.groups.length) {
    step(1);
  } else {
    say("Drop an image to begin.");
  }
}

start();
