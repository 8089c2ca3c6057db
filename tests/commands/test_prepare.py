"""prepare: the whole step, on drawn data, damaged data and, where it is there, real data."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from challenge_folders import draw_lesion, draw_photo, image_id, make_challenge, save_mask, save_photo, write_json
from PIL import Image

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.commands.prompt_counter import PromptCounter
from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.prepared import MEAN_MASK, PAGE, open_prepared
from magic_cli.data.prompt_lengths import PromptStatistics
from magic_cli.data.sources.dermavqa.reader import Challenge, open_challenge
from magic_cli.errors import ConfigError, DataError
from magic_cli.io import schema, staging
from magic_cli.models.weights import minilm_dir

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TRAIN = "images_final/images_train"
MASKS = "dermavqa-seg-trainvalid/dermavqa-segmentations/train"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_challenge(tmp_path / "DermaVQA")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tall(root: Path, orientation: int, mask_size: tuple[int, int], encounter: int = 1) -> None:
    """Replace the first photo of an encounter by one with an EXIF orientation, and its masks by others."""
    save_photo(root / TRAIN / f"{image_id(encounter)}.jpg", draw_photo(), orientation)
    for annotator in range(2):
        save_mask(root / MASKS / f"{image_id(encounter)}_mask_ann{annotator}.tiff", draw_lesion(mask_size))


def counted(challenge: Challenge) -> PromptStatistics | None:
    counter = PromptCounter(challenge.issues)
    for case in challenge.cases.values():
        counter.add(case)
    return counter.statistics()


def test_prompts_are_tokenized_some_at_a_time(challenge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tokenizer returns for 3,000 encounters took 50 MiB."""
    found = open_challenge(challenge)
    monkeypatch.setattr("magic_cli.commands.prompt_counter._COUNTED", 40)  # a text of 46 MB took minutes and gigabytes
    whole, asked = counted(found), []
    original = tokenizers.Tokenizer

    class Watched:
        def __init__(self) -> None:
            self.made = original.from_file(str(minilm_dir() / "tokenizer.json"))
            self.no_truncation, self.no_padding = self.made.no_truncation, self.made.no_padding

        @classmethod
        def from_file(cls, _: str) -> "Watched":
            return cls()

        def encode_batch(self, texts: list[str], **options: bool) -> list[Any]:
            asked.append(len(texts))
            assert max(map(len, texts)) <= 40
            return self.made.encode_batch(texts, **options)

    monkeypatch.setattr(tokenizers, "Tokenizer", Watched)
    monkeypatch.setattr("magic_cli.commands.prompt_counter._CASES", 2)
    assert counted(found) == whole
    assert asked == [4, 4, 4, 2]


def test_manifest(challenge: Path, prepared: Path, tmp_path: Path) -> None:
    manifest = json.loads((prepared / "prepare.json").read_text(encoding="utf-8"))
    assert schema.problems("prepared", manifest, "prepare.json") == []
    settings = {"merge": "or", "prompt": "qa", "responses": True, "source": "dermavqa", "split_rule": "official"}
    assert settings.items() <= manifest["settings"].items()
    assert manifest["counts"]["train"] == {
        "cases": 3, "listed": 4, "images": 4, "masks": 8, "annotators": {"2": 4}, "answered": 3,
    }  # fmt: skip
    assert manifest["counts"]["test"] == {
        "cases": 2, "listed": 3, "images": 3, "masks": 0, "annotators": {"0": 3}, "answered": 0,
    }  # fmt: skip
    assert manifest["mask_values"] == {"0/1": 14}
    one, other = draw_lesion(), draw_lesion(shift=1)
    dice = 2 * np.sum(one & other) / np.sum(one + other)
    assert manifest["agreement"]["images"] == 7
    assert manifest["agreement"]["mean_dice"] == pytest.approx(dice, abs=1e-6)
    assert manifest["agreement"]["median_dice"] == pytest.approx(dice, abs=1e-6)
    assert (manifest["problems"], manifest["published"]) == ([], None)
    assert manifest["agreement"]["histogram"] == [7 * (k == int(20 * dice)) for k in range(20)]
    assert [row["image"] for row in manifest["agreement"]["lowest"]][:2] == [image_id(1), image_id(1, 2)]
    assert [window["tokens"] for window in manifest["prompts"]["windows"]] == [77, 256]
    lengths = manifest["prompts"]["lengths"]
    assert {split: sum(lengths[split]) for split in ("train", "valid", "test")} == {"train": 3, "valid": 2, "test": 2}
    assert manifest["inputs"]["photos"]["count"] == 10
    assert manifest["inputs"]["masks"]["count"] == 14
    assert str(challenge) not in json.dumps(manifest)
    assert sorted(p.name for p in prepared.iterdir()) == [
        "cases.jsonl", "images.jsonl", "index.html", "masks", "mean_mask.png", "prepare.json", "questions.json",
        "run.json",
    ]  # fmt: skip


def test_same_inputs_give_the_same_bytes(challenge: Path, prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(challenge, tmp_path / challenge.name)
    prepare(tmp_path / challenge.name, tmp_path / "prepared")
    again, first = snapshot(tmp_path / "prepared"), snapshot(prepared)
    assert again.pop("run.json") != first.pop("run.json")  # it says where
    assert again == first


def test_raw_folder_is_never_changed(folder: Path, tmp_path: Path) -> None:
    before = snapshot(folder)
    prepare(folder, folder / "prepared")
    assert {k: v for k, v in snapshot(folder).items() if not k.startswith("prepared/")} == before
    prepare(folder, folder / "prepared", PrepareOptions(overwrite=True))  # and what lies in it already is passed over


@pytest.mark.parametrize("layout", ["flat", "odd"])
def test_layouts(layout: str, tmp_path: Path) -> None:
    prepare(make_challenge(tmp_path / "my data (2)", layout=layout), tmp_path / "prepared")
    found = open_prepared(tmp_path / "prepared")
    assert len(found.images) == 10
    assert all(image.path is not None and Path(image.path).is_file() for image in found.images.values())


@pytest.mark.parametrize(
    ("merge", "expected"),
    [("or", draw_lesion() | draw_lesion(shift=1) | draw_lesion(shift=2)), ("majority", draw_lesion(shift=1)),
     ("intersection", draw_lesion() & draw_lesion(shift=1) & draw_lesion(shift=2)), ("each", None)],
)  # fmt: skip
def test_merge(merge: str, expected: np.ndarray | None, tmp_path: Path) -> None:
    root = make_challenge(tmp_path / "d", annotators=3, high=255)
    manifest = prepare(root, tmp_path / "prepared", PrepareOptions(merge=merge)).to_json()
    image = open_prepared(tmp_path / "prepared").images[image_id(1)]
    assert len(image.annotators) == 3
    assert manifest["mask_values"] == {"0/255": 21}
    if expected is None:
        assert image.mask is None
        assert not (tmp_path / "prepared" / "masks").exists()
    else:
        assert image.mask is not None
        votes = sum(draw_lesion(shift=shift).astype(int) for shift in range(3))
        wanted = votes >= 2 if merge == "majority" else expected
        np.testing.assert_array_equal(read_mask(image.mask, "m"), wanted)


def mean_mask(prepared: Path) -> np.ndarray:
    with Image.open(prepared / MEAN_MASK) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 64))
        return np.asarray(image)


@pytest.mark.parametrize("merge", ["or", "majority", "intersection", "each"])
def test_mean_mask_is_that_of_the_merged_train_masks(merge: str, tmp_path: Path) -> None:
    root = make_challenge(tmp_path / "d", splits={"train": 1, "valid": 1}, size=(128, 192), annotators=3)
    for mask in sorted((root / MASKS).iterdir()):
        number = int(mask.stem[-1])
        ones = np.zeros((128, 192), np.uint8)
        if image_id(1) in mask.name:  # the other photo's masks are empty
            ones[: 32 * (number + 1)] = 1
        save_mask(mask, ones)
    prepare(root, tmp_path / "p", PrepareOptions(merge=merge))
    # share of the annotators of the one photo, of two, in quarters of the height
    shares = {"or": (1, 1, 1, 0), "majority": (1, 1, 0, 0), "intersection": (1, 0, 0, 0), "each": (1, 2 / 3, 1 / 3, 0)}
    wanted = np.repeat(np.rint(255 * np.array(shares[merge]) / 2), 16)
    np.testing.assert_array_equal(mean_mask(tmp_path / "p"), np.tile(wanted[:, None], (1, 64)))


def test_no_train_masks_no_mean_mask(tmp_path: Path) -> None:
    prepare(make_challenge(tmp_path / "d", splits={"valid": 2, "test": 1}), tmp_path / "p")
    assert not (tmp_path / "p" / MEAN_MASK).exists()
    assert len(open_prepared(tmp_path / "p").images) == 5


def test_the_page_and_the_mean_mask_leave_the_manifest_as_it_is(
    prepared: Path, challenge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magic_cli.commands.prepare.prepare_page.html", lambda *_: "another page")
    prepare(challenge, tmp_path / "p")
    assert (tmp_path / "p" / PAGE).read_text(encoding="utf-8") == "another page"
    assert open_prepared(tmp_path / "p").sha256 == open_prepared(prepared).sha256
    for name in (PAGE, MEAN_MASK):
        (tmp_path / "p" / name).unlink()
    assert open_prepared(tmp_path / "p").sha256 == open_prepared(prepared).sha256


def test_unknown_settings(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--merge: got mean, expected or or majority or intersection or each"):
        prepare(folder, tmp_path / "prepared", PrepareOptions(merge="mean"))
    with pytest.raises(ConfigError, match="--prompt: got everything"):
        prepare(folder, tmp_path / "prepared", PrepareOptions(prompt="everything"))
    assert not (tmp_path / "prepared").exists()


def test_prompts_and_responses(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "a", PrepareOptions(responses=False))
    found = open_prepared(tmp_path / "a")
    assert found.manifest.settings.responses is False
    assert all(e.answer == "" and e.responses == () for e in found.cases.values())
    assert "Eczema" not in (tmp_path / "a" / "cases.jsonl").read_text(encoding="utf-8")
    assert [window.kept_answer for window in found.manifest.prompts.windows] == [None, None]
    prepare(folder, tmp_path / "b", PrepareOptions(prompt="fixed"))
    assert {(e.question, e.answer) for e in open_prepared(tmp_path / "b").cases.values()} == {("skin lesion", "")}


def test_prompt_windows_by_hand(tmp_path: Path) -> None:
    root = make_challenge(tmp_path / "d", splits={"train": 2}, photos=False, annotators=0)
    rows = json.loads((root / "train.json").read_text(encoding="utf-8"))
    for row, words in zip(rows, (100, 10), strict=True):
        for key in [key for key in row if key.startswith("query")]:
            del row[key]
        row |= {"query_content_en": "red " * words, "responses": [{"content_en": "skin " * 50}]}
    write_json(root / "train.json", rows)
    clip, minilm = prepare(root, tmp_path / "out", PrepareOptions(dry_run=True)).to_json()["prompts"]["windows"]
    # room for 77 - 2 special tokens, nothing between the halves: (100, 50) keeps (38, 37), (10, 50) keeps all
    assert (clip["exceed"], clip["prompts"]) == (1, 2)
    assert clip["exceed_by_split"] == {"train": 1, "valid": 0, "test": 0}
    assert clip["kept_question"] == pytest.approx((38 / 100 + 1) / 2, abs=1e-6)
    assert clip["kept_answer"] == pytest.approx((37 / 50 + 1) / 2, abs=1e-6)
    assert (minilm["exceed"], minilm["kept_question"], minilm["kept_answer"]) == (0, 1.0, 1.0)


# ---- orientation: one rule, the mask decides


@pytest.mark.parametrize(("mask_size", "upright"), [((48, 64), False), ((64, 48), True)])
def test_mask_decides_orientation(mask_size: tuple[int, int], upright: bool, folder: Path, tmp_path: Path) -> None:
    tall(folder, 6, mask_size)
    manifest = prepare(folder, tmp_path / "prepared").to_json()
    image = open_prepared(tmp_path / "prepared").images[image_id(1)]
    assert manifest["problems"] == []
    assert (image.upright, image.height, image.width) == (upright, *mask_size)
    assert image.mask is not None
    assert read_mask(image.mask, "m").shape == mask_size
    assert manifest["orientation"]["upright" if upright else "raw"] == 1


def test_photos_whose_masks_cannot_tell_follow_the_majority(folder: Path, tmp_path: Path) -> None:
    test = folder / "images_final" / "images_test" / f"{image_id(6)}.jpg"
    save_photo(test, draw_photo(), 6)  # a test photo: its masks are hidden
    manifest = prepare(folder, tmp_path / "a").to_json()
    assert manifest["orientation"] == {"photos": 1, "raw": 0, "upright": 0, "undecided": 1, "rule": "upright"}
    assert open_prepared(tmp_path / "a").images[image_id(6)].upright  # no mask tells: as people see it
    assert any("(read as upright, as no mask tells" in note for note in manifest["notes"])
    tall(folder, 6, (64, 48), 1)
    tall(folder, 8, (64, 48), 2)
    tall(folder, 6, (48, 64), 3)
    manifest = prepare(folder, tmp_path / "b").to_json()
    assert manifest["orientation"] == {"photos": 4, "raw": 1, "upright": 2, "undecided": 1, "rule": "upright"}
    image = open_prepared(tmp_path / "b").images[image_id(6)]
    assert (image.upright, image.height, image.width) == (True, 64, 48)
    assert any("4 photos have an EXIF orientation" in note for note in manifest["notes"])


def test_half_turn_cannot_be_told_from_the_size(folder: Path, tmp_path: Path) -> None:
    tall(folder, 3, (48, 64))
    assert prepare(folder, tmp_path / "p", PrepareOptions(dry_run=True)).to_json()["orientation"]["undecided"] == 1


def test_annotators_who_disagree_about_orientation(folder: Path, tmp_path: Path) -> None:
    tall(folder, 6, (64, 48))
    save_mask(folder / MASKS / f"{image_id(1)}_mask_ann1.tiff", draw_lesion((48, 64)))
    manifest = prepare(folder, tmp_path / "p").to_json()
    image = open_prepared(tmp_path / "p").images[image_id(1)]
    assert (image.upright, sorted(image.annotators)) == (False, ["ann1"])  # a tie: the photo as stored
    assert len(manifest["problems"]) == 1
    assert "_mask_ann0.tiff: got a transposed mask, height x width 64 x 48" in manifest["problems"][0]


# ---- lost data


def test_transposed_mask_is_left_out(folder: Path, tmp_path: Path) -> None:
    save_mask(folder / MASKS / f"{image_id(1)}_mask_ann0.tiff", draw_lesion((64, 48)))
    manifest = prepare(folder, tmp_path / "p").to_json()
    assert len(manifest["problems"]) == 1
    assert manifest["problems"][0].startswith(f"{MASKS}/{image_id(1)}_mask_ann0.tiff: got a transposed mask")
    assert manifest["left_out"] == {"cases": 0, "images": 0, "masks": 1, "answers": 0}
    image = open_prepared(tmp_path / "p").images[image_id(1)]
    assert sorted(image.annotators) == ["ann1"]
    assert image.mask is not None
    np.testing.assert_array_equal(read_mask(image.mask, "m"), draw_lesion(shift=1))


def test_photo_none_of_whose_masks_fits_stays_without_them(folder: Path, tmp_path: Path) -> None:
    save_mask(folder / MASKS / f"{image_id(1)}_mask_ann0.tiff", draw_lesion((40, 40)))
    save_mask(folder / MASKS / f"{image_id(1)}_mask_ann1.tiff", draw_lesion() * np.uint8(3))
    manifest = prepare(folder, tmp_path / "p").to_json()
    assert len(manifest["problems"]) == 2
    text = "\n".join(manifest["problems"])
    assert "got height x width 40 x 40, expected 48 x 64" in text
    assert "got values {0, 3}, expected {0, 1} or {0, 255}" in text
    assert manifest["left_out"] == {"cases": 0, "images": 0, "masks": 2, "answers": 0}
    assert manifest["counts"]["train"]["images"] == 4
    found = open_prepared(tmp_path / "p")
    photo = found.images[image_id(1)]
    assert (photo.mask, photo.annotators) == (None, {})
    assert found.cases["ENC00001"].image_ids == (image_id(1), image_id(1, 2))
    assert not (tmp_path / "p" / "masks" / f"{image_id(1)}.tiff").exists()


def test_damaged_photos(folder: Path, tmp_path: Path) -> None:
    path = folder / TRAIN / f"{image_id(1)}.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    (folder / TRAIN / f"{image_id(2)}.jpg").write_bytes(b"")
    manifest = prepare(folder, tmp_path / "p").to_json()
    assert [line.partition(", ")[0] for line in manifest["problems"]] == [
        f"{TRAIN}/{image_id(1)}.jpg: got a truncated photo",
        f"{TRAIN}/{image_id(2)}.jpg: got an empty file",
    ]
    assert manifest["left_out"]["images"] == 2
    assert manifest["counts"]["train"]["images"] == 2
    assert len(open_prepared(tmp_path / "p").images) == 8


def test_unreadable_mask_of_a_test_photo_keeps_the_photo(folder: Path, tmp_path: Path) -> None:
    mask = folder / "masks" / f"{image_id(6)}_mask_ann0.tiff"
    mask.parent.mkdir()
    mask.write_bytes(b"not a mask")
    manifest = prepare(folder, tmp_path / "p").to_json()
    assert len(manifest["problems"]) == 1
    assert open_prepared(tmp_path / "p").images[image_id(6)].mask is None


def test_strict_lists_everything_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / TRAIN / f"{image_id(1)}.jpg").write_bytes(b"")
    save_mask(folder / MASKS / f"{image_id(2)}_mask_ann0.tiff", draw_lesion((64, 48)))
    for dry_run in (False, True):
        with pytest.raises(DataError) as caught:
            prepare(folder, tmp_path / "p", PrepareOptions(strict=True, dry_run=dry_run))
        assert caught.value.exit_code == 3
        assert len(caught.value.problems) == 3
        assert caught.value.problems[-1].startswith("2 problems; nothing was written")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DermaVQA"]


def test_strict_accepts_sound_data_and_notes(tmp_path: Path) -> None:
    root = make_challenge(tmp_path / "d", definitions=False)
    assert prepare(root, tmp_path / "p", PrepareOptions(strict=True)).to_json()["notes"]


def test_dry_run_finds_the_same_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / TRAIN / f"{image_id(1)}.jpg").write_bytes(b"")
    dry = prepare(folder, tmp_path / "p", PrepareOptions(dry_run=True)).to_json()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DermaVQA"]
    assert dry == prepare(folder, tmp_path / "p").to_json()


def test_text_only(tmp_path: Path) -> None:
    root = make_challenge(tmp_path / "d", photos=False, annotators=0)
    manifest = prepare(root, tmp_path / "p").to_json()
    found = open_prepared(tmp_path / "p")
    assert manifest["notes"] == ["0 of 10 photos found: text-only dataset"]
    assert (manifest["problems"], manifest["agreement"], found.images) == ([], None, {})
    assert len(found.cases) == 7


def test_one_annotator_has_nobody_to_agree_with_and_two_empty_masks_agree(folder: Path, tmp_path: Path) -> None:
    assert prepare(make_challenge(tmp_path / "one", annotators=1), tmp_path / "p").to_json()["agreement"] is None
    root = make_challenge(tmp_path / "two", splits={"train": 1})
    for mask in (root / MASKS).iterdir():
        save_mask(mask, np.zeros((48, 64), np.uint8))
    agreement = prepare(root, tmp_path / "q").to_json()["agreement"]
    assert (agreement["images"], agreement["mean_dice"], agreement["median_dice"]) == (2, 1.0, 1.0)
    assert agreement["histogram"] == [0] * 19 + [2]


# ---- the target folder


def test_overwrite(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    out.mkdir()  # an empty folder is as good as none
    prepare(folder, out)
    before = snapshot(out)
    with pytest.raises(DataError, match="prepared: already there; use --overwrite, or another --out"):
        prepare(folder, out, PrepareOptions(merge="each"))
    assert snapshot(out) == before
    prepare(folder, out, PrepareOptions(merge="each", overwrite=True))
    assert not (out / "masks").exists()
    assert open_prepared(out).manifest.settings.merge == "each"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DermaVQA", "prepared"]


def test_overwrite_spares_everything_that_is_not_ours(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work", encoding="utf-8")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for out in (tmp_path / "thesis", tmp_path / "file"):
        with pytest.raises(DataError, match="choose another --out"):
            prepare(folder, out, PrepareOptions(overwrite=True))
    for out in (folder, tmp_path):
        with pytest.raises(DataError, match="the folder that holds --data"):
            prepare(folder, out, PrepareOptions(overwrite=True))
    assert (tmp_path / "thesis" / "chapter1.tex").read_text(encoding="utf-8") == "years of work"


FUNCTIONS = {
    "masks": "data.preparation.photos.write_mask",
    "rows": "commands.prepare.write_jsonl",
    "page": "commands.prepare.prepare_page.html",
}


@pytest.mark.parametrize("stage", ["masks", "rows", "page", "rename"])
@pytest.mark.parametrize("exchange", [True, False])
def test_failure_leaves_the_old_dataset(
    stage: str, exchange: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "prepared"
    prepare(folder, out)
    before = snapshot(out)
    calls = []

    def fail(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        raise KeyboardInterrupt

    if not exchange:
        monkeypatch.setattr(staging, "exchange", lambda *_: False)
    if stage == "rename":
        monkeypatch.setattr(*((staging, "move", failing_once(fail)) if not exchange else (staging, "exchange", fail)))
    else:
        monkeypatch.setattr("magic_cli." + FUNCTIONS[stage], fail)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, out, PrepareOptions(merge="each" if stage == "rename" else "or", overwrite=True))
    assert calls
    assert snapshot(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DermaVQA", "prepared"]


def failing_once(fail: Any) -> Any:
    """Return a `move` whose second call fails: the older record was moved away."""
    move, calls = staging.move, list[Path]()

    def replacement(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            fail(source, target)
        move(source, target)

    return replacement


def test_without_exchange_the_folder_is_replaced_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "exchange", lambda *_: False)
    prepare(folder, tmp_path / "p")
    prepare(folder, tmp_path / "p", PrepareOptions(merge="each", overwrite=True))
    assert open_prepared(tmp_path / "p").manifest.settings.merge == "each"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DermaVQA", "p"]


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_kill_at_any_moment_leaves_a_whole_dataset(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    prepare(folder, out)
    before = snapshot(out)
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from magic_cli.commands import prepare as module
        write = module.write_json
        def killing(path, value):
            write(path, value)
            if path.name == sys.argv[3]:
                os.kill(os.getpid(), signal.SIGKILL)
        module.write_json = killing
        module.prepare(sys.argv[1], sys.argv[2], module.PrepareOptions(merge="each", overwrite=True))
    """)
    for last in ("questions.json", "prepare.json"):
        done = subprocess.run([sys.executable, "-c", program, folder, out, last], check=False)
        assert done.returncode == -signal.SIGKILL
        assert snapshot(out) == before
    prepare(folder, out, PrepareOptions(merge="each", overwrite=True))  # leftovers do not get in the way
    assert open_prepared(out).manifest.settings.merge == "each"


def test_unwritable_target(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot be written \(.*\); choose another place$"):
        prepare(folder, tmp_path / "file" / "prepared")


ODD_ROWS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a name of dots": lambda row: row["image_ids"].append("...jpg"),
    "no name": lambda row: row["image_ids"].append("..jpg"),
    "a long name": lambda row: row["image_ids"].append("x" * 201 + ".jpg"),
    "a long id": lambda row: row.update(encounter_id="E" * 201),
    "an id of dots": lambda row: row.update(encounter_id=".."),
    "an id with a slash": lambda row: row.update(encounter_id="ENC/1"),
    "a language that is none": lambda row: row.update({"query_title_\u00e9\u00e9": "x", "query_title_": "x"}),
    "an upper-case language": lambda row: row.update({"query_content_ZH": "x"}),
    "a key of an answer": lambda row: row["responses"][0].update({"content_\u00e9\u00e9": "x"}),
    "half a surrogate pair": lambda row: row.update(query_title_en="\ud83d"),
}


@pytest.mark.parametrize("how", ODD_ROWS)
def test_what_is_prepared_is_opened(folder: Path, tmp_path: Path, how: str) -> None:
    """Whatever a row holds, it is left out by name or read by the other commands."""
    rows = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    ODD_ROWS[how](rows[0])
    (folder / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    manifest = prepare(folder, tmp_path / "p").manifest
    found = open_prepared(tmp_path / "p")
    assert len(found.cases) == 7 - manifest.left_out.get("cases", 0)


# ---- nothing usable, and the same photo twice


def test_neither_photo_nor_text_is_no_dataset(folder: Path, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        rows = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
        bare = [{key: row[key] for key in ("encounter_id", "image_ids")} for row in rows]
        write_json(folder / f"{split}.json", bare)
    assert len(prepare(folder, tmp_path / "p").manifest.problems) == 0  # photos alone will do
    shutil.rmtree(folder / "images_final")
    with pytest.raises(DataError, match="7 cases without any text, 0 of 10 listed photos"):
        prepare(folder, tmp_path / "q")
    assert not (tmp_path / "q").exists()


def test_the_same_photo_in_two_splits_is_a_problem_and_in_one_a_note(folder: Path, tmp_path: Path) -> None:
    valid, train = folder / "images_final/images_valid", folder / TRAIN
    shutil.copy(train / f"{image_id(1)}.jpg", valid / f"{image_id(4)}.jpg")
    shutil.copy(train / f"{image_id(2)}.jpg", valid / f"{image_id(5)}.jpg")
    shutil.copy(train / f"{image_id(2)}.jpg", train / f"{image_id(3)}.jpg")
    result = prepare(folder, tmp_path / "p")
    [line] = result.manifest.problems
    assert line.startswith("valid: got 2 photos that are also in train, byte for byte: ")
    assert f"{image_id(4)} = {image_id(1)}, {image_id(5)} = {image_id(2)}" in line
    assert any(f"({image_id(2)} = {image_id(3)})" in note for note in result.manifest.notes)
    with pytest.raises(DataError, match="also in train"):
        prepare(folder, tmp_path / "q", PrepareOptions(strict=True))


# ---- what the terminal shows


def test_summary(folder: Path, tmp_path: Path) -> None:
    for number in range(30):
        save_photo(folder / TRAIN / f"IMG_ENC09999_{number:05}.jpg", draw_photo())
    result = prepare(folder, tmp_path / "p")
    *lines, page, last, _ = result.lines()
    assert lines.pop(0).startswith("read as dermavqa: DermaVQA")
    assert lines[0].split() == ["train", "valid", "test"]
    assert [line.split() for line in lines[1:4]] == [
        ["encounters", "3", "2", "2"], ["photos", "4", "3", "3"], ["masks", "8", "6", "0"],
    ]  # fmt: skip
    assert len({len(line) for line in lines[:5]}) == 1  # columns are aligned
    assert (
        "masks: 14 with 0/1; 7 photos have those of several annotators: lesion is what any of them marks (--merge)"
        in lines
    )
    compared = "not compared, as the numbers of encounters are not those of the 2025 challenge"
    assert f"published counts: {compared}" in lines
    assert any(
        re.fullmatch(r"lesion: valid: median [0-9.]+ % of a photo \([0-9.]+ to [0-9.]+ %, 6 masks\)", s) for s in lines
    )
    assert any(re.fullmatch(r"annotators: pairwise Dice mean 0\.\d\d, median 0\.\d\d \(7 photos\)", s) for s in lines)
    [line] = [line for line in lines if line.startswith("problem: ")]
    assert line.startswith(f"problem: 30 items: {TRAIN}/IMG_ENC09999_00000.jpg, {TRAIN}/IMG_ENC09999_00001.jpg, ")
    assert line.endswith(
        ", ...: got a photo that no encounter lists, expected listed photos; add it to the row of its encounter"
    )
    assert len(result.manifest.problems) == 30  # each in prepare.json
    assert lines[-1] == "left out: 30 photos"
    assert (page, last.partition(";")[0]) == (
        f"look at it: {tmp_path / 'p' / 'index.html'}",
        f"{tmp_path / 'p'}: ready",
    )
    dry = prepare(folder, tmp_path / "q", PrepareOptions(dry_run=True))
    assert dry.lines()[1:] == [*lines, "nothing written (--dry-run)"]
    assert (dry.is_written, dry.manifest) == (False, result.manifest)


# ---- real data


def real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not here")
    return DATA / name


@pytest.mark.realdata
def test_pad_magic(tmp_path: Path) -> None:
    manifest = prepare(real("pad-magic"), tmp_path / "p", PrepareOptions(strict=True)).to_json()
    columns = ("cases", "images", "masks", "answered")
    assert {split: tuple(row[c] for c in columns) for split, row in manifest["counts"].items()} == {
        "train": (400, 496, 557, 400),
        "valid": (81, 106, 136, 81),
        "test": (152, 209, 0, 0),
    }
    assert manifest["problems"] == []
    assert manifest["published"] is None
    assert manifest["mask_values"] == {"0/1": 693}
    assert manifest["agreement"]["images"] == 89
    assert manifest["agreement"]["mean_dice"] == pytest.approx(0.82, abs=0.005)
    assert manifest["agreement"]["median_dice"] == pytest.approx(0.86, abs=0.005)
    found = open_prepared(tmp_path / "p")
    assert len(found.images) == 811
    masked = [image for image in found.images.values() if image.annotators]
    for image in masked[::50]:
        assert image.mask is not None
        with Image.open(image.path) as photo:
            assert photo.size == (image.width, image.height)
        assert read_mask(image.mask, "m").shape == (image.height, image.width)


@pytest.mark.realdata
def test_dermavqa_text(tmp_path: Path) -> None:
    result = prepare(real("dermavqa-text"), tmp_path / "p", PrepareOptions(strict=True))
    manifest = result.to_json()
    assert [manifest["counts"][s]["cases"] for s in ("train", "valid", "test")] == [842, 56, 100]
    assert [manifest["counts"][s]["listed"] for s in ("train", "valid", "test")] == [2473, 157, 314]
    assert manifest["counts"]["train"]["answered"] == 300
    assert manifest["notes"] == ["0 of 2,944 photos found: text-only dataset"]
    assert manifest["published"]["difference"]["train"] == {
        "cases": 0, "images": -2474, "masks": -7448, "answered": 0,
    }  # fmt: skip
    clip, minilm = manifest["prompts"]["windows"]
    assert clip["exceed"] > 800
    assert minilm["exceed"] < clip["exceed"]
    assert 0.5 < clip["kept_answer"] < clip["kept_question"] < 1
    found = open_prepared(tmp_path / "p")
    text = (tmp_path / "p" / "cases.jsonl").read_text(encoding="utf-8")
    assert "<季节性皮炎>" in text
    assert any("EO <0.7 *10^9/L" in f"{e.question} {e.answer}" for e in found.cases.values())
    assert "photos 0 of 2,474 0 of 157 0 of 314" in " ".join(" ".join(result.lines()).split())
