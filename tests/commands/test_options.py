"""Options of the verbs from Python: what the command line refuses by type is refused here in one line, before work."""

from collections.abc import Callable
from pathlib import Path

import pytest

import magic_cli
from magic_cli import MagicError, PredictOptions, ScoreOptions, TrainOptions
from magic_cli.errors import ConfigError
from magic_cli.tasks import get

NAN = float("nan")


@pytest.mark.parametrize(
    "call",
    [
        lambda options: magic_cli.train("seg", options=options),
        lambda options: magic_cli.predict("seg", "best.pt", options=options),
        lambda options: magic_cli.score("preds", "gold", options),
        lambda options: magic_cli.package("seg", options=options),
        lambda options: magic_cli.vote(["a", "b"], options=options),
        lambda options: magic_cli.prepare("data", options=options),
        lambda options: magic_cli.cross_validate("seg", folds=2, options=options),
    ],
)
@pytest.mark.parametrize("options", [None, {"overwrite": True}, magic_cli.RuntimeOptions()])
def test_options_of_another_kind_are_refused_before_anything_is_read(
    call: Callable[[object], object], options: object
) -> None:
    with pytest.raises(
        ConfigError, match=f": options: got {type(options).__name__}, expected .*Options; pass options="
    ):
        call(options)


def test_options_of_another_verb_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^train: options: got PredictOptions, expected TrainOptions; pass"):
        magic_cli.train("seg", options=PredictOptions())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^predict: options: got TrainOptions, expected PredictOptions; pass"):
        magic_cli.predict("seg", "best.pt", options=TrainOptions())  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [-1, 0, "3", 2.5])
def test_a_limit_is_a_whole_number_from_1(limit: int) -> None:
    with pytest.raises(ConfigError, match="--limit: got"):
        PredictOptions(limit=limit)


@pytest.mark.parametrize(
    ("name", "value"), [("resamples", 1), ("resamples", 10**12), ("resamples", 100.0), ("seed", -1)]
)
def test_score_refuses_numbers_that_it_cannot_draw(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}: got {value}, expected a whole number from"):
        ScoreOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("seg", "threshold", 2.0),
        ("seg", "threshold", -0.1),
        ("seg", "threshold", NAN),
        ("seg", "threshold", "a"),
        ("cvqa", "decode", "sets"),
    ],
)
def test_a_decision_that_is_no_decision_is_refused_before_a_checkpoint_is_read(
    task: str, name: str, value: float | str, tmp_path: Path
) -> None:
    options = PredictOptions(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(MagicError, match=f"--{name}: got {value}, expected"):
        magic_cli.predict(task, tmp_path / "missing.pt", out=tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_a_threshold_of_zero_is_given_not_left_out() -> None:
    assert get("seg").decision_from({"threshold": 0.0, "largest": False}) == get("seg").decision_class(threshold=0.0)


@pytest.mark.parametrize("options", [PredictOptions(gallery="loo"), PredictOptions(controls=True, beir=True)])
def test_options_of_retrieval_are_of_no_other_task(options: PredictOptions, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of another task than 'seg'; leave it out"):
        magic_cli.predict("seg", tmp_path / "missing.pt", options=options)
    with pytest.raises(ConfigError, match="--gallery: got valid, expected train or loo"):
        PredictOptions(gallery="valid")
