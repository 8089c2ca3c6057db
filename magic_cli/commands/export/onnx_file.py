"""A trained model as an ONNX file, compared with torch on photos before it is put in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from magic_cli import __version__
from magic_cli.commands.export.photos import check_samples, opened
from magic_cli.errors import CheckpointError, DataError, printable, problem
from magic_cli.io.files import StrPath, refuse_existing, sha256, write_atomic
from magic_cli.io.progress import log
from magic_cli.models.export import onnx_model
from magic_cli.models.export.graph import ExportGraph, GraphOptions, Rows
from magic_cli.models.export.onnx_model import OPSET, PRODUCER, Session
from magic_cli.records import Sample
from magic_cli.training.restoring import restored
from magic_cli.training.task import Task

TOLERANCE = 1e-4
"""Largest difference from torch, of probabilities in [0, 1] and of coordinates of unit vectors."""

_HOW = "examples/export.md"

_SEED = 0  # of the photos that are chosen


@dataclass(frozen=True)
class OnnxOptions:
    """How a model becomes an ONNX file.

    Attributes:
        graph: what may be chosen about the graph.
        photos: how many samples it is checked on.
        weights: folder of Hugging Face checkpoints; None for that of the training.
    """

    graph: GraphOptions
    photos: int = 8
    weights: StrPath | None = None


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that was written.

    Attributes:
        path: the file.
        size: bytes.
        sha256: hex digest of the file.
        inputs, output: what each is, a line each.
        difference: largest absolute difference from torch.
        samples: how many were compared, and `checked_on` what they are.
        seconds: of exporting, and of running all samples at once.
    """

    path: Path
    size: int
    sha256: str
    inputs: tuple[str, ...]
    output: str
    difference: float
    samples: int
    checked_on: str
    facts: Mapping[str, object]
    seconds: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        """Return `onnx` of schemas/exported.schema.json."""
        about = {"out": str(self.path), "bytes": self.size, "sha256": self.sha256, "opset": OPSET}
        ports = {"inputs": list(self.inputs), "output": self.output, "facts": dict(self.facts)}
        checked = {"max_difference": self.difference, "tolerance": TOLERANCE, "checked": self.samples}
        return about | ports | checked | {"checked_on": self.checked_on, "seconds": self.seconds[0]}

    def lines(self) -> list[str]:
        """Return it for the terminal."""
        same = f"largest difference from torch {self.difference:.1e} (tolerance {TOLERANCE:.0e})"
        text = self.facts.get("text")
        return [
            *(f"input {line}" for line in self.inputs),
            f"output {self.output}",
            *([f"text: {text}"] if text else []),
            f"checked on {self.samples} {self.checked_on}, in batches of 1 and {self.samples}: {same}",
            f"{self.path}: {self.size / 1e6:.1f} MB, opset {OPSET}, made in {self.seconds[0]:.0f} s; to run it: {_HOW}",
        ]


def check_place(out: Path, overwrite: bool) -> None:
    """Refuse a place for the file before the work begins.

    Raises:
        DataError: it is a folder, or a file that is no export of this program, or an older export that `overwrite` does
            not allow to replace.
    """
    if out.is_dir():
        raise DataError(problem(out, "a folder", "the name of a file, such as model.onnx", "choose another --onnx"))
    if out.exists() and onnx_model.producer(out) != PRODUCER:
        line = "not made by `magic export`, so it is not replaced; move it away, or choose another --onnx"
        raise DataError(f"{printable(out)}: {line}")
    refuse_existing(out, overwrite, "--onnx")


def write_onnx(checkpoint: Path, task: Task, out: Path, data: Path | None, options: OnnxOptions) -> OnnxFile:
    """Export a checkpoint, compare the file with torch, and put it in place.

    Args:
        checkpoint: a best.pt.
        task: of the checkpoint.
        out: the file to write.
        data: a prepared dataset, of which photos are taken; drawn ones without it.
        options: see `OnnxOptions`.

    Raises:
        ExtraError: a library is not installed. CheckpointError: the file would answer otherwise than torch.
        ConfigError: there is no graph of this model. DataError: `out` cannot be written, or the data has no photo.
    """
    prepared = opened(data, task)
    model, config = restored(checkpoint, task, prepared, options.weights)
    graph = task.graph(model.eval(), options.graph)
    digest = sha256(checkpoint)
    with check_samples(task, prepared, config, options.photos, _SEED) as (samples, origin):
        begun = perf_counter()
        log(f"exporting with torch.onnx, opset {OPSET} ...")
        first = [samples[number % len(samples)] for number in range(2)]  # two rows, also of a single sample
        expected = graph.expected(samples)
        about = {"format": "magic-onnx", "magic_version": __version__, "task": task.name, "opset": OPSET}
        about |= {"checkpoint": checkpoint.name, "checkpoint_sha256": digest, "config": config.preset}
        about |= {"inputs": [str(port) for port in graph.inputs], "output": str(graph.output)}
        about |= {"tolerance": TOLERANCE, **graph.facts}
        content = onnx_model.onnx_bytes(graph, graph.arguments(first), about)
        exported = perf_counter()
        difference = _difference(Session(content), graph, samples, expected)
        ended = perf_counter()
    write_atomic(out, lambda file: file.write(content))
    return OnnxFile(
        path=out,
        size=len(content),
        sha256=sha256(out),
        inputs=tuple(map(str, graph.inputs)),
        output=str(graph.output),
        difference=difference,
        samples=len(samples),
        checked_on=origin,
        facts=graph.facts,
        seconds=(exported - begun, ended - exported),
    )


def _difference(session: Session, graph: ExportGraph, samples: Sequence[Sample], expected: Rows) -> float:
    """Return the largest difference from what torch gives, for all samples at once and one by one.

    Raises:
        CheckpointError: it is above the tolerance. DataError: torch gives NaN.
    """
    if not np.isfinite(expected).all():
        raise DataError(problem("--ckpt", "NaN", "numbers", "training diverged: lower lr and train again"))
    together = session(graph.arguments(samples))
    alone = np.concatenate([session(graph.arguments([sample])) for sample in samples])
    if together.shape != expected.shape or alone.shape != expected.shape:
        got = f"an output of shape {together.shape}"
        raise CheckpointError(
            problem("--onnx", got, f"{expected.shape}, as torch gives", "report it; nothing is written")
        )
    difference = float(max(np.abs(each - expected).max() for each in (together, alone)))
    if not difference <= TOLERANCE:
        got, remedy = (
            f"outputs that differ from torch by up to {difference:.1e}",
            "nothing is written; update onnxruntime",
        )
        raise CheckpointError(problem("--onnx", got, f"at most {TOLERANCE:.0e}", remedy))
    return difference
