"""Settings of a run: one frozen dataclass per task; presets and config files give values, `--set` overrides them.

Fields declare everything about their settings (setting.py).
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_type_hints

from magic_cli import preset_files
from magic_cli.errors import ConfigError, did_you_mean, kind_in_words
from magic_cli.io.files import StrPath
from magic_cli.preset_files import PresetFile
from magic_cli.setting import FRACTION, OnlyWith, Range, Setting, SettingValue

AnyConfig = TypeVar("AnyConfig", bound="Config")

AUTO = "auto"
"""What --set batch_size= takes beside numbers: training/monitoring/batch_size.py finds the number that is stored."""

_LEAST = 64
"""Pixels: EfficientNet-Lite0 makes one pixel of 32."""

_MANY = 3  # values, of which a note does not list all

_TUNED = ("last", "all", "lora", "bitfit", "norm", "prompt")


@dataclass(frozen=True)
class Config:
    """Settings that every task has.

    `changes_no_result` names those that a resumed run may be given anew; `former_names` maps setting names of earlier
    versions to the current ones; `run_settings` are those that name the best.pt of an earlier run, with the path, in
    the model, of the encoder that gets its weights.
    """

    task: ClassVar[str] = ""
    changes_no_result: ClassVar[frozenset[str]] = frozenset({"workers"})
    former_names: ClassVar[Mapping[str, str]] = {
        "weights": "weights_dir",
        "tune": "finetune",
        "accumulate": "grad_accum_steps",
        "clip": "grad_clip_norm",
        "holdout": "holdout_fraction",
    }

    run_settings: ClassVar[Mapping[str, str]] = {"image_weights": "images", "text_weights": "texts"}

    preset: Annotated[str, "Preset whose values apply unless overridden."] = "small"
    image_encoder: Annotated[
        str,
        "lite0, lite2 (from pip), lite1 (extra lite), tiny (random), a Hub name (owner/name) or a pretraining run.",
    ] = "lite0"
    text_encoder: Annotated[
        str, "minilm (from pip), tiny (random, for tests), a Hub name (owner/name) or a pretraining run (its best.pt)."
    ] = "minilm"
    image_weights: Annotated[
        str, "best.pt of the pretraining run whose weights the image encoder gets; image_encoder=RUN sets both."
    ] = ""
    text_weights: Annotated[
        str, "best.pt of the pretraining run whose weights the text encoder gets; text_encoder=RUN sets both."
    ] = ""
    init: Annotated[str, "best.pt, or folder, of an earlier run of the task whose weights training starts from."] = ""
    weights_dir: Annotated[str, "Folder of Hugging Face checkpoints; empty: the local Hub cache."] = ""
    image_size: Annotated[int, Range(32, 4096), "Height and width of photos in the encoder, in pixels."] = 256
    text_window: Annotated[int, Range(8, 8192), "Longest text that the text encoder sees, in tokens."] = 256
    finetune: Annotated[
        Literal["head", "last", "all", "lora", "bitfit", "norm", "prompt"],
        "Encoder weights to train: none (head), the last stage, all, LoRA adapters (lora), biases (bitfit), scale and "
        "shift of norms (norm), or tokens that are added to those of a transformer (prompt).",
    ] = "head"
    finetune_encoders: Annotated[
        Literal["both", "images", "texts"],
        "Encoders that `finetune` is about; the other one stays as it is.",
        OnlyWith("finetune", _TUNED),
    ] = "both"
    frozen_stages: Annotated[
        int,
        Range(0, 16),
        "First stages of the image encoder (of 7 in lite0 to lite2, 4 in Hub backbones) that finetune=all keeps.",
        OnlyWith("finetune", ("all",)),
    ] = 0
    rank: Annotated[int, Range(1, 4096), "Rank of the LoRA adapters.", OnlyWith("finetune", ("lora",))] = 8
    prompt_tokens: Annotated[
        int, Range(1, 1024), "Learned tokens of finetune=prompt.", OnlyWith("finetune", ("prompt",))
    ] = 8
    epochs: Annotated[int, Range(1, 100_000), "Passes over the training samples."] = 20
    batch_size: Annotated[
        int, Range(1, 65_536), "Samples per batch, over all processes together; auto: as many as fit (CUDA)."
    ] = 16
    grad_accum_steps: Annotated[int, Range(1, 65_536), "Batches per optimizer update."] = 1
    lr: Annotated[float, Range(1e-9, 1e6), "Learning rate of the head."] = 1e-3
    encoder_lr: Annotated[
        float, Range(0, 1e6), "Learning rate of the trained encoder weights.", OnlyWith("finetune", _TUNED)
    ] = 1e-4
    weight_decay: Annotated[float, Range(0, 1e6), "AdamW's weight decay; none on biases and norms."] = 0.01
    schedule: Annotated[
        Literal["constant", "cosine"], "Learning rate over time: constant, or a linear warm-up and a cosine to 0."
    ] = "cosine"
    warmup: Annotated[
        float,
        FRACTION,
        "Fraction of the updates that the warm-up of schedule=cosine takes.",
        OnlyWith("schedule", ("cosine",)),
    ] = 0.1
    grad_clip_norm: Annotated[float, Range(1e-9, 1e6), "Gradients of a larger norm are scaled down to it."] = 1.0
    patience: Annotated[int, Range(0, 1_000_000), "Stop after this many epochs without a better score; 0: never."] = 8
    monitor: Annotated[str, "Score that chooses the best epoch; empty: the task's official one."] = ""
    precision: Annotated[Literal["no", "fp16", "bf16"], "Mixed precision; no: float32. CPUs ignore fp16."] = "no"
    dropout: Annotated[float, FRACTION, "Fraction of the head's inputs that dropout leaves out in training."] = 0.1
    views: Annotated[int, Range(1, 2**31), "Flipped and turned views of each photo that training draws from."] = 1
    holdout_fraction: Annotated[
        float, FRACTION, "Fraction of the train encounters that validate where split valid has no gold."
    ] = 0.2
    ema: Annotated[float, FRACTION, "Decay of the averaged weights that are validated and saved; 0: no average."] = 0.0
    tta: Annotated[
        Literal["none", "flips", "turns"],
        "Views that predictions are averaged over: one, four flipped ones, or these and their quarter turns.",
    ] = "none"
    cache_dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], "Number format of the cached features of frozen encoders."
    ] = "float16"
    workers: Annotated[int, Range(0, 256), "Processes that load samples; 0: the training process loads them."] = 0
    seed: Annotated[int, Range(0, 2**32 - 1), "Random seed."] = 0

    def __post_init__(self) -> None:
        """Check all values; raises ConfigError with one line per problem."""
        lines = [line for s in settings_of(type(self)).values() for line in s.problems(getattr(self, s.name))]
        lines += self.conflicts()
        if lines:
            raise ConfigError(lines)

    def conflicts(self) -> list[str]:
        """Return one line per setting that conflicts with another one."""
        return []

    def without_effect(self, names: Collection[str]) -> list[str]:
        """Return one line per setting of these names that has no effect, as another one is as it is."""
        lines = []
        for name, setting in settings_of(type(self)).items():
            need = setting.only_with
            if name in names and need is not None and (value := getattr(self, need.name)) not in need.values:
                wanted = f", only with {' or '.join(map(_shown, need.values))}" if len(need.values) < _MANY else ""
                lines.append(f"{name} has no effect with {need.name}={_shown(value)}{wanted}")
        return lines

    def size_conflicts(self) -> list[str]:
        """Return a line if batch normalisation may see a single value of a channel, from which it cannot learn."""
        trains_norms = self.finetune in ("last", "all") and self.finetune_encoders != "texts"
        if not self.image_encoder.startswith("lite") or not trains_norms or self.image_size >= _LEAST:
            return []
        got = f"{self.image_size} with finetune={self.finetune}"
        return [f"image_size: got {got}, expected at least {_LEAST}: the last map of {self.image_encoder} is one pixel"]

    @property
    def weights_path(self) -> Path | None:
        """Folder of Hugging Face checkpoints; None for the local Hub cache."""
        return Path(self.weights_dir) if self.weights_dir else None

    @property
    def runs(self) -> tuple[Path, ...]:
        """The best.pt of every earlier run that weights are taken from."""
        named = (getattr(self, name) for name in (*self.run_settings, "init"))
        return tuple(dict.fromkeys(Path(str(run)) for run in named if run))

    @property
    def random_views(self) -> bool:
        """Whether each step draws a new random view of a photo instead of one of `views`."""
        return False

    @property
    def second_look(self) -> float:
        """How far a second look at a photo reaches around what the first one found; 0 for one look."""
        return 0.0

    @property
    def betas(self) -> tuple[float, float]:
        """AdamW's decays of the gradient's mean and of its square."""
        return 0.9, 0.999

    @property
    def eps(self) -> float:
        """AdamW's epsilon."""
        return 1e-8

    def warmup_updates(self, total: int) -> int:
        """Return how many of `total` updates the warm-up takes."""
        return max(1, round(self.warmup * total))

    @property
    def n_views(self) -> int:
        """Number of views of a photo that training draws from."""
        return 2**31 if self.random_views else self.views

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved settings as plain JSON values."""
        return dataclasses.asdict(self)


def _shown(value: SettingValue) -> str:
    """Return a value as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings_of(config_class: type[Config]) -> Mapping[str, Setting]:
    """Return all settings of a task by name, in the order of their fields."""
    hints = get_type_hints(config_class, include_extras=True)
    return {field.name: Setting.of(field.name, hints[field.name]) for field in dataclasses.fields(config_class)}


def from_dict(config_class: type[AnyConfig], values: Mapping[str, Any], where: str) -> AnyConfig:
    """Build a task's config from plain values; the error for an unknown key suggests the nearest name.

    Args:
        config_class: the task's config class.
        values: as `Config.as_dict` returns them; missing ones take their defaults.
        where: their source, for messages.

    Raises:
        ConfigError: unknown key, wrong type or value out of range, all of them at once; a former name of a setting
            (one line for all of them).
    """
    return config_class(**_checked(config_class, values, where))


def _checked(config_class: type[Config], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return values of the fields' types; raises ConfigError with one line per unknown name and wrong type."""
    settings, lines = settings_of(config_class), []
    clean: dict[str, Any] = {}
    former = [f"{name} is now {new}" for name, new in config_class.former_names.items() if name in values]
    if former:
        lines.append(f"{where} from an earlier version: {', '.join(former)}; use the new names, or train again")
    for name, value in values.items():
        if name in config_class.former_names:
            continue
        wanted = settings[name].value_type if name in settings else None
        if wanted is None:
            known = did_you_mean(str(name), tuple(settings))
            lines.append(f"{where} {name}: no such setting for task '{config_class.task}'; {known}")
        elif wanted is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**300:
            clean[name] = float(value)
        elif type(value) is not wanted:
            lines.append(f"{where} {name}: got {kind_in_words(type(value))}, expected {kind_in_words(wanted)}")
        else:
            clean[name] = value
    if lines:
        raise ConfigError(lines)
    return clean


def resolve(
    config_class: type[AnyConfig],
    preset: str,
    settings: Sequence[str] | Mapping[str, SettingValue] = (),
    config_file: StrPath | None = None,
    **flags: SettingValue | None,
) -> AnyConfig:
    """Return the config of a run: the preset, overridden by the file, by flags that are not None, then by settings.

    Args:
        config_class: the task's config class.
        preset: name of a preset, or path of one (preset_files.py).
        settings: values by name, or the texts "NAME=VALUE" of `--set`. If they are values of all settings, as those of
            a record are, the preset is only a name, and need not be there.
        config_file: a file of settings.
        flags: settings that have their own command-line options.

    Raises:
        ConfigError: unknown preset or key (with the nearest name), former name of a setting (with the new one),
            wrong type, value out of range; for files, with the line.
    """
    label = preset_files.label_of(preset)
    values: dict[str, Any] = {"preset": label}
    complete = isinstance(settings, Mapping) and settings_of(config_class).keys() <= {*settings, "preset"}
    for file in () if complete else preset_files.chain(preset):
        values |= _values(config_class, file)
    if config_file is not None:
        values |= _values(config_class, preset_files.read_config_file(config_file))
    values |= {name: value for name, value in flags.items() if value is not None}
    if isinstance(settings, Mapping):
        values |= _checked(config_class, settings, "settings:")
    else:
        values |= _parse(config_class, (settings,) if isinstance(settings, str) else settings)
    return from_dict(config_class, values, f"preset {label}:")


def _values(config_class: type[Config], file: PresetFile) -> dict[str, SettingValue]:
    """Return the values of a file for a task; raises ConfigError with a line per fault, which names the file's line."""
    task, settings = config_class.task, settings_of(config_class)
    values = file.values(task)
    if "preset" in values:
        raise ConfigError(f"{file.place(task, 'preset')}: no setting; write `extends = ...` above all sections")
    lines: list[str] = []
    clean: dict[str, SettingValue] = {}
    for name, value in values.items():
        if (name, value) == ("batch_size", AUTO):  # what stands before it, until the number is found
            continue
        place = f"{file.place(task, name)}:"
        try:
            clean |= _checked(config_class, {name: value}, place)
            lines += [f"{place} {line}" for line in settings[name].problems(clean[name])]
        except ConfigError as error:
            lines += error.problems
    if lines:
        raise ConfigError(lines)
    return clean


def _parse(config_class: type[Config], settings: Sequence[str]) -> dict[str, SettingValue]:
    """Return the values of `--set` pairs; raises ConfigError with one line per invalid pair."""
    known = {name: setting for name, setting in settings_of(config_class).items() if name != "preset"}
    values: dict[str, SettingValue] = {}
    lines: list[str] = []
    for pair in settings:
        name, equals, text = pair.partition("=")
        if name in config_class.former_names:
            lines.append(f"--set {pair}: renamed; use {config_class.former_names[name]}{equals}{text}")
        elif not equals:
            lines.append(f"--set {pair}: expected key=value, such as --set epochs=5")
        elif name not in known:
            nearest = did_you_mean(name, tuple(known))
            lines.append(f"--set {pair}: no such setting for task '{config_class.task}'; {nearest}")
        else:
            try:
                values[name] = known[name].parse(text)
            except ConfigError as error:
                lines += error.problems
    if lines:
        raise ConfigError(lines)
    return values
