"""Inception-v3 (Szegedy et al., 2015) in Flax, with weights the user supplies.

Nothing is downloaded. Two public checkpoints fit, converted once on a machine
that has PyTorch:

    python -m experiments.convert_inception --checkpoint=FILE.pth --out=inception.npz

- `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid: the weights of the 2015
  TensorFlow graph that the Inception score, FID and KID of the literature are
  computed with. 1,008 outputs. Its network leaves the padding out of averages,
  and pools by maximum in the last block.
- `inception_v3_google-0cc3c7bd.pth` of torchvision: 1,000 outputs. Scores with
  these weights are not those of the literature.

Which of the two networks is meant is told by the number of outputs. With made-up
weights both agree with PyTorch's (torchvision 0.28, pytorch-fid 0.3.0) to 1e-5 in the
features and 3e-5 in the logits.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from infusion_jax.errors import UserError
from infusion_jax.metrics.extractors import (
  Extractor,
  ImageShape,
  Predictions,
  in_batches,
)
from infusion_jax.storage import files

Array = jax.Array
Pool = Callable[[Array], Array]

SIDE = 299
#: Outputs of the 2015 TensorFlow graph, and of torchvision's network.
TENSORFLOW_CLASSES, TORCHVISION_CLASSES = 1008, 1000

_BATCH = 50
# Parts of a PyTorch parameter's name, and where Flax keeps it.
_PLACES = {
  "conv.weight": ("params", "conv/kernel"),
  "bn.weight": ("params", "bn/scale"),
  "bn.bias": ("params", "bn/bias"),
  "bn.running_mean": ("batch_stats", "bn/mean"),
  "bn.running_var": ("batch_stats", "bn/var"),
}


class InceptionV3(nn.Module):
  """The network without its auxiliary classifier.

  The bias of the logits is left out for the weights of the TensorFlow graph, as
  Salimans et al. do in their code for the Inception score.

  Attributes:
    classes: `TENSORFLOW_CLASSES` or `TORCHVISION_CLASSES`; they decide on the
      details above.
  """

  classes: int = TENSORFLOW_CLASSES

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """Maps [N, 299, 299, 3] in [-1, 1] to features [N, 2048] and logits [N, K]."""
    x = _Conv(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
    x = _Conv(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
    x = _Conv(64, (3, 3), name="Conv2d_2b_3x3")(x)
    x = _halved(x)
    x = _Conv(80, (1, 1), name="Conv2d_3b_1x1")(x)
    x = _Conv(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
    x = _halved(x)
    average, last = self.pools()
    for name, pooled in (("5b", 32), ("5c", 64), ("5d", 64)):
      x = BlockA(pooled, average, name=f"Mixed_{name}")(x)
    x = BlockB(name="Mixed_6a")(x)
    for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
      x = BlockC(inner, average, name=f"Mixed_{name}")(x)
    x = BlockD(name="Mixed_7a")(x)
    x = BlockE(average, name="Mixed_7b")(x)
    x = BlockE(last, name="Mixed_7c")(x)
    features = x.mean((1, 2))
    logits = nn.Dense(self.classes, use_bias=not self.tensorflow, name="fc")(features)
    return features, logits

  @property
  def tensorflow(self) -> bool:
    """Whether this is the network of the 2015 TensorFlow graph."""
    return self.classes == TENSORFLOW_CLASSES

  def pools(self) -> tuple[Pool, Pool]:
    """The 3x3 pooling of the blocks, and that of the last block."""
    average = functools.partial(
      nn.avg_pool,
      window_shape=(3, 3),
      padding="SAME",
      count_include_pad=not self.tensorflow,
    )
    maximum = functools.partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
    return average, maximum if self.tensorflow else average


class _Conv(nn.Module):
  """Convolution, fixed batch norm, ReLU."""

  features: int
  kernel: tuple[int, int]
  stride: int = 1
  padding: str = "SAME"

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = nn.Conv(
      self.features,
      self.kernel,
      strides=self.stride,
      padding=self.padding,
      use_bias=False,
      name="conv",
    )(x)
    return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class BlockA(nn.Module):
  """35x35: 1x1, 5x5, two 3x3, pooling."""

  pooled: int
  pool: Pool

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, H, W, C] to [N, H, W, 224 + pooled]."""
    one = _Conv(64, (1, 1), name="branch1x1")(x)
    five = _Conv(48, (1, 1), name="branch5x5_1")(x)
    five = _Conv(64, (5, 5), name="branch5x5_2")(five)
    double = _Conv(64, (1, 1), name="branch3x3dbl_1")(x)
    double = _Conv(96, (3, 3), name="branch3x3dbl_2")(double)
    double = _Conv(96, (3, 3), name="branch3x3dbl_3")(double)
    pool = _Conv(self.pooled, (1, 1), name="branch_pool")(self.pool(x))
    return jnp.concatenate([one, five, double, pool], -1)


class BlockB(nn.Module):
  """35x35 to 17x17."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, H, W, C] to [N, (H - 1) // 2, (W - 1) // 2, C + 480]."""
    three = _Conv(384, (3, 3), 2, "VALID", name="branch3x3")(x)
    double = _Conv(64, (1, 1), name="branch3x3dbl_1")(x)
    double = _Conv(96, (3, 3), name="branch3x3dbl_2")(double)
    double = _Conv(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(double)
    return jnp.concatenate([three, double, _halved(x)], -1)


class BlockC(nn.Module):
  """17x17: 1x1, 7x7 in two strips, twice that, pooling."""

  inner: int
  pool: Pool

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, H, W, C] to [N, H, W, 768]."""
    one = _Conv(192, (1, 1), name="branch1x1")(x)
    seven = _Conv(self.inner, (1, 1), name="branch7x7_1")(x)
    seven = _Conv(self.inner, (1, 7), name="branch7x7_2")(seven)
    seven = _Conv(192, (7, 1), name="branch7x7_3")(seven)
    double = _Conv(self.inner, (1, 1), name="branch7x7dbl_1")(x)
    double = _Conv(self.inner, (7, 1), name="branch7x7dbl_2")(double)
    double = _Conv(self.inner, (1, 7), name="branch7x7dbl_3")(double)
    double = _Conv(self.inner, (7, 1), name="branch7x7dbl_4")(double)
    double = _Conv(192, (1, 7), name="branch7x7dbl_5")(double)
    pool = _Conv(192, (1, 1), name="branch_pool")(self.pool(x))
    return jnp.concatenate([one, seven, double, pool], -1)


class BlockD(nn.Module):
  """17x17 to 8x8."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, H, W, C] to [N, (H - 1) // 2, (W - 1) // 2, C + 512]."""
    three = _Conv(192, (1, 1), name="branch3x3_1")(x)
    three = _Conv(320, (3, 3), 2, "VALID", name="branch3x3_2")(three)
    seven = _Conv(192, (1, 1), name="branch7x7x3_1")(x)
    seven = _Conv(192, (1, 7), name="branch7x7x3_2")(seven)
    seven = _Conv(192, (7, 1), name="branch7x7x3_3")(seven)
    seven = _Conv(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven)
    return jnp.concatenate([three, seven, _halved(x)], -1)


class BlockE(nn.Module):
  """8x8: branches whose last strips lie side by side."""

  pool: Pool

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [N, H, W, C] to [N, H, W, 2048]."""
    one = _Conv(320, (1, 1), name="branch1x1")(x)
    three = _Conv(384, (1, 1), name="branch3x3_1")(x)
    three_a = _Conv(384, (1, 3), name="branch3x3_2a")(three)
    three_b = _Conv(384, (3, 1), name="branch3x3_2b")(three)
    double = _Conv(448, (1, 1), name="branch3x3dbl_1")(x)
    double = _Conv(384, (3, 3), name="branch3x3dbl_2")(double)
    double_a = _Conv(384, (1, 3), name="branch3x3dbl_3a")(double)
    double_b = _Conv(384, (3, 1), name="branch3x3dbl_3b")(double)
    pool = _Conv(192, (1, 1), name="branch_pool")(self.pool(x))
    return jnp.concatenate([one, three_a, three_b, double_a, double_b, pool], -1)


def _halved(x: Array) -> Array:
  return nn.max_pool(x, (3, 3), strides=(2, 2))


def load(path: files.StrPath) -> Extractor:
  """Reads converted weights and returns the network as an extractor.

  Images of any size are brought to 299x299 (see `resized`) and to [-1, 1]; grey ones
  get three equal channels.

  Args:
    path: a file written by `save`.

  Returns:
    An extractor for images [N, H, W, 1 or 3] in [0, 1].

  Raises:
    UserError: the file is missing, damaged, or not of these shapes.
  """
  module, variables = read(pathlib.Path(path).expanduser())

  @jax.jit
  def forward(variables: Any, images: Array) -> tuple[Array, Array]:
    features, logits = module.apply(variables, prepared(images))
    return features, jax.nn.softmax(logits)

  def predict(images: np.ndarray) -> Predictions:
    check(images.shape[1:])
    return in_batches(functools.partial(forward, variables), images, _BATCH)

  name = "inception" if module.tensorflow else "torchvision"
  about = {"network": f"Inception-v3 with {module.classes:,} classes"}
  return Extractor(name, predict, about, check)


def check(image_shape: ImageShape) -> None:
  """Raises UserError for images that have neither 1 nor 3 channels."""
  if image_shape[-1:] not in ((1,), (3,)):
    raise UserError(
      f"images have shape {image_shape}; Inception-v3 takes 1 or 3 channels"
    )


def prepared(images: Array) -> Array:
  """Images [N, H, W, 1 or 3] in [0, 1] as the network takes them."""
  x = resized(resized(images, 1), 2)
  return jnp.broadcast_to(2 * x - 1, (*x.shape[:-1], 3))


def resized(images: Array, axis: int) -> Array:
  """Brings one axis of images to `SIDE`, by linear interpolation.

  Pixel i of the result lies at i * size / SIDE, not half a pixel aside, and nothing
  is smoothed: so does the TensorFlow graph, and the difference moves the FID.

  Args:
    images: [N, H, W, C].
    axis: 1 or 2.

  Returns:
    The images with `SIDE` pixels along that axis.
  """
  size = images.shape[axis]
  place = np.arange(SIDE) * size / SIDE
  lower = place.astype(int)
  upper = np.minimum(lower + 1, size - 1)
  weight = np.float32(place - lower).reshape([-1 if i == axis else 1 for i in range(4)])
  below, above = jnp.take(images, lower, axis), jnp.take(images, upper, axis)
  return below + weight * (above - below)


def read(path: pathlib.Path) -> tuple[InceptionV3, dict[str, Any]]:
  """Returns the network that a file of weights fits, and its variables.

  Raises:
    UserError: see `load`.
  """
  where = f"Inception weights {path}"
  if not path.is_file():
    raise UserError(
      f"{where}: there is no such file; make it from a public checkpoint by"
      " python -m experiments.convert_inception"
    )
  try:
    with np.load(path, allow_pickle=False) as archive:
      flat = {name: archive[name] for name in archive.files}
  # Damaged archives make numpy and the zip library raise nearly anything.
  except Exception as error:
    raise UserError(f"{where}: cannot be read ({error})") from error
  module = _checked(flat, where)
  return module, traverse_util.unflatten_dict(flat, sep="/")


def save(path: files.StrPath, weights: Mapping[str, np.ndarray]) -> None:
  """Writes converted weights, in one step.

  Raises:
    UserError: they are not those of the network.
  """
  _checked(weights, "Inception weights")
  with files.replacing(path) as stream:
    np.savez(stream, **weights)


def convert(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """A PyTorch checkpoint's arrays under Flax's names and in its layout.

  Convolutions turn from [F, C, H, W] to [H, W, C, F]. What the network has no use
  for, the auxiliary classifier and counters of batches, is left out.

  Args:
    state: the state dictionary of torchvision's or pytorch-fid's Inception-v3.

  Returns:
    Arrays by name, for `save`.

  Raises:
    UserError: an array is missing, foreign or of another shape.
  """
  weights = {}
  for name, array in state.items():
    if name.startswith("AuxLogits.") or name.endswith("num_batches_tracked"):
      continue
    weights.update(_converted(name, np.asarray(array, np.float32)))
  bias = "params/fc/bias"
  if len(weights.get(bias, ())) == TENSORFLOW_CLASSES:
    del weights[bias]
  _checked(weights, "checkpoint")
  return weights


def _converted(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
  if name == "fc.weight":
    return {"params/fc/kernel": array.T}
  if name == "fc.bias":
    return {"params/fc/bias": array}
  layer, kind, leaf = name.rsplit(".", 2) if name.count(".") >= 2 else ("", "", "")
  if f"{kind}.{leaf}" not in _PLACES:
    raise UserError(
      f"checkpoint: {name!r} is not an array of Inception-v3 by torchvision's names"
    )
  collection, place = _PLACES[f"{kind}.{leaf}"]
  if array.ndim == 4:
    array = array.transpose(2, 3, 1, 0)
  return {f"{collection}/{layer.replace('.', '/')}/{place}": array}


def _checked(weights: Mapping[str, np.ndarray], where: str) -> InceptionV3:
  """Returns the network whose arrays these are, all of them and no others."""
  kernel = weights.get("params/fc/kernel", np.empty((0, 0)))
  allowed = (TENSORFLOW_CLASSES, TORCHVISION_CLASSES)
  if kernel.ndim != 2 or kernel.shape[1] not in allowed:
    raise UserError(
      f"{where}: the last layer has shape {kernel.shape}; allowed are [2048,"
      f" {allowed[0]}] and [2048, {allowed[1]}]"
    )
  module = InceptionV3(kernel.shape[1])
  wanted = expected_shapes(module)
  if odd := sorted(set(wanted) ^ set(weights)):
    state = "missing" if odd[0] in wanted else "not the network's"
    raise UserError(f"{where}: array {odd[0]} is {state} (and {len(odd) - 1} more)")
  for name, shape in wanted.items():
    if weights[name].shape != shape or weights[name].dtype != np.float32:
      raise UserError(
        f"{where}: array {name} is {weights[name].dtype} {weights[name].shape}; it"
        f" must be float32 {shape}"
      )
  return module


@functools.cache
def expected_shapes(module: InceptionV3) -> dict[str, tuple[int, ...]]:
  """The shapes of the network's arrays by name."""
  image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  flat = traverse_util.flatten_dict(variables, sep="/")
  return {name: leaf.shape for name, leaf in flat.items()}
