"""The paper's recipe in miniature: how soon it answers every patient alike, and what that scores.

    taskset -c 1 python tests/benchmarks/collapse.py --data derma [--out collapse] [--steps 200] [--held 12]
    taskset -c 1 python tests/benchmarks/collapse.py --data pad --modality both --out collapse-photos --held 40

`derma` is a prepared folder (magic prepare --data dermavqa-text --no-responses --out derma), `pad` one of pad-magic.
One fold of five is held out; the settings are those of `magic train cvqa --preset paper` with MiniLM in place of
Bio_ClinicalBERT, and with photos Lite0 in place of Swin. One row a variant and step: part of the slots that get one
answer for all patients (of those whose right answers differ), accuracy, and what a training majority scores on the
same patients. What the guard says at the end is printed as training prints it. The first line takes 19 CPU minutes.
Rows are kept in OUT/VARIANT.jsonl; stopped, the same line goes on with the variants that are not done.
examples/collapse.md has what came out.
"""

import argparse
import dataclasses
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from magic_cli.config import Config, resolve
from magic_cli.data.gold import AnswerGold, answer_gold
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.stratify import assign_folds
from magic_cli.io.json_files import read_jsonl, write_jsonl
from magic_cli.io.progress import log
from magic_cli.records import Prediction, Sample
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.answers import AnswerPrediction
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.validation import MAJORITY, validation_review
from magic_cli.training.inference import predict
from magic_cli.training.parts import Data, Part
from magic_cli.training.trainer import Trainer

cvqa = get("cvqa")

# What pip brings, and no half precision on a CPU.
SETTINGS = ("text_encoder=minilm", "image_encoder=lite0", "precision=no", "workers=0", "epochs=1")
VARIANTS: dict[str, tuple[str, ...]] = {
    "as in the paper": (),
    "with encounter text": ("encounter_text=true",),
    "with encounter text, tower at 2e-5": ("encounter_text=true", "encoder_lr=2e-5"),
    "with encounter text, tower frozen": ("encounter_text=true", "finetune=head"),
}
AT = (0, 25, 50, 100, 200, 400, 800, 1600)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One fold: what is learned from, and the patients that are held out."""

    prepared: Prepared
    train: Sequence[Sample]
    held: Sequence[Sample]
    gold: AnswerGold

    @classmethod
    def of(cls, prepared: Prepared, config: Config, steps: int, most: int) -> "Trial":
        """Deal five folds as `--folds 5` does; draw as many questions to learn from as the steps take."""
        samples = cvqa.training_samples(prepared, "train", config)
        first, *_ = assign_folds(cvqa.strata(samples, prepared.questions), 5, config.seed)
        ids = sorted(first)[:most]
        train = [sample for sample in samples if sample.id not in set(first)]
        random.Random(config.seed).shuffle(train)  # noqa: S311
        held = [sample for sample in samples if sample.id in ids]
        gold = answer_gold(prepared, "train").only(ids)
        return cls(prepared, train[: steps * config.batch_size], held, gold)


def answers_of(predictions: Iterable[Prediction]) -> list[AnswerPrediction]:
    """Return the predictions with the type that the scores of closed answers ask for."""
    return [prediction for prediction in predictions if isinstance(prediction, AnswerPrediction)]


class Watched(Trainer):
    """The training loop, looked at after some of its steps."""

    config: CvqaConfig

    def watch(self, trial: Trial, everything: Sequence[Sample], out: Path) -> None:
        self.trial, self.everything, self.file = trial, everything, out
        self.rows: list[dict[str, Any]] = []

    def _epoch(self) -> None:
        self._look(0)
        super()._epoch()

    def _update(self) -> None:
        super()._update()
        self._look(self.progress.updates)

    def _look(self, step: int) -> None:
        if step not in AT:
            return
        ids = {sample.id for sample in self.trial.held}
        rest = [sample for sample in self.everything if sample.id not in ids]
        guesses = answers_of(cvqa.baseline_predictions((rest, self.trial.held), self.data.questions)[MAJORITY])
        review: dict[str, Any] = validation_review(
            self.trial.gold, answers_of(self._answers()), {MAJORITY: guesses}
        ).to_json()
        self.core.train()
        self.rows.append({"step": step, **review})
        log(f"step {step}: {review['constant']}, accuracy {review['accuracy']:.3f}, majority {review['majority']:.3f}")

    def _answers(self) -> Iterator[Prediction]:
        """Yield predictions of the held-out patients; where the input holds nothing of them, of one, for all."""
        held, config = self.trial.held, dataclasses.replace(self.config, batch_size=4)
        if config.encounter_text or config.modality != "text":
            yield from predict(self.core, held, config, self.accelerator)
            return
        same = list(predict(self.core, [s for s in held if s.id == held[0].id], config, self.accelerator))
        for encounter in dict.fromkeys(sample.id for sample in held):
            yield from (dataclasses.replace(prediction, id=encounter) for prediction in same)


def run(prepared: Prepared, name: str, modality: str, steps: int, most: int, out: Path) -> list[dict[str, Any]]:
    """Train one variant and return its rows; a variant that is done is read instead."""
    file = out / f"{name.replace(' ', '-').replace(',', '')}.jsonl"
    if file.is_file():
        rows: list[dict[str, Any]] = read_jsonl(file)
        return rows
    log(name)
    config = resolve(CvqaConfig, "paper", [*SETTINGS, f"modality={modality}", *VARIANTS[name]])
    trial = Trial.of(prepared, config, steps, most)
    nothing = AnswerGold("nothing is held back", prepared.questions)
    data = Data(cvqa, [Part(trial.train, (), nothing)], prepared.questions, prepared.sha256)
    trainer = Watched("cvqa", data, config, out / "run", "cpu", None)
    trainer.watch(trial, cvqa.training_samples(prepared, "train", config), file)
    trainer.run(resume=False)
    write_jsonl(file, trainer.rows)
    return trainer.rows


def main() -> None:
    """Parse, run what is not done, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("collapse"))
    parser.add_argument("--modality", default="text", choices=("text", "both"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--held", type=int, default=12, help="patients to look at: reading them costs most of the time")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    prepared = open_prepared(given.data)
    print("| variant | step | one answer for all | accuracy | training majority |\n|---|---|---|---|---|")
    said = {}
    for name in given.only:
        rows = run(prepared, name, given.modality, given.steps, given.held, given.out)
        for row in rows:
            share = f"{row['constant']['slots']} of {row['constant']['of']} slots"
            print(f"| {name} | {row['step']} | {share} | {row['accuracy']:.3f} | {row['majority']:.3f} |", flush=True)
        said[name] = rows[-1]["warnings"]
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
