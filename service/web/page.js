// The page of the server: sends a chosen file to a model and shows the answer.
// Whatever comes from the server or from a file name is written with textContent, never as markup.

const SEGMENTATION = "image_segmentation";
const TOP_K = 5;
// One mask a second is what the server makes of a video unless told otherwise, and it takes a limited number of them.
const SEGMENTED_SECONDS = 60;
const RETRY_MILLISECONDS = 2000;
const UNAUTHORIZED = 401;
const KEY = "clipserve.key";
const TIMING_PARTS = ["receive", "decode", "queue", "inference"];

const byId = (id) => document.getElementById(id);

let models = [];
let chosenFile = null;
let running = null;

// ---------------------------------------------------------------------------------------------- elements and numbers

function element(tag, { text, className, hiddenFromReaders = false } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className !== undefined) made.className = className;
  if (hiddenFromReaders) made.setAttribute("aria-hidden", "true");
  made.append(...children);
  return made;
}

function factPairs(facts) {
  return facts.map(([name, value]) =>
    element("div", {}, element("dt", { text: name }), element("dd", { text: value })),
  );
}

const percent = (score) => `${(100 * score).toFixed(1)}%`;
const milliseconds = (seconds) => `${(1000 * seconds).toFixed(1)} ms`;
const rounded = (number) => String(Math.round(100 * number) / 100);
const words = (name) => name.replaceAll("_", " ");

function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// ---------------------------------------------------------------------------------------------------------------- key

// Kept for this tab alone, until it is closed.
const storedKey = () => sessionStorage.getItem(KEY);

// As fetch, with the key if there is one.
async function request(path, options = {}) {
  const key = storedKey();
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  const response = await fetch(path, { ...options, headers });
  if (response.status === UNAUTHORIZED) askForKey(key);
  return response;
}

function askForKey(refusedKey) {
  // Another request may have met the same refusal, and the person have typed a new key since.
  if (storedKey() !== refusedKey) return;
  const form = byId("key-form");
  byId("key-note").textContent =
    refusedKey === null ? "This server wants a key." : "The server does not know this key.";
  if (!form.hidden) return;
  form.hidden = false;
  byId("key").focus();
}

function useKey(key) {
  sessionStorage.setItem(KEY, key);
  byId("key-form").hidden = true;
  if (models.length === 0) wakeUp();
  else if (chosenFile !== null) ask();
}

// ------------------------------------------------------------------------------------------------------------- models

// Ends the pause before the list of models is asked for again.
let wakeUp = () => {};

async function loadModels() {
  for (;;) {
    const waitingFor = await tryToLoadModels();
    if (waitingFor === null) break;
    byId("model-facts").textContent = waitingFor;
    await new Promise((resolve) => {
      wakeUp = resolve;
      // Asking again with the same key, or none, would change nothing.
      if (byId("key-form").hidden) setTimeout(resolve, RETRY_MILLISECONDS);
    });
  }
  // A file may have been chosen while the server was starting.
  if (chosenFile !== null) ask();
}

// Returns null when the list is filled, otherwise why it is not.
async function tryToLoadModels() {
  try {
    // The list is whole only once the server is ready: models appear in it one by one.
    const ready = await request("readyz");
    if (!ready.ok) return describeProblem(await readProblem(ready));
    const answer = await request("v1/models");
    if (!answer.ok) return describeProblem(await readProblem(answer));
    models = (await answer.json()).models;
  } catch {
    return "The server cannot be reached; trying again.";
  }
  if (models.length === 0) return "No model is loaded; asking again.";
  const select = byId("model");
  select.replaceChildren(...models.map(({ name }) => new Option(name, name)));
  select.value = initialModel().name;
  select.disabled = false;
  showModelFacts();
  return null;
}

// Each kind of model has a default of its own, but none while that one is unloaded.
function initialModel() {
  const defaults = models.filter((model) => model.default);
  return defaults.find((model) => model.task !== SEGMENTATION) ?? defaults[0] ?? models[0];
}

const chosenModel = () => models.find((model) => model.name === byId("model").value);

function showModelFacts() {
  const { task, num_classes: classCount, input_shape: shape, runtime } = chosenModel();
  const axes = shape.filter((axis) => axis !== "batch");
  // An axis without a fixed length has a name.
  const input = axes.some((axis) => typeof axis === "string") ? "any size" : axes.join("×");
  byId("model-facts").textContent = `${words(task)}, ${classCount} classes, input ${input}, on ${runtime}`;
}

// ------------------------------------------------------------------------------------------------------ asking a model

function choose(file) {
  chosenFile = file;
  showPreview(file);
  ask();
}

async function ask() {
  // Closing the connection makes the server drop the work that nobody waits for any more.
  running?.abort();
  if (models.length === 0) {
    showWaiting("Waiting for the server's list of models…");
    return;
  }
  const { name, task } = chosenModel();
  const [send, show] = task === SEGMENTATION ? [segment, showSegmentation] : [classify, showClassification];
  const control = (running = new AbortController());
  showWaiting(`Waiting for ${name}…`);
  const outcome = await send(`v1/models/${encodeURIComponent(name)}`, chosenFile, control.signal);
  if (control.signal.aborted) return;
  byId("answer").setAttribute("aria-busy", "false");
  if (outcome.problem !== undefined) showProblem(outcome.problem);
  else show(outcome.answer);
}

function classify(path, file, signal) {
  return post(`${path}/classify?top_k=${TOP_K}`, file, signal, (response) => response.json());
}

// No one answer has both the classes and the picture. They are asked for one after the other, so that the times in the
// first are those of a request that has the server to itself.
async function segment(path, file, signal) {
  const query = `${path}/segment?end=${SEGMENTED_SECONDS}`;
  const classes = await post(`${query}&output=rle`, file, signal, (response) => response.json());
  if (classes.problem !== undefined) return classes;
  const overlay = await post(`${query}&output=overlay`, file, signal, (response) => response.blob());
  if (overlay.problem !== undefined) return overlay;
  return { answer: { ...classes.answer, overlay: overlay.answer } };
}

// The frames and crops themselves, for whoever doubts an answer: the server draws them in place of another one.
async function showSheet() {
  const { name, task } = chosenModel();
  const what = task === SEGMENTATION ? `segment?end=${SEGMENTED_SECONDS}&` : "classify?";
  const { signal } = running;
  byId("sheet-button").disabled = true;
  byId("sheet-note").textContent = "Waiting for the server to draw it…";
  const path = `v1/models/${encodeURIComponent(name)}/${what}show=frames`;
  const sheet = await post(path, chosenFile, signal, (response) => response.blob());
  if (signal.aborted) return;
  byId("sheet-button").disabled = false;
  if (sheet.problem !== undefined) {
    byId("sheet-note").textContent = describeProblem(sheet.problem);
    return;
  }
  byId("sheet-note").textContent = "Each row is a view, each picture has its frame's number and time.";
  showMedia(byId("sheet"), sheet.answer, "The network's frames, one");
  byId("sheet").hidden = false;
}

function clearSheet() {
  clearMedia(byId("sheet"));
  byId("sheet").hidden = true;
  byId("sheet-note").textContent = "";
  byId("sheet-button").disabled = false;
}

// Returns {answer} or {problem}.
async function post(path, file, signal, read) {
  const form = new FormData();
  form.append("file", file);
  try {
    const response = await request(path, { method: "POST", body: form, signal });
    return response.ok ? { answer: await read(response) } : { problem: await readProblem(response) };
  } catch {
    const detail =
      "The server cannot be reached, it closed the connection (a file over its limit is refused unread), " +
      "or the browser cannot read the file.";
    return { problem: { title: "Connection failed", detail } };
  }
}

// Proxies in between answer in their own ways, so nothing is taken for granted.
async function readProblem(response) {
  const problem = { title: `${response.status} ${response.statusText}`.trim(), detail: "The answer says no more." };
  try {
    const { title, detail } = await response.json();
    if (typeof title === "string") problem.title = title;
    if (typeof detail === "string") problem.detail = detail;
  } catch {
    // Not JSON: the status has to do.
  }
  return problem;
}

const describeProblem = ({ title, detail }) => `${title}: ${detail}`;

// ------------------------------------------------------------------------------------------------------------ showing

// Shows a picture or a video in place of what was there, and returns its element.
function showMedia(place, blob, description) {
  const isPicture = blob.type.startsWith("image/");
  const media = document.createElement(isPicture ? "img" : "video");
  if (isPicture) {
    media.alt = `${description} picture`;
  } else {
    media.setAttribute("aria-label", `${description} video`);
    media.controls = media.muted = media.playsInline = true;
  }
  media.src = URL.createObjectURL(blob);
  clearMedia(place);
  place.append(media);
  return media;
}

function clearMedia(place) {
  // The browser keeps a file until its URL is given back.
  for (const media of place.children) URL.revokeObjectURL(media.src);
  place.replaceChildren();
}

function showPreview(file) {
  const media = showMedia(byId("preview-media"), file, "The chosen");
  const note = byId("preview-note");
  const showNote = () => {
    // A file that has been replaced meanwhile has no say.
    if (!media.isConnected) return;
    const verb = media instanceof HTMLImageElement ? "show" : "play";
    note.textContent = `This browser cannot ${verb} the file; the server may be able to read it.`;
    note.hidden = false;
    media.hidden = true;
  };
  note.hidden = true;
  media.addEventListener("error", showNote);
  // Sound alone plays without an error.
  media.addEventListener("loadedmetadata", () => media.videoWidth === 0 && showNote());
  byId("preview-caption").textContent = `${file.name}, ${fileSize(file.size)}`;
  byId("preview").hidden = false;
}

function showWaiting(text) {
  byId("answer").setAttribute("aria-busy", "true");
  byId("status").textContent = text;
  byId("problem").hidden = true;
  byId("result").hidden = true;
  clearMedia(byId("overlay"));
  clearSheet();
}

function showProblem({ title, detail }) {
  byId("status").textContent = `No answer for ${chosenFile.name}.`;
  byId("problem-title").textContent = title;
  byId("problem-detail").textContent = detail;
  byId("problem").hidden = false;
}

function showClassification(answer) {
  const [best] = answer.predictions;
  byId("predictions").replaceChildren(...answer.predictions.map(predictionRow));
  const rows = mergeCrops(answer.views).map((clip) => clipRow(clip, answer.media.frames));
  showResult(answer, "predictions", `${best.label} (${percent(best.score)})`, rows);
}

function showSegmentation(answer) {
  const classes = mergeMasks(answer.masks);
  const [largest] = classes;
  cutLegend(showMedia(byId("overlay"), answer.overlay, "The classes drawn over the"), answer.media.height);
  byId("classes").replaceChildren(...classes.map(classRow));
  const rows = answer.media.kind === "video" ? [maskedFramesRow(answer)] : [];
  showResult(answer, "segmentation", `${largest.label} covers ${percent(largest.share)}`, rows);
}

// Shows the parts that all answers have, and of the others the named one.
function showResult(answer, shownPart, summary, frameRows) {
  const total = milliseconds(answer.timing_seconds.total);
  byId("status").textContent = `${summary}, says ${answer.model} version ${answer.version} after ${total}.`;
  for (const part of ["predictions", "segmentation"]) byId(part).hidden = part !== shownPart;
  showTiming(answer.timing_seconds, answer.batch_size);
  byId("media").replaceChildren(...factPairs(mediaFacts(answer.media)));
  byId("views").replaceChildren(...frameRows);
  byId("frames").hidden = frameRows.length === 0;
  byId("result").hidden = false;
}

function predictionRow({ label, score }) {
  const fill = document.createElement("span");
  // Set through the object model, which the page's policy allows; a style attribute it would not.
  fill.style.width = `${100 * score}%`;
  return element(
    "li",
    {},
    element("span", { text: label, className: "label" }),
    element("span", { text: percent(score), className: "score" }),
    element("span", { className: "bar", hiddenFromReaders: true }, fill),
  );
}

// The list of classes says what the legend below the picture does, in letters of the page's size.
function cutLegend(overlay, pictureHeight) {
  const cut = () => {
    overlay.style.aspectRatio = `${overlay.videoWidth ?? overlay.naturalWidth} / ${pictureHeight}`;
  };
  overlay.addEventListener("load", cut);
  overlay.addEventListener("loadedmetadata", cut);
}

// The classes of all frames together, largest first; the frames of a video have one size.
function mergeMasks(masks) {
  const classes = new Map();
  for (const { index, label, color, share } of masks.flatMap((mask) => mask.segments)) {
    const before = classes.get(index)?.share ?? 0;
    classes.set(index, { label, color, share: before + share / masks.length });
  }
  return [...classes.values()].sort((a, b) => b.share - a.share);
}

function classRow({ label, color, share }) {
  const swatch = element("span", { className: "swatch", hiddenFromReaders: true });
  swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
  return element(
    "li",
    {},
    swatch,
    element("span", { text: label, className: "label" }),
    element("span", { text: percent(share), className: "score" }),
  );
}

function showTiming(timing, batchSize) {
  const sum = TIMING_PARTS.reduce((seconds, part) => seconds + timing[part], 0);
  const segments = TIMING_PARTS.map((part) => {
    const segment = element("span", { className: part });
    // Shares of the whole: factors that add up to less than one would leave room in the bar.
    segment.style.flexGrow = timing[part] / sum;
    return segment;
  });
  byId("timing-bar").replaceChildren(...segments);
  const rows = factPairs(TIMING_PARTS.map((part) => [part, milliseconds(timing[part])]));
  TIMING_PARTS.forEach((part, i) => {
    rows[i].firstChild.prepend(element("span", { className: `swatch ${part}`, hiddenFromReaders: true }));
  });
  byId("timing").replaceChildren(...rows);
  byId("timing-total").textContent = `${milliseconds(timing.total)} in all, run in a batch of ${batchSize}`;
}

function mediaFacts(media) {
  const facts = [
    ["kind", media.kind],
    ["format", media.format],
    ["codec", media.codec],
    ["size", `${media.width} × ${media.height}`],
    ["frames", String(media.frames)],
  ];
  if (media.fps !== null) facts.push(["frames a second", rounded(media.fps)]);
  if (media.duration_seconds !== null) facts.push(["duration", `${rounded(media.duration_seconds)} s`]);
  facts.push(["rotation", `${media.rotation}°`]);
  return facts;
}

// The crops of a clip are made of the same frames, which need to be shown only once.
function mergeCrops(views) {
  const clips = [];
  for (const { clip, crop, frames } of views) {
    const last = clips.at(-1);
    if (last?.clip === clip && String(last.frames) === String(frames)) last.crops.push(crop);
    else clips.push({ clip, crops: [crop], frames });
  }
  return clips;
}

function clipRow({ clip, crops, frames }, frameCount) {
  return framesRow(`Clip ${clip}, ${crops.length > 1 ? "crops" : "crop"} ${crops.join(", ")}`, frames, frameCount);
}

function maskedFramesRow({ masks, media }) {
  return framesRow(
    `One mask a second, of the first ${SEGMENTED_SECONDS} s at most`,
    masks.map((mask) => mask.frame),
    media.frames,
  );
}

function framesRow(title, frames, frameCount) {
  const row = element("li", {}, element("p", { text: title }));
  if (frameCount > 1) row.append(frameStrip(frames, frameCount));
  row.append(element("p", { text: frames.join(", "), className: "quiet frames" }));
  return row;
}

// Where in the video the frames lie.
function frameStrip(frames, frameCount) {
  const marks = frames.map((frame) => {
    const mark = document.createElement("span");
    mark.style.left = `calc(${frame / (frameCount - 1)} * (100% - 2px))`;
    return mark;
  });
  return element("div", { className: "strip", hiddenFromReaders: true }, ...marks);
}

// ------------------------------------------------------------------------------------------------------------- events

byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file === undefined) return;
  choose(file);
  // The same file may be chosen again: it can have changed, or the person wants another run.
  event.target.value = "";
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key").value = "";
});

byId("model").addEventListener("change", () => {
  showModelFacts();
  if (chosenFile !== null) ask();
});

byId("sheet-button").addEventListener("click", showSheet);

// The whole page takes drops: a file that misses a small target would otherwise replace the page.
window.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});

window.addEventListener("dragleave", (event) => {
  // Also fires between the elements of the page; only leaving the window counts.
  if (event.relatedTarget === null) byId("drop").classList.remove("over");
});

window.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file !== undefined) choose(file);
});

loadModels();
