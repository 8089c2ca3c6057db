"""Nothing of a patient in messages of commands that fail, nothing sent anywhere, and every place of data is shown."""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from challenge_folders import image_id
from harness import CANARY, Ended, Magic, accepted, clean, copied, left, refused

TRAIN = ("train", "cvqa", "--preset", "tiny", "--modality", "text", "--no-cache")


def spoil(data: Path, how: str) -> None:
    """Break a raw folder in one way that makes messages about rows with a patient's text."""
    table = data / "train.json"
    rows = json.loads(table.read_text(encoding="utf-8"))
    if how == "an id that is the text":
        rows[0]["encounter_id"] = [CANARY]
    elif how == "a photo that is the text":
        rows[0]["image_ids"] = [{CANARY: CANARY}]
    elif how == "responses that are the text":
        rows[0]["responses"] = CANARY
    elif how == "images that are the text":
        rows[0]["image_ids"] = CANARY
    elif how == "an encounter twice":
        rows.append(rows[0])
    elif how == "cut in a text":
        text = table.read_text(encoding="utf-8")
        table.write_text(text[: text.index(CANARY) + len(CANARY) // 2], encoding="utf-8")
        return
    elif how == "a stray quote in a text":
        table.write_text(table.read_text(encoding="utf-8").replace(CANARY, f'{CANARY[:9]}"{CANARY[9:]}', 1))
        return
    elif how == "Latin-1 in a text":
        table.write_bytes(table.read_bytes().replace(CANARY.encode(), CANARY.encode() + b"\xe9", 1))
        return
    table.write_text(json.dumps(rows), encoding="utf-8")


SPOILT = (
    *("an id that is the text", "a photo that is the text", "responses that are the text", "images that are the text"),
    *("an encounter twice", "cut in a text", "a stray quote in a text", "Latin-1 in a text"),
)


@pytest.mark.parametrize("how", SPOILT)
def test_messages_about_raw_data(magic: Magic, raw: Path, tmp_path: Path, how: str) -> None:
    data = copied(raw, tmp_path / "raw")
    spoil(data, how)
    refused(magic("prepare", "--data", data, "--strict"), 3, "train.json")
    accepted(magic("prepare", "--data", data))
    assert "Xanthippe" not in Path("prepared/prepare.json").read_text(encoding="utf-8")
    assert "Xanthippe" not in Path("prepared/index.html").read_text(encoding="utf-8")


WORD = "Xanthippe"


def told(ended: Ended) -> None:
    """Check that one word of a patient is nowhere in what a command printed."""
    assert WORD not in ended.out + ended.err, ended


@pytest.mark.parametrize(
    "change",
    [
        lambda rows, _: rows[0].update(encounter_id=WORD),
        lambda rows, _: rows[0].update(encounter_id=[WORD]),
        lambda rows, _: rows[0].update(image_ids=[WORD]),
        lambda rows, _: rows[0].update(image_ids=[f"{WORD} w/o fever"]),
        lambda rows, _: rows[0].update(image_ids=[f"photos/{WORD}"]),
        lambda rows, _: rows[0].update(image_ids=WORD),
        lambda rows, _: rows[0].update(responses=WORD),
        lambda rows, _: rows[0].update({f"query_title_{WORD}": WORD}),
        lambda rows, _: rows.append({**rows[0], "encounter_id": WORD, "image_ids": rows[1]["image_ids"]}),
        lambda rows, _: rows.extend([{**rows[0], "encounter_id": WORD, "image_ids": []}] * 2),
        lambda _, answers: answers[0].update({WORD: 1}),
        lambda _, answers: answers[0].update({"CQID010-001": WORD}),
        lambda _, answers: answers[0].update(encounter_id=WORD),
        lambda _, answers: answers.append({"encounter_id": WORD, WORD: WORD}),
    ],
)
def test_one_word_of_a_patient_is_quoted_nowhere(
    magic: Magic, raw: Path, tmp_path: Path, change: Callable[[Any, Any], object]
) -> None:
    data = copied(raw, tmp_path / "raw")
    tables = [data / "train.json", data / "train_cvqa.json"]
    rows, answers = (json.loads(table.read_text(encoding="utf-8")) for table in tables)
    change(rows, answers)
    for table, value in zip(tables, (rows, answers), strict=True):
        table.write_text(json.dumps(value), encoding="utf-8")
    told(magic("prepare", "--data", data, "--strict"))
    told(accepted(magic("prepare", "--data", data, "--overwrite")))
    assert WORD not in Path("prepared/prepare.json").read_text(encoding="utf-8")
    assert WORD not in Path("prepared/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["id", "key", "value", "key twice", "id with a value"])
def test_one_word_of_a_patient_in_answers_and_gold(
    magic: Magic, ready: Path, raw: Path, tmp_path: Path, how: str
) -> None:
    [row, *others] = json.loads((raw / "valid_cvqa.json").read_text(encoding="utf-8"))
    change = {"id": {"encounter_id": WORD}, "key": {WORD: 1}, "value": {"CQID010-001": WORD}}
    row |= change.get(how, {"encounter_id": WORD, "CQID010-001": WORD} if how.startswith("id with") else {})
    text = json.dumps([row, *others])
    if how == "key twice":
        text = text.replace('"encounter_id"', f'"{WORD}": 1, "{WORD}": 2, "encounter_id"', 1)
    path = tmp_path / "data_cvqa_sys.json"
    path.write_text(text, encoding="utf-8")
    for words in (("package", "--cvqa", path, "--data", ready, "--split", "valid"), ("score", path, path)):
        told(magic(*words))
    told(magic("score", path, ready, "--split", "valid", "--resamples", 100, "--out", "report"))
    told(magic("predict", "cvqa", "--vote", path, path, "--data", ready, "--split", "valid"))


def test_reports_name_folders_as_typed(magic: Magic, ready: Path, raw: Path, tmp_path: Path) -> None:
    """The home folder is in run.json alone."""
    copied(ready, Path("prepared"))
    Path("sub").mkdir()
    Path("sub/data_cvqa_sys.json").write_bytes((raw / "valid_cvqa.json").read_bytes())
    accepted(magic("score", "sub", "prepared", "--resamples", 100, "--out", "rep"))
    found = [str(path) for path in Path("rep").iterdir() if str(tmp_path) in path.read_text(encoding="utf-8")]
    assert found == ["rep/run.json"]


@pytest.mark.parametrize("field", ["case_id", "split", "image_ids", "texts", "question", "answers", "label"])
def test_messages_about_prepared_data(magic: Magic, ready: Path, tmp_path: Path, field: str) -> None:
    """A column that slipped: the patient's words where something else belongs."""
    data = copied(ready, tmp_path / "prepared")
    path = data / "cases.jsonl"
    first, rest = path.read_text(encoding="utf-8").split("\n", 1)
    value = {field: [CANARY]} if field in ("case_id", "split", "question", "label") else {field: {CANARY: CANARY}}
    path.write_text(json.dumps(json.loads(first) | value) + "\n" + rest, encoding="utf-8")
    for words in (TRAIN, ("package", "--cvqa", "x"), ("score", "x", data)):
        ended = magic(*words, *(() if "score" in words else ("--data", data)))
        if field != "image_ids":
            refused(ended, 3, "cases.jsonl:1")
        clean(ended)


def test_messages_of_a_run_that_fails(magic: Magic, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library raises in the middle of a batch, the text that it choked on is not told."""

    def choke(self: object, text: str) -> list[int]:
        raise ValueError(f"cannot encode {text!r}")

    monkeypatch.setattr("magic_cli.models.encoders.TinyText.ids", choke)
    ended = magic(*TRAIN, "--data", ready)
    assert ended.code == 1
    assert "Xanthippe" not in ended.out + ended.err
    assert "unexpected ValueError in tasks/encoding.py:" in ended.err
    assert [name for name in left(Path()) if name.endswith(".tmp")] == []


def test_doctor_shows_every_place_and_how_to_clear_it(magic: Magic, raw: Path, tmp_path: Path) -> None:
    accepted(magic("prepare", "--data", raw))
    words = ("--preset", "tiny", "--set", "epochs=1")
    accepted(magic("train", "seg", *words))
    accepted(magic("predict", "seg", "--ckpt", "best.pt"))
    accepted(magic("package", "--seg", "predictions/seg"))
    ended = accepted(magic("doctor"), str(tmp_path / "cache"), "magic doctor --clear-cache")
    for name in ("prepared", "runs", "predictions", "submission.zip", "submission.zip.run.json"):
        [line] = [line for line in ended.out.splitlines() if re.search(rf"to remove it: rm -r \S*/{name}$", line)]
        subprocess.run(line.split(": ", 1)[1], shell=True, check=True)  # noqa: S602  the line that was shown
    accepted(magic("doctor", "--clear-cache"))
    assert left(Path()) == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert "to remove it" not in magic("doctor").out


def test_nothing_is_written_elsewhere(
    magic: Magic, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a home folder nor a temporary one gets anything."""
    for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME", "TORCH_HOME", "MPLCONFIGDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    accepted(magic(*TRAIN[:-1], "--set", "epochs=1", "--data", ready))
    accepted(magic("predict", "cvqa", "--ckpt", "best.pt", "--data", ready, "--split", "valid"))
    accepted(magic("score", "predictions/cvqa", ready, "--resamples", 100, "--out", "report"))
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"work", "cache"}


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_missing_weights_are_said_in_two_seconds(tmp_path: Path, task: str) -> None:
    """Before torch is loaded, with the files to bring by name."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "magic_cli", "train", task, "--preset", "paper"]
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 5
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # of work: others may be at work too
    for word in ("config.json", "model.safetensors", "tokenizer.json", "https://huggingface.co/", "--weights DIR"):
        assert word in done.stderr


@pytest.mark.parametrize("photo", ["IMG_ENC00001_00001.jpg"])
def test_where_a_photo_was_taken_is_not_in_a_page(magic: Magic, raw: Path, tmp_path: Path, photo: str) -> None:
    """EXIF holds places and names: pictures in pages are made anew, without any of it."""
    from PIL import Image

    data = copied(raw, tmp_path / "raw")
    path = next(data.rglob(f"{image_id(1)}.jpg"))
    exif = Image.Exif()
    exif[315], exif[270] = CANARY, CANARY
    Image.open(path).save(path, exif=exif, comment=CANARY.encode())
    assert b"Xanthippe" in path.read_bytes()
    accepted(magic("prepare", "--data", data))
    import base64

    page = Path("prepared/index.html").read_text(encoding="utf-8")
    pictures = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert pictures
    assert not [one for one in pictures if b"Xanthippe" in base64.b64decode(one)]
