"""`magic train`: its options, and how they become those of commands/train.py and commands/cross_validate.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import Result, emit
from magic_cli.errors import printable

if TYPE_CHECKING:
    from magic_cli.commands.run_setup import TrainOptions


def _renamed(value: str | None) -> None:
    if value is not None:
        raise typer.BadParameter(f"renamed; use --finetune {printable(value)}")


def ablations(no_subtexts: bool, no_slra: bool, no_dkw: bool) -> list[str]:
    """Return the settings that leave out parts of MAKE's loss, as in the rows of its Table 3."""
    flags = {"subtexts=false": no_subtexts, "local_weight=0": no_slra, "weighting=none": no_dkw}
    return [setting for setting, is_given in flags.items() if is_given]


def one_dataset(data: list[Path]) -> Path:
    """Return the only dataset of a cross-validation.

    Raises:
        typer.BadParameter: there are several.
    """
    if len(data) > 1:
        line = f"got {len(data)} times --data, expected one with --folds, whose predictions are scored together"
        raise typer.BadParameter(f"{line}; cross-validate each by itself")
    return data[0]


_DATASETS = (
    "Folder written by `magic prepare`; repeat it to train on several. Each is validated by itself; the best epoch has"
    " the highest mean score over them, each counting the same. See --data-weight."
)

PreparedSets = Annotated[list[Path], typer.Option("--data", help=_DATASETS)]

PREPARED = [Path("prepared")]

_DATA_WEIGHT = (
    "For each --data, in their order: how often an epoch draws each of its training samples, on average; default 1."
    " Of n samples, round(weight x n) are drawn, by the seed."
)

DataWeights = Annotated[list[float] | None, typer.Option("--data-weight", metavar="WEIGHT", help=_DATA_WEIGHT)]

Folds = Annotated[
    int | None,
    typer.Option(min=2, help="Cross-validate on split train; encounters of a group (group_id) stay together."),
]

_DETERMINISTIC = "Fail on operations whose results vary, or allow them (faster on a GPU); default: warn."

Modality = Annotated[Literal["both", "text", "image", "concepts"] | None, typer.Option(help="cvqa: inputs to use.")]

Deterministic = Annotated[bool | None, typer.Option("--deterministic/--no-deterministic", help=_DETERMINISTIC)]

_PRESET = "small (default), quick, tiny, paper, large, or your own: NAME of presets/NAME.toml, or FILE.toml."

Preset = Annotated[str, typer.Option(help=_PRESET)]

_CONFIG = "File of settings over the preset, as `magic config TASK` writes it."

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG)]

_SETTINGS = "key=value, repeatable: --set epochs=5; --set help lists all settings."

Settings = Annotated[list[str] | None, typer.Option("--set", help=_SETTINGS)]

_INIT = "Earlier run of the task (folder or best.pt) whose weights training starts from."

Init = Annotated[Path | None, typer.Option("--init", metavar="RUN", help=_INIT)]

_FINETUNE = "Encoder weights to train: head (none), last (stage), all, or few: lora, bitfit, norm, prompt."

_Finetune = Literal["head", "last", "all", "lora", "bitfit", "norm", "prompt"]

Finetune = Annotated[_Finetune | None, typer.Option(help=_FINETUNE)]

FormerTune = Annotated[str | None, typer.Option("--tune", hidden=True, callback=_renamed, help="Renamed: --finetune.")]

_QUERY = typer.Option("--encounter-text/--no-encounter-text", help="cvqa, head=options: use the query as input.")

EncounterText = Annotated[bool | None, _QUERY]

NoSubtexts = Annotated[bool, typer.Option("--no-subtexts", help="pretrain: no positives from single sentences.")]

NoSlra = Annotated[bool, typer.Option("--no-slra", help="pretrain: no local alignment of subtexts with patches.")]

NoDkw = Annotated[bool, typer.Option("--no-dkw", help="pretrain: all subtexts weigh the same.")]

_LANG = "cvqa: languages of the texts that the rules read: en, es, zh, comma-separated; default en."

Languages = Annotated[str | None, typer.Option(metavar="LANG[,LANG]", help=_LANG)]


_LOG = "Log curves and settings there as well; default: nowhere. All but tensorboard may send them to a server."

_TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def _trackers(names: list[str] | None) -> list[str]:
    """Return the names, given one by one or between commas; typer has no lists of choices.

    Raises:
        typer.BadParameter: one is none of these.
    """
    given = [name.strip() for words in names or () for name in words.split(",")]
    for name in given:
        if name not in _TRACKERS:
            raise typer.BadParameter(f"{printable(name)!r} is not one of {', '.join(_TRACKERS)}")
    return given


def _completed(begun: str) -> list[str]:
    return [name for name in _TRACKERS if name.startswith(begun)]


Log = Annotated[
    list[str] | None,
    typer.Option(metavar="|".join(_TRACKERS), help=_LOG, callback=_trackers, autocompletion=_completed),
]


def train(
    task: opt.Task,
    data: PreparedSets = PREPARED,
    data_weight: DataWeights = None,
    preset: Preset = "",
    config: ConfigFile = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/TASK.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    folds: Folds = None,
    deterministic: Deterministic = None,
    modality: Modality = None,
    encounter_text: EncounterText = None,
    lang: Languages = None,
    no_subtexts: NoSubtexts = False,
    no_slra: NoSlra = False,
    no_dkw: NoDkw = False,
    init: Init = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto",
    finetune: Finetune = None,
    _tune: FormerTune = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    cache_dir: opt.CacheDir = None,
    no_cache: opt.NoCache = False,
    log: Log = None,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Train a task on prepared datasets; writes best.pt, state.pt and metrics.jsonl, one set per fold with --folds.

    Example: `magic train seg`, `magic train seg --data a --data b`, `magic train cvqa --modality text --folds 5`
    """
    if _list_settings(task, preset, settings or [], as_json):
        return
    from magic_cli.commands.run_setup import TrainOptions
    from magic_cli.training.runtime import RuntimeOptions

    chosen = (*(settings or ()), *ablations(no_subtexts, no_slra, no_dkw))
    options = TrainOptions(
        *(preset, chosen, resume, overwrite, dry_run, deterministic),
        runtime=RuntimeOptions(device, cache_dir, no_cache),
        modality=modality,
        encounter_text=encounter_text,
        lang=lang,
        finetune=finetune,
        seed=seed,
        init=init,
        weights=weights,
        data_weights=data_weight or (),
        log=log or (),
        config=config,
    )
    emit(as_json, "train", _trained(task, folds, data, out, options))


def _trained(task: str, folds: int | None, data: list[Path], out: Path | None, options: "TrainOptions") -> Result:
    from magic_cli.commands.cross_validate import cross_validate
    from magic_cli.commands.train import train as train_task

    if folds:
        return cross_validate(task, folds, one_dataset(data), out, options)
    return train_task(task, data[0] if len(data) == 1 else data, out, options)


def _list_settings(task: str, preset: str, settings: Sequence[str], as_json: bool) -> bool:
    """Print all settings of a task if `--set help` asks for them, and return whether it does."""
    from magic_cli import tasks
    from magic_cli.commands.settings import settings_help

    if settings_help.WORD not in settings:
        return False
    emit(as_json, "train", settings_help.settings_help(tasks.config_class(task), preset or "small"))
    return True
