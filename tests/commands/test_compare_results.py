"""commands/compare_results.py: of each kind of file what differs, and nothing where only the circumstances do."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from magic_cli.commands import compare_results
from magic_cli.commands.compare_results import ResultPaths, difference, without_provenance


def apart(tmp_path: Path, name: str, old: bytes, new: bytes) -> str:
    """Return how a file of two results differs that were made in two working folders."""
    paths = ResultPaths(tmp_path / "old", tmp_path / "new", Path("/home/then"), tmp_path)
    for folder, data in ((paths.old, old), (paths.new, new)):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return difference(paths.old / name, paths.new / name, paths)


def values(tmp_path: Path, old: Any, new: Any) -> str:
    return apart(tmp_path, "a.json", json.dumps(old).encode(), json.dumps(new).encode())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": 0.5}, {"a": 0.25}, "a: 0.5 then, 0.25 now (-0.25)"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b[2]: 2 then, 3 now"),
        ({"a": [1]}, {"a": [1, 2]}, "a: 1 items then, 2 now"),
        ({"a": None}, {"a": 0.5}, "a: None then, 0.5 now"),
        ({"a": True}, {"a": 1}, "a: True then, 1 now"),
        ({"a": 1, "b": 2}, {"a": 1}, "b: 2 then, None now"),
        ({"a": 1}, {"a": 1, "b": 2}, "b: None then, 2 now"),
        ({"a": "itches"}, {"a": "hurts"}, "a: another text"),
        ({"a": "itches badly"}, {"a": 1}, "a: text of 12 characters then, 1 now"),
        ({"my skin": 1}, {"my skin": 2}, "text of 7 characters: 1 then, 2 now"),
        ([0] * 7, [1] * 7, "; ".join(f"[{n}]: 0 then, 1 now" for n in range(1, 6)) + "; and 2 more"),
        ({"provenance": {"made": "then"}, "a": 1}, {"provenance": {"made": "now"}, "a": 1}, ""),
        ([10**400], [10**401], f"[1]: {'1' + 39 * '0'} then, {'1' + 39 * '0'} now"),
    ],
)
def test_values(tmp_path: Path, old: Any, new: Any, said: str) -> None:
    assert values(tmp_path, old, new) == said


def test_paths_that_lead_to_the_same_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two working folders, and of two results in them."""
    monkeypatch.chdir(tmp_path)
    same = [
        ("/home/then/prepared (split valid)", f"{tmp_path}/prepared (split valid)"),
        ("old/folds", "new/folds"),
        (str(tmp_path / "old" / "a"), str(tmp_path / "new" / "a")),
        ("../photos/a.jpg", f"{tmp_path}/photos/a.jpg"),
        ("masks/a.tiff", "./masks/a.tiff"),
    ]
    for old, new in same:
        assert values(tmp_path, [old], [new]) == "", (old, new)
    for old, new in (("old/folds", "newer/folds"), ("../a.jpg", "../b.jpg"), ("/home/then/a", "/home/now/a")):
        assert values(tmp_path, [old], [new]) == "[1]: another text"


def test_lines_of_json(tmp_path: Path) -> None:
    assert apart(tmp_path, "a.jsonl", b'{"a": 1}\n{"a": 0.5}\n', b'{"a": 1}\n{"a": 1.0}\n').startswith(
        "[2].a: 0.5 then"
    )
    assert apart(tmp_path, "a.jsonl", b"{}\n", b"{}\n\n") == ""


def test_other_text(tmp_path: Path) -> None:
    assert apart(tmp_path, "a.csv", b"a\nb\n", b"a\nc\n") == "1 of 2 lines differ"
    assert apart(tmp_path, "a.csv", b"a\n", b"a\nb\n") == "1 lines then, 2 now"
    assert apart(tmp_path, "a.csv", b"a\r\n", b"a\n") == "other line ends"
    assert apart(tmp_path, "mean_mask.png", b"\x89PNG\xff", b"\x89PNG\xfe") == "1 of 1 lines differ"


def test_a_page_says_when_and_where_it_was_made(tmp_path: Path) -> None:
    page = '<p class="lead">made {}</p>\n<p>Dice {}</p><section aria-labelledby="provenance">\n{}</section><p>{}</p>'
    pages = [page.format(*x).encode() for x in (("1", "2", "3", "/home/then/a"), ("4", "2", "5", f"{tmp_path}/a"))]
    assert apart(tmp_path, "report.html", *pages) == ""
    assert apart(tmp_path, "report.html", pages[0], pages[1].replace(b"Dice 2", b"Dice 3")) == "1 of 2 lines differ"
    links = [f'<a href="{place}data/a.jpg">' for place in ("../../../", "../")]  # from folders of other depths
    assert apart(tmp_path, "report.html", *(link.encode() for link in links)) == ""
    assert apart(tmp_path, "report.html", links[0].encode(), links[1].replace("a.jpg", "b.jpg").encode()) != ""


def packed(path: Path, members: Mapping[str, bytes], pack: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(path, "w", pack) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path.read_bytes()


def test_zips(tmp_path: Path) -> None:
    first = packed(tmp_path / "z", {"a": b"1", "b": b"2"})
    assert (
        apart(tmp_path, "s.zip", first, packed(tmp_path / "z", {"a": b"1", "c": b"3"})) == "2 of 3 members differ: b; c"
    )
    other = packed(tmp_path / "z", {"a": b"1", "b": b"2"}, zipfile.ZIP_DEFLATED)
    assert apart(tmp_path, "s.zip", first, other) == "packed in another way"
    assert "cannot be compared (" in apart(tmp_path, "s.zip", b"no zip", other)


def test_masks(tmp_path: Path) -> None:
    mask, files = np.zeros((4, 6), np.uint8), []
    for one, packing in ((mask, None), (mask, "zlib"), (mask + np.eye(4, 6, dtype=np.uint8), None), (mask.T, None)):
        tifffile.imwrite(tmp_path / "m", one, compression=packing)
        files.append((tmp_path / "m").read_bytes())
    said = [apart(tmp_path, "m.tiff", files[0], other) for other in files[1:]]
    assert said == [
        "the same pixels in other bytes",
        "4 of 24 pixels differ",
        "(4, 6) uint8 then, (6, 4) uint8 now",
    ]
    assert "cannot be compared (" in apart(tmp_path, "m.tiff", b"", files[0])


def test_checkpoints(recorded: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from torch import nn

    from magic_cli.training.checkpoint import load_best, save_best

    path = recorded / "runs" / "seg" / "best.pt"
    meta, _ = load_best(path)

    def saved(model: nn.Module, **changes: Any) -> bytes:
        save_best(tmp_path / "b.pt", model, replace(meta, **changes))
        return (tmp_path / "b.pt").read_bytes()

    model, wider = nn.Linear(2, 1), nn.Linear(3, 1)
    with_bias = saved(model)
    assert apart(tmp_path, "best.pt", with_bias, saved(model, versions={"torch": "0.1"})) == ""
    assert apart(tmp_path, "best.pt", with_bias, saved(model, seed=8)) == "seed: 0 then, 8 now"
    longer = saved(model, history=({"epoch": 1, "loss": 0.5},))
    shorter = saved(model, history=({"epoch": 1, "loss": 0.25},))
    assert apart(tmp_path, "best.pt", longer, shorter) == "history[1].loss: 0.5 then, 0.25 now (-0.25)"
    assert apart(tmp_path, "best.pt", with_bias, saved(wider)) == "tensors of another shape"
    nn.init.constant_(model.bias, model.bias.item() + 0.125)
    assert apart(tmp_path, "best.pt", with_bias, saved(model)) == "1 of 2 tensors differ, by 0.12 at most"
    bare = saved(nn.Linear(2, 1, bias=False))
    assert apart(tmp_path, "best.pt", with_bias, bare).startswith(
        "2 tensors then, 1 now, of other names; 1 of 1 tensors"
    )
    assert "cannot be compared (" in apart(tmp_path, "best.pt", with_bias, b"PK")


LEAD, MADE = '<p class="lead">', "<p>Made by magic "


@pytest.mark.parametrize(
    ("page", "left"),
    [
        ("", ""),
        (f"a{LEAD}now</p>b{MADE}x</p>c", "abc"),
        (f"{LEAD}1</p>a{LEAD}\n2</p>b", "ab"),
        ('a<section aria-labelledby="provenance"><p>x</p>\n</section>b', "ab"),
        (f"a{LEAD}without an end", f"a{LEAD}without an end"),
        (f"a{LEAD}x</p>b{LEAD}without an end", f"ab{LEAD}without an end"),
        (LEAD * 3 + "</p>a", "a"),
    ],
)
def test_pages_without_their_provenance(page: str, left: str) -> None:
    assert without_provenance(page) == left


def test_open_paragraphs_are_looked_through_once() -> None:
    class Page(str):
        searched = 0

        def find(self, *words: Any) -> int:
            Page.searched += 1
            return str.find(self, *words)

    page = Page(LEAD * 10_000)
    assert without_provenance(page) == page
    assert Page.searched <= 6


def test_differences_are_counted_not_kept(tmp_path: Path) -> None:
    said = values(tmp_path, {"a": list(range(1000))}, {"a": list(range(1, 1001))})
    assert said.startswith("a[1]: 0 then, 1 now; ")
    assert said.endswith("; and 995 more")


def recursing(*_: object) -> Iterator[str]:
    raise RecursionError


def test_what_is_too_deep_or_too_large_to_compare_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = b"[" * 400 + b"%d" + b"]" * 400
    assert apart(tmp_path, "a.json", deep % 1, deep % 2).endswith("[1]: 1 then, 2 now")
    with monkeypatch.context() as patch:
        patch.setattr(compare_results, "diff_json", recursing)
        assert apart(tmp_path, "a.json", b"1", b"2") == "cannot be compared (nested too deeply)"
    monkeypatch.setattr(compare_results, "_MAX_BYTES", 3)
    assert apart(tmp_path, "a.txt", b"long", b"longer") == "cannot be compared (4 bytes, more than 3 bytes)"
