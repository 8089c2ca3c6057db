"""The official scorer's figures: its three cases (when they are at hand), and cases of ours with a slow reference.

tests/golden/overlap.json holds run lengths and figures only. The reference below is written from specs/peers.md
section 2, on int64 arrays and Python sets, and shares no code with the package.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small import QUESTIONS, tiff

from magic_cli import report, tasks
from magic_cli.data.gold import Gold, open_gold
from magic_cli.records import Prediction
from magic_cli.submission import open_predictions
from magic_cli.tasks import cvqa

CASES = Path(__file__).resolve().parents[2] / "shared" / "scorer-parity"
GOLDEN = Path(__file__).parent / "golden"
Images = list[tuple[np.ndarray, list[np.ndarray]]]


def scored(predictions: Path, refs: Path) -> dict[str, Any]:
    gold = open_gold(refs, "valid")
    with open_predictions(predictions) as found:
        return report.scores([tasks.load(name).score(gold, found.of(name, gold)) for name in found.tasks_with(gold)])


@pytest.mark.realdata
@pytest.mark.parametrize("case", ["case1", "case2", "case3"])
def test_official_cases(case: str) -> None:
    if not (CASES / case).is_dir():
        pytest.skip(f"{CASES} is not here: the official scorer's cases are not part of the project")
    expected = json.loads((CASES / case / "expected_scores.json").read_text())
    found = scored(CASES / case, CASES / case)
    assert list(found) == list(expected)
    for key, value in expected.items():
        if math.isnan(value):
            assert found[key] is None, key
        else:
            assert abs(found[key] - value) < 1e-12, key


def reference_masks(images: Images) -> dict[str, float]:
    """Return the six figures, slowly: every mask as int64, one image after the other, pooled pixels kept."""
    best: dict[str, list[float]] = {"jaccard": [], "dice": []}
    mean: dict[str, list[float]] = {"jaccard": [], "dice": []}
    pooled_found, pooled_gold = [], []
    for found, golds in images:
        f = found.astype(np.int64).ravel()
        values: dict[str, list[float]] = {"jaccard": [], "dice": []}
        for gold in golds:
            g = gold.astype(np.int64).ravel()
            both, either = int((f & g).sum()), int((f | g).sum())
            values["jaccard"].append(both / either if either else math.nan)
            values["dice"].append(2 * both / int(f.sum() + g.sum()) if f.sum() + g.sum() else math.nan)
        for name, list_ in values.items():
            undefined = any(math.isnan(v) for v in list_)
            best[name].append(math.nan if undefined else max(list_))
            mean[name].append(sum(list_) / len(list_))
        votes = sum(g.astype(np.int64).ravel() for g in golds)
        pooled_gold.append((votes >= math.ceil(len(golds) / 2)).astype(np.int64))
        pooled_found.append(f)
    f, g = np.concatenate(pooled_found), np.concatenate(pooled_gold)
    tp, fp, fn = int((f * g).sum()), int((f * (1 - g)).sum()), int(((1 - f) * g).sum())
    count = len(images)
    return {
        "jaccard_meanofmax": sum(best["jaccard"]) / count,
        "jaccard_meanofmean": sum(mean["jaccard"]) / count,
        "dice_meanofmax": sum(best["dice"]) / count,
        "dice_meanofmean": sum(mean["dice"]) / count,
        "jaccard": tp / (tp + fp + fn) if tp + fp + fn else math.nan,
        "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
    }


def write_images(root: Path, images: Images, options: list[dict[str, str]]) -> None:
    for folder in ("refs", "preds"):
        (root / folder).mkdir()
    ways = itertools.cycle(options)
    for n, (found, golds) in enumerate(images):
        (root / "preds" / f"IMG_ENC{n:05}_00001_mask_sys.tiff").write_bytes(tiff(found, **next(ways)))
        for k, gold in enumerate(golds):
            (root / "refs" / f"IMG_ENC{n:05}_00001_mask_ann{k}.tiff").write_bytes(tiff(gold, **next(ways)))


def agree(found: dict[str, Any], expected: dict[str, float]) -> None:
    for key, value in expected.items():
        if math.isnan(value):
            assert found[key] is None, key
        else:
            assert found[key] == pytest.approx(value, abs=1e-12), key


def expand(runs: list[int], shape: list[int]) -> np.ndarray:
    """Return a mask from run lengths in row order, background first."""
    flat = np.concatenate([np.full(length, n % 2, np.uint8) for n, length in enumerate(runs)])
    return flat.reshape(shape)


@pytest.mark.parametrize("name", ["usual", "ties", "empty_prediction", "empty_annotator", "all_empty"])
def test_golden_masks(name: str, tmp_path: Path) -> None:
    case = json.loads((GOLDEN / "overlap.json").read_text())[name]
    images = [(expand(i["found"], i["shape"]), [expand(g, i["shape"]) for g in i["gold"]]) for i in case["images"]]
    expected = {key: math.nan if value is None else value for key, value in case["figures"].items()}
    write_images(tmp_path, images, [{}, {"compression": "zlib"}])
    found = scored(tmp_path / "preds", tmp_path / "refs")
    agree(found, expected)
    agree(found, reference_masks(images))


@st.composite
def image_sets(draw: st.DrawFn) -> Images:
    images = []
    for _ in range(draw(st.integers(1, 4))):
        shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        count = draw(st.integers(1, 4))
        mask = arrays(np.uint8, shape, elements=st.integers(0, 1)) | st.just(np.zeros(shape, np.uint8))
        dtype = st.sampled_from([np.uint8, np.bool_, np.uint16])
        golds = [draw(mask).astype(draw(dtype)) for _ in range(count)]
        images.append((draw(mask).astype(draw(dtype)), golds))
    return images


@settings(max_examples=60, deadline=None)
@given(images=image_sets(), zlib=st.booleans())
def test_random_masks(images: Images, zlib: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("random")
    write_images(root, images, [{"compression": "zlib"} if zlib else {}])
    found = scored(root / "preds", root / "refs")
    agree(found, reference_masks(images))
    assert found["number_segmentation_instances"] == len(images)


def reference_answers(gold: dict[str, dict[str, int]], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the accuracies, slowly: sets of values by the seven characters before the dash."""

    def sets_of(pairs: list[tuple[str, int]]) -> dict[str, set[int]]:
        sets: dict[str, set[int]] = {}
        for qid, value in pairs:
            sets.setdefault(qid.split("-")[0], set()).add(value)
        return sets

    system: dict[str, list[tuple[str, int]]] = {}
    for row in rows:
        pairs = [(key, value) for key, value in row.items() if key != "encounter_id"]
        system.setdefault(row["encounter_id"].split("-")[0], []).extend(pairs)
    figures = {}
    for parent in sorted({qid.split("-")[0] for qid in QUESTIONS.by_qid}):
        credit = []
        for encounter, row in gold.items():
            g, p = sets_of(list(row.items()))[parent], sets_of(system[encounter])[parent]
            credit.append(len(g & p) / max(len(g), len(p)))
        figures[f"accuracy_{parent}"] = sum(credit) / len(credit)
    figures["accuracy_all"] = sum(figures.values()) / len(figures)
    return figures


complete = st.fixed_dictionaries({qid: st.integers(0, q.size - 1) for qid, q in QUESTIONS.by_qid.items()})
siblings = [qid for qid in QUESTIONS.by_qid if not qid.endswith("-001")]


@settings(max_examples=50, deadline=None)
@given(
    gold=st.lists(complete, min_size=1, max_size=3),
    system=st.lists(st.tuples(complete, st.sets(st.sampled_from(siblings)), st.booleans()), min_size=4, max_size=6),
    suffix=st.sampled_from(["", "-1"]),
)
def test_random_answers(
    gold: list[Any], system: list[Any], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Missing siblings, extra encounters, suffixed ids and rows that unite."""
    true = {f"ENC{n:05}": row for n, row in enumerate(gold)}
    rows = []
    for n, (row, missing, twice) in enumerate(system):
        some = {qid: value for qid, value in row.items() if qid not in missing}
        rows += [{"encounter_id": f"ENC{n:05}{suffix}", **some}]
        rows += [{"encounter_id": f"ENC{n:05}", **row}] if twice else []
    path = tmp_path_factory.mktemp("answers") / "preds.json"
    path.write_text(json.dumps(rows))
    truth = Gold("g", QUESTIONS, answers=true)
    with open_predictions(path) as found:
        figures = cvqa.score(truth, found.of("cvqa", truth)).figures
    agree(dict(figures), reference_answers(true, rows))


def test_golden_answers() -> None:
    """specs/peers.md cases 21 to 24: gold {2, 7}."""
    for case in json.loads((GOLDEN / "answers.json").read_text()):
        base = QUESTIONS.to_slots(QUESTIONS.empty_sets())
        gold = base | {f"CQID011-{n:03}": value for n, value in enumerate(case["gold"], 1)}
        found = base | {f"CQID011-{n:03}": value for n, value in enumerate(case["found"], 1)}
        arrays_ = {qid: np.array(value) for qid, value in found.items()}
        score = cvqa.score(Gold("g", QUESTIONS, answers={"E": gold}), [Prediction("E", arrays_)])
        assert score.figures["accuracy_CQID011"] == pytest.approx(case["accuracy"], abs=1e-12)
