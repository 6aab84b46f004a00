// The chain of `infusion_jax.chain` for a multilayer perceptron with fixed batch
// statistics. Distributions are {mean, variance}, states and noise are arrays of
// d = pixels * channels numbers; step t = 0 ... N-1 draws z^(t) and predicts p^(t+1).

// A model from its description and the bytes of its arrays (float32, little-endian).
function readModel(description, bytes) {
  const found = {...description};
  let start = 0;
  for (const [name, shape] of description.arrays) {
    const size = shape.reduce((product, extent) => product * extent, 1);
    found[name] = new Float32Array(bytes, start, size);
    start += 4 * size;
  }
  return found;
}

function bytesOf(base64) {
  const text = atob(base64);
  // A loop: Uint8Array.from takes seconds where this takes a tenth of one.
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

// x [n] times a matrix [n, m] that is stored row by row.
function product(x, matrix) {
  const width = matrix.length / x.length;
  const sums = new Float64Array(width);
  for (let row = 0; row < x.length; row++) {
    const factor = x[row];
    // After a ReLU about half of them are 0.
    if (factor === 0) continue;
    const start = row * width;
    for (let column = 0; column < width; column++) {
      sums[column] += factor * matrix[start + column];
    }
  }
  return sums;
}

// Batch norm with the scale and shift of step t, then ReLU.
function normalized(sums, scales, shifts, t) {
  const start = t * sums.length;
  return Float32Array.from(sums, (sum, unit) =>
    Math.max(0, sum * scales[start + unit] + shifts[start + unit]));
}

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

// p^(t+1)(. | z); a step beyond the last one is the last one again.
function transition(model, z, t) {
  const step = Math.min(t, model.numSteps - 1);
  let h = z;
  for (let layer = 0; layer < model.numLayers; layer++) {
    const sums = product(h, model[`kernel${layer}`]);
    h = normalized(sums, model[`scale${layer}`], model[`shift${layer}`], step);
  }
  const raw = product(h, model.headKernel).map((sum, i) => sum + model.headBias[i]);
  const {varianceScale, varianceFloor} = model;
  return {
    mean: Float32Array.from(raw.subarray(0, z.length), sigmoid),
    variance: Float32Array.from(
      raw.subarray(z.length), (x) => varianceScale * sigmoid(x) + varianceFloor),
  };
}

// z ~ p with its standard normal noise given.
function sampled(p, noise) {
  return p.mean.map((mean, i) => mean + Math.sqrt(p.variance[i]) * noise[i]);
}

// A chain of `count` steps; draw(t, p) answers with {state, mask}.
function runChain(model, count, draw) {
  const found = {states: [], masks: [], means: [], variances: []};
  let p = {mean: model.priorMean, variance: model.priorVariance};
  for (let t = 0; t < count; t++) {
    const {state, mask} = draw(t, p);
    p = transition(model, state, t);
    found.states.push(state);
    found.masks.push(mask);
    found.means.push(p.mean);
    found.variances.push(p.variance);
  }
  return {...found, picture: p.mean};
}

// The model chain; noise is an array of N arrays [d], in all three.
function generate(model, noise) {
  return runChain(model, noise.length, (t, p) => ({state: sampled(p, noise[t])}));
}

// The chain whose known pixels are the image's own; known [pixels] holds 0 or 1.
function clamp(model, noise, image, known) {
  const fixed = (values) =>
    values.map((value, i) => (known[pixelOf(model, i)] ? image[i] : value));
  const found = runChain(
    model, noise.length, (t, p) => ({state: fixed(sampled(p, noise[t]))}));
  return {...found, picture: fixed(found.picture)};
}

// The infusion chain: pixel i of step t is the target's where chances[t][i] < rates[t].
function infuse(model, noise, chances, target, rates) {
  const deviation = Math.sqrt(model.targetVariance);
  return runChain(model, noise.length, (t, p) => {
    const mask = Uint8Array.from(chances[t], (chance) => chance < rates[t]);
    const state = sampled(p, noise[t]).map((value, i) =>
      (mask[pixelOf(model, i)] ? target[i] + deviation * noise[t][i] : value));
    return {state, mask};
  });
}

function pixelOf(model, i) {
  return Math.floor(i / model.imageShape[2]);
}

// The noise of a seed, the same as infusion_jax draws for it.
function noiseOf(model, seed, count) {
  return stepKeys(seed, count).map((key) => normal(key, model.priorMean.length));
}

// Noise and chances of an infusion chain.
function infusionNoiseOf(model, seed, count) {
  const [height, width, channels] = model.imageShape;
  const keys = stepKeys(seed, count);
  return {
    noise: keys.map((key) => normal(foldIn(key, 0), height * width * channels)),
    chances: keys.map((key) => uniform(foldIn(key, 1), height * width)),
  };
}

function stepKeys(seed, count) {
  return Array.from({length: count}, (_, t) => foldIn(keyOf(seed), t));
}
