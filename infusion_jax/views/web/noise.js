// Random numbers of a seed: JAX's own (threefry with 32-bit words), so that a seed
// means the same picture here and in infusion_jax. A key is two 32-bit words.

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];
const PARITY = 0x1bd11bda;

function rotate(word, count) {
  return (word << count) | (word >>> (32 - count));
}

// The Threefry-2x32 block cipher of 20 rounds: two words for two words.
function threefry(key, first, second) {
  const schedule = [key[0], key[1], key[0] ^ key[1] ^ PARITY];
  let a = (first + schedule[0]) | 0;
  let b = (second + schedule[1]) | 0;
  for (let group = 0; group < 5; group++) {
    for (const count of ROTATIONS[group % 2]) {
      a = (a + b) | 0;
      b = rotate(b, count) ^ a;
    }
    a = (a + schedule[(group + 1) % 3]) | 0;
    b = (b + schedule[(group + 2) % 3] + group + 1) | 0;
  }
  return [a, b];
}

// A key derived from a key and an integer below 2^32.
function foldIn(key, data) {
  return threefry(key, 0, data | 0);
}

// The key of a seed's image: fold_in(key(0), seed), as in `infusion_jax.model`.
function keyOf(seed) {
  return foldIn([0, 0], seed);
}

// Numbers in [0, 1): 23 random bits each.
function uniform(key, count) {
  const found = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const [high, low] = threefry(key, 0, i);
    found[i] = ((high ^ low) >>> 9) / 2 ** 23;
  }
  return found;
}

// Standard normal numbers: sqrt(2) erfinv(u) of u in (-1, 1).
function normal(key, count) {
  const lowest = -1 + 2 ** -24;
  return uniform(key, count).map((u) => {
    const inside = Math.max(lowest, Math.fround(2 * u + lowest));
    return Math.SQRT2 * inverseErf(inside);
  });
}

// Giles's polynomials in w = -log(1 - u^2), highest power first.
const NEAR = [
  2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4,
  -1.25372503e-3, -4.17768164e-3, 0.246640727, 1.50140941,
];
const FAR = [
  -2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3,
  -7.6224613e-3, 9.43887047e-3, 1.00167406, 2.83297682,
];

function inverseErf(u) {
  const w = -Math.log1p(-u * u);
  const near = w < 5;
  const x = near ? w - 2.5 : Math.sqrt(w) - 3;
  const value = (near ? NEAR : FAR).reduce((sum, factor) => sum * x + factor);
  return u * value;
}
