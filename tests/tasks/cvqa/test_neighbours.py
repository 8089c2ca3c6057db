"""tasks/cvqa/neighbours.py: the answers of similar cases beside a model's, and the weight that is chosen for them."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_dataset import QUESTIONS

from magic_cli.data.gold import AnswerGold
from magic_cli.records import Neighbour
from magic_cli.tasks.cvqa import neighbours as module
from magic_cli.tasks.cvqa.answers import AnswerPrediction

CASES = [f"ENC{number:05}" for number in range(12)]


def row(option: int) -> dict[str, int]:
    return QUESTIONS.to_slots({parent: {option} for parent in QUESTIONS.parents})


GOLD = AnswerGold("gold", QUESTIONS, {case: row(number % 2) for number, case in enumerate(CASES)})
PRIOR = module.training_prior(GOLD.answers.values(), QUESTIONS)


def model(surely: float, right: bool) -> list[AnswerPrediction]:
    """A model that gives this probability to the right answer of every slot, or to another one."""
    made = []
    for number, case in enumerate(CASES):
        chosen = row(number % 2 if right else 1 - number % 2)
        values = {}
        for qid, question in QUESTIONS.by_qid.items():
            values[qid] = np.full(question.size, (1 - surely) / (question.size - 1), np.float32)
            values[qid][chosen[qid]] = surely
        made.append(AnswerPrediction(case, values))
    return made


def similar(right: bool) -> dict[str, tuple[Neighbour, ...]]:
    options = {case: (number if right else number + 1) % 2 for number, case in enumerate(CASES)}
    return {
        case: tuple(Neighbour(f"T{k}", f"I{k}", 0.9, row(option)) for k in range(5)) for case, option in options.items()
    }


def test_neighbours_that_know_weigh_much_and_noise_weighs_nothing() -> None:
    known = module.best_weight(GOLD, model(0.5, right=False), similar(right=True), PRIOR)
    assert known.weight >= 0.4
    assert known.without is not None
    assert known.reached is not None
    assert known.reached > known.without + 0.3
    noise = module.best_weight(GOLD, model(0.8, right=True), similar(right=False), PRIOR)
    assert (noise.weight, noise.without) == (0.0, noise.reached)


def test_weight_0_and_no_neighbours_leave_every_bit() -> None:
    made = model(0.7, right=True)
    for near, weight in ((similar(right=False), 0.0), ({}, 1.0)):
        for before, after in zip(made, module.weighed(made, near, PRIOR, QUESTIONS, weight), strict=True):
            assert all(before.probabilities[qid] is values for qid, values in after.probabilities.items())
    kept = list(module.weighed(made, similar(right=False), PRIOR, QUESTIONS, 0.0))
    assert len(kept[0].neighbours) == 5


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_probabilities_stay_probabilities(weight: float) -> None:
    for prediction in module.weighed(model(0.7, right=True), similar(right=False), PRIOR, QUESTIONS, weight):
        for values in prediction.probabilities.values():
            assert values.dtype == np.float32
            assert values.min() > 0
            assert values.sum() == pytest.approx(1, abs=1e-5)


def test_a_nearer_case_counts_more_and_slots_are_in_canonical_order() -> None:
    near, far = Neighbour("T1", "I1", 0.9, row(0)), Neighbour("T2", "I2", 0.7, row(1))
    qid = QUESTIONS.parents["CQID011"][0]
    values = module.answers_of([near, far], PRIOR, QUESTIONS)[qid]
    assert values[0] - PRIOR[qid][0] / 3 > 5 * (values[1] - PRIOR[qid][1] / 3)
    first, second = QUESTIONS.parents["CQID011"][:2]
    turned = {**row(0), first: QUESTIONS.not_mentioned("CQID011") or 0, second: 0}
    again = module.answers_of([replace(near, answers=turned), far], PRIOR, QUESTIONS)
    assert np.array_equal(again[first], values)
