"""The referee's report as JSON values and as tables for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from magic_cli.io.files import finite
from magic_cli.records import TaskScores
from magic_cli.report.table import Table

TITLES = {"seg": "segmentation", "cvqa": "closed questions"}

UNITS = {"number_segmentation_instances": "images", "number_cvqa_instances": "encounters"}

ACCURACY = "accuracy_"

_MOST, _SUREST = 20, 5

_AGREED = ("dice_meanofmax", "dice_meanofmean")


def task_json(found: TaskScores) -> dict[str, Any]:
    """Return one task's part of schemas/report.schema.json but for its intervals; NaN becomes null."""
    part: dict[str, Any] = finite(
        {
            "task": found.task,
            "figures": found.scores,
            "intervals": {},
            "official": found.official,
            "stops": found.official_errors,
            "differences": found.differences,
            "refused": found.rejected,
            "notes": found.notes,
            "extra": found.extra,
            "baselines": found.baselines,
            "agreement": found.agreement or None,
            "rows": found.summary_rows,
            "items": found.per_item,
            "errors": found.errors,
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
    if one["errors"] and track != "official":
        yield from _surest(one["errors"][:_SUREST]).lines()


def _surest(errors: Sequence[Mapping[str, Any]]) -> Table:
    cells = tuple(
        (row["encounter"], row["parent"], f"{row['probability']:.2f}", _cut(row["answer"]), _cut(row["gold"]))
        for row in errors
    )
    title = "surest wrong answers, as predictions.jsonl tells probabilities"
    return Table(title, ("", "question", "probability", "answer", "gold"), cells, words=frozenset({1, 3, 4}))


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
        (name, signed(d["difference"]), between(d["low"], d["high"]), number(d["p"]))
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


def between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def interval(pair: Sequence[float | None] | None) -> str:
    """Return "0.741-0.815", "" for none."""
    return "" if pair is None or None in pair else f"{pair[0]:.3f}-{pair[1]:.3f}"


def _cut(text: str, width: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."
