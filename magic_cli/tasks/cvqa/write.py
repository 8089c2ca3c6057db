"""Write answers: the submission and predictions.jsonl; list the most confident wrong answers."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import AnswerGold
from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.data.questions import QuestionSchema
from magic_cli.io.json_files import write_json, write_jsonl
from magic_cli.io.staging import replace_results
from magic_cli.records import Neighbour, Prediction, Submitted
from magic_cli.submission.answers import SubmittedRow
from magic_cli.submission.neighbours import NEIGHBOURS_FILE, ShownNeighbour, answer_texts, neighbours_json
from magic_cli.submission.probabilities import PROBABILITIES_FILE, Probabilities, probability_row
from magic_cli.submission.reader import ANSWERS, write_answers
from magic_cli.tasks.cvqa.answers import AnswerPrediction, by_encounter

MOST = 20

_DIGITS = 6


def save(
    out: Path,
    rows: Mapping[str, Mapping[str, int]],
    predictions: Iterable[AnswerPrediction],
    questions: QuestionSchema,
    beside: SideFiles | None = None,
) -> list[Path]:
    """Write data_cvqa_sys.json and, if every row has probabilities, predictions.jsonl; return the files.

    Predictions with neighbours give neighbours.json as well.

    An older predictions.jsonl belongs to other answers, so it is replaced or removed.

    Args:
        out: the folder.
        rows: the decided option index of every slot, by encounter, in the order of both files.
        predictions: the predictions that the rows were decided from.
        questions: questions of the dataset.
        beside: what else is written.
    """
    groups = by_encounter(predictions)
    probabilities = {encounter: _probabilities(groups.get(encounter, ()), questions) for encounter in rows}
    names = [ANSWERS, PROBABILITIES_FILE] if all(probabilities.values()) else [ANSWERS]
    similar = {e: neighbours for e in rows if (neighbours := _neighbours(groups.get(e, ())))}
    names += [NEIGHBOURS_FILE] if similar else []
    with replace_results(out) as folder:
        write_answers(folder / ANSWERS, [{"encounter_id": encounter, **row} for encounter, row in rows.items()])
        if PROBABILITIES_FILE in names:
            lines = (probability_row(e, row, _rounded(probabilities[e]), questions) for e, row in rows.items())
            write_jsonl(folder / PROBABILITIES_FILE, lines)
        if similar:
            write_json(folder / NEIGHBOURS_FILE, neighbours_json(similar, questions))
        names += () if beside is None else beside.finish(folder)
    return [out / name for name in names]


def _probabilities(predictions: Iterable[AnswerPrediction], questions: QuestionSchema) -> dict[str, NDArray[Any]]:
    """Return the (options,) probabilities of every slot; {} unless all slots have them."""
    slots = {qid: values for prediction in predictions for qid, values in prediction.probabilities.items()}
    return {qid: slots[qid] for qid in questions.by_qid} if slots.keys() >= questions.by_qid.keys() else {}


def _neighbours(predictions: Iterable[AnswerPrediction]) -> tuple[Neighbour, ...]:
    return next((prediction.neighbours for prediction in predictions if prediction.neighbours), ())


def _rounded(probabilities: Mapping[str, NDArray[Any]]) -> Probabilities:
    return {qid: [round(float(p), _DIGITS) for p in values] for qid, values in probabilities.items()}


def surest_errors(gold: AnswerGold, predictions: Iterable[Prediction | Submitted]) -> tuple[dict[str, Any], ...]:
    """Return the wrong answers of files with probabilities, the most confident first, at most MOST.

    A row is {"encounter", "parent", "option", "answer", "probability", "gold"}: an option of the answered set that is
    not in the gold set, its predicted probability of being in the set, and the gold options (without padding). Rows
    hold ids and option texts only. Canonical slots name a value once and end in "Not mentioned", so a value is in the
    set with the sum of its probabilities over the parent's slots, and "Not mentioned" with that in the last slot.

    Where neighbours.json is beside the answers, a row also has "neighbours": of each similar case {"case_id",
    "image_id", "similarity", "answer", "agrees"}, its answer to that question, and whether it has the wrong "option"
    as well, is the "gold", shares a "part" of the gold, or is "neither".
    """
    qids = gold.questions.by_qid.keys()
    known = (row for row in predictions if isinstance(row, SubmittedRow) and row.probabilities.keys() >= qids)
    rows = [(error, row.neighbours) for row in known if row.id in gold.answers for error in _wrong(row, gold)]
    rows.sort(key=lambda pair: (-pair[0]["probability"], pair[0]["encounter"], pair[0]["parent"]))
    return tuple(_with_neighbours(error, neighbours, gold) for error, neighbours in rows[:MOST])


def _wrong(row: SubmittedRow, gold: AnswerGold) -> Iterator[dict[str, Any]]:
    questions = gold.questions
    predicted, right = questions.to_sets(row.values), questions.to_sets(gold.answers[row.id])
    texts = answer_texts(gold.answers[row.id], questions)
    for parent, qids in questions.parents.items():
        padding, slots = questions.not_mentioned(parent), np.array([row.probabilities[qid] for qid in qids])
        for option in sorted(option for option in predicted[parent] - right[parent] if 0 <= option < slots.shape[1]):
            probability = slots[-1, option] if option == padding else min(1.0, slots[:, option].sum())
            yield {
                "encounter": row.id,
                "parent": parent,
                "option": option,
                "answer": questions.option(qids[0], option),
                "probability": round(float(probability), 4),
                "gold": ", ".join(texts[parent]),
            }


def _with_neighbours(error: dict[str, Any], neighbours: Iterable[ShownNeighbour], gold: AnswerGold) -> dict[str, Any]:
    """Return the row of a wrong answer with the answers of similar cases to that question; without them, itself."""
    parent = error["parent"]
    right = frozenset(answer_texts(gold.answers[error["encounter"]], gold.questions)[parent])
    rows = [
        {
            "case_id": neighbour.case_id,
            "image_id": neighbour.image_id,
            "similarity": neighbour.similarity,
            "answer": ", ".join(neighbour.answers.get(parent, ())),
            "agrees": _agreement(frozenset(neighbour.answers.get(parent, ())), error["answer"], right),
        }
        for neighbour in neighbours
    ]
    return {**error, "neighbours": rows} if rows else error


def _agreement(theirs: frozenset[str], wrong: str, right: frozenset[str]) -> str:
    if wrong in theirs:
        return "option"
    if theirs == right:
        return "gold"
    return "part" if theirs & right else "neither"
