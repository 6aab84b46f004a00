"""A table of mistakes: launcher, flags, and what the one sentence must name.

In the flags {run} is the workdir of a small trained run, {files} the folder of
`bad_files`, {out} a path that does not exist. What must be named are regular
expressions, all of which are to be found.
"""

from typing import NamedTuple

# Small, for the day on which one of them is not refused.
_DIGITS = (
  "--config=configs/digits.py --workdir={out} --noprogress --config.train.num_epochs=1"
)
_SAME = "--config=configs/digits.py --workdir={run} --noprogress {as_trained}"


class Mistake(NamedTuple):
  """One wrong command."""

  launcher: str
  flags: str
  told: tuple[str, ...]

  def __str__(self) -> str:
    short = self.flags.replace(_DIGITS, "").replace(_SAME, "SAME")
    return f"{self.launcher} {short.strip()}"


def _of(launcher: str, before: str, *rows: tuple[str, ...]) -> list[Mistake]:
  return [Mistake(launcher, f"{before} {row[0]}".strip(), row[1:]) for row in rows]


def _key(key: str, *rows: tuple[str, ...]) -> list[Mistake]:
  """Wrong values of one configuration key; its name must be told."""
  return [
    Mistake(
      "train",
      f"{_DIGITS} --config.{key}={row[0]}",
      (key.replace(".", r"\."), *row[1:]),
    )
    for row in rows
  ]


def _data(source: str, *rows: tuple[str, ...]) -> list[Mistake]:
  """Wrong files for a source; the file must be told."""
  return [
    Mistake(
      "train",
      f"{_DIGITS} --config.data.source={source} --config.data.path={row[0]}"
      " --config.train.batch_size=2",
      row[1:],
    )
    for row in rows
  ]


TRAIN = _of(
  "train",
  "",
  ("--workdir={out}", "config"),
  ("--config=configs/digits.py", "workdir"),
  ("--config=configs/digits.py --workdir=", "workdir"),
  ("--config= --workdir={out}", "config"),
  ("--config=configs/none.py --workdir={out}", r"configs/none\.py"),
  ("--config=configs --workdir={out}", "configs"),
  ("--config=digit --workdir={out}", "'digit'", "did you mean 'digits'"),
  ("--config=configs/digits.py:fast --workdir={out}", "'fast'", "smoke"),
  ("--config=configs/cifar10.py:fast --workdir={out}", "'fast'", "smoke"),
  ("--config={files}/configs/syntax.py --workdir={out}", "config", "syntax"),
  ("--config={files}/configs/none.py --workdir={out}", "config", "get_config"),
  ("--config={files}/configs/raises.py --workdir={out}", "config", "no such thing"),
  ("--config={files}/configs/imports.py --workdir={out}", "no_such_module"),
  ("--config={files}/configs/number.py --workdir={out}", "config", "7"),
  ("--config={files}/configs/section.py --workdir={out}", "training", "train"),
  ("--config={files}/configs/flat.py --workdir={out}", "train is 5"),
  ("--config={files}/configs/data.json --workdir={out}", "config", "get_config"),
  ("--config={files}/text.txt --workdir={out}", "config"),
  ("--config=configs/sweeps/digits.py --workdir={out}", "base"),
) + _of(
  "train",
  _DIGITS,
  ("more", "'more'"),
  ("--wrong=1", "wrong"),
  ("--progress=perhaps", "progress", "perhaps"),
  ("--tensorboard=maybe", "tensorboard", "maybe"),
  ("--wandb=maybe", "wandb", "maybe"),
  ("--config.nothing=1", "nothing"),
  ("--config.train.nothing=1", "nothing"),
  (
    "--config.train.lerning_rate=1",
    r"'lerning_rate'.*did you mean 'train\.learning_rate'",
  ),
  ("--config.train=1", "train"),
  ("--config.train.seed", "seed"),
  ("--workdir={files}/text.txt", r"text\.txt", "file"),
  ("--workdir={files}/text.txt/below", r"text\.txt"),
  ("--workdir={files}/letters", "letters", "not empty"),
  ("--workdir=/dev/null/run", "/dev/null"),
  ("--workdir=/proc/infusion", "/proc/infusion"),
)

OTHER_RUN = _of(
  "train",
  _SAME,
  ("--config.train.seed=1", r"train\.seed = 0, not 1"),
  ("--config.train.learning_rate=0.5", r"train\.learning_rate"),
  ("--config.train.batch_size=17", r"train\.batch_size = 16, not 17"),
  ("--config.train.objective=lower_bound", r"train\.objective", "lower_bound"),
  ("--config.chain.num_steps=4", r"chain\.num_steps = 3, not 4"),
  ("--config.chain.omega=0.2", r"chain\.omega"),
  ("--config.model.hidden_sizes=(9,)", r"model\.hidden_sizes"),
  ("--config.model.name=conv", r"model\.name"),
  ("--config.data.max_images=51", r"data\.max_images"),
  ("--config.train.ema_decay=0.9", r"train\.ema_decay"),
)

KEYS = [
  # Options that another source has.
  *_of(
    "train",
    _DIGITS,
    ("--config.data.crop=4", "'crop'", "'sklearn'"),
    ("--config.data.size=4", "'size'", "'sklearn'"),
    ("--config.data.grey=True", "'grey'", "'sklearn'"),
    ("--config.data.fold=2", "'fold'", "'sklearn'"),
  ),
  *_key("data.source", ("web", "'web'", "sklearn"), ("", "''"), ("SKLEARN", "SKLEARN")),
  *_key("data.name", ("letters", "'letters'", "digits"), ("", "''")),
  *_key("data.path", ("/tmp", "/tmp", "no path")),
  *_key("data.crop", ("-1", "-1"), ("20000", "20000"), ("x",)),
  *_key("data.size", ("-1", "-1"), ("1e9",)),
  *_key("data.fit", ("squash", "'squash'", "stretch")),
  *_key("data.grey", ("perhaps", "perhaps")),
  *_key("data.bad_pictures", ("keep", "'keep'", "skip")),
  *_key("data.stream", ("sometimes", "'sometimes'", "always"), ("1", "1")),
  *_key("data.fold", ("0", "0", "5"), ("6", "6")),
  *_key("data.max_images", ("-1", "-1"), ("1.5",)),
  *_key(
    "model.name",
    ("gan", "'gan'", "mlp", r"FILE\.py:Class"),
    ("", "''"),
    ("{files}/code/none.py:Net", r"none\.py cannot be read: No such file"),
    ("{files}/code/raises.py:Net", r"raises\.py cannot be run: ValueError: a bad day"),
    ("{files}/code/networks.py:Net", "no Flax module 'Net'"),
    ("{files}/code/networks.py:", "no Flax module ''"),
    ("{files}/code/networks.py", "allowed are conv, mlp"),
    ("{files}/code/networks.py:Flat", "must return a Gaussian"),
    ("{files}/text.txt:Net", "allowed are conv, mlp"),
  ),
  *_key(
    "model.hidden_sizes",
    ("(0,)", "0"),
    ("(-4,)", "-4"),
    ("(1.5,)", r"1\.5"),
    ("('a',)", "a"),
    ("((4,),)", "4"),
    ("(1000000000000,)", "1000000000000"),
  ),
  *_key("model.dtype", ("float64", "'float64'", "bfloat16"), ("int8", "'int8'")),
  *_key("model.channels", ("()", "at least"), ("(0,)", "0"), ("(-1,8)", "-1")),
  *_key("model.kernel_size", ("1", "1"), ("99", "99"), ("0",), ("-3",)),
  *_key("model.encoder", ("deep", "'deep'", "flat")),
  *_key("model.blocks", ("0", "0"), ("1000", "1000")),
  *_key("model.groups", ("0", "0"), ("-1", "-1")),
  *_key(
    "chain.num_steps", ("0", "0"), ("-5", "-5"), ("20000",), ("1.5",), ("many", "many")
  ),
  *_key(
    "chain.alpha0", ("-0.1", "-0.1"), ("1.1", "1.1"), ("nan", "nan"), ("inf", "inf")
  ),
  *_key("chain.omega", ("nan", "nan"), ("2", "2"), ("-2",), ("0.5", "infusion rate")),
  *_key(
    "chain.rates",
    ("(0.1,)", "1 value", "10"),
    ("(2.0,)*10",),
    ("(0,0,0,0,0,0,0,0,0,1.5)", r"1\.5", "step 9"),
    ("(0,0,0,0,0,0,0,0,0,-0.5)", r"-0\.5"),
    ("('a',)", "a"),
    ("0.5", "1 value"),
  ),
  *_key("chain.repeat_first_rate", ("perhaps", "perhaps"), ("2",)),
  *_key("chain.variance_scale", ("-0.1",), ("nan", "nan"), ("1e7",)),
  *_key("chain.variance_floor", ("0", "0"), ("-1e-4",), ("nan", "nan"), ("inf", "inf")),
  *_key("chain.target_variance", ("0", "0"), ("-1e-4",), ("1e-30",)),
  *_key("chain.prior_floor", ("0", "0"), ("nan", "nan")),
  *_key("chain.unroll", ("-1", "-1"), ("20000",)),
  *_key("train.objective", ("gan", "'gan'", "denoising"), ("", "''")),
  *_key("train.likelihood", ("counts", "'counts'", "density, discrete")),
  *_key("train.bound_weight", ("-1", "-1"), ("nan", "nan"), ("much", "much")),
  *_key("train.bound_means", ("free", "'free'", "constant, learned")),
  *_key(
    "train.batch_size",
    ("0", "0"),
    ("1", "1"),
    ("-1", "-1"),
    ("1258", "1258", "1257"),
    ("2.5",),
    ("many", "many"),
  ),
  *_key("train.num_epochs", ("0", "0"), ("-1", "-1"), ("1e9",), ("2.5",)),
  *_key("train.learning_rate", ("-1", "-1"), ("nan", "nan"), ("inf", "inf"), ("fast",)),
  *_key("train.decay", ("linear", "'linear'", "cosine")),
  *_key("train.clip", ("-1", "-1"), ("nan", "nan")),
  *_key("train.ema_decay", ("1", "1"), ("-0.5",), ("nan", "nan"), ("2",)),
  *_key("train.patience", ("-1", "-1"), ("0.5",)),
  *_key("train.seed", ("-1", "-1"), ("4294967296", "4294967296"), ("0.5",), ("x",)),
  *_key(
    "train.init_from",
    ("{out}/none", "none"),
    ("{files}/letters", "letters"),
    ("{files}/text.txt", r"text\.txt"),
    ("{run}", "another model|shape"),
  ),
  *_key("train.monitor_images", ("-1", "-1"), ("0.5",)),
  *_key("train.checkpoint_every", ("0", "0"), ("-1", "-1")),
  *_key(
    "train.keep_every",
    ("-1", "-1"),
  ),
  *_key("train.preview_every", ("-1", "-1"), ("0.5",)),
]

_IDX, _NPZ, _PIC = "{files}/idx", "{files}/npz", "{files}/pictures"

DATA = [
  *_data(
    "idx",
    ("", r"data\.path", "idx"),
    ("{out}", "no such"),
    ("{files}/empty", "empty", "train-images"),
    ("{files}/text.txt", "text.txt"),
    *(
      (f"{_IDX}/{name}", name, *told)
      for name, *told in (
        ("no_test", "t10k"),
        ("no_train", "train-images"),
        ("magic", "2052", "2051"),
        ("labels_as_images", "2049", "2051"),
        ("short", "95 bytes"),
        ("long", "96 bytes"),
        ("header", "7 bytes"),
        ("no_bytes", "0 bytes"),
        ("no_images", "0 x 4 x 4"),
        ("one_image", "1 image"),
        ("no_pixels", "6 x 0 x 4"),
        ("truncated_gz", "cannot be read"),
        ("bad_gz", "cannot be read"),
        ("gz_magic_only", "cannot be read"),
        ("lying", "2147483648"),
        ("bomb", "more"),
      )
    ),
    (f"{_IDX}/other_size", r"\(5, 4, 1\)", r"\(4, 4, 1\)"),
  ),
  *_data(
    "npy",
    ("", r"data\.path", "npy"),
    ("{out}", "no such"),
    ("{files}/empty", "train.npy", "No such file"),
    ("{files}/text.txt", "text.txt", "Not a directory"),
    *(
      (f"{{files}}/npy/{name}", *told)
      for name, *told in (
        ("text", "train.npy", "cannot be read"),
        ("truncated", "train.npy", "cannot be read"),
        ("floats", "train.npy", "float64", "uint8"),
        ("flat", "train.npy", r"\(20, 16\)", r"\[N, H, W\]"),
        ("no_test", "test.npy", "No such file"),
        ("other_size", r"\(5, 4, 1\)", r"\(4, 4, 1\)"),
      )
    ),
  ),
  *_data(
    "npz",
    ("", r"data\.path", "npz"),
    ("{out}", "no such"),
    ("{files}/empty", "empty"),
    ("{files}/empty_file", "empty_file"),
    *(
      (f"{_NPZ}/{name}.npz", *told)
      for name, *told in (
        ("truncated", "truncated", "cannot be read"),
        ("cut_end", "cut_end", "cannot be read"),
        ("flipped", "flipped", "cannot be read"),
        ("no_zip", "no_zip", "cannot be read"),
        ("no_keys", "'train' and 'test'"),
        ("only_train", "train", "test"),
        ("both", "images"),
        ("floats", "float64", "integers"),
        ("nan", "float64", "integers"),
        ("negative", "-1", "255"),
        ("too_bright", "256", "255"),
        ("above_levels", "17", "16"),
        ("levels_0", "levels is 0", "256"),
        ("levels_300", "levels is 300", "256"),
        ("levels_list", "levels"),
        ("levels_text", "levels"),
        ("flat", r"\(20, 16\)"),
        ("five_axes", r"\(20, 4, 4, 1, 1\)"),
        ("no_images", r"\(0, 4, 4\)"),
        ("two_images", "2 images"),
        ("no_pixels", r"\(20, 0, 4\)"),
        ("mixed", r"\(4, 5, 1\)", r"\(4, 4, 1\)"),
        ("mixed_validation", "validation", r"\(4, 5, 1\)"),
        ("objects", "object", "integers"),
        ("text", "<U1", "integers"),
        ("lying_shape", "1000000000"),
        ("negative_shape", "-1"),
        ("no_npy", "cannot be read"),
        ("lying_size", "lying_size"),
        ("bomb", "bomb"),
        ("code_in_header", "cannot be read"),
      )
    ),
  ),
  *_data(
    "images",
    ("", r"data\.path", "images"),
    ("{out}", "no such"),
    ("{files}/empty", "holds no pictures", r"\.png"),
    ("{files}/text.txt", r"text\.txt", "zip"),
    *(
      (f"{_PIC}/{name}", *told)
      for name, *told in (
        ("mixed", "5x4", "4x4", r"data\.size"),
        ("broken", r"7\.png", r"data\.bad_pictures"),
        ("no_picture", r"7\.png"),
        ("huge", r"7\.png", "pixels|bomb"),
        ("two", "2 images", "3"),
        ("no_pictures", "no pictures"),
        ("only_test", "test", "train"),
        ("outside", r"7\.png"),
        ("truncated.zip", r"truncated\.zip", "zip"),
        ("no_zip.zip", r"no_zip\.zip"),
        ("none.zip", "no pictures"),
        ("letters.zip", "no pictures"),
        ("bad_member.zip", r"0\.png"),
        ("lying.zip", r"lying|0\.png"),
        ("traversal.zip", "no pictures"),
        ("encrypted.zip", r"\.png", "password|encrypted"),
      )
    ),
    (f"{_PIC}/two,{_PIC}/none", "none"),
    (f"{_PIC}/two,{_PIC}/mixed", "two", "train"),
    (f"{_PIC}/not_square --config.data.crop=5", r"data\.crop = 5"),
  ),
  *_data(
    "mat",
    ("", r"data\.path", "mat"),
    ("{out}", "no such"),
    *(
      ("{files}/mat/" + f"{name}.mat", *told)
      for name, *told in (
        ("no_images", "images"),
        ("floats", "float64", "integers"),
        ("flat", r"\(20, 16\)"),
        ("negative", "-1"),
        ("folds", r"\(20, 2\)"),
        ("no_test", "validation"),
        ("text", r"text\.mat"),
        ("truncated", r"truncated\.mat"),
      )
    ),
  ),
  *_data(
    "tfds",
    ("{files}/empty --config.data.name=mnist", "mnist", "prepare_data|prepared"),
    ("{out} --config.data.name=mnist", "mnist|no such"),
    ("{files}/empty --config.data.name=no/such/thing", "no/such/thing"),
    ("{files}/empty --config.data.name=", "name"),
  ),
  *_of(
    "train",
    _DIGITS,
    (
      "--config.data.source=npz --config.data.path={files}/npz/tiny_set.npz"
      " --config.train.batch_size=8",
      "batch_size is 8",
      "7",
    ),
  ),
  *_data(
    "npz",
    ("{files}/npz/bright.npz --config.data.fold=2", "fold"),
    ("{files}/npz/bright.npz --config.data.max_images=1", "batch_size is 2", "1 image"),
  ),
]

EVALUATE = _of(
  "evaluate",
  "",
  ("--workdir={run} --code={files}/code/none.py", r"none\.py cannot be read"),
  ("--workdir={run} --code={files}/code/raises.py", r"raises\.py.*line 1"),
  ("--workdir={run} --code={files}/text.txt", r"text\.txt' is no \.py file"),
  ("", "workdir"),
  ("--workdir=", "workdir"),
  ("--workdir={out}", "does not exist"),
  ("--workdir={files}/text.txt", "is a file"),
  ("--workdir={files}/empty", "no complete checkpoint"),
  ("--workdir={files}/letters", "no complete checkpoint"),
) + _of(
  "evaluate",
  "--workdir={run} --noprogress",
  ("--metrics=beauty", "'beauty'", "bound"),
  ("--metrics=", "metrics"),
  ("--metrics=bound,,beauty", "'beauty'"),
  ("--split=training", "'training'", "train, validation, test"),
  ("--split=", "''"),
  ("--num_images=-1", "num_images is -1"),
  ("--num_images=x", "num_images", "x"),
  ("--num_chains=0", "num_chains is 0"),
  ("--num_chains=1.5", "num_chains", r"1\.5"),
  ("--repetitions=0", "repetitions is 0"),
  ("--seed=-1", "seed is -1"),
  ("--seed=99999999999999999999", "seed"),
  ("--search_images=0", "search_images is 0"),
  ("--search_chains=-3", "search_chains is -3"),
  ("--num_samples=0", "num_samples is 0"),
  ("--sigma=-1", "sigma is -1"),
  ("--sigma=nan", "sigma is nan"),
  ("--sigma=inf", "sigma is inf"),
  ("--num_steps=-1", "num_steps is -1"),
  ("--temperatures=0", "temperatures is 0"),
  ("--ais_images=0", "ais_images is 0"),
  ("--ais_chains=0", "ais_chains is 0"),
  ("--data_path={out}", r"data\.path"),
  ("--sandwich=perhaps", "sandwich", "perhaps"),
  ("--ais_gap=-1", "ais_gap is -1", "0"),
  ("--ais_gap=nan", "ais_gap is nan"),
  ("--ais_gap=small", "ais_gap", "small"),
  ("--tune_proposal=perhaps", "tune_proposal"),
  ("--wrong", "wrong"),
  ("more", "'more'"),
)

SAMPLE = _of(
  "sample",
  "",
  ("", "workdir"),
  ("--workdir=", "workdir"),
  ("--workdir={out}", "does not exist"),
  ("--workdir={files}/empty", "no complete checkpoint"),
  ("--workdir={run}/checkpoints/999", "999"),
) + _of(
  "sample",
  "--workdir={run}",
  ("--seeds=x", "'x'", "0-63"),
  ("--seeds=5-1", "'5-1'"),
  ("--seeds=-5", "'-5'"),
  ("--seeds=1,", "'1,'"),
  ("--seeds=1-2-3", "'1-2-3'"),
  ("--seeds=1.5", r"'1\.5'"),
  ("--seeds=4294967296", "4294967296"),
  ("--seeds=0-99999999", "1000000"),
  ("--seeds=¹", "¹"),
  ("--num_steps=0", "num_steps", "0"),
  ("--num_steps=-3", "num_steps", "-3"),
  ("--num_steps=ten", "num_steps", "ten"),
  ("--show=dreams", "show", "dreams"),
  ("--scale=0", "scale", "0"),
  ("--scale=3 --out={out}.npz", "scale is 3", r"\.png"),
  ("--out={files}/x.bmp", r"x\.bmp", r"\.png"),
  ("--out={files}/text.txt/x.png", r"text\.txt"),
  ("--out={files}/letters", "letters", "letter.txt"),
  ("--out=/proc/infusion/x.png", "/proc/infusion"),
  ("--out=/dev/null/x.png", "/dev/null"),
  ("--gif --out={out}/x.png", r"x\.png", r"\.gif"),
  ("--gif --neighbors", "gif", "neighbors"),
  ("--infuse=test:0 --seeds=1", "infuse", "seeds"),
  ("--infuse=test", "'test'", "test:0-9"),
  ("--infuse=exam:0", "'exam:0'", "train, validation, test"),
  ("--infuse=test:x", "infuse"),
  ("--infuse=test:", "infuse"),
  ("--infuse=test:9999", "9999"),
  ("--infuse=test:0 --sample", "infuse", "sample"),
  ("--infuse=test:0 --neighbors", "infuse", "neighbors"),
  ("--infuse=test:0,1 --checkpoints=all", "checkpoints"),
  ("--checkpoints=all", "checkpoints", "infuse"),
  ("--infuse=test:0 --checkpoints=77", "77", "kept"),
  ("--infuse=test:0 --checkpoints=last", "'last'"),
  ("--infuse=test:0 --data_path={out}", r"data\.path"),
  ("--neighbors --data_path={out}", r"data\.path"),
  ("--mean=perhaps", "mean", "perhaps"),
)

INPAINT = _of(
  "inpaint",
  "",
  ("", "workdir"),
  ("--workdir={out}", "does not exist"),
  ("--workdir={files}/letters", "no complete checkpoint"),
) + _of(
  "inpaint",
  "--workdir={run}",
  ("--keep=middle", "keep", "middle", "top"),
  ("--images=test", "'test'"),
  ("--images=exam:1", "'exam:1'"),
  ("--images=test:9999", "9999"),
  ("--images=", "images"),
  ("--restarts=0", "restarts", "0"),
  ("--restarts=x", "restarts", "x"),
  ("--num_steps=0", "num_steps", "0"),
  ("--seed=-1", "seed", "-1"),
  ("--seed=99999999999999999999", "seed"),
  ("--out={files}/x.gif", r"x\.gif", r"\.png"),
  ("--out={files}/empty", "empty"),
  ("--out={files}/text.txt/x.png", r"text\.txt"),
  ("--file={out}", "does not exist"),
  ("--file={files}/text.txt", r"text\.txt"),
  ("--file={files}/empty", "empty"),
  ("--file={files}/masks/truncated.png", "truncated"),
  ("--file={files}/masks/huge.png", "huge"),
  ("--file={files}/masks/floats.tif", "mode F"),
  ("--file={files}/masks/half.png --images=test:0", "file", "images"),
  ("--mask={out}", "does not exist"),
  ("--mask={files}/masks/white.png", "white", "all pixels"),
  ("--mask={files}/masks/black.png", "black", "no pixels"),
  ("--mask={files}/masks/other_size.png", "8x14", "8x8"),
  ("--mask={files}/masks/text.png", r"text\.png"),
  ("--mask={files}/masks/truncated.png", "truncated"),
  ("--mask={files}/masks/empty.png", r"empty\.png"),
  ("--mask={files}/masks/huge.png", "huge"),
  ("--mask={files}/masks/floats.tif", "mode F"),
  ("--mask={files}/masks/half.png --keep=top", "mask", "keep"),
  ("--data_path={out}", r"data\.path"),
)

OTHERS = [
  *_of(
    "report",
    "",
    ("", "workdir"),
    ("--workdir={out}", "does not exist"),
    ("--workdir={files}/empty", "no complete checkpoint"),
    ("--workdir={run} --out={files}/x.pdf", r"x\.pdf", r"\.html"),
    ("--workdir={run} --out={files}/text.txt/x.html", r"text\.txt"),
    ("--workdir={run} --out={files}/empty", "empty"),
    ("--workdir={run} --num_steps=0", "num_steps"),
    ("--workdir={run} --data_path={out}", r"data\.path"),
  ),
  *_of(
    "page",
    "",
    ("", "workdir"),
    ("--workdir={out}", "does not exist"),
    ("--workdir={files}/empty", "no complete checkpoint"),
    ("--workdir={run} --out={files}/x.js", r"x\.js", r"\.html"),
    ("--workdir={run} --out={files}/text.txt/x.html", r"text\.txt"),
  ),
  *_of(
    "export",
    "",
    ("--out={out}", "workdir"),
    ("--workdir={run}", "out"),
    ("--workdir={run} --out=", "out"),
    ("--workdir={out} --out={out}/x", "does not exist"),
    ("--workdir={files}/empty --out={out}", "no complete checkpoint"),
    ("--workdir={run} --out={run}", "in use"),
    ("--workdir={run} --out={files}/letters", "in use"),
    ("--workdir={run} --out={files}/text.txt", "in use"),
    ("--workdir={run} --out={files}/text.txt/x", r"text\.txt"),
    ("--workdir={run} --out=/proc/infusion", "/proc/infusion"),
    ("--workdir={run} --out={out} --dtype=float8", "dtype", "float16"),
    ("--workdir={run} --out={out} --format=pickle", "format", "safetensors"),
    ("--workdir={run} --out={out} --format=safetensors", r"ending in \.safetensors"),
    ("--workdir={run} --out={out}.safetensors", "--format=safetensors"),
    ("--workdir={run} --out={out} --push_to_hub=me/x", "both there"),
    ("--workdir={run} --push_to_hub=x", "'x'; allowed are names like owner/name"),
    (
      "--workdir={run} --format=safetensors --out={files}/text.txt/x.safetensors",
      r"text\.txt",
    ),
  ),
  *_of(
    "sweep",
    "",
    ("--workdir={out}", "config"),
    ("--config=configs/sweeps/digits.py", "workdir"),
    ("--config=configs/digits.py --workdir={out}", "'base' and 'runs'"),
    ("--config=configs/sweeps/none.py --workdir={out}", "none"),
    *(
      ("--config={files}/configs/" + f"{name}.py --workdir={{out}}", *told)
      for name, *told in (
        ("no_runs", "no runs"),
        ("runs_no_list", "runs is 5"),
        ("runs_of_numbers", "5"),
        ("run_key", "omgea", "omega"),
        ("run_flat_key", "'omega'", "chain"),
        ("run_value", "'fast'", "number"),
        ("run_rate", "infusion rate"),
        ("number", "7"),
        ("raises", "no such thing"),
      )
    ),
  ),
  *_of(
    "sweep",
    "--config={files}/configs/sound_sweep.py --workdir={out}",
    ("--memory_gb=-1", "memory_gb is -1"),
    ("--memory_gb=nan", "memory_gb is nan"),
    ("--memory_gb=x", "memory_gb", "x"),
    ("--engine=slurm", "engine", "slurm"),
    ("--together=-1", "together", "-1"),
    ("--num_images=-1", "num_images is -1"),
    ("--num_chains=0", "num_chains is 0"),
    ("--config.base.train.seed=-1", r"train\.seed"),
    ("--config.base.train.batch_size=5000", "batch_size is 5000", "1257"),
    ("--config.base.data.source=web", "'web'"),
    ("--config.base.nothing=1", "nothing"),
    ("--workdir={files}/letters", "letters"),
    ("--workdir={files}/text.txt", r"text\.txt"),
    ("--workdir={run}", "run"),
    ("--workdir=/proc/infusion", "/proc/infusion"),
  ),
  *_of(
    "prepare_data",
    "",
    ("--data_dir={out}", "dataset"),
    ("--dataset=mnist", "data_dir"),
    ("--dataset=no_such_set --data_dir={out}", "'no_such_set'"),
    ("--dataset=../mnist --data_dir={out}", r"\.\./mnist"),
    ("--dataset= --data_dir={out}", "dataset"),
    ("--dataset=mnist --data_dir={out} --manual_dir={out}", "manual_dir"),
    (
      "--dataset=mnist --data_dir={out} --manual_dir={files}/empty",
      "manual_dir",
      "lacks",
    ),
    ("--dataset=emnist/nothing --data_dir={out}", "nothing", "letters"),
    ("--dataset=mnist:9.9.9 --data_dir={out}", r"9\.9\.9"),
  ),
  *_of(
    "train_classifier",
    "",
    ("--out={out}.npz", "config"),
    ("--config=configs/digits.py", "out"),
    ("--config=configs/digits.py --out={out}", "npz"),
    ("--config=configs/digits.py --out={out}/x.npz", "existing folder"),
    ("--config=configs/digits.py --out={out}.npz --epochs=0", "epochs"),
    ("--config=configs/digits.py --out={out}.npz --seed=-1", "seed"),
    ("--config=configs/digits.py --out={out}.npz --seed=x", "seed"),
    ("--config=configs/digits.py --out={out}.npz --config.data.source=mat", "labels"),
    ("--config=configs/none.py --out={out}.npz", "none"),
  ),
  *_of(
    "train_classifier",
    "--config=configs/digits.py --out={out}.npz --config.data.source=idx",
    ("--config.data.path={files}/idx/sound", "train labels"),
    ("--config.data.path={files}/idx/short_labels", "labels"),
    ("--config.data.path={files}/idx/label_magic", "2051", "2049"),
    ("--config.data.path={files}/idx/one_class", "two classes"),
    ("--config.data.path={out}", r"data\.path"),
  ),
  *_of(
    "train_classifier",
    "--config=configs/digits.py --out={out}.npz --config.data.source=images",
    ("--config.data.path={files}/pictures/one_class", "class"),
  ),
  *_of(
    "convert_inception",
    "",
    ("--out={out}.npz", "checkpoint"),
    ("--checkpoint={files}/text.txt", "out"),
    ("--checkpoint={files}/text.txt --out={out}", "npz"),
    ("--checkpoint={files}/text.txt --out={out}.npz", "PyTorch|cannot be read"),
    ("--checkpoint={out} --out={out}.npz", "PyTorch|no such|cannot be read"),
    ("--checkpoint={files}/empty --out={out}/x.npz", "existing folder"),
  ),
  *_of(
    "sample",
    "--workdir={run}",
    ("--seeds=5-", "'5-'"),
    ("--infuse=0-9", "'0-9'; allowed are a split and numbers"),
    ("--infuse=test:0,x", "'0,x'"),
    ("--chain --out={out}/folder", r"a name ending in \.png or \.npz or \.gif"),
  ),
  *_of(
    "sweep",
    "--workdir={out}",
    ("--config=configs/sweeps/table_a1.py:x", "'x'; allowed are a, b"),
    (
      "--config={files}/configs/sound_sweep.py --config.base.model.dtype=auto",
      "'auto'",
      "a sweep needs one of float32, bfloat16",
    ),
    (
      "--config={files}/configs/sound_sweep.py --config.base.model.name=gan",
      "'gan'; allowed are",
    ),
    (
      "--config={files}/configs/sound_sweep.py --memory_gb=1e-6",
      "one run with T = [0-9]+ needs",
    ),
    ("--config={files}/configs/sound_sweep.py --ray_retries=-1", "ray_retries is -1"),
    (
      "--config={files}/configs/sound_sweep.py --config.base.train.method=vae",
      "'VAE'; a sweep trains infusion alone",
    ),
  ),
  *_of(
    "compare",
    "",
    ("--workdir={out}", "config"),
    ("--config=configs/compare/digits.py", "workdir"),
    ("--config=configs/digits.py --workdir={out}", "'base' and 'compare'"),
    ("--config=configs/compare/digits.py --workdir={run}", "is no comparison"),
    ("--config=configs/compare/digits.py --workdir={files}/text.txt", "is a file"),
  ),
  *_of(
    "compare",
    "--config=configs/compare/digits.py --workdir={out} --noprogress",
    ("--config.compare.calls=(1,2)", r"compare\.calls is \(1, 2\)"),
    ("""--config.compare.methods="('infusion','vea')" """, "'vea'; allowed are"),
    ("""--config.compare.methods="('reflow',)" """, "needs 'flow_matching' before"),
    ("--config.compare.num_samples=1", r"compare\.num_samples is 1"),
    ("--config.compare.sigma=-1", r"compare\.sigma is -1"),
    ("--config.base.model.name=unet", "model.name is 'unet'"),
    ("--config.base.train.method=ddpm", "base.train.method is 'ddpm'"),
  ),
  *_of(
    "reproduce",
    "--data={files}/empty --out={out}",
    ("--target=figure_9", "'figure_9'; allowed are all, table_3_1"),
    ("--scale=large", "scale"),
    ("--target=figure_3_1", "--workdir is missing"),
    (
      "--target=figure_3_1 --workdir={out}/w",
      "figure_3_1 cannot be made: MNIST",
      "mnist, or tensorflow_datasets/mnist in the folder '.*empty'",
    ),
    ("--target=table_3_2 --workdir={out}/w", "table_3_2 cannot be made: it needs"),
    ("--workdir={out}/w --inception=I", "--inception is 'I'; allowed is a file"),
  ),
  *_of(
    "density",
    "",
    ("", "workdir"),
    ("--workdir={out}", "does not exist"),
    ("--workdir={run}", r"shape \(8, 8, 1\)", "two numbers"),
    ("--workdir={run} --out={files}/x.gif", r"x\.gif", r"\.png"),
    ("--workdir={run} --seed=-1", "seed", "-1"),
  ),
  *_of(
    "train",
    "--workdir={out} --noprogress",
    (
      "--config=configs/two_d.py:spiral",
      "'spiral'; allowed are checkerboard, rings, two_moons",
    ),
  ),
  *_of(
    "train",
    "--workdir={out} --noprogress --config=configs/two_d.py",
    (" --config.data.name=spiral", "'spiral'; source 'points' has"),
    (" --config.data.path=x", "reads no path"),
    (" --config.model.num_classes=1", "num_classes is 1; the labels of two_moons"),
    (" --config.model.num_classes=-1", "num_classes is -1"),
    (" --config.train.label_dropout=1.5", "label_dropout is 1.5"),
    (" --config.model.condition=superres2", "'superres2'; factor is 2"),
  ),
  *_of(
    "sample",
    "--workdir={run}",
    ("--label=3", "has no classes"),
    ("--label=all", "has no classes"),
    ("--label=three", "'three'"),
    ("--guidance=2", "--guidance needs --label"),
    ("--label=3 --guidance=-1", "guidance", "-1"),
    ("--label=3 --infuse=test:0", "--label", "--infuse"),
  ),
  *_of(
    "evaluate",
    "--workdir={run}",
    ("--metrics=classes", "model with classes"),
    ("--metrics=agreement", "classes"),
    ("--label=3", "label is '3'", "has no classes"),
    ("--label=none", "label is 'none'", "has no classes"),
    ("--label=mine", "label is 'mine'; allowed are own, none and a number"),
  ),
  *_of(
    "restore",
    "--workdir={run}",
    ("", "task"),
    ("--task=sharpen", "sharpen", "superres"),
    ("--task=superres --factor=3", "factor is 3; it must divide"),
    ("--task=superres --factor=1", "factor"),
    ("--task=colour", "1 channels"),
    ("--task=superres --images=exam:1", "'exam:1'"),
    ("--task=superres --out={files}/x.gif", r"x\.gif"),
    ("--task=inpaint --keep=middle", "keep", "middle"),
    ("--task=inpaint --label=3", "has no classes"),
    ("--task=inpaint --label=-1", "label", "-1"),
    ("--task=inpaint --label=all", "label", "all"),
  ),
  *_of(
    "train",
    "--workdir={out} --noprogress --config=configs/digits.py",
    ("--config.chain.states=cauchy", "'cauchy'; allowed are gaussian, bernoulli"),
    ("--config.model.condition=blur", "'blur'; allowed are inpaint, colour"),
    ("--config.model.condition=colour", "'colour'; images have 1 channels"),
    (
      "--config.model.condition=inpaint --config.train.method=vae",
      "'vae'; conditions",
    ),
    (
      "--config.model.condition=inpaint --config.chain.states=bernoulli"
      " --config.data.binarize=threshold",
      "condition is 'inpaint'; it is for Gaussian states alone",
    ),
    ("--config.chain.states=bernoulli", "pixels of digits are no bits"),
    ("--config.data.binarize=dither", "'dither'; allowed are threshold, sampled"),
    ("--config.data.binarize=threshold", "pixels of digits are bits"),
    (
      "--config.chain.states=bernoulli --config.data.binarize=threshold"
      " --config.train.objective=lower_bound",
      "no gradient flows",
    ),
    (
      "--config.chain.states=bernoulli --config.data.binarize=threshold"
      " --config.chain.infusion=interpolation",
      "'interpolation'; bits",
    ),
    (
      "--config.chain.states=bernoulli --config.data.binarize=threshold"
      " --config.model.self_conditioning=True",
      "self_conditioning is True for network 'mlp' and 'bernoulli' states",
    ),
    (
      "--config.model.self_conditioning=True --config.train.score_free=True"
      " --config.train.objective=importance_weighted",
      "score_free is True for 'importance_weighted'",
    ),
    (
      "--config.model.self_conditioning=True --config.train.method=vae",
      "'vae'.*'infusion' alone",
    ),
    ("--config.model.latents=0", "latents is 0; it must lie between 1 and 8"),
    (
      "--config.model.latents=2 --config.model.name=conv",
      "latents is 2 for network 'conv'.*needs 'mlp'",
    ),
    (
      "--config.model.latents=2 --config.train.objective=lower_bound",
      "'lower_bound' and model.latents 2; no gradient flows",
    ),
    ("--config.chain.infusion=blend", "'blend'; allowed are mixture, interpolation"),
    ("--config.train.learn_rates=image", "'image'; allowed are none, step, pixel"),
    (
      "--config.train.learn_rates=step --config.train.objective=importance_weighted",
      "'importance_weighted' knows its choice of pixels",
    ),
    (
      "--config.train.learn_rates=step --config.chain.infusion=interpolation",
      "'denoising'; a gradient of the rates comes from lower_bound, hybrid",
    ),
  ),
]

ALL = [*TRAIN, *OTHER_RUN, *KEYS, *DATA, *EVALUATE, *SAMPLE, *INPAINT, *OTHERS]
