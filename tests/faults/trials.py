"""Commands that are broken off and run again, and what has to hold after each: nothing lost, nothing torn, same bytes.

`World` makes the data once, and every command's results without a break: an older one and a new one. A trial runs in
a folder of its own, in which the older result lies already, or nothing.
"""

import os
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from challenge_folders import make_challenge
from forks import Ended, Forks, job

from magic_cli.data.prepared import open_prepared
from magic_cli.io.json_files import read_jsonl
from magic_cli.models.cache import store
from magic_cli.training import checkpoint, resume
from magic_cli.training.run_folder import FOLDER as DRAFT

SIGNALS = ("SIGINT", "SIGTERM", "SIGKILL")
GIVEN = "../given"
Tree = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """A command line that writes `out`, another one that makes an older result, and what is added after a break.

    `runs` says that files of a run appear in `out` as it goes on.
    """

    name: str
    words: tuple[str, ...]
    older: tuple[str, ...]
    again: tuple[str, ...] = ()
    runs: bool = False


_GIVEN = f"--data {GIVEN}/prepared"
_VALID = f"{_GIVEN} --split valid --out out"
_CPU = "--device cpu --cache-dir cache"
_FEW = "--preset tiny --set epochs=2 --set batch_size=2"


def _case(name: str, form: str, new: str, older: str) -> Case:
    """Return a case whose words are those of `form`, with * replaced."""
    return Case(name, tuple(form.replace("*", new).split()), tuple(form.replace("*", older).split()))


def _trained(task: str, folds: str = "") -> Case:
    words = tuple(f"train {task} {_FEW} {_GIVEN} {_CPU} --out out {folds}".split())
    return Case(f"train {task} {folds}".strip(), words, (*words, "--seed", "5"), ("--resume",), True)


_DEMO = ("demo", "--preset", "tiny", "--out", "out")
CASES = (
    _case("prepare", f"prepare --data {GIVEN}/DermaVQA --out out --merge *", "or", "each"),
    _trained("seg"),
    _trained("cvqa"),
    _trained("seg", "--folds 2"),
    _trained("cvqa", "--folds 2"),
    _case("predict seg", f"predict seg --ckpt {GIVEN}/*/seg {_VALID} {_CPU}", "new", "old"),
    _case("predict cvqa", f"predict cvqa --ckpt {GIVEN}/*/cvqa {_VALID} {_CPU}", "new", "old"),
    _case("predict --vote", f"predict cvqa --vote {GIVEN}/*/valid {GIVEN}/old/valid {_VALID}", "new", "old"),
    _case("score --out", f"score {GIVEN}/*/valid {GIVEN}/prepared --resamples 100 --out out", "new", "old"),
    _case("package", f"package --seg {GIVEN}/*/valid --cvqa {GIVEN}/*/valid {_VALID}", "new", "old"),
    Case("demo", _DEMO, _DEMO, ("--overwrite",), True),
)
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Break:
    """A trial: a command, whether an older result is there, which signal comes, and when, once or twice.

    `at` are points of moments.py, `after` times in seconds; `group` sends it to all processes, as a terminal does.
    """

    case: str
    older: bool
    signal: str
    at: tuple[int, ...] = ()
    after: tuple[float, ...] = ()
    group: bool = False

    @property
    def kill(self) -> dict[str, object]:
        """Return it as `job` wants it."""
        when = {"at": self.at} if self.at else {"after": self.after}
        return {"signal": self.signal, "group": self.group, **when}


def drawn(case: str, seed: int, unbroken: Ended) -> Break:
    """Draw a break: signals take turns, as do a first result and one that replaces an older one.

    A third of the moments are times, and every seventh signal comes twice. `unbroken` tells how many points and
    seconds there are; there are up to a quarter more where an older result is replaced.
    """
    rng = random.Random(f"{case} {seed}")  # noqa: S311
    signal, older, group = SIGNALS[seed % 3], seed % 4 > 1, rng.random() < 0.5
    times, more = 2 if seed % 7 == 6 else 1, 1.25 if older else 1
    if rng.random() < 2 / 3:
        first = rng.randint(1, round(unbroken.points * more))
        return Break(case, older, signal, (first, first + rng.randint(1, 20))[:times], (), group)
    start = rng.uniform(0, unbroken.seconds * more)
    return Break(case, older, signal, (), (start, start + rng.uniform(0, 0.02))[:times], group)


class World:
    """Data, results without a break, and the warm process; everything is below `root`."""

    def __init__(self, root: Path) -> None:
        self.root, self.forks, self._number = root, Forks(root), 0
        given = root / "given"
        make_challenge(given / "DermaVQA")
        self._must("prepare", "--data", "DermaVQA", cwd=given)
        for age, seed in (("new", 0), ("old", 5)):
            for task in ("seg", "cvqa"):
                words = BY_NAME[f"train {task}"].words[:-2]
                here = [word.replace(f"{GIVEN}/", "") for word in words]
                self._must(*here, "--seed", seed, "--out", f"{age}/{task}", cwd=given)
                made = f"{age}/valid-{task}"  # a folder for each task, as each has a record
                split = ("--split", "valid", "--out", made)
                self._must("predict", task, "--ckpt", f"{age}/{task}", *_CPU.split(), *split, cwd=given)
                others = shutil.ignore_patterns("run.json")
                shutil.copytree(given / made, given / age / "valid", ignore=others, dirs_exist_ok=True)
        self._known: dict[str, tuple[Tree, Ended]] = {}

    def _must(self, *words: object, cwd: Path) -> Ended:
        ended = self.forks.one(*words, cwd=cwd)
        assert ended.code == 0, (words, ended)
        return ended

    def folder(self, case: Case, older: bool) -> Path:
        """Return a new folder to run a case in, with the older result in it, or nothing."""
        self._number += 1
        folder = self.root / f"trial-{self._number}"
        folder.mkdir()
        if older:
            self.lay(case, folder)
        return folder

    def lay(self, case: Case, folder: Path) -> None:
        """Put the older result of a case into a folder."""
        self.older(case)
        for kept in (self.root / "older" / case.name).iterdir():
            (shutil.copytree if kept.is_dir() else shutil.copy2)(kept, folder / kept.name)

    def older(self, case: Case) -> Tree:
        """Return the older result of a case."""
        kept = self.root / "older" / case.name / "out"
        if not kept.exists():
            kept.parent.mkdir(parents=True)
            made = self.folder(case, older=False)
            self._must(*case.older, cwd=made)
            for path in made.glob("out*"):  # a zip, and its record beside it
                path.rename(kept.with_name(path.name))
            shutil.rmtree(made)
        return tree(kept)

    def unbroken(self, case: Case) -> tuple[Tree, Ended]:
        """Return the result of a case without a break, and how the command ended."""
        if case.name not in self._known:
            folder = self.folder(case, older=False)
            ended = self._must(*case.words, cwd=folder)
            assert leftovers(folder) == [], leftovers(folder)
            self._known[case.name] = tree(folder / "out"), ended
            shutil.rmtree(folder)
        return self._known[case.name]

    def planned(self, case: Case, seed: int) -> Break:
        """Draw a break of a case."""
        return drawn(case.name, seed, self.unbroken(case)[1])

    def survive(self, broken: Break) -> Ended:
        """Break a command off, look at what is left, run it again, compare; return how the first try ended."""
        case = BY_NAME[broken.case]
        new, _ = self.unbroken(case)
        folder = self.folder(case, broken.older)
        old = self.older(case) if broken.older else {}
        overwrite = ("--overwrite",) if broken.older else ()
        ended = self.forks.one(*case.words, *overwrite, cwd=folder, kill=broken.kill)
        found = tree(folder / "out")
        ended_well(ended, broken, done=found == new)
        nothing_torn(case, folder, found, old, new)
        self.go_on(case, folder, broken.older, done=found == new)
        shutil.rmtree(folder)
        return ended

    def starve(self, case: Case, seed: int) -> Ended:
        """Let no file grow beyond some size, as `survive` does with signals."""
        rng, older = random.Random(f"{case.name} {seed} size"), seed % 2 == 1  # noqa: S311
        new, _ = self.unbroken(case)
        folder, old = self.folder(case, older), self.older(case) if older else {}
        limit = round(max(map(len, new.values())) * rng.random() ** 2)  # small ones are met sooner
        ended = self.forks.one(*case.words, *(("--overwrite",) if older else ()), cwd=folder, faults={"size": limit})
        found = tree(folder / "out")
        nothing_torn(case, folder, found, old, new)
        if ended.code == 0:
            assert differences(found, new) == []
        else:
            refused(ended, "(File too large); ")
            assert [name for name in leftovers(folder) if name.endswith(".tmp")] == []
        self.go_on(case, folder, older, done=found == new)
        shutil.rmtree(folder)
        return ended

    def twice(self, case: Case) -> list[Ended]:
        """Run two commands with different results at once, into one place and through one cache."""
        folder = self.folder(case, older=False)
        both = self.forks.run(*(job(*words, cwd=folder) for words in (case.words, case.older)))
        assert 0 in [ended.code for ended in both], both
        for ended in both:
            assert "Traceback" not in ended.err, ended
            if ended.code:
                refused(ended)
        assert tree(folder / "out") in (self.unbroken(case)[0], self.older(case)), both
        assert leftovers(folder) == [], leftovers(folder)
        shutil.rmtree(folder)
        return both

    def backwards(self, case: Case) -> Ended:
        """Let each look at the clock find it a minute earlier, and all files be from the year 2033."""
        folder = self.folder(case, older=True)
        for path in (folder / "out", *(folder / "out").rglob("*")):
            os.utime(path, (2e9, 2e9))
        ended = self.forks.one(*case.words, "--overwrite", cwd=folder, faults={"clock": "back"})
        assert ended.code == 0, ended
        assert not (different := differences(tree(folder / "out"), self.unbroken(case)[0])), different
        assert leftovers(folder) == [], leftovers(folder)
        shutil.rmtree(folder)
        return ended

    def go_on(self, case: Case, folder: Path, older: bool, done: bool = False) -> None:
        """Run a case again that was broken off, and compare its result with that of an unbroken one."""
        if case.again and (not older or done or any((folder / "out").glob(f"{DRAFT}/*"))):
            repeat = case.again
        else:  # nothing was begun, or all is done
            repeat = ("--overwrite",) if (folder / "out").exists() else ()
        ended = self.forks.one(*case.words, *repeat, cwd=folder)
        assert ended.code == 0, ended
        assert not (different := differences(tree(folder / "out"), self.unbroken(case)[0])), different
        assert leftovers(folder) == [], leftovers(folder)


def tree(path: Path) -> Tree:
    """Return the files of a result by name, without the path of the trial's folder in them.

    What is hidden, a draft, and records of a run, which name the line that was typed, are no part of it; nor are the
    pages of a training, which tell how long it took, the date of a case index and how often it was built.
    """
    if path.is_file():
        return {"": path.read_bytes()}
    other = re.compile(rf"(^|/)(\.|{DRAFT}/|(.*\.)?run\.json$|progress\.html$|folds\.html$)")
    files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    here = os.fsencode(path.resolve().parent)
    found = {name: file.read_bytes().replace(here, b".") for name, file in files.items() if not other.search(name)}
    return {_NUMBERED.sub(r"\1N-\2", name): _undated(name, data) for name, data in found.items()}


_NUMBERED = re.compile(r"(^|/)\d+-(\d{6})")  # files of an index


def _undated(name: str, data: bytes) -> bytes:
    if not name.endswith(("/manifest.json", "search.html")):
        return data
    data = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]{8}(\+|&#43;)00:00", b"DATE", data)
    return re.sub(rb'"generation": \d+|"next": \d+', b"", re.sub(rb'"\d+-(\d{6})', rb'"N-\1', data))


def differences(one: Tree, other: Tree) -> list[str]:
    """Return the names of files that are not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def leftovers(folder: Path) -> list[str]:
    """Return what should not be there after a command: hidden files and drafts; in the cache, unfinished files."""
    found = [path.relative_to(folder) for path in folder.rglob("*")]
    hidden = [p.as_posix() for p in found if any(part.startswith(".") or part == DRAFT for part in p.parts)]
    cache = [entry.path for root in folder.rglob("cache") for entry in store.entries(root) if not entry.finished]
    return [name for name in hidden if folder / name not in cache]


def ended_well(ended: Ended, broken: Break, done: bool) -> None:
    """Check how a broken command ended: by the signal, or with one line and its exit code, or it was done before."""
    assert "Traceback" not in ended.err, ended
    assert "Exception ignored" not in ended.err, ended
    if ended.code == 0:
        assert done, ended
    elif broken.signal == "SIGKILL" and ended.code == 1:  # its step died, not the demo
        [line] = ended.errors
        assert "was ended by signal 9 (out of memory?); --overwrite" in line, ended
    elif broken.signal == "SIGKILL":
        assert ended.code == -9, ended
    elif ended.code < 0:  # before the program could say anything, or after its last word
        assert ended.code == {"SIGINT": -2, "SIGTERM": -15}[broken.signal], ended
    else:
        assert ended.code == 130, ended
        said = [line for line in ended.errors if "demo:" in line] or ended.errors  # beside its step's own line
        assert 1 <= len(said) <= len(broken.at or broken.after), ended
        assert all("interrupted" in line for line in said)


def refused(ended: Ended, *words: str, code: int = 3) -> None:
    """Check a refusal: its exit code, and one line with a remedy, which holds `words`."""
    assert ended.code == code, ended
    assert ended.out == "", ended
    assert "Traceback" not in ended.err, ended
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    lines = [line for line in lines if "its own message is above" not in line]  # the demo's word on its step
    assert len(lines) == 1, ended
    assert "; " in lines[0], lines
    assert "error: unexpected" not in lines[0], lines
    assert all(word in lines[0] for word in words), (words, lines)


def nothing_torn(case: Case, folder: Path, found: Tree, old: Tree, new: Tree) -> None:
    """Check what a broken command left: the old result or the new one, whole; of runs, files that can be read."""
    if found in (old, new):
        return
    if old:  # a new run that is finished takes its place file by file; --resume ends that
        assert case.runs
        assert [name for name, data in found.items() if data not in (old.get(name), new.get(name))] == []
        missing = [name for name in old.keys() & new.keys() if name not in found]
        assert not missing
    assert case.runs
    readable(folder / "out")


def readable(out: Path) -> None:
    """Check that every file of a run, a demo or a cross-validation can be read."""
    for path in sorted(out.rglob("*")):
        if path.name == "best.pt":
            checkpoint.load_best(path)
        elif path.name == "state.pt":
            resume.load_state(path)
        elif path.suffix == ".jsonl":
            assert read_jsonl(path)
        elif path.name == "prepare.json":
            open_prepared(path.parent)
