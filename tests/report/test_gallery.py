"""The gallery: outlines that stay close to the mask, photos embedded once within a budget, sorts and filters."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from challenge_folders import draw_lesion, draw_photo, save_photo
from page_outline import check
from PIL import Image, ImageDraw
from score_reports import SIZE, MadeReport, make_report, with_photos

from magic_cli.data.gold import MaskGold
from magic_cli.report import score_page
from magic_cli.report.gallery import content
from magic_cli.report.gallery.outlines import UNITS, outline, simplified
from magic_cli.report.gallery.photos import PhotoStore, Quality, quality_for, relative_link
from magic_cli.report.score_page import PagePhotos
from magic_cli.report.score_report import PhotoChoice
from magic_cli.report.short_names import short_names, system_names, without_folders


def points(path: str) -> list[list[tuple[int, int]]]:
    """Return the corners of each closed part of a path of ours, in its units."""
    loops = []
    for part in path.split("z")[:-1]:
        x = y = 0
        loop = []
        for command, text in re.findall(r"([Mlhv])([^Mlhv]*)", part):
            values = [int(value) for value in re.findall(r"-?\d+", text)]
            if command in "hv":
                values = [v for value in values for v in ((value, 0) if command == "h" else (0, value))]
            for dx, dy in zip(values[::2], values[1::2], strict=True):
                x, y = (dx, dy) if command == "M" else (x + dx, y + dy)
                loop.append((x, y))
        loops.append(loop)
    return loops


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask that a path encloses: even and odd, as holes are."""
    total = np.zeros(shape, bool)
    for loop in points(path):
        picture = Image.new("1", (shape[1] * UNITS, shape[0] * UNITS))
        ImageDraw.Draw(picture).polygon(loop, fill=1)
        total ^= np.asarray(picture)[UNITS // 2 :: UNITS, UNITS // 2 :: UNITS]
    return total


def ring(shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot((x - 160) / 1.3, y - 120)
    return (distance < 90) & (distance > 30)


def test_an_outline_is_short_and_encloses_nearly_the_same() -> None:
    mask = ring()
    path = outline(mask)
    assert len(points(path)) == 2  # the edge, and that of the hole
    assert len(path) < 600
    drawn = filled(path, mask.shape)
    assert 2 * (drawn & mask).sum() / (drawn.sum() + mask.sum()) > 0.98
    lesion = draw_lesion((240, 320), 3) > 0
    drawn = filled(outline(lesion), lesion.shape)
    assert 2 * (drawn & lesion).sum() / (drawn.sum() + lesion.sum()) > 0.97


def test_specks_are_left_out_unless_there_is_nothing_else() -> None:
    mask = np.zeros((40, 40), bool)
    mask[3:5, 3:5] = True
    assert outline(mask) == "M6 6h4v4h-4z"
    mask[10:30, 10:30] = True
    assert len(points(outline(mask))) == 1
    assert outline(np.zeros((4, 4), bool)) == ""


def test_simplified_paths_stay_within_the_tolerance() -> None:
    angles = np.linspace(0, 2 * np.pi, 400)
    circle = np.column_stack([100 * np.cos(angles), 100 * np.sin(angles)])
    circle[-1] = circle[0]
    kept = simplified(circle, 0.5)
    assert len(kept) < 60
    assert np.array_equal(kept[0], kept[-1])
    middles = (kept[:-1] + kept[1:]) / 2
    assert np.all(np.hypot(*middles.T) > 99.5 - 1e-9)
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 0]], float)
    assert simplified(square) is square
    assert simplified(np.array([[0, 0], [1, 0], [2, 0], [1, 0], [0, 0]], float)).tolist() == [[0, 0], [2, 0], [0, 0]]


def test_photos_shrink_as_they_become_more() -> None:
    counts = (0, 1, 100, 314, 450, 800, 5_000)
    sizes = [quality_for(count) for count in counts]
    assert [size.side for size in sizes] == sorted((size.side for size in sizes), reverse=True)
    assert all(size.most * count * 4 / 3 < 6_000_000 for size, count in zip(sizes[:-1], counts[:-1], strict=True))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 480, 3), np.uint8))
    photo = PhotoStore(MaskGold("gold"), None, are_shown=True).add("a", noise, Quality(480, 9_000), 0)
    assert len(base64.b64decode(photo.source.partition(",")[2])) <= 9_000


@pytest.fixture
def made(tmp_path: Path) -> MadeReport:
    """Two systems, six photos; the fourth of the first counts as zero."""
    found = make_report(tmp_path, ("seg",), systems=2, images=6)
    save_photo(tmp_path / "photo.jpg", draw_photo(SIZE, 1))
    return replace(found, gold=with_photos(found.gold, tmp_path / "photo.jpg"))


def html(made: MadeReport, choice: PhotoChoice = "all", folder: Path | None = None) -> str:
    return score_page.html(made.report, made.gold, made.masks, photos=PagePhotos(choice, folder))


def cards(page: str) -> list[tuple[str, str, str]]:
    """Return (classes, style, id) of each card, in order."""
    return re.findall(r'<li class="shot ([^"]*)" style="([^"]*)">.*?<p><b>([^<]*)</b>', page, re.DOTALL)


def test_every_photo_is_there_worst_first_and_embedded_once(made: MadeReport) -> None:
    page = html(made)
    found = check(page)
    names = [image for _, _, image in cards(page)]
    [first, *_] = made.report.systems
    ranked = sorted(first.tasks[0].per_item, key=lambda item: item["dice_max"])
    assert names == [item["image"] for item in ranked]
    assert found.shots == len(found.images) == 6
    assert page.count('class="zoom" popover') == 6
    assert page.count("data:image/jpeg") == 6
    assert "Photos of patients: do not share this page" in found.text
    for image in names:
        assert page.count(f"<b>{image}</b>") == 2  # the card, and the enlarged view
    assert "counts as zero: unreadable" in found.text


def test_sorts_and_filters_have_what_they_need(made: MadeReport) -> None:
    page = html(made)
    found = cards(page)
    keys = ("low", "small", "empty", "fault", "apart", "disagree")
    kept = {key: [image for classes, _, image in found if key in classes.split()] for key in keys}
    assert kept["fault"] == kept["low"] == [found[0][2]]
    assert len(kept["small"]) == 2  # 0.5 ** 5 and 0.5 ** 4 of six
    assert kept["empty"] == ["IMG_ENC00002_00002"]
    assert kept["apart"] == []
    for key, images in kept.items():
        count = re.search(rf'id="only-{key}">[^(<]*(?:\(Dice[^)]*\) )?\((\d+)\)', page)
        assert (int(count[1]) if count else 0) == len(images), key
        assert (f"body:has(#only-{key}:checked)" in page) == bool(images)
    for number in (0, 1):
        styles = [dict(part.split(":") for part in style.split(";")) for _, style, _ in found]
        assert [int(style[f"--d{number}"]) for style in styles] == [
            round(1e4 * {i["image"]: i for i in made.report.systems[number].tasks[0].per_item}[image]["dice_max"])
            for _, _, image in found
        ]
        assert f'id="sort-d{number}"' in page
    assert {"--size", "--gain", "--agree"} <= {name for style in styles for name in style}
    for key in ("best", "size", "lost", "won", "agree"):
        assert f'id="sort-{key}"' in page
        assert f"body:has(#sort-{key}:checked)" in page


def test_a_single_system_has_no_gain(tmp_path: Path) -> None:
    page = html(make_report(tmp_path, ("seg",), images=6))
    assert "--gain" not in page.partition("<body>")[2]
    assert 'id="sort-won"' not in page
    assert 'id="sort-d1"' not in page
    assert 'id="show-s1"' not in page


def test_layers_have_lines_of_their_own(made: MadeReport) -> None:
    page = html(made)
    for key, colour in (("s0", "#f0e442"), ("s1", "#ffffff"), ("a0", "#56b4e9"), ("a1", "#ff9d3a"), ("a2", "#3ee0ae")):
        assert f'id="show-{key}"' in page
        assert re.search(rf"\.{key} {{ visibility: [^}}]*stroke: {colour};", page)
        assert f"body:has(#show-{key}:not(:checked))" in page
    assert 'id="show-a3"' not in page
    assert 'id="show-s2"' not in page


@pytest.mark.parametrize(("choice", "shown"), [("all", 40), ("worst", 24), ("none", 0)])
def test_which_photos_are_shown(tmp_path: Path, choice: PhotoChoice, shown: int) -> None:
    made = make_report(tmp_path, ("seg", "cvqa") if choice == "none" else ("seg",), images=40)
    save_photo(tmp_path / "photo.jpg", draw_photo(SIZE, 1))
    made = replace(made, gold=with_photos(made.gold, tmp_path / "photo.jpg"))
    found = check(html(made, choice))
    assert found.shots == shown
    assert len(found.images) == shown
    assert ("Photos of patients" in found.text) == (shown > 0)
    assert ("24 of 40 photos" in found.text) == (choice == "worst")
    assert ("No photo is shown" in found.text) == (choice == "none")
    assert "Ids of the worst 24 as a list" in found.text


def test_a_huge_gallery_ends_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MOST", 5)
    found = check(html(make_report(tmp_path, ("seg",), images=8)))
    assert found.shots == 5
    assert "5 of 8 photos, those with the lowest Dice" in found.text


def test_links_stay_in_the_working_folder(made: MadeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = html(made, folder=Path("out/report"))
    assert page.count('href="../../photo.jpg"') == 6
    assert str(tmp_path) not in page
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert "photo.jpg" not in html(made, folder=Path("report"))
    monkeypatch.chdir(tmp_path)
    assert relative_link(tmp_path / "a b" / "ä.jpg", Path("out")) == "../a%20b/%C3%A4.jpg"
    assert relative_link(None, Path("out")) == relative_link("photo.jpg", None) == ""
    assert relative_link("photo.jpg", tmp_path.parent / "elsewhere") == ""


def test_no_absolute_path_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_report(tmp_path / "gold", ("seg",), systems=2, images=3)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.chdir(tmp_path)
    report = made.report
    names = [str(tmp_path / "runs" / "first"), "/data/ann/runs/second"]
    systems = [
        replace(system, name=name, notes=(f"{name}/x.tiff: odd", "/home/ann/y.tiff: odd"))
        for system, name in zip(report.systems, names, strict=True)
    ]
    report = replace(
        report,
        source=f"{tmp_path}/prepared (split valid)",
        systems=tuple(systems),
        comparisons=(),
        files=replace(report.files, preds=tuple(map(Path, names)), gold=tmp_path / "prepared"),
        provenance=replace(report.provenance, argv=("magic", "score", *names, f"{tmp_path}/prepared")),
    )
    page = score_page.html(report, made.gold, {})
    assert str(tmp_path) not in page
    assert "/data/ann" not in page
    assert "/home/ann" not in page
    assert "<title>Scores of first and second, split valid</title>" in page
    assert "magic score runs/first runs/second prepared" in page


def test_names_of_systems() -> None:
    assert system_names(["valid/seg"]) == {"valid/seg": "valid/seg"}
    assert system_names(["/x/a/seg", "/y/b/seg"]) == {"/x/a/seg": "a", "/y/b/seg": "b"}
    assert list(system_names(["/x/a/seg", "/y/a/seg"]).values()) == ["x", "y"]
    assert short_names(["a", "a/b"]) == {"a": "a", "a/b": "a/b"}
    assert without_folders("see /data/x/y/z.tiff", ["/data/x/y"]) == "see x/y/z.tiff"
