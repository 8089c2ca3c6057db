"""Any table through `--map`: which column is what, every way in which people name photos, and what is told."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from raw_tables import write_csv, write_json_file, write_photo

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import open_source
from magic_cli.data.sources.generic.mapping import parse_mapping
from magic_cli.data.sources.generic.row_facts import age_of, sex_of, skin_type_of
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions
from magic_cli.errors import ConfigError, DataError

HOSTILE = "__import__('os').system('touch hacked')"


def read(root: Path, *words: str) -> tuple[RawDataset, dict[str, RawCase]]:
    dataset = open_source(root, ReadOptions(parse_mapping(words)))
    return dataset, {raw.case.case_id: raw for raw in dataset.cases}


def make(root: Path, rows: Sequence[Mapping[str, object]], *photos: str) -> Path:
    write_csv(root / "table.csv", rows)
    for number, name in enumerate(photos):
        write_photo(root / name, number)
    return root


def test_every_column_finds_its_place(tmp_path: Path) -> None:
    row = {
        "img": "a.png",
        "dx": "nevus",
        "note": "Red, scaly.",
        "note_de": "Rot, schuppig.",
        "pat": "007",
        "les": "L1",
        "fold": "Validation",
        "rights": "CC BY 4.0",
        "years": "45.0",
        "gender": "F",
        "where": "left arm",
        "fst": "FST3",
        "clinic": "north",
        "broad": "benign",
        "narrow": "melanocytic",
        "plaque": "1",
        "scale": "0",
        "itch": "yes",
        "extra": "x",
    }
    words = "image=img,label=dx,text=note,text.de=note_de,patient=pat,lesion=les,split=fold,licence=rights,age=years"
    more = (
        "sex=gender,site=where,skin_type=fst,source=clinic,label_path=broad+narrow,concepts=plaque+scale,attribute=itch"
    )
    dataset, cases = read(make(tmp_path, [row], "a.png"), words, more)
    case = cases["a"].case
    assert case.texts == {"raw": {"en": "Red, scaly.", "de": "Rot, schuppig."}}
    assert (case.label, case.split, case.group_id, case.licence, case.question) == (
        *("nevus", "valid", "007", "CC BY 4.0"),
        "",
    )
    assert case.attributes == {
        "itch": "yes",
        "age": "45",
        "sex": "female",
        "site": "left arm",
        "skin_type": "3",
        "source": "north",
        "patient": "007",
        "lesion": "L1",
        "label_path": "benign > melanocytic",
        "concepts": "plaque",
    }
    assert dataset.issues.notes == ["table.csv: 1 column is not used (extra)"]
    assert list(dataset.inputs) == ["table.csv"]


@pytest.mark.parametrize(
    "written",
    [
        "photos/a b/IMG_1.JPG",
        "./photos/a b/IMG_1.JPG",
        "photos\\a b\\IMG_1.JPG",
        "IMG_1.JPG",
        "IMG_1",
        "img_1.jpg",
        "/home/someone/data/photos/a b/IMG_1.JPG",
        "C:\\data\\photos\\a b\\IMG_1.JPG",
        "https://example.org/set/IMG_1.JPG?size=full",
        "{root}/photos/a b/IMG_1.JPG",
    ],
)
def test_a_photo_is_found_however_it_is_written(tmp_path: Path, written: str) -> None:
    root = make(tmp_path, [{"image": written.format(root=tmp_path)}], "photos/a b/IMG_1.JPG", "photos/other.png")
    _, cases = read(root, "image=image")
    (raw,) = cases.values()
    assert [photo.path for photo in raw.photos] == [str(tmp_path / "photos/a b/IMG_1.JPG")]
    assert raw.case.image_ids == ("IMG_1",) or written == "img_1.jpg"


@pytest.mark.parametrize(
    "written", ["../secret.png", "{outside}/secret.png", "photos/../../secret.png", "x" * 5000, "a\nb"]
)
def test_nothing_outside_of_the_folder_is_read(tmp_path: Path, written: str) -> None:
    write_photo(tmp_path / "secret.png")
    root = make(tmp_path / "data", [{"image": written.format(outside=tmp_path)}], "photos/other.png")
    _, cases = read(root, "image=image")
    assert [raw.photos for raw in cases.values()] == [()]


def test_several_photos_in_a_cell_in_columns_and_in_rows(tmp_path: Path) -> None:
    rows = [
        {"case": "list", "image": "['a.png', 'b.png']", "second": ""},
        {"case": "bar", "image": "c.png|d.png", "second": "nan"},
        {"case": "rows", "image": "e.png", "second": ""},
        {"case": "columns", "image": "f.png", "second": "g.png"},
        {"case": "rows", "image": "h.png", "second": ""},
        {"case": "rows", "image": "e.png", "second": ""},
    ]
    root = make(tmp_path, rows, *(f"{name}.png" for name in "abcdefgh"))
    dataset, cases = read(root, "id=case,image=image+second")
    assert {name: raw.case.image_ids for name, raw in cases.items()} == {
        "list": ("a", "b"),
        "bar": ("c", "d"),
        "columns": ("f", "g"),
        "rows": ("e", "h"),
    }
    assert all(len(raw.photos) == len(raw.case.image_ids) for raw in cases.values())
    assert not dataset.issues.problems


def test_rows_of_a_case_agree_or_the_first_is_used(tmp_path: Path) -> None:
    rows = [
        {"case": "1", "image": "a.png", "dx": "nevus", "text": "first", "split": "train", "itch": "no"},
        {"case": "2", "image": "c.png", "dx": "nevus", "text": "", "split": "test", "itch": ""},
        {"case": "1", "image": "b.png", "dx": "melanoma", "text": "second", "split": "test", "itch": "yes"},
    ]
    root = make(tmp_path, rows, "a.png", "b.png", "c.png")
    dataset, cases = read(root, "id=case,image=image,label=dx,text=text,split=split,attribute=*")
    case = cases["1"].case
    assert (case.label, case.split, case.attributes) == ("nevus", "train", {"itch": "no; yes"})
    assert case.texts == {"raw": {"en": "first\nsecond"}}
    assert [line.partition(";")[0] for line in dataset.issues.problems] == [
        f"table.csv:4: got another {name} of 1 than in table.csv:2, expected the same" for name in ("label", "split")
    ]


def test_photos_of_one_name_in_two_folders_are_two_cases(tmp_path: Path) -> None:
    rows = [{"image": "nevus/1.png"}, {"image": "acne/1.png"}]
    _, cases = read(make(tmp_path, rows, "nevus/1.png", "acne/1.png"), "image=image")
    assert list(cases) == ["nevus/1", "acne/1"]
    assert len({raw.photos[0].path for raw in cases.values()}) == 2


def test_masks_by_column_and_by_name(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "mask": "a.png"},
        {"image": "b.png", "mask": "masks/b_1.png|masks/b_2.png"},
        {"image": "c.png", "mask": "gone.png"},
    ]
    names = ("images/a.png", "masks/a.png", "images/b.png", "masks/b_1.png", "masks/b_2.png", "images/c.png")
    root = make(tmp_path, rows, *names)
    dataset, cases = read(root, "image=image,mask=mask")
    found = {name: dict(raw.photos[0].masks) for name, raw in cases.items()}
    assert found == {
        "a": {"ann0": str(root / "masks/a.png")},
        "b": {"ann0": str(root / "masks/b_1.png"), "ann1": str(root / "masks/b_2.png")},
        "c": {},
    }
    assert [raw.photos[0].path for raw in cases.values()] == [str(root / f"images/{name}.png") for name in "abc"]
    assert dataset.issues.left_out["masks"] == 1
    _, by_name = read(root, "image=image")
    assert {name: dict(raw.photos[0].masks) for name, raw in by_name.items()} == {
        "a": {"ann0": str(root / "masks/a.png")},
        "b": {},
        "c": {},
    }


def test_one_hot_labels(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "MEL": "1.0", "NV": "0.0"},
        {"image": "b.png", "MEL": "0.0", "NV": "1.0"},
        {"image": "c.png", "MEL": "0", "NV": "0"},
        {"image": "d.png", "MEL": "1", "NV": "1"},
    ]
    dataset, cases = read(make(tmp_path, rows), "image=image,label=MEL+NV")
    assert [raw.case.label for raw in cases.values()] == ["MEL", "NV", None, None]
    assert dataset.issues.problems == [
        "table.csv:5: got 2 classes (MEL, NV), expected one; the row has no label; fix it"
    ]


def test_labels_read_as_missing_are_counted_with_their_words(tmp_path: Path) -> None:
    words = ["nan", "NaN", "None", "NA", "", "NA", "N/A", "nevus"]
    rows = [{"image": f"{number}.png", "dx": word} for number, word in enumerate(words)]
    dataset, cases = read(make(tmp_path, rows), "image=image,label=dx")
    assert [raw.case.label for raw in cases.values()] == [None] * 7 + ["nevus"]
    counts = "7 cells are read as missing in dx (NA 2, nan 1, NaN 1, None 1, empty 1)"
    assert f"table.csv: {counts}; if one is a class, rename it" in dataset.issues.notes


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ({"split": "fold 3"}, "table.csv:2: got split 'fold 3', expected train, valid or test"),
        ({"patient": "1.23457E+18"}, "table.csv:2: got id 1.23457E+18, as Excel rounds a long number"),
        ({"image": f"[{HOSTILE}]"}, "table.csv:2: got something else, expected a list or dict"),
        ({"concepts": f"[{HOSTILE}]"}, "table.csv:2: got something else, expected a list or dict"),
        ({"image": ""}, "table.csv:2: got no image, expected one"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: Mapping[str, str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    good = {"image": "a.png", "split": "dev", "patient": "-9007199254740993", "concepts": "['Plaque', nan, 'Scale']"}
    root = make(tmp_path, [{**good, **cell}, {**good, "image": "b.png"}], "a.png", "b.png")
    dataset, cases = read(root, "image=image,split=split,patient=patient,concepts=concepts")
    (case,) = (raw.case for raw in cases.values())
    assert (case.split, case.group_id, case.attributes["concepts"]) == ("valid", "-9007199254740993", "Plaque; Scale")
    assert len(dataset.issues.problems) == 1
    assert dataset.issues.problems[0].startswith(line)
    assert dataset.issues.left_out["cases"] == 1
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["image"], ["--map: got 'image', expected"]),
        (["image="], ["--map: got 'image=', expected"]),
        (["imge=image"], ["--map: got key 'imge', expected image, label,"]),
        (["image=image,image=dx"], ["--map: got image twice"]),
        (
            ["image=image", "label=dxx"],
            ["--map label=dxx: got no such column in table.csv, expected one of its columns: image, dx"],
        ),
        (["image=image,age=image+dx"], ["--map: got age=image+dx, expected one column"]),
        (["label=dx"], ["--map: got label, expected image= or text="]),
        (["text=dx"], ["--map: got no image= and no id="]),
        (["image=image,table=tabel.csv"], ["--map table=tabel.csv: got no such file below"]),
        (["image=imag,label=d"], ["--map image=imag: got no such column", "--map label=d: got no such column"]),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, words: list[str], lines: list[str]) -> None:
    make(tmp_path, [{"image": "a.png", "dx": "nevus"}])
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, *words)
    assert len(caught.value.problems) == len(lines)
    assert all(got.startswith(line) for got, line in zip(caught.value.problems, lines, strict=True))


@pytest.mark.parametrize(
    ("written", "meant"), [("labl=dx", "label"), ("image=imgae", "image"), ("image=IMAGE", "image")]
)
def test_the_closest_name_is_told(tmp_path: Path, written: str, meant: str) -> None:
    make(tmp_path, [{"image": "a.png", "dx": "nevus"}])
    with pytest.raises(ConfigError, match=rf"did you mean {meant}\?"):
        read(tmp_path, written)


def test_columns_with_commas_and_plus_signs(tmp_path: Path) -> None:
    make(tmp_path, [{"image": "a.png", "size, mm": "3", "A+B": "nevus"}])
    _, cases = read(tmp_path, '"attribute=size, mm",label=A+B', "image=image")
    assert (cases["a"].case.label, cases["a"].case.attributes) == ("nevus", {"size, mm": "3"})


def test_the_table_is_the_one_that_fits_or_that_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "a/labels.csv", [{"image": "1.png", "dx": "nevus"}])
    write_csv(tmp_path / "b/labels.csv", [{"image": "2.png", "dx": "acne"}])
    write_csv(tmp_path / "notes.csv", [{"id": "1", "note": "x"}])
    with pytest.raises(ConfigError, match=r"2 tables with these columns: a/labels\.csv, b/labels\.csv.*--map table=a/"):
        read(tmp_path, "image=image,label=dx")
    with pytest.raises(ConfigError, match=r"3 tables, none of which has all columns"):
        read(tmp_path, "image=nothing")
    _, cases = read(tmp_path, "image=image,label=dx,table=b/labels.csv")
    assert cases["2"].case.label == "acne"
    _, cases = read(tmp_path, "id=id,text=note")
    assert cases["1"].case.texts == {"raw": {"en": "x"}}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_objects_of_json_are_rows(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"file": "a.png", "dx": "nevus", "n": -9007199254740993, "flags": ["x", "y"]},
        {"file": "b.png", "dx": None},
    ]
    if suffix == ".json":
        write_json_file(tmp_path / "rows.json", [*rows, 7])
    else:
        text = (
            '{"file": "a.png", "dx": "nevus", "n": -9007199254740993, "flags": ["x", "y"]}\n{"file": "b.png"}\n{"file":'
        )
        (tmp_path / "rows.jsonl").write_text(text)
    dataset, cases = read(tmp_path, "image=file,label=dx,patient=n,concepts=flags")
    assert cases["a"].case.group_id == "-9007199254740993"
    assert cases["a"].case.attributes["concepts"] == "x; y"
    assert cases["b"].case.label is None
    assert len(dataset.issues.problems) == 1
    assert dataset.issues.problems[0].startswith(f"rows{suffix}:3: got ")


def test_a_table_that_no_one_knows_is_shown_with_a_map_that_fits(tmp_path: Path) -> None:
    make(tmp_path, [{"file_name": "a.png", "diagnosis": "x", "patient_id": "1", "note of nurse": "x"}], "a.png")
    with pytest.raises(DataError) as caught:
        open_source(tmp_path, ReadOptions())
    shown = "\n".join(caught.value.problems)
    assert "--list-sources" in caught.value.problems[0]
    assert "--map" in caught.value.problems[0]
    assert "table.csv: columns file_name, diagnosis, patient_id, note of nurse" in shown
    words = shown.rpartition("--map ")[2]
    assert words == "image=file_name,label=diagnosis,group=patient_id"
    _, cases = read(tmp_path, words)
    assert cases["a"].case.group_id == "1"


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ((), "got no file, expected one of .*; check --data"),
        (("a.jpg", "b/c.png"), "got 2 photos and no table, .*; add the table, or take photos alone with --source mask"),
        (("a.jpg", "t.xlsx"), "t.xlsx: got a workbook or binary table, expected CSV or JSON; export it as CSV"),
        (("a.jpg", "b.parquet"), "b.parquet: got a workbook or binary table"),
        (("a.jpg", "tables.zip"), "unpack tables.zip first"),
        (("IMG_ENC00001_00001.jpg",), "expected train.json"),
    ],
)
def test_a_folder_that_no_one_knows_says_what_is_there(tmp_path: Path, names: Sequence[str], line: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=line):
        open_source(tmp_path, ReadOptions())


@pytest.mark.parametrize(
    ("rows", "packed", "line"),
    [
        ((), False, "t.csv: got no row, expected a photo or a text; give the folder that holds the photos too"),
        (
            ("a.jpg", "b.jpg"),
            False,
            "t.csv: got no case that can be used, 2 left out, .*; give the folder that holds the photos too",
        ),
        (("a.jpg",), True, "t.csv: got no case that can be used, 1 left out, .*; unpack photos.zip first"),
    ],
)
def test_a_table_without_its_photos_is_named(tmp_path: Path, rows: Sequence[str], packed: bool, line: str) -> None:
    write_csv(tmp_path / "raw" / "t.csv", [{"f": name} for name in rows], ("f",))
    if packed:
        (tmp_path / "raw" / "photos.zip").touch()
    with pytest.raises(DataError, match=line):
        prepare(tmp_path / "raw", tmp_path / "out", PrepareOptions(mapping=("image=f",)))
    assert not (tmp_path / "out").exists()


def test_a_table_beside_photos_and_masks_that_are_read_without_it_is_told(tmp_path: Path) -> None:
    make(tmp_path, [{"file_name": "a.png", "dx": "x"}], "images/a.png", "masks/a.png")
    dataset = open_source(tmp_path, ReadOptions())
    assert dataset.source == "mask-pairs"
    assert dataset.issues.notes[-1].endswith("--map image=file_name,label=dx")


def test_source_csv_without_a_map_says_what_it_needs(tmp_path: Path) -> None:
    make(tmp_path, [{"image": "a.png"}])
    with pytest.raises(ConfigError, match="--source csv: got no --map") as caught:
        open_source(tmp_path, ReadOptions(), "csv")
    assert "columns image" in str(caught.value)
    with pytest.raises(ConfigError, match="--map: got it with --source dermavqa"):
        open_source(tmp_path, ReadOptions({"image": "image"}), "dermavqa")


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (age_of, {"45": "45", "45,5": "45.5", "85+": "85", "-1": "", "about 40": "", "200": ""}),
        (sex_of, {"M": "male", "Female": "female", "other": "other"}),
        (skin_type_of, {"III": "3", "fst6": "6", "Type 2": "2", "4.0": "4", "12": "12", "-1": "", "7": "", "VI": "6"}),
    ],
)
def test_values_of_canonical_names(function: object, values: Mapping[str, str]) -> None:
    assert callable(function)
    assert {text: function(text) for text in values} == values


def test_prepare_reads_an_excel_table(tmp_path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    rows = [["Bild", "Diagnose", "Größe", ""], *([f"{n:03}.png", "Ekzem", "1,5", ""] for n in range(4))]
    writer.writerows([["sep=;"], *rows, ["", "", "", ""]])
    root = tmp_path / "data"
    root.mkdir()
    (root / "table.csv").write_bytes(text.getvalue().encode("cp1252"))
    for number in range(3):
        write_photo(root / f"Bilder/{number:03}.png", number)
    options = PrepareOptions(mapping=("image=Bild,label=Diagnose", "attribute=Größe"))
    result = prepare(root, tmp_path / "prepared", options)
    prepared = open_prepared(tmp_path / "prepared")
    assert [case.label for case in prepared.cases.values()] == ["Ekzem"] * 3
    assert {case.attributes["Größe"] for case in prepared.cases.values()} == {"1,5"}
    assert list(prepared.images) == ["000", "001", "002"]
    assert result.manifest.left_out["images"] == 1
    assert any(line.startswith("table.csv:6: got no photo 003") for line in result.manifest.problems)
    assert any("read as Windows-1252" in line for line in result.manifest.notes)
