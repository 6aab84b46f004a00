"""What a run is, as frozen dataclasses: checked once, then trusted.

A configuration file, a command line and a checkpoint all arrive here as a plain
nested mapping (`from_dict`) and leave as one (`to_dict`).
"""

import dataclasses
import difflib
import json
import math
import types
from collections.abc import Mapping
from typing import Any, get_type_hints

from infusion_jax import objectives
from infusion_jax.errors import UserError
from infusion_jax.states.infusion import PROPOSALS

#: `chain.states` of bits, and what `model.condition` may be (`restoration.conditions`).
BITS, CONDITIONS = "bernoulli", ("inpaint", "colour", "superres2", "superres4")
DTYPES, AUTO = ("float32", "bfloat16"), "auto"  # Of `model.dtype`.
#: A wider layer is a typing error: its weight matrix alone fills a machine.
_WIDEST = 1_000_000

#: What a key decides, where it is not the result and the compiled program.
#: numbers: a number of the run; runs that differ in it share one program.
#: length: when training ends; a run can be made longer.
#: notes: what is written beside the result, and how often.
#: place: where files are.
AFFECTS = ("numbers", "length", "notes", "place")


def _key(default: Any, affects: str) -> Any:
  """A field of a section that does not decide all a field decides by default."""
  return dataclasses.field(default=default, metadata={"affects": affects})


def _in_range(name: str, value: float, low: float, high: float) -> None:
  if not low <= value <= high:
    bounds = " and ".join(
      f"{bound:,}" if isinstance(bound, int) else f"{bound:g}" for bound in (low, high)
    )
    raise UserError(f"{name} is {value}; it must lie between {bounds}")


def _later(default: Any, affects: str | None = None) -> Any:
  """A field that older versions did not have: its default names no other run."""
  metadata = {"later": True} | ({"affects": affects} if affects else {})
  return dataclasses.field(default=default, metadata=metadata)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
  if value not in allowed:
    raise UserError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Where the images come from.

  Attributes:
    name: what to call the data set.
    source: "sklearn", "tfds", "idx", "npz", "npy", "images", "mat" or "points".
    path: file or folder, for sources that read one.
    cache_dir: folder for decoded arrays; empty: the user's cache folder.
    crop: side in pixels of the square cut from the middle of every picture
      before anything else; 0: none ("images" and "tfds" only, as the next two).
    size: side in pixels that pictures are brought to; 0: as they are.
    fit: how a picture that is not square becomes so: "crop": its shorter side is
      brought to `size` and the middle kept; "stretch": both sides are.
    grey: one channel of grey, whatever the pictures have ("images", "tfds").
    bad_pictures: what cannot be read "fail"s or is left out, "skip" ("images" only).
    fold: which of the official folds, 1 to 5 ("mat" only).
    binarize: makes bits of pixels: "threshold" at half of the levels, or "sampled":
      the pixel is the probability of a 1, drawn from a fixed seed; empty: no bits.
    max_images: the first so many training images, a fifth as many others; 0: all.
    stream: whether training reads images block by block: "always", "never" or "auto",
      where they fill more than half of a device's memory; same bits. Sweeps never do.
  """

  name: str = "digits"
  source: str = "sklearn"
  path: str = _key("", "place")
  cache_dir: str = _key("", "place")
  crop: int = 0
  size: int = 0
  fit: str = "crop"
  grey: bool = False
  bad_pictures: str = "fail"
  fold: int = 1
  max_images: int = 0
  binarize: str = _later("")
  stream: str = _later("auto", "place")

  def __post_init__(self) -> None:
    _one_of("data.stream", self.stream, ("auto", "always", "never"))
    _one_of("data.fit", self.fit, ("crop", "stretch"))
    _one_of("data.binarize", self.binarize or "sampled", ("threshold", "sampled"))
    _one_of("data.bad_pictures", self.bad_pictures, ("fail", "skip"))
    _in_range("data.crop", self.crop, 0, 16_384)
    _in_range("data.size", self.size, 0, 16_384)
    _in_range("data.fold", self.fold, 1, 5)
    _in_range("data.max_images", self.max_images, 0, 1_000_000_000)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The transition operator's network.

  Attributes:
    name: "mlp", "conv", "unet" or your own, "FILE.py:Class" (see docs/extending.md).
    hidden_sizes: units of the hidden layers ("mlp").
    dtype: of matrix products' inputs, "float32" or "bfloat16"; the rest is float32.
      "auto": the faster, by steps where the run begins, which records its choice.
    channels: feature maps of the levels, the coarsest first ("conv", "unet").
    kernel_size: of the convolutions ("conv").
    encoder: the dense layer sees "flat" pixels, or what a "conv" net saw ("conv").
    blocks: residual blocks per level, down and up each ("unet").
    groups: of the group norms ("unet").
    num_classes: labels 0 ... num_classes - 1 that the network is told; 0: none.
    self_conditioning: the network also sees the mean its state was drawn around.
    latents: modes of every transition, 1 to 8 Gaussians of whole images ("mlp").
    condition: shown of images: "inpaint", "colour", "superres2", "superres4"; or "".
  """

  name: str = "mlp"
  hidden_sizes: tuple[int, ...] = (1200, 1200)
  dtype: str = "float32"
  channels: tuple[int, ...] = (512, 256, 128)
  kernel_size: int = 5
  encoder: str = "flat"
  blocks: int = 1
  groups: int = 8
  num_classes: int = _later(0)
  self_conditioning: bool = _later(False)
  latents: int = _later(1)
  condition: str = _later("")

  def __post_init__(self) -> None:
    _one_of("model.dtype", self.dtype, (*DTYPES, AUTO))
    _one_of("model.encoder", self.encoder, ("flat", "conv"))
    _in_range("model.kernel_size", self.kernel_size, 2, 31)
    _in_range("model.blocks", self.blocks, 1, 100)
    _in_range("model.groups", self.groups, 1, 10_000)
    _in_range("model.num_classes", self.num_classes, 0, 100_000)
    _in_range("model.latents", self.latents, 1, 8)
    _one_of("model.condition", self.condition or CONDITIONS[0], CONDITIONS)
    if any(not 1 <= size <= _WIDEST for size in self.hidden_sizes):
      raise UserError(
        f"model.hidden_sizes is {self.hidden_sizes}; every layer needs 1 to"
        f" {_WIDEST:,} units"
      )
    if not self.channels or any(not 1 <= size <= _WIDEST for size in self.channels):
      raise UserError(
        f"model.channels is {self.channels}; at least one level with 1 to"
        f" {_WIDEST:,} feature maps is needed"
      )


@dataclasses.dataclass(frozen=True)
class ChainConfig:
  """The chain and its infusion.

  Attributes:
    num_steps: T.
    alpha0: infusion rate of the first state.
    omega: increase of the rate per step.
    rates: the whole schedule [T], instead of alpha0 and omega; empty: not used.
    repeat_first_rate: alpha0 twice, as in the authors' script.
    variance_scale: beta of the variance head.
    variance_floor: epsilon of the variance head.
    target_variance: variance of the narrow Gaussian around the target.
    prior_floor: added to the variances of the prior.
    states: "gaussian", or "bernoulli" for data of bits, trained by denoising.
    infusion: q, the "mixture" of p and x or their "interpolation" (`states.infusion`).
    unroll: steps per iteration of the compiled loop; 0: one.
  """

  num_steps: int = 15
  alpha0: float = _key(0.0, "numbers")
  omega: float = _key(0.01, "numbers")
  rates: tuple[float, ...] = _key((), "numbers")
  repeat_first_rate: bool = _key(False, "numbers")
  variance_scale: float = 0.1
  variance_floor: float = 1e-4
  target_variance: float = _key(1e-4, "numbers")
  prior_floor: float = _key(1e-5, "numbers")
  unroll: int = 0
  states: str = _later("gaussian")
  infusion: str = _later("mixture")

  def __post_init__(self) -> None:
    _one_of("chain.states", self.states, ("gaussian", BITS))
    _one_of("chain.infusion", self.infusion, tuple(PROPOSALS))
    _in_range("chain.num_steps", self.num_steps, 1, 10_000)
    _in_range("chain.unroll", self.unroll, 0, 10_000)
    _in_range("chain.alpha0", self.alpha0, 0.0, 1.0)
    _in_range("chain.omega", self.omega, -1.0, 1.0)
    _in_range("chain.variance_scale", self.variance_scale, 0.0, 1e6)
    for name in ("variance_floor", "target_variance", "prior_floor"):
      _in_range(f"chain.{name}", getattr(self, name), 1e-12, 1e6)
    if self.rates and len(self.rates) != self.num_steps:
      raise UserError(
        f"chain.rates has {len(self.rates)} values;"
        f" chain.num_steps = {self.num_steps} needs as many"
      )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How the parameters are learned.

  Attributes:
    objective: "denoising", "lower_bound", "hybrid" or "importance_weighted".
    method: "infusion", or a rival that is trained instead (`peers.METHODS`).
    bound_weight: of hybrid: how much the lower bound counts beside denoising.
    label_dropout: how often an image is trained without its label or `condition`.
    bound_means: of hybrid: "constant": the bound teaches variances alone; "learned".
    num_chains: of importance_weighted: infusion chains an image.
    score_free: of all but denoising: the gradient without the score of q, whose mean
      is 0; of importance_weighted: the doubly reparametrized one.
    learn_rates: "none", or infusion rates learned for every "step", or also "pixel".
    likelihood: "density" of dequantized images, or "discrete": the probability of
      their grey levels (`gaussian.log_bin_density`), which no variance floor bounds.
    batch_size: images per step.
    num_epochs: passes over the training set, at most.
    learning_rate: Adam's.
    decay: "constant", or "cosine": to 0 over the whole run.
    clip: largest global norm of the gradient; 0: not clipped.
    ema_decay: decay of the averaged weights that are validated and kept; 0: none.
    patience: epochs without a better validation bound before stopping; 0: never.
    on_nonfinite: where the loss or its gradient is not finite, "stop", or "rollback":
      to the last checkpoint, and on without that mini-batch. More than a tenth of an
      epoch's mini-batches stop it in any case. (In a sweep, such a run ends.)
    seed: decides everything random.
    init_from: a workdir whose weights start this run; empty: fresh weights.
    monitor_images: training images whose bound is evaluated each epoch.
    checkpoint_every: epochs between checkpoints.
    keep_every: epochs between checkpoints that are kept for good; 0: none.
    preview_every: epochs between pictures; 0: only at the end.
    parzen_every: epochs between Parzen estimates (figure 3.3); 0: none.
    parzen_samples: samples of the model such an estimate is made from.
  """

  objective: str = "denoising"
  batch_size: int = 128
  num_epochs: int = _key(300, "length")
  learning_rate: float = _key(1e-3, "numbers")
  decay: str = _key("constant", "numbers")
  clip: float = 0.0
  ema_decay: float = 0.0
  patience: int = _key(0, "length")
  on_nonfinite: str = _key("stop", "notes")
  seed: int = _key(0, "numbers")
  init_from: str = _key("", "numbers")
  monitor_images: int = _key(1000, "notes")
  checkpoint_every: int = _key(1, "notes")
  keep_every: int = _key(0, "notes")
  preview_every: int = _key(10, "notes")
  parzen_every: int = 0
  parzen_samples: int = 10_000
  likelihood: str = _later("density")
  bound_weight: float = _later(0.1)
  bound_means: str = _later("constant")
  num_chains: int = _later(5)
  score_free: bool = _later(False)
  method: str = _later("infusion")
  label_dropout: float = _later(0.1)
  learn_rates: str = _later("none")

  def __post_init__(self) -> None:
    _one_of("train.objective", self.objective, tuple(objectives.CRITERIA))
    _one_of("train.on_nonfinite", self.on_nonfinite, ("stop", "rollback"))
    _one_of("train.bound_means", self.bound_means, ("constant", "learned"))
    _in_range("train.bound_weight", self.bound_weight, 0.0, 1e6)
    _in_range("train.num_chains", self.num_chains, 1, 10_000)
    _in_range("train.label_dropout", self.label_dropout, 0.0, 1.0)
    _one_of("train.likelihood", self.likelihood, ("density", "discrete"))
    _one_of("train.learn_rates", self.learn_rates, ("none", "step", "pixel"))
    _one_of("train.decay", self.decay, ("constant", "cosine"))
    # Batch norm needs at least two images to estimate a variance.
    _in_range("train.batch_size", self.batch_size, 2, 1_000_000)
    _in_range("train.num_epochs", self.num_epochs, 1, 1_000_000)
    _in_range("train.learning_rate", self.learning_rate, 0.0, 1e3)
    _in_range("train.clip", self.clip, 0.0, math.inf)
    _in_range("train.ema_decay", self.ema_decay, 0.0, 0.999999)
    _in_range("train.seed", self.seed, 0, 2**32 - 1)
    _in_range("train.checkpoint_every", self.checkpoint_every, 1, 1_000_000)
    _in_range("train.parzen_samples", self.parzen_samples, 1, 1_000_000_000)
    whole = "patience monitor_images keep_every preview_every parzen_every"
    for name in whole.split():
      _in_range(f"train.{name}", getattr(self, name), 0, 1_000_000_000)


@dataclasses.dataclass(frozen=True)
class Config:
  """A run: its data, model, chain and training."""

  data: DataConfig = DataConfig()
  model: ModelConfig = ModelConfig()
  chain: ChainConfig = ChainConfig()
  train: TrainConfig = TrainConfig()

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> "Config":
    """Builds a configuration from nested mappings; missing keys take defaults.

    Raises:
      UserError: an unknown key, a value of another type, or one out of range.
    """
    return build(cls, values, "config")

  def to_dict(self) -> dict[str, Any]:
    """The same as nested dictionaries and lists, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(self)))


def dotted_keys(*affects: str) -> list[str]:
  """The dotted keys that decide one of these (see `AFFECTS`); without any, all keys."""
  return [
    f"{section.name}.{field.name}"
    for section in dataclasses.fields(Config)
    for field in dataclasses.fields(section.type)
    if not affects or field.metadata.get("affects") in affects
  ]


def later_defaults(config: "Config") -> list[str]:
  """The dotted keys of later versions that have their default."""
  return [
    f"{section.name}.{field.name}"
    for section in dataclasses.fields(Config)
    for field in dataclasses.fields(section.type)
    if field.metadata.get("later")
    and getattr(getattr(config, section.name), field.name) == field.default
  ]


def value_of(config: Config, key: str) -> Any:
  """The value of a dotted key."""
  section, _, name = key.partition(".")
  return getattr(getattr(config, section), name)


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
  """The dotted keys whose values differ, each with its old and its new value."""
  pairs = {key: (value_of(old, key), value_of(new, key)) for key in dotted_keys()}
  return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def build(cls: type, values: Mapping[str, Any], where: str) -> Any:
  """A dataclass from a mapping; missing keys take defaults.

  Args:
    cls: the dataclass; its annotations are checked, but for those of its own checks.
    values: its fields.
    where: what to call it in an error.

  Raises:
    UserError: an unknown key, a value of another type, or one that `cls` refuses.
  """
  if not isinstance(values, Mapping):
    raise UserError(f"{where} is {values!r}; a section of keys and values belongs here")
  types_of = get_type_hints(cls)
  for key in values:
    if key not in types_of:
      near = difflib.get_close_matches(str(key), types_of, 1)
      hint = f"; did you mean {near[0]}?" if near else ""
      raise UserError(
        f"{where}.{key} is not a configuration key (allowed:"
        f" {', '.join(types_of)}){hint}"
      )
  return cls(
    **{key: _cast(types_of[key], values[key], f"{where}.{key}") for key in values}
  )


def _cast(kind: Any, value: Any, where: str) -> Any:
  """Checks one value against its annotation; whole floats pass as integers."""
  if dataclasses.is_dataclass(kind):
    return build(kind, value, where)
  if isinstance(kind, types.GenericAlias):
    if not isinstance(value, (list, tuple)):
      raise UserError(f"{where} is {value!r}; allowed is a list of numbers")
    return tuple(_cast(kind.__args__[0], item, where) for item in value)
  if kind is str and value is None:
    return ""
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if kind is float and number:
    return float(value)
  if kind is int and number and float(value).is_integer():
    return int(value)
  if kind in (str, bool) and isinstance(value, kind):
    return value
  raise UserError(f"{where} is {value!r}; allowed is {_ALLOWED[kind]}")


_ALLOWED = {int: "a whole number", float: "a number", str: "a string"}
_ALLOWED[bool] = "True or False"
