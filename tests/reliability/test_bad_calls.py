"""Mistakes of who calls the library from Python: an error that names them."""

import jax
import numpy as np
import pytest
from launching import DIGITS

import infusion_jax
from infusion_jax import datasets, schedules
from infusion_jax import model as models
from infusion_jax.config import ChainConfig, Config
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import plots
from infusion_jax.errors import UserError
from infusion_jax.likelihood import summary
from infusion_jax.likelihood.annealing import temperatures
from infusion_jax.sweep import overrides
from infusion_jax.views import inpainting

KEY = jax.random.key(0)
GOOD = np.zeros((2, 8, 8, 1), np.float32)
HALF = np.zeros((8, 8), bool)
HALF[:4] = True
BYTES = np.zeros((20, 4, 4, 1), np.uint8)


@pytest.fixture(scope="module")
def model():
  return infusion_jax.load(DIGITS)


def with_pixel(value: float) -> np.ndarray:
  images = GOOD.copy()
  images[1, 0, 0, 0] = value
  return images


OF_A_MODEL = {
  "no images wanted": (lambda m: m.sample(KEY, 0), "count is 0"),
  "fewer than none": (lambda m: m.sample(KEY, -3), "count is -3"),
  "no steps": (lambda m: m.sample(KEY, 1, num_steps=0), "num_steps is 0"),
  "no steps of a chain": (lambda m: m.chain(KEY, 1, num_steps=-1), "num_steps is -1"),
  "no chains": (lambda m: m.chain(KEY, 0), "count is 0"),
  "three axes": (lambda m: m.infuse(KEY, GOOD[0]), r"shape \(8, 8, 1\)"),
  "no batch": (lambda m: m.infuse(KEY, GOOD[:0]), r"shape \(0, 8, 8, 1\)"),
  "another size": (lambda m: m.infuse(KEY, GOOD[:, 1:]), r"shape \(2, 7, 8, 1\)"),
  "colour": (lambda m: m.infuse(KEY, GOOD.repeat(3, 3)), r"shape \(2, 8, 8, 3\)"),
  "infuse NaN": (lambda m: m.infuse(KEY, with_pixel(np.nan)), "nan.* 0 to 1"),
  "infuse 255": (lambda m: m.infuse(KEY, with_pixel(255)), "255.* 0 to 1"),
  "infuse below 0": (lambda m: m.infuse(KEY, with_pixel(-0.1)), r"-0\.1.* 0 to 1"),
  "inpaint NaN": (lambda m: m.inpaint(KEY, with_pixel(np.nan), HALF), "nan.* 0 to 1"),
  "inpaint inf": (lambda m: m.inpaint(KEY, with_pixel(np.inf), HALF), "inf.* 0 to 1"),
  "mask of another size": (
    lambda m: m.inpaint(KEY, GOOD, HALF[:7]),
    r"shape \(7, 8\); allowed are \[8, 8\]",
  ),
  "masks of another count": (
    lambda m: m.inpaint(KEY, GOOD, np.zeros((3, 8, 8, 1), bool)),
    r"shape \(3, 8, 8, 1\)",
  ),
  "score NaN": (lambda m: m.estimate(KEY, with_pixel(np.nan), 2), "nan.* 0 to 1"),
  "score above 1": (lambda m: m.estimate(KEY, with_pixel(1.5), 2), r"1\.5.* 0 to 1"),
  "score above the levels": (
    lambda m: m.log_likelihood(KEY, with_pixel(17).astype(np.uint8), 2),
    "17; allowed are 0 to 16",
  ),
  "score below 0": (
    lambda m: m.log_likelihood(KEY, with_pixel(-1).astype(np.int32), 2),
    "-1 .*0 to 16",
  ),
  "score without chains": (lambda m: m.estimate(KEY, GOOD, 0), "num_chains is 0"),
  "a part that is none": (lambda m: inpainting.part("middle", (8, 8, 1)), "'middle'"),
  "one pixel parted": (lambda m: inpainting.part("top", (1, 1, 1)), "no pixels"),
}

OF_THE_LIBRARY = {
  "no such folder": (lambda: infusion_jax.load("/nowhere/run"), "does not exist"),
  "a file": (lambda: infusion_jax.load(__file__), "is a file"),
  "a folder of other things": (lambda: infusion_jax.load("/proc"), "no complete"),
  "a key that is none": (lambda: Config.from_dict({"chain": {"T": 3}}), "chain.T"),
  "a section that is none": (lambda: Config.from_dict({"chian": {}}), "mean chain"),
  "no mapping": (lambda: Config.from_dict([1]), r"config is \[1\]"),
  "text for a number": (
    lambda: Config.from_dict({"train": {"seed": "1"}}),
    "seed is '1'; allowed is a whole number",
  ),
  "a truth for a number": (
    lambda: Config.from_dict({"train": {"seed": True}}),
    "seed is True",
  ),
  "a number for a truth": (
    lambda: Config.from_dict({"data": {"grey": 1}}),
    "grey is 1; allowed is True or False",
  ),
  "None": (lambda: Config.from_dict({"train": {"seed": None}}), "seed is None"),
  "a fraction": (lambda: Config.from_dict({"train": {"seed": 0.5}}), r"seed is 0\.5"),
  "infinity": (
    lambda: Config.from_dict({"train": {"seed": float("inf")}}),
    "seed is inf",
  ),
  "not a number": (
    lambda: Config.from_dict({"train": {"seed": float("nan")}}),
    "seed is nan",
  ),
  "no rates": (lambda: ChainConfig(num_steps=0), "num_steps is 0"),
  "a matrix of rates": (lambda: schedules.validated([[0.1]]), r"shape \(1, 1\)"),
  "empty rates": (lambda: schedules.validated([]), r"shape \(0,\)"),
  "NaN as a rate": (lambda: schedules.validated([0.1, np.nan]), "rate nan at step 1"),
  "infinity as a rate": (lambda: schedules.validated([np.inf]), "rate inf"),
  "a rate above 1": (lambda: schedules.constant(3, 1.01), r"rate 1\.01 at step 0"),
  "a rate below 0": (lambda: schedules.linear(3, 0.1, -0.1), r"rate -0\.1 at step 2"),
  "T = 0": (lambda: schedules.linear(0, 0.0, 0.1), "num_steps is 0"),
  "T = 1.5": (lambda: schedules.linear(1.5, 0.0, 0.1), r"num_steps is 1\.5"),
  "weights of T = 0": (lambda: schedules.loss_weights(0), "num_steps is 0"),
  "an unknown source": (lambda: datasets.load("x", "web"), "'web'"),
  "an unknown option": (
    lambda: datasets.load("digits", "sklearn", color=True),
    "'color'",
  ),
  "floats as pixels": (
    lambda: Dataset("x", BYTES / 255.0, BYTES, BYTES),
    "float64; allowed is uint8",
  ),
  "no channels": (
    lambda: Dataset("x", BYTES[..., 0], BYTES, BYTES),
    r"shape \(20, 4, 4\)",
  ),
  "an empty split": (lambda: Dataset("x", BYTES, BYTES[:0], BYTES), "at least one"),
  "sizes that differ": (
    lambda: Dataset("x", BYTES, BYTES, BYTES[:, 1:]),
    "all splits must agree",
  ),
  "pixels above the levels": (
    lambda: Dataset("x", BYTES + 2, BYTES, BYTES, levels=2),
    "value 2; with 2 levels allowed are 0 to 1",
  ),
  "no level": (lambda: Dataset("x", BYTES, BYTES, BYTES, levels=0), "levels is 0"),
  "a split that is none": (
    lambda: Dataset("x", BYTES, BYTES, BYTES).split("exam"),
    "'exam'",
  ),
  "a zip of unequal lists": (
    lambda: overrides.zipped(overrides.sweep("a", [1]), overrides.sweep("b", [1, 2])),
    r"\[1, 2\]",
  ),
  "a grid of NaN": (lambda: plots.grid(with_pixel(np.nan)), "1 NaN in 128"),
  "a grid of nothing": (lambda: plots.grid(GOOD[:0]), r"shape \(0, 8, 8, 1\)"),
  "a grid of two channels": (
    lambda: plots.grid(np.zeros((1, 8, 8, 2), np.uint8)),
    r"shape \(1, 8, 8, 2\)",
  ),
  "a picture as text": (
    lambda: plots.save("x.txt", np.zeros((4, 4, 3), np.uint8)),
    r"'x.txt'.*\.png",
  ),
  "a picture of floats": (
    lambda: plots.save("x.png", np.zeros((4, 4, 3))),
    "not float64",
  ),
  "one temperature": (lambda: temperatures.geometric(1), "temperatures is 1"),
  "temperatures unknown": (lambda: temperatures.named("hot", 5), "'hot'"),
  "a summary of nothing": (lambda: summary.summarize(np.zeros(0)), r"shape \(0,\)"),
  "keys of negative seeds": (
    lambda: models.keys_of(KEY, [-1]),
    "seed.*-1",
  ),
}


@pytest.mark.parametrize("name", OF_A_MODEL)
def test_a_mistake_with_a_model_is_named(model, name):
  call, told = OF_A_MODEL[name]
  with pytest.raises(UserError, match=told):
    call(model)


@pytest.mark.parametrize("name", OF_THE_LIBRARY)
def test_a_mistake_with_the_library_is_named(name):
  call, told = OF_THE_LIBRARY[name]
  with pytest.raises(UserError, match=told):
    call()


def test_unknown_pixels_may_be_anything(model):
  images = np.where(HALF[..., None], GOOD, np.nan)
  found = model.inpaint(KEY, images, HALF)
  assert np.isfinite(found).all()
  np.testing.assert_array_equal(found, model.inpaint(KEY, GOOD, HALF))
