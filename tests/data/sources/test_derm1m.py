"""Derm1M, AgentAug and MAKE: columns, masks, splits, and rows that are dropped, missing, rewritten or hostile."""

from pathlib import Path

import pytest
from raw_tables import write_csv, write_photo

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions
from magic_cli.errors import DataError

DERM1M = {
    "filename": "edu/1.png",
    "caption": "A scaly plaque on the arm. It is psoriasis.",
    "truncated_caption": "A scaly plaque on the arm",
    "disease_label": "psoriasis",
    "hierarchical_disease_label": "inflammatory, non-infectious, psoriasis",
    "skin_concept": "plaque, scale",
    "body_location": "arm",
    "symptoms": "itch",
    "age": "45 years old",
    "gender": "Female",
}

MAKE = {
    "filename": "edu/1.png",
    "caption": "Irritant diaper dermatitis. Erythematous patches sparing the skin folds.",
    "truncated_caption": "Irritant diaper dermatitis.",
    "ontology_caption": "This is a skin photo diagnosed as inflammatory, dermatitis.",
    "visual_concept_caption": "This skin photo shows patch, erythema.",
    **{f"subcaption_{number}": "" for number in range(1, 9)},
    "subcaption_1": "Irritant diaper dermatitis",
    "subcaption_2": "Erythematous patches sparing the skin folds",
    "sub_caption_mask": "[1, 1, 0, 0, 0, 0, 0, 0]",
    "knowledge_masks": "[1, 1, 1]",
    "source": "edu",
    "source_type": "knowledge",
    "standardized_disease": "dermatitis",
    "ontology_final": "inflammatory, dermatitis",
    "skin_concept_standarized": "patch, erythema",
    "augmented_caption": "nan",
    "body_location": "No body location information",
    "symptoms": "",
    "age": "6 months",
    "gender": "M",
    "sub_captions": "2",
}


def opened(root: Path, *rows: dict[str, str], name: str = "Derm1M_v2_pretrain.csv") -> RawDataset:
    write_csv(root / name, rows)
    for number in range(3):
        write_photo(root / f"edu/{number}.png", number)
    return open_source(root, ReadOptions())


def only(raw: RawDataset) -> RawCase:
    (case,) = raw.cases
    return case


def test_a_row_of_derm1m(tmp_path: Path) -> None:
    raw = opened(tmp_path, DERM1M)
    read = only(raw)
    case = read.case
    assert (raw.source, case.case_id, case.split, case.image_ids) == ("derm1m", "edu_1", "train", ("edu_1",))
    assert case.texts == {"raw": {"en": DERM1M["caption"]}, "truncated": {"en": DERM1M["truncated_caption"]}}
    assert case.label == "psoriasis"
    assert case.licence == "CC BY-NC 4.0"
    canonical = {name: case.attributes[name] for name in ("age", "sex", "site", "label_path", "concepts")}
    assert canonical == {
        "age": "45",
        "sex": "female",
        "site": "arm",
        "label_path": "inflammatory > non-infectious > psoriasis",
        "concepts": "plaque; scale",
    }
    assert case.attributes["hierarchical_disease_label"] == DERM1M["hierarchical_disease_label"]
    assert [photo.path for photo in read.photos] == [str(tmp_path / "edu/1.png")]
    assert read.where == "Derm1M_v2_pretrain.csv:2"
    assert not raw.issues.problems


def test_a_row_of_make(tmp_path: Path) -> None:
    raw = opened(tmp_path, MAKE, name="MAKE_valid.csv")
    case = only(raw).case
    assert case.split == "valid"
    assert case.texts == {
        "raw": {"en": MAKE["caption"]},
        "truncated": {"en": MAKE["truncated_caption"]},
        "disease": {"en": MAKE["ontology_caption"]},
        "concept": {"en": MAKE["visual_concept_caption"]},
        "subtext-1": {"en": MAKE["subcaption_1"]},
        "subtext-2": {"en": MAKE["subcaption_2"]},
    }
    assert (case.label, case.attributes["label_path"]) == ("dermatitis", "inflammatory > dermatitis")
    assert case.attributes["concepts"] == "patch; erythema"
    assert (case.attributes["age"], case.attributes["sex"], case.attributes["source"]) == ("0.5", "male", "edu")
    assert "site" not in case.attributes
    assert not raw.issues.notes


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"knowledge_masks": "[1, 0, 1]"}, {"disease"}),  # (caption, ontology, visual concept), as AgentAug documents
        ({"knowledge_masks": "[1, 1, 0]"}, {"concept"}),
        ({"knowledge_masks": "[0, 1, 1]"}, {"raw", "truncated"}),
        ({"ontology_caption": "nan"}, {"disease"}),
        ({"ontology_caption": "[No definitive diagnosis]"}, {"disease"}),
        ({"visual_concept_caption": "[No matching attributes]"}, {"concept"}),
        ({"sub_caption_mask": "[1, 0, 0, 0, 0, 0, 0, 0]"}, {"subtext-2"}),
        ({"subcaption_2": "NaN"}, {"subtext-2"}),
        ({"sub_caption_mask": ""}, set()),
    ],
)
def test_masked_and_missing_texts_are_absent(changes: dict[str, str], missing: set[str], tmp_path: Path) -> None:
    roles = {"raw", "truncated", "disease", "concept", "subtext-1", "subtext-2"}
    assert set(only(opened(tmp_path, MAKE | changes)).case.texts) == roles - missing


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("knowledge_masks", "__import__('os').system('touch canary')"),
        ("knowledge_masks", "[1, 1]"),
        ("knowledge_masks", "[1, 1, 2]"),
        ("knowledge_masks", "[1, 1, nan]"),
        ("knowledge_masks", "[1, 1, [1]]"),
        ("sub_caption_mask", "[1] * 8"),
        ("sub_caption_mask", "[1, 1, 1]"),
        ("ontology_final", "['a', {'b': 1}]"),
    ],
)
def test_a_bad_cell_costs_its_row_and_is_named(
    column: str, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = opened(tmp_path, MAKE | {column: cell}, MAKE | {"filename": "edu/2.png"})
    assert [read.case.case_id for read in raw.cases] == ["edu_2"]
    (line,) = raw.issues.problems
    assert line.startswith(f"Derm1M_v2_pretrain.csv:2:{column}: got ")
    assert raw.issues.left_out["cases"] == 1
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("cell", "path"),
    [
        ("['inflammatory', 'psoriasis']", "inflammatory > psoriasis"),
        ("inflammatory > psoriasis, guttate", "inflammatory > psoriasis, guttate"),
        ("No definitive diagnosis", None),
        ("nan", None),
    ],
)
def test_label_paths_in_any_spelling(cell: str, path: str | None, tmp_path: Path) -> None:
    case = only(opened(tmp_path, DERM1M | {"hierarchical_disease_label": cell})).case
    assert case.attributes.get("label_path") == path


def test_what_says_nothing_is_absent(tmp_path: Path) -> None:
    nothing = {"disease_label": "No definitive diagnosis", "skin_concept": "No visual concepts", "gender": "unknown"}
    case = only(opened(tmp_path, DERM1M | nothing | {"age": "No age information"})).case
    assert case.label is None
    assert not {"age", "sex", "concepts"} & set(case.attributes)


def test_vqa_rows_are_dropped_and_counted_and_missing_photos_listed(tmp_path: Path) -> None:
    rows = [DERM1M, DERM1M | {"filename": "VQA/1.png"}, DERM1M | {"filename": "VQA/2.png"}]
    raw = opened(tmp_path, *rows, DERM1M | {"filename": "edu/99.png"}, DERM1M | {"filename": ""})
    (tmp_path / "edu.zip").write_bytes(b"")
    raw = open_source(tmp_path, ReadOptions())
    first, second = raw.cases
    assert [len(read.photos) for read in (first, second)] == [1, 0]
    assert second.case.image_ids == ("edu_99",)
    no_name, vqa = raw.issues.problems
    assert no_name.startswith("Derm1M_v2_pretrain.csv:6: got no filename")
    assert vqa.startswith("Derm1M_v2_pretrain.csv: got 2 rows whose photo is in VQA/")
    assert raw.issues.left_out["cases"] == 3
    assert raw.issues.notes == ["1 archive is not read (edu.zip); unpack what photos are missing from"]


def test_a_photo_in_several_rows_and_a_name_in_several_folders(tmp_path: Path) -> None:
    write_photo(tmp_path / "pubmed/1.png", 7)
    raw = opened(tmp_path, DERM1M, DERM1M, DERM1M | {"filename": "pubmed/1.png"})
    reads = list(raw.cases)
    assert [read.case.case_id for read in reads] == ["edu_1", "edu_1", "pubmed_1"]
    assert [read.photos[0].path for read in reads][1:] == [str(tmp_path / "edu/1.png"), str(tmp_path / "pubmed/1.png")]


def test_what_an_agent_wrote_is_marked(tmp_path: Path) -> None:
    agent = MAKE | {"ontology_label": "-1", "agent_generated": "True"}
    raw = opened(tmp_path, agent, agent | {"filename": "edu/2.png", "ontology_label": "17", "agent_generated": "0"})
    written, own = (read.case for read in raw.cases)
    assert written.licence == "CC BY-NC-ND 4.0; caption rewritten by an agent"
    assert (written.attributes["agent_generated"], "ontology_label" in written.attributes) == ("true", False)
    assert own.licence == "CC BY-NC-ND 4.0"
    assert (own.attributes["agent_generated"], own.attributes["ontology_label"]) == ("false", "17")
    assert raw.issues.notes == ["1 caption is rewritten by an agent: agent_generated and the licence say so"]


def test_of_several_tables_of_a_split_the_richest_is_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "Derm1M_v2_validation.csv", [DERM1M | {"filename": "edu/2.png"}])
    write_csv(tmp_path / "MAKE_train.csv", [MAKE])
    raw = opened(tmp_path, DERM1M | {"new_column": "x"})
    assert {read.case.split: read.where for read in raw.cases} == {
        "train": "MAKE_train.csv:2",
        "valid": "Derm1M_v2_validation.csv:2",
    }
    assert set(raw.inputs) == {"MAKE_train.csv", "Derm1M_v2_validation.csv"}
    (note,) = raw.issues.notes
    assert note.startswith("Derm1M_v2_pretrain.csv: not read")


def test_unknown_columns_are_counted_and_shown(tmp_path: Path) -> None:
    raw = opened(tmp_path, DERM1M | {"new_column": "x"})
    assert raw.issues.notes == ["Derm1M_v2_pretrain.csv: 1 column is not used (new_column)"]


def test_a_pointer_and_parquet_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "Derm1M_v2_pretrain.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(DataError, match=r"Derm1M_v2_pretrain\.csv: got a Git LFS pointer"):
        open_source(tmp_path, ReadOptions())
    (tmp_path / "Derm1M_v2_pretrain.csv").unlink()
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1 filename caption agent_generated PAR1")
    with pytest.raises(DataError, match="got a Parquet file"):
        open_source(tmp_path, ReadOptions())


def test_prepared(tmp_path: Path) -> None:
    rows = [MAKE, MAKE, MAKE | {"filename": "VQA/3.png"}, MAKE | {"filename": "edu/77.png"}]
    opened(tmp_path / "raw", *rows)
    result = prepare(tmp_path / "raw", tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    assert {name: case.image_ids for name, case in prepared.cases.items()} == {
        "edu_1": ("edu_1",),
        "edu_1-2": ("edu_1-2",),
    }
    assert {case.group_id for case in prepared.cases.values()} == {next(iter(prepared.images.values())).sha256[:16]}
    assert (result.manifest.left_out["cases"], result.manifest.left_out["images"]) == (2, 1)
