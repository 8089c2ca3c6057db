"""The cases of examples/official-scorer.md that concern masks (30 to 64), on both tracks.

The official side is compared with tests/builders/reference_scorer.py; the strict side with a slow count of our own.
"""

import importlib.util
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_scorer
import tifffile
from PIL import Image
from tiny_dataset import blob, tiff, write_folder, write_zip

from magic_cli.data.gold import open_gold
from magic_cli.errors import DataError, SubmissionError
from magic_cli.records import Rules, TaskScores
from magic_cli.submission.reader import open_predictions
from magic_cli.tasks.seg.score import score

ONE, TWO, THREE = "IMG_E1_1", "IMG_E1_2", "IMG_E2_1"
SIZES = {ONE: (24, 32), TWO: (40, 28), THREE: (16, 20)}
EMPTY = np.zeros(SIZES[ONE], np.uint8)
GOOD = {image: blob(size, 1) for image, size in SIZES.items()}
GOLD = {
    ONE: {"ann0": blob(SIZES[ONE]), "ann1": blob(SIZES[ONE], 3)},
    TWO: {f"ann{k}": blob(SIZES[TWO], 2 * k) for k in range(3)},
    THREE: {"ann2": blob(SIZES[THREE])},
}
FIRST = f"{ONE}_mask_sys.tiff"
KEYS = (*("jaccard_meanofmax", "jaccard_meanofmean", "dice_meanofmax", "dice_meanofmean"), "jaccard", "dice")
CODECS = importlib.util.find_spec("imagecodecs") is not None


def pillow(mask: np.ndarray, mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask * np.uint8(255)).convert(mode).save(buffer, "TIFF", **options)
    return buffer.getvalue()


def files(masks: Mapping[str, np.ndarray] = GOOD) -> dict[str, bytes]:
    return {f"{image}_mask_sys.tiff": tiff(mask) for image, mask in masks.items()}


def refs(gold: Mapping[str, Mapping[str, np.ndarray]] = GOLD) -> dict[str, bytes]:
    return {f"{image}_mask_{name}.tiff": tiff(m) for image, masks in gold.items() for name, m in masks.items()}


def pixels(mask: np.ndarray) -> list[list[Any]]:
    return mask.reshape(mask.shape[0], -1).tolist()


def scored(
    root: Path, preds: Mapping[str, bytes], gold: Mapping[str, bytes], rules: Rules, **options: Any
) -> TaskScores:
    write_folder(root / "masks_refs", dict(gold))
    (root / "masks_preds").mkdir()
    write_folder(root / "masks_preds", dict(preds))
    truth = open_gold(root / "masks_refs", "valid").masks
    with open_predictions(root / "masks_preds") as found:
        return score(truth, found.submitted_masks(), rules, **options)


def official(preds: Mapping[str, bytes], gold: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """What the reference says of the files that the official scorer finds, as tifffile reads them."""
    found = {
        name.split("_mask_")[0]: pixels(tifffile.imread(io.BytesIO(data)))
        for name, data in preds.items()
        if name.endswith("_mask_sys.tiff")
    }
    truth = {image: {name: pixels(mask) for name, mask in masks.items()} for image, masks in gold.items()}
    return reference_scorer.segmentation(truth, found)


def slow_strict(
    gold: Mapping[str, Mapping[str, np.ndarray]], system: Mapping[str, np.ndarray | None], empty: str = "one"
) -> list[float]:
    """The six strict figures; None is a mask that counts as zero."""
    rule = {"one": 1.0, "zero": 0.0, "skip": math.nan}[empty]
    means: list[list[float]] = []
    tp = fp = fn = faults = 0
    for image, masks in gold.items():
        found = system[image]
        faults += found is None
        f = np.zeros_like(next(iter(masks.values())), bool) if found is None else found.astype(bool)
        jaccards, dices = [], []
        for mask in masks.values():
            g = mask.astype(bool)
            both, either, total = int((f & g).sum()), int((f | g).sum()), int(f.sum()) + int(g.sum())
            hollow = 0.0 if found is None else rule
            jaccards.append(both / either if either else hollow)
            dices.append(2 * both / total if total else hollow)
        kept = [n for n, value in enumerate(dices) if not math.isnan(value)]
        if kept:
            j, d = [jaccards[n] for n in kept], [dices[n] for n in kept]
            means.append([max(j), sum(j) / len(j), max(d), sum(d) / len(d)])
            most = sum(mask.astype(bool).astype(int) for mask in masks.values()) >= math.ceil(len(masks) / 2)
            tp, fp, fn = tp + int((f & most).sum()), fp + int((f & ~most).sum()), fn + int((~f & most).sum())
    nothing = rule if empty == "one" and not faults else 0.0
    pooled = [weight * tp / (weight * tp + fp + fn) if tp + fp + fn else nothing for weight in (1, 2)]
    return [sum(column) / len(column) for column in zip(*means, strict=True)] + pooled if means else [0.0] * 6


@dataclass(frozen=True)
class Case:
    """One change to a good submission: what it does to both tracks.

    `strict` maps an image to the mask that counts strictly, None where it counts as zero. `stop` is a part of the line
    that says why the official scorer stops, "" where it does not; `refused` and `differs` likewise.
    """

    change: Callable[[dict[str, bytes]], object]
    strict: Mapping[str, np.ndarray | None] = field(default_factory=dict)
    stop: str = ""
    refused: str = ""
    differs: str = ""


def put(mask: np.ndarray, **options: Any) -> Callable[[dict[str, bytes]], object]:
    return lambda preds: preds.update({FIRST: tiff(mask, **options)})


def data(content: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda preds: preds.update({FIRST: content})


def rename(name: str) -> Callable[[dict[str, bytes]], object]:
    return lambda preds: preds.update({name: preds.pop(FIRST)})


GONE = {ONE: None}
FLAT = np.arange(24 * 32).reshape(24, 32) % 7
CASES = {
    "nothing wrong": Case(lambda p: p),
    "32 no mask": Case(
        lambda p: p.pop(FIRST),
        GONE,
        f"1 image ({ONE}): KeyError",
        f"1 of 3 images count as zero: no prediction ({ONE})",
    ),
    "33 extra masks": Case(lambda p: p.update({"IMG_E9_1_mask_sys.tiff": tiff(EMPTY)})),
    "54 a second suffix": Case(lambda p: p.update({f"{ONE}_mask_old.tiff": tiff(EMPTY)})),
    "34 transposed": Case(
        put(GOOD[ONE].T.copy()), GONE, "", "transposed, (32, 24) for (24, 32)", "flattens 1 image of another shape"
    ),
    "34b the same number of pixels": Case(
        put(GOOD[ONE].reshape(12, 64)), GONE, "", "another shape (IMG_E1_1: (12, 64) for (24, 32))", "flattens 1 image"
    ),
    "35 other size": Case(put(blob((12, 16))), GONE, "ValueError: operands could not be broadcast", "(12, 16) for"),
    "36 0 and 255": Case(put(GOOD[ONE] * 255), GONE, "", "values {0, 255} (IMG_E1_1); --accept-255 reads them"),
    "63 the value 2": Case(put(GOOD[ONE] * 2), GONE, "", "got values {0, 2}"),
    "63b 0, 1 and 255": Case(
        put(np.where(FLAT == 0, 255, GOOD[ONE]).astype(np.uint8)), GONE, "", "got values {0, 1, 255}", "casts 1 image"
    ),
    "38b probabilities": Case(put(GOOD[ONE] * np.float32(0.7)), GONE, "", "got values {0, 0.7}"),
    "38c floats above 1": Case(put(GOOD[ONE] * np.float32(1.5)), GONE, "", "values {0, 1.5}", "casts 1 image to uint8"),
    "37 bool": Case(put(GOOD[ONE].astype(bool))),
    "38 floats 0 and 1": Case(put(GOOD[ONE].astype(np.float32))),
    "40 a channel": Case(put(GOOD[ONE][..., None])),
    "39 pages": Case(
        put(np.stack([GOOD[ONE]] * 2), photometric="minisblack"), GONE, "ValueError", "(2, 24, 32) for (24, 32)"
    ),
    "41 colours": Case(put(np.dstack([GOOD[ONE]] * 3), photometric="rgb"), GONE, "ValueError", "(24, 32, 3)"),
    "42 an empty mask": Case(put(EMPTY), {ONE: EMPTY}),
    "47 another suffix": Case(rename(f"{ONE}_mask_mine.tiff"), GONE, "KeyError: 'sys'", f"{ONE}_mask_mine.tiff: got"),
    "48 the suffix twice": Case(rename(f"{ONE}_mask_mask_sys.tiff"), GONE, "KeyError: 'sys'", "got this name"),
    "49 .tif": Case(rename(f"{ONE}_mask_sys.tif"), GONE, "KeyError: the official scorer finds no mask", "rename it"),
    "50 .TIFF": Case(rename(f"{ONE}_mask_sys.TIFF"), GONE, "KeyError", "unreadable (IMG_E1_1: "),
    "51 .png": Case(rename(f"{ONE}_mask_sys.png"), GONE, "KeyError", "rename it"),
    "52 corrupt": Case(data(b"no TIFF"), GONE, "TiffFileError", "an unreadable file"),
    "52b cut off": Case(data(tiff(GOOD[ONE])[:300]), GONE, "Error", "an unreadable file"),
    "59 LZW": Case(data(pillow(GOOD[ONE], "1", compression="tiff_lzw")), {}, "" if CODECS else "needs imagecodecs"),
    "60 fax": Case(
        data(pillow(GOOD[ONE], "1", compression="group4")),
        GONE,
        "" if CODECS else "needs imagecodecs",
        "count as zero: unreadable (IMG_E1_1: ",
        "reads the fax codes of 1 image" if CODECS else "",
    ),
    "61 one bit": Case(data(pillow(GOOD[ONE], "1"))),
    "62 deflate": Case(put(GOOD[ONE], compression="deflate")),
    "62b one bit, deflate": Case(data(pillow(GOOD[ONE], "1", compression="tiff_adobe_deflate"))),
    "64 int16 256": Case(put(GOOD[ONE].astype(np.int16) * 256), GONE, "", "got values {0, 256}"),
    "64b int16 257": Case(put(GOOD[ONE].astype(np.int16) * 257), GONE, "", "values {0, 257}", "casts 1 image to uint8"),
    "64c uint16 0 and 1": Case(put(GOOD[ONE].astype(np.uint16))),
    "64d int64 0 and 1": Case(put(GOOD[ONE].astype(np.int64))),
}


@pytest.mark.parametrize("name", CASES)
def test_predictions(name: str, tmp_path: Path) -> None:
    case, preds = CASES[name], files()
    case.change(preds)
    report = scored(tmp_path, preds, refs(), Rules())
    strict = slow_strict(GOLD, {**GOOD, **case.strict})
    assert [report.scores[key] for key in KEYS] == pytest.approx(strict, abs=1e-12)
    assert report.scores["number_segmentation_instances"] == 3
    if case.stop:
        assert report.official is None
        [line] = report.official_errors
        assert case.stop in line
        assert ONE in line
    else:
        assert report.official_errors == ()
        assert report.official is not None
        assert dict(report.official) == pytest.approx(official(preds, GOLD), abs=1e-12, nan_ok=True)
    for lines, text in ((report.rejected, case.refused), (report.differences, case.differs)):
        assert len(lines) == bool(text), lines
        assert all(text in line for line in lines), lines
    if case.differs:
        assert f": dice_meanofmax {report.official['dice_meanofmax']:.4f} instead of" in report.differences[0]
    [item] = [row for row in report.per_item if row["image"] == ONE]
    assert bool(item["fault"]) == bool(case.refused)
    check_sums(report)


def check_sums(report: TaskScores) -> None:
    assert report.encounter_sums is not None
    found = report.encounter_sums.scores(report.encounter_sums.sums.sum(0))
    assert found.tolist() == pytest.approx([report.scores[name] for name in report.encounter_sums.names], abs=1e-12)


@pytest.mark.parametrize("stored", [GOOD[ONE] * 255, GOOD[ONE].astype(np.uint16) * 255, GOOD[ONE] * np.float32(255)])
def test_case_36_converted_by_an_explicit_rule(stored: np.ndarray, tmp_path: Path) -> None:
    preds = files() | {FIRST: tiff(stored)}
    report = scored(tmp_path, preds, refs(), Rules(accept_255=True))
    assert [report.scores[key] for key in KEYS] == pytest.approx(slow_strict(GOLD, GOOD), abs=1e-12)
    assert report.official == pytest.approx(official(preds, GOLD), abs=1e-12)
    assert report.rejected == ()
    [line] = report.differences
    assert line.startswith(
        f"the official scorer counts 1 image with values {{0, 255}} as empty ({ONE}): dice_meanofmax"
    )


HOLLOW = {**GOLD, ONE: {"ann0": EMPTY, "ann1": blob(SIZES[ONE], 3)}}
NOTHING = {image: {"ann0": np.zeros(size, np.uint8)} for image, size in SIZES.items()}
VOID = {image: np.zeros(size, np.uint8) for image, size in SIZES.items()}


@pytest.mark.parametrize("empty", ["one", "zero", "skip"])
@pytest.mark.parametrize(
    ("gold", "masks"),
    [
        (HOLLOW, {**GOOD, ONE: EMPTY}),
        ({**GOLD, ONE: {"ann0": EMPTY, "ann1": EMPTY}}, {**GOOD, ONE: EMPTY}),
        ({**GOLD, ONE: {"ann0": EMPTY, "ann1": EMPTY}}, GOOD),
        (HOLLOW, {image: mask for image, mask in GOOD.items() if image != ONE}),
        (NOTHING, VOID),
        (NOTHING, {image: mask for image, mask in VOID.items() if image != ONE}),
        (HOLLOW, {**GOOD, ONE: EMPTY + 255}),
    ],
    ids=["43", "43b", "only the gold is empty", "missing", "44", "44 and missing", "refused"],
)
def test_cases_43_and_44_empty_against_empty(empty: str, gold: Any, masks: Any, tmp_path: Path) -> None:
    preds = files(masks)
    report = scored(tmp_path, preds, refs(gold), Rules(empty))
    valid = {image: masks[image] if image in masks and masks[image].max() <= 1 else None for image in SIZES}
    assert [report.scores[key] for key in KEYS] == pytest.approx(slow_strict(gold, valid, empty), abs=1e-12)
    assert all(math.isfinite(value) for value in report.scores.values())
    check_sums(report)
    hollow = [
        i for i, m in valid.items() if m is not None and not m.any() and any(not g.any() for g in gold[i].values())
    ]
    assert any("empty prediction beside" in note for note in report.notes) == bool(hollow)
    if len(preds) < 3:
        assert report.official is None
        return
    expected = official(preds, gold)
    assert report.official == pytest.approx(expected, abs=1e-12, nan_ok=True)
    if hollow:
        assert math.isnan(expected["dice_meanofmax"])
        [line] = report.differences
        assert line.startswith("the official scorer divides 0 by 0 where nothing is predicted and an annotator drew n")
        assert ": dice_meanofmax NaN instead of" in line


def test_skipped_images_are_null_and_not_counted(tmp_path: Path) -> None:
    gold = {**GOLD, ONE: {"ann0": EMPTY, "ann1": EMPTY}}
    report = scored(tmp_path, files({**GOOD, ONE: EMPTY}), refs(gold), Rules("skip"))
    first = report.per_item[0]
    assert [first[name] for name in ("dice_max", "dice_mean", "jaccard_max", "jaccard_mean")] == [None] * 4
    assert [first[name] for name in ("dice_ann0", "jaccard_ann1")] == [None, None]
    assert report.scores["number_segmentation_instances"] == 2
    assert any(
        f"1 image left out, as all annotators' masks and the prediction are empty: {ONE}." in n for n in report.notes
    )


@pytest.mark.parametrize("masks", [GOOD, {**GOOD, ONE: EMPTY}])
@pytest.mark.parametrize("bright", [("ann0",), ("ann0", "ann1"), ("ann1",)])
def test_cases_45_and_46_gold_of_0_and_255(masks: Any, bright: tuple[str, ...], tmp_path: Path) -> None:
    stored = {n: m * np.uint8(255 if n in bright else 1) for n, m in GOLD[ONE].items()}
    gold, preds = {**GOLD, ONE: stored}, files(masks)
    report = scored(tmp_path, preds, refs(gold), Rules())
    assert [report.scores[key] for key in KEYS] == pytest.approx(slow_strict(GOLD, masks), abs=1e-12)
    assert report.official == pytest.approx(official(preds, gold), abs=1e-12, nan_ok=True)
    assert f"The gold of 1 image holds 0 and 255, strictly read as 0 and 1 ({ONE})." in report.notes
    [line] = report.differences
    assert f"takes only 1 for foreground in the gold of {{0, 255}} of 1 image ({ONE})" in line


def test_case_46_all_gold_of_0_and_255(tmp_path: Path) -> None:
    """Mean-of figures 0.0, but the pooled ones 1.0."""
    gold = {image: {"ann0": mask * np.uint8(255)} for image, mask in GOOD.items()}
    report = scored(tmp_path, files(), refs(gold), Rules())
    assert report.official is not None
    assert [report.official[key] for key in KEYS] == [0.0] * 4 + [1.0] * 2
    assert [report.scores[key] for key in KEYS] == [1.0] * 6


def test_case_45b_votes_wrap_in_uint8(tmp_path: Path) -> None:
    """255 of one annotator and 1 of another are 0 votes: a perfect prediction has a pooled Dice of 0."""
    mask = GOOD[ONE]
    gold = {ONE: {"ann0": mask, "ann1": mask * np.uint8(255)}}
    report = scored(tmp_path, files({ONE: mask}), refs(gold), Rules())
    assert report.official is not None
    assert report.official["dice"] == report.official["jaccard"] == 0.0
    assert report.scores["dice"] == 1.0
    assert report.official == pytest.approx(official(files({ONE: mask}), gold), abs=1e-12)


@pytest.mark.parametrize("annotators", [2, 4])
def test_cases_55_and_56_ties_are_foreground(annotators: int, tmp_path: Path) -> None:
    half = {f"ann{k}": GOOD[ONE] if k < annotators // 2 else EMPTY.copy() for k in range(annotators)}
    for k, mask in enumerate(half.values()):
        mask[0, k] = 1  # no annotator is empty
    gold = {**GOLD, ONE: half}
    report = scored(tmp_path, files(), refs(gold), Rules())
    assert report.official == pytest.approx(official(files(), gold), abs=1e-12)
    assert report.official == pytest.approx(report.scores, abs=1e-12)
    assert report.differences == ()


def test_case_57_a_fifth_annotator(tmp_path: Path) -> None:
    known = {**GOLD, ONE: {"ann0": blob(SIZES[ONE], 5), "ann1": blob(SIZES[ONE], 3)}}
    gold = {**known, ONE: {**known[ONE], "ann4": blob(SIZES[ONE])}}
    report = scored(tmp_path / "both", files(), refs(gold), Rules())
    assert [report.scores[key] for key in KEYS] == pytest.approx(slow_strict(gold, GOOD), abs=1e-12)
    assert report.official == pytest.approx(official(files(), known), abs=1e-12)
    assert "knows only ann0 to ann3, strictly all annotators count, in 1 image" in report.differences[0]
    alone = {**GOLD, ONE: {"ann4": blob(SIZES[ONE])}}
    report = scored(tmp_path / "alone", files(), refs(alone), Rules())
    assert report.official is None
    assert report.official_errors == (f"1 image ({ONE}): KeyError: none of ann0 to ann3",)
    assert [report.scores[key] for key in KEYS] == pytest.approx(slow_strict(alone, GOOD), abs=1e-12)


def test_annotators_are_sorted_by_number(tmp_path: Path) -> None:
    gold = {**GOLD, ONE: {f"ann{k}": blob(SIZES[ONE], k % 4) for k in (10, 2, 0)}}
    report = scored(tmp_path, files(), refs(gold), Rules())
    assert [name for name in report.per_item[0] if name.startswith("dice_ann")] == [
        "dice_ann0",
        "dice_ann2",
        "dice_ann10",
    ]
    assert [row["annotator"] for row in report.summary_rows] == ["ann0", "ann1", "ann2", "ann10"]


def test_case_58_and_damaged_gold_are_listed_at_once(tmp_path: Path) -> None:
    odd = {**GOLD, ONE: {"ann0": blob(SIZES[ONE]), "ann1": blob((24, 31))}, TWO: {"ann0": GOOD[TWO] * 7}}
    with pytest.raises(DataError) as error:
        scored(tmp_path, {}, refs(odd) | {f"{THREE}_mask_ann0.tiff": b"bad"}, Rules())
    lines = "\n".join(error.value.problems)
    assert len(error.value.problems) == 3
    assert "ann1.tiff: got shape (24, 31), expected (24, 32) as in the photo's other masks" in lines
    assert "got values {0, 7}" in lines
    assert "got an unreadable file" in lines


def test_much_damage_is_a_line_per_kind(tmp_path: Path) -> None:
    """Of gold in an error, of predictions in the report."""
    names = [f"IMG_E{n}_1" for n in range(314)]
    with pytest.raises(DataError, match=r"^314 items: .*_mask_ann0\.tiff, .*, \.\.\.: got an unreadable file") as error:
        scored(tmp_path / "gold", {}, {f"{name}_mask_ann0.tiff": b"" for name in names}, Rules())
    assert len(error.value.problems) == 1
    gold = {f"{name}_mask_ann0.tiff": tiff(GOOD[ONE]) for name in names}
    preds = {f"{name}_mask_sys.tiff": b"x" * (n % 5) for n, name in enumerate(names)}
    [line] = scored(tmp_path / "preds", preds, gold, Rules()).rejected
    assert "unreadable (314 items: IMG_E0_1, IMG_E100_1, IMG_E101_1, ...: got an unreadable file" in line
    assert line.count("IMG_") == 3


@pytest.mark.parametrize("others", [True, False])
def test_ids_in_other_capitals_are_pointed_out(others: bool, tmp_path: Path) -> None:
    preds = files() if others else {}
    preds[f"{ONE.lower()}_mask_sys.tiff"] = preds.pop(f"{ONE}_mask_sys.tiff", tiff(GOOD[ONE]))
    hint = f"1 of the predicted images differ from the gold's in capitals or blanks only ({ONE.lower()} for {ONE})"
    if others:
        assert any(note.startswith(hint) for note in scored(tmp_path, preds, refs(), Rules()).notes)
    else:
        with pytest.raises(SubmissionError) as error:
            scored(tmp_path, preds, refs(), Rules())
        [line] = error.value.problems
        assert f"; {hint}; ids are compared as written" in line  # predicting another split would not help


def test_more_annotators_than_can_be_counted(tmp_path: Path) -> None:
    gold = {"IMG_E1_1": {f"ann{k}": EMPTY for k in range(10)}}
    with pytest.raises(DataError, match="got 10 annotators, expected at most 9"):
        scored(tmp_path / "ten", {}, refs(gold), Rules())
    nine = {"IMG_E1_1": {f"ann{k}": blob(SIZES[ONE], k) for k in range(9)}}
    preds = files({ONE: GOOD[ONE] * 255})
    report = scored(tmp_path / "nine", preds, refs(nine), Rules(accept_255=True))
    assert [report.scores[key] for key in KEYS] == pytest.approx(slow_strict(nine, {ONE: GOOD[ONE]}), abs=1e-12)


def test_case_30b_a_folder_of_other_files(tmp_path: Path) -> None:
    report = scored(tmp_path, {"readme.txt": b"x", ".DS_Store": b"x"}, refs(), Rules())
    assert report.official is not None
    assert set(report.official.values()) == {0}
    assert report.scores["dice_meanofmax"] == 0


def test_case_45c_gold_of_one_photo_with_and_without_a_channel_is_read_alike(tmp_path: Path) -> None:
    mixed = {**GOLD, ONE: {name: mask[..., None] if name == "ann0" else mask for name, mask in GOLD[ONE].items()}}
    report = scored(tmp_path / "mixed", files(), refs(mixed), Rules())
    assert report.scores == scored(tmp_path / "plain", files(), refs(), Rules()).scores


def test_case_30_an_empty_folder(tmp_path: Path) -> None:
    report = scored(tmp_path, {}, refs(), Rules())
    assert dict(report.official or {}) == dict.fromkeys((*KEYS, "number_segmentation_instances"), 0.0)
    assert report.scores == dict.fromkeys(KEYS, 0.0) | {"number_segmentation_instances": 3}
    assert report.official_errors == ()
    assert report.rejected == (f"3 of 3 images count as zero: no prediction ({ONE}, {TWO}, {THREE})",)
    [line] = report.differences
    assert line.endswith("no mask at all: number_segmentation_instances 0 instead of 3")


@pytest.mark.parametrize("name", ["{}_mask_sys.tif", "{}_mask_sys.png"])
def test_only_masks_that_are_not_found(name: str, tmp_path: Path) -> None:
    """Cases 49 and 51, all masks so: 0.0 everywhere, and nothing stops."""
    preds = {name.format(image): tiff(mask) for image, mask in GOOD.items()}
    report = scored(tmp_path, preds, refs(), Rules())
    assert set((report.official or {"": 1}).values()) == {0}
    assert set(report.scores.values()) == {0, 3}
    assert "finds none of the masks: number_segmentation_instances 0 instead of 3" in report.differences[0]


def test_case_53_one_folder_deeper_in_a_zip(tmp_path: Path) -> None:
    write_folder(tmp_path / "masks_refs", refs())
    path = write_zip(tmp_path / "s.zip", {f"sub/masks_preds/{name}": data for name, data in files().items()})
    truth = open_gold(tmp_path / "masks_refs", "valid").masks
    with open_predictions(path) as found:
        report = score(truth, found.submitted_masks())
    assert set((report.official or {"": 1}).values()) == {0}
    assert [report.scores[key] for key in KEYS] == pytest.approx(slow_strict(GOLD, GOOD), abs=1e-12)
    assert report.rejected == ()
    assert "finds none of the masks: dice_meanofmax 0.0000 instead of 0." in report.differences[0]


def test_several_stops_are_all_named_and_silent_differences_too(tmp_path: Path) -> None:
    preds = {FIRST: tiff(GOOD[ONE].T.copy()), f"{TWO}_mask_sys.tiff": b"bad"}
    report = scored(tmp_path, preds, refs(), Rules())
    assert report.official is None
    assert [line[-13:] for line in report.official_errors] == ["TiffFileError", "finds no mask"]
    assert ["flattens" in line for line in report.differences] == [True]
    assert len(report.rejected) == 3


def test_long_lists_are_cut(tmp_path: Path) -> None:
    gold = {f"IMG_E{n:02}_1": {"ann0": blob((12, 14))} for n in range(12)}
    report = scored(tmp_path, {"IMG_E00_1_mask_sys.tiff": tiff(blob((12, 14)))}, refs(gold), Rules())
    for line in (*report.official_errors, *report.rejected):
        assert line.count("IMG_") == 10
        assert "IMG_E10_1, ...)" in line


def test_predictions_of_another_split_are_refused(tmp_path: Path) -> None:
    remedy = "each system must predict the split that is scored: predict that one, or choose another --split"
    got = r"got a prediction for none of 3 images \(IMG_.*\)"
    with pytest.raises(SubmissionError, match=rf"^predictions: {got}, expected predictions for .*; {remedy}$"):
        scored(tmp_path, {"IMG_E9_1_mask_sys.tiff": tiff(EMPTY)}, refs(), Rules())


@pytest.mark.parametrize("workers", [2, 5])
def test_threads_change_nothing(workers: int, tmp_path: Path) -> None:
    preds = files() | {"IMG_E9_1_mask_sys.tiff": tiff(EMPTY)}
    one = scored(tmp_path / "1", preds, refs(HOLLOW), Rules())
    many = scored(tmp_path / "n", preds, refs(HOLLOW), Rules(), workers=workers)
    assert one.scores == many.scores
    assert one.per_item == many.per_item
    assert one.notes == many.notes


def test_threads_pass_errors_on(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError):
        scored(tmp_path / "a", {"IMG_E9_1_mask_sys.tiff": tiff(EMPTY)}, refs(), Rules(), workers=3)
    with pytest.raises(DataError):
        scored(tmp_path / "b", files(), refs() | {f"{ONE}_mask_ann1.tiff": b""}, Rules(), workers=3)
