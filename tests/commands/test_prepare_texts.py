"""`magic prepare`: texts and queries of a dataset with captions, files that options name, and what it says of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from challenge_folders import make_challenge
from raw_tables import write_csv, write_photo

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.preparation.case_texts import TextOptions
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, DataError
from magic_cli.records import Case

ROWS = (
    ("a", "Red plaques. It is psoriasis.", "psoriasis", "elbow"),
    ("b", "Psoriasis with scale.", "psoriasis", "psoriasis of the knee"),
    ("c", "A nodule; no ulcer.", "zorbitis", "Zorbitis-like area"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    rows = [
        {
            "filename": f"edu/{name}.png",
            "caption": caption,
            "disease_label": label,
            "body_location": site,
            "gender": "M",
        }
        for name, caption, label, site in ROWS
    ]
    write_csv(root / "Derm1M_v2_pretrain.csv", rows)
    for number, row in enumerate(rows):
        write_photo(root / row["filename"], number)
    return root


def made(folder: Path, **texts: object) -> tuple[Mapping[str, Case], str]:
    """Return the prepared cases by the last letter of their id, and the notes and problems."""
    out = folder.parent / "out"
    options = PrepareOptions(texts=TextOptions(**texts), overwrite=True)  # type: ignore[arg-type]
    result = prepare(folder, out, options)
    cases = {case_id[-1]: case for case_id, case in open_prepared(out).cases.items()}
    return cases, "\n".join((*result.manifest.notes, *result.manifest.problems))


def test_queries_are_from_attributes_and_lose_what_tells(folder: Path) -> None:
    cases, said = made(folder)
    questions = {name: case.question for name, case in cases.items()}
    assert questions == {
        "a": "A male patient with a lesion on the elbow.",
        "b": "A male patient.",
        "c": "A male patient.",
    }
    assert "2 queries have lost values that tell a class or its management (site 2)" in said
    assert cases["a"].texts["disease"]["en"].endswith("psoriasis.")
    assert cases["a"].texts["subtext-2"] == {"en": "It is psoriasis"}
    assert "concept" in cases["c"].texts
    assert "ulcer" not in cases["c"].texts["concept"]["en"]
    assert "texts made for pretraining: 3 disease texts, 3 concept texts, 5 sentence texts" in said


def test_captions_as_queries_are_cut(folder: Path) -> None:
    cases, said = made(folder, query_from="caption", knowledge=False)
    assert {name: case.question for name, case in cases.items()} == {
        "a": "Red plaques.",
        "b": "",
        "c": "A nodule; no ulcer.",
    }
    assert "2 captions have been cut" in said
    assert "got 1 caption that tells the class in its first sentence" in said
    assert "raw" in cases["a"].texts
    assert "disease" not in cases["a"].texts
    both, _ = made(folder, query_from="both", query_attributes=("sex",))
    assert both["a"].question == "A male patient. Red plaques."


def test_files_that_options_name(folder: Path) -> None:
    ontology, cache = folder.parent / "o.csv", folder.parent / "answers.jsonl"
    ontology.write_text("child,parent\nzorbitis,strange\n")
    cache.write_text('{"image_id": "edu_c", "concepts": ["papule"]}\n{"case_id": "nobody", "disease": null}\n')
    cases, said = made(folder, ontology=ontology, llm_cache=str(cache), overflow="merge")
    assert cases["c"].texts["disease"]["en"] == "This is a skin photo diagnosed as strange, zorbitis."
    assert cases["c"].texts["concept"]["en"] == "This skin photo shows papule."
    assert "answers.jsonl: 1 answer is for an id that no case has" in said
    record = json.loads((folder.parent / "out/run.json").read_text())
    assert {Path(path).name for path in record["inputs"]} >= {"o.csv", "answers.jsonl"}


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ({"overflow": "x"}, ConfigError), ({"query_from": "notes"}, ConfigError),
        ({"query_attributes": ("dx",)}, ConfigError), ({"ontology": "none.json"}, DataError),
        ({"llm_cache": "none.jsonl"}, DataError), ({"ontology": ""}, ConfigError),
    ],
)  # fmt: skip
def test_faults_are_one_line_and_leave_nothing(
    folder: Path, texts: Mapping[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        made(folder, **texts)
    assert len(raised.value.problems) == 1  # type: ignore[attr-defined]
    assert not (folder.parent / "out").exists()


def test_a_source_with_its_own_knowledge_texts_is_left_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "data"
    row = {
        "filename": "1.png",
        "caption": "Red plaques. Psoriasis.",
        "ontology_caption": "own",
        "visual_concept_caption": "x",
    }
    write_csv(root / "make.csv", [{**row, "knowledge_masks": "[1, 1, 0]", "standardized_disease": "psoriasis"}])
    write_photo(root / "1.png")
    kept = {case_id: sorted(case.texts) for case_id, case in made(root)[0].items()}
    assert kept == {"1": ["disease", "raw"]}
    filled = made(root, knowledge=True)[0]["1"].texts
    assert filled["disease"] == {"en": "own"}
    assert filled["concept"] == {"en": "This skin photo shows erythema, plaque."}


def test_the_challenge_is_as_before_unless_asked(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make_challenge(folder)
    before, _ = made(folder)
    assert {role for case in before.values() for role in case.texts} <= {"title", "content", "response-1", "response-2"}
    after, said = made(folder, knowledge=True)
    assert {name: case.question for name, case in after.items()} == {n: c.question for n, c in before.items()}
    assert any("subtext-1" in case.texts for case in after.values())
    assert "texts made for pretraining" in said


def test_a_mapped_text_is_part_of_the_query_as_far_as_it_tells_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data"
    rows = [
        {"file": "1.png", "dx": "zorbitis", "note": "It itches at night. Is it Zorbitis? Help.", "sex": "female"},
        {"file": "2.png", "dx": "BCC", "note": "Grows; shown in 2.png as rodent ulcer", "sex": ""},
    ]
    write_csv(root / "mine.csv", rows)
    for number in (1, 2):
        write_photo(root / f"{number}.png", number)
    options = PrepareOptions(mapping=("image=file", "label=dx", "text=note", "sex=sex"))
    result = prepare(root, tmp_path / "out", options)
    cases = open_prepared(tmp_path / "out").cases
    assert cases["1"].question == "A female patient. It itches at night."
    assert cases["2"].question == "Grows;"
    assert any("2 captions have been cut" in note for note in result.manifest.notes)
    assert result.manifest.settings.query_from == "both"


def test_captions_of_labels(tmp_path: Path) -> None:
    root = tmp_path / "data"
    rows = [{"image": f"{name}.png", "label": "nevus", "sex": "male"} for name in "ab"]
    write_csv(root / "table.csv", rows)
    for number, row in enumerate(rows):
        write_photo(root / row["image"], number)
    options = PrepareOptions(mapping=("image=image", "label=label"), texts=TextOptions(label_captions=2))
    result = prepare(root, tmp_path / "out", options)
    assert "2 captions of labels" in "\n".join(result.manifest.notes)
    assert result.manifest.settings.label_captions == 2
    for case in open_prepared(tmp_path / "out").cases.values():
        assert "nevus" in case.text("raw")["en"]
        assert "nevus" in case.text("subtext-1")["en"]
        assert "nevus" not in case.question
    with pytest.raises(ConfigError, match="--label-captions: got 9"):
        TextOptions(label_captions=9).check()
    with pytest.raises(ConfigError, match="--label-captions: got it with --no-knowledge"):
        TextOptions(knowledge=False, label_captions=1).check()
