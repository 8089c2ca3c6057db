"""The referee's report as JSON values and as tables for the terminal; what training says at its end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from magic_cli.files import finite
from magic_cli.records import Report
from magic_cli.table import Table

TITLES = {"seg": "segmentation", "cvqa": "closed questions"}
UNITS = {"number_segmentation_instances": "images", "number_cvqa_instances": "encounters"}
ACCURACY = "accuracy_"
_MOST = 20
_AGREED = ("dice_meanofmax", "dice_meanofmean")


def task_json(found: Report) -> dict[str, Any]:
    """Return one task's part of schemas/report.schema.json but for its intervals; NaN becomes null."""
    part: dict[str, Any] = finite(
        {
            "task": found.task,
            "figures": found.figures,
            "intervals": {},
            "official": found.official,
            "stops": found.stops,
            "differences": found.differences,
            "refused": found.refused,
            "notes": found.notes,
            "extra": found.extra,
            "baselines": found.baselines,
            "agreement": found.agreement or None,
            "rows": found.rows,
            "items": found.items,
        }
    )
    return part


def scores(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the official keys of all tasks in the official order, as in the official scores.json.

    A value is null where the official scorer prints NaN, or where it stops and prints nothing.
    """
    merged: dict[str, Any] = {}
    for one in reports:
        merged |= dict.fromkeys(one["figures"]) if one["official"] is None else one["official"]
    return merged


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return tables and sentences for people: one system in detail, several side by side."""
    systems = found["systems"]
    text: list[str] = []
    if len(systems) == 1:
        for one in systems[0]["reports"]:
            text += [*_detail(one, found["settings"]), ""]
    else:
        for task in dict.fromkeys(one["task"] for system in systems for one in system["reports"]):
            text += [*side_by_side(task, systems).lines(), ""]
    for comparison in found["comparisons"]:
        text += [*_paired(comparison).lines(), ""]
    published = found.get("leaderboard", ())
    for task in dict.fromkeys(row["task"] for row in published):
        text += [*_published(task, [row for row in published if row["task"] == task]).lines(), ""]
    text += [f"note: {note}" for system in systems for note in system["notes"]]
    text += [f"note: {note}" for note in found["notes"]]
    if found["comparisons"]:
        text.append("p-values: each encounter's results swapped at random; no allowance for looking at several figures")
    if any(one["intervals"] for system in systems for one in system["reports"]):
        blank = ", none where all encounters agree" if _blank(systems) else ""
        text.append(f"95 % intervals: bootstrap over encounters{blank}; choosing a model on this split is not in them")
    return text


def _blank(systems: Sequence[Mapping[str, Any]]) -> bool:
    return any(None in pair for system in systems for one in system["reports"] for pair in one["intervals"].values())


def _detail(one: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    track = settings["track"]
    trivial = list(one["baselines"]) if track != "official" else []
    columns = {
        "both": ("strict", "95 % interval", "official"),
        "strict": ("strict", "95 % interval"),
        "official": ("official",),
    }[track]
    questions = questions_of(one)
    rows = []
    for name, value in shown(one).items():
        if name in one["extra"] and track == "official":
            continue
        cells = {"strict": number(value), "95 % interval": interval(one["intervals"].get(name))}
        cells["official"] = official(one, name)
        row = (name, *(cells[c] for c in columns), *(number(one["baselines"][b].get(name)) for b in trivial))
        rows.append(row + ((_cut(questions.get(name, {}).get("question", "")),) if questions else ()))
    head = ("", *columns, *trivial, *(("",) if questions else ()))
    words = frozenset({len(head) - 1} if questions else ())
    yield from Table(_title(one, settings), head, tuple(rows), words=words).lines()
    yield from _sentences(one, track)


def shown(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the strict figures of a task by name, those the official scorer lacks last, without the counts."""
    return {name: value for name, value in (one["figures"] | one["extra"]).items() if name not in UNITS}


def questions_of(one: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the rows of parent questions by the names of their figures."""
    return {ACCURACY + row["parent"]: row for row in one["rows"] if "parent" in row}


def best_of(rows: Sequence[Mapping[str, Any]]) -> set[tuple[int, str]]:
    """Return number of row and name of every figure that no other row exceeds; the first row has all names."""
    tops = {n: max((row[n] for row in rows if row.get(n) is not None), default=None) for n in rows[0]}
    known = [(n, top) for n, top in tops.items() if top is not None]
    return {(line, n) for line, row in enumerate(rows) for n, top in known if row.get(n) == top}


def _title(one: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    counts = [f"{one['figures'][name]:.0f} {unit}" for name, unit in UNITS.items() if name in one["figures"]]
    empty = f"; empty against empty counts as {settings['empty']}" if one["task"] == "seg" else ""
    return f"{TITLES[one['task']]}: {', '.join(counts)}{empty if settings['track'] != 'official' else ''}"


def official(one: Mapping[str, Any], name: str) -> str:
    """Return what the official scorer prints of a figure: a number, "NaN", "stops", "" where it has no such figure."""
    if one["official"] is None:
        return "stops" if one["stops"] else ""
    if name not in one["official"]:
        return ""
    value = one["official"][name]
    return "NaN" if value is None else number(value)


def _sentences(one: Mapping[str, Any], track: str) -> Iterator[str]:
    agreement = one["agreement"]
    if agreement and track != "official":
        human, mine = agreement["human"], agreement["system"]
        both = ", ".join(f"{key} {number(human[key])} (this system {number(mine[key])})" for key in _AGREED)
        yield f"annotators against each other, one left out, on {agreement['images']} images: {both}"
    kinds = (("official run stops: ", "stops"), ("official differs: ", "differences"), ("counted as zero: ", "refused"))
    for label, key in kinds:
        if key == "refused" and track == "official":
            continue
        for line in one[key][:_MOST]:
            yield label + line
        if len(one[key]) > _MOST:
            yield f"{label}{len(one[key]) - _MOST} more, all of them in --json and --out"
    for note in one["notes"]:
        yield f"note: {note}"


def side_by_side(task: str, systems: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row a system and one column a strict figure, intervals below, the best of each column marked."""
    found = {s["name"]: one for s in systems for one in s["reports"] if one["task"] == task}
    values = [shown(one) for one in found.values()]
    names = list(values[0])
    rows = tuple(
        (system, *(f"{number(row.get(n))}\n{interval(one['intervals'].get(n))}" for n in names))
        for (system, one), row in zip(found.items(), values, strict=True)
    )
    marked = frozenset((line, names.index(name) + 1) for line, name in best_of(values))
    head = ("", *(name.removeprefix(ACCURACY) for name in names))
    return Table(f"{TITLES[task]}: strict figures, * is best", head, rows, marked)


def _paired(comparison: Mapping[str, Any]) -> Table:
    rows = tuple(
        (name, signed(d["difference"]), _range(d["low"], d["high"]), number(d["p"]))
        for name, d in comparison["figures"].items()
    )
    names = f"{comparison['system']} minus {comparison['other']}"
    title = f"{TITLES[comparison['task']]}: {names}, {comparison['encounters']} encounters"
    return Table(title, ("", "difference", "95 % interval", "p (sign flips)"), rows)


def _published(task: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    names = list(rows[0]["figures"])
    cells = tuple(
        (f"{row['team']}, run {row['run']}", *(f"{row['figures'][name]:g}" for name in names)) for row in rows
    )
    return Table(f"{TITLES[task]}: published, test set", ("", *names), cells)


def number(value: float | None) -> str:
    """Return a figure with four decimals, "" for none."""
    return "" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign and four decimals."""
    return "" if value is None else f"{value:+.4f}"


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def interval(pair: Sequence[float | None] | None) -> str:
    """Return "0.741-0.815", "" for none."""
    return "" if pair is None or None in pair else f"{pair[0]:.3f}-{pair[1]:.3f}"


def _cut(text: str, width: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


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
    for name, value in best.items():
        if isinstance(value, float):
            text.append(f"  {name:<20} {number(value)}")
    text += [f"  {number(value)}  if the answer were: {name}" for name, value in found["baselines"].items()]
    text += [choice(found["chosen"])] if found.get("chosen") else []
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
        sure = f"{_range(one['low'], one['high'])}, p {number(one['p'])}"
        text.append(f"{monitor} minus that of {label}: {signed(one['difference'])} ({sure})")
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
