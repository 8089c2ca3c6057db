"""`magic predict --images`: photos of any folder, without a prepared dataset, are predicted as those of a split are."""

import csv
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from run_options import predict_options, train_options
from typer.testing import CliRunner

import magic_cli
from magic_cli.cli import app
from magic_cli.commands.predict import PredictOptions, predict
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, DataError, MagicError
from magic_cli.io import schema
from magic_cli.io.json_files import read_jsonl
from magic_cli.records import Case

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def models(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two segmentation models, and one of closed questions, of the drawn dataset."""
    root = tmp_path_factory.mktemp("models")
    for name, seed in (("seg", 0), ("seg-2", 1), ("cvqa", 0)):
        options = train_options(root / "cache", "epochs=3", "batch_size=4", "lr=3e-2", seed=seed)
        magic_cli.train(name.partition("-")[0], drawn_prepared, root / name, options)
    return {name: root / name / "best.pt" for name in ("seg", "seg-2", "cvqa")}


def run(task: str, ckpt: Path | list[Path], out: Path, *images: Path | str, **options: Any) -> dict[str, Any]:
    result = predict(task, ckpt, out=out, options=predict_options(None, images=images, **options))
    row = result.to_json()
    assert schema.problems("predicted", {"schema": 1, "command": "predict", **row}, "result") == []
    return row


def photos_in(out: Path) -> dict[str, dict[str, Any]]:
    rows = list(read_jsonl(out / "photos.jsonl"))
    assert [line for row in rows for line in schema.problems("photo", row, "photos.jsonl")] == []
    return {row["image_id"]: row for row in rows}


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def mask_of(out: Path, name: str) -> np.ndarray:
    """Return a mask, which is there as TIFF of 0 and 1 and as PNG of 0 and 255."""
    mask = np.asarray(tifffile.imread(out / "masks_preds" / f"{name}_mask_sys.tiff"))
    assert np.array_equal(pixels_of(out / "masks" / f"{name}.png"), mask * 255)
    return mask


def valid_photos(drawn_prepared: Path) -> list[Path]:
    return [Path(str(image.path)) for image in open_prepared(drawn_prepared).images_of("valid")]


@pytest.fixture(scope="module")
def cut(drawn_prepared: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> float:
    """A threshold that an eighth of a photo is above: models of a few seconds are sure of nothing."""
    out, [photo, *_] = tmp_path_factory.mktemp("cut") / "out", valid_photos(drawn_prepared)
    run("seg", models["seg"], out, photo, probabilities=16)
    return float(np.quantile(pixels_of(out / "probabilities" / f"{photo.stem}.png"), 7 / 8) / 65535)


@pytest.mark.parametrize("kinds", [("seg",), ("seg", "seg-2")])
def test_masks_are_those_of_the_same_photos_in_a_split(
    drawn: Path, drawn_prepared: Path, models: dict[str, Path], tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    """One model or the mean of two: the same bytes, given the same words; links and copies are read like files."""
    ckpts = [models[kind] for kind in kinds]
    decided = {"largest": True, "fill_holes": True, "tta": True}
    predict("seg", ckpts, drawn_prepared, "valid", tmp_path / "split", predict_options(None, **decided))
    (tmp_path / "photos" / "copies").mkdir(parents=True)
    paths = valid_photos(drawn_prepared)
    for number, path in enumerate(paths):
        place = tmp_path / "photos" / ("copies" if number % 2 else "") / path.name
        shutil.copy(path, place) if number % 2 else place.symlink_to(path)
    row = run("seg", ckpts, tmp_path / "out", tmp_path / "photos", text=str(drawn / "valid.json"), **decided)
    assert row["photos"]["read"] == len(paths) > 2
    assert row["split"] is None
    names = sorted(path.name for path in (tmp_path / "split" / "masks_preds").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out" / "masks_preds").iterdir())
    for name in names:
        same = [(tmp_path / kind / "masks_preds" / name).read_bytes() for kind in ("split", "out")]
        assert same[0] == same[1], name
    assert photos_in(tmp_path / "out").keys() == {path.stem for path in paths}


def test_what_is_written_of_each_photo(
    drawn_prepared: Path, models: dict[str, Path], cut: float, tmp_path: Path
) -> None:
    photo = valid_photos(drawn_prepared)[0]
    row = run("seg", models["seg"], tmp_path / "out", photo, probabilities=16, threshold=cut)
    out, pixels = tmp_path / "out", pixels_of(photo)
    [(name, listed)] = photos_in(out).items()
    assert (listed["file"], listed["height"], listed["width"]) == (str(photo), *pixels.shape[:2])
    mask, grey = mask_of(out, name), pixels_of(out / "probabilities" / f"{name}.png")
    assert mask.mean() == pytest.approx(1 / 8, abs=0.01)
    assert grey.dtype == np.uint16
    assert grey[mask > 0].min() >= grey[mask == 0].max()
    assert listed["lesion_share"] == pytest.approx(mask.mean(), abs=1e-6)
    assert listed["mean_probability"] == pytest.approx(grey[mask > 0].mean() / 65535, abs=1e-4)
    assert listed["regions"] >= 1
    overlay = pixels_of(out / listed["overlay"])
    assert overlay.shape == pixels.shape
    changed = np.abs(overlay.astype(int) - pixels).max(2) > 12
    assert changed[mask > 0].mean() > 0.95
    assert changed[mask == 0].mean() < 0.2
    assert row["files"] == len([path for path in out.rglob("*") if path.is_file()]) - 1  # less run.json
    eight = run("seg", models["seg"], tmp_path / "plain", photo, probabilities=8, overlays=False)
    assert eight["files"] == row["files"] - 1
    coarse = pixels_of(tmp_path / "plain" / "probabilities" / f"{name}.png")
    assert coarse.dtype == np.uint8
    assert np.abs(coarse.astype(int) * 257 - grey).max() <= 129
    assert photos_in(tmp_path / "plain")[name]["overlay"] is None


def test_overlays_and_probabilities_of_a_split(drawn_prepared: Path, models: dict[str, Path], tmp_path: Path) -> None:
    """They change no mask, and nothing that scores or packs the folder takes them for predictions."""
    options = predict_options(None, overlays=True, probabilities=8)
    result = predict("seg", models["seg"], drawn_prepared, "valid", tmp_path / "out", options)
    photos = valid_photos(drawn_prepared)
    assert result.files == 3 * len(photos)
    assert not (tmp_path / "out" / "photos.jsonl").exists()
    report = magic_cli.score(tmp_path / "out", drawn_prepared, magic_cli.ScoreOptions(split="valid"))
    [scores] = report.systems[0].tasks
    assert scores.scores["number_segmentation_instances"] == len(photos)
    assert not scores.rejected
    packed = magic_cli.package(tmp_path / "out", data=drawn_prepared, split="valid", out=tmp_path / "masks.zip")
    assert packed.exit_code == 0
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        assert sorted(archive.namelist())[1:] == [f"masks_preds/{photo.stem}_mask_sys.tiff" for photo in photos]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_photo_is_seen_upright_and_its_mask_lies_on_the_stored_pixels(
    drawn_prepared: Path, models: dict[str, Path], cut: float, tmp_path: Path, orientation: int
) -> None:
    """The same upright photo, stored in any orientation: the mask of the upright one, turned as the pixels are."""
    upright = Image.fromarray(pixels_of(valid_photos(drawn_prepared)[0])).crop((20, 30, 290, 210))
    turns = Image.Transpose
    stored_by = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright.save(tmp_path / "upright.png")
    upright.transpose(stored_by[orientation]).save(tmp_path / "turned.png", exif=exif)
    out = tmp_path / "out"
    run("seg", models["seg"], out, tmp_path / "upright.png", tmp_path / "turned.png", probabilities=8, threshold=cut)
    plain = mask_of(out, "upright")
    assert not np.array_equal(plain, plain[::-1])
    expected = np.asarray(Image.fromarray(plain).transpose(stored_by[orientation]))
    assert np.array_equal(mask_of(out, "turned"), expected)
    rows = photos_in(out)
    assert (rows["turned"]["height"], rows["turned"]["width"]) == expected.shape
    assert rows["turned"]["orientation"] == orientation
    overlays = [pixels_of(out / rows[name]["overlay"]) for name in ("upright", "turned")]
    assert np.array_equal(overlays[0], overlays[1])
    maps = [pixels_of(out / "probabilities" / f"{name}.png") for name in ("upright", "turned")]
    assert np.array_equal(maps[1], np.asarray(Image.fromarray(maps[0]).transpose(stored_by[orientation])))


@pytest.fixture
def odd(drawn_prepared: Path, tmp_path: Path) -> Path:
    """A folder as people have them: other modes, one name twice, what is no photo, masks, and an older result."""
    root, photo = tmp_path / "odd", Image.fromarray(pixels_of(valid_photos(drawn_prepared)[0]))
    for name in ("a/IMG.jpg", "b/img.JPG", "c d/m\u00f6le: 1?.png", "mole.png", "mole_mask.png", "masks/IMG.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(root / name)
    photo.convert("L").save(root / "grey.png")
    photo.convert("CMYK").save(root / "cmyk.jpg")
    photo.convert("RGBA").save(root / "alpha.png")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(root / "sixteen.png")
    (root / "empty.jpg").touch()
    (root / "words.jpg").write_text("hello")
    (root / "cut.jpg").write_bytes((root / "a/IMG.jpg").read_bytes()[:900])
    (root / "notes.txt").write_text("hello")
    (root / "lost.jpg").symlink_to("nowhere.jpg")
    (root / "a" / "again").symlink_to("..")
    os.mkfifo(root / "pipe.jpg")
    return root


def test_a_folder_of_anything(odd: Path, models: dict[str, Path]) -> None:
    """What is no photo is told, the rest is predicted; results may lie in the folder itself."""
    for _ in range(2):
        row = run("seg", models["seg"], odd / "out", odd, overwrite=True)
        rows = photos_in(odd / "out")
        expected = {"a_IMG", "b_img", "m\u00f6le_ 1_", "mole", "grey", "cmyk", "alpha", "sixteen"}
        assert rows.keys() == expected
        assert row["photos"]["read"] == len(expected)
    lines = [line.partition(": ")[::2] for line in row["photos"]["unreadable"]]
    assert {Path(where).name for where, _ in lines} == {"empty.jpg", "words.jpg", "cut.jpg", "lost.jpg", "pipe.jpg"}
    assert all("expected" in message for _, message in lines)
    assert {name: item["case_id"] for name, item in rows.items() if item["case_id"] != "odd"} == {
        "a_IMG": "a",
        "b_img": "b",
        "m\u00f6le_ 1_": "c d",
    }
    assert np.array_equal(mask_of(odd / "out", "a_IMG"), mask_of(odd / "out", "b_img"))


def test_nothing_that_can_be_read_is_exit_code_3(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "empty.jpg").touch()
    ckpt = str(models["seg"])
    for images, message in (
        ("photos/empty.jpg", "got an empty file"),
        ("photos", "got an empty file"),
        ("nowhere", "got no such file or folder"),
    ):
        words = ["predict", "seg", "--ckpt", ckpt, "--images", str(tmp_path / images), "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app.app, words)
        assert isinstance(result.exception, DataError)
        assert message in str(result.exception)
        assert result.exception.exit_code == 3
        assert not (tmp_path / "out").exists()


def test_cases_are_folders_or_encounters_and_answers_come_in_words(
    drawn: Path, drawn_prepared: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    """The answers of a split, given the same photos and words; a table of words beside the codes."""
    prepared = open_prepared(drawn_prepared)
    predict("cvqa", models["cvqa"], drawn_prepared, "valid", tmp_path / "split", predict_options(None))
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in valid_photos(drawn_prepared):
        shutil.copy(path, photos)
    row = run("cvqa", models["cvqa"], tmp_path / "out", photos, text=str(drawn / "valid.json"))
    assert row["photos"]["cases"] == len(prepared.cases_of("valid"))
    answers = [
        {item["encounter_id"]: item for item in json.loads((tmp_path / kind / "data_cvqa_sys.json").read_text())}
        for kind in ("split", "out")
    ]
    assert answers[0] == answers[1]
    with (tmp_path / "out" / "answers.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(answers[0]) * len(prepared.questions.parents)
    rows = {name: {qid: item[qid] for qid in prepared.questions.by_qid} for name, item in answers[0].items()}
    sets = {name: prepared.questions.to_sets(item) for name, item in rows.items()}
    for line in table:
        chosen = {int(option) for option in line["options"].split()}
        expected = sets[line["case_id"]][line["question_id"]]
        unknown = prepared.questions.not_mentioned(line["question_id"])
        assert chosen == (expected - {unknown} or expected)
        qid = prepared.questions.parents[line["question_id"]][0]
        assert line["answer"].split("; ") == [prepared.questions.option(qid, option) for option in sorted(chosen)]


def test_words_for_one_case_and_tables_for_several(
    drawn_prepared: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    """Words reach the model; a folder is a case; rows name a case, a photo or a file; who has none is told."""
    source = valid_photos(drawn_prepared)[:3]
    for number, path in enumerate(source, 1):
        (tmp_path / f"p/case{number}").mkdir(parents=True)
        shutil.copy(path, tmp_path / f"p/case{number}/photo{number}.png")
    one, ckpt = tmp_path / "p" / "case1", models["cvqa"]
    (tmp_path / "words.txt").write_text("It itches at night. I am 40 years old.")
    (tmp_path / "t.csv").write_text("file;text\nphoto1.png;It itches at night. I am 40 years old.\nnobody;x\n")
    given = {
        "words": "It itches at night. I am 40 years old.",
        "file": str(tmp_path / "words.txt"),
        "table": str(tmp_path / "t.csv"),
        "none": None,
    }
    answers = {}
    for name, text in given.items():
        row = run("cvqa", ckpt, tmp_path / name, one, text=text)
        assert (row["photos"]["cases"], row.get("samples", 1)) == (1, 1)
        answers[name] = (tmp_path / name / "predictions.jsonl").read_text()
    assert answers["words"] == answers["file"] == answers["table"] != answers["none"]
    lines = predict("cvqa", ckpt, out=tmp_path / "said", options=predict_options(None, images=(one,))).lines()
    assert sum(line.startswith("CQID") for line in lines) == len(open_prepared(drawn_prepared).questions.parents)
    assert run("cvqa", ckpt, tmp_path / "three", tmp_path / "p", text=str(tmp_path / "t.csv"))["photos"]["cases"] == 3
    for text, message in (
        ("It itches.", r"got one text for 3 cases \(case1, case2, case3\), expected one case; give a table"),
        ("missing.txt", "missing.txt: got no such file"),
    ):
        with pytest.raises(MagicError, match=message):
            run("cvqa", ckpt, tmp_path / "no", tmp_path / "p", text=text)
    (tmp_path / "t.csv").write_text("file,text\nnobody.png,x\n")
    with pytest.raises(DataError, match="got 1 row, none about these photos"):
        run("cvqa", ckpt, tmp_path / "no", tmp_path / "p", text=str(tmp_path / "t.csv"))


def test_a_call_is_recorded_and_repeated(drawn_prepared: Path, models: dict[str, Path], tmp_path: Path) -> None:
    photos = valid_photos(drawn_prepared)[:2]
    run("seg", models["seg"], tmp_path / "out", *photos, limit=1)
    assert len(photos_in(tmp_path / "out")) == 1
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert schema.problems("run", record, "run.json") == []
    assert {str(photo) for photo in photos} <= {str(Path(name)) for name in record["inputs"]}
    assert magic_cli.rerun(tmp_path / "out").identical
    options = predict_options(None, images=photos, limit=1, overwrite=True)
    assert (
        "4 files from the first 1 of 2 photos (--limit)"
        in predict("seg", models["seg"], out=tmp_path / "out", options=options).lines()[-1]
    )
    with pytest.raises(DataError, match="already there"):
        run("seg", models["seg"], tmp_path / "out", *photos)
    (tmp_path / "out" / "overlays" / "mine.png").touch()
    run("seg", models["seg"], tmp_path / "out", *photos, overwrite=True, overlays=False)
    assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["mine.png"]


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("retrieve", {}, r"expected --data and --split; `magic search --image PHOTO` finds"),
        ("cvqa", {"overlays": True}, "--overlays, --probabilities: of another task than 'cvqa'"),
        ("cvqa", {"neighbours": "index"}, "--neighbours with --images"),
        ("seg", {"probabilities": 12}, "got 12, expected 8 or 16 bits"),
        ("seg", {"images": (), "text": "x"}, "--text: got it without --images"),
        ("seg", {"data": "prepared-2"}, "--images with --data or --split"),
    ],
)
def test_what_is_refused(
    drawn_prepared: Path, models: dict[str, Path], tmp_path: Path, task: str, options: dict[str, Any], message: str
) -> None:
    images, data = options.get("images", (valid_photos(drawn_prepared)[0],)), options.get("data", "prepared")
    more = {name: value for name, value in options.items() if name not in ("images", "data")}
    with pytest.raises((ConfigError, DataError), match=message):
        predict(task, models["seg"], data, out=tmp_path / "out", options=PredictOptions(images=images, **more))


def test_every_item_of_a_split_is_predicted_with_gold_or_without(
    drawn: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    """Photos without masks and encounters without answers are in a valid split like all others."""
    raw = tmp_path / "raw"
    shutil.copytree(drawn, raw)
    masks = sorted(raw.rglob("valid/*_mask_ann*.tiff"))
    first = masks[0].name.partition("_mask_")[0]
    for path in masks:
        if path.name.startswith(first):
            path.unlink()
    answers = json.loads((raw / "valid_cvqa.json").read_text())
    (raw / "valid_cvqa.json").write_text(json.dumps(answers[1:]))
    magic_cli.prepare(raw, tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    cases: tuple[Case, ...] = prepared.cases_of("valid")
    assert not prepared.images[first].annotators
    assert [case.answers is None for case in cases].count(True) == 1
    for task in ("seg", "cvqa"):
        predict(task, models[task], tmp_path / "prepared", "valid", tmp_path / task, predict_options(None))
    assert len(list((tmp_path / "seg" / "masks_preds").iterdir())) == len(prepared.images_of("valid"))
    assert len(json.loads((tmp_path / "cvqa" / "data_cvqa_sys.json").read_text())) == len(cases)
