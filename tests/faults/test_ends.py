"""How every command ends: documented exit codes, one JSON object where it is asked for, logs on stderr alone."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from harness import EVERY_COMMAND, Magic, accepted, one_object, refused
from launchers import launch, launched

from magic_cli.cli import output
from magic_cli.cli.app import app
from magic_cli.commands import demo
from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.errors import MagicError, WeightsError
from magic_cli.io import schema
from magic_cli.io.locks import folder_lock
from magic_cli.io.resources import as_resource_error
from magic_cli.training.trainer import Trainer

COMMANDS = {command.callback.__name__ for command in app.registered_commands if command.callback}
COMMANDS |= {str(group.typer_instance.info.name) for group in app.registered_groups if group.typer_instance}


def test_every_command_succeeds_as_its_schema_says(
    magic: Magic, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, with the umask of a careful user: one line of JSON on stdout, logs on stderr alone, no patient's text
    anywhere but in the dataset, permissions of the umask everywhere."""
    monkeypatch.setattr(demo, "_call", in_this_process(magic))
    monkeypatch.setattr(demo, "COUNTS", {"train": 3, "valid": 2, "test": 1})
    before, seen = os.umask(0o027), set()
    try:
        for name, words in EVERY_COMMAND:
            ended = magic(*words, "--json")
            assert ended.code == 0, ended
            found = one_object(ended, name)
            assert found["command"] == words[0]
            seen.add(words[0])
        assert magic("doctor").code == 0
    finally:
        os.umask(before)
    assert seen == COMMANDS
    ours = [path for path in tmp_path.rglob("*") if not path.is_symlink() and path.parts[-1] != "work"]
    made = [path for path in ours if not path.is_relative_to(tmp_path / "work" / "given")]
    assert len(made) > 80
    assert [path for path in made if path.lstat().st_mode & 0o777 != (0o750 if path.is_dir() else 0o640)] == []
    told = [path for path in made if path.is_file() and b"Xanthippe" in path.read_bytes()]
    assert {path.name for path in told} == {"cases.jsonl"}


def in_this_process(magic: Magic) -> Callable[[demo.Step, Path], Any]:
    """The demo's steps as they are, but where sockets are blocked and umask and texts are looked at."""

    def call(step: demo.Step, folder: Path) -> Any:
        here = Path.cwd()
        os.chdir(folder)
        try:
            ended = magic(*step.words)
        finally:
            os.chdir(here)
        assert ended.code == 0, ended
        return json.loads(ended.out) if step.parse else None

    return call


FAILURES = {
    "doctor": (2, "doctor", "--bogus"),
    "prepare": (3, "prepare", "--data", "nowhere"),
    "prepare without data": (2, "prepare"),
    "train": (3, "train", "seg", "--data", "nowhere", "--preset", "tiny"),
    "train without weights": (5, "train", "seg", "--preset", "paper", "--weights", "nowhere"),
    "train with a setting": (3, "train", "seg", "--set", "x=1"),
    "train without a task": (2, "train", "sge"),
    "predict": (3, "predict", "seg", "--ckpt", "nowhere.pt"),
    "predict without checkpoints": (2, "predict", "seg"),
    "score": (3, "score", "given/one", "nowhere"),
    "score without gold": (2, "score", "one"),
    "package": (4, "package", "--check-only", "given/DermaVQA/train.json"),
    "package of nothing": (2, "package"),
    "rerun": (3, "rerun", "nowhere"),
    "rerun without a record": (2, "rerun"),
    "demo": (2, "demo", "--preset", "no"),
    "index": (3, "index", "info", "nowhere"),
    "index without a model": (3, "index", "build", "cases", "--ckpt", "nowhere.pt"),
    "index without a verb": (2, "index", "--bogus"),
    "export": (3, "export", "nowhere.pt", "--onnx", "x.onnx"),
    "runs": (3, "runs", "nowhere"),
    "show": (3, "show", "nowhere.pt"),
    "config": (2, "config", "sge"),
    "search": (3, "search", "--text", "dark", "--index", "nowhere"),
    "search for nothing": (3, "search"),
    "search with a filter": (2, "search", "--text", "dark", "--where", "age >="),
    "search for too many": (2, "search", "--text", "dark", "-k", "0"),
    "no command": (2, "frobnicate"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_every_command_fails_as_its_schema_says(magic: Magic, place: Path, how: str) -> None:
    code, *words = FAILURES[how]
    plain = magic(*words)
    assert plain.code == code
    assert plain.out == ""
    ended = magic(*words, "--json")
    assert ended.code == code
    found = one_object(ended, "error")
    assert found["exit_code"] == code
    assert found["errors"] == ended.errors == plain.errors
    debug = magic(*words, "--debug", "--json")
    assert debug.code == code
    assert json.loads(debug.out) == found
    assert "Traceback (most recent call last)" in debug.err


def test_failures_of_every_command_are_listed() -> None:
    assert {name.split()[0] for name in FAILURES} - {"no"} == COMMANDS


def test_an_interruption_is_an_object_too(magic: Magic, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("magic_cli.commands.prepare.prepare", interrupted)
    ended = magic("prepare", "--data", "given/DermaVQA", "--json")
    assert one_object(ended, "error")["exit_code"] == ended.code == 130
    assert "interrupted" in ended.err
    assert "error:" not in ended.err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(71, "Protocol error"), "Protocol error"),
        (RuntimeError("CUDA error: no kernel image"), "CUDA error: no kernel image"),
        (ValueError("could not convert 'my skin itches' to float"), ""),
        (KeyError("my skin itches"), ""),
        (UnicodeEncodeError("ascii", "my skin itches", 0, 1, "no"), ""),
        (TypeError("'my skin itches' is no number"), ""),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_nobody_expected_quotes_no_data(
    magic: Magic, place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    """Exceptions of libraries quote what they stopped at; only those of the system and of torch are told."""
    monkeypatch.setattr("magic_cli.commands.prepare.prepare", Mock(side_effect=error))
    ended = magic("prepare", "--data", "given/DermaVQA", "--json")
    assert one_object_with(ended.out)["exit_code"] == ended.code == 1
    assert "itches" not in ended.out + ended.err
    assert told in ended.err
    assert f"unexpected {type(error).__name__} in cli/prepare.py:" in ended.err
    assert "itches" in magic("prepare", "--data", "given/DermaVQA", "--debug").err or "itches" not in str(error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "not enough memory: "),
        (
            MemoryError("Unable to allocate 9 GiB for an array"),
            "not enough memory (Unable to allocate 9 GiB",
        ),
        (OSError(12, "Cannot allocate memory"), "not enough memory"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "up to 4 GB",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (RuntimeError("std::bad_alloc"), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory of the GPU"),
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), "not enough memory of the GPU"),
        (OSError(24, "Too many open files"), "not enough open files"),
        (RuntimeError("can't start new thread"), "not enough threads or processes"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "not enough threads or processes"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>"), "not enough shared memory"),
    ],
)
def test_what_the_machine_lacks_is_said_with_a_remedy(
    magic: Magic, place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    monkeypatch.setattr("magic_cli.commands.prepare.prepare", Mock(side_effect=error))
    [line] = refused(magic("prepare", "--data", "given/DermaVQA"), 3, told)
    assert "--set" in line or "ulimit" in line


def test_a_path_in_shared_memory_is_a_path_like_any_other() -> None:
    place = "/dev/shm/x"  # noqa: S108
    assert as_resource_error(OSError(errno.ENAMETOOLONG, "File name too long", place)) is None
    assert as_resource_error(OSError(errno.EACCES, "Permission denied for shm_open")) is not None


def one_object_with(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    assert schema.problems("error", found, "error") == []
    return found


def test_the_exit_codes_are_those_of_the_readme_and_of_the_schema() -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"(\d+) [a-z ]+", text.split("Exit codes:")[1].split("`--json`")[0])}
    kinds = {MagicError, *MagicError.__subclasses__(), WeightsError}
    assert {kind.exit_code for kind in kinds} | {0} == listed
    assert set(schema.load("error")["properties"]["exit_code"]["enum"]) | {0} == listed


def test_a_terminal_that_knows_only_ascii(place: Path) -> None:
    """A process of its own: names and dashes that the terminal lacks are escaped."""
    Path("皮疹").mkdir()
    words = [sys.executable, "-m", "magic_cli", "prepare", "--data", "皮疹", "--out", "out"]
    environment = {"PYTHONIOENCODING": "ascii:strict", "PATH": "", "PYTHONUTF8": "0"}
    done = subprocess.run(words, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 3
    assert b"\\u76ae\\u75b9: got no file" in done.stderr


def test_a_reader_that_leaves_early(place: Path) -> None:
    """`magic score ... | head -1`."""
    words = [sys.executable, "-m", "magic_cli", "doctor"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_messages_are_printed_by_one_process_of_several(magic: Magic, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 1)
    ended = magic("train", "seg", "--data", "nowhere", "--json")
    assert (ended.code, ended.out, ended.err) == (3, "", "")


LEFTOVERS = (
    {"RANK": "1"},
    {"RANK": ""},
    {"RANK": "abc", "WORLD_SIZE": "abc", "LOCAL_RANK": "-1"},
    {"WORLD_SIZE": "2"},
    {"WORLD_SIZE": "2", "RANK": "1"},
    {"LOCAL_RANK": "0"},
    {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMI_SIZE": "4"},
    {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "3"},
    {"ACCELERATE_USE_CPU": "perhaps", "ACCELERATE_DYNAMO_BACKEND": "x", "FORK_LAUNCHED": "x"},
    {"OMP_NUM_THREADS": "abc", "MASTER_ADDR": "node7", "MASTER_PORT": "x"},
)


@pytest.mark.parametrize("left", [*LEFTOVERS, launched(1)])
def test_leftovers_of_a_scheduler_silence_no_command(
    magic: Magic, monkeypatch: pytest.MonkeyPatch, left: dict[str, str]
) -> None:
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    refused(magic("prepare", "--data", "nowhere"), 3, "nowhere")


@pytest.mark.parametrize("left", LEFTOVERS)
def test_leftovers_of_a_scheduler_leave_a_training_alone(
    place: Path, magic: Magic, monkeypatch: pytest.MonkeyPatch, left: dict[str, str]
) -> None:
    """It trains in one process, says what it ignores if that would mean several, locks its folder and is recorded."""
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    words = ("train", "cvqa", "--preset", "tiny", "--modality", "text", "--set", "epochs=1", "--no-cache")
    ended = accepted(magic(*words, "--data", "given/prepared", "--device", "cpu"))
    assert ("ignored" in ended.err) == any(name in ended.err for name in left)
    assert json.loads(Path("runs/cvqa/run.json").read_text())["machine"]["processes"] == 1
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with folder_lock(Path("runs/cvqa")):
        refused(magic(*words, "--data", "given/prepared", "--resume"), 3, "another process trains here")


def test_accepted_words_are_seen(magic: Magic) -> None:
    assert output.emit.__doc__
    accepted(magic("--version"), "magic 0.")


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_settings_that_torch_cannot_parse(
    magic: Magic, place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They end a process that loads torch (SIGABRT, with a page of addresses); other commands do not read them."""
    monkeypatch.setenv(name, "nonsense")
    plan = ("train", "cvqa", "--data", "given/prepared", "--preset", "tiny", "--dry-run")
    refused(magic(*plan), 3, f"{name}=nonsense: torch cannot be loaded with it")
    refused(magic("doctor", "--deep"), 3, name)
    accepted(magic("score", "given/one", "given/prepared", "--resamples", "100"))
    monkeypatch.setenv(name, "expandable_segments:True")
    accepted(magic(*plan))


def touch() -> None:
    for path in Path("prepared").rglob("*"):
        os.utime(path, (1, 1))


def copy_back() -> None:
    shutil.copytree("prepared", "copy")
    shutil.rmtree("prepared")
    shutil.move("copy", "prepared")


def prepare_again(merge: str = "or") -> None:
    prepare("given/DermaVQA", "prepared", PrepareOptions(merge, overwrite=True))


def damage_a_mask() -> None:
    """With its size and its time, as a restored backup or a rewritten header would leave them."""
    path = min(Path("prepared/masks").iterdir())
    state, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


SAME = {"touched": touch, "copied": copy_back, "prepared again": prepare_again}
OTHER = {
    "other masks": lambda: prepare_again("intersection"),
    "one mask": damage_a_mask,
    "gone": lambda: shutil.rmtree("prepared"),
}


@pytest.mark.parametrize("how", [*SAME, *OTHER])
def test_data_that_is_replaced_while_a_training_reads_it(
    magic: Magic, place: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Only other content ends it: then best.pt and state.pt are those of the epoch before."""
    accepted(magic("prepare", "--data", "given/DermaVQA"))
    close, kept = Trainer._close, list[dict[str, bytes]]()

    def close_and_change(self: Trainer) -> None:
        close(self)
        if not kept:
            kept.append({name: (self.out / name).read_bytes() for name in ("best.pt", "metrics.jsonl")})
            (SAME | OTHER)[how]()

    monkeypatch.setattr(Trainer, "_close", close_and_change)
    words = ("train", "seg", "--preset", "tiny", "--device", "cpu", "--set", "epochs=2")
    if how in SAME:
        accepted(magic(*words))
        return
    [line] = refused(magic(*words), 3, "replaced or changed while this command read it")
    assert line.endswith("run it again, a training with --overwrite")
    assert {name: Path("runs/seg", name).read_bytes() for name in kept[0]} == kept[0]
