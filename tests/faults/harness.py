"""What tests of bad and hostile input share: a `magic` in this process, and what every refusal has to look like."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from challenge_folders import make_challenge
from recorded_run import Ended

from magic_cli.commands.prepare import prepare
from magic_cli.io import schema

# what a patient wrote: it must never be seen in a message
CANARY = "Xanthippe itches since Tuesday"
CODES = (0, 1, 2, 3, 4, 5, 6, 130)


# every command, and the schema of what it prints with --json; `place` of conftest.py is where they work
_CVQA = ("train", "cvqa", "--preset", "tiny", "--modality", "text", "--set", "epochs=1")
_GIVEN = ("--data", "given/prepared", "--split", "valid")
_VOTED = ("predict", "cvqa", "--vote", "given/one/data_cvqa_sys.json", "given/other", *_GIVEN, "--out", "voted")
_CASES = ("--data", "given/labelled/prepared")
_INDEX = ("index", "build", "cases", "--ckpt", "runs/retrieve", *_CASES)
_QUERY = ("--image", "given/labelled/raw/val0melanoma0.png", "--text", "dark")
_PACK = ("package", "--seg", "given/one", "--cvqa", "given/one", *_GIVEN)
_ONE = ("--limit", "1", "--out", "one")
EVERY_COMMAND: list[tuple[str, tuple[str, ...]]] = [
    ("doctor", ("doctor", "--deep")),
    ("prepared", ("prepare", "--data", "given/DermaVQA", "--dry-run")),
    ("prepared", ("prepare", "--data", "given/DermaVQA")),
    ("trained", (*_CVQA, "--dry-run")),
    ("trained", _CVQA),
    ("trained", (*_CVQA, "--resume")),
    ("folds", (*_CVQA, "--folds", "2", "--out", "runs/folds", "--dry-run")),
    ("folds", (*_CVQA, "--folds", "2", "--out", "runs/folds")),
    ("trained", ("train", "seg", "--preset", "tiny", "--set", "epochs=1", "--set", "text_encoder=minilm")),
    ("predicted", ("predict", "cvqa", "--ckpt", "best.pt", "--dry-run")),
    ("predicted", ("predict", "cvqa", "--ckpt", "best.pt")),
    ("predicted", ("predict", "seg", "--ckpt", "best.pt", "--tta")),
    ("packaged", ("package", "--seg", "predictions/seg", "--cvqa", "predictions/cvqa")),
    ("predicted", _VOTED),
    ("packaged", (*_PACK, "--dry-run")),
    ("packaged", (*_PACK, "--out", "valid.zip")),
    ("packaged", ("package", "--check-only", "submission.zip")),
    ("report", ("score", "given/one", "given/prepared", "--resamples", "100")),
    ("report", ("score", "given/one", "valid.zip", "given/prepared", "--resamples", "100", "--out", "report")),
    ("rerun", ("rerun", "report", "--dry-run")),
    ("rerun", ("rerun", "valid.zip.run.json")),
    ("demo", ("demo", "--preset", "tiny")),
    ("trained", ("train", "retrieve", "--preset", "tiny", "--set", "epochs=1", *_CASES)),
    ("predicted", ("predict", "retrieve", "--ckpt", "best.pt", "--split", "valid", *_CASES)),
    ("indexed", (*_INDEX, "--limit", "6")),
    ("indexed", ("index", "add", "cases", *_CASES)),
    ("search", ("search", "--index", "cases", *_QUERY, "--html", "search.html", "--where", "not missing(group)")),
    ("indexed", ("index", "info", "cases")),
    ("indexed", ("index", "remove", "cases", "nobody")),
    ("runs", ("runs",)),
    ("shown", ("show", "runs/cvqa")),
    ("settings", ("config", "seg")),
    ("presets", ("config", "--list")),
    ("exported", ("export", "runs/cvqa/best.pt", "--hub-folder", "hub")),
    ("predicted", ("predict", "seg", "--images", "given/DermaVQA/images_final", "--ckpt", "best.pt", *_ONE)),
    ("doctor", ("doctor", "--clear-cache")),
]
Magic = Callable[..., Ended]


def clean(ended: Ended) -> Ended:
    """Check what holds for every end: a documented exit code, no traceback, no patient's text, nothing that drives
    a terminal."""
    text = ended.out + ended.err
    assert ended.code in CODES, ended
    assert "Traceback" not in text, text
    assert "error: unexpected" not in ended.err, ended.err
    assert CANARY not in text, text
    assert "Xanthippe" not in text, text
    assert all(line.isprintable() for line in text.split("\n")), text
    return ended


def refused(ended: Ended, code: int, *words: str) -> list[str]:
    """Check a refusal: this exit code, one line an error, nothing on stdout, each of `words` in some line."""
    clean(ended)
    assert ended.code == code, ended
    assert not ended.out, ended.out
    assert ended.errors
    for word in words:
        assert any(word in line for line in ended.errors), (word, ended.errors)
    assert all(len(line) < 5000 for line in ended.errors)
    return ended.errors


def accepted(ended: Ended, *words: str) -> Ended:
    """Check a success that says each of `words`."""
    clean(ended)
    assert ended.code == 0, ended
    for word in words:
        assert word in ended.out + ended.err, (word, ended)
    return ended


def one_object(ended: Ended, name: str) -> dict[str, Any]:
    """Return the one JSON object on stdout after checking it against a schema."""
    clean(ended)
    found: dict[str, Any] = json.loads(ended.out)
    assert ended.out.count("\n") == 1
    assert schema.problems(name, found, name) == []
    return found


def make_raw(root: Path, **options: Any) -> Path:
    """A challenge folder whose texts are all the canary."""
    make_challenge(root, **options)
    for path in [*root.glob("*.json")]:
        text = path.read_text(encoding="utf-8")
        if '"query_content_en"' in text:
            rows = json.loads(text)
            for row in rows:
                row |= {key: f"{CANARY} {key}" for key in row if key.startswith("query_")}
                row["responses"] = [{"author_id": "U1", "content_en": f"{CANARY} too"}]
            path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return root


def make_ready(raw: Path, out: Path) -> Path:
    prepare(raw, out)
    return out


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def left(folder: Path) -> list[str]:
    """Names below a folder, of half-written files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) if folder.exists() else []


def torn(folder: Path) -> list[str]:
    return [name for name in left(folder) if re.search(r"(^|/)\..*\.tmp$", name)]
