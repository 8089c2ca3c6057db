"""The official scores of answers, and why they differ from the strict ones: one line per cause.

The causes are repaired in the rows, one at a time, until the official scorer agrees with the strict scores; each line
has the official score before and after the repair.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from magic_cli.data.gold import AnswerGold
from magic_cli.errors import redact_key, shorten
from magic_cli.metrics.official_answers import KEY_LENGTH, QIDS, SLOTS, head, official_answers
from magic_cli.submission.answers import SubmittedRow
from magic_cli.tasks.cvqa.answers import Answer

Scores = Mapping[str, float]

_EQUAL = 1e-9

_NOTHING = dict.fromkeys(QIDS)


@dataclass(frozen=True)
class Official:
    """The official scores, None if the scorer crashes or does not apply; and lines: errors, differences, notes."""

    scores: Scores | None = None
    errors: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _State:
    """Gold and rows between official and strict interpretation; each row with its original id."""

    truth: Mapping[str, Mapping[str, int]]
    rows: Sequence[tuple[str, Mapping[str, Any]]]

    def scores(self) -> tuple[Scores | None, tuple[str, ...]]:
        return official_answers(self.truth, [raw for _, raw in self.rows])

    def map_rows(self, change: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]) -> "_State":
        return replace(self, rows=[(encounter, change(encounter, raw)) for encounter, raw in self.rows])


@dataclass(frozen=True)
class _Cause:
    """A deviation of the official scorer: what it does, the items affected, and the repair of the rows."""

    does: str
    items: Sequence[str]
    repair: Callable[[_State], _State]


def compare(
    gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]], answers: Mapping[str, Answer], strict: Scores
) -> Official:
    """Return the official scores of `rows`, or why there are none, and how they differ from the strict ones.

    Args:
        gold: the gold answers.
        rows: rows of each predicted encounter.
        answers: the strictly scored answers from these rows.
        strict: the strict scores, under the official keys.
    """
    if gold.questions.by_qid.keys() != QIDS:
        note = f"The official scorer knows the {len(QIDS)} questions of 2025 only; it cannot score these."
        return Official(notes=(note,))
    state = _State(gold.answers, [(row.id, row.raw) for group in rows.values() for row in group])
    scores, errors = state.scores()
    causes = [cause for cause in _causes(gold, rows, answers) if cause.items]
    if scores is None:
        differences = (f"the official scorer {c.does} ({shorten(c.items, total=True)})" for c in causes)
        return Official(None, errors, tuple(differences))
    if not state.rows:
        effect = _effect(scores, strict)
        return Official(scores, (), (f"the official scorer counts no encounters where there is no row at all{effect}",))
    return Official(scores, (), () if _equal(scores, strict) else _explained(state, scores, causes))


def _explained(state: _State, scores: Scores, causes: Sequence[_Cause]) -> tuple[str, ...]:
    lines = []
    for cause in causes:
        state = _filled(cause.repair(state))
        after = state.scores()[0] or scores  # a filled state always has scores
        if not _equal(scores, after):
            lines.append(
                f"the official scorer {cause.does} ({shorten(cause.items, total=True)}){_effect(scores, after)}"
            )
        scores = after
    return tuple(lines)


def _effect(before: Scores, after: Scores) -> str:
    """Return the first score that differs when rounded, with both values; "" if none does."""
    for name in ("accuracy_all", "number_cvqa_instances", *before):
        digits = 0 if name.startswith("number") else 4
        old, new = f"{before[name]:.{digits}f}", f"{after[name]:.{digits}f}"
        if old != new:
            return f": {name} {old} instead of {new}"
    return ""


def _equal(left: Scores, right: Scores) -> bool:
    return all(abs(value - right[name]) < _EQUAL for name, value in left.items())


def _filled(state: _State) -> _State:
    """Add a wrong value for each parent without an answer: strict counts it as zero, official would crash."""
    answered: dict[str, set[str]] = {encounter: set() for encounter in state.truth}
    for _, raw in state.rows:
        answered.get(raw["encounter_id"], set()).update(key[: -len("-001")] for key in raw if len(key) == KEY_LENGTH)
    bare = {encounter: {f"{p}-001": None for p in SLOTS if p not in parents} for encounter, parents in answered.items()}
    more = [(encounter, {"encounter_id": encounter, **row}) for encounter, row in bare.items() if row]
    return replace(state, rows=[*state.rows, *more])


def _causes(
    gold: AnswerGold, rows: Mapping[str, Sequence[SubmittedRow]], answers: Mapping[str, Answer]
) -> tuple[_Cause, ...]:
    """Return all possible deviations of the official scorer, in the order of repair."""
    heads = {head(encounter) for encounter in gold.answers}
    cut = [encounter for encounter in rows if encounter not in gold.answers and head(encounter) in heads]
    cut += [encounter for encounter in gold.answers if "-" in encounter]
    own = [row for encounter in gold.answers for row in rows.get(encounter, ())]
    keys = [f"{redact_key(row.id)}:{redact_key(key)}" for row in own for key in row.raw if _stray(key)]
    bools = [f"{row.id}:{key}" for row in own for key, value in row.raw.items() if _is_bool(key, value)]
    zero = {encounter for encounter, answer in answers.items() if answer.fault and rows.get(encounter)}
    return (
        _Cause("takes what stands before the first dash for the id", cut, _exact_ids),
        _Cause("counts keys that are no question", keys, lambda s: s.map_rows(_no_stray)),
        _Cause("takes true and false for 1 and 0", bools, lambda s: s.map_rows(_no_bools)),
        _Cause(
            "unites rows that contradict each other",
            sorted(zero),
            lambda s: s.map_rows(lambda encounter, raw: {**raw, **_NOTHING} if encounter in zero else raw),
        ),
    )


def _exact_ids(state: _State) -> _State:
    """Replace ids by numbers, so that only identical ids match."""
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
