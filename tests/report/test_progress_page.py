"""progress.html: what it says while a training runs and when it has ended, whatever ends it."""

from pathlib import Path

import pytest
from clock import Clock
from page_outline import Outline, check
from score_reports import HOSTILE

from magic_cli import tasks
from magic_cli.commands.compare_results import without_provenance
from magic_cli.config import resolve
from magic_cli.errors import Interrupted
from magic_cli.report import progress_page
from magic_cli.report.progress_page import ProgressPage
from magic_cli.training.resume import TrainProgress

SCORES = (0.5, 0.7, 0.6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress_page.time, "monotonic", found)
    return found


def page_of(folder: Path, folds: int = 0, *settings: str) -> ProgressPage:
    task = tasks.get("seg")
    config = resolve(task.config_class, "tiny", ["epochs=4", *settings])
    return ProgressPage(folder / "progress.html", "runs/seg", task, config, folds)


def at(epochs: int, *, is_fold: bool = False) -> TrainProgress:
    losses = [{"epoch": k + 1, "loss": 1 / (k + 1)} for k in range(epochs)]
    scores = [{"dice_meanofmax": score, "jaccard_meanofmax": None} for score in SCORES]
    history = losses if is_fold else [{**row, **more} for row, more in zip(losses, scores, strict=False)]
    return TrainProgress(epoch=epochs, history=history)


def read(page: ProgressPage) -> tuple[str, Outline]:
    html = page.file.read_text()
    return html, check(html)


def words(found: Outline) -> str:
    return " ".join(found.text.split())


def test_it_tells_how_far_a_run_is_and_reloads_itself_until_the_end(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(tmp_path)
    with page.following():
        html, found = read(page)
        assert "epoch 0 of 4" in words(found)
        assert "what is left is known after an epoch" in words(found)
        clock.now += 50  # of encoding
        observe = page.observer()
        observe(at(0))
        for epoch, seconds in enumerate((100, 200, 300), 1):
            clock.now += seconds
            observe(at(epoch))
        html, found = read(page)
        assert html.count('http-equiv="refresh"') == 1
        text = words(found)
        assert "epoch 3 of 4" in text
        assert "Best so far: Dice, mean of max0.7000epoch 2" in text
        assert "about 3 min left; 11 min so far" in text  # 200 s an epoch, 650 s
        assert "best: epoch 2" in text
        assert "★ 2" in text
        assert "Ctrl-C" in text
    html, found = read(page)
    assert 'http-equiv="refresh"' not in html
    assert "Trained: segmentation" in words(found)
    assert "left" not in words(found)
    assert capsys.readouterr().err.count(str(page.file)) == 1


def test_time_is_guessed_from_the_latest_epochs_of_all_folds(tmp_path: Path, clock: Clock) -> None:
    page = page_of(tmp_path, 3)
    page.finished(0, at(3, is_fold=True).history)  # before an interruption
    with page.following():
        observe = page.observer(1)
        observe(at(0, is_fold=True))
        for epoch in (1, 2):
            clock.now += 60
            observe(at(epoch, is_fold=True))
        clock.now += 1000  # between two folds
        page.observer(2)(at(0, is_fold=True))
        text = words(read(page)[1])
        assert "3 folds, epoch 5 of 12" in text
        assert "fold 3 of 3" in text
        assert "about 7 min left" in text
        assert "fold 1 from 1.000 to 0.333; fold 2 from 1.000 to 0.500" in page.file.read_text()
        assert "Best" not in text  # no fold is validated


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Interrupted("saved"), "the same command with --resume goes on"),
        (KeyboardInterrupt(), "Ended before the training was complete"),
        (ValueError("no"), "Ended before the training was complete"),
    ],
)
def test_an_interruption_is_told_and_goes_on(tmp_path: Path, error: BaseException, said: str) -> None:
    page = page_of(tmp_path)

    def train() -> None:
        with page.following():
            page.observer()(at(1))
            raise error

    with pytest.raises(type(error)):
        train()
    html, found = read(page)
    assert said in words(found)
    assert 'http-equiv="refresh"' not in html


def test_early_stopping_is_told(tmp_path: Path) -> None:
    page = page_of(tmp_path, 0, "patience=1")
    with page.following():
        page.observer()(at(3))
        assert "ends sooner if 1 epochs bring nothing better" in words(read(page)[1])
    assert "ended early: 1 epochs brought nothing better" in words(read(page)[1])


def test_a_page_that_cannot_be_written_costs_a_line_and_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(tmp_path / "nowhere" / "run")
    (tmp_path / "nowhere").write_text("a file")
    with page.following():
        for epoch in range(3):
            page.observer()(at(epoch))
    err = capsys.readouterr().err
    assert err.count("the training goes on without it") == 1
    assert "open it in a browser" not in err


def test_of_several_processes_the_main_one_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_page, "is_main_process", lambda: False)
    page = page_of(tmp_path)
    with page.following():
        page.observer()(at(1))
    assert not page.file.exists()


def test_nothing_but_the_times_differs_in_a_repeated_run(tmp_path: Path, clock: Clock) -> None:
    texts = []
    for name, seconds in (("one", 10), ("two", 5000)):
        page = page_of(tmp_path / name)
        page.file.parent.mkdir()
        with page.following():
            observe = page.observer()
            for epoch in range(4):
                observe(at(epoch))
                clock.now += seconds
        texts.append(page.file.read_text())
    assert texts[0] != texts[1]
    assert without_provenance(texts[0]) == without_provenance(texts[1])


def test_hostile_names_stay_words(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    page.name = HOSTILE
    with page.following():
        page.observer()(TrainProgress(history=[{"epoch": 1, "loss": 0.5, HOSTILE: 0.1, "dice_meanofmax": None}]))
    html, _ = read(page)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_no_setting_tells_a_place_of_this_machine(tmp_path: Path) -> None:
    page = page_of(tmp_path, 0, f"weights_dir={tmp_path}/weights")
    with page.following():
        html, found = read(page)
    assert str(tmp_path) not in html
    assert "weights_dirweights" in words(found).replace(" ", "")
