"""Paths that nobody may enter, streams and folders that are gone, files that are devices: one line, whatever asks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Magic, accepted, clean, copied, left, refused

import magic_cli
from magic_cli.commands import cross_validate, demo, doctor
from magic_cli.commands.package import check_submission
from magic_cli.commands.predict import predict
from magic_cli.commands.rerun import rerun
from magic_cli.commands.score import ScoreOptions, score
from magic_cli.commands.vote import vote
from magic_cli.errors import CheckpointError, ConfigError
from magic_cli.report.run_text import Fold

TINY = ("--preset", "tiny", "--modality", "text", "--no-cache", "--set", "epochs=1")
GIVEN = ("--data", "given/prepared", "--split", "valid")
ANSWERS = "given/one/data_cvqa_sys.json"
FIRST_MASK = "masks_preds/IMG_ENC00011_00001_mask_sys.tiff"
FULL, LOG = Path("/dev/full"), Path("/proc/kmsg")

# a file in the place of which a link leads to the kernel's log, the command that reads it, and how that ends
_TRAIN = "train seg --preset tiny --set epochs=1 --no-cache"
LINKED = {
    "DermaVQA/valid_cvqa.json": ("prepare --data DermaVQA --overwrite", 0),
    "IMG_ENC00002_00001.jpg": ("prepare --data DermaVQA --overwrite", 0),
    "IMG_ENC00002_00001_mask_ann0.tiff": ("prepare --data DermaVQA --overwrite", 0),
    "sub/masks_preds/IMG_ENC00004_00001_mask_sys.tiff": ("score sub prepared --resamples 100", 0),
    "IMG_ENC00004_00001_mask_ann0.tiff": ("score sub DermaVQA --split valid --resamples 100", 3),
    "prepared/cases.jsonl": ("score sub prepared", 3),
    "prepared/masks/IMG_ENC00001_00001.tiff": (_TRAIN, 3),
    "run/best.pt": ("predict seg --ckpt run", 3),
    "run/run.json": ("rerun run", 3),
}

# each path that each command takes: X
PATHS = [
    "prepare --data X",
    "prepare --data given/DermaVQA --out X",
    "train cvqa --data X",
    "train cvqa --data given/prepared --out X",
    "train cvqa --preset paper --data given/prepared --weights X",
    "predict cvqa --ckpt X --data given/prepared",
    f"predict cvqa --vote X {ANSWERS} --data given/prepared --split valid",
    f"predict cvqa --vote {ANSWERS} {ANSWERS} --data given/prepared --split valid --out X",
    "score X given/prepared",
    "score given/one X",
    "score given/one given/prepared --resamples 100 --against X",
    "score given/one given/prepared --resamples 100 --out X",
    "score given/one given/prepared --resamples 100 --out report --run X",
    "package --seg X --data given/prepared --split valid",
    "package --cvqa X --data given/prepared --split valid",
    "package --cvqa given/one --data X --split valid",
    "package --cvqa given/one --data given/prepared --split valid --out X",
    "package --check-only X",
    "rerun X",
    "demo --out X",
    "doctor --cache-dir X",
    "doctor --clear-cache --cache-dir X",
]


@pytest.mark.parametrize("words", PATHS)
def test_a_path_that_the_system_does_not_take(magic: Magic, place: Path, words: str) -> None:
    """As one in a folder that may not be entered (the next test): `exists` raises, wherever it is asked first."""
    name = "x" * 300
    ended = clean(magic(*[name if word == "X" else word for word in words.split()]))
    assert ended.code in (3, 4), ended
    (line,) = ended.errors
    assert name in line
    assert "File name too long" in line
    assert left(Path("report")) == []
    as_json = magic(*[name if word == "X" else word for word in words.split()], "--json")
    assert json.loads(as_json.out)["errors"] == [line.removeprefix("error: ")]


@pytest.mark.parametrize("words", PATHS)
def test_an_empty_path_is_not_the_working_folder(magic: Magic, place: Path, words: str) -> None:
    r"""As of `--data "$UNSET"`; on the command line and, where a verb has run, in Python."""
    before = left(Path())
    [line] = refused(magic(*["" if word == "X" else word for word in words.split()]), 2, "got an empty path")
    option = words.split()[words.split().index("X") - 1]
    assert f"{option}: " in line or not option.startswith("--") or option == "--vote"
    assert left(Path()) == before


def test_an_empty_path_in_python(place: Path) -> None:
    calls = {
        "ckpt": lambda: predict("cvqa", "", "given/prepared"),
        "data": lambda: predict("cvqa", ["best.pt"], ""),
        "gold": lambda: score("given/one", ""),
        "preds": lambda: score(["given/one", ""], "given/prepared"),
        "against": lambda: score("given/one", "given/prepared", ScoreOptions(against="")),
        "files": lambda: vote(["given/one", ""], "given/prepared"),
        "record": lambda: rerun(""),
        "path": lambda: check_submission(""),
        "out": lambda: demo.run(""),
        "cache_dir": lambda: doctor.inspect(cache_dir="", clear_cache=True),
    }
    for name, call in calls.items():
        with pytest.raises(ConfigError, match=f"^{name}: got an empty path"):
            call()


BOUNDED = "import moments; moments.FAULTS['bounds'](None); from magic_cli.cli.app import main; main()"


@pytest.mark.skipif(sys.platform != "linux", reason="root is held to permissions by giving up capabilities")
def test_a_folder_that_may_not_be_entered(place: Path) -> None:
    Path("shut/prepared").mkdir(parents=True)
    Path("shut").chmod(0)
    words = ["package", "--cvqa", "given/one", "--data", "shut/prepared"]
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    Path("shut").chmod(0o700)
    line = "error: shut/prepared/prepare.json: cannot be used (Permission denied); check the path and its permissions\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, "", line)


@pytest.mark.parametrize("words", ["doctor", "prepare --data given", "train cvqa", "rerun given", "demo"])
def test_a_working_folder_that_is_gone(magic: Magic, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    folder = Path("gone").absolute()
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    refused(magic(*words.split()), 3, "working folder cannot be used")


def test_a_user_without_a_home(magic: Magic, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs under a number without a name."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", unknown)
    words = ("train", "cvqa", "--data", "given/prepared", "--dry-run", *TINY)
    refused(magic("doctor"), 3, "HOME", "XDG_CACHE_HOME", "--cache-dir")
    refused(magic(*[word for word in words if word != "--no-cache"]), 3, "HOME")
    accepted(magic(*words))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="it needs /dev/zero")
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "/proc/kmsg"])
def test_predictions_that_are_no_file(magic: Magic, name: str) -> None:
    """A device was read until the memory was full, and the kernel's log was waited for."""
    if name == "pipe":
        os.mkfifo(name)
    elif not Path(name).exists():
        pytest.skip(f"there is no {name}")
    for words in (("score", name, "given/prepared"), ("package", "--check-only", name), ("package", "--cvqa", name)):
        more = GIVEN if words[0] == "package" else ("--split", "valid")
        refused(magic(*words, *more), 4, f"{name}: got no regular file")
    refused(magic("predict", "cvqa", "--vote", name, ANSWERS, *GIVEN), 4, f"{name}: got no regular file")


@pytest.mark.skipif(not LOG.exists(), reason="it needs /proc/kmsg")
@pytest.mark.parametrize("name", LINKED)
def test_what_would_be_waited_for_behind_a_link(magic: Magic, ready: Path, raw: Path, name: str) -> None:
    """The kernel's log says that it is a regular file; whoever reads it waits for news."""
    copied(ready, Path("prepared"))
    copied(raw, Path("DermaVQA"))
    (Path("sub") / "masks_preds").mkdir(parents=True)
    Path("run").mkdir()
    path = Path(name) if "/" in name else next(Path("DermaVQA").rglob(name))
    path.unlink(missing_ok=True)
    path.symlink_to(LOG)
    words, code = LINKED[name]
    ended = clean(magic(*words.split()))
    assert ended.code == code
    assert "a file of the kernel" in ended.out + ended.err


def test_a_limit_that_no_list_can_have(magic: Magic) -> None:
    refused(magic("predict", "cvqa", "--ckpt", "best.pt", "--limit", "9" * 20), 2, "--limit")


@pytest.mark.skipif(os.name != "posix", reason="streams are closed by a shell")
def test_closed_streams(place: Path) -> None:
    """A scheduler may start a process so; the first files that are opened must not become its stdout and stderr."""
    words = ["score", "given/one", "given/prepared", "--resamples", "100"]
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "magic_cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, "error" in done.stderr) == (0, "", False)


@pytest.mark.skipif(not FULL.exists(), reason="it needs /dev/full")
def test_help_on_a_full_disk(place: Path) -> None:
    with FULL.open("w") as full:
        words = [sys.executable, "-m", "magic_cli", "score", "--help"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "stdout or a file: cannot be written (No space left on device)" in done.stderr


def test_a_zip_in_the_place_of_what_it_is_made_from(magic: Magic, place: Path) -> None:
    before = Path(ANSWERS).read_bytes()
    Path("link.json").symlink_to(ANSWERS)
    for name in (ANSWERS, "link.json"):
        words = ("package", "--cvqa", ANSWERS, *GIVEN, "--out", name, "--overwrite")
        refused(magic(*words), 3, f"{name}: got what this command reads")
    assert Path(ANSWERS).read_bytes() == before


# an option for results that would replace what the command reads, or a result of another kind
TAKEN = {
    "a file that votes": f"predict cvqa --vote given/one given/other {' '.join(GIVEN)} --out given/other",
    "prepared data, by scores": "score given/one given/prepared --resamples 100 --out given/prepared",
    "prepared data, by a run": f"train cvqa --data given/prepared --out given/prepared {' '.join(TINY)}",
    "predictions, by scores": "score voted given/prepared --resamples 100 --out voted",
    "predictions, by prepared data": "prepare --data given/DermaVQA --out voted",
    "predictions, by a run": f"train cvqa --data given/prepared --out voted {' '.join(TINY)}",
    "raw data": "prepare --data given/DermaVQA --out given/DermaVQA",
    "a mask that is packed": f"package --seg given/one {' '.join(GIVEN)} --out given/one/{FIRST_MASK}",
    "answers in a folder that is packed": f"package --cvqa given/one {' '.join(GIVEN)} --out {ANSWERS}",
    "a table of prepared data": f"package --seg given/one {' '.join(GIVEN)} --out given/prepared/images.jsonl",
}


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("what", TAKEN)
def test_results_replace_no_input_and_no_result_of_another_kind(
    magic: Magic, place: Path, what: str, more: tuple[str, ...]
) -> None:
    accepted(magic("predict", "cvqa", "--vote", ANSWERS, "given/other", *GIVEN, "--out", "voted"))
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    [_] = refused(magic(*TAKEN[what].split(), *more), 3)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_python_files_in_the_working_folder_are_not_run(tmp_path: Path) -> None:
    """`python -m` looks for modules there first; the demo works in the folder that it fills."""
    for name in ("json", "typer", "numpy", "tifffile", "imagecodecs"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    words = [sys.executable, "-m", "magic_cli", "doctor", "--json"]
    paths = os.pathsep.join([str(Path(magic_cli.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=120, env=os.environ | {"PYTHONPATH": paths})
    assert json.loads(done.stdout)["command"] == "doctor"
    (tmp_path / "magic_cli.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    found = demo._call(demo.Step(("doctor", "--json"), parse=True), tmp_path)
    assert found is not None
    assert found["command"] == "doctor"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"epoch": 1, "loss": null}', "null", '"x"'])
def test_curves_of_a_finished_fold_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(CheckpointError, match=r"no row of a finished training.*--resume trains this fold again"):
        cross_validate._ended(Fold(1, ("ENC00001",), 1, 1), tmp_path)
