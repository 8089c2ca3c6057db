"""Score reports with made-up values: any task, several systems, missing and hostile values."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from challenge_folders import draw_lesion, save_mask

from magic_cli.data.gold import AnswerGold, Gold, GoldImage, MaskGold
from magic_cli.data.questions import load_questions
from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import Interval, Mask, TaskScores
from magic_cli.report.leaderboard import Entry
from magic_cli.report.score_report import Comparison, Provenance, ScoreFiles, ScoreReport, ScoreSettings, SystemScores
from magic_cli.tasks import get

HOSTILE = (
    "<script>document.title='owned'</script>\"'><img src=x onerror=\"document.title='owned'\">{{ 7*7 }}&\x1b[31m\u202e"
)
SEG = ("jaccard_meanofmax", "jaccard_meanofmean", "dice_meanofmax", "dice_meanofmean", "jaccard", "dice")
SIZE = (60, 80)
HISTORY = [
    {
        "epoch": n + 1,
        "loss": 1 / (n + 1),
        "dice_meanofmax": 0.8 - 0.3 / (n + 1),
        "jaccard_meanofmax": 0.7 - 0.3 / (n + 1),
    }
    for n in range(8)
]
ERROR = {
    "encounter": "ENC00001",
    "parent": "CQID034",
    "option": 6,
    "answer": "<b>red</b>",
    "probability": 0.9,
    "gold": "x, y",
}
NEAR = [("gold", "x, y"), ("part", "x"), ("option", "<b>red</b>"), ("neither", "blue"), ("neither", "")]


def score_report(*systems: SystemScores, **fields: Any) -> ScoreReport:
    """Return a report of these systems, other fields as given or with made-up values."""
    defaults: dict[str, Any] = {
        "source": "gold",
        "split": "valid",
        "settings": ScoreSettings("both", "one", accept_255=False, resamples=10_000, seed=2025),
        "comparisons": (),
        "provenance": Provenance(("magic",), {}, "now"),
        "files": ScoreFiles((), Path("gold")),
        "tasks": {scores.task: get(scores.task) for system in systems for scores in system.tasks},
    }
    return ScoreReport(systems=systems, **(defaults | fields))


@dataclass(frozen=True)
class MadeReport:
    """The arguments of `score_page.html`."""

    report: ScoreReport
    gold: Gold
    masks: dict[str, dict[str, Callable[[], Mask]]] = field(default_factory=dict)


def with_photos(gold: Gold, photo: Path) -> Gold:
    """Return the gold with the same photo for every image."""
    return replace(gold, masks=replace(gold.masks, photos=dict.fromkeys(gold.masks.images, str(photo))))


def make_report(
    folder: Path,
    tasks: tuple[str, ...] = ("seg", "cvqa"),
    systems: int = 1,
    images: int = 16,
    hostile: bool = False,
    defined: bool = True,
) -> MadeReport:
    """Make a report, its gold (masks are written to `folder`) and a system's masks, the same ones each time.

    `hostile` puts HOSTILE into every text, `defined=False` NaN or None into every score that may be undefined.
    """
    ids = [f"IMG_ENC{n // 2:05}_{n % 2 + 1:05}" + (HOSTILE if hostile else "") for n in range(images)]
    source = _text("gold.json", hostile)
    masks = MaskGold(source, _gold_images(folder, ids) if "seg" in tasks else {})
    gold = Gold(source, masks, AnswerGold(source, load_questions(None)))
    names = [_text(f"runs/system{n + 1}", hostile) for n in range(systems)]
    scores_of = {"seg": lambda n: _seg(ids, n, hostile), "cvqa": lambda n: _cvqa(n, hostile)}
    comparisons = [_compared(task, name, _text("runs/old", hostile)) for name in names for task in tasks]
    report = score_report(
        *(
            SystemScores(name, (_text("a note of the system", hostile),), tuple(scores_of[task](n) for task in tasks))
            for n, name in enumerate(names)
        ),
        source=gold.source,
        comparisons=tuple(comparisons),
        published={
            task: (Entry(_text("team", hostile), 1, {"dice" if task == "seg" else "accuracy_all": 0.5}),)
            for task in tasks
        },
        provenance=Provenance(
            ("magic", "score", _text("a b", hostile)),
            {_text("numpy", hostile): _text("2.0", hostile)},
            "2026-01-02T03:04:05+00:00",
            {_text("gold.json", hostile): "0" * 64},
        ),
        notes=(_text("a note of the report", hostile),),
    )
    masks = {
        system: {name: (lambda n=n, k=k: draw_lesion(SIZE, n + k)) for n, name in enumerate(ids)}
        for k, system in enumerate(names)
    }
    return MadeReport(report if defined else _undefined(report), gold, masks if "seg" in tasks else {})


def _text(text: str, hostile: bool) -> str:
    return text + HOSTILE if hostile else text


def _gold_images(folder: Path, ids: list[str]) -> dict[str, GoldImage]:
    images = {}
    for number, name in enumerate(ids):
        paths = {f"ann{k}": folder / f"{number}_{k}.tiff" for k in range(1 + number % 3)}
        for k, path in enumerate(paths.values()):
            save_mask(path, draw_lesion(SIZE, 2 * k))
        images[name] = GoldImage(name[4:12], paths)
    return images


def _scores(keys: tuple[str, ...], top: float) -> dict[str, float]:
    return {key: top - number / 50 for number, key in enumerate(keys)}


def _common(keys: tuple[str, ...], count: str, number: int, hostile: bool) -> dict[str, Any]:
    scores = _scores(keys, 0.8 - number / 20)
    return {
        "scores": scores | {count: 16},
        "intervals": {key: Interval(value - 0.05, value + 0.06) for key, value in scores.items()},
        "official": {key: value - 0.01 * (number == 0) for key, value in scores.items()} | {count: 16},
        "official_errors": (_text("ENC00001: KeyError", hostile),) if hostile else (),
        "differences": (_text("official counts 1 mask as empty", hostile),) if hostile or number == 0 else (),
        "rejected": tuple(_text(f"item {k}", hostile) for k in range(25)) if hostile else (),
        "notes": (_text("a note of the task", hostile),),
        "baselines": {_text("trivial", hostile): _scores(keys, 0.4), "other": _scores(keys, 0.2)},
    }


def _seg(ids: list[str], number: int, hostile: bool) -> TaskScores:
    items = [
        {
            "image": name,
            "encounter": name[4:12],
            "annotators": 1 + n % 3,
            "fault": _text("unreadable", hostile) if n == 3 else "",
            "pixels": 4800,
            "lesion": 0.5 ** (n % 9),
            "predicted": None if n == 3 else 0.0 if n == 5 else 0.5 ** (n % 7),
            "dice_max": 0.0 if n == 3 else 0.98 - n / 20,
            "dice_mean": 0.0 if n == 3 else 0.9 - n / 20,
            "jaccard_max": 0.0 if n == 3 else 0.9 - n / 20,
            "jaccard_mean": 0.0 if n == 3 else 0.8 - n / 20,
            "dice_ann0": 0.5,
            "jaccard_ann0": 0.4,
        }
        for n, name in enumerate(ids)
    ]
    people = [_text(f"ann{k}", hostile) for k in range(3)]
    four = dict.fromkeys(SEG[:4], 0.85)
    agreement = {
        "images": 10,
        "annotators": [{"annotator": name, "images": 10, **four} for name in people],
        "human": four,
        "system": dict.fromkeys(SEG[:4], 0.75),
        "differences": {SEG[0]: {"difference": -0.1, "low": -0.132, "high": -0.071, "p": 0.001}},
    }
    rows = [{"annotator": name, "images": 12, "dice": 0.7, "jaccard": 0.6} for name in people]
    common = _common(SEG, "number_segmentation_instances", number, hostile)
    return TaskScores("seg", per_item=tuple(items), summary_rows=tuple(rows), agreement=agreement, **common)


def _cvqa(number: int, hostile: bool) -> TaskScores:
    parents = [_text(f"CQID0{10 + k}", hostile) for k in range(3)]
    keys = ("accuracy_all", *(f"accuracy_{parent}" for parent in parents))
    rows = []
    for k, parent in enumerate(parents):
        options = [_text(f"option {n}", hostile) for n in range(3 + 4 * k)] + [_text("Not mentioned", hostile)]
        table = np.zeros((len(options) + 1, len(options) + 1))
        table[0, :3] = (5, 3, 1 / 3)
        table[2, 2], table[2, -1], table[-1, 1] = 6, 1.5, 2
        rows.append(
            {
                "parent": parent,
                "question": _text("How many?", hostile) if k else "",
                "accuracy": 0.6,
                "n": 16,
                "options": options,
                "confusion": table.tolist(),
            }
        )
    items = [
        {
            "encounter": "ENC1",
            "parent": parent,
            "gold": "0",
            "predicted": "1",
            "credit": 0.0,
            "fault": _text("", hostile),
        }
        for parent in parents
    ]
    common = _common(keys, "number_cvqa_instances", number, hostile)
    extra = {"f1_macro": 0.5}
    return TaskScores(
        "cvqa", per_item=tuple(items), summary_rows=tuple(rows), extra=extra, errors=_errors(hostile), **common
    )


def _errors(hostile: bool) -> tuple[dict[str, Any], ...]:
    """One without and one with similar cases."""
    near = [
        {
            "case_id": _text(f"ENC1000{k}", hostile),
            "image_id": _text(f"IMG_ENC1000{k}_00001", hostile),
            "similarity": 0.9 - k / 10,
            "answer": _text(answer, hostile) if answer else "",
            "agrees": agrees,
        }
        for k, (agrees, answer) in enumerate(NEAR)
    ]
    return ERROR, {**ERROR, "encounter": _text("ENC00002", hostile), "neighbours": near}


def _compared(task: str, system: str, other: str) -> Comparison:
    differences = {
        "dice": Difference(0.02, -0.01, 0.05, 0.2),
        "dice_meanofmax": Difference(0.02, -0.01, 0.05, 0.01),
        "jaccard": Difference(-0.1, -0.2, -0.05, 0.0004),
    }
    return Comparison(task, system, other, 8, differences)


def _undefined(value: Any, key: str = "") -> Any:
    """Return the report with every float undefined, and no official scores, as if every item were left out."""
    if key in ("credit", "confusion", "lesion", "published"):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _undefined(getattr(value, f.name), f.name) for f in fields(value)})
    if key == "official":
        return None
    if isinstance(value, dict):
        return {name: _undefined(inner, name if isinstance(name, str) else key) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_undefined(inner, key) for inner in value)
    blank = None if key in ("dice_max", "jaccard_max") else math.nan
    return blank if isinstance(value, float) else value
