"""training/task.py and tasks/: defaults of a task, its facts, and the registry."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from magic_cli import tasks
from magic_cli.config import Config, resolve
from magic_cli.errors import ConfigError
from magic_cli.records import Case, Prediction, Review, Sample, TaskScores
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training.task import Decision, Task, of_class


class Bare(Task):
    """The methods that have to be written, and no more."""

    name = "bare"
    config_class = Config

    def training_samples(self, prepared: Any, split: str, config: Config) -> Sequence[Sample]:
        raise NotImplementedError

    def prediction_samples(self, prepared: Any, split: str, config: Config) -> Sequence[Sample]:
        raise NotImplementedError

    def build(self, config: Config, questions: Any) -> Any:
        raise NotImplementedError

    def score(self, gold: Any, predictions: Iterable[Any], rules: Any = None, workers: int = 1) -> TaskScores:
        raise NotImplementedError

    def gold(self, prepared: Any, split: str) -> Any:
        raise NotImplementedError

    def gold_in(self, gold: Any) -> Any:
        raise NotImplementedError

    def write(
        self, predictions: Iterable[Prediction], prepared: Any, out: Path, decision: Decision | None = None
    ) -> list[Path]:
        raise NotImplementedError


def test_a_task_has_defaults_for_what_it_may_lack() -> None:
    task, samples = Bare(), [Sample("I1", Case("C1", "train", ()), ()), Sample("I2", Case("C1", "train", ()), ())]
    gold, questions, prepared = Any, Any, Any
    assert task.data_warnings(prepared, samples, Config()) == ()
    assert task.prediction_warnings(prepared, "test", samples, Config()) == ()
    assert task.choose_settings([(gold, [])], Config()) is None
    assert task.validation_review(gold, [], {}) == Review()
    assert task.strata(samples, questions) == {"C1": ()}
    assert task.baseline_predictions([samples], questions) == {}
    assert task.baseline_scores(samples, gold) == {}
    assert task.decision_from({"threshold": None, "largest": False}) == Decision()
    with pytest.raises(ConfigError, match="--largest: of another task than 'bare'"):
        task.decision_from({"largest": True})
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Task,), {})()


@pytest.mark.parametrize("name", tasks.NAMES)
def test_every_task_states_its_facts(name: str) -> None:
    task = tasks.get(name)
    assert task.name == task.config_class.task == name
    assert task.monitor in task.headline_scores
    assert all((task.title, task.unit, task.count_score))
    assert tasks.config_class(name) is task.config_class
    assert tasks.get(name) is task


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ConfigError, match="got 'detect', expected seg or cvqa or pretrain"):
        tasks.get("detect")


def test_a_config_of_another_task_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="got SegConfig, expected CvqaConfig"):
        tasks.get("cvqa").build(resolve(SegConfig, "tiny"), Any)
    assert of_class(True, int) is True


def test_the_registry_knows_who_delivers_what() -> None:
    """It is written down there so that scoring answers does not load segmentation."""
    assert {tasks.get(name).deliverable: name for name in tasks.NAMES} == tasks.BY_DELIVERABLE
