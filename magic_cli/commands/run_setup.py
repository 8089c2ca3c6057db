"""Set-up shared by training and cross-validation: options, settings, data, folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from magic_cli import preset_files, tasks
from magic_cli.config import AUTO, Config, from_dict, resolve
from magic_cli.data.datasets import Dataset, open_dataset, open_datasets
from magic_cli.data.prepared_inputs import image_files, table_files
from magic_cli.data.shards.dataset import ShardStamps, shard_files
from magic_cli.errors import CheckpointError, ConfigError, DataError, printable, problem
from magic_cli.io import run_record
from magic_cli.io.files import StrPath
from magic_cli.io.progress import loading_torch, log
from magic_cli.io.run_record import Hashed, RunFiles
from magic_cli.models.weights import encoder_digests
from magic_cli.setting import SettingValue
from magic_cli.training.monitoring import trackers
from magic_cli.training.parts import Data
from magic_cli.training.run_folder import Draft
from magic_cli.training.runtime import Runtime, RuntimeOptions
from magic_cli.training.task import Task

RUNS = Path("runs")

SPLITS = ("train", "valid")  # what a training reads the photos and masks of


@dataclass(frozen=True)
class TrainOptions:
    """Options of `train` and `cross_validate`, with the defaults of the command line.

    Attributes:
        preset: name of a preset, or path of one (preset_files.py); "" for "small", the one that `config` extends, or
            that of the run that is resumed.
        settings: by name, or as texts "NAME=VALUE"; they override the preset and the options below.
        resume: continue where the run stopped.
        overwrite: replace an older run, once the new one is finished.
        dry_run: check everything, train and write nothing.
        deterministic: True: fail on operations whose results vary; False: allow them, which is faster on a GPU; None:
            avoid them where possible, and warn where not.
        runtime: device and cache.
        modality, encounter_text, lang, finetune, seed: settings under their own names; None: as in the preset.
        init: best.pt, or folder, of an earlier run of the task whose weights the training starts from; None: none.
        weights: folder of Hugging Face checkpoints; None: the local Hub cache.
        log: where curves and settings are logged as well: tensorboard, wandb, mlflow, trackio; (): nowhere. All but the
            first may send them to a server.
        data_weights: of several datasets, or of one: how often an epoch draws each of its training samples, on average
            (0.001 to 100), in the order of the datasets; (): 1 each. Of n samples, round(weight x n) are drawn.
        config: a file of settings over the preset, as `magic config TASK` writes one; None: none.
    """

    preset: str = ""
    settings: Sequence[str] | Mapping[str, SettingValue] = ()
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    deterministic: bool | None = None
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    modality: str | None = None
    encounter_text: bool | None = None
    lang: str | None = None
    finetune: str | None = None
    seed: int | None = None
    init: StrPath | None = None
    weights: StrPath | None = None
    data_weights: Sequence[float] = ()
    log: Sequence[str] = ()
    config: StrPath | None = None

    def flags(self) -> dict[str, SettingValue]:
        """Return the settings that have options of their own, and are given."""
        values = {
            "modality": self.modality,
            "encounter_text": self.encounter_text,
            "lang": self.lang,
            "finetune": self.finetune,
            "seed": self.seed,
            "init": None if self.init is None else str(self.init),
            "weights_dir": None if self.weights is None else str(Path(self.weights).resolve()),
        }
        return {name: value for name, value in values.items() if value is not None}

    def resolve(self, config_class: type[Config]) -> Config:
        """Return the settings of a new run.

        Raises:
            ConfigError: unknown preset or setting, or a value that is not allowed; all of them at once.
        """
        preset = preset_files.base_of(self.config, self.preset)
        return resolve(config_class, preset, self._fixed, self.config, **self.flags())

    def seeks_batch_size(self, task: str) -> bool:
        """Return whether the largest batch that fits is asked for: by batch_size=auto, here or in the last file."""
        own = {str(pair).partition("=")[0] for pair in self._listed}
        if "batch_size" in own:
            return len(self._fixed) < len(self._listed)
        files = preset_files.chain(preset_files.base_of(self.config, self.preset))
        files += [] if self.config is None else [preset_files.read_config_file(self.config)]
        found = [values["batch_size"] for file in files if "batch_size" in (values := file.values(task))]
        return found[-1:] == [AUTO]

    @property
    def _listed(self) -> Sequence[str] | Mapping[str, SettingValue]:
        return (self.settings,) if isinstance(self.settings, str) else self.settings

    @property
    def _fixed(self) -> Sequence[str] | Mapping[str, SettingValue]:
        """The settings without batch_size=auto: until it is found, that of the preset stands for it."""
        listed = self._listed
        if isinstance(listed, Mapping):
            return {name: value for name, value in listed.items() if (name, value) != ("batch_size", AUTO)}
        return [pair for pair in listed if pair != f"batch_size={AUTO}"]

    @property
    def typed(self) -> set[str]:
        """The names of the settings that stand on the command line."""
        texts = () if isinstance(self._fixed, Mapping) else self._fixed
        return {text.partition("=")[0] for text in texts} | self.flags().keys()

    def given(self, task: str) -> set[str]:
        """Return the names of the settings of a task that these options name, the preset among them."""
        names = self.typed | (set(self._fixed) if isinstance(self._fixed, Mapping) else set())
        in_file = {} if self.config is None else preset_files.read_config_file(self.config).values(task)
        names |= {name for name, value in in_file.items() if (name, value) != ("batch_size", AUTO)}
        names |= {f"{part}_weights" for part in ("image", "text") if f"{part}_encoder" in names}  # set by `with_runs`
        return names | ({"preset"} if self.preset else set())


@dataclass(frozen=True)
class RunSetup:
    """A run that is about to start.

    Attributes:
        task: what is trained.
        config: its settings.
        datasets: the data, one or more.
        draft: the run's folder, and `work` the folder that it works in until it is finished.
        runtime: device and cache.
        earlier: what the run that is resumed recorded; {} for a new run.
        log: names of trackers (training/monitoring/trackers.py).
        seeks_batch_size: whether the largest batch that fits is to be found; a run that is resumed has its number.
    """

    task: Task
    config: Config
    datasets: Sequence[Dataset]
    draft: Draft
    work: Path
    runtime: Runtime
    earlier: Mapping[str, object]
    log: Sequence[str] = ()
    seeks_batch_size: bool = False


def set_up(
    name: str,
    data: Sequence[StrPath],
    draft: Draft,
    options: TrainOptions,
    read_earlier: Callable[[Path], tuple[Path, Mapping[str, object]]],
) -> RunSetup:
    """Check options, settings and pretrained weights, choose the folder and open the data; torch is not needed.

    Args:
        name: the task's.
        data: the prepared datasets.
        draft: the run's folder.
        options: those of the verb.
        read_earlier: returns, for the folder of a run that is resumed, the file with its settings and what it holds;
            {} if the run had not begun.

    Raises:
        MagicError: any of its kinds.
    """
    task, log_to = tasks.get(name), trackers.require(options.log)
    config = tasks.with_runs(options.resolve(task.config_class))
    tasks.check_weights(config)
    for line in config.without_effect(options.typed):
        log(f"note: {line}")
    if not options.dry_run:
        draft.settle()
    for folder in data:
        if not Path(folder).exists():  # told before a place that is taken
            open_dataset(Path(folder))
    work = draft.folder(options.resume, options.overwrite)
    earlier: Mapping[str, object] = {}
    if options.resume:
        file, earlier = read_earlier(work)
        config = resolve_or_resume(config, options.given(name), file, earlier)
    if options.deterministic is not None:
        with loading_torch():
            from magic_cli.training.devices import set_determinism

        set_determinism(options.deterministic)
    masks, shards = task.deliverable == "masks", task.reads_shards
    datasets = open_datasets(data, options.data_weights, SPLITS, masks, shards)
    if task.uses_questions:
        _check_questions(datasets)
    task, seeks = task.configured(config.as_dict()), not earlier and options.seeks_batch_size(task.name)
    return RunSetup(task, config, datasets, draft, work, options.runtime.runtime(), earlier, log_to, seeks)


def with_batch_size(setup: RunSetup, data: Data, dry_run: bool) -> RunSetup:
    """Return the setup with the largest batch that fits, if that is asked for; torch is needed.

    Args:
        setup: the run.
        data: its samples.
        dry_run: seek nothing.

    Raises:
        ConfigError: several processes share the work. ResourceError: not even one sample fits.
    """
    if dry_run or not setup.seeks_batch_size:
        return setup
    from magic_cli.training.monitoring import batch_size
    from magic_cli.training.trainer import Trainer

    def trainer_of(config: Config) -> Trainer:
        features = setup.runtime.features(config)
        return Trainer(setup.task.name, data, config, setup.work, setup.runtime.device, features)

    return replace(setup, config=batch_size.with_batch_size(trainer_of, setup.config, setup.runtime.device))


def _check_questions(datasets: Sequence[Dataset]) -> None:
    """Raise DataError unless all datasets have the same closed questions, in the same order and words."""
    first = datasets[0]
    for other in datasets[1:]:
        if other.prepared.questions.as_json() != first.prepared.questions.as_json():
            got = "other closed questions" if other.prepared.questions.slots else "no closed questions"
            expected, remedy = f"those of {first.folder}", "train on each of them by itself"
            raise DataError(printable(problem(f"--data {other.folder}", got, expected, remedy)))


def no_run(folder: Path, state: str) -> str:
    """Return the line for --resume where nothing was saved: jobs that start again by themselves always give it."""
    return f"note: --resume: {folder} (--out) has no {state}: starting from the beginning; is it the right folder?"


def resolve_or_resume(asked: Config, given: set[str], file: Path, earlier: Mapping[str, object]) -> Config:
    """Return the settings of a run that is resumed; `asked` if it had not begun.

    Args:
        asked: the settings from the options.
        given: the names of the settings that the options name.
        file: where `earlier` was read from, for messages.
        earlier: "task" and "config" of the run that is resumed, or {}.

    Raises:
        CheckpointError: `earlier` belongs to another task.
        ConfigError: its settings are not valid, or others were given, which is refused rather than ignored, unless
            they change no result (`Config.changes_no_result`).
    """
    if not earlier:
        return asked
    if earlier["task"] != asked.task:
        got = f"was trained for task '{earlier['task']}', not '{asked.task}'"
        raise CheckpointError(f"{file}: {got}; give the --out of a run of '{asked.task}'")
    saved = earlier["config"]
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"{file}: damaged settings; train again with --overwrite")
    config = from_dict(type(asked), saved, str(file))
    was, wanted = config.as_dict(), asked.as_dict()
    free = {name: wanted[name] for name in given & type(asked).changes_no_result}
    differ = [name for name in sorted(given - free.keys()) if wanted[name] != was[name]]
    if differ:
        other = ", ".join(f"{name}={wanted[name]} (the run has {was[name]})" for name in differ)
        remedy = "leave them out"
        if "epochs" in differ:  # the learning rate of each step depends on how many there are
            remedy += "; more epochs are another run: train anew with --set epochs= and another --out, or --overwrite"
        raise ConfigError(f"{file}: --resume keeps the run's own settings, got {other}; {remedy}")
    return replace(config, **free)


def run_files(setup: RunSetup, options: TrainOptions, record: str, outputs: tuple[str, ...]) -> RunFiles:
    """Return what a training or a cross-validation reads and writes, for its run.json.

    Args:
        setup: the run.
        options: those of the verb.
        record: path of run.json below the run's folder.
        outputs: glob patterns of the results below the run's folder.
    """

    def inputs() -> Hashed:
        yield from run_record.hashed(setup.config.runs)
        masks = setup.task.deliverable == "masks"
        for dataset in setup.datasets:
            if isinstance(dataset.stamps, ShardStamps):
                yield from shard_files(dataset.stamps)
                continue
            yield from table_files(dataset.folder)
            yield from image_files(dataset.folder, SPLITS, "all" if masks else "none", dataset.stamps.digests)
            dataset.stamps.check()  # they are those that were read

    settings = setup.config.as_dict()
    return RunFiles(
        record=setup.draft.out / record,
        root=setup.draft.out,
        outputs=outputs,
        inputs=inputs,
        settings=settings,
        weights=encoder_digests([settings], options.weights),
        device=options.runtime.device,
        resumed=options.resume,
        started=run_record.started_with(setup.work / record) if options.resume else None,
    )
