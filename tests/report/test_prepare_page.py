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
from magic_cli.report.preparation.page import LOWEST, SPREAD, choose

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
        "Published counts: not compared, as the numbers of encounters are not those of the 2025 challenge.",
        "Several masks of a photo are merged by or: foreground where any annotator says so",
        "No problems: all data that was found is usable.",
        "7 of the 7 photos with two or more masks, the lowest agreement first.",
        f"Dice {dice:.2f} between 2 annotators, lesion 15",
        "No text is cut: each fits into what CLIP (77 tokens, about 55 words) and MiniLM",
        "CLIP, 77 tokens about 55 words 0 of 3 0 of 2 0 of 2",
        "Across splits: none. Photos with the bytes of an earlier one: 3;",
        "All of them are photos of one encounter each, where they do no harm.",
        "shorter side 48 to 48 pixels, median 48; all are 64 x 48",
    ):
        assert text in words
    assert "A sample of the other photos" not in words
    assert len(page.images()) == 7 + 1  # and the mean mask
    assert all(image["alt"] for image in page.images())
    svgs = [attributes for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    assert [(svg["aria-label"] or "").partition(";")[0] for svg in svgs if svg["role"] == "img"] == [
        "Photos per encounter: histogram of 7 encounters over photos.",
        "Agreement of annotators: histogram of 7 photos over mean Dice over pairs of annotators",
        "Texts of train: histogram of 3 texts over tokens",
        "Texts of valid: histogram of 2 texts over tokens",
        "Texts of test: histogram of 2 texts over tokens",
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
    assert "CLIP, 77 tokens about 55 words 0 of 3 0 of 2 0 of 2 100.0 % –" in page.words()


def test_a_split_without_encounters_has_no_histogram(tmp_path: Path) -> None:
    prepare(make_challenge(tmp_path / "d", splits={"test": 2}), tmp_path / "p")
    page = page_of(tmp_path / "p")
    labels = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    assert [label.partition(":")[0] for label in labels] == ["Photos per encounter", "Texts of test"]


def test_links_lead_to_the_sections(prepared: Path) -> None:
    page = page_of(prepared)
    ids = {attributes["id"] for tag, attributes in page.tags if tag == "h2"}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {f"#{name}" for name in ids} == {*links} - {"#main"}
    assert "jump" in [attributes.get("class") for tag, attributes in page.tags if tag == "div"]


def test_answers_in_words(prepared: Path) -> None:
    words = page_of(prepared).words()
    assert "7 of 9 questions have one answer throughout" in words
    assert "CQID010 (Not mentioned), CQID012 (Not mentioned)" in words
    where = "Body site of affected area CQID011 lower extremities 100 % , head 33 % , neck 33 % , 1 more lower"
    assert where in words
    assert "Time since onset CQID015 Not mentioned: always Not mentioned: always –" in words
    assert "option train valid test lower extremities 3 100.0 % 2 100.0 % 0" in words
    assert "never an answer: chest/abdomen, back, other (please specify)" in words


def test_an_answer_that_train_lacks(manifest: dict[str, Any]) -> None:
    lacking = copy.deepcopy(manifest)
    lacking["overview"]["answers"]["CQID036"] |= {
        "only": [],
        "counts": {"train": [0, 0, 3], "valid": [2, 0, 0], "test": [0, 0, 0]},
    }
    words = Outline(html(lacking, [], {}, None)).words()
    assert "smooth never in train 0 0.0 % 2 100.0 % 0" in words
    assert "texture CQID036 Not mentioned 100 % smooth 100 % –" in words


def test_datasets_of_earlier_versions_have_a_page(manifest: dict[str, Any]) -> None:
    earlier = {key: value for key, value in manifest.items() if key not in ("overview", "duplicates", "labels")}
    words = Outline(html(earlier, [], {}, None)).words()
    assert "Counted" in words
    assert "Closed questions" not in words
    assert "Duplicates" not in words


def test_classes_and_attributes(manifest: dict[str, Any]) -> None:
    by_split = {"train": 2, "valid": 0, "test": 0}
    none = dict.fromkeys(SPLITS, 0)
    sexes = {"kinds": 2, "counts": {"f": by_split, HOSTILE: by_split | {"valid": 1}}, "without": none, "numbers": None}
    labelled = copy.deepcopy(manifest)
    labelled["labels"] = {"kinds": 2, "counts": {"nevus": by_split, "bcc": by_split}, "without": none}
    labelled["overview"]["photos_per_case"] = {"1": {"train": 4, "valid": 1, "test": 0}}
    labelled["overview"]["attributes"] = {
        "sex": sexes,
        "gender": sexes,
        "dx": {"kinds": 2, "counts": {"x": by_split, "y": by_split}, "without": none, "numbers": None},
        "source": {
            "kinds": 1,
            "counts": {"here": {"train": 4, "valid": 1, "test": 0}},
            "without": none,
            "numbers": None,
        },
        "patient": {"kinds": 1000, "counts": {}, "without": none, "numbers": None},
        "age": {
            "kinds": 30,
            "counts": {},
            "without": none,
            "numbers": {"edges": [0, 10, 20], "counts": {"train": [3, 1], "valid": [0, 1], "test": [0, 0]}},
        },
    }
    page = Outline(html(labelled, [], {}, None))
    words = page.words()
    assert "Cases by label (also dx), and their share of the split's labelled cases." in words
    assert "One value throughout: source (here)." in words
    assert "Too many values to list: patient (1,000 or more different)" in words
    assert "2 attributes: age, sex" in words
    assert "sex, gender value train valid test f 2 50.0 % 0 0.0 % 0" in words
    assert "10 to 20 1 1 0" in words
    labels = [
        attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg" and "aria-label" in attributes
    ]
    assert "age: histogram of 5 cases over age." in labels


def test_duplicates_across_splits(manifest: dict[str, Any]) -> None:
    found = copy.deepcopy(manifest)
    found["duplicates"] |= {"across": 3, "across_near": 1, "clusters": 3, "exact": 2, "near": 1}
    words = Outline(html(found, [], {}, None)).words()
    assert (
        "Across splits: 3 photos are also in an earlier split (1 of them nearly the same picture, the others the"
        in words
    )
    found["duplicates"] |= {"across": 0, "clusters": 0}
    nothing = "No photo is here twice: neither the same file nor nearly the same picture, within a split or across"
    assert nothing in Outline(html(found, [], {}, None)).words()


def test_texts_that_are_cut(manifest: dict[str, Any]) -> None:
    cut = copy.deepcopy(manifest)
    cut["prompts"]["windows"][0] |= {"exceed": 2}
    words = Outline(html(cut, [], {}, None)).words()
    assert "Of a longer text, a query and its answer, the end of each half is cut" in words
    assert "No text is cut" not in words


def test_prompts_that_were_not_counted(manifest: dict[str, Any]) -> None:
    assert "Text lengths" not in html(manifest | {"prompts": None}, [], {}, None)


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


def test_mean_mask_is_stretched(manifest: dict[str, Any]) -> None:
    mean = Image.new("L", (64, 64), 51)
    page = Outline(html(manifest, [], {}, mean))
    assert "White: lesion in 20.0 % of the photos" in page.words()
    data = base64.b64decode((page.images()[0]["src"] or "").partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        assert image.convert("L").getextrema()[0] >= 253
