"""Predicted answers of one encounter: decided from probabilities, or read from the rows of a file, faults named."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from magic_cli.data.gold import Gold
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import shorten
from magic_cli.records import Prediction
from magic_cli.tasks.cvqa.decode import best_set

SETS = "set"

"""Beside the qids in a prediction's arrays: 0-d float, 1.0 where the model decides sets, 0.0 where slots."""

_KINDS = {str: "text", bool: "true or false", type(None): "null", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of answers: of a file, or what a model decided.

    `encounter` is its id as written, "" where it has none; `fault` then says what it is instead. `raw` is the row
    for the official figures, `values` are those of its values that are whole numbers.
    """

    encounter: str
    raw: Any
    values: Mapping[str, int]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What counts of the rows of one gold encounter.

    `slots` maps qids to option indices; a value that is none stands as something that equals no index. `fault` says
    why all of it counts as zero, `detail` where; `bare` are the parents without a slot; `wrong` says what a qid has
    for an index.
    """

    slots: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    detail: str = ""
    bare: tuple[str, ...] = ()
    wrong: Mapping[str, str] = field(default_factory=dict)

    def fault_of(self, parent: str, qids: Iterable[str]) -> str:
        """Return what is wrong with the answer to one parent question, "" where nothing is."""
        if self.fault:
            return f"{self.fault}: {self.detail}" if self.detail else self.fault
        wrong = ", ".join(f"{qid}: {self.wrong[qid]}" for qid in qids if qid in self.wrong)
        return "no answer" if parent in self.bare else wrong


def refused(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Yield a line for each reason why encounters, parent questions or values count as zero, with where they are."""
    zero: dict[str, list[str]] = {}
    bare: dict[str, list[str]] = {}
    wrong: list[str] = []
    for encounter, answer in answers.items():
        if answer.fault:
            zero.setdefault(answer.fault, []).append(f"{encounter}{answer.detail and ': '}{answer.detail}")
        for parent in answer.bare:
            bare.setdefault(parent, []).append(encounter)
        wrong += [f"{encounter}:{qid}: {kind}" for qid, kind in answer.wrong.items()]
    for fault, places in zero.items():
        yield f"{len(places)} of {len(answers)} encounters count as zero: {fault} ({shorten(places, total=True)})"
    for parent, places in bare.items():
        names = shorten(places, total=True)
        yield f"{parent} counts as zero in {len(places)} of {len(answers)} encounters: no answer ({names})"
    if wrong:
        yield f"values that are no option index count as wrong: {len(wrong)} ({shorten(wrong, total=True)})"


def decide(predictions: Iterable[Prediction], questions: QuestionSchema, decode: str | None = None) -> dict[str, int]:
    """Decide the slots of one encounter, which several predictions may share (one a question).

    Args:
        predictions: {qid: (options,) probabilities}, decided and brought into canonical slot order, or
            {qid: 0-d integer}, which pass unchanged.
        decode: each slot's likeliest option ("slot"), or for a parent of several slots the best "set"
            (tasks/cvqa/decode.py); None for what most of the models say (SETS, 0.0 or 1.0).

    Raises:
        DataError: a parent question has no slot, where probabilities were given.
    """
    found = list(predictions)
    row = _chosen(found)
    return questions.to_slots(_sets(found, questions, decode)) if _soft(found) else row


def _sets(
    predictions: Sequence[Prediction], questions: QuestionSchema, decode: str | None
) -> dict[str, frozenset[int]]:
    """Return the decided set of each parent that has a slot."""
    sets = questions.to_sets(_chosen(predictions))
    own = [float(p.arrays[SETS]) for p in predictions if SETS in p.arrays]
    if decode == "slot" or (decode is None and sum(own) <= len(own) / 2):
        return sets
    told = {qid: values for p in predictions for qid, values in p.arrays.items()}
    for parent, qids in questions.parents.items():
        padding = questions.not_mentioned(parent)
        if len(qids) > 1 and padding is not None and all(qid in told for qid in qids):
            sets[parent] = best_set(np.stack([told[qid] for qid in qids]).astype(np.float64), padding)
    return sets


def _chosen(predictions: Iterable[Prediction]) -> dict[str, int]:
    return {
        qid: int(values.argmax()) if values.dtype.kind == "f" else int(values)
        for prediction in predictions
        for qid, values in prediction.arrays.items()
        if qid != SETS
    }


def _soft(predictions: Iterable[Prediction]) -> bool:
    return any(values.dtype.kind == "f" for p in predictions for values in p.arrays.values())


def by_encounter(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    """Collect the predictions of each encounter, in order of appearance."""
    found: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        found.setdefault(prediction.id, []).append(prediction)
    return found


def rows_of(predictions: Iterable[Prediction], questions: QuestionSchema) -> dict[str, list[Row]]:
    """Return the rows of each encounter: one where a model speaks, those of the file otherwise."""
    rows: dict[str, list[Row]] = {}
    for encounter, found in by_encounter(predictions).items():
        if _soft(found):
            values, sets = _chosen(found), _sets(found, questions, None)
            if sets.keys() == questions.parents.keys():
                values = questions.to_slots(sets)
            rows[encounter] = [Row(encounter, {"encounter_id": encounter, **values}, values)]
        else:
            rows[encounter] = [_row(prediction) for prediction in found]
    return rows


def _row(prediction: Prediction) -> Row:
    values = _chosen([prediction])
    raw = {"encounter_id": prediction.id, **values} if prediction.raw is None else prediction.raw
    return Row(prediction.id, raw, values, prediction.fault)


def read_answers(gold: Gold, rows: Mapping[str, Sequence[Row]]) -> dict[str, Answer]:
    """Return what counts of each gold encounter, in gold order; ids are compared as they are written."""
    return {encounter: _answer(rows.get(encounter, ()), gold.questions) for encounter in gold.answers}


def _answer(rows: Sequence[Row], questions: QuestionSchema) -> Answer:
    if not rows:
        return Answer(fault="no row")
    slots: dict[str, Hashable] = {}
    wrong: dict[str, str] = {}
    against: Counter[str] = Counter()
    for row in rows:
        for qid in questions.by_qid:
            if qid in row.raw:
                value, kind = _element(row, qid, questions.by_qid[qid].size)
                against[qid] += slots.setdefault(qid, value) != value
                if kind:
                    wrong[qid] = kind
    if against.total():
        return Answer(fault="rows that contradict each other", detail=shorten([*+against], total=True))
    sets = {questions.by_qid[qid].parent for qid in slots}
    return Answer(slots, bare=tuple(p for p in questions.parents if p not in sets), wrong=wrong)


def _element(row: Row, qid: str, size: int) -> tuple[Hashable, str]:
    """Return what stands for a value in a set, and what is wrong with it.

    Two wrong values are one element where the official scorer takes them for one.
    """
    value = row.values.get(qid)
    if value is not None and 0 <= value < size:
        return value, ""
    raw = row.raw[qid]
    kind = _KINDS.get(type(raw)) or str(raw)
    return ("wrong", raw if isinstance(raw, Hashable) else repr(raw)), kind
