"""The fault matrix: each command killed, on a full disk, on one that is read-only, without permission, twice at once.

Nothing may be lost or torn, one line says what to do, and the same command then ends in the same bytes. Cells that
other tests cover, and the kills of tests/benchmarks/kills.py, are in the table of examples/reliability.md. All is in
one file, as its data take seconds to make.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from forks import Ended
from trials import (
    BY_NAME,
    CASES,
    Break,
    Case,
    World,
    differences,
    drawn,
    ended_well,
    leftovers,
    nothing_torn,
    refused,
    tree,
)

NAMES = [case.name for case in CASES]
KILLS = dict.fromkeys(NAMES, 3) | {"train seg": 4, "predict --vote": 2, "score --out": 2, "demo": 1}
STEPS = [name for name in NAMES if name != "demo"]  # the demo runs these


# ---- killed


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, count in KILLS.items() for seed in range(count)])
def test_a_killed_command_loses_nothing(world: World, name: str, seed: int) -> None:
    world.survive(world.planned(BY_NAME[name], seed))


def test_the_plan_has_every_signal_and_both_kinds_of_moments() -> None:
    ended = Ended(0, "", "", 100, 1.0)
    plan = [drawn(name, seed, ended) for name in NAMES for seed in range(84)]
    assert Counter(one.signal for one in plan) == dict.fromkeys(("SIGINT", "SIGTERM", "SIGKILL"), len(plan) / 3)
    assert Counter(one.older for one in plan) == dict.fromkeys((True, False), len(plan) / 2)
    assert 0.6 < sum(bool(one.at) for one in plan) / len(plan) < 0.73
    assert sum(len(one.at or one.after) == 2 for one in plan) == len(plan) / 7
    assert sum(KILLS.values()) + len(REAL) >= 30


# ---- forks are no fiction: the same with processes


def spawned(case: Case, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "magic_cli", *case.words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_process_makes_what_a_fork_makes(world: World) -> None:
    case = BY_NAME["prepare"]
    folder = world.folder(case, older=False)
    with spawned(case, folder) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert tree(folder / "out") == world.unbroken(case)[0]
    assert leftovers(folder) == []


REAL = [("prepare", "SIGINT"), ("prepare", "SIGTERM"), ("prepare", "SIGKILL"), ("train cvqa", "SIGINT")]


@pytest.mark.parametrize(("name", "number"), REAL)
def test_a_killed_process_loses_nothing(world: World, name: str, number: str) -> None:
    """When it has begun to write, whatever it does then."""
    case = BY_NAME[name]
    folder = world.folder(case, older=False)
    with spawned(case, folder) as process:
        while not any(folder.glob(".magic-*/new/masks") if name == "prepare" else folder.glob("out/metrics.jsonl")):
            time.sleep(0.001)
            assert process.poll() is None
        process.send_signal(signal.Signals[number])
        out, err = process.communicate(timeout=120)
    found, new = tree(folder / "out"), world.unbroken(case)[0]
    ended = Ended(process.returncode, out, err, 0, 0)
    ended_well(ended, Break(name, False, number, (1,)), done=found == new)
    nothing_torn(case, folder, found, {}, new)
    world.go_on(case, folder, False, done=found == new)


# ---- what cannot be written


def started(world: World, case: Case, folder: Path, older: bool, **faults: object) -> Ended:
    """Run a case, with --overwrite where an older result is there."""
    return world.forks.one(*case.words, *(("--overwrite",) if older else ()), cwd=folder, faults=faults)


def kept(world: World, case: Case, folder: Path) -> None:
    """Check that the older result is as it was, and that nothing half-written lies about."""
    assert differences(tree(folder / "out"), world.older(case)) == []
    assert [name for name in leftovers(folder) if name.endswith(".tmp")] == []


@pytest.mark.parametrize("name", NAMES)
def test_files_that_may_not_grow(world: World, name: str) -> None:
    """A limit on the size of files (ulimit -f): the write that passes it fails, wherever it comes."""
    case = BY_NAME[name]
    folder = world.folder(case, True)
    refused(started(world, case, folder, True, size=700), "(File too large); ")
    kept(world, case, folder)
    if name in STEPS:
        world.go_on(case, folder, True)


@dataclass(frozen=True)
class Disk:
    """A disk of 32 MB: `place` as the commands see it, `seen` as this process does."""

    world: World
    place: Path
    seen: Path

    def leave(self, free: int) -> None:
        """Fill it until so many bytes are free."""
        there = os.statvfs(self.seen)
        with (self.seen / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, there.f_bavail * there.f_bsize - free)

    def make(self, read_only: bool) -> None:
        """Let it be written, or not."""
        assert self.world.forks.disk(self.place, bytes=1 << 25, again=True, read_only=read_only)


@pytest.fixture
def disk(world: World) -> Iterator[Disk]:
    """An empty disk that the commands alone see mounted."""
    place = world.root / "disk"
    place.mkdir(exist_ok=True)
    seen = world.forks.disk(place, bytes=1 << 25)
    if seen is None:
        pytest.skip("mounting a disk needs the rights of root")
    yield Disk(world, place, seen)
    world.forks.undo(place)


def outside(case: Case) -> Case:
    """Return a case whose cache is not where its result goes."""
    return Case(
        case.name, tuple("../warm" if word == "cache" else word for word in case.words), (), case.again, case.runs
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk(disk: Disk, name: str) -> None:
    """Half of what the result takes is free."""
    world, case = disk.world, outside(BY_NAME[name])
    blocks = sum(-(-len(data) // 4096) for data in world.older(BY_NAME[name]).values())
    world.lay(case, disk.seen)
    disk.leave(free=blocks // 2 * 4096)
    place = "runs" if name == "demo" else "out"  # a step of the demo names its own result
    refused(started(world, case, disk.place, True), place, "(No space left on device); free space")
    kept(world, case, disk.seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_read_only(disk: Disk, name: str) -> None:
    world, case = disk.world, outside(BY_NAME[name])
    world.lay(case, disk.seen)
    disk.make(read_only=True)
    refused(started(world, case, disk.place, True), "out", "(Read-only file system); ")
    kept(world, case, disk.seen)


@contextmanager
def closed(*folders: Path) -> Iterator[None]:
    """Let nobody write into folders for the length of a block."""
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.parametrize("name", NAMES)
def test_without_permission_to_write(world: World, name: str) -> None:
    case = outside(BY_NAME[name])
    folder = world.folder(case, older=True)
    inside = [path for path in (folder / "out", *(folder / "out").rglob("*")) if path.is_dir()]
    with closed(folder, *inside):
        refused(started(world, case, folder, True, bounds=True), "out", "(Permission denied); ")
        kept(world, case, folder)


UNREADABLE = {
    "prepare": "given/DermaVQA/train.json",
    "train seg": "given/prepared/images.jsonl",
    "train cvqa --folds 2": "given/prepared/cases.jsonl",
    "predict seg": "given/new/seg/best.pt",
    "predict --vote": "given/new/valid/data_cvqa_sys.json",
    "score --out": "given/new/valid/data_cvqa_sys.json",
    "package": "given/new/valid/masks_preds/IMG_ENC00004_00001_mask_sys.tiff",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_without_permission_to_read(world: World, name: str) -> None:
    path, folder = world.root / UNREADABLE[name], world.folder(BY_NAME[name], older=True)
    path.chmod(0)
    ended = started(world, BY_NAME[name], folder, True, bounds=True)
    path.chmod(0o644)
    if name == "prepare":  # what cannot be read is listed, and the rest is prepared
        assert ended.code == 0
        assert "train.json: cannot be read (Permission denied)" in ended.out
    else:
        refused(ended, path.name, "ermission", code=3 if path.suffix in (".jsonl", ".pt") else 4)
        kept(world, BY_NAME[name], folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_that_is_there_stays(world: World, name: str) -> None:
    folder = world.folder(BY_NAME[name], older=True)
    refused(world.forks.one(*BY_NAME[name].words, cwd=folder), "out", "already there; use --overwrite")
    kept(world, BY_NAME[name], folder)


# ---- others at work


@pytest.mark.parametrize("name", STEPS)
def test_two_at_once(world: World, name: str) -> None:
    """One result is there, whole; of two trainings one is refused."""
    both = world.twice(BY_NAME[name])
    if BY_NAME[name].runs:
        assert sorted(ended.code for ended in both) == [0, 3]


# ---- processes and clocks that fail


WORKERS = [("train seg", 1), ("train seg", 4), ("predict seg", 1)]  # the batch with which one dies


@pytest.mark.parametrize(("name", "batch"), WORKERS)
def test_a_worker_of_the_data_loader_dies(world: World, name: str, batch: int) -> None:
    """In the middle of an epoch, while its weights are judged, in a prediction."""
    case = BY_NAME["train seg"]
    case = replace(case, words=(*case.words, "--set", "workers=1"))
    unbroken, folder = world.folder(case, False), world.folder(case, False)
    assert started(world, case, unbroken, False).code == 0
    if name == "predict seg":
        made = {"../given/new/seg": f"../{unbroken.name}/out/best.pt"}
        case = replace(BY_NAME[name], words=tuple(made.get(word, word) for word in BY_NAME[name].words))
    ended = started(world, case, folder, False, worker=batch)
    refused(ended, "out: got the end of a data loader's process", "free memory; ", code=1)
    again = world.forks.one(*case.words, *case.again, cwd=folder)
    assert again.code == 0
    if case.runs:
        assert differences(tree(folder / "out"), tree(unbroken / "out")) == []
    assert leftovers(folder) == []


@pytest.mark.parametrize("name", STEPS)
def test_a_clock_that_steps_back(world: World, name: str) -> None:
    world.backwards(BY_NAME[name])


# ---- the table


def rows() -> list[str]:
    """Return the rows of the table in examples/reliability.md: how many cases of each kind there are for a command."""
    killed, dead = Counter(KILLS) + Counter(name for name, _ in REAL), Counter(name for name, _ in WORKERS)
    each, steps, unread = Counter(NAMES), Counter(STEPS), Counter(UNREADABLE.keys())
    kinds = (killed, each + each, each, each + unread, each, steps, dead, steps)
    return [f"| `{name}` | {' | '.join(str(kind[name] or '-') for kind in kinds)} |" for name in NAMES]


def test_the_table_counts_these_tests() -> None:
    page = Path(__file__).parents[2] / "examples" / "reliability.md"
    assert [row for row in rows() if row not in page.read_text(encoding="utf-8").splitlines()] == []


if __name__ == "__main__":
    print("\n".join(rows()))
