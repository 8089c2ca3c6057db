"""Closed questions: one row of option indices an encounter; scored per parent question over option sets."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from magic_cli.data.gold import Gold
from magic_cli.data.prepared import Prepared
from magic_cli.errors import DataError, EmptySplit, SubmissionError, problem
from magic_cli.metrics.answers import Sets, f1_macro_slots, iom_means, mean
from magic_cli.questions import QuestionSchema
from magic_cli.records import Encounter, ImageRecord, Prediction, Report, Sample
from magic_cli.submission import ANSWERS, missing_lines, write_answers

if TYPE_CHECKING:
    from magic_cli.config import CvqaConfig
    from magic_cli.engine import TaskModel

MONITOR = "accuracy_all"
_ABSENT = -1
_NUMBER = re.compile(r"^\s*1\s+|\s+1\s*$")


def samples(prepared: Prepared, split: str, config: "CvqaConfig") -> tuple[Sample, ...]:
    """Return one sample an encounter with its photos and all questions; train and valid: of those with answers.

    `config.modality` "text" leaves photos away; "image" needs at least one a sample. `config.unit`
    "question" gives one sample an encounter and slot instead (the paper's).

    Raises:
        DataError: no such encounter, or encounters without photos where photos are needed, all at once.
    """
    encounters = [e for e in prepared.encounters_of(split) if split == "test" or e.answers is not None]
    if not encounters:
        expected = "encounters" if split == "test" else "encounters with answers"
        raise EmptySplit(problem(prepared.root, f"none in split {split!r}", expected, "see its prepare.json"))
    photos = {e.encounter_id: _photos(prepared, e, config.modality) for e in encounters}
    bare = [encounter for encounter, found in photos.items() if not found]
    if bare and config.modality == "image":
        some = ", ".join(bare[:10]) + (", ..." if len(bare) > 10 else "")
        got = f"{len(bare)} encounters without a photo ({some})"
        raise DataError(problem(prepared.root, got, "one or more", "use --modality both or text"))
    qids = tuple(prepared.questions.by_qid)
    units = [qids] if config.unit == "encounter" else [(qid,) for qid in qids]
    return tuple(Sample(e.encounter_id, e, photos[e.encounter_id], unit) for e in encounters for unit in units)


def _photos(prepared: Prepared, encounter: Encounter, modality: str) -> tuple[ImageRecord, ...]:
    if modality == "text":
        return ()
    records = [prepared.images[image] for image in encounter.image_ids if image in prepared.images]
    return tuple(record for record in records if record.path is not None)


def build(config: "CvqaConfig", questions: QuestionSchema) -> "TaskModel":
    """Make the model; torch is imported here and not before."""
    from magic_cli.tasks.cvqa_model import build as make

    return make(config, questions)


def decide(predictions: Iterable[Prediction], questions: QuestionSchema) -> dict[str, int]:
    """Decide the slots of one encounter, which several predictions may share (one a question).

    Args:
        predictions: {qid: (options,) probabilities}, decided by their maximum and brought into canonical slot
            order, or {qid: 0-d integer}, which pass unchanged.

    Raises:
        DataError: a parent question has no slot, where probabilities were given.
    """
    found = list(predictions)
    row = _chosen(found)
    return questions.canonical(row) if _soft(found) else row


def _chosen(predictions: Sequence[Prediction]) -> dict[str, int]:
    return {
        qid: int(values.argmax()) if values.dtype.kind == "f" else int(values)
        for prediction in predictions
        for qid, values in prediction.arrays.items()
    }


def _soft(predictions: Sequence[Prediction]) -> bool:
    return any(values.dtype.kind == "f" for p in predictions for values in p.arrays.values())


def _sets(predictions: Sequence[Prediction], questions: QuestionSchema) -> Sets:
    """Return the option set of each parent that has a slot; decisions of several rows unite (peers.md case 15)."""
    if _soft(predictions):
        row = _chosen(predictions)
        complete = questions.to_sets(row).keys() == questions.parents.keys()
        return questions.to_sets(questions.canonical(row) if complete else row)
    united: dict[str, frozenset[int]] = {}
    for prediction in predictions:
        for parent, values in questions.to_sets(_chosen([prediction])).items():
            united[parent] = united.get(parent, frozenset()) | values
    return united


def by_encounter(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    """Collect the predictions of each encounter, in order of appearance."""
    found: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        found.setdefault(prediction.id, []).append(prediction)
    return found


def score(gold: Gold, predictions: Iterable[Prediction]) -> Report:
    """Score answers: accuracy a parent question (mean of |P ∩ G| / max(|P|, |G|)), and over parents.

    `extra` holds macro-F1 over slots in canonical order. Missing siblings make a set smaller, as official;
    encounters without gold are left out.

    Raises:
        DataError: there are no gold answers.
        SubmissionError: encounters or parent questions without a prediction, all of them at once.
    """
    if not gold.answers:
        raise DataError(problem(gold.source, "no gold answers", "answers of this split", "give the gold file"))
    questions = gold.questions
    found = by_encounter(predictions)
    sets = {encounter: _sets(found[encounter], questions) for encounter in gold.answers if encounter in found}
    _refuse(gold, sets)
    truth = {encounter: questions.to_sets(row) for encounter, row in gold.answers.items()}
    means = iom_means(((sets[e], truth[e]) for e in truth), tuple(questions.parents))
    figures: dict[str, float] = {f"accuracy_{parent}": value for parent, value in means.items()}
    figures |= {"accuracy_all": mean(list(means.values())), "number_cvqa_instances": len(truth)}
    extra = {"f1_macro": _f1(gold, found)}
    return Report("cvqa", figures, _rows(questions, means, len(truth)), _notes(gold, found), extra)


def _refuse(gold: Gold, sets: Mapping[str, Sets]) -> None:
    lines = missing_lines(
        [encounter for encounter in gold.answers if encounter not in sets], gold.answers, "encounters"
    )
    for parent in gold.questions.parents:
        without = [encounter for encounter, row in sets.items() if parent not in row]
        if without:
            got = f"{parent} has no answer in {len(without)} of {len(gold.answers)} encounters"
            lines.append(f"{got} (the official scorer stops with KeyError): {', '.join(without)}")
    if lines:
        raise SubmissionError(lines)


def _f1(gold: Gold, found: Mapping[str, Sequence[Prediction]]) -> float:
    pairs = [
        (_canonical(_chosen(found[encounter]), gold.questions), _canonical(row, gold.questions))
        for encounter, row in gold.answers.items()
    ]
    slots = gold.questions.by_qid
    return f1_macro_slots(
        {qid: ([p.get(qid, _ABSENT) for p, _ in pairs], [g.get(qid, _ABSENT) for _, g in pairs]) for qid in slots}
    )


def _canonical(row: Mapping[str, int], questions: QuestionSchema) -> Mapping[str, int]:
    try:
        return questions.canonical(row)
    except DataError:  # an index out of range has no canonical place: it counts as wrong where it stands
        return row


def _rows(questions: QuestionSchema, means: Mapping[str, float], n: int) -> tuple[dict[str, Any], ...]:
    rows = []
    for parent, accuracy in means.items():
        slots = questions.parents[parent]
        text = questions.by_qid[slots[0]].text
        wording = text.get("en", next(iter(text.values()), ""))
        if len(slots) > 1:  # the wording of a slot holds its number
            wording = _NUMBER.sub("", wording)
        rows.append({"parent": parent, "question": wording, "accuracy": accuracy, "n": n})
    return tuple(rows)


def _notes(gold: Gold, found: Mapping[str, Sequence[Prediction]]) -> tuple[str, ...]:
    notes = []
    ignored = sum(encounter not in gold.answers for encounter in found)
    if ignored:
        notes.append(f"{ignored} predicted encounters have no gold and are left out, as the official scorer does.")
    again = [e for e, rows in found.items() if e in gold.answers and len(rows) > 1 and not _soft(rows)]
    if again:
        some = ", ".join(again[:10]) + (", ..." if len(again) > 10 else "")
        notes.append(f"{len(again)} encounters have several rows, united as the official scorer does: {some}.")
    return tuple(notes)


def baselines(train: Sequence[Sample], gold: Gold) -> dict[str, float]:
    """Return what trivial answers score on `gold`, as the figure that MONITOR names.

    "training majority" answers each slot with its most frequent training option (slots in canonical order,
    the lowest index where several are), the others with one option everywhere.
    """
    questions = gold.questions
    encounters = {sample.encounter.encounter_id: sample.encounter for sample in train}
    rows = [questions.canonical(e.answers) for e in encounters.values() if e.answers is not None]
    constant = {
        "option 0": dict.fromkeys(questions.by_qid, 0),
        "Not mentioned": questions.to_slots(questions.empty_sets()),
    }
    if rows:
        constant["training majority"] = {
            qid: min(counts, key=lambda option: (-counts[option], option))
            for qid, counts in ((qid, Counter(row[qid] for row in rows)) for qid in questions.by_qid)
        }
    found = {}
    for name, row in constant.items():
        arrays = {qid: np.array(index) for qid, index in row.items()}
        found[name] = score(gold, (Prediction(encounter, arrays) for encounter in gold.answers)).figures[MONITOR]
    return found


def write(predictions: Iterable[Prediction], prepared: Prepared, out: Path) -> list[Path]:
    """Write out/data_cvqa_sys.json: a row of 0-based indices for every predicted encounter, in prepared order.

    Raises:
        DataError: an encounter lacks a question, or the folder cannot be written.
    """
    found = by_encounter(predictions)
    order = [encounter for encounter in prepared.encounters if encounter in found]
    rows = [{"encounter_id": encounter} | decide(found[encounter], prepared.questions) for encounter in order]
    write_answers(out / ANSWERS, rows)
    return [out / ANSWERS]
