"""prepared/index.html: what it shows, that it is escaped and complete in itself, and what it leaves out."""

import base64
import copy
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from challenge_folders import make_challenge
from PIL import Image

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.manifest import PUBLISHED, PrepareManifest
from magic_cli.data.prepared import PAGE, open_prepared
from magic_cli.records import SPLITS, ImageRecord
from magic_cli.report.preparation import page as prepare_page
from magic_cli.report.preparation.page import LOWEST, SPREAD, _plot, choose

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J'


class Outline(HTMLParser):
    """Tags, attributes and text of a page; fails where tags are not closed as they were opened."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += (
            [tag] if tag not in self.VOID or (tag == "rect" and not self.get_starttag_text().endswith("/>")) else []
        )

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID or self.open[-1] == tag:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def manifest(prepared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((prepared / "prepare.json").read_text(encoding="utf-8"))
    return found


def html(manifest: dict[str, Any], images: list[ImageRecord], dices: dict[str, float], mean: Image.Image | None) -> str:
    return prepare_page.html(PrepareManifest.from_json(manifest), images, dices, mean)


def records(prepared: Path) -> list[ImageRecord]:
    return list(open_prepared(prepared).images.values())


def page_of(prepared: Path) -> Outline:
    return Outline((prepared / PAGE).read_text(encoding="utf-8"))


def test_page_of_a_dataset(prepared: Path, manifest: dict[str, Any]) -> None:
    page, dice = page_of(prepared), manifest["agreement"]["mean_dice"]
    words = page.words()
    for text in (
        "10 photos of 7 encounters, with 14 annotators' masks",
        "nothing published to compare with",
        "Masks merged by or: foreground where any annotator says so",
        "No problems: all data that was found is usable.",
        "7 of the 7 photos with two or more masks, the lowest agreement first.",
        f"Dice {dice:.2f} between 2 annotators, lesion 15",
        "CLIP, 77 tokens 0 of 3 0 of 2 0 of 2",
    ):
        assert text in words
    assert "A sample of the other photos" not in words
    assert len(page.images()) == 7 + 1  # and the mean mask
    assert all(image["alt"] for image in page.images())
    svgs = [attributes for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    assert [(svg["aria-label"] or "").partition(";")[0] for svg in svgs if svg["role"] == "img"] == [
        "Agreement of annotators: histogram of 7 photos over mean Dice over pairs of annotators",
        "Prompts of train: histogram of 3 prompts over tokens",
        "Prompts of valid: histogram of 2 prompts over tokens",
        "Prompts of test: histogram of 2 prompts over tokens",
    ]


def test_page_is_complete_in_itself_and_holds_no_patients_text(prepared: Path) -> None:
    text = (prepared / PAGE).read_text(encoding="utf-8")
    page = Outline(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    for said in ("Rash number", "It itches", "Eczema", "皮疹", "湿疹", "季节性皮炎", "U00001"):
        assert said not in text
    assert str(prepared.parent) not in text


def test_pictures_are_small_and_of_the_photos_size(prepared: Path) -> None:
    for image in page_of(prepared).images():
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        assert len(base64.b64decode(data)) <= 30_000
        width, height = int(image["width"] or 0), int(image["height"] or 0)
        assert 64 <= width <= 360
        assert width * 3 == height * 4 or width == height == 256


def test_whatever_comes_from_outside_is_escaped(manifest: dict[str, Any], prepared: Path) -> None:
    hostile = copy.deepcopy(manifest)
    hostile |= {"problems": [HOSTILE] * 25, "notes": [HOSTILE], "mask_values": {HOSTILE: 3}}
    hostile["inputs"]["files"] = {HOSTILE: HOSTILE}
    hostile["prompts"]["tokenizer"] = HOSTILE
    hostile["prompts"]["windows"][0]["model"] = HOSTILE
    images = [replace(image, image_id=HOSTILE) for image in records(prepared)[:1]]
    text = html(hostile, images, {HOSTILE: 0.5}, None)
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;alert(1)") > 30
    page = Outline(text)
    assert [image["alt"] for image in page.images()] == [
        HOSTILE.replace("\x1b", "\\x1b") + " with the contours of its masks: 2"
    ]


def test_all_problems_and_notes(manifest: dict[str, Any]) -> None:
    many = manifest | {"problems": [f"problem {k}." for k in range(1234)], "notes": ["a choice"]}
    many["left_out"] = {"images": 1200, "masks": 0}
    words = Outline(html(many, [], {}, None)).words()
    assert "1,234 problems: data that was lost" in words
    assert "Left out: 1,200 photos." in words
    assert "1,224 more" in words
    assert all((f"problem {k}." in words) == (k < 1000) for k in range(1234))
    assert "234 more are in prepare.json." in words
    assert "a choice" in words
    one = Outline(html(many | {"problems": ["this one"]}, [], {}, None)).words()
    assert "1 problem: data that was lost" in one
    assert " more " not in one.partition("Notes")[0].partition("this one")[2]


def test_counts_beside_the_published_ones(manifest: dict[str, Any]) -> None:
    counts = copy.deepcopy(manifest["counts"])
    counts["train"]["images"], counts["valid"]["images"] = 2473, 157
    published = {"counts": {split: dict(PUBLISHED[split]) for split in SPLITS}, "difference": {}}
    words = Outline(html(manifest | {"counts": counts, "published": published}, [], {}, None)).words()
    assert "photos 2,473 of 2,474 published 157 as published 3 of 314 published" in words
    assert "with closed answers 3 of 300 published 2 of 56 published 0 photos with no mask" in words


def test_of_many_problems_the_page_shows_some_and_counts_the_rest(manifest: dict[str, Any]) -> None:
    """Half of ten times the challenge without masks: 15,000 lines would be megabytes that nobody reads."""
    many = [f"IMG_ENC{k:05}_00001: no mask, expected one to four masks; copy its masks" for k in range(15_000)]
    page = html(manifest | {"problems": many, "notes": many}, [], {}, None)
    words = Outline(page).words()
    assert "15,000 problems: data that was lost" in words
    assert words.count("14,000 more are in prepare.json.") == 2
    assert page.count("copy its masks") == 2_000
    assert len(page) < 400_000


def test_sections_without_anything_to_show_are_left_out(tmp_path: Path) -> None:
    prepare(make_challenge(tmp_path / "d", photos=False, annotators=0), tmp_path / "p", PrepareOptions(responses=False))
    page = page_of(tmp_path / "p")
    assert page.images() == []
    assert "Annotators" not in page.words().replace("Annotators' masks", "")
    assert "the clinicians' responses are left out" in page.words()
    assert "0 of 10 photos found: text-only dataset" in page.words()
    assert "CLIP, 77 tokens 0 of 3 0 of 2 0 of 2 100.0 % –" in page.words()


def test_a_split_without_encounters_has_no_histogram(tmp_path: Path) -> None:
    prepare(make_challenge(tmp_path / "d", splits={"test": 2}), tmp_path / "p")
    page = page_of(tmp_path / "p")
    labels = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    assert [label.partition(":")[0] for label in labels] == ["Prompts of test"]


def test_prompts_that_were_not_counted(manifest: dict[str, Any]) -> None:
    assert "Prompt lengths" not in html(manifest | {"prompts": None}, [], {}, None)


def test_one_annotator(tmp_path: Path) -> None:
    prepare(make_challenge(tmp_path / "d", annotators=1), tmp_path / "p")
    words = page_of(tmp_path / "p").words()
    assert "no photo has two masks" in words
    assert "Where annotators agree least" not in words
    assert "7 of 7, evenly spaced through the dataset." in words
    assert "(train) one annotator, lesion 15." in words


def test_what_vanished_meanwhile_is_passed_over(prepared: Path, manifest: dict[str, Any], tmp_path: Path) -> None:
    images = records(prepared)
    images[0] = replace(images[0], annotators={"ann0": tmp_path / "gone.tiff"})
    images[1] = replace(images[1], path=tmp_path / "gone.jpg")  # its contours are on grey
    shown = Outline(html(manifest, images, {}, None)).images()
    assert [image["alt"].split()[0] for image in shown if image["alt"]] == [i.image_id for i in images[1:7]]


def record(number: int, annotators: int) -> ImageRecord:
    masks = {f"ann{k}": Path(f"{k}.tiff") for k in range(annotators)}
    return ImageRecord(f"IMG_{number:04}", "E", "train", None, 4, 6, False, None, masks, "0" * 64)


def test_choose() -> None:
    images = [record(k, 0 if k % 10 == 9 else 1 + k % 2) for k in range(1000)]
    dices = {image.image_id: 1 - k / 1000 for k, image in enumerate(images) if len(image.annotators) == 2}
    lowest, spread = choose(images, dices)
    assert [image.image_id for image in lowest] == sorted(dices, key=lambda name: dices[name])[:LOWEST]
    assert len(spread) == SPREAD
    assert not {image.image_id for image in lowest} & {image.image_id for image in spread}
    assert all(image.annotators for image in spread)
    places = [int(image.image_id[4:]) for image in spread]
    steps = [b - a for a, b in pairwise(places)]
    assert 10 < places[0] < 40  # the middle of the first of 24 parts
    assert places[-1] > 900
    assert 40 <= min(steps) <= max(steps) <= 50


def test_choose_few() -> None:
    images = [record(k, 2) for k in range(30)]
    dices = dict.fromkeys([image.image_id for image in images], 0.5)
    lowest, spread = choose(images, dices)
    assert [*lowest, *spread] == images  # ties by name, and nothing twice
    assert choose([record(0, 0)], {}) == ([], [])


def test_bars_are_as_high_as_their_numbers() -> None:
    plot = _plot(("t", "a", "things"), ([0, 5, 10, 20], list("abcd")), 4, [(0, "0"), (4, "4")], [(1, "one")])
    left, right, top, bottom = plot.frame
    heights = [height for _, _, _, height, _ in plot.bars]
    assert heights == pytest.approx([heights[1] / 2, heights[1], heights[1] * 2], abs=0.02)
    assert all(y + height == pytest.approx(bottom) and y > top for _, y, _, height, _ in plot.bars)
    assert [text for *_, text in plot.bars] == ["b: 5 things", "c: 10 things", "d: 20 things"]
    assert plot.x_ticks == ((left, "0"), (right, "4"))
    assert plot.marks == ((left + (right - left) / 4, "one"),)
    assert [text for _, text in plot.y_ticks] == ["0", "5", "10", "15", "20"]
    assert plot.y_ticks[2][0] == pytest.approx(plot.bars[1][1])
    assert "histogram of 35 things over a; marked: one." in plot.label


def test_mean_mask_is_stretched(manifest: dict[str, Any]) -> None:
    mean = Image.new("L", (64, 64), 51)
    page = Outline(html(manifest, [], {}, mean))
    assert "White: lesion in 20.0 % of the photos" in page.words()
    data = base64.b64decode((page.images()[0]["src"] or "").partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        assert image.convert("L").getextrema()[0] >= 253
