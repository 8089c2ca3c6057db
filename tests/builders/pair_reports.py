"""Predictions of two contrastive systems in files, their gold, and pages about them."""

from dataclasses import dataclass, replace
from pathlib import Path

from challenge_folders import draw_photo, save_photo
from pair_predictions import CLASSES, CONCEPTS, draw
from score_reports import HOSTILE

from magic_cli.commands.score import ScoreOptions, score_systems
from magic_cli.data.gold import AnswerGold, Gold, MaskGold
from magic_cli.data.pair_gold import PairGold
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.io.json_files import write_json
from magic_cli.report import score_page
from magic_cli.report.score_report import ScoreFiles, ScoreReport
from magic_cli.tasks.pretrain.asked import Asked, Concept
from magic_cli.tasks.pretrain.predictions import PairPrediction
from magic_cli.tasks.pretrain.write import save

ASK = Asked(CLASSES, concepts=tuple(Concept(name, (name,)) for name in CONCEPTS))

FEW = ScoreOptions(resamples=100)

CLIP = {"objective": "infonce", "subtexts": False, "local_weight": 0.0, "weighting": "none", "epochs": 3, "workers": 0}

MAKE = {"objective": "mkcl", "subtexts": True, "local_weight": 0.7, "weighting": "max", "epochs": 3, "workers": 4}


@dataclass(frozen=True)
class Made:
    """Systems of a folder, and their gold."""

    root: Path
    gold: Gold

    def report(self, *names: str) -> ScoreReport:
        return score_systems(ScoreFiles(tuple(self.root / name for name in names), Path("gold")), self.gold, FEW)

    def html(self, *names: str) -> str:
        return score_page.html(self.report(*names), self.gold, {})


def write(folder: Path, gold: PairGold, predictions: list[PairPrediction], settings: dict[str, object]) -> None:
    save(predictions, ASK, gold, "valid", folder)
    write_json(folder / "run.json", {"settings": settings})


def worse(predictions: list[PairPrediction]) -> list[PairPrediction]:
    """Return predictions whose classes and vectors are drawn anew."""
    others = draw(len(predictions), seed=9)[1]
    return [
        replace(p, image=o.image, text=p.text, class_scores=o.class_scores, maps=None if p.maps is None else p.maps[:1])
        for p, o in zip(predictions, others, strict=True)
    ]


def make_pairs(root: Path) -> Made:
    """Write predictions of two systems, clip and make, for drawn photos whose hostile texts have one sentence each."""
    root.mkdir(exist_ok=True)
    pairs, predictions = draw(40)
    save_photo(root / "photo.jpg", draw_photo((60, 90), 1))
    texts = {name: f"{text} {HOSTILE}" for name, text in pairs.texts.items()}
    gold = replace(
        pairs,
        texts=texts,
        subtexts={name: (f"sentence of {text}",) for name, text in texts.items()},
        photos=dict.fromkeys(pairs.groups, str(root / "photo.jpg")),
    )
    write(root / "clip", gold, worse(predictions), CLIP)
    write(root / "make", gold, predictions, MAKE)
    return Made(root, Gold("drawn", MaskGold("drawn"), AnswerGold("drawn", NO_QUESTIONS), gold))
