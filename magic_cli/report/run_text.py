"""What training and prediction say at their end, for people: figures, what to think of them, the next command."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from magic_cli.report.score_text import ACCURACY, TITLES, between, interval, number, signed
from magic_cli.report.table import Table


def choice(chosen: Mapping[str, Any]) -> str:
    """Return what was chosen after training as a line."""
    settings = ", ".join(f"{name} {value:g}" for name, value in chosen["settings"].items())
    gain = f"{chosen['before']:.4f} -> {chosen['after']:.4f}"
    return f"{settings} chosen on the validation samples: {chosen['figure']} {gain}, optimistic there"


def trained(found: Mapping[str, Any]) -> list[str]:
    """Return what `runs.train` did, for people: the best epoch beside trivial answers, and the next command."""
    task, samples = found["task"], f"{found['train_samples']} to learn from, {found['valid_samples']} to validate on"
    if "checkpoint" not in found:
        return [f"{TITLES[task]}: {samples}; {found['parameters']:,} parameters would learn (--dry-run)"]
    best = found["best"]
    text = [f"{TITLES[task]}: {samples}; best of {found['epochs']} epochs: {best.get('epoch', 'none')}"]
    asked = {ACCURACY + row["parent"] for row in found["review"].get("parents", ())}  # in a table of their own
    for name, value in best.items():
        if isinstance(value, float) and name not in asked:
            text.append(f"  {name:<20} {number(value)}")
    text += [f"  {number(value)}  if the answer were: {name}" for name, value in found["baselines"].items()]
    text += [choice(found["chosen"])] if found.get("chosen") else []
    text += _reviewed(found["review"])
    return [*text, f"{found['checkpoint']}: saved; next: magic predict {task} --ckpt {found['checkpoint']}"]


def predicted(found: Mapping[str, Any], dry_run: bool) -> list[str]:
    """Return what `magic predict` did, for people: how answers were tied in a vote, and the next command."""
    task, split, out = found["task"], found["split"], found["out"]
    text = []
    if "voted" in found:
        tied = f"{found['ties']} of {found['answers']} answers were tied: decided by the file named first"
        text.append(f"{found['samples']} encounters of {len(found['voted'])} files; {tied}")
    if dry_run:
        return [*text, f"{found['samples']} samples of split {split}; nothing written (--dry-run)"]
    return [
        *text,
        f"{out}: {found['files']} files of split {split}; next: magic package --{task} {out} --split {split}",
    ]


def folded(found: Mapping[str, Any]) -> list[str]:
    """Return what `folds.train` did, for people: pooled figures beside trivial answers, the folds, the next command."""
    task, parts = found["task"], found["parts"]
    title = f"{TITLES[task]}: {len(parts)} folds"
    if not found["finished"]:
        sizes = ", ".join(str(len(part["encounters"])) for part in parts)
        return [f"{title} over encounters of split train, which hold out {sizes} of them (--dry-run)"]
    baselines, monitor = found["baselines"], found["monitor"]
    head = ("", "pooled", "95 % interval", "mean of folds", "sd", *baselines)
    rows = tuple(
        (
            *(name, number(one["value"]), interval((one["low"], one["high"])), number(one["mean"]), number(one["sd"])),
            *(number(row.get(name)) for row in baselines.values()),
        )
        for name, one in found["figures"].items()
    )
    pooled = f"{title} over {found['encounters']} encounters of split train, each judged by the fold that held it out"
    text = [*Table(pooled, head, rows).lines(), ""]
    columns = ("fold", "encounters", "samples to learn from", "epochs", "last loss", monitor)
    text += Table("no fold chose its epoch by what it held out", columns, tuple(map(_fold(monitor), parts))).lines()
    for label, gaps in found["differences"].items():
        one = gaps[monitor]
        sure = f"{between(one['low'], one['high'])}, p {number(one['p'])}"
        text.append(f"{monitor} minus that of {label}: {signed(one['difference'])} ({sure})")
    text += ["", *_reviewed(found["review"])]
    text += [f"note: {note}" for note in found["notes"]]
    text.append(
        "95 % intervals: bootstrap over encounters; the sd over folds is no standard error, as folds share data"
    )
    written, report = found["predictions"], Path(found["predictions"]).with_name("report")
    again = f"magic score {written} {found['prepared']} --split train --out {report}"
    return [*text, f"{Path(written).with_name('folds.json')}: written; next: {again}"]


def _fold(monitor: str) -> Callable[[Mapping[str, Any]], tuple[str, ...]]:
    def row(part: Mapping[str, Any]) -> tuple[str, ...]:
        counts = (part["fold"], len(part["encounters"]), part["train_samples"], part["epochs"])
        return (*map(str, counts), number(part["loss"]), number(part["figures"][monitor]))

    return row


def _reviewed(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of parent questions and the calibration, of tasks that have them (schemas/review.schema.json)."""
    if "parents" not in found:
        return
    head = ("", "encounters", "accuracy", "training majority", "calibration error")
    rows = tuple(
        (one["parent"], str(one["n"]), number(one["accuracy"]), number(one["majority"]), number(one["ece"]))
        for one in found["parents"]
    )
    whole = number(found["accuracy"]), number(found["majority"]), number(found["ece"])
    title = "held-out answers by parent question"
    yield from Table(title, head, (*rows, ("all", str(found["encounters"]), *whole))).lines()
    bins, one = found["bins"], found["constant"]
    yield f"calibration error: of slot probabilities, {bins} bins of equal width (Guo et al. 2017); 0 is perfect"
    each = f" of a fold; {one['models']} folds together" if one["models"] > 1 else ""
    yield f"{one['slots']} of {one['of']} slots whose right answers differ get one answer for all encounters{each}"
