"""Text summary of a prepared dataset for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from magic_cli.records import SPLITS

_SHOWN = 20

LEFT_OUT = {"cases": "encounters", "images": "images", "masks": "masks", "answers": "answers"}  # words for people


def summary(manifest: Mapping[str, Any], page: Path | None = None) -> list[str]:
    """Return the lines that the terminal shows: a table of counts, masks, prompts, the first 20 notes and problems.

    A number that differs from the published one is shown as "2,473 of 2,474". `page`, where given, is named last.
    """
    rows = [("", *SPLITS), *table(manifest)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return [*lines, *_details(manifest), *([f"look at it: {page}"] if page else [])]


def table(manifest: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return rows of (label, train, valid, test), without a heading."""
    published = (manifest.get("published") or {}).get("counts", {})

    def cell(split: str, key: str) -> str:
        found, wanted = manifest["counts"][split][key], published.get(split, {}).get(key)
        return f"{found:,}" if wanted in (None, found) else f"{found:,} of {wanted:,}"

    labels = {"cases": "encounters", "images": "photos", "masks": "masks", "answered": "with closed answers"}
    return [(label, cell("train", key), cell("valid", key), cell("test", key)) for key, label in labels.items()]


def _details(manifest: Mapping[str, Any]) -> list[str]:
    lines = []
    if manifest["mask_values"]:
        values = ", ".join(f"{number:,} with {kind}" for kind, number in manifest["mask_values"].items())
        lines.append(f"masks: {values}; merged by {manifest['settings']['merge']}")
    if manifest["agreement"]:
        agreement = manifest["agreement"]
        mean, median = agreement["mean_dice"], agreement["median_dice"]
        lines.append(f"annotators: pairwise Dice mean {mean:.2f}, median {median:.2f} ({agreement['images']:,} photos)")
    if manifest["prompts"]:
        lines += [_window(window) for window in manifest["prompts"]["windows"]]
    for kind in ("note", "problem"):
        found = manifest[f"{kind}s"]
        lines += [f"{kind}: {line}" for line in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"... and {len(found) - _SHOWN:,} more {kind}s, all of them in prepare.json")
    left_out = ", ".join(f"{number:,} {LEFT_OUT[what]}" for what, number in manifest["left_out"].items() if number)
    if left_out:
        lines.append(f"left out: {left_out}")
    return lines


def _window(window: Mapping[str, Any]) -> str:
    line = (
        f"prompts: {window['exceed']:,} of {window['prompts']:,} exceed {window['model']}'s {window['tokens']} tokens"
    )
    halves = {"questions": window["kept_question"], "answers": window["kept_answer"]}
    kept = [f"{100 * share:.0f} % of the {half}" for half, share in halves.items() if share is not None]
    return f"{line}; kept on average: {' and '.join(kept)}" if window["exceed"] else line
