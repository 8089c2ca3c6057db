"""`magic show`: what a checkpoint is: settings, scores, data, encoders and their licences; and its model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magic_cli import tasks
from magic_cli.commands.recording import refuse_empty_paths
from magic_cli.commands.run_setup import RUNS
from magic_cli.commands.settings.presets import changed_settings
from magic_cli.commands.trainings.folder import times_of
from magic_cli.errors import CheckpointError, DataError, MagicError, problem
from magic_cli.io import run_record
from magic_cli.io.files import StrPath, refuse_existing, sha256, write_text
from magic_cli.io.json_files import finite, read_json
from magic_cli.io.run_record import VerbResult
from magic_cli.models.licences import licence_of, sources
from magic_cli.models.saved_meta import CONFIG, WEIGHTS, SavedModel, read_model
from magic_cli.report.model_card import CardFacts, TrainingData, card, is_card
from magic_cli.report.score_text import SCORE_NAMES
from magic_cli.report.trainings.table import duration, number

BEST, PREPARED = "best.pt", "prepare.json"

STDOUT = "-"

_LAST = 12  # epochs that are shown

_PARTS = 4  # parts of the model whose numbers are shown


@dataclass(frozen=True)
class Shown(VerbResult):
    """A checkpoint, as far as it and the run.json beside it tell.

    Attributes:
        model: its meta data, and the shapes of its tensors.
        facts: what a model card says beside the meta data.
        started, seconds: when it was trained, and how long; "" and None if not recorded.
        card: the card, if it is to be printed; "" if not.
        written: the file of the card; None for none.
    """

    model: SavedModel
    facts: CardFacts
    started: str = ""
    seconds: float | None = None
    card: str = ""
    written: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return schemas/shown.schema.json without its header."""
        meta = self.model.meta
        row = {
            "checkpoint": str(self.model.path),
            "task": meta.task,
            "preset": str(meta.config.get("preset", "")),
            "settings": dict(meta.config),
            "changed": dict(self.facts.changed),
            "monitor": self.facts.monitor,
            "score": meta.score,
            "interval": meta.interval,
            "history": [dict(epoch) for epoch in meta.history],
            "chosen": dict(meta.chosen),
            "data": [
                {
                    "name": d.name,
                    "adapter": d.adapter,
                    "sha256": d.sha256,
                    "counts": {k: dict(v) for k, v in d.counts.items()},
                }
                for d in self.facts.data
            ],
            "manifest_sha256": meta.manifest_sha256,
            "encoders": [{"source": source, "licence": licence_of(source)} for source in sources(meta.encoders)],
            "origins": {name: dict(origin) for name, origin in meta.origins.items()},
            "versions": dict(meta.versions),
            "tensors": len(self.model.tensors),
            "parameters": self.model.numbers,
            "started": self.started,
            "seconds": self.seconds,
            "card": self.written,
        }
        clean: dict[str, object] = finite(row)
        return clean

    def lines(self) -> list[str]:
        """Return the card, if it is to be printed, or everything in sections."""
        if self.card:
            return self.card.splitlines()
        parts = [self._head(), self._scores(), self._settings(), self._data(), self._encoders(), self._versions()]
        text = [line for part in parts for line in ("", *part)][1:]
        if self.written is not None:
            return [*text, "", f"{self.written}: the model card; read it before you share it"]
        task, path = self.model.meta.task, self.model.path
        return [*text, "", f"next: magic predict {task} --ckpt {path}, or magic show {path} --card CARD.md"]

    def _head(self) -> list[str]:
        meta, tensors = self.model.meta, self.model.tensors
        title = self.facts.title or meta.task
        lines = [f"{self.model.path}: {title} (task {meta.task}), preset {meta.config.get('preset', '?')}"]
        parts: dict[str, int] = {}
        for name, tensor in tensors.items():
            part = name.partition(".")[0]
            parts[part] = parts.get(part, 0) + tensor.numbers
        most = sorted(parts, key=lambda part: -parts[part])[:_PARTS]
        held = ", ".join(f"{part} {parts[part]:,}" for part in most)
        tuned = f"finetune={meta.config.get('finetune', '?')}"
        lines.append(f"{len(tensors)} tensors, {self.model.numbers:,} numbers ({held}); {tuned}; seed {meta.seed}")
        if self.started:
            took = "" if self.seconds is None else f", in {duration(self.seconds)}"
            lines.append(f"trained {self.started[:16].replace('T', ' ')} UTC{took}")
        return lines

    def _scores(self) -> list[str]:
        meta, monitor = self.model.meta, self.facts.monitor
        name = SCORE_NAMES.get(monitor, (monitor, ""))[0]
        interval = ""
        if meta.interval is not None:
            interval = f" (95 % interval {number(meta.interval[0], 3)} to {number(meta.interval[1], 3)})"
        lines = [f"best: {name} {number(meta.score)}{interval}, epoch {len(meta.history)}"]
        rows = [row for row in meta.history if isinstance(row.get(monitor), int | float)]
        lines += [
            f"  epoch {row.get('epoch')}: loss {_value(row, 'loss')}, {name} {_value(row, monitor)}"
            for row in rows[-_LAST:]
        ]
        lines += [f"  (the last {_LAST} of {len(rows)}; --json has all)"] if len(rows) > _LAST else []
        if meta.chosen:
            lines.append(f"chosen after training, on the validation samples: {meta.chosen.get('settings')}")
        return lines

    def _settings(self) -> list[str]:
        changed = self.facts.changed
        rows = [f"{'*' if name in changed else ' '} {name} = {value}" for name, value in self.model.meta.config.items()]
        return ["settings (* differs from the preset)", *rows]

    def _data(self) -> list[str]:
        lines = ["learned from"]
        for data in self.facts.data:
            lines.append(
                f"  {data.name}, {PREPARED} {data.sha256[:16]}... {'' if data.counts else '(not here any more)'}"
            )
            for split, row in data.counts.items():
                lines.append(f"    {split}: {', '.join(f'{value:,} {key}' for key, value in row.items())}")
        return (
            lines
            if self.facts.data
            else [*lines, f"  data with SHA-256 {self.model.meta.manifest_sha256}; no {run_record.FILE} tells more"]
        )

    def _encoders(self) -> list[str]:
        meta = self.model.meta
        lines = [f"  {source}: {licence_of(source)}" for source in sources(meta.encoders)]
        lines += [f"  {name}: weights of {origin.get('run')}" for name, origin in meta.origins.items()]
        return ["encoders and their licences", *lines]

    def _versions(self) -> list[str]:
        return ["versions", f"  {', '.join(f'{name} {version}' for name, version in self.model.meta.versions.items())}"]


def show(checkpoint: StrPath, card_file: StrPath | None = None, *, overwrite: bool = False) -> Shown:
    """Describe a checkpoint; no weight of it is loaded.

    Args:
        checkpoint: a best.pt, the folder of a run, or a folder of `magic export --hub-folder`.
        card_file: where a model card in Markdown is written; "-" to print it instead of the description.
        overwrite: replace an older card.

    Raises:
        CheckpointError: there is none, or it is damaged. DataError: the place of the card is taken.
    """
    refuse_empty_paths({"checkpoint": checkpoint, "card_file": card_file})
    prints = str(card_file) == STDOUT
    model = read_model(_found(Path(checkpoint)))
    if card_file is not None and not prints:
        _check_card(Path(card_file), overwrite)
    record = run_beside(model.path.parent)
    times = times_of(record, model.path.parent)
    facts = card_facts(model, record)
    text = card(model.meta, facts) if card_file is not None else ""
    if card_file is not None and not prints:
        write_text(Path(card_file), text)
    written = None if card_file is None or prints else str(card_file)
    return Shown(model, facts, times.started, times.seconds, text if prints else "", written)


def _check_card(file: Path, overwrite: bool) -> None:
    """Refuse a place for the card that is taken; what is not a card of this program is never replaced."""
    if file.is_dir() or not file.parent.is_dir():
        got = "a folder" if file.is_dir() else "no folder to write it in"
        raise DataError(problem(f"--card {file}", got, "a new file", "give another name"))
    if file.exists() and not (file.is_file() and is_card(file.read_bytes()[:200])):
        raise DataError(problem(f"--card {file}", "a file of another kind", "an older card", "give another name"))
    refuse_existing(file, overwrite, "--card")


def card_facts(model: SavedModel, record: Mapping[str, object]) -> CardFacts:
    """Return what a card says beside the meta data.

    Args:
        model: the checkpoint.
        record: the run.json beside it; {} for none.
    """
    meta = model.meta
    if meta.task not in tasks.NAMES:
        return CardFacts(data=_data(record))
    task = tasks.get(meta.task)
    changed = changed_settings(task.config_class, meta.config) or {}
    monitor = str(meta.config.get("monitor") or task.monitor)
    return CardFacts(task.title, monitor, _data(record), changed, checkpoint=model.path.name)


def _found(path: Path) -> Path:
    """Return the file of a checkpoint: the path itself, the best.pt or the model of a folder, or those in runs/.

    Raises:
        CheckpointError: there is none.
    """
    places = [path] if path.exists() or path.is_absolute() else [path, RUNS / path]
    for place in places:
        if place.is_file():
            return place
        for name in (BEST, WEIGHTS):
            if (place / name).is_file() and (name == BEST or (place / CONFIG).is_file()):
                return place / name
        folds = sorted(place.glob(f"fold-*/{BEST}"))
        if folds:
            got = f"a cross-validation of {len(folds)} folds"
            raise CheckpointError(problem(place, got, "one checkpoint", f"name one of them, such as {folds[0]}"))
    if not path.exists():
        raise CheckpointError(
            problem(path, "no such file", f"a {BEST}, or the folder of a run", "magic runs lists them")
        )
    unfinished = (path / "state.pt").is_file()
    remedy = "finish its training with `magic train --resume`" if unfinished else "magic runs lists those that are here"
    raise CheckpointError(problem(path, f"no {BEST} in it", "the folder of a run", remedy))


def run_beside(folder: Path) -> Mapping[str, object]:
    """Return the run.json beside a checkpoint; {} if there is none that can be read."""
    try:
        row = read_json(folder / run_record.FILE)
    except MagicError:
        return {}
    return row if isinstance(row, dict) and row.get("format") == "magic-run" else {}


def _data(record: Mapping[str, object]) -> tuple[TrainingData, ...]:
    """Return the datasets that a record lists, with their counts where they are still there, and unchanged."""
    inputs, folder = record.get("inputs"), record.get("folder")
    if not isinstance(inputs, dict):
        return ()
    rows = []
    for name, digest in inputs.items():
        if Path(name).name == PREPARED:
            rows.append(_dataset(Path(str(folder)) / name, str(digest)))
    return tuple(rows)


def _dataset(file: Path, digest: str) -> TrainingData:
    name = file.parent.name
    try:
        row = read_json(file) if sha256(file) == digest else {}
    except (OSError, MagicError):
        row = {}
    counts, settings = (row.get(key) if isinstance(row, dict) else None for key in ("counts", "settings"))
    numbers = {}
    for split in ("train", "valid"):
        of_split = counts.get(split) if isinstance(counts, dict) else None
        if isinstance(of_split, dict):
            numbers[split] = {key: int(of_split.get(key, 0)) for key in ("cases", "images", "masks")}
    adapter = str(settings.get("source", "")) if isinstance(settings, dict) else ""
    return TrainingData(name, digest, numbers, adapter)


def _value(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    return number(float(value)) if isinstance(value, int | float) else "–"
