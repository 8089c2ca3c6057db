"""Gold of photos in tables as peers publish them."""

from pathlib import Path

import pytest

from magic_cli.data.pair_gold import PairGold
from magic_cli.data.sources.photo_tables import open_pair_gold
from magic_cli.errors import DataError


def gold_of(folder: Path, text: str, split: str = "valid", name: str = "gold.csv") -> PairGold:
    (folder / name).write_text(text, encoding="utf-8")
    return open_pair_gold(folder / name, split)


def test_labels_with_names(tmp_path: Path) -> None:
    gold = gold_of(tmp_path, "image_path,label,diag\nx/a.jpg,0,basal_cell carcinoma\nx/b.jpg,1,nevus\n")
    assert gold.classes == {"x/a.jpg": "basal cell carcinoma", "x/b.jpg": "nevus"}
    assert not gold.is_numbered
    assert gold.is_closed
    assert any("no column tells patients apart" in note for note in gold.notes)


def test_labels_as_numbers_and_splits(tmp_path: Path) -> None:
    text = "image,label,split,patient_id\na.jpg,3.0,train,p\nb.jpg,0,val,q\nc.jpg,2,val,q\n"
    gold = gold_of(tmp_path, text)
    assert gold.classes == {"b.jpg": "0", "c.jpg": "2"}
    assert gold.is_numbered
    assert gold.groups == {"b.jpg": "q", "c.jpg": "q"}
    assert gold.notes == ()
    assert gold_of(tmp_path, text, "train").classes == {"a.jpg": "3"}
    with pytest.raises(DataError, match="no row of split 'test'"):
        gold_of(tmp_path, text, "test")


def test_captions_and_concepts_of_skincap(tmp_path: Path) -> None:
    text = "id,skincap_file_path,caption_zh,caption_zh_polish_en,remark,Vesicle,Papule\n1,a.png,x,A  red spot.,7,0,1\n"
    gold = gold_of(tmp_path, text)
    assert gold.texts == {"a.png": "A red spot."}
    assert gold.concepts == {"a.png": frozenset({"Papule"})}
    assert gold.known_concepts == ("Vesicle", "Papule")
    assert not gold.is_closed


def test_concepts_of_monet(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_text("photo id,scale,ulcer\na,1,\nb,0,1.0\n")
    gold = open_pair_gold(tmp_path, "valid")
    assert gold.concepts == {"a": frozenset({"scale"}), "b": frozenset({"ulcer"})}
    assert gold.unknown == {"a": frozenset({"ulcer"})}
    assert gold.is_closed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,label\na,\n", "gold.csv:2: got no label"),
        ("image,label\na,nan\n", "gold.csv:2: got no label"),
        ("image,label\n,x\n", "gold.csv:2: got no photo"),
        ("image,label\na,x\na,y\n", "gold.csv:3"),
        ("image,label\na,x,9\n", "3 cells"),
        ("ImageID,scale\na,2\n", "gold.csv:2:scale"),
        ("ImageID,scale\na,__import__('os').system('id')\n", "gold.csv:2:scale"),
        ("image,label\n", "no rows"),
        ("image\na\n", "columns image"),
        ("label\na\n", "columns label"),
        ("", "nothing"),
        ("image,label,label\na,b,c\n", "twice"),
    ],
)
def test_damaged_tables(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        gold_of(tmp_path, text)
    assert told in str(error.value)
    assert "system" not in str(error.value)


def test_what_is_no_gold(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv", tmp_path / "x.txt"):
        with pytest.raises(DataError, match="a prepared dataset, a CSV table"):
            open_pair_gold(path, "valid")
