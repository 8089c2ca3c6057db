"""Reports for people and machines: aligned lines, one JSON object, the official scores alone.

Plain text on purpose: a table library would cost a third of the time that scoring takes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from magic_cli.records import Report

TITLES = {"seg": "segmentation", "cvqa": "closed questions"}
UNITS = {"number_segmentation_instances": "images", "number_cvqa_instances": "encounters"}
_ACCURACY = "accuracy_"


def lines(reports: Iterable[Report], notes: Sequence[str] = ()) -> list[str]:
    """Return a table a task, then the notes, for a terminal of 100 columns; NaN is shown as official."""
    text: list[str] = []
    for report in reports:
        text += [*_table(report), ""]
        notes = [*notes, *report.notes]
    text += [f"note: {note}" for note in notes]
    return [*text, "next: magic package --seg predictions/seg --cvqa predictions/cvqa --split test"]


def _table(report: Report) -> list[str]:
    counts = [f"{report.figures[name]:.0f} {unit}" for name, unit in UNITS.items() if name in report.figures]
    questions = {_ACCURACY + row["parent"]: row["question"] for row in report.rows if "parent" in row}
    rows = [f"{TITLES.get(report.task, report.task)}: {', '.join(counts)}"]
    for name, value in report.figures.items():
        if name not in UNITS:
            rows.append(f"  {name:<20} {_shown(value)}  {_cut(questions.get(name, ''))}".rstrip())
    rows += [f"  {name:<20} {_shown(value)}  (not official)" for name, value in report.extra.items()]
    return rows


def _shown(value: float) -> str:
    return "   NaN" if math.isnan(value) else f"{value:.4f}"


def _cut(text: str, width: int = 68) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def as_json(reports: Iterable[Report], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what schemas/report.schema.json describes; NaN becomes null, and a note of the report says why."""
    found = [
        {
            "task": report.task,
            "figures": _finite(report.figures),
            "rows": [_finite(row) for row in report.rows],
            "notes": list(report.notes),
            "extra": _finite(report.extra),
        }
        for report in reports
    ]
    return {"schema": 1, "format": "magic-report", "reports": found, "notes": list(notes)}


def scores(reports: Iterable[Report]) -> dict[str, Any]:
    """Return the official keys of all tasks in the official order, as in the official scores.json, NaN as null."""
    merged: dict[str, Any] = {}
    for report in reports:
        merged |= _finite(report.figures)
    return merged


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def trained(found: Mapping[str, Any]) -> list[str]:
    """Return what `runs.train` did, for people: the best epoch beside trivial answers, and the next command."""
    task, samples = found["task"], f"{found['train_samples']} to learn from, {found['valid_samples']} to validate on"
    if "checkpoint" not in found:
        return [f"{TITLES.get(task, task)}: {samples}; {found['parameters']:,} parameters would learn (--dry-run)"]
    best = found["best"]
    text = [f"{TITLES.get(task, task)}: {samples}; best of {found['epochs']} epochs: {best.get('epoch', 'none')}"]
    for name, value in best.items():
        if isinstance(value, float):
            text.append(f"  {name:<20} {_shown(value)}")
    text += [f"  {_shown(value)}  if the answer were: {name}" for name, value in found["baselines"].items()]
    return [*text, f"{found['checkpoint']}: saved; next: magic predict {task} --ckpt {found['checkpoint']}"]
