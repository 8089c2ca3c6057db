"""What a chosen temperature changes in closed answers that are held out: calibration before and after, paired.

    python tests/benchmarks/temperature.py FOLDS/folds PREPARED [--parts 5] [--resamples 1000]

FOLDS is the folder of `magic train cvqa --folds K`; its answers to split train are dealt into parts, by encounter. For
each part the temperature is chosen as `--set temperature_for=valid` chooses it, on the answers to all other parts.
Expected calibration error over slots and over option sets, which are decided anew; 95 % intervals are over encounters.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from magic_cli.data.gold import AnswerGold, open_gold
from magic_cli.metrics import bootstrap
from magic_cli.metrics.calibration import confidence_scores, tempered
from magic_cli.metrics.row_scores import RowScores
from magic_cli.submission.answers import SubmittedRow
from magic_cli.submission.reader import open_predictions
from magic_cli.tasks.cvqa.answers import AnswerPrediction, decide
from magic_cli.tasks.cvqa.confidence import answer_confidence, chosen_temperature


def predicted(path: Path, gold: AnswerGold) -> list[AnswerPrediction]:
    """Return the probabilities of the answers of a folder, by encounter."""
    with open_predictions(path) as submission:
        rows = [r for r in submission.of("cvqa", gold.questions.by_qid) if isinstance(r, SubmittedRow)]
    return [
        AnswerPrediction(row.id, {qid: np.array(of) for qid, of in row.probabilities.items()}, decode="set")
        for row in sorted(rows, key=lambda row: row.id)
        if row.id in gold.answers and row.probabilities
    ]


def by_slot(gold: AnswerGold, answers: Sequence[AnswerPrediction]) -> RowScores:
    """Return confidence and correctness of all slots."""
    found = []
    for answer in answers:
        right = gold.questions.canonical(gold.answers[answer.id])
        found += [(answer.id, of.max(), of.argmax() == right[qid]) for qid, of in answer.probabilities.items()]
    names, sure, correct = zip(*found, strict=True)
    return confidence_scores(names, np.array(sure), np.array(correct))


def by_set(gold: AnswerGold, answers: Sequence[AnswerPrediction]) -> RowScores:
    """Return confidence and correctness of all option sets."""
    rows = [
        SubmittedRow(
            answer.id,
            values=decide([answer], gold.questions),
            probabilities={qid: tuple(of.tolist()) for qid, of in answer.probabilities.items()},
        )
        for answer in answers
    ]
    found = answer_confidence(gold, rows)
    if found is None:
        raise SystemExit("no answers with probabilities")
    return found


def main() -> None:
    """Parse, choose, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folds", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    gold = open_gold(given.prepared, "train").answers
    before = predicted(given.folds, gold)
    after, chosen = list[AnswerPrediction](), list[float]()
    for part in range(given.parts):
        others = [answer for at, answer in enumerate(before) if at % given.parts != part]
        found = chosen_temperature([(gold, others)], 1.0)
        if found is None:
            raise SystemExit("no answers to choose a temperature on")
        best = float(found.settings["temperature"])
        chosen.append(best)
        after += [
            replace(answer, probabilities={q: tempered(of, best) for q, of in answer.probabilities.items()})
            for answer in before[part :: given.parts]
        ]
    print(f"{len(before)} encounters; temperatures {', '.join(f'{value:.3f}' for value in chosen)}")
    for name, of in (("slots", by_slot), ("option sets", by_set)):
        ours, theirs = of(gold, after), of(gold, before)
        bounds = [bootstrap.intervals(each, given.resamples) for each in (theirs, ours)]
        rows = bootstrap.paired(ours, theirs, given.resamples)
        for score in ("accuracy", "ece", "aurc"):
            values = [each.over(range(len(each.ids)))[each.names.index(score)] for each in (theirs, ours)]
            shown = " -> ".join(
                f"{v:.4f} ({b[score].low:.4f} to {b[score].high:.4f})" for v, b in zip(values, bounds, strict=True)
            )
            row = rows[score]
            print(
                f"  {name}, {score}: {shown}; {row.difference:+.4f} ({row.low:+.4f} to {row.high:+.4f}) p {row.p:.3f}"
            )


if __name__ == "__main__":
    main()
