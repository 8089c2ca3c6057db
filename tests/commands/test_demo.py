"""commands/demo.py: a dataset exactly in the challenge's layout, and the command lines that are run on it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from magic_cli.commands import demo
from magic_cli.commands.demo import steps
from magic_cli.data.questions import load_questions, parse_questions
from magic_cli.data.sources.synthetic import dataset
from magic_cli.data.sources.synthetic.dataset import draw_dataset
from magic_cli.errors import ConfigError, DataError, Interrupted, MagicError
from magic_cli.io import schema
from magic_cli.io.files import sha256, temporary_path

MASKS = "dermavqa-seg-trainvalid/dermavqa-segmentations"


def rows(root: Path, name: str) -> list[dict]:
    return json.loads((root / name).read_text())


def test_layout_is_the_challenges(drawn: Path) -> None:
    for split, count in {"train": 8, "valid": 3, "test": 3}.items():
        queries = rows(drawn, f"{split}.json")
        assert len(queries) == count
        for query in queries:
            assert set(query) >= {"encounter_id", "author_id", "image_ids", "query_title_en", "query_content_en"}
            assert query["responses"]
            for name in query["image_ids"]:
                assert re.fullmatch(rf"IMG_{query['encounter_id']}_\d{{5}}\.(jpg|jpeg|png)", name)
                assert (drawn / "images_final" / f"images_{split}" / name).is_file()
    assert not (drawn / "test_cvqa.json").exists()
    assert sorted(p.name for p in (drawn / MASKS).iterdir()) == ["train", "valid"]
    definitions = drawn / "closedquestions_definitions_imageclef2025.json"
    assert parse_questions(json.loads(definitions.read_text()), "definitions").slots == load_questions(None).slots


def test_photos_and_masks_fit(drawn: Path) -> None:
    photos = {p.stem: p for p in drawn.glob("images_final/images_*/*")}
    assert {p.suffix for p in photos.values()} == {".jpg", ".jpeg", ".png"}
    annotators: dict[str, int] = {}
    for path in drawn.glob(f"{MASKS}/*/*.tiff"):
        stem = re.fullmatch(r"(IMG_ENC\d{5}_\d{5})_mask_ann[0-3]\.tiff", path.name).group(1)
        mask = tifffile.imread(path)
        with Image.open(photos[stem]) as photo:
            assert (photo.height, photo.width) == mask.shape
            assert photo.mode == "RGB"
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        annotators[stem] = annotators.get(stem, 0) + 1
    labelled = {stem for stem, path in photos.items() if "test" not in path.parent.name}
    assert set(annotators) == labelled
    assert set(annotators.values()) <= {2, 3, 4}


def test_answers_are_complete_and_canonical(drawn: Path) -> None:
    codec = load_questions(None)
    for split in ("train", "valid"):
        ids = [query["encounter_id"] for query in rows(drawn, f"{split}.json")]
        answers = rows(drawn, f"{split}_cvqa.json")
        assert [row["encounter_id"] for row in answers] == ids
        for row in answers:
            assert codec.faults(row, "row") == []
            assert codec.canonical(row) == {k: v for k, v in row.items() if k != "encounter_id"}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        draw_dataset(tmp_path / name, {"train": 2, "test": 1}, seed)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        hashes.append([(p.relative_to(tmp_path / name).as_posix(), sha256(p)) for p in files])
    assert hashes[0] == hashes[1] != hashes[2]


def test_full_dataset_has_every_peculiarity_of_the_real_one() -> None:
    assert demo.COUNTS == {"train": 40, "valid": 12, "test": 8}
    assert {split for split, _ in dataset._EXTENSIONS} == {"train", "valid", "test"}


def test_steps_go_from_prepare_to_submission_and_search() -> None:
    lines = [" ".join(step.words) for step in steps("quick", overwrite=False)]
    verbs = [line.split()[0] for line in lines]
    assert list(dict.fromkeys(verbs)) == ["prepare", "train", "predict", "package", "score", "index", "search"]
    assert lines[0] == "prepare --data DermaVQA"
    assert lines[-4] == "package --seg predictions/seg --cvqa predictions/cvqa"
    assert not any("--overwrite" in line for line in lines)
    again = [step.words for step in steps("tiny", overwrite=True)]
    assert all("--overwrite" in words or "--rebuild" in words for words in again)
    assert sum("tiny" in words for words in again) == 3


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the program: a script that logs its arguments and does what the file `behave.py` says."""
    script, log = tmp_path / "fake", tmp_path / "calls.txt"
    script.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\n"
        f"with open({str(log)!r}, 'a') as f: f.write(' '.join(sys.argv[3:]) + chr(10))\n"
        f"exec(pathlib.Path({str(tmp_path / 'behave.py')!r}).read_text())\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return tmp_path


GOOD = "if sys.argv[3] == 'score': print('{\"schema\": 1}')\nelse: print('a result')"


def test_run_calls_every_step_in_its_folder(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (program / "behave.py").write_text(GOOD + "\nassert pathlib.Path('DermaVQA/train.json').is_file()")
    counts = {"train": 1, "valid": 1, "test": 1}
    result = demo.run(program / "out", "tiny", overwrite=False, counts=counts)
    calls = (program / "calls.txt").read_text().splitlines()
    assert calls == [" ".join(step.words) for step in steps("tiny", overwrite=False, counts=counts)]
    photo = calls[-1].split()[2]
    assert (program / "out" / photo).is_file()
    assert result.scores == {"schema": 1}
    assert result.drawn["encounters"] == 3
    out, err = capfd.readouterr()
    assert out == ""  # stdout is left to the caller's result
    assert all(f"$ magic {line}" in err for line in calls)
    assert "a result" in err


def test_summary_is_a_table_with_the_next_command() -> None:
    figures = {"number_cvqa_instances": 12, "accuracy_all": 0.5, "dice_meanofmax": None}
    scores = {"systems": [{"reports": [{"task": "cvqa", "figures": figures}]}]}
    drawn = {"encounters": 1, "images": 1, "masks": 2}
    result = demo.DemoResult(Path("d"), drawn, scores, 61.2)
    assert schema.problems("demo", {"schema": 1, "command": "demo"} | result.to_json(), "demo") == []
    text = result.lines()
    assert any(line.split() == ["accuracy_all", "0.500"] for line in text)
    assert any(line.split() == ["dice_meanofmax", "undefined"] for line in text)
    assert not any("number_" in line for line in text)
    assert "d/report/report.html" in text[-4]
    assert "d/search.html" in text[-3]
    assert "d/submission.zip" in text[-2]
    assert text[-1].endswith("magic prepare --data DermaVQA/")


def test_run_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="--overwrite"):
        demo.run(tmp_path, "tiny", overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match="did you mean small"):
        demo.run(tmp_path / "out", "smal", overwrite=False)
    assert not (tmp_path / "out").exists()


def test_a_step_that_the_system_kills_is_said_to_be(program: Path) -> None:
    (program / "behave.py").write_text("import os; os.kill(os.getpid(), 9)")
    said = r"`magic prepare --data DermaVQA` was ended by signal 9 \(out of memory\?\); --overwrite starts again"
    with pytest.raises(MagicError, match=said) as raised:
        demo.run(program / "out", "tiny", overwrite=False, counts={"train": 1})
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(("code", "kind"), [(3, MagicError), (5, MagicError), (130, Interrupted)])
def test_run_stops_at_the_first_failure_with_its_exit_code(
    program: Path, code: int, kind: type[MagicError], capfd: pytest.CaptureFixture[str]
) -> None:
    (program / "behave.py").write_text(
        f"if sys.argv[3] == 'train': print('error: its own line', file=sys.stderr); sys.exit({code})"
    )
    with pytest.raises(kind, match="magic train seg") as raised:
        demo.run(program / "out", "tiny", overwrite=False, counts={"train": 1})
    assert raised.value.exit_code == code
    assert len((program / "calls.txt").read_text().splitlines()) == 2
    assert "error: its own line" in capfd.readouterr().err


def test_interrupt_waits_for_the_step_and_ends_with_130(program: Path) -> None:
    """Ctrl-C reaches the whole process group: the step may take its time to save, then the demo ends with 130."""
    (program / "behave.py").write_text(
        "import time, signal\n"
        f"saved = pathlib.Path({str(program / 'saved')!r})\n"
        "def save(*_): time.sleep(0.5); saved.touch(); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save)\n"
        f"pathlib.Path({str(program / 'ready')!r}).touch()\n"
        "time.sleep(30)"
    )
    code = (
        "import sys, pathlib, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "from magic_cli.commands import demo\nfrom magic_cli.errors import Interrupted\n"
        f"sys.executable = {sys.executable!r}\n"
        "try: demo.run(pathlib.Path('out'), 'tiny', False, {'train': 1})\n"
        "except Interrupted as error: sys.exit(error.exit_code)"
    )
    python = (program / "fake").read_text().splitlines()[0][2:]
    driver = subprocess.Popen([python, "-c", code], cwd=program, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_for(program / "ready", driver)
        os.killpg(driver.pid, signal.SIGINT)
        assert driver.wait(120) == 130
        assert (program / "saved").exists()
    finally:
        driver.kill()


def test_real_data_is_never_replaced_by_drawn_data(
    program: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`magic demo --out . --overwrite`, where the challenge lies."""
    (program / "behave.py").write_text(GOOD)
    out, few = tmp_path / "out", {"train": 1}
    (out / "DermaVQA").mkdir(parents=True)
    (out / "DermaVQA" / "train.json").write_text("real")
    with pytest.raises(DataError, match=r"got a folder without DermaVQA/drawn-by-magic-demo\.txt"):
        demo.run(out, "tiny", overwrite=True, counts=few)
    assert [path.read_text() for path in out.rglob("*") if path.is_file()] == ["real"]
    shutil.rmtree(out / "DermaVQA")
    for _ in range(2):  # its own data may be drawn anew
        demo.run(out, "tiny", overwrite=True, counts=few)
    assert (out / "DermaVQA" / "train.json").read_text() != "real"
    for name in ("notes.txt", "DermaVQA/notes.txt", "DermaVQA/train.json.orig", "DermaVQA/mine/notes.txt"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    demo.run(out, "tiny", overwrite=True, counts={"train": 2})
    assert [path.read_text() for path in out.rglob("*") if path.name.startswith(("notes", "train.json."))] == [
        "mine"
    ] * 4
    (out / "DermaVQA" / "drawn-by-magic-demo.txt").unlink()
    with pytest.raises(DataError, match=r"got a folder without DermaVQA/drawn-by-magic-demo\.txt"):
        demo.run(out, "tiny", overwrite=True, counts=few)


def test_data_are_drawn_in_one_step(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off while it draws, the same line works again."""
    (program / "behave.py").write_text(GOOD)
    out, save = tmp_path / "out", dataset._save_photo

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "_save_photo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.run(out, "tiny", overwrite=False, counts={"train": 1})
    assert list(out.iterdir()) == []
    temporary_path(out / "DermaVQA", is_folder=True).mkdir()  # of one that was killed
    monkeypatch.setattr(dataset, "_save_photo", save)
    demo.run(out, "tiny", overwrite=False, counts={"train": 1})
    assert [path.name for path in out.iterdir()] == ["DermaVQA"]


def test_sigterm_is_passed_on_to_the_step(program: Path) -> None:
    """It comes to one process, unlike a Ctrl-C: without this, the demo would wait a minute for the step to end."""
    (program / "behave.py").write_text(
        "import time, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
        f"pathlib.Path({str(program / 'ready')!r}).touch()\n"
        "time.sleep(50)"
    )
    code = (
        "import sys, pathlib, signal\n"
        "from magic_cli.commands import demo\nfrom magic_cli.errors import Interrupted\n"
        "from magic_cli.io.signals import raise_interrupt\n"
        "signal.signal(signal.SIGTERM, raise_interrupt)\n"
        f"sys.executable = {sys.executable!r}\n"
        "try: demo.run(pathlib.Path('out'), 'tiny', False, {'train': 1})\n"
        "except Interrupted as error: sys.exit(error.exit_code)"
    )
    python = (program / "fake").read_text().splitlines()[0][2:]
    driver = subprocess.Popen([python, "-c", code], cwd=program, stderr=subprocess.DEVNULL)
    try:
        wait_for(program / "ready", driver)
        driver.terminate()
        assert driver.wait(120) == 130
    finally:
        driver.kill()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if path.exists():
            return
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    pytest.fail(f"{path.name} did not come")
