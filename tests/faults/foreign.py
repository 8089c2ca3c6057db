"""Random command lines in a folder full of results, among files that no command wrote: these stay as they are.

`Folder` makes the results once. A trial gets a copy of them, with files of others planted everywhere: notes, backups,
look-alike names, hidden ones, links, pipes, unusual modes. After the command, everything is as before but for what its
own record, or that of the result it replaces, lists.
"""

import json
import os
import random
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from forks import Ended, Forks
from trials import World

CODES = (0, 2, 3, 4, 5, 6)

_TINY = ("--preset", "tiny", "--set", "epochs=1", "--set", "batch_size=4")
_CPU = ("--device", "cpu", "--cache-dir", "cache")
_VALID = ("--split", "valid")

# the results in the folder, and the command lines that made them
RESULTS = {
    "prepared": ("prepare", "--data", "DermaVQA"),
    "runs/seg": ("train", "seg", *_TINY, *_CPU),
    "runs/cvqa": ("train", "cvqa", *_TINY, *_CPU, "--modality", "text"),
    "predictions/seg": ("predict", "seg", "--ckpt", "best.pt", *_VALID, *_CPU),
    "predictions/cvqa": ("predict", "cvqa", "--ckpt", "best.pt", *_VALID, *_CPU),
    "voted": ("predict", "cvqa", "--vote", "predictions/cvqa", "predictions/cvqa", *_VALID, "--out", "voted"),
    "report": ("score", "predictions/seg", "prepared", "--resamples", "100", "--out", "report"),
    "submission.zip": ("package", "--seg", "predictions/seg", "--cvqa", "predictions/cvqa", *_VALID),
}
WEIGHTS = {"prepare": 16, "train": 4, "predict": 10, "vote": 12, "score": 20, "package": 20, "rerun": 8, "doctor": 10}

NAMES = (
    *("notes.txt", ".hidden", "run.json.bak", "best.pt.orig", "cases (1).jsonl", "index.html~", "scores_of_2024.json"),
    *(".prepared-20251127", ".report-0123abcd", ".thesis.20251127.tmp", ".magic-0123456789abcdef.tmp", ".seg-deadbeef"),
    *("IMG_ENC00001_00001 (copy).tiff", "data_cvqa_sys.json.old", "scores_2.json", "scores_9.json", "metrics.jsonl.1"),
    *("new\nline", "-rf", "ü.md", "draft.txt", "run.json.tmp", ".nfs0001", "per_item (1).csv", ".runs.bak", "x.lock"),
)
FOLDERS = (
    *("notes", ".prepared-20251127", ".report-deadbeef", ".magic-0123456789abcdef", "runs.2024", "masks_preds.old"),
    *(".submission.zip-0123abcd", "draft.old", "folds.old", ".git", "seg.bak", "cache.old"),
)


@dataclass(frozen=True)
class State:
    """What lies under a name: its type and mode, and its bytes or where it leads."""

    mode: int
    content: bytes | str = ""


@dataclass(frozen=True)
class Line:
    """A command line, where it writes, and whether it may replace its own older result there."""

    words: tuple[str, ...]
    out: str | None
    replaces: bool


@dataclass
class Trial:
    """How a command line ended, and what it did to files that it should not have touched."""

    line: Line
    ended: Ended
    planted: list[str]
    faults: list[str] = field(default_factory=list)


class Folder:
    """The results, made once; `trial` runs one random line in a copy."""

    def __init__(self, world: World) -> None:
        self.forks: Forks = world.forks
        self.root = world.root / "foreign"
        self.template = self.root / "template"
        self.template.mkdir(parents=True)
        shutil.copytree(world.root / "given" / "DermaVQA", self.template / "DermaVQA")
        for words in RESULTS.values():
            ended = self.forks.one(*words, cwd=self.template)
            assert ended.code == 0, (words, ended)

    def trial(self, seed: int) -> Trial:
        """Plant files, run a line, compare; the folder is removed unless something is wrong."""
        rng = random.Random(seed)  # noqa: S311
        folder = self.root / f"trial-{seed}"
        shutil.copytree(self.template, folder, symlinks=True)
        planted = list(plant(rng, folder))
        line = draw(rng, folder)
        before, mine = snapshot(folder), listed(folder, line)
        ended = self.forks.one(*line.words, cwd=folder)
        trial = Trial(line, ended, planted, list(changes(before, snapshot(folder), line, mine)))
        if ended.code not in CODES or "Traceback" in ended.err or "error: unexpected" in ended.err:
            trial.faults.append(f"ended with {ended.code}: {ended.err[-500:]}")
        if not trial.faults:
            shutil.rmtree(folder)
        return trial


def plant(rng: random.Random, folder: Path) -> Iterator[str]:
    """Put a dozen files and folders of others into random places; yield their names, relative to `folder`."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir() and "DermaVQA" not in path.parts)]
    for number in range(12):
        place = rng.choice(places)
        is_folder = rng.random() < 0.3
        path = place / rng.choice(FOLDERS if is_folder else NAMES)
        if os.path.lexists(path):
            continue
        if is_folder:
            _plant_folder(rng, path, number)
        else:
            _plant_file(rng, path, outside, number)
        yield path.relative_to(folder).as_posix()


def _plant_folder(rng: random.Random, path: Path, number: int) -> None:
    path.mkdir(mode=rng.choice((0o755, 0o700, 0o750)))
    if rng.random() < 0.8:
        (path / rng.choice(NAMES)).write_text(f"in a folder, {number}")
    if rng.random() < 0.3:
        (path / "runs" / "seg").mkdir(parents=True)
        (path / "runs" / "seg" / "best.pt").write_bytes(b"weights of last year")


def _plant_file(rng: random.Random, path: Path, outside: Path, number: int) -> None:
    kind = rng.choice(("file", "file", "file", "file", "link", "folder link", "broken", "hard link", "pipe"))
    if kind == "link":
        path.symlink_to(outside / "thesis.txt")
    elif kind == "folder link":
        path.symlink_to(outside)
    elif kind == "broken":
        path.symlink_to(outside / "no such file")
    elif kind == "hard link":
        os.link(outside / "thesis.txt", path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(rng.choice(("", f"mine, {number}", '{"schema": 2}')))
        path.chmod(rng.choice((0o644, 0o600, 0o400, 0o755)))


def draw(rng: random.Random, folder: Path) -> Line:
    """Draw a command line; half of them write to the usual place, the others anywhere."""
    verb = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    overwrite = rng.random() < 0.7
    words, out = _words(rng, verb)
    if verb == "doctor":
        return Line(words, None, replaces=False)
    if verb == "rerun" or rng.random() < 0.5:
        anything = [path for path in folder.rglob("*") if "DermaVQA" not in path.parts and "\n" not in path.name]
        target = rng.choice((*anything, folder / "new", folder / "new" / "deep", folder / "DermaVQA", folder))
        out = os.path.relpath(target, folder)
        words = (*words, "--out", out)
    words += ("--overwrite",) if overwrite and verb != "rerun" else ()
    words += ("--dry-run",) if verb != "score" and rng.random() < 0.05 else ()
    return Line(words, out, replaces=overwrite and "--dry-run" not in words)


def _words(rng: random.Random, verb: str) -> tuple[tuple[str, ...], str]:
    """Return a line without --out, and where it writes by default."""
    task = rng.choice(("seg", "cvqa"))
    name, other = f"predictions/{task}", rng.choice(("predictions/seg", "submission.zip", "voted", "predictions/cvqa"))
    if verb == "prepare":
        return ("prepare", "--data", "DermaVQA", "--merge", rng.choice(("or", "majority", "each"))), "prepared"
    if verb == "train":
        words = ("train", task, *_TINY, *_CPU, *(("--modality", "text") if task == "cvqa" else ()))
        return words, f"runs/{task}"
    if verb == "predict":
        return ("predict", task, "--ckpt", "best.pt", *rng.choice((_VALID, ())), *_CPU), name
    if verb == "vote":
        files = rng.choice((("voted", "predictions/cvqa"), ("predictions/cvqa", "submission.zip")))
        return ("predict", "cvqa", "--vote", *files, *_VALID), "predictions/cvqa"
    if verb == "score":
        systems = rng.choice(((name,), (name, other)))
        return ("score", *systems, "prepared", "--resamples", "100", "--out", "report"), "report"
    if verb == "package":
        both = ("--seg", "predictions/seg", "--cvqa", rng.choice(("voted", "predictions/cvqa")))
        return ("package", *rng.choice((both, both[:2], both[2:])), *_VALID), "submission.zip"
    if verb == "rerun":
        return ("rerun", rng.choice(("report", "prepared", "submission.zip.run.json", "voted"))), "new"
    return ("doctor", "--clear-cache", "--cache-dir", rng.choice(("cache", "cache", "prepared", "runs", ".")), *()), ""


def snapshot(folder: Path) -> dict[str, State]:
    """Return what lies below a folder, by its relative name; links are not followed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            mode, content = path.lstat().st_mode, b""
            if stat.S_ISLNK(mode):
                found[path.relative_to(folder).as_posix()] = State(mode, str(path.readlink()))
                continue
            if stat.S_ISREG(mode):
                content = path.read_bytes()
            found[path.relative_to(folder).as_posix()] = State(mode, content)
    return found


def listed(folder: Path, line: Line) -> set[str]:
    """Return the files that a line may replace: those that the record of the same verb's older result lists."""
    if line.words[:2] == ("doctor", "--clear-cache"):
        return {f"cache/{path}" for path in _names(folder.parent / "template" / "cache")}
    if not line.replaces or line.out is None:
        return set()
    out = folder / line.out
    record = out / "run.json" if out.is_dir() else out.with_name(f"{out.name}.run.json")
    if not record.is_file() or record.is_symlink():
        return set()
    content = json.loads(record.read_text() or "null")
    verb = "vote" if "--vote" in line.words else line.words[0]
    if not isinstance(content, dict) or {content.get("verb"), verb} not in ({verb}, {"vote", "predict"}):
        return set()
    paths = {record, *((out if out.is_dir() else out.parent) / name for name in content["outputs"])}
    return {os.path.relpath(path, folder) for path in paths}


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def changes(before: dict[str, State], after: dict[str, State], line: Line, mine: set[str]) -> Iterator[str]:
    """Yield what a line did to files of others, and where it left files that nobody asked for."""
    for name, state in before.items():
        if name in mine or (name in after and after[name] == state):
            continue
        if stat.S_ISDIR(state.mode) and name not in after and any(path.startswith(f"{name}/") for path in mine):
            continue  # a folder of the older result, empty now
        yield f"{name!r} {'changed' if name in after else 'is gone'}"
    if line.out is None:
        return
    roots = ("cache", line.out, f"{line.out}.run.json")
    for name in after.keys() - before.keys():
        expected = line.out == "." or any(name == root or name.startswith(f"{root}/") for root in roots)
        if not expected and not line.out.startswith(f"{name}/"):
            yield f"{name!r} is new"
