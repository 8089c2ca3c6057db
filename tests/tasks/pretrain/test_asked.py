"""What is asked: from the command line, from files as peers have them, and from the gold."""

import json
from pathlib import Path

import numpy as np
import pytest
from pair_predictions import CLASSES, CONCEPTS, draw

from magic_cli.data.pair_gold import PairGold
from magic_cli.errors import ConfigError
from magic_cli.submission.pairs import SubmittedPair
from magic_cli.tasks.pretrain.asked import Asked, Concept, PretrainDecision, asked
from magic_cli.tasks.pretrain.matched import matched
from magic_cli.tasks.pretrain.prompts import CLASS_TEMPLATES

NOTHING = PairGold("no gold")


def classes_of(words: object) -> tuple[str, ...]:
    return asked(NOTHING, PretrainDecision(classes=str(words))).classes


def test_the_gold_is_asked_for() -> None:
    gold = draw()[0]
    assert asked(gold) == Asked(tuple(sorted(CLASSES)), CLASS_TEMPLATES, tuple(Concept(c, (c,)) for c in CONCEPTS))
    assert asked(NOTHING) == Asked()
    assert asked(PairGold("one", classes={"a": "nevus"})).classes == ()


def test_spellings_of_one_class_or_concept_are_asked_for_once_and_scored() -> None:
    labels = {"a": "Nevus", "b": "nevus", "c": "nevus", "d": "basal cell carcinoma", "e": "Basal_cell carcinoma"}
    seen = {"a": frozenset({"Scale"}), "b": frozenset({"scale"}), "c": frozenset()}
    gold = PairGold("a table", labels, seen, groups={name: name for name in labels})
    questions = asked(gold)
    assert questions.classes == ("Basal_cell carcinoma", "nevus")
    assert [concept.name for concept in questions.concepts] == ["Scale"]

    even, one = np.full(2, 0.5, np.float32), np.ones(1, np.float32)
    asked_for = {"classes": questions.classes, "concepts": ("Scale",)}
    pairs = [SubmittedPair(name, class_scores=even, concept_scores=one, **asked_for) for name in labels]
    both = matched(gold, pairs)
    assert both.classes is not None
    assert both.classes.gold.tolist() == [1, 1, 1, 0, 0]
    assert both.concepts is not None
    assert both.concepts.positive.tolist() == [[True], [True], [False]]


@pytest.mark.parametrize(
    "written",
    [
        "basal  cell carcinoma\n# a note\n\nnevus\n",
        '["basal cell carcinoma", "nevus"]',
        "\ufeffbasal cell carcinoma\r\nnevus",
    ],
)
def test_classes_from_files(written: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text(written)
    assert classes_of(tmp_path / "classes.txt") == ("basal cell carcinoma", "nevus")


def test_classes_from_the_command_line() -> None:
    assert classes_of("a, b ,c") == ("a", "b", "c")
    assert classes_of('["a, with comma", "b"]') == ("a, with comma", "b")


@pytest.mark.parametrize("words", ["melanoma", "", "a,a", "Nevus, nevus", "[1, 2]", "[", '{"a": 1}', "x" * 5000])
def test_bad_classes(words: str) -> None:
    with pytest.raises(ConfigError) as error:
        classes_of(words)
    assert len(error.value.problems) == 1


def test_concepts_with_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "ConceptTerms.json"
    path.write_text(json.dumps({"scale": ["scale", "scaly ", "scale"], "ulcer": [], "crust": "crust"}))
    assert asked(NOTHING, PretrainDecision(concepts=str(path))).concepts == (
        Concept("scale", ("scale", "scaly")),
        Concept("ulcer", ("ulcer",)),
        Concept("crust", ("crust",)),
    )
    listed = tmp_path / "concept_list.txt"
    listed.write_text("scale\nulcer\n")
    assert [c.name for c in asked(NOTHING, PretrainDecision(concepts=str(listed))).concepts] == ["scale", "ulcer"]


@pytest.mark.parametrize(
    "written", ["", "{}", "[]", '{"a": 1}', '{"a": [1]}', "[[]]", "7", "{", '{"a": ["x"], "a": ["y"]}']
)
def test_bad_concepts(written: str, tmp_path: Path) -> None:
    path = tmp_path / "concepts.json"
    path.write_text(written)
    with pytest.raises(ConfigError):
        asked(NOTHING, PretrainDecision(concepts=str(path)))
    with pytest.raises(ConfigError):
        asked(NOTHING, PretrainDecision(concepts=str(tmp_path / "none.txt")))


def test_other_wordings_of_the_templates() -> None:
    found = [asked(NOTHING, PretrainDecision(reword=name)).templates for name in ("templates-1", "templates-2")]
    assert [len(set(templates)) for templates in (CLASS_TEMPLATES, *found)] == [8, 8, 8]
    assert len({*CLASS_TEMPLATES, *found[0], *found[1]}) == 24
    assert all(template.count("{}") == 1 for template in (*found[0], *found[1]))
    with pytest.raises(ConfigError, match="--reword: got case, expected templates-1 or templates-2 for pretrain"):
        PretrainDecision(reword="case")
    with pytest.raises(ConfigError, match="--reword: got it with --templates"):
        PretrainDecision(reword="templates-1", templates="mine.txt")


def test_templates(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("A photo of {c}.\nThis is {}\n")
    assert asked(NOTHING, PretrainDecision(templates=str(path))).templates == ("A photo of {}.", "This is {}")
    for bad in ("A photo.\n", "{} and {}\n", ""):
        path.write_text(bad)
        with pytest.raises(ConfigError):
            asked(NOTHING, PretrainDecision(templates=str(path)))


def test_presence_needs_classes() -> None:
    with pytest.raises(ConfigError, match=r"^--presence: got none without classes, expected two or more classes"):
        asked(PairGold("none"), PretrainDecision(presence=True))
    assert asked(PairGold("none"), PretrainDecision(presence=True, classes="a, b")).presence
