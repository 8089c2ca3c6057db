"""Merge closed-question predictions made by anyone: `magic predict cvqa --vote`."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import SubmissionError, UsageError, problem, shorten
from magic_cli.io.files import refuse_existing
from magic_cli.submission.answers import read_rows
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import Expected, expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import ANSWERS, Layout, find_layout
from magic_cli.tasks.cvqa.vote import Rows, merge, shares
from magic_cli.tasks.cvqa.write import save


def vote(
    files: Sequence[Path], data: Path, split: str, out: Path, overwrite: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Merge submissions of a split and write them as any other prediction; no checkpoint and no torch is needed.

    Args:
        files: JSON files, folders or zips with data_cvqa_sys.json, two or more; their order decides ties.
        data: the prepared dataset, which knows the split's encounters and questions.
        dry_run: check everything, write nothing.

    Raises:
        UsageError: fewer than two files. DataError: `out` is taken, or there is no such split.
        SubmissionError: everything that the linter finds in any file (missing encounters, other questions, values
            that are no index), and encounters that some files have and others lack.
    """
    if len(files) < 2:
        raise UsageError(f"--vote: got {len(files)} files of predictions, expected two or more; name them after --vote")
    refuse_existing(out, overwrite)
    prepared = open_prepared(data)
    submissions = _read(files, expected_of(prepared, split), prepared)
    merged, ties = merge(submissions, prepared.questions)
    told = shares(submissions, prepared.questions)
    written = [] if dry_run else save(out, merged, told, prepared.questions)
    found = {"task": "cvqa", "split": split, "out": str(out), "voted": [str(file) for file in files]}
    counts = {"samples": len(merged), "ties": ties, "answers": len(merged) * len(prepared.questions.parents)}
    return found | counts | {"files": len(written)}


def _read(files: Sequence[Path], expected: Expected, prepared: Prepared) -> list[Rows]:
    """Return the rows of each file in prepared order, after the linter has seen all of them."""
    lines: list[str] = []
    parsed: list[dict[str, dict[str, int]]] = []
    for file in files:
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(open_archive(file))
                answers = find_layout(archive).answers
                if answers is None:
                    raise SubmissionError(problem(file, "no answers", ANSWERS, "give a file or folder that holds it"))
                faults = lint(archive, expected, Layout(None, answers))
                lines += faults
                rows = [] if faults else read_rows(archive, answers, [])
            except SubmissionError as error:
                lines += error.problems
                continue
            named = {row.pop("encounter_id"): row for row in rows}
            parsed.append({encounter: named[encounter] for encounter in prepared.cases if encounter in named})
    if lines:
        raise SubmissionError(lines)
    everything = [encounter for encounter in prepared.cases if any(encounter in rows for rows in parsed)]
    for file, held in zip(files, parsed, strict=True):
        lacking = [encounter for encounter in everything if encounter not in held]
        if lacking:
            got = f"no row for {len(lacking)} encounters that other files have ({shorten(lacking)})"
            lines.append(problem(file, got, "the same encounters in all files", "complete it, or leave it out"))
    if lines:
        raise SubmissionError(lines)
    return list(parsed)
