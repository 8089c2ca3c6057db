"""Which photos `--images` finds, what they are called and which case each is of; which text is whose."""

import json
import os
from pathlib import Path

import pytest

from magic_cli.data.issues import IssueLog
from magic_cli.data.own_photos.files import list_photos
from magic_cli.data.own_photos.texts import read_texts
from magic_cli.errors import ConfigError, DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"photo")
    return root


def listed(*images: Path, out: Path = Path("/nowhere")) -> dict[str, tuple[str, str]]:
    """Return id and case of each photo by the last two parts of its path."""
    photos = list_photos(images, out, IssueLog())
    assert len({photo.image_id.casefold() for photo in photos}) == len(photos)
    return {"/".join(Path(photo.path).parts[-2:]): (photo.image_id, photo.case_id) for photo in photos}


def test_a_folder_is_a_case_and_so_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "p/a/1.jpg", "p/a/2.jpg", "p/b/3.png", "p/4.tif", "q/5.webp", "q/deep/a/6.gif")
    assert listed(tmp_path / "p", tmp_path / "q" / "5.webp", tmp_path / "q" / "deep") == {
        "p/4.tif": ("4", "p"),
        "a/1.jpg": ("1", "a"),
        "a/2.jpg": ("2", "a"),
        "b/3.png": ("3", "b"),
        "q/5.webp": ("5", "5"),
        "a/6.gif": ("6", "a-2"),
    }


def test_names_of_the_challenge_say_their_case(tmp_path: Path) -> None:
    touch(tmp_path, "x/IMG_ENC00001_00001.jpg", "y/IMG_ENC00001_00002.jpg", "y/IMG_ENC00002_00001.jpg", "y/other.jpg")
    cases = {name.partition("/")[2]: case for name, (_, case) in listed(tmp_path).items()}
    assert cases == {
        "IMG_ENC00001_00001.jpg": "ENC00001",
        "IMG_ENC00001_00002.jpg": "ENC00001",
        "IMG_ENC00002_00001.jpg": "ENC00002",
        "other.jpg": "y",
    }


def test_ids_are_unique_and_fit_any_system(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "b/X.png", "b/x.jpg", "c/" + "\u00e9" * 120 + ".jpg", "c/a:b?.jpg", "c/....jpg")
    ids = {name: image_id for name, (image_id, _) in listed(tmp_path).items()}
    assert {ids["a/x.jpg"], ids["b/X.png"], ids["b/x.jpg"]} == {"a_x", "b_X", "b_x-2"}
    assert ids["c/a:b?.jpg"] == "a_b_"
    assert max(len(image_id.encode()) for image_id in ids.values()) <= 150
    assert "c/....jpg" not in ids  # hidden


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_of_another_encoding_has_an_id(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"m\xf6le\n.jpg")).write_bytes(b"photo")
    assert [image_id for image_id, _ in listed(tmp_path).values()] == ["m_le_"]


def test_masks_results_and_hidden_files_are_no_photos(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "1_mask.png", "lesion_12.jpg", "masks/2.png", ".h/3.jpg", "out/overlays/1.png", "n.txt")
    touch(tmp_path, "IMG_ENC00001_00001_mask_ann0.tiff", "theirs/4.jpg")
    (tmp_path / "theirs" / "run.json").write_text("{}")
    issues = IssueLog()
    photos = list_photos([tmp_path], tmp_path / "out", issues)
    assert {photo.image_id for photo in photos} == {"1", "lesion_12", "4"}
    assert any("3 files are masks" in note for note in issues.notes)
    assert list(listed(tmp_path / "masks" / "2.png")) == ["masks/2.png"]  # named by itself


@pytest.mark.parametrize("name", ["nowhere", "empty", "prepared", "a\0b"])
def test_what_has_no_photo_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "prepared/prepare.json")
    with pytest.raises(DataError, match=r": got .*, expected .*; (check --images|predict it with --data)"):
        list_photos([tmp_path / name], tmp_path / "out", IssueLog())


def test_rows_name_a_case_a_photo_or_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "p/a/1.jpg", "p/b/2.jpg", "p/c/3.jpg", "p/c/4.jpg", "p/d/5.jpg")
    photos = list_photos([tmp_path / "p"], tmp_path / "out", IssueLog())
    table = tmp_path / "t.jsonl"
    table.write_text(
        '{"case_id": "A", "text": "case"}\n{"file": "b/2.jpg", "query": "file"}\n{"image": "3", "text": "photo"}\n'
        '{"image": "4.JPG", "text": "another"}\n{"encounter_id": "nobody", "query_content_en": "x"}\n'
        '{"text": "whose?"}\n'
    )
    issues = IssueLog()
    found = {case: text.question for case, text in read_texts(str(table), photos, issues).items()}
    assert found == {"a": "case", "b": "file", "c": "photo another"}
    assert len(issues.problems) == 1
    assert "whose" not in issues.problems[0]
    assert issues.notes == [f"1 of 4 cases have no text in {table}: they are read from photos alone"]


def test_a_text_of_the_challenge_is_what_prepare_makes_of_it(tmp_path: Path) -> None:
    photos = list_photos([touch(tmp_path / "p", "IMG_ENC00001_00001.jpg")], tmp_path / "out", IssueLog())
    row = {"encounter_id": "ENC00001", "query_title_en": "Spot", "query_content_en": "<b>It</b> itches"}
    (tmp_path / "valid.json").write_text(json.dumps([{**row, "responses": [{"content_en": "Eczema."}]}]))
    [text] = read_texts(str(tmp_path / "valid.json"), photos, IssueLog()).values()
    assert (text.question, text.answer) == ("Spot It itches", "Eczema.")
    assert text.texts["response-1"] == {"en": "Eczema."}


def test_words_and_text_files_are_about_one_case(tmp_path: Path) -> None:
    photos = list_photos([touch(tmp_path / "p", "a/1.jpg", "b/2.jpg")], tmp_path / "out", IssueLog())
    (tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfIt itches.\n")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    for text in ("It itches.", str(tmp_path / "words.txt")):
        [said] = read_texts(text, photos[:1], IssueLog()).values()
        assert said.question == "It itches."
        with pytest.raises(ConfigError, match="got one text for 2 cases"):
            read_texts(text, photos, IssueLog())
    with pytest.raises(DataError, match="got no UTF-8"):
        read_texts(str(tmp_path / "bad.txt"), photos[:1], IssueLog())
    with pytest.raises(DataError, match="got no such file"):
        read_texts("nowhere.csv", photos, IssueLog())
