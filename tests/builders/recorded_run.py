"""A folder in which every verb has run once, as typed by a user; for tests of records and reruns."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from challenge_folders import make_challenge

from magic_cli.cli import app

_CVQA = ("train", "cvqa", "--preset", "tiny", "--modality", "text", "--set", "epochs=2")
LINES: dict[str, tuple[str, ...]] = {  # by the path of the record
    "prepared/run.json": ("prepare", "--data", "DermaVQA"),
    "runs/cvqa/run.json": _CVQA,
    "runs/seg/run.json": ("train", "seg", "--preset", "tiny", "--set", "epochs=1"),
    "folds/folds/run.json": (*_CVQA, "--folds", "2", "--out", "folds"),
    "valid/cvqa/run.json": ("predict", "cvqa", "--ckpt", "best.pt", "--split", "valid", "--out", "valid/cvqa"),
    "valid/seg/run.json": ("predict", "seg", "--ckpt", "best.pt", "--split", "valid", "--out", "valid/seg"),
    "voted/run.json": (
        *("predict", "cvqa", "--vote", "valid/cvqa", "valid/cvqa/data_cvqa_sys.json", "--split", "valid"),
        *("--out", "voted"),
    ),
    "valid.zip.run.json": (
        *("package", "--seg", "valid/seg", "--cvqa", "valid/cvqa", "--split", "valid", "--out", "valid.zip"),
    ),
    "report/run.json": (
        *("score", "valid.zip", "prepared", "--resamples", "100", "--out", "report", "--run", "runs/seg"),
    ),
}


@dataclass(frozen=True)
class Ended:
    """The result of a command: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The error lines, without "error: "."""
        return [line.removeprefix("error: ") for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def json(self) -> dict[str, Any]:
        """The object that --json printed."""
        printed: dict[str, Any] = json.loads(self.out)
        return printed


def magic(folder: Path, *words: object, **environment: str) -> Ended:
    """Run `magic WORDS…` in this process, in a folder that also holds the cache."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["magic", *map(str, words)])
        for name, value in {"XDG_CACHE_HOME": str(folder / "cache"), **environment}.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as exit_info:
            app.main()
    return Ended(int(exit_info.value.code or 0), out.getvalue(), err.getvalue())


def record(folder: Path, name: str) -> dict[str, Any]:
    """Read a record."""
    row: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return row


def write_record(place: Path, name: str, **changes: Any) -> Path:
    """Change some fields of a record."""
    (place / name).write_text(json.dumps(record(place, name) | changes), encoding="utf-8")
    return place / name


def tree(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder by relative path, except those of the cache."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in contents.items() if not name.startswith("cache/")}


def make_recorded(folder: Path) -> Path:
    """Run every line of LINES in a new folder."""
    make_challenge(folder / "DermaVQA")
    for words in LINES.values():
        ended = magic(folder, *words)
        assert ended.code == 0, (words, ended)
    return folder
