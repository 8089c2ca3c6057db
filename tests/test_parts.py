"""parts.py: a result comes into a folder in one step, and what others put there stays."""

from pathlib import Path

import pytest

from magic_cli.data import parts as module
from magic_cli.data import staging
from magic_cli.data.parts import parts
from magic_cli.errors import DataError
from magic_cli.lock import holding

KNOWN = ("masks", "scores*.json", "page.html")


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put(out: Path, **files: str) -> None:
    with parts(out, KNOWN, "*.tiff") as folder:
        write(folder, **files)


NEW = {"masks/a.tiff": "new", "page.html": "new"}


@pytest.mark.parametrize("exchange", [True, False])
def test_an_older_result_goes_and_the_rest_stays(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if not exchange:
        for place in (staging, module):
            monkeypatch.setattr(place, "exchange", lambda *_: False)
    put(out, masks__a_tiff="old", masks__b_tiff="old", page_html="old", scores2_json="old")
    write(out, notes_txt="mine", masks__mine_png="mine")
    inside = out.stat().st_ino
    put(out, masks__a_tiff="new", page_html="new")
    assert found(out) == NEW | {"notes.txt": "mine", "masks/mine.png": "mine"}
    assert (out.stat().st_ino != inside) == exchange  # the folder was exchanged as a whole, or its parts one by one
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("what", ["folder", "large", "link", "many"])
def test_beside_much_of_others_parts_are_replaced_alone(what: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, masks__a_tiff="old", page_html="old", scores2_json="old")
    if what == "folder":
        write(out, other__x_txt="mine")
    elif what == "large":
        write(out, x_txt="m" * (1 << 20) + "m")
    elif what == "link":
        (out / "x").symlink_to(tmp_path)
    else:
        write(out, **{f"x{number}_txt": "mine" for number in range(21)})
    others = {name: text for name, text in found(out).items() if text.startswith("m")}
    inside = out.stat().st_ino
    put(out, masks__a_tiff="new", page_html="new")
    assert {name: text for name, text in found(out).items() if text in ("old", "new")} == NEW
    assert {name: text for name, text in found(out).items() if text.startswith("m")} == others
    assert out.stat().st_ino == inside
    assert (out / "x").is_symlink() == (what == "link")


def test_a_folder_in_which_somebody_works_is_not_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    put(out, masks__a_tiff="old", page_html="old")
    monkeypatch.chdir(out)
    put(Path(), masks__a_tiff="new", page_html="new")
    assert found(Path()) == NEW
    assert Path().samefile(out)


def test_permissions_of_the_folder_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")
    out.chmod(0o700)
    put(out, page_html="new")
    assert out.stat().st_mode & 0o777 == 0o700


def test_nothing_is_seen_before_the_end_and_an_error_leaves_the_old(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")

    def fail() -> None:
        with parts(out, KNOWN) as folder:
            write(folder, page_html="new", masks__a_tiff="new")
            assert found(out) == {"page.html": "old"}
            raise DataError(f"{folder / 'masks' / 'b.tiff'}: no; do")

    with pytest.raises(DataError) as caught:
        fail()
    assert caught.value.problems == (f"{out / 'masks' / 'b.tiff'}: no; do",)  # nobody knows the hidden folder
    assert found(tmp_path) == {"out/page.html": "old"}


def test_leftovers_of_killed_processes_go_and_those_at_work_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")
    dead, other = tmp_path / ".out-0123abcd", tmp_path / ".other-0123abcd"
    for folder in (dead, other, out / ".out-00000000"):
        write(folder, x_txt="half")
    write(out, _page_html_0123abcd_tmp="half")
    with parts(out, KNOWN) as folder:
        write(folder, page_html="new")
        put(out, page_html="another")  # another process
        assert folder.is_dir()
    assert found(tmp_path) == {"out/page.html": "new", ".other-0123abcd/x.txt": "half"}


def test_a_leftover_may_be_the_old_result_while_the_place_is_empty(tmp_path: Path) -> None:
    """Where folders cannot be exchanged, a kill between two renames leaves it there: it goes after the new one came."""
    out, dead = tmp_path / "out", tmp_path / ".out-0123abcd"
    write(dead, page_html="old")

    def fail() -> None:
        with parts(out, KNOWN):
            raise DataError("no; do")

    with pytest.raises(DataError):
        fail()
    assert found(tmp_path) == {".out-0123abcd/page.html": "old"}
    put(out, page_html="new")
    assert found(tmp_path) == {"out/page.html": "new"}


def test_another_process_may_be_faster(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with parts(out, KNOWN) as folder:
        write(folder, page_html="new")
        with holding(folder) as held:
            assert held is False
        put(out, page_html="old", scores2_json="old")
    assert found(out) == {"page.html": "new"}
