"""Duplicates: every copy found, no other photo taken for one, as by brute force; listed, grouped or left out."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from drawn_copies import COPIES, draw_skin
from listed_source import listed, prepare_listed, raw_case
from PIL import Image

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.imaging.fingerprint import Fingerprint, fingerprint, sampled
from magic_cli.data.imaging.images import check_photo
from magic_cli.data.preparation.duplicates import BITS, CORRELATION, Clusters, close_pairs, correlations, same_bytes
from magic_cli.data.preparation.splits import SplitRule
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, DataError
from magic_cli.io import schema
from magic_cli.records import SPLITS


def are_near(one: Fingerprint, other: Fingerprint) -> bool:
    if one.hash is None or other.hash is None:
        return False
    left, right = (np.frombuffer(f.thumbnail, np.uint8)[None] for f in (one, other))
    return (one.hash ^ other.hash).bit_count() <= BITS and float(correlations(left, right)[0]) >= CORRELATION


# ---- fingerprints


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_near_duplicates(name: str) -> None:
    for seed in range(12):
        photo = draw_skin(seed)
        assert are_near(fingerprint(photo), fingerprint(COPIES[name](photo))), seed


def test_different_photos_are_none() -> None:
    found = [fingerprint(draw_skin(seed)) for seed in range(60)]
    assert not any(are_near(one, other) for n, one in enumerate(found) for other in found[:n])


@pytest.mark.parametrize(
    "photo",
    [
        Image.new("RGB", (300, 200), (220, 180, 160)),
        Image.fromarray(np.random.default_rng(0).integers(200, 210, (300, 300, 3), np.uint8)),  # plain skin: noise
        Image.linear_gradient("L").convert("RGB"),  # light from one side
        Image.radial_gradient("L").resize((90, 90)).point(lambda v: 255 - v // 8).convert("RGB"),
        Image.new("RGB", (1, 1)),
        draw_skin(1).resize((9, 200)),
    ],
    ids=["blank", "plain skin", "gradient", "vignette", "one pixel", "a strip"],
)
def test_photos_with_nothing_to_compare_have_no_hash(photo: Image.Image) -> None:
    assert fingerprint(photo).hash is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_of_a_file_has_a_fingerprint(mode: str, tmp_path: Path) -> None:
    photo = draw_skin(3, 700)
    grey = photo.convert("L")
    stored = Image.fromarray(np.asarray(grey, np.uint16) << 8) if mode == "I;16" else photo.convert(mode)
    path = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
    stored.save(path)
    found = check_photo(str(path), "p").fingerprint
    assert found.hash is not None
    if mode != "1":
        assert are_near(found, fingerprint(sampled(photo)))


@pytest.mark.parametrize("side", [100, 300, 1500])
def test_a_photo_stored_turned_is_near_the_upright_one(side: int, tmp_path: Path) -> None:
    photo = draw_skin(4, side)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    photo.save(tmp_path / "upright.jpg")
    assert are_near(*(check_photo(str(tmp_path / f"{n}.jpg"), n).fingerprint for n in ("turned", "upright")))


# ---- the search


def test_close_pairs_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**64, 1500, np.uint64)
    for source in range(0, 600, 3):  # copies with 0 to 14 other bits
        flips = draw.choice(64, source % 15, replace=False)
        hashes[source + 1] = hashes[source] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=0)
    hashes[1400:] = hashes[0]
    one, other = np.triu_indices(len(hashes), 1)
    near = np.bitwise_count(hashes[one] ^ hashes[other]) <= BITS
    expected = set(zip(one[near].tolist(), other[near].tolist(), strict=True))
    for chunk in (1 << 20, 50):
        monkeypatch.setattr("magic_cli.data.preparation.duplicates._CHUNK", chunk)
        pairs = [tuple(pair) for part in close_pairs(hashes) for pair in part.tolist()]
        assert len(pairs) == len(set(pairs))
        assert set(pairs) == expected
    assert list(close_pairs(hashes[:0])) == list(close_pairs(hashes[:1])) == []


def test_same_bytes_and_clusters() -> None:
    rows = np.array([[1, 2], [3, 4], [1, 2], [0, 2], [3, 4]], np.uint8)
    assert same_bytes(rows).tolist() == [0, 1, 0, 3, 1]
    clusters = Clusters(same_bytes(rows))
    clusters.join(np.array([3]), np.array([4]))
    assert clusters.first().tolist() == [0, 1, 0, 1, 1]


# ---- through prepare


def dataset(tmp_path: Path, splits: Sequence[str] = ("", "", "", "", "", "", "", "")) -> list:
    """Return cases 0 to 7: 1 has the bytes of 0, 2 is a copy of 3 with another label, the others are different."""
    names = ["a", "a", "b", "b", "c", "d", "e", "f"]
    copies = {1: "a", 2: "b"}
    rows = []
    for number, name in enumerate(names):
        path = tmp_path / "photos" / f"p{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        photo = draw_skin(ord(name))
        (COPIES["half the size"](photo) if copies.get(number) == "b" else photo).save(path, quality=88)
        label = "nevus" if number != 2 else "melanoma"
        rows.append(raw_case(number, path, split=splits[number], label=label, group_id=f"P{number}"))
    return rows


def prepared(rows: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: object):
    prepare_listed(monkeypatch, listed(rows, tmp_path))
    result = prepare(tmp_path / "photos", tmp_path / "out", PrepareOptions(**options))  # type: ignore[arg-type]
    manifest = json.loads((tmp_path / "out" / "prepare.json").read_text(encoding="utf-8"))
    assert schema.problems("prepared", manifest, "prepare.json") == []
    found = open_prepared(tmp_path / "out")
    assert found.manifest == result.manifest
    return found, manifest


@pytest.mark.parametrize("seed", range(3))
def test_groups_that_share_a_photo_become_one(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, manifest = prepared(dataset(tmp_path), tmp_path, monkeypatch, valid=0.3, test=0.3, seed=seed)
    groups = [case.group_id for case in found.cases.values()]
    assert groups == ["P0", "P0", "P2", "P2", "P4", "P5", "P6", "P7"]
    cases = list(found.cases.values())
    assert (cases[0].split, cases[2].split) == (cases[1].split, cases[3].split)
    figures = {
        key: manifest["duplicates"][key] for key in ("exact", "near", "clusters", "conflicts", "across", "dropped")
    }
    assert figures == {"exact": 1, "near": 1, "clusters": 2, "conflicts": 1, "across": 0, "dropped": 0}
    assert [cluster["conflict"] for cluster in manifest["duplicates"]["shown"]] == [True, False]
    [line] = manifest["problems"]
    assert line.startswith("labels: got 1 photo that has duplicates of another label: p2 melanoma = p3 nevus, expected")
    assert any("the same bytes as another case's of its split (p0 = p1)" in note for note in manifest["notes"])
    assert any("nearly the same picture as another case's of its split (p2 = p3)" in n for n in manifest["notes"])
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/jpeg') == 4
    assert "conflicting labels" in page
    assert "dealt by magic" in page


def test_duplicates_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, manifest = prepared(dataset(tmp_path), tmp_path, monkeypatch, duplicates="drop")
    assert list(found.cases) == [f"C{n:04}" for n in (0, 2, 4, 5, 6, 7)]
    assert list(found.images) == ["p0", "p2", "p4", "p5", "p6", "p7"]
    assert manifest["left_out"] | {"images": 2, "cases": 2} == manifest["left_out"]
    assert manifest["duplicates"]["dropped"] == 2
    assert [p["split"] == "" for c in manifest["duplicates"]["shown"] for p in c["photos"]] == [False, True] * 2
    assert "2 duplicate photos are left out (--duplicates drop): p1, p3" in manifest["notes"]


OFFICIAL = ("train", "test", "valid", "train", "train", "train", "valid", "test")


def test_across_official_splits_they_are_problems_and_the_later_split_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, manifest = prepared(dataset(tmp_path, OFFICIAL), tmp_path, monkeypatch)
    assert tuple(case.split for case in found.cases.values()) == OFFICIAL
    assert any("test: got 1 photo that is also in train, byte for byte: p1 = p0," in p for p in manifest["problems"])
    assert any("valid: got 1 photo that is also in train, nearly the same: p2 = p3," in p for p in manifest["problems"])
    prepare_listed(monkeypatch, listed(dataset(tmp_path, OFFICIAL), tmp_path))
    with pytest.raises(DataError, match="also in train"):
        prepare(tmp_path / "photos", tmp_path / "q", PrepareOptions(strict=True))
    options = {"duplicates": "drop", "overwrite": True}
    found, manifest = prepared(dataset(tmp_path, OFFICIAL), tmp_path, monkeypatch, **options)
    assert list(found.images) == ["p1", "p2", "p4", "p5", "p6", "p7"]
    assert not any("also in" in line for line in manifest["problems"])


def test_kept_duplicates_are_listed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, manifest = prepared(dataset(tmp_path), tmp_path, monkeypatch, duplicates="keep")
    assert [case.group_id for case in found.cases.values()] == [f"P{n}" for n in range(8)]
    assert manifest["duplicates"]["clusters"] == 2


def test_another_word_for_duplicates(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--duplicates: got merge, expected keep or drop or group"):
        prepare(tmp_path, tmp_path / "p", PrepareOptions(duplicates="merge"))


def test_blank_photos_are_no_duplicates_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number in range(6):
        path = tmp_path / "photos" / f"p{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (200 + number, 160, 150)).save(path)
        rows.append(raw_case(number, path, group_id=f"P{number}"))
    _, manifest = prepared(rows, tmp_path, monkeypatch)
    assert manifest["duplicates"]["clusters"] == 0
    assert SplitRule().valid == manifest["settings"]["valid"]
    assert set(manifest["counts"]) == set(SPLITS)


def test_the_page_escapes_names_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number in range(2):
        path = tmp_path / "photos" / f"p{number}.png"
        path.parent.mkdir(exist_ok=True)
        draw_skin(1).save(path)
        rows.append(raw_case(number, path, label=f"<script>{number}</script>", group_id="<b>"))
    prepared(rows, tmp_path, monkeypatch)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;1" in page
