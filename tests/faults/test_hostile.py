"""Ids, names and texts that are markup, terminal commands, formulas or paths: shown as text, never as what they are."""

import csv
import html.parser
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from challenge_folders import image_id
from harness import CANARY, Magic, accepted, clean, copied, left, refused
from tiny_dataset import ANSWERS, files_of, make_prepared, write_folder

from magic_cli.commands.score_files import items_csv
from magic_cli.errors import printable
from magic_cli.io.json_files import json_text
from magic_cli.records import TaskScores
from magic_cli.report.score_report import SystemScores

MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n\b\x7f"


class Tags(html.parser.HTMLParser):
    """All elements, attributes and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def inert(page: Path) -> str:
    """Check that nothing in a page runs, is fetched, or drives a terminal; return its text."""
    text = page.read_text(encoding="utf-8")
    for tag, attributes in Tags(text).found:
        assert tag not in ("script", "iframe", "object", "embed", "form", "base"), tag
        assert not [name for name in attributes if name.startswith("on")], attributes
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/", "data:,")), value
    assert all(c.isprintable() or c == "\n" for c in text)
    return text


def hostile_texts(raw: Path) -> None:
    for path in raw.glob("*.json"):
        rows = json.loads(path.read_text(encoding="utf-8"))
        if rows and "query_content_en" in rows[0]:
            for row in rows:
                row |= {key: f"{CANARY}{MARKUP}{TERMINAL}" for key in row if key.startswith("query_")}
            path.write_text(json.dumps(rows), encoding="utf-8")


def renamed(raw: Path, new: str) -> None:
    """Give the first photo of ENC00001 another name, in its row and on the disk."""
    old = image_id(1)
    for path in raw.rglob(f"{old}*"):
        path.rename(path.with_name(path.name.replace(old, new)))
    table = raw / "train.json"
    rows = json.loads(table.read_text(encoding="utf-8"))
    rows[0]["image_ids"][0] = f"{new}.jpg"
    table.write_text(json.dumps(rows), encoding="utf-8")


NAMES = {
    "markup": "IMG_ENC00001_<img src=x onerror=alert(1)>".replace("/", ""),
    "quotes": "IMG_ENC00001_\"'>&lt;",
    "a formula": "=cmd|' !A0'_1",
    "a template": "IMG_ENC00001_{{7*7}}{%raw%}",
    "blanks": "IMG_ENC00001_ 1 2 ",
    "leading dash": "-rf_1",
    "percent": "IMG_ENC00001_%s%n%2e%2e",
    "Chinese": "IMG_ENC00001_皮疹",
    "a long name": "IMG_ENC00001_" + "x" * 150,
}


@pytest.mark.parametrize("how", NAMES)
def test_names_that_are_odd_but_names(magic: Magic, raw: Path, tmp_path: Path, how: str) -> None:
    data = copied(raw, tmp_path / "raw")
    renamed(data, NAMES[how])
    hostile_texts(data)
    accepted(magic("prepare", "--data", data, "--strict"))
    page = inert(Path("prepared/index.html"))
    assert CANARY not in page
    rows = [json.loads(line) for line in Path("prepared/images.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["image_id"] == NAMES[how].strip()
    assert (Path("prepared") / rows[0]["mask"]).is_file()
    assert all(path.resolve().is_relative_to(tmp_path) for path in Path().rglob("*"))


IDS = [
    "../../evil",
    "..",
    ".",
    "/etc/passwd",
    "a\\b",
    "a\0b",
    "a\x1b[2Jb",
    "a\nb",
    "a\u202eb",
    "",
    " ",
    "C:\\x",
    "a/b",
    7,
    None,
]


@pytest.mark.parametrize("name", IDS, ids=[repr(name) for name in IDS])
def test_names_that_are_paths_or_commands(magic: Magic, raw: Path, tmp_path: Path, name: Any) -> None:
    """In the challenge's rows they cost their encounter; in a prepared dataset they are damage."""
    data = copied(raw, tmp_path / "raw")
    table = data / "train.json"
    rows = json.loads(table.read_text(encoding="utf-8"))
    rows[0]["image_ids"] = [name]
    table.write_text(json.dumps(rows), encoding="utf-8")
    before = left(tmp_path / "raw")
    accepted(magic("prepare", "--data", data), "train.json:0:image_ids")
    assert left(tmp_path / "raw") == before
    changed = Path("prepared/images.jsonl")
    lines = changed.read_text(encoding="utf-8").splitlines()
    changed.write_text("\n".join([json.dumps(json.loads(lines[0]) | {"image_id": name}), *lines[1:]]), encoding="utf-8")
    if name != " ":
        refused(magic("package", "--cvqa", "x"), 3, "images.jsonl:1:image_id")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("text", [MARKUP, TERMINAL, "=1+1", "\ud800", "瘙痒", "x" * 5000], ids=range(6))
def test_encounters_of_any_name(magic: Magic, tmp_path: Path, text: str) -> None:
    """In answers that somebody else made, and in gold."""
    prepared = make_prepared(tmp_path / "prepared")
    rows = json.loads(files_of("valid")[ANSWERS])
    extra = [rows[0] | {"encounter_id": text}, rows[1] | {"CQID034-001": text}, {text: text}]
    (tmp_path / "preds.json").write_text(json.dumps([*rows, *extra]))
    ended = clean(magic("score", tmp_path / "preds.json", prepared, "--resamples", 100, "--out", "report"))
    assert ended.code in (0, 4)
    if ended.code == 0:
        inert(Path("report/report.html"))
        json.loads(Path("report/report.json").read_text(encoding="utf-8"))
    ended = clean(magic("score", tmp_path / "preds.json", prepared, "--resamples", 100, "--json"))
    json.loads(ended.out)
    refused(magic("package", "--check-only", tmp_path / "preds.json", "--data", prepared, "--split", "valid"), 4)


def odd_files() -> Iterator[bytes]:
    yield b"masks_preds/IMG_\xff\xfe_1_mask_sys.tiff"
    yield b"masks_preds/IMG_\x1b[2J_1_mask_sys.tiff"
    yield f"masks_preds/{MARKUP.replace('/', '')}_mask_sys.tiff".encode()
    yield b"masks_preds/=1+1_1_mask_sys.tiff"


@pytest.mark.parametrize("name", list(odd_files()), ids=range(4))
def test_files_of_any_name(magic: Magic, tmp_path: Path, name: bytes) -> None:
    """Bytes that are no UTF-8 too: neither a message, nor JSON, nor a page breaks at them."""
    prepared, sub = make_prepared(tmp_path / "prepared"), write_folder(tmp_path / "sub", files_of("valid"))
    other = os.path.join(os.fsencode(sub), name)  # noqa: PTH118  bytes
    os.link(sub / "masks_preds" / "IMG_ENC00011_00001_mask_sys.tiff", other)
    accepted(magic("score", sub, prepared, "--resamples", 100, "--out", "report"))
    inert(Path("report/report.html"))
    ended = accepted(magic("score", sub, prepared, "--resamples", 100, "--json"))
    json.loads(ended.out)
    refused(magic("package", "--check-only", sub, "--data", prepared, "--split", "valid"), 4, "no photo of split")


def test_folders_and_runs_of_any_name(magic: Magic, raw: Path, tmp_path: Path) -> None:
    """What a user's own paths hold is shown as text too."""
    folder = copied(raw, tmp_path / f"raw{TERMINAL.replace('/', '')}")
    out = Path(f"out{MARKUP.replace('/', '')}\x1b[2J")
    accepted(magic("prepare", "--data", folder, "--out", out))
    inert(out / "index.html")
    refused(magic("prepare", "--data", folder, "--out", out), 3, "already there")
    sub = write_folder(tmp_path / f"s{TERMINAL}", files_of("valid"))
    accepted(magic("score", sub, make_prepared(tmp_path / "p"), "--resamples", 100, "--out", out / "report"))
    inert(out / "report" / "report.html")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_are_no_formulas(start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    item = {"image": text, "encounter": text, "dice_max": -0.5, "fault": text, "parent": text}
    made = items_csv([SystemScores(text, (), (TaskScores("seg", {}, per_item=(item,)),))])
    _, row = csv.reader(io.StringIO("".join(made), newline=""))
    assert [cell for cell in row if cell.startswith(("=", "+", "@", "\t", "\r"))] == []
    assert [cell for cell in row if cell.startswith("-")] == ["-0.5"]


def test_formulas_in_headings(magic: Magic, tmp_path: Path) -> None:
    """Names of questions come from a file of somebody else; they may hold letters, digits, - and _ alone."""
    raw = make_prepared(tmp_path / "prepared")
    rows = json.loads((raw / "questions.json").read_text(encoding="utf-8"))
    for qid in ("=1+1", "<b>", "a b", "", "a" * 65, "\x1b[2J"):
        (raw / "questions.json").write_text(json.dumps([rows[0] | {"qid": qid}, *rows[1:]]))
        refused(magic("package", "--cvqa", "x", "--data", raw), 3, "questions.json:0.qid")


@pytest.mark.parametrize("text", [MARKUP, TERMINAL, "\ud800\udc00", "\ufeff"], ids=range(4))
def test_what_is_printed_cannot_drive_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    made = json_text({text: [text]})
    assert all(c.isprintable() for c in made)
    found = json.loads(made)
    assert list(found) == [text] or "\ud800" in text


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "secret"])
def test_paths_of_a_prepared_dataset_that_are_no_photos(magic: Magic, ready: Path, tmp_path: Path, kind: str) -> None:
    """Paths may lead anywhere, as photos stay where they are; what is no photo is refused, not waited for."""
    target = {"device": Path("/dev/zero"), "folder": tmp_path}.get(kind, tmp_path / kind)
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "secret":
        target.write_text(CANARY)
    data = copied(ready, tmp_path / "prepared")
    path, real = data / "images.jsonl", ready.parent
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row |= {"path": str(target), "mask": None if row["mask"] is None else str(target)}
        row["annotators"] = dict.fromkeys(row["annotators"], str(target))
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    refused(magic("train", "seg", "--preset", "tiny", "--data", data, "--no-cache"), 3, str(target))
    refused(magic("score", real, data, "--resamples", 100), 4)
    sub = write_folder(tmp_path / "sub", {"masks_preds/IMG_ENC00004_00001_mask_sys.tiff": b"II*"})
    refused(magic("score", sub, data, "--resamples", 100), 3, str(target))
