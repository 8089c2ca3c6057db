"""The result of `magic score`: the scores of every system, comparisons, settings and provenance.

The JSON is that of report.json and --json, schemas/report.schema.json. Its keys are a documented format and older
than the names used here: `figures`, `stops`, `refused`, `rows` and `items` are the scores, official errors, rejected
items, summary rows and rows per item of a task.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from magic_cli.data.gold import gold_files
from magic_cli.data.prepared_inputs import image_files, table_files
from magic_cli.errors import SubmissionError
from magic_cli.io import run_record
from magic_cli.io.json_files import finite
from magic_cli.io.run_record import Hashed, RunFiles, hashed
from magic_cli.metrics.bootstrap import FEWEST, Difference
from magic_cli.metrics.unchanged import Unchanged
from magic_cli.records import TaskScores
from magic_cli.report import leaderboard
from magic_cli.report.controls.calibration import CalibrationScores
from magic_cli.report.controls.unimodal import UnimodalControl
from magic_cli.report.score_text import (
    bounds,
    difference_table,
    published_tables,
    remarks,
    side_by_side,
    task_lines,
)
from magic_cli.report.short_names import system_names, without_folders
from magic_cli.report.subgroups import SubgroupScores
from magic_cli.report.verdict import Paired, Verdict, judge
from magic_cli.submission.reader import submitted_files
from magic_cli.training.task import Task

SCORES, REPORT, ITEMS, PAGE = "scores.json", "report.json", "per_item.csv", "report.html"

LATEX, MARKDOWN = "scores.tex", "scores.md"

FILES = (SCORES, REPORT, ITEMS, PAGE, LATEX, MARKDOWN)

PhotoChoice = Literal["all", "worst", "none"]
"""Which photos the page shows."""

_NEXT = "next: add --out report for report.html and per_item.csv"


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How systems were scored.

    Attributes:
        track: "both", "official" or "strict": which scores are shown, and which problems end with exit code 4.
        empty: an empty mask against an empty mask counts "one", "zero", or is left out ("skip").
        accept_255: whether masks of 0 and 255 are read as 0 and 1.
        resamples: number of bootstrap resamples and of random sign flips.
        seed: of both.
        group_identical: whether any photo with the very same text is a hit of retrieval.
    """

    track: str
    empty: str
    accept_255: bool
    resamples: int
    seed: int
    group_identical: bool = True


@dataclass(frozen=True, slots=True)
class SystemScores:
    """One system's predictions, scored.

    Attributes:
        name: path of the predictions.
        notes: remarks on the predictions as a whole.
        tasks: scores of each task that the predictions and the gold have in common.
    """

    name: str
    notes: tuple[str, ...]
    tasks: tuple[TaskScores, ...]

    def of(self, task: str) -> TaskScores | None:
        """Return the scores of a task, None if this system has no predictions for it."""
        return next((scores for scores in self.tasks if scores.task == task), None)

    def official_json(self) -> dict[str, object]:
        """Return the official keys of all tasks in the official order, as in the official scores.json.

        A value is None where the official scorer prints NaN, or where it stops and prints nothing. Of a task that is
        not the challenge's, these are its own scores.
        """
        merged: dict[str, object] = {}
        for scores in self.tasks:
            known = scores.official if scores.has_official else scores.scores
            merged |= dict.fromkeys(scores.scores) if known is None else finite(known)
        return merged

    def to_json(self) -> dict[str, object]:
        """Return an item of `systems` of schemas/report.schema.json."""
        return {"name": self.name, "notes": list(self.notes), "reports": [_task_json(scores) for scores in self.tasks]}


def _is_of_few(scores: TaskScores) -> bool:
    """Return whether the encounters are so few that no score has an interval, which a note says."""
    return scores.encounter_sums is not None and len(scores.encounter_sums.ids) < FEWEST


def _task_json(scores: TaskScores) -> object:
    intervals = {name: (pair.low, pair.high) for name, pair in scores.intervals.items()}
    return finite(
        {
            "task": scores.task,
            "figures": scores.scores,
            "intervals": intervals,
            "official": scores.official,
            "stops": scores.official_errors,
            "differences": scores.differences,
            "refused": scores.rejected,
            "notes": scores.notes,
            "extra": scores.extra,
            "baselines": scores.baselines,
            "agreement": scores.agreement or None,
            "rows": scores.summary_rows,
            "items": scores.per_item,
            "errors": scores.errors,
        }
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same encounters of a task: score by score, `system` minus `other`."""

    task: str
    system: str
    other: str
    n_encounters: int
    differences: Mapping[str, Difference]
    unchanged: Unchanged | None = None

    def unchanged_line(self) -> str:
        """Return how many answers are the same, "" for tasks without answers."""
        if self.unchanged is None:
            return ""
        row, found = self.unchanged, bounds(self.unchanged.interval)
        interval = "" if found is None else f" ({found[0]:.1%} to {found[1]:.1%})"
        return f"{row.share:.1%}{interval} of {row.answers:,} answers are the same"

    def to_json(self) -> dict[str, object]:
        """Return an item of `comparisons` of schemas/report.schema.json."""
        head = {"task": self.task, "system": self.system, "other": self.other, "encounters": self.n_encounters}
        same = {} if self.unchanged is None else {"unchanged": finite(self.unchanged.to_json())}
        return head | same | {"figures": finite({name: asdict(row) for name, row in self.differences.items()})}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a report came from.

    Attributes:
        argv: the command line.
        versions: of magic, Python and the packages that scores depend on.
        made: time in UTC, ISO 8601.
        sha256: hex digest of predictions and gold by path; empty unless the report was written to files.
    """

    argv: tuple[str, ...]
    versions: Mapping[str, str]
    made: str
    sha256: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return `provenance` of schemas/report.schema.json."""
        origin: dict[str, object] = {"argv": list(self.argv), "versions": dict(self.versions), "made": self.made}
        return origin | ({"sha256": dict(self.sha256)} if self.sha256 else {})


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """The files that a scoring read and wrote.

    Attributes:
        preds: predictions of each system: file, folder or zip.
        gold: gold file, folder of masks, challenge folder or prepared dataset.
        against: predictions that every system was compared with.
        run: run folder whose training curves are shown.
        out: folder of the report; None if nothing was written.
        written: files in `out`.
        export: "fiftyone" if scored masks are also written for it.
    """

    preds: tuple[Path, ...]
    gold: Path
    against: Path | None = None
    run: Path | None = None
    out: Path | None = None
    written: tuple[Path, ...] = ()
    export: str = ""


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """Systems scored against one gold.

    Attributes:
        source: the gold, for people.
        split: "train", "valid" or "test".
        settings: how systems were scored.
        systems: in the order in which they were given.
        comparisons: of each system with the one to compare with, task by task.
        provenance: command, versions, time.
        files: what was read and written.
        tasks: what was scored, by its name.
        notes: remarks on the report as a whole.
        published: published runs of each task; None unless asked for.
        subgroups: scores by the values of attributes, where asked for.
        calibration: of the systems whose answers have probabilities.
        unimodal: controls that read one input alone, of tasks with several.
    """

    source: str
    split: str
    settings: ScoreSettings
    systems: tuple[SystemScores, ...]
    comparisons: tuple[Comparison, ...]
    provenance: Provenance
    files: ScoreFiles
    tasks: Mapping[str, Task]
    notes: tuple[str, ...] = ()
    published: Mapping[str, tuple[leaderboard.Entry, ...]] | None = None
    subgroups: tuple[SubgroupScores, ...] = ()
    calibration: tuple[CalibrationScores, ...] = ()
    unimodal: tuple[UnimodalControl, ...] = ()

    @property
    def exit_code(self) -> int:
        """4 if track "official" was asked for and the scorer stops, or "strict" and an item counts as zero; else 0."""
        tasks = [scores for system in self.systems for scores in system.tasks]
        stops = self.settings.track == "official" and any(scores.official_errors for scores in tasks)
        rejects = self.settings.track == "strict" and any(scores.rejected for scores in tasks)
        return SubmissionError.exit_code if stops or rejects else 0

    def run_files(self) -> RunFiles | None:
        """Return what was read and written, for run.json; None if nothing was written."""
        out = self.files.out
        if out is None:
            return None
        return RunFiles(out / run_record.FILE, out, self._inputs, settings=asdict(self.settings))

    def _inputs(self) -> Hashed:
        """Yield the files of the predictions and of the gold; of a prepared dataset, only those that scoring reads."""
        curves = None if self.files.run is None else self.files.run / "metrics.jsonl"
        predictions = [path for path in (*self.files.preds, self.files.against) if path is not None]
        yield from hashed((*(file for path in predictions for file in submitted_files(path)), curves))
        tables = list(table_files(self.files.gold))
        yield from tables or hashed(gold_files(self.files.gold))
        if tables and any(task.deliverable == "masks" for task in self.tasks.values()):
            yield from image_files(self.files.gold, (self.split,), masks="all")

    def by_system(self, task: str) -> dict[str, TaskScores]:
        """Return the scores of a task by the name of the system, for each system that has the task."""
        scored = ((system.name, system.of(task)) for system in self.systems)
        return {name: scores for name, scores in scored if scores is not None}

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What the scores say about each task, in sentences."""
        pairs = [(row.task, Paired(row.system, row.other, row.differences)) for row in self.comparisons]
        names = self._names()
        return tuple(
            judge(task, self.by_system(name), [pair for of, pair in pairs if of == name], names)
            for name, task in self.tasks.items()
        )

    def _names(self) -> dict[str, str]:
        """Return short names of all systems, and of those that they are compared with."""
        return system_names(list(dict.fromkeys([s.name for s in self.systems] + [c.other for c in self.comparisons])))

    def for_people(self) -> "ScoreReport":
        """Return the report with short names of systems, and no absolute path of the user's machine in its texts."""
        names, files = self._names(), self.files
        paths = [str(path) for path in (*files.preds, files.gold, files.against, files.run, files.out) if path]

        def text(line: str) -> str:
            return without_folders(line, paths)

        def texts(lines: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(map(text, lines))

        def shown(scores: TaskScores) -> TaskScores:
            return replace(
                scores,
                notes=texts(scores.notes),
                rejected=texts(scores.rejected),
                official_errors=texts(scores.official_errors),
                differences=texts(scores.differences),
            )

        origin = self.provenance
        digests = {text(path): digest for path, digest in origin.sha256.items()}
        return replace(
            self,
            source=text(self.source),
            notes=texts(self.notes),
            systems=tuple(
                replace(
                    system, name=names[system.name], notes=texts(system.notes), tasks=tuple(map(shown, system.tasks))
                )
                for system in self.systems
            ),
            subgroups=tuple(replace(row, system=names[row.system]) for row in self.subgroups),
            calibration=tuple(replace(row, system=names[row.system]) for row in self.calibration),
            unimodal=tuple(replace(row, systems=tuple(names[of] for of in row.systems)) for row in self.unimodal),
            comparisons=tuple(
                replace(row, system=names[row.system], other=names[row.other]) for row in self.comparisons
            ),
            provenance=replace(origin, argv=texts(origin.argv), sha256=digests),
        )

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/report.schema.json), less "schema" and "command"."""
        report: dict[str, object] = {
            "format": "magic-report",
            "gold": {"source": self.source, "split": self.split},
            "settings": asdict(self.settings),
            "systems": [system.to_json() for system in self.systems],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "provenance": self.provenance.to_json(),
            "notes": list(self.notes),
        }
        if self.published is not None:
            entries = ((task, entry) for task, rows in self.published.items() for entry in rows)
            report["leaderboard"] = [{"task": task, **entry.to_json()} for task, entry in entries]
        if self.subgroups:
            report["subgroups"] = [scores.to_json() for scores in self.subgroups]
        if self.calibration:
            report["calibration"] = [scores.to_json() for scores in self.calibration]
        if self.unimodal:
            report["unimodal"] = [control.to_json() for control in self.unimodal]
        return report

    def lines(self) -> list[str]:
        """Return the report for the terminal: one system in detail, several side by side, and the next step."""
        text = [*self._tables(), *self._notes()]
        if self.files.out is None:
            return [*text, _NEXT]
        if self.files.export:
            text.append(f"{self.files.out / self.files.export}: masks and scores as a dataset that FiftyOne reads")
        page, beside = self.files.out / PAGE, f"{ITEMS}, {SCORES}, {LATEX} and {MARKDOWN}"
        return [*text, f"{page}: written, beside {beside}; next: open it in a browser"]

    def _tables(self) -> Iterator[str]:
        verdicts = {verdict.task: verdict for verdict in self.verdicts if self.settings.track != "official"}
        for name, task in self.tasks.items():
            systems = self.by_system(name)
            if len(systems) > 1:
                yield from [*side_by_side(task, systems).lines(), *remarks(systems, self.settings.track)]
            else:
                for scores in systems.values():
                    yield from task_lines(scores, task, self.settings.track, self.settings.empty)
            yield from [*(verdicts[name].lines() if name in verdicts else ()), ""]
        for row in self.comparisons:
            if self.files.against is None and self.tasks[row.task].deliverable in ("masks", "answers"):
                continue  # nobody asked for it: the verdict says what matters, report.json and the page have it all
            title = f"{self.tasks[row.task].title}: {row.system} minus {row.other}, {row.n_encounters} encounters"
            shown = {score: value for score, value in row.differences.items() if "[" not in score}  # no single class
            same = row.unchanged_line()
            yield from [*difference_table(title, shown).lines(), *([f"  {same}"] if same else []), ""]
        for lines in (*(part.lines() for part in self.calibration), *(part.lines() for part in self.subgroups)):
            yield from [*lines, ""]
        for name, entries in (self.published or {}).items():
            if entries:
                for table in published_tables(self.tasks[name], entries):
                    yield from [*table.lines(), ""]

    def _notes(self) -> Iterator[str]:
        yield from (f"note: {note}" for system in self.systems for note in system.notes)
        yield from (f"note: {note}" for note in self.notes)
        yield from (line for control in self.unimodal for line in control.lines())
        if self.comparisons:
            yield "p-values: each encounter's results swapped at random; no allowance for looking at several scores"
        scored = [task for system in self.systems for task in system.tasks]
        intervals = [pair for task in scored if not _is_of_few(task) for pair in task.intervals.values()]
        if intervals:
            why = f", none where all encounters agree or fewer than {FEWEST} define a score"
            blank = why if any(bounds(pair) is None for pair in intervals) else ""
            yield f"95 % intervals: bootstrap over encounters{blank}; choosing a model on this split is not in them"
