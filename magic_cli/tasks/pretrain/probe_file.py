"""Scores of linear probes as a file, and as lines for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from magic_cli.io.json_files import write_json
from magic_cli.io.progress import log
from magic_cli.io.staging import replace_results
from magic_cli.metrics.bootstrap import remark_on_few

FILE = "probe.json"


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
