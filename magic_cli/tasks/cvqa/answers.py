"""The predicted answers per encounter: decided from probabilities, or read from the rows of a file."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import AnswerGold
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import kind_in_words, shorten
from magic_cli.records import Neighbour, Prediction, Submitted
from magic_cli.submission.answers import SubmittedRow
from magic_cli.tasks.bottleneck import Seen
from magic_cli.tasks.cvqa.decode import best_set
from magic_cli.training.task import of_class

P = TypeVar("P", bound=Prediction | Submitted)

Decode = Literal["slot", "set"]


@dataclass(frozen=True, slots=True, eq=False)
class AnswerPrediction(Prediction):
    """A model's prediction for one encounter, or for some of its slots; `id` is the encounter id.

    probabilities: {qid: (options,) floating point}, the probability of each option, in [0, 1].
    chosen: {qid: option index}, for answers already decided.
    decode: how the model decides: the likeliest option of each slot, or the best set of a parent (`decide`).
    neighbours: the similar cases that were looked at, the most similar one first (`--neighbours`).
    seen: what concept bottlenecks saw (tasks/bottleneck.py); () of other models.
    """

    probabilities: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)
    decode: Decode = "slot"
    neighbours: tuple[Neighbour, ...] = ()
    seen: Seen = ()

    @classmethod
    def mean_of(cls, predictions: Sequence[Self]) -> Self:
        """Return the mean of the probabilities, float32, with the `decode` of most of the models.

        Raises:
            ValueError: a prediction is already decided.
        """
        if any(prediction.chosen for prediction in predictions):
            raise ValueError("decided answers have no mean")
        first = predictions[0]
        stacks = {qid: [prediction.probabilities[qid] for prediction in predictions] for qid in first.probabilities}
        means = {qid: np.asarray(np.mean(stack, axis=0, dtype=np.float32)) for qid, stack in stacks.items()}
        every = [prediction.seen for prediction in predictions]
        seen = tuple(evidence for each in every for evidence in each) if all(every) else ()
        return replace(first, probabilities=means, decode=_majority_decode(predictions), seen=seen)

    def indices(self) -> dict[str, int]:
        """Return the option index of each slot: the likeliest one if there are probabilities."""
        return {**self.chosen, **{qid: int(values.argmax()) for qid, values in self.probabilities.items()}}


def _majority_decode(predictions: Sequence[AnswerPrediction]) -> Decode:
    sets = sum(prediction.decode == "set" for prediction in predictions)
    return "set" if sets > len(predictions) / 2 else "slot"


@dataclass(frozen=True, slots=True)
class Answer:
    """The scored answer to one gold encounter, from all of its rows.

    `slots` maps qids to option indices; an invalid value is replaced by one that equals no index. `fault` says why all
    of it counts as zero, `detail` where; `bare` are the parents without a slot; `wrong` describes the invalid value of
    a qid.
    """

    slots: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    detail: str = ""
    bare: tuple[str, ...] = ()
    wrong: Mapping[str, str] = field(default_factory=dict)

    def fault_of(self, parent: str, qids: Iterable[str]) -> str:
        """Return the fault of the answer to one parent question; "" if there is none."""
        if self.fault:
            return f"{self.fault}: {self.detail}" if self.detail else self.fault
        wrong = ", ".join(f"{qid}: {self.wrong[qid]}" for qid in qids if qid in self.wrong)
        return "no answer" if parent in self.bare else wrong


def rejected(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Yield one line per reason why encounters, parent questions or values count as zero, with their ids."""
    zero: dict[str, list[str]] = {}
    bare: dict[str, list[str]] = {}
    wrong: list[str] = []
    for encounter, answer in answers.items():
        if answer.fault:
            zero.setdefault(answer.fault, []).append(f"{encounter}{answer.detail and ': '}{answer.detail}")
        for parent in answer.bare:
            bare.setdefault(parent, []).append(encounter)
        wrong += [f"{encounter}:{qid}: {kind}" for qid, kind in answer.wrong.items()]
    for fault, lines in zero.items():
        yield f"{len(lines)} of {len(answers)} encounters count as zero: {fault} ({shorten(lines, total=True)})"
    for parent, encounters in bare.items():
        names = shorten(encounters, total=True)
        yield f"{parent} counts as zero in {len(encounters)} of {len(answers)} encounters: no answer ({names})"
    if wrong:
        yield f"values that are no option index count as wrong: {len(wrong)} ({shorten(wrong, total=True)})"


def decide(
    predictions: Iterable[AnswerPrediction], questions: QuestionSchema, decode: Decode | None = None
) -> dict[str, int]:
    """Decide the slots of one encounter, whose slots may come from several predictions (one per question).

    Args:
        predictions: probabilities, which are decided in canonical slot order; or answers already decided, which are
            returned unchanged.
        questions: questions of the dataset.
        decode: the likeliest option of each slot ("slot"), or for a parent of several slots the best "set"
            (tasks/cvqa/decode.py); None for the `decode` of most predictions.

    Raises:
        DataError: a parent question has no slot, and probabilities were given.
    """
    parts = list(predictions)
    if not any(part.probabilities for part in parts):
        return _indices(parts)
    return questions.to_slots(_sets(parts, questions, decode))


def _indices(predictions: Iterable[AnswerPrediction]) -> dict[str, int]:
    return {qid: index for prediction in predictions for qid, index in prediction.indices().items()}


def _sets(
    predictions: Sequence[AnswerPrediction], questions: QuestionSchema, decode: Decode | None
) -> dict[str, frozenset[int]]:
    """Return the decided set of each parent that has a slot."""
    sets = questions.to_sets(_indices(predictions))
    if (decode or _majority_decode(predictions)) == "slot":
        return sets
    slots = {qid: values for prediction in predictions for qid, values in prediction.probabilities.items()}
    for parent, qids in questions.parents.items():
        padding = questions.not_mentioned(parent)
        if len(qids) > 1 and padding is not None and all(qid in slots for qid in qids):
            sets[parent] = best_set(np.stack([slots[qid] for qid in qids]).astype(np.float64), padding)
    return sets


def by_encounter(predictions: Iterable[P]) -> dict[str, list[P]]:
    """Group predictions by encounter, in order of appearance."""
    groups: dict[str, list[P]] = {}
    for prediction in predictions:
        groups.setdefault(prediction.id, []).append(prediction)
    return groups


def rows_of(predictions: Iterable[Prediction | Submitted], questions: QuestionSchema) -> dict[str, list[SubmittedRow]]:
    """Return the rows of each encounter: those of a file, or the decisions of models in the form of such rows.

    Probabilities of an encounter give one row; if a parent has no slot, they are decided slot by slot.
    """
    rows: dict[str, list[SubmittedRow]] = {}
    for encounter, group in by_encounter(predictions).items():
        rows[encounter] = [prediction for prediction in group if isinstance(prediction, SubmittedRow)]
        parts = [of_class(part, AnswerPrediction) for part in group if not isinstance(part, SubmittedRow)]
        if any(part.probabilities for part in parts):
            sets = _sets(parts, questions, None)
            is_complete = sets.keys() == questions.parents.keys()
            rows[encounter].append(_row(encounter, questions.to_slots(sets) if is_complete else _indices(parts)))
        else:
            rows[encounter] += [_row(encounter, part.chosen) for part in parts]
    return rows


def _row(encounter: str, values: Mapping[str, int]) -> SubmittedRow:
    return SubmittedRow(encounter, raw={"encounter_id": encounter, **values}, values=values)


def read_answers(gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]]) -> dict[str, Answer]:
    """Return the scored answer per gold encounter, in gold order; ids must match exactly."""
    return {encounter: _answer(rows.get(encounter, ()), gold.questions) for encounter in gold.answers}


def _answer(rows: Sequence[SubmittedRow], questions: QuestionSchema) -> Answer:
    if not rows:
        return Answer(fault="no row")
    slots: dict[str, Hashable] = {}
    wrong: dict[str, str] = {}
    contradictions: Counter[str] = Counter()
    for row in rows:
        for qid in questions.by_qid:
            if qid in row.raw:
                value, kind = _element(row, qid, questions.by_qid[qid].size)
                contradictions[qid] += slots.setdefault(qid, value) != value
                if kind:
                    wrong[qid] = kind
    if contradictions.total():
        return Answer(fault="rows that contradict each other", detail=shorten([*+contradictions], total=True))
    sets = {questions.by_qid[qid].parent for qid in slots}
    return Answer(slots, bare=tuple(p for p in questions.parents if p not in sets), wrong=wrong)


def _element(row: SubmittedRow, qid: str, size: int) -> tuple[Hashable, str]:
    """Return the element of a set that represents a value, and a description of the value if it is invalid.

    Two invalid values are the same element if the official scorer treats them as equal.
    """
    value = row.values.get(qid)
    if value is not None and 0 <= value < size:
        return value, ""
    raw = row.raw[qid]
    kind = str(raw) if type(raw) in (int, float) else kind_in_words(type(raw))
    return ("wrong", raw if isinstance(raw, Hashable) else repr(raw)), kind
