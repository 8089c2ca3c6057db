"""Concept bottlenecks: a linear model of concept scores, and what it answers if a concept were absent or present.

A bottleneck (Koh et al., Concept Bottleneck Models, ICML 2020) sees a photo through named scores alone, so that what it
answers can be told from them. An intervention sets one score to what it is where the concept is rarely or mostly seen,
all others as they are: it says what the model answers then, not what a lesion without the concept would be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.errors import ConfigError, problem, shorten
from magic_cli.io.json_files import write_json
from magic_cli.metrics.calibration import softmax
from magic_cli.records import Mask
from magic_cli.submission.bottleneck import BOTTLENECK_FILE, BottleneckFile

Floats = NDArray[np.float64]

ABSENT, PRESENT = "absent", "present"

LOW, HIGH = 5.0, 95.0
"""Percentiles of the training scores that stand for an absent and for a present concept."""


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """A linear model of concept scores: logits = bias + weight @ scores.

    Attributes:
        concepts: names of the K concepts.
        weight: float64 (R, K), of each output per unit of score.
        bias: float64 (R,).
        absent, present: float64 (K,), the scores that stand for a concept that is not seen, and for one that is.
    """

    concepts: tuple[str, ...]
    weight: Floats
    bias: Floats
    absent: Floats
    present: Floats

    def logits(self, scores: Floats) -> Floats:
        """Return the logits (..., R) of scores (..., K)."""
        return np.asarray(scores @ self.weight.T + self.bias, np.float64)

    def changed(self, scores: Floats, states: Mapping[str, str]) -> Floats:
        """Return scores (K,) with the concepts of `states` set to "absent" or "present"."""
        found = scores.copy()
        for name, state in states.items():
            place = self.concepts.index(name)
            found[place] = (self.present if state == PRESENT else self.absent)[place]
        return found

    def opposite(self, scores: Floats) -> tuple[str, ...]:
        """Return for each of the scores (K,) the state that it is farther from."""
        middle = (self.absent + self.present) / 2
        return tuple(ABSENT if is_high else PRESENT for is_high in (scores >= middle).tolist())


def levels(scores: Floats) -> tuple[Floats, Floats]:
    """Return what stands for absent and for present concepts, (K,) each, by training scores (N, K)."""
    low, high = np.percentile(scores, (LOW, HIGH), axis=0)
    return low, high


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a bottleneck saw of a case: its concept scores, float64 (K,)."""

    model: Bottleneck
    scores: Floats

    def logits(self, states: Mapping[str, str]) -> Floats:
        """Return the logits (R,) with concepts set to "absent" or "present"; {} for what was seen."""
        return self.model.logits(self.model.changed(self.scores, states))


Seen = tuple[Evidence, ...]
"""What the bottlenecks of one model or of several saw of a case; all have the same concepts and outputs."""


def probabilities(seen: Seen, sizes: Sequence[int], states: Mapping[str, str]) -> list[Floats]:
    """Return the probabilities of each question's options with concepts set, the mean over models.

    Args:
        seen: one or more.
        sizes: number of options of each question; they sum to the number of outputs.
        states: by concept "absent" or "present"; {} for what was seen.
    """
    rows = [np.split(evidence.logits(states), np.cumsum(sizes)[:-1]) for evidence in seen]
    return [np.mean([softmax(part) for part in parts], 0) for parts in zip(*rows, strict=True)]


@dataclass(frozen=True, eq=False)
class Flips:
    """What happens if each concept alone had its opposite state.

    Attributes:
        states: the concepts, each with that state.
        distances: float64 (questions, K), total variation distance of each question's probabilities: half the sum of
            absolute differences, in [0, 1].
    """

    states: tuple[tuple[str, str], ...]
    distances: Floats

    def most(self, questions: Sequence[int], count: int) -> list[tuple[str, str]]:
        """Return the `count` concepts that change any of these questions most, the strongest first."""
        largest = self.distances[list(questions)].max(0)
        return [self.states[place] for place in np.argsort(-largest, kind="stable")[:count]]


def flips(seen: Seen, sizes: Sequence[int]) -> Flips:
    """Return what happens if each concept alone had its opposite state; arguments as of `probabilities`."""
    first = seen[0]
    states = tuple(zip(first.model.concepts, first.model.opposite(first.scores), strict=True))
    ends = np.cumsum(sizes)[:-1]
    rows = np.array([evidence.logits({}) for evidence in seen])
    steps = np.array([_steps(evidence, states) for evidence in seen])
    pairs = zip(np.split(rows, ends, 1), np.split(rows[:, None] + steps, ends, 2), strict=True)
    moved = [softmax(after).mean(0) - softmax(before).mean(0) for before, after in pairs]
    return Flips(states, np.array([np.abs(each).sum(1) / 2 for each in moved]))


def _steps(evidence: Evidence, states: Sequence[tuple[str, str]]) -> Floats:
    """Return what setting each concept alone adds to the logits, (K, R)."""
    model = evidence.model
    wanted = np.where([state == PRESENT for _, state in states], model.present, model.absent)
    return np.asarray((wanted - evidence.scores)[:, None] * model.weight.T)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a case: its id, or that of one photo, and concepts with the state that each is set to."""

    case: str
    states: Mapping[str, str]


def read_what_if(words: str) -> Question:
    """Read `--what-if`.

    >>> read_what_if("ENC00001: ulcer=absent, scale=present").states
    {'ulcer': 'absent', 'scale': 'present'}

    Raises:
        ConfigError: it is no id with concepts, or a state is neither absent nor present.
    """
    case, colon, rest = words.partition(": ")
    pairs = [part.rpartition("=") for part in rest.split(", ")]
    states = {name.strip(): state.strip() for name, _, state in pairs}
    wrong = [state for state in states.values() if state not in (ABSENT, PRESENT)]
    if not colon or not case.strip() or wrong or "" in states:
        expected = 'an id and concepts, such as "ENC00001: ulcer=absent, scale=present"'
        raise ConfigError(problem("--what-if", words, expected, "write it like this"))
    return Question(case.strip(), states)


def check_question(question: Question, seen: Mapping[str, Seen]) -> None:
    """Raise ConfigError if the case was not predicted, or a concept is none of the model's."""
    if question.case not in seen:
        got = f"{question.case}, which is not predicted here"
        raise ConfigError(problem("--what-if", got, "an id of the split", f"such as {shorten(list(seen), most=3)}"))
    known = seen[question.case][0].model.concepts
    for name in question.states:
        if name not in known:
            near = [other for other in known if name.casefold() in other.casefold()] or list(known)
            raise ConfigError(problem("--what-if", name, "a concept of the model", f"such as {shorten(near, most=5)}"))


@dataclass(frozen=True)
class BesidePredictions:
    """bottleneck.json as a file beside predictions (data/own_photos/side_files.py), and what else is written there."""

    content: BottleneckFile
    others: SideFiles | None = None

    def mask(self, folder: Path, image_id: str, mask: Mask, probabilities: NDArray[np.float32] | None) -> Mask:  # noqa: ARG002  nothing of masks
        """Return the mask."""
        return mask

    def finish(self, folder: Path) -> Sequence[str]:
        """Write the files, and return their names."""
        write_json(folder / BOTTLENECK_FILE, self.content.to_json())
        return [BOTTLENECK_FILE, *(() if self.others is None else self.others.finish(folder))]
