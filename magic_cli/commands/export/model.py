"""`magic export`: a trained model as an ONNX file, as a folder for a model hub, or both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from magic_cli import tasks
from magic_cli.commands.recording import refuse_empty_paths
from magic_cli.config import from_dict
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, UsageError, problem
from magic_cli.io.files import StrPath
from magic_cli.io.progress import log
from magic_cli.io.run_record import VerbResult
from magic_cli.training.task import Task

if TYPE_CHECKING:
    from magic_cli.commands.export.hub_folder import HubFolder
    from magic_cli.commands.export.onnx_file import OnnxFile
    from magic_cli.models.export.graph import GraphOptions

TEXTS = ("none", "input")


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`, with the defaults of the command line.

    Attributes:
        text: for seg, "none": the graph has the vector of no text; "input": the text's vector is an input.
        tta: for seg: average over flipped views inside the graph, or not; None: as the setting `tta` says.
        photos: how many photos, or encounters, an ONNX file is checked on; 2 to 64.
        weights: folder of Hugging Face checkpoints; None: as in training.
        overwrite: replace an older export.
    """

    text: str = "none"
    tta: bool | None = None
    photos: int = 8
    weights: StrPath | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what the command line would refuse."""
        if self.text not in TEXTS:
            raise ConfigError(problem("--text", self.text, " or ".join(TEXTS), "choose one of these"))
        if not (isinstance(self.photos, int) and 2 <= self.photos <= 64):
            raise ConfigError(problem("--photos", str(self.photos), "a whole number from 2 to 64", "give another one"))


@dataclass(frozen=True)
class ExportResult(VerbResult):
    """What was written.

    Attributes:
        checkpoint: what was exported.
        task: the name of its task.
        onnx: the ONNX file, None if none was asked for.
        hub: the folder for a model hub, None if none was asked for.
    """

    checkpoint: Path
    task: str
    onnx: OnnxFile | None = None
    hub: HubFolder | None = None

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/exported.schema.json), less "schema" and "command"."""
        head: dict[str, object] = {"checkpoint": str(self.checkpoint), "task": self.task}
        parts = {"onnx": self.onnx, "hub": self.hub}
        return head | {name: None if part is None else part.to_json() for name, part in parts.items()}

    def lines(self) -> list[str]:
        """Return the result for the terminal."""
        return [line for part in (self.onnx, self.hub) if part is not None for line in part.lines()]


_DEFAULTS = ExportOptions()


def export(
    ckpt: StrPath,
    onnx: StrPath | None = None,
    hub: StrPath | None = None,
    data: StrPath | None = "prepared",
    options: ExportOptions = _DEFAULTS,
) -> ExportResult:
    """Export a trained model for other programs; nothing is sent anywhere.

    Args:
        ckpt: a best.pt, here or in one of runs/, or the folder that has it.
        onnx: the ONNX file to write; None: none.
        hub: the folder to write with what a model hub shows; None: none.
        data: a prepared dataset, of which photos are taken to compare the ONNX file with torch; without it, drawn ones.
        options: what is exported, and whether older exports may be replaced.

    Raises:
        UsageError: nothing to write was given. ExtraError: a library that --onnx needs is not installed.
        CheckpointError: the checkpoint cannot be used, or the ONNX file differs from it by more than the tolerance.
        DataError: a result is taken. MagicError: any other of its kinds.
    """
    from magic_cli.commands.export import hub_folder, onnx_file
    from magic_cli.commands.export.photos import check_data
    from magic_cli.models.export import onnx_model

    refuse_empty_paths(
        {"ckpt": os.fspath(ckpt), "out": [os.fspath(path) for path in (onnx, hub, data) if path is not None]}
    )
    if onnx is None and hub is None:
        raise UsageError("magic export: nothing to write, expected --onnx FILE or --hub-folder DIR; give one or both")
    path = _found(Path(ckpt))
    task = _task_of(path)
    if onnx is not None:
        onnx_model.require_libraries()
        check_data(None if data is None else Path(data), task)
        onnx_file.check_place(Path(onnx), options.overwrite)
    if hub is not None:
        hub_folder.check_place(Path(hub), options.overwrite)
        hub_folder.check_apart(Path(hub), None if onnx is None else Path(onnx))
    file, folder = None, None
    if onnx is not None:
        made = onnx_file.OnnxOptions(_graph_options(path, task, options), options.photos, options.weights)
        file = onnx_file.write_onnx(path, task, Path(onnx), None if data is None else Path(data), made)
    if hub is not None:
        folder = hub_folder.write_hub_folder(path, Path(hub))
    return ExportResult(path, task.name, file, folder)


@dataclass(frozen=True)
class GraphInputs:
    """Inputs of an exported model for a split.

    Attributes:
        ids: of the photos or encounters, in the order of the rows.
        feeds: what an ONNX session takes, by name.
    """

    ids: tuple[str, ...]
    feeds: dict[str, NDArray[np.generic]]


def graph_inputs(
    ckpt: StrPath,
    data: StrPath = "prepared",
    split: str = "test",
    limit: int = 8,
    options: ExportOptions = _DEFAULTS,
) -> GraphInputs:
    """Return what the ONNX file of a checkpoint takes for a split: photos, and features of texts where it reads any.

    Args:
        ckpt: as of `export`.
        data: the prepared dataset.
        split: train, valid or test.
        limit: only the first samples that have a photo.
        options: with which the file was exported.

    Raises:
        CheckpointError: it cannot be used. DataError: the dataset or the split has none. MagicError: as `export`.
    """
    from magic_cli.training.restoring import restored

    path, prepared = _found(Path(ckpt)), open_prepared(Path(data))
    task = _task_of(path)
    model, config = restored(path, task, prepared, options.weights)
    graph = task.graph(model, _graph_options(path, task, options))
    samples = [sample for sample in task.prediction_samples(prepared, split, config) if sample.images][:limit]
    arguments = (tensor.numpy() for tensor in graph.arguments(samples))
    names = (port.name for port in graph.inputs)
    return GraphInputs(tuple(sample.id for sample in samples), dict(zip(names, arguments, strict=True)))


def _task_of(path: Path) -> Task:
    from magic_cli.training import checkpoint

    return tasks.get(checkpoint.load_best(path)[0].task)


def _graph_options(path: Path, task: Task, options: ExportOptions) -> GraphOptions:
    from magic_cli.commands.predict import VIEWS
    from magic_cli.models.export.graph import GraphOptions
    from magic_cli.training import checkpoint

    config = from_dict(task.config_class, checkpoint.best_meta(path)["config"], str(path))
    chosen = "none" if options.tta is False else "flips" if options.tta and config.tta == "none" else config.tta
    return GraphOptions(VIEWS[chosen], options.text == "input")


def _found(ckpt: Path) -> Path:
    """Return the checkpoint that a path stands for: as given, or the only one of that name in runs/*/.

    Raises:
        CheckpointError: there is none. UsageError: there are several.
    """
    from magic_cli.training import checkpoint

    if not ckpt.exists() and not ckpt.is_absolute():
        runs = sorted(Path("runs").glob(f"*/{ckpt}"))
        if len(runs) > 1:
            remedy = f"give {' or '.join(map(str, runs))}"
            raise UsageError(problem(f"magic export {ckpt}", f"{len(runs)} of them", "one", remedy))
        if runs:
            log(f"{ckpt} does not exist; using {runs[0]}")
            ckpt = runs[0]
    paths, _ = checkpoint.find(ckpt, "seg")
    if len(paths) > 1:
        raise UsageError(problem(f"magic export {ckpt}", f"{len(paths)} checkpoints", "one", "export them one by one"))
    return paths[0]
