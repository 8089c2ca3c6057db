"""Closed questions learned from few encounters: accuracy on 100 others, and how fast the penalty should grow.

    python tests/benchmarks/few_encounters.py PREPARED [--modality text] [--sizes 20 40 80 160] [--seeds 0 1 2 3 4 5]

A line a size and seed: the training majority, preset small, and preset small with the penalty growing as one over the
number of encounters below 240 too (examples/ablation.md). Encounters are those of split train, shuffled by seed.
"""

import argparse
import dataclasses
import random
import tempfile
from pathlib import Path

from magic_cli import tasks
from magic_cli.commands import predict
from magic_cli.config import resolve
from magic_cli.data.gold import AnswerGold, answer_gold
from magic_cli.data.prepared import open_prepared
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.training import runtime
from magic_cli.training.parts import Data, Part
from magic_cli.training.trainer import Trainer

HELD, ENOUGH = 100, 240


def main() -> None:
    """Parse, learn, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--modality", default="text")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 80, 160])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    given = parser.parse_args()
    prepared, task = open_prepared(given.data), tasks.get("cvqa")
    gold, place = answer_gold(prepared, "train"), runtime.RuntimeOptions("cpu").runtime()
    nothing = AnswerGold("nothing is held back", prepared.questions)
    print("encounters  seed  majority  default  one over n")
    for size in given.sizes:
        for seed in given.seeds:
            accuracies: list[float] = []
            for factor in (1.0, max(1.0, (ENOUGH / size) ** 0.5)):
                config = resolve(CvqaConfig, "small", [f"group_lasso={5 * factor}"], modality=given.modality, seed=seed)
                samples = list(task.training_samples(prepared, "train", config))
                random.Random(1000 + seed).shuffle(samples)  # noqa: S311
                held, train = samples[:HELD], samples[HELD : HELD + size]
                ids = [sample.case.case_id for sample in held]
                truth = dataclasses.replace(gold, answers={one: gold.answers[one] for one in ids})
                data = Data(task, [Part(train, (), nothing)], prepared.questions, prepared.sha256)
                with tempfile.TemporaryDirectory() as out:
                    trainer = Trainer("cvqa", data, config, Path(out), "cpu", place.features(config))
                    trainer.run(resume=False)
                guess = task.baseline_predictions((train, held), prepared.questions)["training majority"]
                answers = [predict.predict_views(trainer.core, config, held, place)[0]]
                if not accuracies:
                    answers.insert(0, (p for p in guess if p.id in truth.answers))
                accuracies += [task.score(truth, rows).scores["accuracy_all"] for rows in answers]
            majority, default, over_n = accuracies
            print(f"{size:10} {seed:5}  {majority:8.4f} {default:8.4f} {over_n:11.4f}", flush=True)


if __name__ == "__main__":
    main()
