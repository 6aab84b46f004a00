"""Inception-v3: its arrays, its blocks against numpy, and converted weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from infusion_jax.errors import UserError
from infusion_jax.metrics import inception

TENSORFLOW, TORCHVISION = inception.TENSORFLOW_CLASSES, inception.TORCHVISION_CLASSES


def pytorch_name(name: str) -> str:
  """The name torchvision gives to what Flax calls `name`."""
  _, *layer, leaf = name.split("/")
  leaf = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
  }.get(leaf, leaf)
  return ".".join((*layer, leaf))


def pytorch_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  if len(shape) == 4:
    return (shape[3], shape[2], shape[0], shape[1])
  return shape[::-1]


@functools.cache
def state(classes: int) -> dict[str, np.ndarray]:
  """A made-up PyTorch checkpoint, auxiliary classifier and counters included."""
  shapes = inception.expected_shapes(inception.InceptionV3(classes))
  found = {
    pytorch_name(name): np.zeros(pytorch_shape(name, shape), np.float32)
    for name, shape in shapes.items()
  }
  found["fc.bias"] = np.zeros(classes, np.float32)
  found["AuxLogits.fc.weight"] = np.zeros((classes, 768), np.float32)
  found["Mixed_5b.branch1x1.bn.num_batches_tracked"] = np.zeros((), np.int64)
  return found


@pytest.mark.parametrize(
  ("classes", "parameters"),
  # torchvision's 27,161,264 less those of its auxiliary classifier; and the same
  # with 8 outputs more and no bias.
  [(TORCHVISION, 23_834_568), (TENSORFLOW, 23_834_568 + 8 * 2048 - 1000)],
)
def test_number_of_parameters(classes, parameters):
  shapes = inception.expected_shapes(inception.InceptionV3(classes))
  sizes = [
    np.prod(shape, dtype=int) for name, shape in shapes.items() if "params" in name
  ]
  assert sum(sizes) == parameters


def test_the_names_are_those_of_torchvision():
  names = state(TORCHVISION)
  for name, shape in {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Conv2d_4a_3x3.bn.running_var": (192,),
    "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
    "Mixed_6b.branch7x7dbl_2.conv.weight": (128, 128, 7, 1),
    "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    "fc.weight": (1000, 2048),
  }.items():
    assert names[name].shape == shape


@pytest.mark.parametrize("classes", [TENSORFLOW, TORCHVISION])
def test_converted_arrays_are_where_they_belong(classes):
  checkpoint = dict(state(classes))
  kernel = np.random.default_rng(0).normal(size=(128, 128, 7, 1)).astype(np.float32)
  checkpoint["Mixed_6b.branch7x7dbl_2.conv.weight"] = kernel
  weights = inception.convert(checkpoint)
  assert set(weights) == set(inception.expected_shapes(inception.InceptionV3(classes)))
  found = weights["params/Mixed_6b/branch7x7dbl_2/conv/kernel"]
  np.testing.assert_array_equal(found, kernel.transpose(2, 3, 1, 0))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"Mixed_5b.branch1x1.bn.bias": None}, "Mixed_5b/branch1x1/bn/bias is missing"),
    ({"Mixed_9z.conv.weight": (3, 3, 1, 1)}, "not the network's"),
    ({"layer1": (3,)}, "'layer1' is not an array of Inception-v3"),
    ({"fc.weight": (10, 2048)}, r"last layer has shape \(2048, 10\)"),
    ({"fc.weight": None}, "the last layer has shape"),
    ({"Conv2d_1a_3x3.conv.weight": (32, 1, 3, 3)}, r"\(3, 3, 1, 32\); it must be"),
  ],
)
def test_foreign_checkpoints(change, message):
  checkpoint = dict(state(TORCHVISION))
  for name, shape in change.items():
    checkpoint.pop(name, None)
    if shape:
      checkpoint[name] = np.zeros(shape, np.float32)
  with pytest.raises(UserError, match=message):
    inception.convert(checkpoint)


def test_saved_weights_are_read_back(tmp_path):
  weights = inception.convert(state(TENSORFLOW))
  inception.save(tmp_path / "a.npz", weights)
  module, variables = inception.read(tmp_path / "a.npz")
  assert module.classes == TENSORFLOW
  flat = traverse_util.flatten_dict(variables, sep="/")
  assert {name: leaf.shape for name, leaf in flat.items()} == {
    name: leaf.shape for name, leaf in weights.items()
  }


def test_unsound_files(tmp_path):
  with pytest.raises(UserError, match="there is no such file; make it"):
    inception.load(tmp_path / "none.npz")
  (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04 junk")
  with pytest.raises(UserError, match="cannot be read"):
    inception.load(tmp_path / "junk.npz")
  np.savez(tmp_path / "other.npz", images=np.zeros(3))
  with pytest.raises(UserError, match="the last layer has shape"):
    inception.load(tmp_path / "other.npz")
  np.savez(tmp_path / "pickle.npz", images=np.array([{}], object))
  with pytest.raises(UserError, match="cannot be read"):
    inception.load(tmp_path / "pickle.npz")


# Blocks against numpy, on a few pixels.


def numpy_layer(x, kernel, bn, stride=1, same=True):
  """Convolution, fixed batch norm with epsilon 1e-3, ReLU, in double precision."""
  rows, columns = kernel.shape[:2]
  if same:
    pads = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))
    x = np.pad(x, pads)
  height = (x.shape[1] - rows) // stride + 1
  width = (x.shape[2] - columns) // stride + 1
  y = sum(
    x[:, i : i + stride * height : stride, j : j + stride * width : stride]
    @ kernel[i, j]
    for i in range(rows)
    for j in range(columns)
  )
  y = (y - bn["mean"]) / np.sqrt(bn["var"] + 1e-3) * bn["scale"] + bn["bias"]
  return np.maximum(y, 0)


def numpy_pool(x, how):
  """3x3 windows around every pixel: "tensorflow" and "torchvision" averages, "max"."""
  fill = {"max": -np.inf, "torchvision": 0.0, "tensorflow": np.nan}[how]
  x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
  height, width = x.shape[1] - 2, x.shape[2] - 2
  windows = np.stack(
    [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
  )
  return {"max": np.max, "torchvision": np.mean, "tensorflow": np.nanmean}[how](
    windows, 0
  )


def flax_pool(how):
  network = inception.InceptionV3(TORCHVISION if how == "torchvision" else TENSORFLOW)
  return network.pools()[how == "max"]


def test_pools_of_the_last_block():
  assert inception.InceptionV3(TENSORFLOW).pools()[1].func is nn.max_pool
  assert inception.InceptionV3(TORCHVISION).pools()[1].func is nn.avg_pool


def check_block(block, reference, side=5, channels=3):
  """A block with random arrays against a function of (x, layer)."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, side, side, channels)).astype(np.float32)
  shapes = jax.eval_shape(block.init, jax.random.key(0), x)
  variables = jax.tree.map(
    lambda leaf: (
      rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32) - 0.3 * (leaf.ndim == 4)
    ),
    shapes,
  )

  def layer(name, value, stride=1, same=True):
    arrays = jax.tree.map(np.float64, variables)
    kernel = arrays["params"][name]["conv"]["kernel"]
    bn = arrays["params"][name]["bn"] | arrays["batch_stats"][name]["bn"]
    return numpy_layer(value, kernel, bn, stride, same)

  expected = reference(np.float64(x), layer)
  found = jax.jit(block.apply)(variables, x)
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-3)


def chained(layer, value, *names):
  for name in names:
    value = layer(name, value)
  return value


@pytest.mark.parametrize("how", ["tensorflow", "torchvision"])
def test_block_a(how):
  def reference(x, layer):
    dbl = [f"branch3x3dbl_{i}" for i in (1, 2, 3)]
    return np.concatenate(
      [
        layer("branch1x1", x),
        chained(layer, x, "branch5x5_1", "branch5x5_2"),
        chained(layer, x, *dbl),
        layer("branch_pool", numpy_pool(x, how)),
      ],
      -1,
    )

  check_block(inception.BlockA(8, flax_pool(how)), reference)


@pytest.mark.parametrize("how", ["tensorflow", "torchvision", "max"])
def test_block_e(how):
  def reference(x, layer):
    three = layer("branch3x3_1", x)
    double = chained(layer, x, "branch3x3dbl_1", "branch3x3dbl_2")
    return np.concatenate(
      [
        layer("branch1x1", x),
        layer("branch3x3_2a", three),
        layer("branch3x3_2b", three),
        layer("branch3x3dbl_3a", double),
        layer("branch3x3dbl_3b", double),
        layer("branch_pool", numpy_pool(x, how)),
      ],
      -1,
    )

  check_block(inception.BlockE(flax_pool(how)), reference, side=3, channels=2)


def test_block_c():
  def reference(x, layer):
    return np.concatenate(
      [
        layer("branch1x1", x),
        chained(layer, x, *(f"branch7x7_{i}" for i in (1, 2, 3))),
        chained(layer, x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
        layer("branch_pool", numpy_pool(x, "tensorflow")),
      ],
      -1,
    )

  check_block(inception.BlockC(6, flax_pool("tensorflow")), reference, side=4)


@pytest.mark.parametrize("block", ["B", "D"])
def test_blocks_that_halve(block):
  def halved(x):
    windows = [x[:, i : i + 3 : 2, j : j + 3 : 2] for i in range(3) for j in range(3)]
    return np.max(windows, 0)

  def reference(x, layer):
    if block == "B":
      last = chained(layer, x, "branch3x3dbl_1", "branch3x3dbl_2"), "branch3x3dbl_3"
      first = x, "branch3x3"
    else:
      last = (
        chained(layer, x, *(f"branch7x7x3_{i}" for i in (1, 2, 3))),
        "branch7x7x3_4",
      )
      first = layer("branch3x3_1", x), "branch3x3_2"
    ends = [layer(name, value, 2, same=False) for value, name in (first, last)]
    return np.concatenate([*ends, halved(x)], -1)

  check_block({"B": inception.BlockB, "D": inception.BlockD}[block](), reference)


def test_images_are_prepared():
  """By the formula of TensorFlow's graph: pixel i lies at i * size / 299."""
  images = np.random.default_rng(0).uniform(size=(2, 8, 5, 1)).astype(np.float32)
  x = np.asarray(inception.prepared(jnp.asarray(images)))
  assert x.shape == (2, 299, 299, 3)
  np.testing.assert_array_equal(x[..., 0], x[..., 2])
  for row, column in [(0, 0), (37, 38), (150, 3), (298, 298)]:
    i, j = row * 8 / 299, column * 5 / 299
    expected = np.zeros(2)
    for dy, wy in ((0, 1 - i % 1), (1, i % 1)):
      for dx, wx in ((0, 1 - j % 1), (1, j % 1)):
        pixel = images[:, min(int(i) + dy, 7), min(int(j) + dx, 4), 0]
        expected += wy * wx * pixel
    np.testing.assert_allclose(x[:, row, column, 0], 2 * expected - 1, atol=1e-5)


def random_checkpoint(classes):
  """Arrays that keep activations in range through all layers."""
  rng = np.random.default_rng(0)
  found = {}
  for name, array in state(classes).items():
    if array.ndim == 4:
      scale = np.sqrt(2 / np.prod(array.shape[1:]))
      found[name] = scale * rng.standard_normal(array.shape, np.float32)
    elif name.endswith(("running_var", "bn.weight")):
      found[name] = np.ones(array.shape, np.float32)
    else:
      found[name] = 0.1 * rng.standard_normal(array.shape, np.float32)
  return found


@pytest.mark.usefixtures("quick_compile")
def test_the_whole_network(tmp_path, monkeypatch):
  # The smallest images that the network leaves a pixel of.
  monkeypatch.setattr(inception, "SIDE", 75)
  monkeypatch.setattr(inception, "_BATCH", 2)
  inception.save(tmp_path / "a.npz", inception.convert(random_checkpoint(TENSORFLOW)))
  extractor = inception.load(tmp_path / "a.npz")
  images = np.random.default_rng(1).uniform(size=(3, 32, 32, 3))
  assert extractor.name == "inception"
  features, probabilities = extractor.predict(images)
  assert features.shape == (3, 2048)
  assert probabilities.shape == (3, TENSORFLOW)
  np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
  assert features.std(0).max() > 1e-3
  with pytest.raises(UserError, match="takes 1 or 3 channels"):
    extractor.predict(images[..., :2])


@pytest.mark.slow
def test_the_whole_network_against_torchvision():
  torch = pytest.importorskip("torch")
  torchvision = pytest.importorskip("torchvision")
  checkpoint = {
    n: a for n, a in random_checkpoint(TORCHVISION).items() if "Aux" not in n
  }
  network = torchvision.models.inception_v3(
    weights=None, aux_logits=False, init_weights=False
  ).eval()
  tensors = {name: torch.from_numpy(array) for name, array in checkpoint.items()}
  network.load_state_dict(tensors, strict=False)
  images = np.random.default_rng(1).uniform(-1, 1, (2, 299, 299, 3)).astype(np.float32)
  with torch.no_grad():
    expected = network(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
  variables = traverse_util.unflatten_dict(inception.convert(checkpoint), sep="/")
  _, logits = jax.jit(inception.InceptionV3(TORCHVISION).apply)(variables, images)
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
