"""Cross-validation of closed questions: answers as labels to stratify by, the other folds' majority as baseline."""

from collections.abc import Iterator, Sequence

from magic_cli.data.questions import QuestionSchema
from magic_cli.records import Sample
from magic_cli.tasks.cvqa.answers import AnswerPrediction


def answer_labels(samples: Sequence[Sample], questions: QuestionSchema) -> dict[str, tuple[str, ...]]:
    """Return every encounter's answers as labels such as "CQID012=1": those of a parent as an unordered set."""
    rows = {sample.case.case_id: sample.case.answers or {} for sample in samples}
    return {
        encounter: tuple(
            f"{parent}={option}" for parent, options in questions.to_sets(row).items() for option in options
        )
        for encounter, row in rows.items()
    }


def majority_answers(parts: Sequence[Sequence[Sample]], questions: QuestionSchema) -> Iterator[AnswerPrediction]:
    """Yield, for every encounter of each part, the most frequent answers in the other parts as a prediction."""
    rows = [{s.case.case_id: s.case.answers or {} for s in part} for part in parts]
    for number, held_out in enumerate(rows):
        others = [row for index, part in enumerate(rows) if index != number for row in part.values()]
        majority = questions.majority(others)
        yield from (AnswerPrediction(encounter, chosen=majority) for encounter in held_out)
