"""The official scorer's figures: its three cases (when they are at hand), golden cases of ours, and a slow reference.

tests/golden/overlap.json holds run lengths and figures only. tests/builders/reference_scorer.py is the official
scorer as examples/official-scorer.md tells it; everything here goes through real files, open_gold and open_predictions.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_scorer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_dataset import QUESTIONS, answers, tiff

from magic_cli import tasks
from magic_cli.data.gold import open_gold
from magic_cli.errors import SubmissionError
from magic_cli.records import TaskScores
from magic_cli.submission.reader import open_predictions

CASES = Path(__file__).resolve().parents[2] / "shared" / "scorer-parity"
GOLDEN = Path(__file__).parent / "golden"
Masks = dict[str, np.ndarray]
Golds = dict[str, dict[str, np.ndarray]]


def scored(predictions: Path, refs: Path) -> dict[str, TaskScores]:
    """Score as `magic score` does: one report a task."""
    gold = open_gold(refs, "valid")
    with open_predictions(predictions) as found:
        return {
            task.name: task.score(task.gold_in(gold), found.of(task.deliverable, gold.answers.questions.by_qid))
            for task in map(tasks.get, tasks.NAMES)
            if task.deliverable in found.deliverables_with(gold)
        }


def agree(found: Any, expected: Any) -> None:
    """The same keys in the same order, and the same values, NaN for NaN."""
    assert found is not None
    assert list(found) == list(expected)
    assert dict(found) == pytest.approx(dict(expected), abs=1e-12, rel=0, nan_ok=True)


def consistent(report: TaskScores) -> None:
    """Figures are in range; there is a reason wherever the tracks differ, and none where they agree."""
    assert all(0 <= value <= 1 for name, value in report.scores.items() if not name.startswith("number"))
    assert (report.official is None) == bool(report.official_errors)
    if report.official is not None:
        same = report.official == pytest.approx(dict(report.scores), abs=1e-9, rel=0)
        assert same == (report.differences == ())


@pytest.mark.realdata
@pytest.mark.parametrize("case", ["case1", "case2", "case3"])
def test_official_cases(case: str) -> None:
    if not (CASES / case).is_dir():
        pytest.skip(f"{CASES} is not here: the official scorer's cases are not part of the project")
    found: dict[str, Any] = {}
    for report in scored(CASES / case, CASES / case).values():
        assert report.official is not None
        found |= report.official
        consistent(report)
    agree(found, json.loads((CASES / case / "expected_scores.json").read_text()))


def write_masks(root: Path, gold: Golds, system: Masks, options: list[dict[str, str]]) -> None:
    ways = itertools.cycle(options)
    for folder in ("refs", "preds/masks_preds"):
        (root / folder).mkdir(parents=True)
    for image, mask in system.items():
        (root / "preds" / "masks_preds" / f"{image}_mask_sys.tiff").write_bytes(tiff(mask, **next(ways)))
    for image, annotators in gold.items():
        for annotator, mask in annotators.items():
            (root / "refs" / f"{image}_mask_{annotator}.tiff").write_bytes(tiff(mask, **next(ways)))


def by_reference(gold: Golds, system: Masks) -> dict[str, float]:
    lists = {image: {name: mask.tolist() for name, mask in masks.items()} for image, masks in gold.items()}
    return reference_scorer.segmentation(lists, {image: mask.tolist() for image, mask in system.items()})


def expand(runs: list[int], shape: list[int]) -> np.ndarray:
    """Return a mask from run lengths in row order, background first."""
    flat = np.concatenate([np.full(length, n % 2, np.uint8) for n, length in enumerate(runs)])
    return flat.reshape(shape)


@pytest.mark.parametrize("name", ["usual", "ties", "empty_prediction", "empty_annotator", "all_empty"])
def test_golden_masks(name: str, tmp_path: Path) -> None:
    case = json.loads((GOLDEN / "overlap.json").read_text())[name]
    gold, system = {}, {}
    for n, image in enumerate(case["images"]):
        system[f"IMG_ENC{n:05}_00001"] = expand(image["found"], image["shape"])
        masks = {f"ann{k}": expand(runs, image["shape"]) for k, runs in enumerate(image["gold"])}
        gold[f"IMG_ENC{n:05}_00001"] = masks
    expected = {key: math.nan if value is None else value for key, value in case["figures"].items()}
    write_masks(tmp_path, gold, system, [{}, {"compression": "zlib"}])
    report = scored(tmp_path / "preds", tmp_path / "refs")["seg"]
    agree(report.official, by_reference(gold, system))
    agree(report.official, expected | {"number_segmentation_instances": len(system)})
    consistent(report)


@st.composite
def plain_mask(draw: st.DrawFn, shape: tuple[int, int]) -> np.ndarray:
    """A binary mask as people store it; empty now and then."""
    mask = draw(arrays(np.uint8, shape, elements=st.integers(0, 1)) | st.just(np.zeros(shape, np.uint8)))
    return mask.astype(draw(st.sampled_from([np.uint8, np.bool_, np.uint16])))


ONE, FULL = "IMG_ENC00001_00001", np.ones((2, 3), np.uint8)
FAULTS = ("none", "none", "none", "none", "255", "two", "half", "turned", "size", "missing", "wraps")


@st.composite
def image_sets(draw: st.DrawFn, faults: tuple[str, ...]) -> tuple[Golds, Masks]:
    gold: Golds = {}
    system: Masks = {}
    for n in range(draw(st.integers(1, 4))):
        shape = draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
        image = f"IMG_ENC{n // 2:05}_{n:05}"
        names = draw(st.sets(st.sampled_from(["ann0", "ann1", "ann2", "ann3"]), min_size=1))
        gold[image] = {name: draw(plain_mask(shape)) for name in sorted(names)}
        mask, fault = draw(plain_mask(shape)), draw(st.sampled_from(faults))
        if fault != "missing":
            system[image] = broken(mask, fault)
    if draw(st.booleans()) and system:
        system["IMG_ENC00099_00001"] = np.ones((3, 4), np.uint8)
    return gold, system


def broken(mask: np.ndarray, fault: str) -> np.ndarray:
    kinds = {
        "255": lambda: mask.astype(np.uint8) * np.uint8(255),
        "two": lambda: mask.astype(np.uint8) * np.uint8(2),
        "half": lambda: mask.astype(np.float32) * np.float32(0.7),
        "turned": lambda: np.ascontiguousarray(mask.T),
        "size": lambda: np.pad(mask, ((0, 1), (0, 0))),
        "wraps": lambda: mask.astype(np.int16) * np.int16(256),
    }
    return kinds[fault]() if fault in kinds else mask


def check_masks(root: Path, gold: Golds, system: Masks, zlib: bool) -> None:
    write_masks(root, gold, system, [{"compression": "zlib"} if zlib else {}])
    try:
        expected = by_reference(gold, system)
    except (KeyError, ValueError) as error:
        expected, kind = None, type(error).__name__
    if system and not set(system) & set(gold):
        with pytest.raises(SubmissionError):
            scored(root / "preds", root / "refs")
        return
    report = scored(root / "preds", root / "refs")["seg"]
    if expected is None:
        assert report.official is None
        assert any(kind in line for line in report.official_errors), report.official_errors
    else:
        agree(report.official, expected)
    assert report.scores["number_segmentation_instances"] == len(gold)
    consistent(report)


@settings(max_examples=60, deadline=None)
@given(images=image_sets(("none",)), zlib=st.booleans())
def test_random_masks(images: tuple[Golds, Masks], zlib: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_masks(tmp_path_factory.mktemp("random"), *images, zlib)


@settings(max_examples=80, deadline=None)
@given(images=image_sets(FAULTS), zlib=st.booleans())
@example(images=({ONE: {"ann0": FULL}}, {ONE: FULL * 255}), zlib=False)  # zero on both tracks: no difference
@example(images=({ONE: {"ann0": FULL * 0}}, {ONE: FULL * 0}), zlib=False)
def test_random_masks_with_faults(
    images: tuple[Golds, Masks], zlib: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_masks(tmp_path_factory.mktemp("faults"), *images, zlib)


QIDS = list(QUESTIONS.by_qid)
IDS = [f"ENC{n:05}" for n in range(4)]
WRONG: list[Any] = ["0", "1", None, True, False, 0.0, 1.0, 2.0, 0.5, 99, -1, [0], {"a": 0}]


def complete(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {qid: int(random.integers(question.size)) for qid, question in QUESTIONS.by_qid.items()}


@st.composite
def answer_sets(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Gold rows, and a system's rows: mostly of the same encounters, now and then with something wrong."""
    seeds = st.integers(0, 2**32 - 1)
    gold = [{"encounter_id": e, **complete(draw(seeds))} for e in IDS[: draw(st.integers(1, 3))]]
    system = [{**row, **{q: complete(draw(seeds))[q] for q in draw(st.sets(st.sampled_from(QIDS)))}} for row in gold]
    for row in system:
        for qid in draw(st.sets(st.sampled_from(QIDS), max_size=3)) if draw(st.booleans()) else ():
            row[qid] = draw(st.sampled_from(WRONG[: draw(st.sampled_from([11, 11, 13]))]))
        for qid in draw(st.sets(st.sampled_from(QIDS), max_size=4)) if draw(st.booleans()) else ():
            if not qid.endswith("-001") or draw(st.integers(0, 5)) == 0:
                del row[qid]
        if draw(st.integers(0, 4)) == 0:
            row["encounter_id"] += draw(st.sampled_from(["-1", "-1-2", "_1"]))
        if draw(st.integers(0, 4)) == 0:
            key = draw(
                st.sampled_from(["CQID010-009", "CQID010-1", "rationale", "CQID-10-001", "explanation", "made_up-keys"])
            )
            row[key] = draw(st.sampled_from([0, 1, "x", [0]]))
    for row in draw(st.lists(st.sampled_from(system), max_size=2)):
        again = {**row, **{q: complete(draw(seeds))[q] for q in draw(st.sets(st.sampled_from(QIDS), max_size=2))}}
        system.append(again | ({"encounter_id": f"{row['encounter_id']}-2"} if draw(st.booleans()) else {}))
    if draw(st.integers(0, 5)) == 0:
        system.pop(0)
    if draw(st.booleans()) and system:
        system.append({"encounter_id": "ENC00099", **complete(0), "CQID010-001": draw(st.sampled_from([0, [0]]))})
    return gold, system


@settings(max_examples=100, deadline=None)
@given(case=answer_sets())
def test_random_answers(
    case: tuple[list[dict[str, Any]], list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Missing siblings, parents, encounters; extra ones; suffixes; repeats; strings, floats, null, lists."""
    gold, system = case
    root = tmp_path_factory.mktemp("answers")
    (root / "gold.json").write_text(json.dumps(gold))
    (root / "data_cvqa_sys.json").write_text(json.dumps(system))
    try:
        expected = reference_scorer.answers(gold, system)
    except (KeyError, ValueError, TypeError) as error:
        expected, kind = None, type(error).__name__
    heads = {row["encounter_id"].split("-")[0] for row in system}
    if system and not heads & {row["encounter_id"] for row in gold}:
        assert expected is None
        with pytest.raises(SubmissionError, match="another split"):
            scored(root / "data_cvqa_sys.json", root / "gold.json")
        return
    report = scored(root / "data_cvqa_sys.json", root / "gold.json")["cvqa"]
    if expected is None:
        assert report.official is None
        assert any(line.startswith(kind) for line in report.official_errors), report.official_errors
    else:
        agree(report.official, expected)
        explained(report)
    assert report.scores["number_cvqa_instances"] == len(gold)
    consistent(report)


def explained(report: TaskScores) -> None:
    """The lines lead from the official accuracy_all to the strict one, each from where the one before ended."""
    lines = [line for line in report.differences if ": accuracy_all " in line]
    steps = [line.rsplit("accuracy_all ", 1)[1].split(" instead of ") for line in lines]
    if steps and report.official:
        chain = [
            f"{report.official['accuracy_all']:.4f}",
            *itertools.chain(*steps),
            f"{report.scores['accuracy_all']:.4f}",
        ]
        assert chain[::2] == chain[1::2]


def test_golden_answers(tmp_path: Path) -> None:
    """Cases 21 to 24: gold {2, 7}."""
    for case in json.loads((GOLDEN / "answers.json").read_text()):
        for name, file in (("gold", "gold.json"), ("found", "data_cvqa_sys.json")):
            row = answers("ENC00001") | {f"CQID011-{n:03}": value for n, value in enumerate(case[name], 1)}
            (tmp_path / file).write_text(json.dumps([{"encounter_id": "ENC00001", **row}]))
        report = scored(tmp_path / "data_cvqa_sys.json", tmp_path / "gold.json")["cvqa"]
        consistent(report)
        assert report.scores["accuracy_CQID011"] == pytest.approx(case["accuracy"], abs=1e-12)
