"""bottleneck.json: the weights of a concept bottleneck and what it answers if a concept were absent or present.

It lies beside predictions (schemas/bottleneck.schema.json) for people and report.html, and is never packaged. It has
ids, names of concepts and options, and numbers; no text of a patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magic_cli.errors import DataError, SubmissionError
from magic_cli.io import schema
from magic_cli.io.json_files import read_json

BOTTLENECK_FILE = "bottleneck.json"

STRONGEST = 3  # concepts of a case and question that are written

_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Change:
    """What is answered to a question of a case if concepts were otherwise.

    Attributes:
        case, question: the id of the case or photo, and the question; "" where there is only one.
        states: by concept "absent" or "present".
        answer: what is answered as it is.
        before, after: probability of that answer, of the first of its options where there are several.
        becomes: what is answered then; the same text where the answer stays.
    """

    case: str
    question: str
    states: Mapping[str, str]
    answer: str
    before: float
    after: float
    becomes: str

    def to_json(self) -> dict[str, object]:
        """Return the row of the file."""
        return {
            "case": self.case,
            "question": self.question,
            "states": dict(self.states),
            "answer": self.answer,
            "before": round(self.before, _DIGITS),
            "after": round(self.after, _DIGITS),
            "becomes": self.becomes,
        }

    def line(self) -> str:
        """Return one line for people."""
        states = ", ".join(f"{name} {state}" for name, state in self.states.items())
        about = f"{self.question}: " if self.question else ""
        turn = f", and the answer becomes {self.becomes}" if self.becomes != self.answer else ", the answer stays"
        numbers = f"{self.before:.3f} becomes {self.after:.3f}"
        return f"{self.case}, {states}: {about}{self.answer} {numbers}{turn}"


@dataclass(frozen=True)
class Inputs:
    """What the linear model reads, K named scores.

    Attributes:
        kind: "concepts", or "sparse" for units of a sparse autoencoder.
        names: of the scores.
        absent, present: what stands for either state.
        units: of a sparse autoencoder, facts about each unit, in their order.
        autoencoder: of a sparse autoencoder, how well it reconstructs.
    """

    kind: str
    names: Sequence[str]
    absent: Sequence[float]
    present: Sequence[float]
    units: Sequence[Mapping[str, object]] = ()
    autoencoder: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Output:
    """An option of a question, and its linear model: bias + weights times scores."""

    question: str
    option: str
    bias: float
    weights: Sequence[float]


@dataclass(frozen=True)
class BottleneckFile:
    """The content of the file: `asked` are the rows of `--what-if`, `changes` the strongest ones of each case."""

    inputs: Inputs
    outputs: Sequence[Output]
    changes: Sequence[Change]
    asked: Sequence[Change] = ()

    def to_json(self) -> dict[str, object]:
        """Return the file."""
        sparse = {} if self.inputs.autoencoder is None else {"autoencoder": dict(self.inputs.autoencoder)}
        facts = self.inputs.units or [{}] * len(self.inputs.names)
        rows = zip(self.inputs.names, self.inputs.absent, self.inputs.present, facts, strict=True)
        return {
            "schema": 1,
            "format": "magic-bottleneck",
            "reads": self.inputs.kind,
            **sparse,
            "inputs": [
                {"name": name, "absent": round(low, _DIGITS), "present": round(high, _DIGITS), **fact}
                for name, low, high, fact in rows
            ],
            "outputs": [
                {
                    "question": output.question,
                    "option": output.option,
                    "bias": round(output.bias, _DIGITS),
                    "weights": [round(weight, _DIGITS) for weight in output.weights],
                }
                for output in self.outputs
            ],
            "asked": [change.to_json() for change in self.asked],
            "changes": [change.to_json() for change in self.changes],
        }


def read_bottleneck(predictions: Path) -> BottleneckFile | None:
    """Return the file beside predictions, a folder or a file in it; None if there is none that can be read.

    Scoring never fails because of it: a damaged one is not shown.
    """
    path = (predictions if predictions.is_dir() else predictions.parent) / BOTTLENECK_FILE
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except (DataError, SubmissionError):
        return None
    return None if schema.problems("bottleneck", content, str(path), most=1) else _of_json(content)


def _of_json(content: Mapping[str, Any]) -> BottleneckFile:
    rows = content["inputs"]
    known = {"name", "absent", "present"}
    units = [{key: value for key, value in row.items() if key not in known} for row in rows]
    inputs = Inputs(
        content["reads"],
        [row["name"] for row in rows],
        [row["absent"] for row in rows],
        [row["present"] for row in rows],
        units if any(units) else (),
        content.get("autoencoder"),
    )
    outputs = [Output(row["question"], row["option"], row["bias"], row["weights"]) for row in content["outputs"]]
    asked, changes = ([Change(**row) for row in content[name]] for name in ("asked", "changes"))
    return BottleneckFile(inputs, outputs, changes, asked)
