"""Scores of closed answers: strict figures over option sets, the official ones beside them, tables, baselines."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import AnswerGold, TaskGold
from magic_cli.errors import DataError, SubmissionError, problem, redact_key, shorten
from magic_cli.metrics.answer_sets import AnswerTerms, Floats, iom
from magic_cli.metrics.official_answers import head
from magic_cli.records import EncounterSums, Prediction, Rules, Sample, Submitted, TaskScores
from magic_cli.submission.answers import SubmittedRow
from magic_cli.tasks.cvqa.answers import Answer, read_answers, rejected, rows_of
from magic_cli.tasks.cvqa.official import compare
from magic_cli.tasks.cvqa.write import surest_errors
from magic_cli.training.task import RULES, of_class

MONITOR = "accuracy_all"

_NUMBER = re.compile(r"^\s*1\s+|\s+1\s*$")

_NOTHING = -1

_MOST = 10

Sets = Mapping[str, AbstractSet[int]]


@dataclass(frozen=True)
class Key:
    """The gold answers as sets and in canonical slots, and what answers to them are worth."""

    gold: AnswerGold

    @cached_property
    def terms(self) -> AnswerTerms:
        """The sums from which all figures follow."""
        questions = self.gold.questions
        return AnswerTerms(len(questions.parents), tuple(slot.size for slot in questions.slots))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of `terms.scores`."""
        return (*(f"accuracy_{parent}" for parent in self.gold.questions.parents), MONITOR, "f1_macro")

    @cached_property
    def sets(self) -> list[Sets]:
        """Of each encounter, the gold set of each parent."""
        return [self.gold.questions.to_sets(row) for row in self.gold.answers.values()]

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        return self._canonical([Answer(row) for row in self.gold.answers.values()])

    def _canonical(self, answers: Sequence[Answer]) -> NDArray[np.int64]:
        """Return (encounters, slots) option indices in canonical slot order, -1 where there is no valid one.

        A parent with a value that is no index has no canonical order: its values count where they stand.
        """
        questions = self.gold.questions
        labels = np.full((len(answers), len(questions.slots)), _NOTHING)
        for one, answer in zip(labels, answers, strict=True):
            spoilt = {questions.by_qid[qid].parent for qid in answer.wrong}
            clean = {p: values for p, values in questions.to_sets(answer.slots).items() if p not in spoilt}
            row = questions.to_slots({**questions.empty_sets(), **clean})
            for at, slot in enumerate(questions.slots):
                if slot.parent in clean:
                    one[at] = row[slot.qid]
                elif slot.qid in answer.slots and slot.qid not in answer.wrong:
                    one[at] = answer.slots[slot.qid]
        return labels

    def sums(self, answers: Sequence[Answer]) -> Floats:
        """Return what `answers`, one of each gold encounter in gold order, are worth: (encounters, terms)."""
        questions, none = self.gold.questions, frozenset[int]()
        credit = np.zeros((len(answers), len(questions.parents)))
        for one, answer, gold in zip(credit, answers, self.sets, strict=True):
            found = questions.to_sets(answer.slots)
            one[:] = [iom(found.get(parent, none), gold[parent]) for parent in questions.parents]
        return self.terms.sums(credit, self._canonical(answers), self._labels)

    def figures(self, sums: Floats) -> dict[str, float]:
        """Return the figures of (encounters, terms) by name, the number of encounters last."""
        values = self.terms.scores(sums.sum(0))
        return dict(zip(self.names, values.tolist(), strict=True)) | {"number_cvqa_instances": len(sums)}


def score(
    gold: TaskGold,
    predictions: Iterable[Prediction | Submitted],
    rules: Rules = RULES,  # noqa: ARG001  they are about masks
    workers: int = 1,  # noqa: ARG001  answers are scored in no time
) -> TaskScores:
    """Score answers: accuracy per parent question (mean of |P ∩ G| / max(|P|, |G|)), and their mean.

    Strict: ids count as they are written; a missing encounter or parent, and rows that contradict each other, are
    worth zero; a value that is no option index is a wrong element of its set; missing siblings make a set smaller,
    as official; encounters without gold are left out. `extra` holds macro-F1 over slots in canonical order.

    Args:
        gold: an AnswerGold.
        predictions: AnswerPrediction of models, or SubmittedRow of files.
        rules: make no difference to answers.
        workers: make no difference either.

    Raises:
        DataError: there are no gold answers.
        SubmissionError: there are predictions, and none of them is of an encounter with gold.
    """
    gold = of_class(gold, AnswerGold)
    if not gold.answers:
        raise DataError(problem(gold.source, "no gold answers", "answers of this split", "give the gold file"))
    predictions = list(predictions)
    rows = rows_of(predictions, gold.questions)
    _refuse_other_split(gold, rows)
    key, answers = Key(gold), read_answers(gold, rows)
    sums = key.sums(list(answers.values()))
    figures = key.figures(sums)
    extra = {"f1_macro": figures.pop("f1_macro")}
    official = compare(gold, rows, answers, figures)
    return TaskScores(
        "cvqa",
        figures,
        summary_rows=tuple(_rows(key, answers, figures)),
        notes=(*official.notes, *_notes(gold, rows, answers)),
        extra=extra,
        official=official.figures,
        official_errors=official.stops,
        differences=official.differences,
        rejected=(*(row.problem for row in rows.get("", ())), *rejected(answers)),
        per_item=tuple(_items(key, answers, sums)),
        errors=surest_errors(gold, predictions),
        baselines=_trivial(key, gold.majority),
        encounter_sums=EncounterSums(tuple(gold.answers), key.names, sums, key.terms.scores),
    )


def _refuse_other_split(gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]]) -> None:
    heads = {head(encounter) for encounter in gold.answers}
    if rows and not any(encounter in gold.answers or head(encounter) in heads for encounter in rows):
        got = f"answers for {shorten([encounter or 'no encounter' for encounter in rows], total=True)}"
        remedy = "are these predictions of another split?"
        lines = [problem(gold.source, got, f"for {shorten(gold.answers, total=True)}", remedy)]
        raise SubmissionError(lines + [row.problem for row in rows.get("", ())][:_MOST])


def _items(key: Key, answers: Mapping[str, Answer], sums: Floats) -> Iterator[dict[str, Any]]:
    """Yield a row per encounter and parent: the gold and the predicted options, the credit, and what is wrong."""
    questions = key.gold.questions
    worths = sums[:, : len(questions.parents)].tolist()  # all terms as Python's numbers: 13 kB per encounter
    for (encounter, answer), gold, credit in zip(answers.items(), key.sets, worths, strict=True):
        found = questions.to_sets(answer.slots)
        for parent, worth in zip(questions.parents, credit, strict=True):
            yield {
                "encounter": encounter,
                "parent": parent,
                "gold": _shown(gold[parent]),
                "predicted": _shown(found.get(parent, frozenset())),
                "credit": worth,
                "fault": answer.fault_of(parent, questions.parents[parent]),
            }


def _shown(values: AbstractSet[int]) -> str:
    """Return the indices of a set, ascending; "?" stands for each value that is none."""
    indices = sorted(value for value in values if isinstance(value, int))
    # a few different texts, many thousand times
    return intern(" ".join([str(index) for index in indices] + ["?"] * (len(values) - len(indices))))


def _rows(key: Key, answers: Mapping[str, Answer], figures: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Yield a row per parent question: its wording and options, its accuracy, and its confusion matrix."""
    questions = key.gold.questions
    found = [questions.to_sets(answer.slots) for answer in answers.values()]
    for parent, slots in questions.parents.items():
        first = questions.by_qid[slots[0]]
        wording = first.text.get("en", next(iter(first.text.values()), ""))
        pairs = [(mine.get(parent, frozenset()), gold[parent]) for mine, gold in zip(found, key.sets, strict=True)]
        yield {
            "parent": parent,
            "question": _NUMBER.sub("", wording) if len(slots) > 1 else wording,  # a slot's wording holds its number
            "accuracy": figures[f"accuracy_{parent}"],
            "n": len(pairs),
            "options": list(first.options.get("en", next(iter(first.options.values())))),
            "confusion": _confusion(pairs, first.size).tolist(),
        }


def _confusion(pairs: Iterable[tuple[AbstractSet[int], AbstractSet[int]]], size: int) -> Floats:
    """Return (size + 1, size + 1): how often each gold option (row) meets each answer (column); the last is nothing.

    Args:
        pairs: (found, gold) of each encounter; found may hold values that are no index, which count as nothing.
        size: number of options.

    An option in both sets adds 1 on the diagonal. The others of an encounter share 1 per pair evenly; where one side
    has more of them, the rest of each meets nothing, so that rows and columns add up to how often an option occurs.
    """
    counts = np.zeros((size + 1, size + 1))
    for found, gold in pairs:
        both, lost = sorted(gold & found), sorted(gold - found)
        false = sorted(value for value in found - gold if isinstance(value, int))
        most = max(len(lost), len(false), 1)
        for option in both:
            counts[option, option] += 1
        for option in lost:
            counts[option, false] += 1 / most
            counts[option, size] += 1 - len(false) / most
        for option in false:
            counts[size, option] += 1 - len(lost) / most
    return counts


def _notes(
    gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]], answers: Mapping[str, Answer]
) -> Iterator[str]:
    heads = {head(encounter) for encounter in gold.answers}
    parents, asked = gold.questions.parents, {"encounter_id", *gold.questions.by_qid}
    ignored = [e for e in rows if e and e not in gold.answers and head(e) not in heads]
    if ignored:
        yield f"{len(ignored)} predicted encounters have no gold and are left out, as the official scorer does."
    again = [e for e, answer in answers.items() if len(rows.get(e, ())) > 1 and not answer.fault]
    if again:
        yield f"{len(again)} encounters have several rows that agree: {shorten(again, total=True)}."
    few = [e for e, answer in answers.items() if any(_partly(answer, qids) for qids in parents.values())]
    if few:
        names = shorten(few, total=True)
        yield f"{len(few)} encounters lack slots of a question, whose set is smaller, as official: {names}."
    other = sorted({key for e in answers for row in rows.get(e, ()) for key in row.raw if key not in asked})
    if other:
        yield f"Keys that are no question are left out: {shorten([redact_key(key) for key in other], total=True)}."


def _partly(answer: Answer, qids: Iterable[str]) -> bool:
    return len({qid in answer.slots for qid in qids}) > 1


def _trivial(key: Key, majority: Mapping[str, int] | None) -> dict[str, dict[str, float]]:
    """Return all figures of trivial answers, each the same for all encounters."""
    questions, count = key.gold.questions, len(key.gold.answers)
    rows: dict[str, Mapping[str, int]] = {"training majority": majority} if majority else {}
    rows["option 0"] = dict.fromkeys(questions.by_qid, 0)
    rows["Not mentioned"] = questions.to_slots(questions.empty_sets())
    return {name: key.figures(key.sums([Answer(row)] * count)) for name, row in rows.items()}


def trivial_scores(train: Sequence[Sample], gold: AnswerGold) -> dict[str, float]:
    """Return what trivial answers score on `gold`, as the score that MONITOR names.

    "training majority" answers each slot with its most frequent option in `train` (slots in canonical order,
    the lowest index where several are), the others with one option everywhere.
    """
    encounters = {sample.case.case_id: sample.case for sample in train}
    majority = gold.questions.majority(e.answers for e in encounters.values() if e.answers is not None)
    return {name: figures[MONITOR] for name, figures in _trivial(Key(gold), majority).items()}
