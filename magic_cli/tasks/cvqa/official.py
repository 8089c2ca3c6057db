"""The official scores of answers beside the strict ones, and what makes them differ, one line per cause.

The causes are repaired in the rows, one after the other, until the official scorer agrees with the strict scores; the
line of a cause has the official score before and after its repair.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from magic_cli.data.gold import AnswerGold
from magic_cli.errors import shorten
from magic_cli.metrics.official_answers import KEY_LENGTH, QIDS, SLOTS, head, official_answers
from magic_cli.submission.answers import SubmittedRow
from magic_cli.tasks.cvqa.answers import Answer

Scores = Mapping[str, float]

_EQUAL = 1e-9

_NOTHING = dict.fromkeys(QIDS)


@dataclass(frozen=True)
class Official:
    """What the official scorer prints, None where it stops or does not apply; stops, differences, notes: lines."""

    figures: Scores | None = None
    stops: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _State:
    """Gold and rows on the way from the official reading to the strict one; each row with its id as written."""

    truth: Mapping[str, Mapping[str, int]]
    rows: Sequence[tuple[str, Mapping[str, Any]]]

    def figures(self) -> tuple[Scores | None, tuple[str, ...]]:
        return official_answers(self.truth, [raw for _, raw in self.rows])

    def each(self, change: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]) -> "_State":
        return replace(self, rows=[(encounter, change(encounter, raw)) for encounter, raw in self.rows])


@dataclass(frozen=True)
class _Cause:
    """Something that the official scorer treats otherwise: what it does, with which items, and rows without it."""

    does: str
    items: Sequence[str]
    repair: Callable[[_State], _State]


def compare(
    gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]], answers: Mapping[str, Answer], strict: Scores
) -> Official:
    """Return the official scores of `rows`, or why there are none, and how they differ from the strict ones.

    Args:
        rows: those of each encounter that was predicted, `answers`: what counts of them.
        strict: the strict scores, under the official keys.
    """
    if gold.questions.by_qid.keys() != QIDS:
        note = f"The official scorer knows the {len(QIDS)} questions of 2025 alone; for these it has no figures."
        return Official(notes=(note,))
    state = _State(gold.answers, [(row.id, row.raw) for group in rows.values() for row in group])
    figures, stops = state.figures()
    causes = [cause for cause in _causes(gold, rows, answers) if cause.items]
    if figures is None:
        differences = (f"the official scorer {c.does} ({shorten(c.items, total=True)})" for c in causes)
        return Official(None, stops, tuple(differences))
    if not state.rows:
        effect = _effect(figures, strict)
        return Official(
            figures, (), (f"the official scorer counts no encounters where there is no row at all{effect}",)
        )
    return Official(figures, (), () if _equal(figures, strict) else _explained(state, figures, causes))


def _explained(state: _State, figures: Scores, causes: Sequence[_Cause]) -> tuple[str, ...]:
    lines = []
    for cause in causes:
        state = _filled(cause.repair(state))
        after = state.figures()[0] or figures  # a filled state has figures
        if not _equal(figures, after):
            lines.append(
                f"the official scorer {cause.does} ({shorten(cause.items, total=True)}){_effect(figures, after)}"
            )
        figures = after
    return tuple(lines)


def _effect(before: Scores, after: Scores) -> str:
    """Return the first score that shows a change, with both values; "" if none does."""
    for name in ("accuracy_all", "number_cvqa_instances", *before):
        digits = 0 if name.startswith("number") else 4
        old, new = f"{before[name]:.{digits}f}", f"{after[name]:.{digits}f}"
        if old != new:
            return f": {name} {old} instead of {new}"
    return ""


def _equal(left: Scores, right: Scores) -> bool:
    return all(abs(value - right[name]) < _EQUAL for name, value in left.items())


def _filled(state: _State) -> _State:
    """Add a wrong value wherever an encounter has no answer to a parent: strict counts zero, official would stop."""
    have: dict[str, set[str]] = {encounter: set() for encounter in state.truth}
    for _, raw in state.rows:
        have.get(raw["encounter_id"], set()).update(key[: -len("-001")] for key in raw if len(key) == KEY_LENGTH)
    bare = {encounter: {f"{p}-001": None for p in SLOTS if p not in found} for encounter, found in have.items()}
    more = [(encounter, {"encounter_id": encounter, **row}) for encounter, row in bare.items() if row]
    return replace(state, rows=[*state.rows, *more])


def _causes(
    gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]], answers: Mapping[str, Answer]
) -> tuple[_Cause, ...]:
    """Return everything that the official scorer may treat otherwise, in the order of repair."""
    heads = {head(encounter) for encounter in gold.answers}
    cut = [encounter for encounter in rows if encounter not in gold.answers and head(encounter) in heads]
    cut += [encounter for encounter in gold.answers if "-" in encounter]
    own = [row for encounter in gold.answers for row in rows.get(encounter, ())]
    keys = [f"{row.id}:{key}" for row in own for key in row.raw if _stray(key)]
    bools = [f"{row.id}:{key}" for row in own for key, value in row.raw.items() if _is_bool(key, value)]
    zero = {encounter for encounter, answer in answers.items() if answer.fault and rows.get(encounter)}
    return (
        _Cause("takes what stands before the first dash for the id", cut, _exact_ids),
        _Cause("counts keys that are no question", keys, lambda s: s.each(_no_stray)),
        _Cause("takes true and false for 1 and 0", bools, lambda s: s.each(_no_bools)),
        _Cause(
            "unites rows that contradict each other",
            sorted(zero),
            lambda s: s.each(lambda encounter, raw: {**raw, **_NOTHING} if encounter in zero else raw),
        ),
    )


def _exact_ids(state: _State) -> _State:
    """Number the encounters, so that only ids that are equal as written meet."""
    number = {encounter: str(n) for n, encounter in enumerate(state.truth)}
    rows = [(e, {**raw, "encounter_id": number[e]}) for e, raw in state.rows if e in number]
    return _State({number[encounter]: row for encounter, row in state.truth.items()}, rows)


def _stray(key: str) -> bool:
    return len(key) == KEY_LENGTH and key not in QIDS and key.partition("-")[0] in SLOTS


def _no_stray(_: str, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in raw.items() if not _stray(key)}


def _is_bool(key: str, value: object) -> bool:
    return key in QIDS and isinstance(value, bool)


def _no_bools(_: str, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: ("wrong", value) if _is_bool(key, value) else value for key, value in raw.items()}
