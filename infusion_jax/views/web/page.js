// The page: settings -> a chain -> frames. `infusion` is what the console and tests
// call; everything else follows what a person does.

const EXPLAINED = {
  sample:
    "The first state is drawn from the prior; every step moves all pixels towards a"
    + " picture. The last frame is the mean of the last transition.",
  complete:
    "Paint what you know, bright or dark. These pixels are held fixed at every step;"
    + " the chain finds the blue ones.",
  infuse:
    "As in training: at every step some pixels, orange here, are taken from the"
    + " drawing. The higher the rate, the closer the end comes to it.",
};
const OTHERS = 8;
const FRAME_MS = 160;
// A chain that takes less time than this follows the brush as it moves.
const FOLLOWS_MS = 60;

const element = (id) => document.getElementById(id);
const model = openModel();
const lastStep = model.numSteps - 1;
const highestRate = Math.max(...model.rates);
const state = {
  mode: "sample",
  tool: "bright",
  paintings: {complete: null, infuse: null},
  borrowed: 0,
  result: null,
  milliseconds: 0,
  player: null,
  later: null,
  waiting: null,
};

globalThis.infusion = {
  model,
  noiseOf: (seed, count) => noiseOf(model, seed, count),
  generate: (noise) => generate(model, noise),
  clamp: (noise, image, known) => clamp(model, noise, image, known),
  infuse: (noise, chances, target, rates) =>
    infuse(model, noise, chances, target, rates),
  get shown() { return state.result; },
};

function openModel() {
  const weights = element("weights");
  const description = JSON.parse(element("description").textContent);
  const found = readModel(description, bytesOf(weights.textContent));
  weights.remove();
  return found;
}

// --- from settings to a chain ---

function number(id) {
  const {min, max, value} = element(id);
  return Math.min(Number(max), Math.max(Number(min), Math.floor(Number(value))));
}

// The rates of training, scaled so that their largest is the slider's.
function rates(count) {
  const wanted = Number(element("rate").value);
  return Array.from({length: count}, (_, t) =>
    highestRate ? (wanted * model.rates[Math.min(t, lastStep)]) / highestRate : wanted);
}

function chainOf(seed) {
  const count = number("count");
  if (state.mode === "infuse") {
    const {noise, chances} = infusionNoiseOf(model, seed, count);
    return infuse(model, noise, chances, state.paintings.infuse.image, rates(count));
  }
  const noise = noiseOf(model, seed, count);
  if (state.mode === "sample") return generate(model, noise);
  const {image, known} = state.paintings.complete;
  return clamp(model, noise, image, known);
}

function compute() {
  const began = performance.now();
  state.result = chainOf(number("seed"));
  state.milliseconds = performance.now() - began;
  element("timing").textContent =
    `${number("count")} steps took ${state.milliseconds.toFixed(0)} ms here.`;
  showFilm();
}

// --- from a chain to frames ---

function frames() {
  const {states, means, masks, picture} = state.result;
  const inStates = element("show").value === "states";
  const first = inStates ? 0 : 1;
  const images = [...(inStates ? states : means.slice(0, -1)), picture];
  return images.map((image, i) => ({
    image,
    t: first + i,
    mask: inStates && masks[i],
    isLast: i === images.length - 1,
  }));
}

function captionOf({t, mask, isLast}) {
  if (isLast) return `t = ${t}: the picture, mean of the last transition`;
  if (element("show").value === "means") return `t = ${t}: mean of the transition`;
  const infused = mask ? `, ${mask.reduce((a, b) => a + b, 0)} pixels infused` : "";
  return `t = ${t}: state z(${t})${infused}`;
}

function drawFrame(canvas, {image, mask}) {
  draw(canvas, model, image, (pixel) => mask && mask[pixel] && [INFUSED, 0.6]);
}

function showFilm() {
  const found = frames();
  const film = element("film");
  while (film.children.length > found.length) film.lastChild.remove();
  while (film.children.length < found.length) {
    const index = film.children.length;
    film.append(thumbnail(() => { pause(); showFrame(index); }));
  }
  found.forEach((frame, i) => {
    drawFrame(film.children[i].firstChild, frame);
    film.children[i].lastChild.textContent = frame.t;
    film.children[i].setAttribute("aria-label", captionOf(frame));
  });
  element("shown").max = found.length - 1;
  showFrame(Math.min(number("shown"), found.length - 1));
}

function showFrame(index) {
  const frame = frames()[index];
  element("shown").value = index;
  drawFrame(element("picture"), frame);
  element("caption").textContent = captionOf(frame);
  [...element("film").children].forEach((button, i) =>
    button.setAttribute("aria-pressed", i === index));
}

function thumbnail(clicked) {
  const button = document.createElement("button");
  button.append(document.createElement("canvas"), document.createElement("span"));
  button.addEventListener("click", clicked);
  return button;
}

// --- playing ---

function pause() {
  clearTimeout(state.player);
  state.player = null;
  element("play").textContent = "Play";
}

function play() {
  pause();
  element("play").textContent = "Pause";
  const advance = (index) => {
    showFrame(index);
    if (index === Number(element("shown").max)) pause();
    else state.player = setTimeout(advance, FRAME_MS, index + 1);
  };
  advance(0);
}

function showLast() {
  pause();
  showFrame(Number(element("shown").max));
}

// --- other seeds, one after another while the page stays responsive ---

function computeOthers() {
  clearTimeout(state.later);
  const buttons = [...element("others").children];
  const next = (i) => {
    if (state.player && state.milliseconds > FOLLOWS_MS) {
      // A slow chain would make the animation stumble.
      state.later = setTimeout(next, FRAME_MS, i);
      return;
    }
    const seed = (number("seed") + 1 + i) % 2 ** 32;
    draw(buttons[i].firstChild, model, chainOf(seed).picture);
    buttons[i].lastChild.textContent = seed;
    buttons[i].setAttribute("aria-label", `Seed ${seed}`);
    if (i + 1 < buttons.length) state.later = setTimeout(next, 0, i + 1);
  };
  state.later = setTimeout(next, 50, 0);
}

// --- what a person does ---

function renew({playing = false} = {}) {
  pause();
  element("count_told").textContent = number("count");
  element("rate_told").textContent = Number(element("rate").value).toFixed(2);
  compute();
  computeOthers();
  if (playing && !matchMedia("(prefers-reduced-motion: reduce)").matches) play();
  else showLast();
}

function chooseMode(mode) {
  state.mode = mode;
  press("mode", mode);
  element("explained").textContent = EXPLAINED[mode];
  element("easel").hidden = mode === "sample";
  element("rate_label").hidden = mode !== "infuse";
  document.querySelector('[data-tool="erase"]').hidden = mode === "infuse";
  element("borrow").textContent =
    mode === "infuse" ? "Take a sample" : "Keep the top half";
  if (mode !== "sample" && !state.paintings[mode]) borrow();
  showDrawing();
  renew({playing: true});
}

function chooseTool(tool) {
  state.tool = tool;
  press("tool", tool);
}

function press(kind, value) {
  document.querySelectorAll(`[data-${kind}]`).forEach((button) =>
    button.setAttribute("aria-pressed", button.dataset[kind] === value));
}

// Something to begin with: half of the picture at hand, or another sample.
function borrow() {
  const height = model.imageShape[0];
  if (state.mode === "complete") {
    const half = Math.ceil(height / 2);
    state.paintings.complete = copied(model, state.result.picture, half);
  } else {
    const noise = noiseOf(model, 1000 + state.borrowed++, 2 * model.numSteps);
    state.paintings.infuse = copied(model, generate(model, noise).picture, height);
  }
}

function showDrawing() {
  const painting = state.paintings[state.mode];
  if (!painting) return;
  const known = state.mode === "infuse" ? () => true : (i) => painting.known[i];
  draw(element("drawing"), model, painting.image, (i) => !known(i) && [UNKNOWN, 1]);
}

function paint(x, y) {
  dab(model, state.paintings[state.mode], x, y, state.tool);
  showDrawing();
  if (state.milliseconds < FOLLOWS_MS && !state.waiting) {
    state.waiting = requestAnimationFrame(() => {
      state.waiting = null;
      compute();
      showLast();
    });
  }
}

function changeDrawing(change) {
  change();
  showDrawing();
  renew();
}

function listen() {
  const on = (id, event, action) => element(id).addEventListener(event, action);
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.addEventListener("click", () => chooseMode(button.dataset.mode));
  }
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => chooseTool(button.dataset.tool));
  }
  on("play", "click", () => (state.player ? pause() : play()));
  on("shown", "input", () => { pause(); showFrame(number("shown")); });
  on("show", "change", () => { showFilm(); showLast(); });
  on("count", "input", () => renew());
  on("rate", "input", () => renew());
  on("seed", "change", () => chooseSeed(number("seed")));
  on("next", "click", () => chooseSeed((number("seed") + 1) % 2 ** 32));
  on("borrow", "click", () => changeDrawing(borrow));
  on("clear", "click", () => changeDrawing(() => {
    state.paintings[state.mode] = emptyPainting(model);
  }));
  followPointer(element("drawing"), paint, () => renew());
}

function chooseSeed(seed) {
  element("seed").value = seed;
  renew({playing: true});
}

function begin() {
  element("count").max = Math.max(30, 2 * model.numSteps);
  element("count").value = model.numSteps;
  element("rate").value = highestRate;
  for (let i = 0; i < OTHERS; i++) {
    const other = thumbnail(() => chooseSeed(Number(other.lastChild.textContent)));
    element("others").append(other);
  }
  listen();
  chooseTool("bright");
  chooseMode("sample");
}

begin();
