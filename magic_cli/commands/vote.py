"""`magic predict cvqa --vote`: merge closed-question predictions of any origin by vote."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from magic_cli.commands.recording import recorded
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.prepared_inputs import table_files
from magic_cli.errors import SubmissionError, UsageError, problem, shorten
from magic_cli.io import run_record
from magic_cli.io.files import StrPath
from magic_cli.io.ownership import check_target
from magic_cli.io.run_record import Hashed, RunFiles, hashed
from magic_cli.report.next_command import after_predicting
from magic_cli.report.run_text import VoteResult
from magic_cli.submission.answers import read_rows
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import Expected, expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import ANSWERS, Layout, find_layout, submitted_files
from magic_cli.tasks.cvqa import TASK
from magic_cli.tasks.cvqa.vote import Rows, merge, shares
from magic_cli.tasks.cvqa.write import save


@dataclass(frozen=True)
class VoteOptions:
    """Options of `vote`: replace older predictions; check everything and write nothing."""

    overwrite: bool = False
    dry_run: bool = False


_DEFAULTS = VoteOptions()

KIND = f"predict {TASK.name}"


@recorded
def vote(
    files: Sequence[StrPath],
    data: StrPath = "prepared",
    split: str = "test",
    out: StrPath | None = None,
    options: VoteOptions = _DEFAULTS,
) -> VoteResult:
    """Merge submissions of a split and write the result like any other prediction, without a checkpoint or torch.

    Args:
        files: JSON files, folders or zips with data_cvqa_sys.json, two or more; their order decides ties.
        data: the prepared dataset, with the split's encounters and questions.
        split: train, valid or test.
        out: folder of the predictions; None for predictions/cvqa.
        options: whether to replace and to write.

    Raises:
        UsageError: fewer than two files. DataError: `out` is taken, or there is no such split.
        SubmissionError: all problems that the linter finds in any file (missing encounters, other questions, values
            that are not an index), and encounters that only some files have.
    """
    paths = [Path(file) for file in files]
    if len(paths) < 2:
        raise UsageError(f"--vote: got {len(paths)} files of predictions, expected two or more; list them after --vote")
    folder = Path("predictions") / TASK.name if out is None else Path(out)
    check_target(folder, KIND, options.overwrite, TASK.outputs, (*paths, *_voting_files(paths), Path(data)))
    prepared = open_prepared(Path(data))
    submissions = _read(paths, expected_of(prepared, split), prepared)
    merged, ties = merge(submissions, prepared.questions)
    probabilities = shares(submissions, prepared.questions)
    written = [] if options.dry_run else save(folder, merged, probabilities, prepared.questions)
    record = RunFiles(folder / run_record.FILE, folder, partial(_inputs, paths, Path(data)))
    return VoteResult(
        task=TASK.name,
        split=split,
        out=str(folder),
        voted=tuple(map(str, paths)),
        samples=len(merged),
        ties=ties,
        answers=len(merged) * len(prepared.questions.parents),
        files=len(written),
        dry_run=options.dry_run,
        following=after_predicting(TASK, prepared, data, folder, split, merged.keys()),
        recorded=None if options.dry_run else record,
    )


def _inputs(files: Sequence[Path], data: Path) -> Hashed:
    yield from hashed(read for file in files for read in submitted_files(file))
    yield from table_files(data)


def _voting_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files of answers in folders that vote; a folder that cannot be read is told of later."""
    for path in paths:
        if path.is_dir():
            with suppress(SubmissionError), open_archive(path) as archive:
                yield path / (find_layout(archive).answers or "")


def _read(files: Sequence[Path], expected: Expected, prepared: Prepared) -> list[Rows]:
    """Return the rows of each file in prepared order, after the linter has checked all of them."""
    lines: list[str] = []
    submissions: list[dict[str, dict[str, int]]] = []
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
            by_id = {row.pop("encounter_id"): row for row in rows}
            submissions.append({encounter: by_id[encounter] for encounter in prepared.cases if encounter in by_id})
    if lines:
        raise SubmissionError(lines)
    everything = [encounter for encounter in prepared.cases if any(encounter in rows for rows in submissions)]
    for file, answered in zip(files, submissions, strict=True):
        lacking = [encounter for encounter in everything if encounter not in answered]
        if lacking:
            got = f"no row for {len(lacking)} encounters that other files have ({shorten(lacking)})"
            lines.append(problem(file, got, "the same encounters in all files", "complete it, or leave it out"))
    if lines:
        raise SubmissionError(lines)
    return list(submissions)
