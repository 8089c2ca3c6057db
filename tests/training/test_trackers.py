"""training/monitoring/trackers.py: what trackers get, each row once; none starts unless asked for, none ends a run."""

from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest
from accelerate.tracking import GeneralTracker
from launchers import launch
from run_options import train_options

from magic_cli.commands.cross_validate import cross_validate
from magic_cli.commands.train import train
from magic_cli.config import Config
from magic_cli.errors import ConfigError, ExtraError
from magic_cli.io.json_files import read_json, read_jsonl
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training.monitoring import trackers
from magic_cli.training.monitoring.trackers import Logged, logging_to, require

ROWS = [{"epoch": 1, "loss": 0.5, "dice": 0.25, "a/dice": None}, {"epoch": 2, "loss": 0.25, "dice": 0.5, "a/dice": 1}]
FIRST, SECOND = {"train/loss": 0.5, "valid/dice": 0.25}, {"train/loss": 0.25, "valid/dice": 0.5, "valid/a/dice": 1.0}

KINDS = {**accelerate.tracking.LOGGER_TYPE_TO_CLASS}


class Recorder(GeneralTracker):  # type: ignore[misc]
    """A tracker of accelerate's kind that keeps what it is told."""

    name = "recorder"
    requires_logging_directory = False
    made: list["Recorder"] = []  # noqa: RUF012

    def __init__(self, project: str, **given: Any) -> None:
        super().__init__()
        self.calls: list[Any] = [project, given]
        self.fails = False
        Recorder.made.append(self)

    @property
    def tracker(self) -> object:
        return self

    def start(self) -> None:
        self.calls.append("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.calls.append(values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        if self.fails:
            raise OSError("no network")
        self.calls.append((step, values))

    def finish(self) -> None:
        self.calls.append("finish")


@pytest.fixture(autouse=True)
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """All four libraries are there, and each tracker is a recorder."""
    monkeypatch.setattr(trackers, "find_spec", lambda _: object())
    kinds = dict.fromkeys(trackers.NAMES, Recorder)
    monkeypatch.setattr(accelerate.tracking, "LOGGER_TYPE_TO_CLASS", kinds)
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder.made


def about(out: Path, config: Config | None = None) -> Logged:
    return Logged("seg", out, config or SegConfig())


def test_each_row_is_logged_once_and_a_resumed_run_brings_its_earlier_ones(tmp_path: Path) -> None:
    with logging_to(["wandb"], about(tmp_path / "seg")) as send:
        send([])
        send(ROWS[:1])
        send(ROWS)
    [found] = Recorder.made
    project, given, *calls = found.calls
    assert (project, given["name"][:4], given["dir"]) == ("magic-seg", "seg-", str(tmp_path / "seg"))
    assert calls == ["start", SegConfig().as_dict(), (1, FIRST), (2, SECOND), "finish"]
    with logging_to(["mlflow", "trackio"], about(tmp_path)) as send:
        send(ROWS)
    assert [made.calls[4:] for made in Recorder.made[1:]] == [[(1, FIRST), (2, SECOND), "finish"]] * 2


def test_what_wandb_would_take_by_itself_is_switched_off_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(["wandb"], about(tmp_path)):
        pass
    [found] = Recorder.made
    assert found.calls[1]["settings"] == {"console": "off", "disable_git": True, "disable_code": True, "quiet": True}
    [line] = capsys.readouterr().err.splitlines()
    assert "may send settings and scores to wandb.ai; WANDB_MODE=offline keeps them" in line


def test_folders_of_this_machine_are_not_logged(tmp_path: Path) -> None:
    config = SegConfig(weights_dir="/home/jane/weights", image_encoder="facebook/dinov2-base")
    with logging_to(["trackio"], about(tmp_path, config)):
        pass
    settings = Recorder.made[0].calls[3]
    assert (settings["weights_dir"], settings["image_encoder"]) == ("weights", "facebook/dinov2-base")


def test_a_tracker_that_fails_is_left_out_and_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(["mlflow", "trackio"], about(tmp_path)) as send:
        Recorder.made[0].fails = True
        send(ROWS)
    first, second = Recorder.made
    assert first.calls[4:] == []
    assert second.calls[4:] == [(1, FIRST), (2, SECOND), "finish"]
    assert capsys.readouterr().err.count("failed (OSError), and gets nothing more; training goes on") == 1


def test_one_that_cannot_start_is_said_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Recorder) -> None:
        raise RuntimeError("api_key not configured\nmore")

    monkeypatch.setattr(Recorder, "start", refuse)
    expected = r"^--log wandb: got a start that failed \(RuntimeError: api_key not configured\)"
    with pytest.raises(ConfigError, match=expected), logging_to(["wandb"], about(tmp_path)):
        pass


def test_only_the_first_process_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 1)
    with logging_to(["wandb"], about(tmp_path)) as send:
        send(ROWS)
    assert Recorder.made == []


def test_names_are_checked_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert require(["wandb", "tensorboard", "wandb"]) == ("wandb", "tensorboard")
    with pytest.raises(ConfigError, match="--log: got 'comet', expected tensorboard or wandb or mlflow or trackio"):
        require(["comet"])
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(ExtraError, match="run: pip install mlflow, or leave --log out"):
        require(["mlflow"])


def test_a_training_logs_what_metrics_jsonl_has_and_nothing_unless_asked(drawn_prepared: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "seg", tmp_path / "cache"
    train("seg", drawn_prepared, out, train_options(cache, "epochs=2", "patience=0"))
    assert Recorder.made == []
    options = train_options(cache, "epochs=2", "patience=0", overwrite=True, log=("mlflow",))
    train("seg", drawn_prepared, out, options)
    [found] = Recorder.made
    rows = read_jsonl(out / "metrics.jsonl")
    assert [call[0] for call in found.calls[4:-1]] == [1, 2]
    assert [call[1]["train/loss"] for call in found.calls[4:-1]] == [row["loss"] for row in rows]
    assert found.calls[3] == read_json(out / "run.json")["settings"]


def test_tensorboard_reads_the_curves_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself; its files are below the run folder, a folder for each start."""
    pytest.importorskip("tensorboard", reason="not in this environment; CI has the extra dev")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(accelerate.tracking, "LOGGER_TYPE_TO_CLASS", KINDS)
    with logging_to(["tensorboard"], about(tmp_path / "seg")) as send:
        send(ROWS)
    [events] = [path for path in (tmp_path / "seg" / "tensorboard").glob("*/events.*") if path.is_file()]
    read = EventAccumulator(str(events.parent))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("train/loss")] == [(1, 0.5), (2, 0.25)]
    assert [(event.step, event.value) for event in read.Scalars("valid/a/dice")] == [(2, 1.0)]


def test_each_fold_is_a_run_of_its_own(drawn_prepared: Path, tmp_path: Path) -> None:
    options = train_options(tmp_path / "cache", "epochs=1", log=("trackio",))
    cross_validate("cvqa", 2, drawn_prepared, tmp_path / "cvqa", options)
    assert [made.calls[1]["name"][:7] for made in Recorder.made] == ["fold-1-", "fold-2-"]
    assert [made.calls[4][0] for made in Recorder.made] == [1, 1]
