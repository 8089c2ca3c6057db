"""What a concept bottleneck answers to closed questions if a concept were absent or present, for bottleneck.json."""

from collections.abc import Mapping

import numpy as np

from magic_cli.data.questions import QuestionSchema
from magic_cli.io.progress import log
from magic_cli.submission.bottleneck import STRONGEST, BottleneckFile, Change, Inputs, Output
from magic_cli.submission.neighbours import answer_texts
from magic_cli.tasks.bottleneck import Seen, check_question, flips, probabilities, read_what_if
from magic_cli.tasks.cvqa.answers import AnswerPrediction, Decode, decide


def bottleneck_file(
    seen: Mapping[str, Seen], questions: QuestionSchema, decode: Decode, what_if: str | None
) -> BottleneckFile:
    """Return the weights, the strongest changes of each encounter and question, and what `--what-if` asks.

    Of several models the weights are means over them, as their answers are of their probabilities.

    Args:
        seen: by encounter, one or more bottlenecks with the same concepts.
        questions: of the dataset.
        decode: how probabilities become answers, as `decide`.
        what_if: of the command line; None for nothing.

    Raises:
        ConfigError: an encounter or a concept that is not there.
    """
    models = [evidence.model for evidence in next(iter(seen.values()))]
    mean = {name: np.mean([getattr(model, name) for model in models], 0) for name in _PARTS}
    options = [(slot.qid, questions.option(slot.qid, place)) for slot in questions.slots for place in range(slot.size)]
    outputs = [
        Output(qid, option, float(bias), weights.tolist())
        for (qid, option), bias, weights in zip(options, mean["bias"], mean["weight"], strict=True)
    ]
    inputs = Inputs("concepts", models[0].concepts, mean["absent"].tolist(), mean["present"].tolist())
    asked: list[Change] = []
    if what_if is not None:
        question = read_what_if(what_if)
        check_question(question, seen)
        mind = _Mind(seen[question.case], questions, decode)
        asked = [mind.change(question.case, parent, question.states) for parent in questions.parents]
    changes = [change for case, own in seen.items() for change in _strongest(case, _Mind(own, questions, decode))]
    for change in asked:
        log(change.line())
    return BottleneckFile(inputs, outputs, changes, asked)


_PARTS = ("weight", "bias", "absent", "present")


class _Mind:
    """What is answered to an encounter, as it is and with concepts set."""

    def __init__(self, seen: Seen, questions: QuestionSchema, decode: Decode) -> None:
        self.seen, self.questions, self.decode = seen, questions, decode
        self.sizes = [slot.size for slot in questions.slots]
        self._known: dict[tuple[tuple[str, str], ...], tuple[dict[str, list[float]], dict[str, int]]] = {}

    def _answer(self, states: Mapping[str, str]) -> tuple[dict[str, list[float]], dict[str, int]]:
        key = tuple(states.items())
        if key not in self._known:
            rows = probabilities(self.seen, self.sizes, states)
            chances = dict(zip((slot.qid for slot in self.questions.slots), rows, strict=True))
            row = decide([AnswerPrediction("", chances)], self.questions, self.decode)
            self._known[key] = {qid: values.tolist() for qid, values in chances.items()}, row
        return self._known[key]

    def change(self, case: str, parent: str, states: Mapping[str, str]) -> Change:
        """Return how the answer to a question changes; probabilities are of its first option, in any of its slots."""
        (chances, before), (others, after) = self._answer({}), self._answer(states)
        option = min(self.questions.to_sets(before)[parent], default=0)
        qids, padding = self.questions.parents[parent], self.questions.not_mentioned(parent)
        asked = qids[-1:] if option == padding else qids
        now, then = (min(1.0, sum(row[qid][option] for qid in asked)) for row in (chances, others))
        texts = [", ".join(answer_texts(row, self.questions)[parent]) for row in (before, after)]
        return Change(case, parent, states, texts[0], now, then, texts[1])


def _strongest(case: str, mind: _Mind) -> list[Change]:
    """Return the changes of an encounter: of each question those of the concepts that change its slots most."""
    slots = [slot.qid for slot in mind.questions.slots]
    found = flips(mind.seen, mind.sizes)
    return [
        mind.change(case, parent, dict([flip]))
        for parent, qids in mind.questions.parents.items()
        for flip in found.most([slots.index(qid) for qid in qids], STRONGEST)
    ]
