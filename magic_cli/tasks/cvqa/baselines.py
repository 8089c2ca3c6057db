"""What cross-validation asks of closed questions: labels to balance, and the majority of the other folds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from magic_cli.data.questions import QuestionSchema
from magic_cli.records import Sample
from magic_cli.tasks.cvqa.answers import AnswerPrediction


def strata(samples: Sequence[Sample], questions: QuestionSchema) -> dict[str, tuple[str, ...]]:
    """Return every encounter's answers as labels, "CQID012=1": those of a parent as a set, in no order."""
    rows = {sample.case.case_id: sample.case.answers or {} for sample in samples}
    return {
        encounter: tuple(f"{parent}={option}" for parent, some in questions.to_sets(row).items() for option in some)
        for encounter, row in rows.items()
    }


def guesses(parts: Sequence[Sequence[Sample]], questions: QuestionSchema) -> Mapping[str, Iterable[AnswerPrediction]]:
    """Return trivial answers to the samples of each part, learned from the other parts, by name."""
    return {"training majority": _majority(parts, questions)}


def _majority(parts: Sequence[Sequence[Sample]], questions: QuestionSchema) -> Iterator[AnswerPrediction]:
    rows = [{s.case.case_id: s.case.answers or {} for s in part} for part in parts]
    for number, held in enumerate(rows):
        others = [row for other, part in enumerate(rows) if other != number for row in part.values()]
        majority = questions.majority(others)
        yield from (AnswerPrediction(encounter, chosen=majority) for encounter in held)
