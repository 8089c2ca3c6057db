"""Concept bottlenecks on the page: which concepts speak for which answer, and answers with a concept otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magic_cli.submission.bottleneck import BottleneckFile, Change, Output

MOST_CHANGES = 15

MOST_CONCEPTS = 4  # of an option, for it and against it


@dataclass(frozen=True, slots=True)
class Effect:
    """What a concept adds to the logit of an option if it is present rather than absent."""

    concept: str
    value: float


@dataclass(frozen=True, slots=True)
class OptionRow:
    """An option with the concepts that speak most for it, and against it, the strongest first."""

    option: str
    speak_for: tuple[Effect, ...]
    against: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class QuestionRows:
    """A question with its options; `wording` is "" where there is only one question."""

    wording: str
    rows: tuple[OptionRow, ...]


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A change in words: `turns` where the answer becomes another."""

    case: str
    question: str
    states: str
    answer: str
    before: float
    after: float
    becomes: str
    turns: bool


@dataclass(frozen=True, slots=True)
class BottleneckContent:
    """What is shown of a concept bottleneck.

    Attributes:
        system: whose it is.
        sparse: whether it reads units of a sparse autoencoder; `autoencoder` has its facts.
        concepts: how many it reads.
        questions: weights by question.
        asked: rows of `--what-if`.
        changes: the largest changes, of each case and question one; `cases` are those in the file, `turned` those of
            them with an answer that a single concept turns.
    """

    system: str
    sparse: bool
    autoencoder: Mapping[str, float] | None
    concepts: int
    questions: tuple[QuestionRows, ...]
    asked: tuple[ChangeRow, ...]
    changes: tuple[ChangeRow, ...]
    cases: int
    turned: int


def bottleneck_content(system: str, file: BottleneckFile, wordings: Mapping[str, str]) -> BottleneckContent:
    """Return what is shown of bottleneck.json.

    Args:
        system: the name of the system.
        file: its content.
        wordings: by the name of a parent question, its wording.
    """
    of_question: dict[str, list[Output]] = {}
    for output in file.outputs:
        of_question.setdefault(output.question, []).append(output)
    shown: dict[str, list[Output]] = {}
    for question, outputs in of_question.items():  # of a question with several slots, the first one
        shown.setdefault(_parent(question), outputs)
    largest: dict[tuple[str, str], Change] = {}
    for change in sorted(file.changes, key=lambda change: (-abs(change.after - change.before), change.case)):
        largest.setdefault((change.case, change.question), change)
    turned = {change.case for change in file.changes if change.becomes != change.answer}
    return BottleneckContent(
        system=system,
        sparse=file.inputs.kind == "sparse",
        autoencoder=file.inputs.autoencoder,
        concepts=len(file.inputs.names),
        questions=tuple(
            QuestionRows(wordings.get(parent, "") or parent, tuple(_option(file, output) for output in outputs))
            for parent, outputs in shown.items()
        ),
        asked=tuple(_row(change, wordings) for change in file.asked),
        changes=tuple(_row(change, wordings) for change in list(largest.values())[:MOST_CHANGES]),
        cases=len({change.case for change in file.changes}),
        turned=len(turned),
    )


def _parent(question: str) -> str:
    return question.rpartition("-")[0] or question


def _option(file: BottleneckFile, output: Output) -> OptionRow:
    low, high = file.inputs.absent, file.inputs.present
    rows = zip(file.inputs.names, output.weights, low, high, strict=True)
    effects = [Effect(name, weight * (present - absent)) for name, weight, absent, present in rows]
    ordered = sorted(effects, key=lambda effect: -effect.value)
    return OptionRow(output.option, _signed(ordered, 1), _signed(ordered[::-1], -1))


def _signed(effects: Sequence[Effect], sign: int) -> tuple[Effect, ...]:
    return tuple(effect for effect in effects[:MOST_CONCEPTS] if effect.value * sign > 0)


def _row(change: Change, wordings: Mapping[str, str]) -> ChangeRow:
    states = ", ".join(f"{name} {state}" for name, state in change.states.items())
    question = wordings.get(change.question, "") or change.question
    facts = (change.answer, change.before, change.after, change.becomes)
    return ChangeRow(change.case, question, states, *facts, turns=change.becomes != change.answer)
