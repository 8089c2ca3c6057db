"""Derm7pt from its folder to a page: a miniature of the layout that the paper of composed retrieval used."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_outline import check
from PIL import Image
from raw_tables import write_csv

from magic_cli.cli import app
from magic_cli.io import schema

KINDS = {
    "clark nevus": ((150, 100, 70), "typical", "absent"),
    "melanoma (in situ)": ((60, 40, 40), "atypical", "irregular"),
    "seborrheic keratosis": ((190, 160, 90), "absent", "absent"),
}
NOTE = "Mrs Xanthippe, called twice"
PLACES = ("back", "lower limbs", "abdomen")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """release_v0 with 21 cases of three diagnoses, two photos each; notes name a patient."""
    root, rng = tmp_path / "release_v0", np.random.default_rng(7)
    rows, numbers = [], range(21)
    for number in numbers:
        diagnosis, (colour, network, streaks) = list(KINDS.items())[number % 3]
        names = {"derm": f"NEL/NEL{number:03}.jpg", "clinic": f"NEL/Nel{number:03}c.jpg"}
        for name in names.values():
            pixels = np.clip(np.array(colour) + rng.normal(0, 12, (40, 48, 3)), 0, 255)
            path = root / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        seen = {"pigment_network": network, "streaks": streaks, "pigmentation": "absent", "elevation": "flat"}
        seen |= dict.fromkeys(("regression_structures", "dots_and_globules", "blue_whitish_veil"), "absent")
        seen |= {
            "vascular_structures": "absent",
            "location": PLACES[number % 5 % 3],
            "sex": ("female", "male")[number % 2],
        }
        other = {"seven_point_score": "1", "level_of_diagnostic_difficulty": "low", "management": "excision"}
        ids = {"case_num": str(number + 1), "case_id": f"NEL{number:03}", "notes": NOTE}
        rows.append({**ids, "diagnosis": diagnosis, **seen, **other, **names})
    write_csv(root / "meta/meta.csv", rows)
    for split, chosen in {"train": numbers[:15], "valid": numbers[15:18], "test": numbers[18:]}.items():
        write_csv(root / f"meta/{split}_indexes.csv", [{"": at, "indexes": at_row} for at, at_row in enumerate(chosen)])
    return root


@pytest.fixture
def magic(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Run `magic WORDS... --json` in tmp_path; return what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["magic", *words, "--json"])
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = capsys.readouterr()
        assert left.value.code in (0, None), err
        result: dict[str, Any] = json.loads(out)
        return result

    return run


def test_from_the_release_to_a_page_of_cases(magic: Callable[..., dict[str, Any]], folder: Path) -> None:
    """Five folds by lesion, a model, an index without notes, ids and paths, and a page."""
    magic("prepare", "--data", "release_v0")
    tiny = ("train", "retrieve", "--preset", "tiny", "--set", "epochs=1", "--set", "views=1")
    folds = magic(*tiny, "--folds", "5", "--out", "folds")
    held_out = [lesion for part in folds["parts"] for lesion in part["encounters"]]
    assert sorted(held_out, key=int) == [str(number) for number in range(1, 16)]
    assert all({"macro_map", "balanced_acc@1"} <= part["figures"].keys() for part in folds["parts"])
    magic(*tiny)
    assert magic("index", "build", "cases", "--ckpt", "runs/retrieve")["added"] == 30
    index = magic("index", "info", "cases")
    assert index["classes"] == dict.fromkeys(sorted(KINDS), 10)
    fields = set(index["index"]["fields"])
    assert {"diagnosis", "diagnosis_3", "sex", "site", "streaks", "pigment_network", "group"} <= fields
    assert fields.isdisjoint({"notes", "case_num", "case_id", "lesion", "derm", "clinic", "management"})
    query = ("--image", str(folder / "images/NEL/NEL019.jpg"), "--attr", "streaks=irregular", "--attr", "sex=male")
    found = magic("search", "--index", "cases", *query, "--where", "sex = 'male'", "--html", "page.html")
    assert schema.problems("search", found, "search") == []
    assert found["query"]["text"] == "A male patient. Dermoscopy: irregular streaks."
    assert {hit["fields"]["sex"] for hit in found["hits"]} == {"male"}
    page = Path("page.html").read_text(encoding="utf-8")
    assert "melanoma (in situ)" in check(page).text
    kept = b"".join(path.read_bytes() for path in Path("cases").rglob("*") if path.suffix != ".pt" and path.is_file())
    assert not any(word in page or word.encode() in kept for word in ("Xanthippe", "Nel013c.jpg", "NEL/"))


CLASSES = {"clark nevus": "nevus", "melanoma (in situ)": "mel", "seborrheic keratosis": "bkl"}


def test_controls_stand_beside_a_model_of_three_classes(magic: Callable[..., dict[str, Any]], folder: Path) -> None:
    """A class that is an attribute; controls in one table with the model; a gallery of the own split; a BEIR folder."""
    magic("prepare", "--data", folder.name)
    magic("train", "retrieve", "--preset", "tiny", "--set", "epochs=1", "--set", "classes=diagnosis_3")
    predict = ("predict", "retrieve", "--ckpt", "best.pt", "--split", "valid")
    made = magic(*predict, "--controls", "--beir", "--out", "own")
    assert (made["gallery"], made["classes"]) == ("train", "diagnosis_3")
    assert json.loads(Path("own/run.json").read_text(encoding="utf-8"))["settings"]["gallery"] == "train"
    controls = sorted(map(str, Path("own/controls").iterdir()))
    assert len(controls) == 9
    some = [name for name in controls if name.endswith(("/random", "/image_cosine"))]
    report = magic("score", "own", *some, "prepared", "--resamples", "100")
    assert [system["name"] for system in report["systems"]] == ["own", *some]
    (own, *_), (compared, *_) = report["systems"], report["comparisons"]
    assert [row["class"] for row in own["reports"][0]["rows"]] == sorted(CLASSES.values())
    assert {(row["system"], row["other"]) for row in report["comparisons"]} == {("own", name) for name in some}
    assert {"difference", "low", "high", "p"} <= compared["figures"]["macro_map"].keys()
    beir = magic("score", "own/run.trec", "own/beir", "--resamples", "100")["systems"][0]["reports"][0]["figures"]
    assert beir["map"] == pytest.approx(own["reports"][0]["figures"]["map"])
    own_split = magic(*predict, "--gallery", "loo", "--controls", "--out", "loo")
    assert own_split["gallery"] == "loo"
    for name in ("loo", *map(str, Path("loo/controls").iterdir())):
        with np.load(Path(name) / "similarities.npz") as arrays:
            assert arrays["queries"].tolist() == arrays["gallery"].tolist()
            assert np.isnan(arrays["scores"]).sum(1).tolist() == [2] * 6  # both photos of the lesion
    magic(*predict, "--out", "own", "--overwrite")
    assert not Path("own/controls").exists()  # nothing of older predictions stays
    magic("index", "build", "cases", "--ckpt", "runs/retrieve")
    index = magic("index", "info", "cases")
    assert index["classes"] == dict.fromkeys(sorted(CLASSES.values()), 10)
    assert "diagnosis_exact" in index["index"]["fields"]
