"""The page about contrastive pretraining: what intervals support, classes, concepts, retrieval; all of it escaped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from challenge_folders import draw_photo
from page_outline import check
from pair_predictions import draw
from pair_reports import CLIP, FEW, MAKE, Made, make_pairs, write
from score_reports import score_report

from magic_cli.commands.score import score
from magic_cli.data.gold import AnswerGold, Gold, MaskGold
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.errors import SubmissionError
from magic_cli.io.json_files import read_json
from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import Interval, TaskScores
from magic_cli.report import score_page
from magic_cli.report.leaderboard import entries
from magic_cli.report.pairs.ablation import ablation, differing, verdict
from magic_cli.report.pairs.classes import MOST_IN_TABLE, class_content, concept_content
from magic_cli.report.pairs.examples import LONGEST, choose, cut
from magic_cli.report.pairs.heat import STOPS, colours, heat
from magic_cli.report.score_report import SystemScores
from magic_cli.report.short_names import short_names
from magic_cli.report.verdict import detailed_system
from magic_cli.submission.pairs import MAPS, MapFile, find_pairs
from magic_cli.tasks import get


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def pages(made: Made) -> dict[str, str]:
    return {"one": made.html("make"), "two": made.html("clip", "make")}


@pytest.mark.parametrize("name", ["one", "two"])
def test_everything_is_on_a_page_that_runs_and_loads_nothing(pages: dict[str, str], name: str) -> None:
    found = check(pages[name])
    words = " ".join(found.text.split())
    for heading in ("Class by class", "Which class is taken for which", "Concept by concept", "Retrieval by example"):
        assert heading in words
    assert "Photos and words of patients: do not share this page" in words
    assert "<script>document.title" in found.text  # as text
    assert "\\x1b[31m\\x202e" in found.text
    assert "own text" in words
    assert "own photo" in words
    assert len(pages[name].encode()) < 8_000_000
    assert "official" not in words.lower()  # there is no official scorer of this task


def test_undefined_concepts_are_listed_and_not_half(pages: dict[str, str]) -> None:
    words = " ".join(check(pages["one"]).text.split())
    assert "Undefined, and in no mean: ulcer (seen on no photo)." in words


def test_several_systems_are_an_ablation(pages: dict[str, str], made: Made) -> None:
    words = " ".join(check(pages["two"]).text.split())
    assert "Systems as an ablation" in words
    for setting in ("loss", "subtexts", "slra, weight", "dkw", "infonce", "0.7"):
        assert setting in words
    assert "workers" not in words
    assert "make is above clip in balanced accuracy by" in words
    assert "Details below are those of" in words  # the better system, though it is the second
    assert "those of make, which has the highest mean of tasks" in words
    assert str(made.root) not in pages["two"]
    assert "Systems as an ablation" not in pages["one"]


def test_maps_and_photos_are_pictures_of_at_most_a_dozen_examples(pages: dict[str, str]) -> None:
    html = pages["one"]
    assert 6 <= html.count('<article class="pair">') <= 12
    assert html.count("Similarity of ") == 2 * 6  # the whole text and its sentence
    assert "whole text" in html
    assert "sentence of patient text" in html
    assert pages["two"].count('<article class="pair">') == html.count('<article class="pair">')


def test_published_tables_of_a_paper_are_its_own(made: Made) -> None:
    report = replace(made.report("make"), published={"pretrain": entries("pretrain")})
    html = score_page.html(report, made.gold, {})
    words = " ".join(check(html).text.split())
    for table in ("Table 1", "Table 2", "Table 3"):
        assert f"as published, {table}" in words
    assert "hidden test set" not in words
    assert words.count("mkcl, slra, dkw") == 1


def test_systems_of_the_same_task_are_compared_with_the_first(made: Made) -> None:
    report = made.report("clip", "make", "clip")
    (row,) = report.comparisons
    assert (row.system, row.other) == (str(made.root / "make"), str(made.root / "clip"))
    assert row.differences["balanced_accuracy"].difference > 0
    assert made.report("make").comparisons == ()


def test_a_report_is_written_with_its_page(made: Made, tmp_path: Path) -> None:
    lines = "".join(f"/photos/{name}.jpg,{label}\n" for name, label in made.gold.pairs.classes.items())  # type: ignore[union-attr]
    (tmp_path / "gold.csv").write_text(f"image_path,label\n{lines}")
    options = replace(FEW, out=tmp_path / "report")
    score([made.root / "clip", made.root / "make"], tmp_path / "gold.csv", options)
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    words = " ".join(check(html).text.split())
    assert "Systems as an ablation" in words
    assert "Retrieval by example" not in words  # this gold has no texts
    assert "words of patients" not in words
    assert read_json(tmp_path / "report" / "report.json")["comparisons"]


def test_photos_that_are_gone_and_peers_without_vectors(made: Made, tmp_path: Path) -> None:
    bare = replace(made, gold=replace(made.gold, pairs=replace(made.gold.pairs, photos={}, subtexts={})))  # type: ignore[type-var]
    assert "there is no photo to show" in check(bare.html("make")).text
    (tmp_path / "peer.csv").write_bytes((made.root / "make" / "zero_shot.csv").read_bytes())
    words = check(Made(tmp_path, made.gold).html("peer.csv")).text
    assert "Class by class" in words
    assert "Concept by concept" not in words
    assert "Retrieval by example" not in words


def test_damaged_maps_are_one_line(made: Made, tmp_path: Path) -> None:
    write(tmp_path / "make", made.gold.pairs, draw(40)[1], MAKE)  # type: ignore[arg-type]
    (tmp_path / "make" / MAPS).write_bytes(b"no maps")
    with pytest.raises(SubmissionError, match=r"maps\.safetensors") as error:
        Made(tmp_path, made.gold).html("make")
    assert len(error.value.problems) == 1


def test_maps_are_read_as_they_were_written(made: Made) -> None:
    files = find_pairs(made.root / "make")
    assert files is not None
    maps, written = MapFile(files.maps), {p.id: p.maps for p in draw(40)[1]}
    assert maps.ids == {name for name, each in written.items() if each is not None}
    for name in sorted(maps.ids):
        np.testing.assert_array_equal(maps.maps(name), written[name])
    assert MapFile(None).ids == frozenset()


CLEAR, LOWER, UNCLEAR = (
    Difference(0.12, 0.05, 0.19, 0.001),
    Difference(-0.1, -0.2, -0.02, 0.01),
    Difference(0.01, -0.05, 0.07, 0.8),
)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (
            {"balanced_accuracy": CLEAR, "i2t_recall_any@50": UNCLEAR},
            (
                "MAKE is above CLIP in balanced accuracy by 0.12 [0.05, 0.19]; "
                "no difference is shown in recall at 50 from photo to text."
            ),
        ),
        (
            {"balanced_accuracy": CLEAR, "concept_auroc": CLEAR, "recall@10": LOWER},
            (
                "MAKE is above CLIP in balanced accuracy by 0.12 [0.05, 0.19] and concept AUROC by 0.12 [0.05, 0.19]; "
                "is below CLIP in recall at 10 by 0.10 [0.02, 0.20]."
            ),
        ),
        ({"balanced_accuracy": UNCLEAR}, "MAKE: no difference to CLIP is shown in balanced accuracy."),
        ({"balanced_accuracy": replace(CLEAR, p=0.2)}, "MAKE: no difference to CLIP is shown in balanced accuracy."),
        ({"balanced_accuracy": replace(CLEAR, difference=float("nan"))}, ""),
        ({}, ""),
    ],
)
def test_the_sentence_is_what_intervals_support(differences: dict[str, Difference], expected: str) -> None:
    assert verdict("MAKE", "CLIP", differences) == expected


def test_settings_that_differ_come_in_makes_order() -> None:
    assert differing([CLIP, MAKE]) == (("objective", "subtexts", "local_weight", "weighting"), ())
    assert differing([CLIP, {}]) == ((), ())
    many = {f"s{n}": n for n in range(12)}
    columns, more = differing([many, {key: value + 1 for key, value in many.items()}])
    assert (len(columns), len(more)) == (8, 4)


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["preds/clip", "preds/make"], ["clip", "make"]),
        (["a/clip/valid", "a/make/valid"], ["clip", "make"]),
        (["a/b", "b"], ["a/b", "b"]),
        (["make", "make/make"], ["make", "make/make"]),
        (["one/system"], ["one/system"]),
    ],
)
def test_names_are_as_short_as_they_can_be(names: list[str], short: list[str]) -> None:
    assert list(short_names(names).values()) == short


def _classes(count: int) -> TaskScores:
    names = [f"class {n}" for n in range(count)]
    rows = [{"class": n, "photos": 2, "recall": 0.5, "auroc": 0.5, "chance": 1 / count} for n in names]
    items = [{"class": n, "predicted": names[k]} for n in names for k in (0, 1)]
    return TaskScores("pretrain", {}, summary_rows=tuple(rows), per_item=tuple(items))


def test_many_classes_have_their_most_frequent_confusions_instead_of_a_table() -> None:
    few, many = (class_content(_classes(count), {}) for count in (MOST_IN_TABLE, MOST_IN_TABLE + 1))
    assert few is not None
    assert many is not None
    assert sum(map(sum, few.table)) == 2 * MOST_IN_TABLE
    assert (many.names, many.table) == ((), ())
    assert many.confused[0] == ("class 0", "class 1", 1, 2)
    assert class_content(TaskScores("pretrain", {}), {}) is None
    assert concept_content(TaskScores("pretrain", {}), {}) is None


def test_scores_without_intervals_or_numbers_make_a_table() -> None:
    bare = TaskScores("pretrain", {"top1": float("nan"), "balanced_accuracy": 0.5}, has_official=False)
    whole = replace(bare, intervals={"balanced_accuracy": Interval(0.4, float("nan"))})
    table = ablation({"a": bare, "b": whole}, (), {})
    assert table.verdicts == ()
    assert table.heads == ("Balanced accuracy",)
    assert detailed_system(get("pretrain"), {"a": bare, "b": whole}) == "a"
    system = SystemScores("a", (), (bare,))
    assert check(score_page.html(score_report(system), Gold("g", MaskGold("g"), AnswerGold("g", NO_QUESTIONS)), {}))


@pytest.mark.parametrize("count", [0, 1, 3, 7, 50])
def test_examples_are_of_distinct_texts(count: int) -> None:
    items: list[dict[str, object]] = [{"image": f"i{n}", "rank": 1 + n // 2} for n in range(count)]
    chosen = choose(items, lambda item: int(str(item["rank"])), lambda item: str(int(str(item["image"])[1:]) // 2))
    images = [str(item["image"]) for _, kept in chosen for item in kept]
    assert len({int(name[1:]) // 2 for name in images}) == len(images) == min(6, (count + 1) // 2)
    if count == 50:
        assert [[item["rank"] for item in kept] for _, kept in chosen] == [[1, 2], [13, 14], [25, 24]]


def test_colours_run_from_the_first_stop_to_the_last() -> None:
    ramp = colours(np.linspace(-0.2, 0.6, 5), -0.2, 0.6)
    assert ["#" + bytes(row).hex() for row in ramp] == list(STOPS)
    assert (colours(np.array([7.0]), 0.1, 0.1) == ramp[-1]).all()  # one value only: no division by zero
    photo = draw_photo((40, 60), 1)
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 1
    picture = np.asarray(heat(photo, values, 0, 1), float)
    assert picture.shape[:2] == (photo.height, photo.width)
    assert picture[2, 2, 0] - picture[-2, -2, 0] > 50  # yellow there, violet elsewhere


def test_long_texts_are_cut() -> None:
    assert cut("a" * LONGEST) == "a" * LONGEST
    assert len(cut("a b " * LONGEST)) <= LONGEST
    assert cut("a b " * LONGEST).endswith("…")
