"""Scores of closed answers, strict and official, with the rows of all tables and the scores of trivial answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import AnswerGold, TaskGold
from magic_cli.data.issues import by_kind
from magic_cli.errors import DataError, SubmissionError, problem, redact_key, shorten
from magic_cli.metrics.answer_sets import AnswerTerms, Floats, iom
from magic_cli.metrics.official_answers import head
from magic_cli.records import EncounterSums, Prediction, Rules, Sample, Submitted, TaskScores
from magic_cli.submission.answers import SubmittedRow
from magic_cli.submission.expected import OtherSplit, respelled_note
from magic_cli.tasks.cvqa.answers import Answer, read_answers, rejected, rows_of
from magic_cli.tasks.cvqa.confidence import answer_confidence
from magic_cli.tasks.cvqa.official import compare
from magic_cli.tasks.cvqa.write import surest_errors
from magic_cli.training.task import RULES, of_class

MONITOR = "accuracy_all"

_NOTHING = -1

_MOST = 10

Sets = Mapping[str, AbstractSet[int]]


@dataclass(frozen=True)
class Key:
    """The gold answers as sets and in canonical slots, to score answers against."""

    gold: AnswerGold

    @cached_property
    def terms(self) -> AnswerTerms:
        """The sums from which all scores follow."""
        questions = self.gold.questions
        return AnswerTerms(len(questions.parents), tuple(slot.size for slot in questions.slots))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of `terms.scores`."""
        return (*(f"accuracy_{parent}" for parent in self.gold.questions.parents), MONITOR, "f1_macro")

    @cached_property
    def sets(self) -> list[Sets]:
        """The gold set of each parent, per encounter."""
        return [self.gold.questions.to_sets(row) for row in self.gold.answers.values()]

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        return self._canonical([Answer(row) for row in self.gold.answers.values()])

    def _canonical(self, answers: Sequence[Answer]) -> NDArray[np.int64]:
        """Return (encounters, slots) option indices in canonical slot order, -1 where none is valid.

        A parent with an invalid value has no canonical order: its other values count in their own slots.
        """
        questions = self.gold.questions
        labels = np.full((len(answers), len(questions.slots)), _NOTHING)
        for label, answer in zip(labels, answers, strict=True):
            spoilt = {questions.by_qid[qid].parent for qid in answer.wrong}
            clean = {p: values for p, values in questions.to_sets(answer.slots).items() if p not in spoilt}
            row = questions.to_slots({**questions.empty_sets(), **clean})
            for number, slot in enumerate(questions.slots):
                if slot.parent in clean:
                    label[number] = row[slot.qid]
                elif slot.qid in answer.slots and slot.qid not in answer.wrong:
                    label[number] = answer.slots[slot.qid]
        return labels

    def sums(self, answers: Sequence[Answer]) -> Floats:
        """Return the (encounters, terms) of `answers`, one per gold encounter in gold order."""
        questions, none = self.gold.questions, frozenset[int]()
        credit = np.zeros((len(answers), len(questions.parents)))
        for row, answer, gold in zip(credit, answers, self.sets, strict=True):
            predicted = questions.to_sets(answer.slots)
            row[:] = [iom(predicted.get(parent, none), gold[parent]) for parent in questions.parents]
        return self.terms.sums(credit, self._canonical(answers), self._labels)

    def scores(self, sums: Floats) -> dict[str, float]:
        """Return the scores of (encounters, terms) by name, the number of encounters last."""
        values = self.terms.scores(sums.sum(0))
        return dict(zip(self.names, values.tolist(), strict=True)) | {"number_cvqa_instances": len(sums)}


def score(
    gold: TaskGold,
    predictions: Iterable[Prediction | Submitted],
    rules: Rules = RULES,  # noqa: ARG001  they concern masks only
    workers: int = 1,  # noqa: ARG001  scoring answers is fast
) -> TaskScores:
    """Score answers: accuracy per parent question (mean of |P ∩ G| / max(|P|, |G|)), and their mean.

    Strict: ids must match exactly; a missing encounter or parent, and rows that contradict each other, score zero; a
    value that is no option index is a wrong element of its set; missing slots make a set smaller, as in the official
    scorer; encounters without gold are left out. `extra` holds macro-F1 over slots in canonical order.

    Args:
        gold: an AnswerGold.
        predictions: AnswerPrediction of models, or SubmittedRow of files.
        rules: unused.
        workers: unused.

    Raises:
        DataError: there are no gold answers.
        SubmissionError: there are predictions, but none for an encounter with gold.
    """
    gold = of_class(gold, AnswerGold)
    if not gold.answers:
        raise DataError(problem(gold.source, "no gold answers", "answers of this split", "give the gold file"))
    predictions = list(predictions)
    rows = rows_of(predictions, gold.questions)
    _refuse_other_split(gold, rows)
    key, answers = Key(gold), read_answers(gold, rows)
    sums = key.sums(list(answers.values()))
    scores = key.scores(sums)
    extra = {"f1_macro": scores.pop("f1_macro")}
    official = compare(gold, rows, answers, scores)
    return TaskScores(
        "cvqa",
        scores,
        summary_rows=tuple(_rows(key, answers, scores)),
        notes=(*official.notes, *_notes(gold, rows, answers)),
        extra=extra,
        official=official.scores,
        official_errors=official.errors,
        differences=official.differences,
        rejected=(*by_kind(row.problem for row in rows.get("", ())), *rejected(answers)),
        per_item=tuple(_items(key, answers, sums)),
        errors=surest_errors(gold, predictions),
        baselines=_trivial(key, gold.majority),
        encounter_sums=EncounterSums(tuple(gold.answers), key.names, sums, key.terms.scores),
        confidence=answer_confidence(gold, predictions),
    )


def _refuse_other_split(gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]]) -> None:
    heads = {head(encounter) for encounter in gold.answers}
    if rows and not any(encounter in gold.answers or head(encounter) in heads for encounter in rows):
        got = f"answers for {shorten([encounter or 'no encounter' for encounter in rows], total=True)}"
        remedy = "are these predictions of another split?"
        wanted, hint = f"for {shorten(gold.answers, total=True)}", respelled_note(rows, gold.answers, "encounters")
        more = [*([hint] if hint else []), *by_kind(row.problem for row in rows.get("", ()))[:_MOST]]
        if not more:
            raise OtherSplit(f"got {got}, expected {wanted}; {remedy}")
        raise SubmissionError([problem(gold.source, got, wanted, remedy), *more])


def _items(key: Key, answers: Mapping[str, Answer], sums: Floats) -> Iterator[dict[str, Any]]:
    """Yield a row per encounter and parent: gold and predicted options, credit, and fault."""
    questions = key.gold.questions
    credit_rows = sums[:, : len(questions.parents)].tolist()  # converting all terms would take 13 kB per encounter
    for (encounter, answer), gold, row in zip(answers.items(), key.sets, credit_rows, strict=True):
        predicted = questions.to_sets(answer.slots)
        for parent, credit in zip(questions.parents, row, strict=True):
            yield {
                "encounter": encounter,
                "parent": parent,
                "gold": _shown(gold[parent]),
                "predicted": _shown(predicted.get(parent, frozenset())),
                "credit": credit,
                "fault": answer.fault_of(parent, questions.parents[parent]),
            }


def _shown(values: AbstractSet[int]) -> str:
    """Return the indices of a set, ascending; "?" for each invalid value."""
    indices = sorted(value for value in values if isinstance(value, int))
    # few distinct texts, repeated many thousand times
    return intern(" ".join([str(index) for index in indices] + ["?"] * (len(values) - len(indices))))


def _rows(key: Key, answers: Mapping[str, Answer], scores: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Yield a row per parent question: its wording and options, its accuracy, and its confusion matrix."""
    questions = key.gold.questions
    predicted = [questions.to_sets(answer.slots) for answer in answers.values()]
    for parent, slots in questions.parents.items():
        first = questions.by_qid[slots[0]]
        pairs = [(sets.get(parent, frozenset()), gold[parent]) for sets, gold in zip(predicted, key.sets, strict=True)]
        yield {
            "parent": parent,
            "question": questions.wording(parent),
            "accuracy": scores[f"accuracy_{parent}"],
            "n": len(pairs),
            "options": list(first.options.get("en", next(iter(first.options.values())))),
            "confusion": _confusion(pairs, first.size).tolist(),
        }


def _confusion(pairs: Iterable[tuple[AbstractSet[int], AbstractSet[int]]], size: int) -> Floats:
    """Return the confusion matrix (size + 1, size + 1) of gold options (rows) and answers (columns); last: no option.

    Args:
        pairs: (predicted, gold) sets per encounter; invalid predicted values count as no option.
        size: number of options.

    An option in both sets adds 1 on the diagonal. The remaining gold options are paired evenly with the remaining
    predicted ones; if one side has more, the rest is paired with "no option", so that rows and columns sum to the
    number of times that an option occurs.
    """
    counts = np.zeros((size + 1, size + 1))
    for predicted, gold in pairs:
        both, lost = sorted(gold & predicted), sorted(gold - predicted)
        false = sorted(value for value in predicted - gold if isinstance(value, int))
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
    hint = respelled_note(rows, gold.answers, "encounters")
    if hint:
        yield f"{hint}."
    again = [e for e, answer in answers.items() if len(rows.get(e, ())) > 1 and not answer.fault]
    if again:
        yield f"{len(again)} encounters have several rows that agree: {shorten(again, total=True)}."
    few = [e for e, answer in answers.items() if any(_partly(answer, qids) for qids in parents.values())]
    if few:
        names = shorten(few, total=True)
        yield f"{len(few)} encounters lack slots of a question, whose set is smaller, as official: {names}."
    unknown = sorted({key for e in answers for row in rows.get(e, ()) for key in row.raw if key not in asked})
    if unknown:
        yield f"Keys that are no question are left out: {shorten([redact_key(key) for key in unknown], total=True)}."


def _partly(answer: Answer, qids: Iterable[str]) -> bool:
    return len({qid in answer.slots for qid in qids}) > 1


def _trivial(key: Key, majority: Mapping[str, int] | None) -> dict[str, dict[str, float]]:
    """Return all scores of trivial answers, which are the same for all encounters."""
    questions, count = key.gold.questions, len(key.gold.answers)
    rows: dict[str, Mapping[str, int]] = {"training majority": majority} if majority else {}
    rows["option 0"] = dict.fromkeys(questions.by_qid, 0)
    rows["Not mentioned"] = questions.to_slots(questions.empty_sets())
    return {name: key.scores(key.sums([Answer(row)] * count)) for name, row in rows.items()}


def trivial_scores(train: Sequence[Sample], gold: AnswerGold) -> dict[str, float]:
    """Return the scores of trivial answers on `gold`, by name; the score is MONITOR.

    "training majority" answers each slot with its most frequent option in `train` (slots in canonical order,
    the lowest index of several), the others with a constant option.
    """
    encounters = {sample.case.case_id: sample.case for sample in train}
    majority = gold.questions.majority(e.answers for e in encounters.values() if e.answers is not None)
    return {name: scores[MONITOR] for name, scores in _trivial(Key(gold), majority).items()}
