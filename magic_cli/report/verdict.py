"""What a report says in a few sentences: what a system is better than or not, what goes wrong most, what to try next.

Every sentence is computed from scores, intervals and rows of the report. "Better" and "worse" need an interval that
excludes the other value; where it includes it, or where there is none, the sentence says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from magic_cli.metrics.bootstrap import FEW, Difference
from magic_cli.records import TaskScores
from magic_cli.report.score_text import ACCURACY, SCORE_NAMES, bounds, is_defined, is_rank, questions_of, verdict_of
from magic_cli.training.task import Task

Row = Mapping[str, Any]

LOW = 0.5  # a Dice below it is a failure

_GAP = 0.1  # of median Dice between a quarter of the photos and the others, to be worth a sentence

_FEWEST = 8  # photos of which a quarter says something

_OFTEN = 0.1  # share of the photos, to be worth a sentence

_FACTOR = 1.5  # a predicted lesion is too large or too small beyond it

_WORDS = {"dice_meanofmax": "Dice", "accuracy_all": "accuracy", "macro_map": "macro mAP"}


@dataclass(frozen=True, slots=True)
class Paired:
    """Two systems on the same encounters: the differences of their scores, `system` minus `other`."""

    system: str
    other: str
    differences: Mapping[str, Difference]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the numbers say about a task's system: sentences, and what to try next ("" where nothing follows)."""

    task: str
    system: str
    sentences: tuple[str, ...]
    next_step: str

    def to_json(self) -> dict[str, object]:
        """Return an item of `verdicts` of schemas/report.schema.json."""
        return {"task": self.task, "system": self.system, "sentences": list(self.sentences), "next": self.next_step}

    def lines(self) -> list[str]:
        """Return the sentences for the terminal."""
        return ["in short:", *(f"  {line}" for line in (*self.sentences, self.next_step) if line)]


@dataclass(frozen=True, slots=True)
class _Failure:
    """What goes wrong most: its kind ("" if nothing does), for the next step, and the sentence."""

    kind: str
    sentence: str


def detailed_system(task: Task, systems: Mapping[str, TaskScores]) -> str:
    """Return the system that a report shows in detail: the first one; of contrastive models, the best by `monitor`."""
    if task.deliverable != "pairs":
        return next(iter(systems))

    def value(name: str) -> float:
        score = systems[name].scores.get(task.monitor, float("nan"))
        return score if score == score else -1.0  # NaN is below all scores

    return max(systems, key=value)


def judge(task: Task, systems: Mapping[str, TaskScores], pairs: Sequence[Paired], names: Mapping[str, str]) -> Verdict:
    """Return the verdict on the system of a task that the report shows in detail.

    Args:
        task: the task.
        systems: scores of its systems by name, at least one.
        pairs: compared systems; those without the detailed one are ignored.
        names: short names for people, by the names of systems and of those that they are compared with.
    """
    system = detailed_system(task, systems)
    scores, key, short = systems[system], task.monitor, names.get(system, system)
    trivial, is_better = _against_trivial(short, scores, key)
    failure = _failure(scores, task)
    sentences = (
        trivial,
        *_against_others(system, pairs, key, names),
        *_against_annotators(scores, key),
        failure.sentence,
    )
    next_step = _next_step(task, scores, failure.kind, is_better)
    return Verdict(task.name, system, tuple(filter(None, sentences)), next_step)


def _word(key: str) -> str:
    name = SCORE_NAMES.get(key, (key.removeprefix(ACCURACY), ""))[0]
    return _WORDS.get(key, name[:1].lower() + name[1:])


def _against_trivial(name: str, scores: TaskScores, key: str) -> tuple[str, bool | None]:
    """Return the sentence about the score beside those of trivial answers, and whether it is better; None: unknown."""
    value, pair = scores.scores.get(key), bounds(scores.intervals.get(key))
    if value is None or not is_defined(value):
        return f"{name}: {_word(key)} is not defined for this gold.", None
    known = [(row[key], label) for label, row in scores.baselines.items() if is_defined(row.get(key))]
    interval = f"95 % interval {pair[0]:.3f} to {pair[1]:.3f}" if pair else "no interval"
    figures = f"{_word(key)} {value:.3f} ({interval}"
    if not known:
        return f"{name}: {figures}); there is no trivial answer to compare with.", None
    best, label = (min if is_rank(key) else max)(known)
    if pair is None:
        return f"{name}: {figures}), {best:.3f} for the best trivial answer, {label}: nothing can be concluded.", None
    others = "answers that look at no photo" if scores.has_official else "trivial answers"
    if pair[0] <= best <= pair[1]:
        inner = f"{figures}, which includes the {best:.3f} of the best of these, {label})"
        return f"{name} is not shown to be better than {others}: {inner}.", False
    is_better = (best > pair[1]) if is_rank(key) else (best < pair[0])
    side = "better" if is_better else "worse"
    figures += f") against {best:.3f} of the best of these, {label}"
    return f"{name} is {side} than {others}: {figures}.", is_better


def _against_others(system: str, pairs: Sequence[Paired], key: str, names: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence about a system beside each other one: at most two, then one about the others together."""
    found = []
    for pair in pairs:
        row = pair.differences.get(key)
        if row is not None and is_defined(row.difference) and system in (pair.system, pair.other):
            other = pair.other if pair.system == system else pair.system
            turned = row if pair.system == system else Difference(-row.difference, -row.high, -row.low, row.p)
            found.append((names.get(other, other), turned))
    if len(found) > 2:
        kinds: dict[str, list[str]] = {}
        for other, row in found:
            kinds.setdefault(verdict_of(row), []).append(other)
        parts = (f"{kind} than {_joined(kinds[kind])}" for kind in ("higher", "lower") if kind in kinds)
        unclear = (f"no clear difference to {_joined(others)}" for kind, others in kinds.items() if "no " in kind)
        yield f"Its {_word(key)} beside other systems: {'; '.join((*parts, *unclear))}."
        return
    for other, row in found:
        figures = f"{_word(key)} {_signed(row.difference)}"
        if not (is_defined(row.low) and is_defined(row.high)):
            yield f"Beside {other}: {figures}, without an interval, so nothing can be concluded."
            continue
        interval = f"95 % interval {_signed(row.low)} to {_signed(row.high)}"
        verdict = verdict_of(row)
        if verdict == "no clear difference":
            why = "includes 0" if row.low <= 0 <= row.high else f"p {row.p:.3f}"
            yield f"No clear difference to {other}: {figures} ({interval}, {why})."
        else:
            is_better = (verdict == "higher") != is_rank(key)
            yield f"It is {'better' if is_better else 'worse'} than {other}: {figures} ({interval})."


def _against_annotators(scores: TaskScores, key: str) -> Iterator[str]:
    """Yield how far a system is from the annotators' agreement with each other."""
    agreement = scores.agreement or {}
    human, system = agreement.get("human", {}).get(key), agreement.get("system", {}).get(key)
    if not (is_defined(human) and is_defined(system)):
        return
    row = agreement.get("differences", {}).get(key, {})
    low, high = row.get("low"), row.get("high")
    figures = f"{_word(key)} {human:.3f}, this system {system:.3f} against the same masks"
    if not (is_defined(low) and is_defined(high)):
        yield f"Annotators against each other: {figures}."
        return
    figures += f" (difference {_signed(row['difference'])}, 95 % interval {_signed(low)} to {_signed(high)})"
    if high < 0:
        yield f"It is short of the annotators' agreement with each other: {figures}."
    elif low > 0:
        yield f"It is above the annotators' agreement with each other: {figures}."
    else:
        yield f"No clear difference to the annotators' agreement with each other: {figures}."


def _failure(scores: TaskScores, task: Task) -> _Failure:
    if task.deliverable == "masks":
        return next(_mask_failures(scores.per_item))
    if task.deliverable == "answers":
        return _answer_failure(scores)
    rows = [row for row in scores.summary_rows if "class" in row and is_defined(row.get("recall"))]
    if not rows:
        return _Failure("", "")
    worst = min(rows, key=lambda row: row["recall"])
    where = f"{worst['class']}, recall {worst['recall']:.3f} over {worst['photos']} photos"
    return _Failure("class", f"The class that is missed most: {where}.")


def _mask_failures(items: Sequence[Row]) -> Iterator[_Failure]:
    """Yield what goes wrong, what matters most first; the last one always applies."""
    faulty = [item for item in items if item["fault"]]
    fine = [item for item in items if not item["fault"] and is_defined(item["dice_max"])]
    if faulty:
        mean = f"; the others have a mean Dice of {sum(i['dice_max'] for i in fine) / len(fine):.3f}" if fine else ""
        yield _Failure("fault", f"{_of(faulty, items)} count as zero, as their masks are missing or not usable{mean}.")
    drawn = sorted((item for item in fine if (item["lesion"] or 0) > 0), key=lambda item: item["lesion"])
    empty = [item for item in drawn if item.get("predicted") == 0]
    if len(empty) >= _OFTEN * max(len(drawn), 1) and empty:
        yield _Failure("empty", f"What goes wrong most: {_of(empty, drawn)} with a lesion have an empty prediction.")
    yield from _size_failures(drawn)
    low = [item for item in fine if item["dice_max"] < LOW]
    if low:
        large, small = ([i for i in low if _is_off(i, sign)] for sign in (1, -1))
        kind, part = max(("large", large), ("small_masks", small), key=lambda pair: len(pair[1]))
        words = {"large": "too large", "small_masks": "too small"}[kind]
        has_cause = len(part) > len(low) / 2
        why = f"; {len(part)} of these are drawn {words}" if has_cause else ", of all lesion sizes"
        yield _Failure(kind if has_cause else "low", f"{_of(low, fine)} have a Dice below {LOW}{why}.")
    if fine:
        worst = min(fine, key=lambda item: item["dice_max"])
        yield _Failure("", f"No photo has a Dice below {LOW}; the lowest is {worst['dice_max']:.3f}, {worst['image']}.")
    yield _Failure("", "")


def _size_failures(drawn: Sequence[Row]) -> Iterator[_Failure]:
    """Yield that the smallest or the largest quarter of the lesions is worse than the others; rows by lesion size."""
    if len(drawn) < _FEWEST:
        return
    number = len(drawn) // 4
    for kind, part, rest, words in (
        ("small", drawn[:number], drawn[number:], f"at most {_share(drawn[number - 1]['lesion'])}"),
        ("wide", drawn[-number:], drawn[:-number], f"{_share(drawn[-number]['lesion'])} or more"),
    ):
        here, elsewhere = (median(item["dice_max"] for item in rows) for rows in (part, rest))
        if elsewhere - here >= _GAP:
            name = "Small" if kind == "small" else "Large"
            where = f"where the lesion takes {words} of the photo, median Dice is {here:.3f}, elsewhere {elsewhere:.3f}"
            yield _Failure(kind, f"{name} lesions go wrong most: {where}.")


def _is_off(item: Row, sign: int) -> bool:
    predicted, lesion = item.get("predicted"), item["lesion"] or 0
    if predicted is None:
        return False
    return bool(predicted > _FACTOR * lesion if sign > 0 else predicted * _FACTOR < lesion)


def _answer_failure(scores: TaskScores) -> _Failure:
    rows = [row for row in scores.summary_rows if "parent" in row and is_defined(row["accuracy"])]
    wrong = [row for row in rows if row["accuracy"] < 1]
    if not wrong:
        return _Failure("", "Every question is answered as in the gold." if rows else "")
    worst = min(wrong, key=lambda row: row["accuracy"])
    name = f'"{worst["question"]}" ({worst["parent"]})' if worst["question"] else worst["parent"]
    sentence = f"The question that goes wrong most: {name}, accuracy {worst['accuracy']:.3f}{_confused(worst)}."
    levels = {label: row for label, row in scores.baselines.items() if label == "training majority"} or scores.baselines
    questions = questions_of(scores)
    for label, level in levels.items():
        values = {key: scores.scores[key] for key in questions if is_defined(scores.scores.get(key))}
        same = [
            key for key, value in values.items() if is_defined(level.get(key)) and value <= min(level[key], 1 - 1e-9)
        ]
        if same and label == "training majority":
            most = f"In {len(same)} of {len(rows)} questions it is no better than the most frequent answer of training."
            return _Failure("majority", f"{sentence} {most}")
    return _Failure("question", sentence)


def _confused(row: Row) -> str:
    """Return the most frequent confusion of a question in words."""
    table = row.get("confusion") or ()
    last = len(table) - 1
    cells = ((n, -g, -p) for g, line in enumerate(table) for p, n in enumerate(line) if g != p and n >= 1)
    count, gold, answer = max(cells, default=(0, 0, 0))
    if not count:
        return ""
    names = row["options"]
    if -gold == last or -answer == last:
        word, option = ("added", -answer) if -gold == last else ("missed", -gold)
        return f'; most often "{names[option]}" is {word} ({count:g} of {row["n"]})'
    return f'; most often "{names[-gold]}" is taken for "{names[-answer]}" ({count:g} of {row["n"]})'


_BY_FAILURE = {
    "empty": "a lower threshold (`magic predict seg --threshold 0.3`), then the photos with an empty prediction",
    "small": "photos with more pixels for the encoder (`--set image_size=384`), which small lesions gain from most",
    "wide": "random crops that keep more of the photo (`--set crop=0.8`), so that large lesions are seen whole",
    "large": "a higher threshold (`magic predict seg --threshold 0.6`), or only the largest lesion (`--largest`)",
    "small_masks": "a lower threshold (`magic predict seg --threshold 0.4`)",
    "low": "the worst photos, to see what they have in common; then the mean of several models (several `--ckpt`)",
    "majority": "a merged vote with another system (`magic predict cvqa --vote`), or similar cases (`--neighbours`)",
    "question": "the photos behind the confusions; then a vote with another system (`magic predict cvqa --vote`)",
}


def _next_step(task: Task, scores: TaskScores, failure: str, is_better: bool | None) -> str:
    """Return what to try next, by the first reason that applies."""
    if scores.rejected or scores.official_errors:
        return "Next: mend what is rejected or stops the official scorer; `magic package --check-only` lists all of it."
    if scores.encounter_sums is not None and len(scores.encounter_sums.ids) < FEW:
        return f"Next: more encounters; {len(scores.encounter_sums.ids)} are too few to tell systems apart."
    if is_better is False and task.deliverable in ("masks", "answers"):
        return f"Next: a stronger model before anything else: `magic train {task.name}` with its default preset."
    step = _BY_FAILURE.get(failure, "")
    return f"Next: {step}." if step else ""


def _of(part: Sequence[Row], whole: Sequence[Row]) -> str:
    return f"{len(part)} of {len(whole)} photos"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _share(value: float) -> str:
    return f"{100 * value:.2g} %"


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
