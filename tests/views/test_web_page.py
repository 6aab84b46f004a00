"""The page that runs a chain in the browser: the same numbers as JAX's."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from launching import DIGITS, ROOT, launch

from infusion_jax import chain, config, model, networks, sampling
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian
from infusion_jax.states.multimodal import Multimodal
from infusion_jax.views import web_page

SEED = 5
#: Of the 1e-4 that are promised; float32 sums in another order need far less.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def digits():
  return model.load(DIGITS)


@pytest.fixture(scope="module")
def colours():
  """A network of random numbers for 3x2 images of three channels, T = 4."""
  chain_config = config.ChainConfig(num_steps=4, omega=0.1, variance_scale=0.3)
  network = networks.build(
    config.ModelConfig(hidden_sizes=(7, 5)), chain_config, (3, 2, 3)
  )
  tree = network.init(jax.random.key(0))
  generator = np.random.default_rng(0)
  parameters, statistics = jax.tree.map(
    lambda leaf: generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32) - 0.7, tree
  )
  # Variances are positive.
  statistics = jax.tree.map(np.abs, statistics)
  prior = Gaussian(np.full((3, 2, 3), 0.3, np.float32), np.full((3, 2, 3), 0.2))
  infusion = chain.Infusion(prior, np.array([0.0, 0.2, 0.4, 0.9]), 0.01)
  return model.Model(
    network=network,
    weights=sampling.Weights(parameters, statistics, infusion),
    config=config.Config(chain=chain_config),
    levels=256,
    about={},
    path=ROOT,
    step=0,
  )


def in_node(trained, expression):
  """What JavaScript computes, in node, with `model` and the functions of the page."""
  node = shutil.which("node")
  if node is None:
    pytest.skip("needs node")
  description, arrays = web_page.payload(trained)
  program = f"""
    {web_page.documents.web_file("noise.js")}
    {web_page.documents.web_file("chain.js")}
    const bytes = bytesOf({base64.b64encode(arrays).decode()!r});
    const model = readModel({json.dumps(description)}, bytes);
    const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
    console.log(JSON.stringify({expression}, plain));
  """
  done = subprocess.run(
    [node, "-"], input=program, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def assert_same(found, chains):
  """Compares a chain of the page with chains of one image, [1, T, H, W, C]."""
  for name in ("states", "means", "variances"):
    expected = np.asarray(getattr(chains, name))[0]
    values = np.reshape(found[name], expected.shape)
    np.testing.assert_allclose(values, expected, atol=TOLERANCE, err_msg=name)


def image_of(trained):
  """An image, and the pixels of it that are known [H, W]."""
  generator = np.random.default_rng(1)
  shape = trained.image_shape
  return generator.random((1, *shape), np.float32), generator.random(shape[:2]) < 0.4


def keys():
  return model.keys_of(jax.random.key(0), [SEED])


def test_a_seed_gives_the_same_chain(digits):
  found = in_node(digits, f"generate(model, noiseOf(model, {SEED}, 13))")
  assert_same(found, digits.chain(keys(), num_steps=13))


@pytest.mark.parametrize("name", ["digits", "colours"])
def test_given_noise_gives_the_same_prediction(name, request):
  trained = request.getfixturevalue(name)
  shape = (2, trained.network.num_steps, *trained.image_shape)
  noise = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
  rows = noise[1].reshape(shape[1], -1).tolist()
  found = in_node(trained, f"generate(model, {json.dumps(rows)})")
  markov = sampling.markov_chain(trained.network, trained.weights)
  expected = chain.decode(noise, markov)
  np.testing.assert_allclose(
    found["picture"], np.ravel(expected.mean[1]), atol=TOLERANCE
  )
  np.testing.assert_allclose(
    found["variances"][-1], np.ravel(expected.variance[1]), atol=TOLERANCE
  )


def test_known_pixels_are_clamped_alike(colours):
  image, known = image_of(colours)
  noise = f"noiseOf(model, {SEED}, {colours.network.num_steps})"
  values = json.dumps(np.ravel(image).tolist())
  mask = json.dumps(np.ravel(known).astype(int).tolist())
  found = in_node(colours, f"clamp(model, {noise}, {values}, {mask})")
  chains = colours.inpaint_chain(keys(), image, known)
  assert_same(found, chains)
  expected = np.where(known[..., None], image[0], chains.means[0, -1])
  np.testing.assert_allclose(found["picture"], np.ravel(expected), atol=TOLERANCE)


def test_a_drawing_is_infused_alike(colours):
  image, _ = image_of(colours)
  rates = np.asarray(colours.weights.infusion.rates).tolist()
  values = json.dumps(np.ravel(image).tolist())
  found = in_node(
    colours,
    f"(({{noise, chances}}) => infuse(model, noise, chances, {values}, {rates}))"
    f"(infusionNoiseOf(model, {SEED}, {len(rates)}))",
  )
  chains = colours.infuse(keys(), image)
  assert_same(found, chains)
  np.testing.assert_array_equal(np.ravel(found["masks"]), np.ravel(chains.mask))
  assert 0 < np.mean(found["masks"]) < 1


def test_seeds_are_those_of_jax_up_to_the_largest(colours):
  largest = 2**32 - 1
  found = in_node(colours, f"normal(keyOf({largest}), 1000)")
  (key,) = model.keys_of(jax.random.key(0), [largest])
  np.testing.assert_allclose(found, jax.random.normal(key, (1000,)), atol=1e-5)


def test_other_networks_are_refused(digits):
  network = networks.build(
    config.ModelConfig(name="unet", channels=(8,)), config.ChainConfig(), (8, 8, 1)
  )
  other = dataclasses.replace(
    digits,
    network=network,
    config=config.Config(model=config.ModelConfig(name="unet")),
  )
  with pytest.raises(UserError, match="'unet'; a page runs networks 'mlp' alone"):
    web_page.of_model(other)


def test_conditions_are_refused(digits):
  network = dataclasses.replace(digits.network, shown=True)
  with pytest.raises(UserError, match="a page runs models of Gaussian states without"):
    web_page.of_model(dataclasses.replace(digits, network=network))


def test_several_modes_and_rates_of_pixels_are_refused(digits):
  network = dataclasses.replace(digits.network, distribution=Multimodal)
  with pytest.raises(UserError, match="model.latents 1; a page draws"):
    web_page.of_model(dataclasses.replace(digits, network=network))
  infusion = digits.weights.infusion
  infusion = infusion._replace(rates=infusion.rates[:, None, None, None])
  weights = digits.weights._replace(infusion=infusion)
  with pytest.raises(UserError, match="has one rate a step"):
    web_page.of_model(dataclasses.replace(digits, weights=weights))


def test_points_are_refused(digits):
  network = dataclasses.replace(digits.network, image_shape=(1, 1, 2))
  points = dataclasses.replace(digits, network=network)
  with pytest.raises(UserError, match=r"points in the plane.*experiments\.density"):
    web_page.of_model(points)


def test_text_of_a_data_set_is_never_html(digits):
  named = config.DataConfig(name="</script><b>")
  odd = dataclasses.replace(
    digits, config=dataclasses.replace(digits.config, data=named)
  )
  text = web_page.of_model(odd)
  assert "<b>" not in text
  assert text.count("</script>") == 3


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  out = tmp_path_factory.mktemp("page") / "page.html"
  result = launch("page", f"--workdir={DIGITS}", f"--out={out}")
  assert result.returncode == 0, result.stderr
  assert result.stdout == f"wrote {out} (0.70 MB)\n"
  return out


def test_the_file_has_everything_inside(file):
  text = file.read_text()
  assert not re.search(r"https?://|import\(|fetch\(|@import", text)
  assert "[[" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)
  policy = re.search(r"script-src '(sha256-[^']+)'", text)[1]
  script = re.findall(r"<script>(.*?)</script>", text, re.S)[-1]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert policy == f"sha256-{digest}"


def test_the_shipped_page_is_this_one(file):
  """`results/page/digits.html` is what the command writes today."""
  assert (ROOT / "results/page/digits.html").read_text() == file.read_text()


PLAIN = "chain => chain.map(values => Array.from(values))"


def test_a_browser_computes_the_same_chain(opened, file, digits):
  page = opened(file)
  states, means, variances = page.evaluate(
    f"""() => {{
      const found = infusion.generate(infusion.noiseOf({SEED}, 13));
      return [found.states, found.means, found.variances].map({PLAIN});
    }}"""
  )
  found = {"states": states, "means": means, "variances": variances}
  assert_same(found, digits.chain(keys(), num_steps=13))


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(opened, file, width, scheme):
  page = opened(file, width, scheme)
  for mode in ("sample", "complete", "infuse"):
    page.click(f"[data-mode={mode}]")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for button in page.query_selector_all(".tools button, .modes button, #next"):
      # What does not fit into a button is cut off; a finger needs some 40 pixels.
      assert button.evaluate("b => b.scrollWidth <= b.clientWidth")
      assert not button.is_visible() or button.bounding_box()["height"] >= 40
  ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
  assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


PICTURE = "Array.from(infusion.shown.picture)"


def test_what_is_painted_is_kept_and_completed(opened, file):
  page = opened(file, 390)
  page.click("[data-mode=complete]")
  page.click("#clear")
  before = np.array(page.evaluate(PICTURE))
  box = page.locator("#drawing").bounding_box()
  across, down = box["width"] / 8, box["height"] / 8
  page.mouse.move(box["x"] + 1.5 * across, box["y"] + 3.5 * down)
  page.mouse.down()
  page.mouse.move(box["x"] + 6.5 * across, box["y"] + 3.5 * down)
  page.mouse.up()
  after = np.array(page.evaluate(PICTURE)).reshape(8, 8)
  np.testing.assert_allclose(after[3, 1:7], 1.0)
  assert np.abs(after - before.reshape(8, 8))[5:].max() > 1e-3
  page.click("[data-tool=erase]")
  page.touchscreen.tap(box["x"] + 3.5 * across, box["y"] + 3.5 * down)
  after = np.array(page.evaluate(PICTURE)).reshape(8, 8)
  assert after[3, 3] < 1.0 == after[3, 6]


def test_steps_rate_and_seed_are_the_sliders(opened, file, digits):
  page = opened(file)
  page.locator("#count").fill("17")
  assert page.locator("#film button").count() == 18
  expected = digits.sample(keys(), num_steps=17)
  page.locator("#seed").fill(str(SEED))
  page.locator("#seed").press("Enter")
  found = page.evaluate(PICTURE)
  np.testing.assert_allclose(found, np.ravel(expected), atol=TOLERANCE)
  page.click("[data-mode=infuse]")
  page.locator("#rate").fill("0")
  assert page.evaluate("infusion.shown.masks.every(mask => mask.every(m => !m))")
  page.locator("#rate").fill("1")
  assert page.evaluate("infusion.shown.masks[16].every(m => m)")
  page.click("#film button:nth-child(3)")
  assert page.locator("#caption").inner_text().startswith("t = 2: state z(2), ")
  page.select_option("#show", "means")
  assert page.locator("#film button").count() == 17


@pytest.mark.slow
def test_mnist_takes_less_than_a_second(opened, tmp_path):
  trained = model.load(ROOT / "results/checkpoints/mnist")
  out = tmp_path / "page.html"
  out.write_text(web_page.of_model(trained))
  page = opened(out, 390)
  *times, states, means, variances = page.evaluate(
    f"""() => {{
      const noise = infusion.noiseOf({SEED}, 30), times = [];
      let found;
      for (let i = 0; i < 3; i++) {{
        const began = performance.now();
        found = infusion.generate(noise);
        times.push(performance.now() - began);
      }}
      const arrays = [found.states, found.means, found.variances];
      return [...times, ...arrays.map({PLAIN})];
    }}"""
  )
  assert min(times) < 1000
  found = {"states": states, "means": means, "variances": variances}
  assert_same(found, trained.chain(keys(), num_steps=30))
