"""Scores of linear probes as a file, and as lines for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from magic_cli.io.json_files import write_json
from magic_cli.io.progress import log
from magic_cli.io.staging import replace_results
from magic_cli.metrics.bootstrap import remark_on_few

FILE, ATTRIBUTES = "probe.json", "attributes.json"


def save_probe(scores: Mapping[str, Any], out: Path) -> list[Path]:
    """Write probe.json to the folder `out` in one step, and log a line per system and share of the training groups.

    Args:
        scores: as tasks/pretrain/model/probe.py returns them.
        out: the folder.

    Raises:
        DataError: the folder cannot be written.
    """
    with replace_results(out) as stage:
        write_json(stage / FILE, dict(scores))
    for line in _lines(scores["rows"]):
        log(line)
    few = remark_on_few(scores["groups"])
    if few:
        log(few)
    return [out / FILE]


def save_attributes(scores: Mapping[str, Any], out: Path) -> list[Path]:
    """Write attributes.json to the folder `out` in one step, and log a line per attribute and system.

    Args:
        scores: as tasks/pretrain/model/attribute_probe.py returns them.
        out: the folder.

    Raises:
        DataError: the folder cannot be written.
    """
    with replace_results(out) as stage:
        write_json(stage / ATTRIBUTES, dict(scores))
    log(f"{'attribute':14} {'system':10} {'photos':>6}  chance  balanced accuracy [95 % interval]")
    for row in scores["rows"]:
        score = row["balanced_accuracy"]
        tells = "above chance" if score["low"] is not None and score["low"] > row["chance"] else ""
        bounds = f"[{_number(score['low'])}, {_number(score['high'])}]"
        head = f"{row['attribute']:14} {row['system']:10} {row['photos']:6}  {row['chance']:.4f}"
        log(f"{head}  {score['value']:.4f} {bounds:16} {tells}".rstrip())
    return [out / ATTRIBUTES]


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"{'system':10} {'train':>6}  balanced accuracy [95 % interval]  accuracy  macro AUROC"]
    for row in rows:
        balanced, top, area = (row["scores"][name] for name in ("balanced_accuracy", "top1", "macro_auroc"))
        bounds = f"[{_number(balanced['low'])}, {_number(balanced['high'])}]"
        share = f"{100 * row['share']:.0f} %"
        first = f"{row['system']:10} {share:>6}  {_number(balanced['value'])} {bounds:16}"
        lines.append(f"{first}              {_number(top['value'])}     {_number(area['value'])}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
