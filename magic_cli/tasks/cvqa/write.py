"""Answers as text: predictions.jsonl beside the submission, and the surest wrong answers."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import Gold
from magic_cli.data.questions import QuestionSchema
from magic_cli.io import run_record
from magic_cli.io.files import write_jsonl
from magic_cli.io.staging import replace_results
from magic_cli.records import Prediction
from magic_cli.submission.probabilities import TOLD, told_line
from magic_cli.submission.reader import ANSWERS, write_answers
from magic_cli.tasks.cvqa.answers import by_encounter

MOST = 20

_DIGITS = 6


def save(
    out: Path, rows: Mapping[str, Mapping[str, int]], predictions: Iterable[Prediction], questions: QuestionSchema
) -> list[Path]:
    """Write data_cvqa_sys.json and, where every prediction has probabilities, predictions.jsonl; return the files.

    An older predictions.jsonl would tell of other answers: it is replaced, or removed.

    Args:
        rows: the decided option index of every slot, by encounter; they give the order of both files.
        predictions: {qid: (options,) probabilities} that the rows were decided from, or decisions.
    """
    found = by_encounter(predictions)
    soft = all(_probabilities(found.get(encounter, ()), questions) for encounter in rows)
    names = [ANSWERS, TOLD] if soft else [ANSWERS]
    with replace_results(out, (ANSWERS, TOLD)) as folder:
        write_answers(folder / ANSWERS, [{"encounter_id": encounter, **row} for encounter, row in rows.items()])
        if TOLD in names:
            told = ((name, row, _rounded(_probabilities(found[name], questions))) for name, row in rows.items())
            write_jsonl(folder / TOLD, (told_line(*one, questions) for one in told))
        run_record.begin(out / run_record.FILE)
    return [out / name for name in names]


def _probabilities(predictions: Iterable[Prediction], questions: QuestionSchema) -> dict[str, NDArray[Any]]:
    """Return the (options,) probabilities of every slot; {} unless all slots have some."""
    found = {qid: values for one in predictions for qid, values in one.arrays.items()}
    if any(qid not in found or found[qid].dtype.kind != "f" for qid in questions.by_qid):
        return {}
    return {qid: found[qid] for qid in questions.by_qid}


def _rounded(told: Mapping[str, NDArray[Any]]) -> dict[str, list[float]]:
    return {qid: [round(float(p), _DIGITS) for p in values] for qid, values in told.items()}


def errors(gold: Gold, predictions: Iterable[Prediction]) -> tuple[dict[str, Any], ...]:
    """Return the answers that are wrong and whose files tell probabilities, the surest first, MOST at most.

    A row is {"encounter", "parent", "option", "answer", "probability", "gold"}: an option of the answered set that is
    not in the gold one, how probable it was to be in the set, and the gold options (without padding); ids and option
    texts alone. Canonical slots name a value once and end in "Not mentioned", so a value is in the set with the sum of
    its probabilities over the parent's slots, and "Not mentioned" with that in the last slot.
    """
    told = (one for one in predictions if one.id in gold.answers and one.told.keys() >= gold.questions.by_qid.keys())
    rows = [row for prediction in told for row in _wrong(prediction, gold)]
    return tuple(sorted(rows, key=lambda row: (-row["probability"], row["encounter"], row["parent"]))[:MOST])


def _wrong(prediction: Prediction, gold: Gold) -> Iterator[dict[str, Any]]:
    questions = gold.questions
    found = questions.to_sets({qid: int(index) for qid, index in prediction.arrays.items()})
    right = questions.to_sets(gold.answers[prediction.id])
    for parent, qids in questions.parents.items():
        padding, told = questions.not_mentioned(parent), np.array([prediction.told[qid] for qid in qids])
        values = sorted(right[parent] - {padding}) or sorted(right[parent])
        for option in sorted(option for option in found[parent] - right[parent] if 0 <= option < told.shape[1]):
            probability = told[-1, option] if option == padding else min(1.0, told[:, option].sum())
            yield {
                "encounter": prediction.id,
                "parent": parent,
                "option": option,
                "answer": questions.option(qids[0], option),
                "probability": round(float(probability), 4),
                "gold": ", ".join(questions.option(qids[0], value) for value in values),
            }
