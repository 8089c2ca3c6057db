"""commands/rerun.py: every verb repeated to the byte; what differs is named; a stranger's record can do no harm."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from recorded_run import LINES, magic, record, tree, write_record

from magic_cli.io import schema
from magic_cli.io.files import sha256
from magic_cli.io.json_files import write_json
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training.checkpoint import load_best, save_best
from magic_cli.training.trainer import Trainer

SCORE, SEG, PACK, VOTE = "report/run.json", "valid/seg/run.json", "valid.zip.run.json", "voted/run.json"


@pytest.fixture
def here(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the folder in which every verb has run, in another place."""
    return Path(shutil.copytree(recorded, tmp_path / "copy", symlinks=True))


@pytest.fixture
def alone(recorded: Path, tmp_path: Path) -> Path:
    """A folder with the record of a score, and nothing that it names."""
    (tmp_path / "report").mkdir()
    shutil.copy(recorded / SCORE, tmp_path / SCORE)
    return tmp_path


def refused(folder: Path, *words: object) -> list[str]:
    """Run `magic rerun …` that must be refused before anything is written; return its lines."""
    before = tree(folder)
    ended = magic(folder, "rerun", *words)
    lines = [line.removeprefix("error: ") for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (ended.code, ended.out) == (3, ""), ended
    assert lines
    assert "unexpected " not in ended.err
    assert tree(folder) == before
    return lines


@pytest.mark.parametrize("name", LINES)
def test_every_verb_repeats_what_it_made(here: Path, name: str) -> None:
    before = tree(here)
    ended = magic(here, "rerun", name, "--json")
    assert ended.code == 0, ended
    found = ended.json
    assert schema.problems("rerun", found, "rerun") == []
    assert (found["identical"], found["differences"], found["notes"]) == (True, [], [])
    assert found["compared"] == len(record(here, name)["outputs"]) > 0
    verbs = {"folds/folds/run.json": "cross_validate", VOTE: "vote"}
    assert found["verb"] == verbs.get(name, LINES[name][0])
    after = tree(here)
    assert {key: after[key] for key in before} == before  # nothing that was there has changed
    new = Path(found["out"])
    assert new.parent == (here / name).parent.parent or new.parent == here
    assert {key for key in after if key not in before} >= {
        (new / output).relative_to(here).as_posix() for output in record(here, name)["outputs"]
    }


def test_another_process_makes_the_same(here: Path) -> None:
    """Sets have another order there, and what follows it would differ."""
    words = [sys.executable, "-m", "magic_cli", "rerun", "folds/folds", "--json"]
    environment = os.environ | {"PYTHONHASHSEED": "11", "XDG_CACHE_HOME": str(here / "cache")}
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["identical"]


def test_a_rerun_leaves_a_record_that_is_not_repeated(here: Path) -> None:
    assert magic(here, "rerun", "voted", "--out", "again").code == 0
    again = record(here, "again/run.json")
    assert again["repeats"] == str(here / VOTE)
    assert again["outputs"].keys() == record(here, VOTE)["outputs"].keys()
    [line] = refused(here, "again")
    assert "got a rerun, expected a first run; magic rerun" in line


def test_a_dry_run_checks_and_writes_nothing(here: Path) -> None:
    (here / "runs" / "seg.rerun").mkdir()  # in the way of a rerun, not of this
    before = tree(here)
    ended = magic(here, "rerun", "runs/seg", "--dry-run", "--json")
    assert (ended.code, ended.json["identical"], ended.json["compared"]) == (0, None, 0)
    assert schema.problems("rerun", ended.json, "rerun") == []
    assert "nothing run" in magic(here, "rerun", "runs/seg", "--dry-run").out
    assert tree(here) == before
    line = f"{here / 'prepared'}: already exists, and nothing is replaced; use another --out"
    for words in ([], ["--dry-run"]):
        assert refused(here, "runs/seg", "--out", "prepared", *words) == [line]


def test_all_inputs_that_differ_are_named_before_anything_runs(here: Path) -> None:
    [photo] = (here / "DermaVQA").rglob("IMG_ENC00001_00002.jpg")
    photo.write_bytes(photo.read_bytes() + b"\0")
    [mask] = (here / "DermaVQA").rglob("IMG_ENC00004_00001_mask_ann1.tiff")
    mask.unlink()
    (here / "prepared" / "questions.json").write_text("[]")
    lines = refused(here, "runs/seg")
    assert len(lines) == 3
    for name, got in ((photo, "got SHA-256"), (mask, "got no such file"), (Path("prepared/questions.json"), "SHA")):
        assert [line for line in lines if name.name in line and got in line and "as recorded" in line], (name, lines)
    assert len(refused(here, "prepared")) == 2
    assert len(refused(here, "runs/seg", "--dry-run")) == 3


def test_an_input_that_is_no_file_is_not_waited_for(here: Path) -> None:
    """A stranger's record may name any file of this machine."""
    os.mkfifo(here / "pipe")
    with (here / "holes").open("wb") as file:
        file.truncate(1 << 40)
    names = ["/dev/zero", "prepared", "a\0b", "gone", "pipe", "holes"]
    words = ["a device,", "a folder,", "no such file", "no such file", "a named pipe,", "1 TiB, more than any"]
    if Path("/proc/kmsg").exists():
        names, words = [*names, "/proc/kmsg"], [*words, "a file of the kernel,"]
    write_record(here, SCORE, inputs=dict.fromkeys(names, "0" * 64))
    lines = refused(here / "report", "run.json")
    assert len(lines) == len(names)
    assert [word for word, line in zip(words, lines, strict=True) if word not in line] == []


def test_weights_that_differ_are_named(here: Path) -> None:
    settings = record(here, "runs/seg/run.json")["settings"] | {"image_encoder": "lite0"}
    write_record(
        here, "runs/seg/run.json", settings=settings, weights={"lite0/a.pth": "0" * 64, "minilm/b.json": "1" * 64}
    )
    lines = refused(here, "runs/seg")
    assert [line.split(":")[0] for line in lines] == ["lite0/a.pth", "minilm/b.json"]


Change = Callable[[Path], None]


def other_pixels(path: Path) -> None:
    mask = tifffile.imread(path)
    mask[0, :3] ^= 1
    tifffile.imwrite(path, mask)


def other_figures(path: Path) -> None:
    found = json.loads(path.read_text())
    write_json(path, found | {key: value + 0.25 for key, value in found.items() if key == "accuracy_all"})


def other_weights(path: Path) -> None:
    meta, weights = load_best(path)
    first = next(iter(weights))

    class Model:
        def state_dict(self) -> dict[str, Any]:
            return weights | {first: weights[first] + 0.5}

        def named_modules(self) -> list[Any]:
            return []

    save_best(path, Model(), meta)  # type: ignore[arg-type]


def other_line(path: Path) -> None:
    path.write_text(path.read_text().replace("seg,", "gse,", 1))


MASK = "masks_preds/IMG_ENC00004_00001_mask_sys.tiff"
CHANGES: dict[str, dict[str, tuple[Change, str]]] = {
    SEG: {MASK: (other_pixels, "3 of 3072 pixels differ")},
    SCORE: {"per_item.csv": (other_line, "1 of 22 lines differ"), "scores.json": (other_figures, " now (-0.25)")},
    "runs/cvqa/run.json": {"best.pt": (other_weights, " tensors differ, by 0.5 at most")},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_told_in_its_own_terms(here: Path, name: str) -> None:
    """As if the recorded result had been another one."""
    outputs = record(here, name)["outputs"]
    for output, (change, _) in CHANGES[name].items():
        change(here / Path(name).parent / output)
        outputs[output] = sha256(here / Path(name).parent / output)
    write_record(here, name, outputs=outputs)
    ended = magic(here, "rerun", name, "--json")
    assert ended.code == 4, ended
    assert schema.problems("rerun", ended.json, "rerun") == []
    assert ended.json["identical"] is False
    said = {one["file"]: one["what"] for one in ended.json["differences"]}
    assert said.keys() == CHANGES[name].keys()
    assert all(words in said[output] for output, (_, words) in CHANGES[name].items()), said


def test_what_differs_is_told_to_people(here: Path) -> None:
    other_pixels(here / "valid" / "seg" / MASK)
    outputs = record(here, SEG)["outputs"] | {MASK: sha256(here / "valid" / "seg" / MASK)}
    write_record(here, SEG, outputs=outputs)
    told = magic(here, "rerun", SEG)
    assert told.code == 4
    new = here / "valid" / "seg.rerun"
    assert told.out.splitlines() == [
        f"{MASK}: 3 of 3072 pixels differ",
        f"not identical: 1 of 3 files differ; {new} has the new ones",
    ]


def test_old_results_that_are_gone_are_compared_by_their_hashes(here: Path) -> None:
    outputs = record(here, SEG)["outputs"]
    first, *others = outputs
    write_record(here, SEG, outputs={"masks_preds/lost.tiff": "0" * 64, first: "0" * 64, others[0]: outputs[others[0]]})
    (here / "valid" / "seg" / others[0]).unlink()
    found = magic(here, "rerun", SEG, "--json").json
    assert {one["file"]: one["what"] for one in found["differences"]} == {
        "masks_preds/lost.tiff": "was not made again",
        first: "other bytes; the old ones are gone",
        others[1]: "was not there then",
    }
    [note] = found["notes"]
    assert note.startswith(f"no longer as recorded in {here / 'valid' / 'seg'}: masks_preds/lost.tiff, ")


def test_what_is_not_as_it_was_is_noted(here: Path) -> None:
    """Another machine, other versions: said, and the comparison decides."""
    before = record(here, "runs/cvqa/run.json")
    threads = before["machine"]["threads"] + 3
    write_record(
        here,
        "runs/cvqa/run.json",
        machine=before["machine"] | {"threads": threads, "platform": "CP/M", "processes": 2},
        versions=before["versions"] | {"torch": "0.1", "nothing-of-that-name": "7"},
        git={"commit": "abc", "changed": True},
    )
    ended = magic(here, "rerun", "runs/cvqa", "--json")
    notes = ended.json["notes"]
    assert ended.code == 0
    assert ended.json["identical"]
    assert f"threads: {threads} then, {threads - 3} now (OMP_NUM_THREADS={threads} repeats it)" in notes
    assert "processes: 2 then, 1 now" in notes
    assert "nothing-of-that-name: 7 then, not installed now" in notes
    assert any(note.startswith("platform: CP/M then, ") for note in notes)
    assert any(note.startswith("torch: 0.1 then, ") for note in notes)
    assert any(note.startswith("magic: commit abc, changed then, ") for note in notes)
    assert len(notes) == 6
    assert [line for line in ended.err.splitlines() if line.startswith("note: ")] == [f"note: {n}" for n in notes]


def test_the_settings_of_then_are_used_whatever_a_preset_says_now(here: Path) -> None:
    arguments = record(here, "runs/cvqa/run.json")["arguments"]
    arguments["options"]["settings"] = []
    write_record(here, "runs/cvqa/run.json", arguments=arguments)
    assert magic(here, "rerun", "runs/cvqa").code == 0


@pytest.mark.parametrize("name", ["runs/seg/run.json", "folds/folds/run.json"])
def test_settings_newer_than_the_record_have_their_defaults(here: Path, name: str) -> None:
    """As in a checkpoint of then: the preset may give them another value now (here 16)."""
    settings = record(here, name)["settings"]
    assert settings.pop("width") == 16
    write_record(here, name, settings=settings)
    assert magic(here, "rerun", name, "--out", "again").code == 4
    made = [*here.glob("again/**/best.pt")]
    assert made
    for path in made:
        meta, _ = load_best(path)
        assert meta.config["width"] in (SegConfig().width, CvqaConfig().width)
        assert meta.config | {"width": 16} == record(here, name)["settings"] | {"width": 16}


@pytest.mark.parametrize("out", [".", "..", "/", "link", "link/new", "link/more/new", "dangling"])
def test_results_go_to_a_new_folder_that_no_link_leads_to(here: Path, out: str) -> None:
    (here / "elsewhere" / "more").mkdir(parents=True)
    (here / "link").symlink_to("elsewhere")
    (here / "dangling").symlink_to("elsewhere/new")
    [line] = refused(here, "report", "--out", out)
    assert "use another --out" in line or "choose another --out" in line
    assert [path.name for path in (here / "elsewhere").rglob("*")] == ["more"]


def test_a_training_that_was_interrupted_and_resumed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compared with an unbroken one; how it was started is kept, though the record is written at its end."""
    close, words = Trainer._close, (*LINES["runs/cvqa/run.json"], "--out", "broken")

    def broken(trainer: Trainer) -> None:
        close(trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_close", broken)
    assert magic(here, *words).code == 130
    monkeypatch.undo()
    begun = record(here, "broken/run.json")
    assert (begun["argv"], begun["exit"], begun["outputs"]) == (list(words), None, {})
    assert schema.problems("run", begun, "run.json") == []
    assert "got a run that has not ended" in refused(here, "broken")[0]
    assert magic(here, "train", "cvqa", "--resume", "--out", "broken").code == 0
    ended = record(here, "broken/run.json")
    assert (ended["exit"], ended["resumed"], ended["started"]) == (0, True, list(words))
    assert ended["argv"] == ["train", "cvqa", "--resume", "--out", "broken"]
    assert schema.problems("run", ended, "run.json") == []
    again = magic(here, "rerun", "broken", "--json")
    assert (again.code, again.json["compared"]) == (0, 4)
    unbroken = record(here, "runs/cvqa/run.json")["outputs"]
    assert unbroken.keys() == ended["outputs"].keys()
    assert [name for name in unbroken if unbroken[name] != ended["outputs"][name]] == ["progress.html"]  # its times


def test_the_exit_code_is_part_of_the_result(here: Path) -> None:
    """Predictions that `score --strict` refuses: exit 4, a report, and the same again."""
    masks = sorted((here / "valid" / "seg" / "masks_preds").iterdir())
    masks[0].write_bytes(masks[0].read_bytes()[:50])
    line = ("score", "valid/seg", "prepared", "--strict", "--resamples", "100", "--out", "strict")
    assert magic(here, *line).code == 4
    assert record(here, "strict/run.json")["exit"] == 4
    assert magic(here, "rerun", "strict", "--out", "one").code == 0
    write_record(here, "strict/run.json", exit=0)
    ended = magic(here, "rerun", "strict", "--out", "two", "--json")
    assert (ended.code, ended.json["differences"]) == (4, [{"file": "run.json", "what": "exit 0 then, 4 now"}])


def test_nothing_that_is_there_is_replaced(here: Path) -> None:
    (here / "voted.rerun").mkdir()
    (here / "voted.rerun" / "thesis.tex").write_text("years of work")
    assert "already exists, and nothing is replaced" in refused(here, "voted")[0]
    (here / "empty").mkdir()
    assert refused(here, "voted", "--out", "empty")
    (here / "link").symlink_to("nowhere")
    assert refused(here, "voted", "--out", "link")
    arguments = record(here, VOTE)["arguments"]
    write_record(here, VOTE, arguments=arguments | {"options": {"overwrite": True}})
    assert refused(here, "voted")
    assert magic(here, "rerun", "voted", "--out", "new").code == 0
    assert (here / "voted.rerun" / "thesis.tex").read_text() == "years of work"


HOSTILE: dict[str, dict[str, Any]] = {
    "no verb": {"verb": "frobnicate"},
    "a path for a verb": {"verb": "/bin/sh"},
    "a module for a verb": {"verb": "demo"},
    "a rerun": {"verb": "rerun"},
    "text for arguments": {"arguments": "valid.zip prepared"},
    "an unknown argument": {"arguments": {"preds": "a", "gold": "b", "exec": "touch owned"}},
    "an unknown option": {"arguments": {"preds": "a", "gold": "b", "options": {"out": "x", "exec": "touch owned"}}},
    "an option of another kind": {"arguments": {"preds": "a", "gold": "b", "options": {"resamples": "many"}}},
    "a value out of range": {"arguments": {"preds": "a", "gold": "b", "options": {"out": "x", "resamples": 1}}},
    "another task": {"verb": "train", "arguments": {"task": "sge"}},
    "arguments of another verb": {"verb": "package"},
    "no argument": {"arguments": {}},
    "no words": {"argv": []},
    "numbers for words": {"argv": ["score", 7]},
    "text for words": {"argv": "score a b"},
    "another format": {"format": "magic-report"},
    "an older schema": {"schema": 1},
    "a later schema": {"schema": 3},
    "an unknown key": {"exec": "touch owned"},
    "an exit code that is none": {"exit": 139},
    "hashes that are none": {"inputs": {"valid.zip": "x"}},
    "a list of outputs": {"outputs": ["report.json"]},
    "a folder that is gone": {"folder": "/nowhere/at/all", "record": "elsewhere/run.json"},
    "a folder that is a number": {"folder": 7},
    "terminal escapes": {"verb": "\x1b[2Jscore\u202e"},
    "settings in depth": {"settings": {"epochs": [1]}},
    "a package with a path for a name": {"versions": {"../../x": "1"}},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_record_that_says_something_else(alone: Path, how: str) -> None:
    write_record(alone, SCORE, **HOSTILE[how])
    for line in refused(alone, SCORE, "--out", "new"):
        assert "run.json" in line
        assert line.isprintable()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"schema": 1', "[" * 100_000, '{"a": 1, "a": 2}', "1" * 5000, "\ufeff{}"]
)
def test_a_record_that_is_none(alone: Path, text: str) -> None:
    (alone / SCORE).write_text(text)
    assert refused(alone, SCORE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", "[]"),
        ("run.json", '{"schema": 1, "verb": ["score"]}'),
        ("prepare.json", '{"schema": 3, "seed": 0, "cases": 7}'),
        ("cases.jsonl", '{"case_id": "a"}\n{"case_id": "b"}\n'),
        ("best.pt", "PK\x03\x04"),
        ("note.txt", "some words"),
    ],
)
def test_a_file_of_another_kind_gets_one_line(alone: Path, name: str, text: str) -> None:
    (alone / name).write_text(text)
    said = "got no record of a magic call, expected the run.json beside a result; give that"
    assert refused(alone, name) == [f"{alone / name}: {said}"]


def test_no_record(alone: Path) -> None:
    assert refused(alone, "nowhere")
    assert refused(alone, ".")


def test_settings_that_cannot_be(here: Path) -> None:
    settings = record(here, "runs/cvqa/run.json")["settings"] | {"epochs": 0, "surprise": "$(touch owned)"}
    write_record(here, "runs/cvqa/run.json", settings=settings)
    assert any("surprise" in line for line in refused(here, "runs/cvqa"))


def test_former_names_of_settings_are_refused_with_the_new_ones(here: Path) -> None:
    name = "runs/cvqa/run.json"
    settings = record(here, name)["settings"]
    former = {"tune": settings.pop("finetune"), "clip": settings.pop("grad_clip_norm"), **settings}
    write_record(here, name, settings=former)
    [line] = refused(here, name)
    assert "run.json:settings" in line
    assert "tune is now finetune, clip is now grad_clip_norm" in line


def test_words_are_never_a_shell_s_and_results_go_where_the_user_says(here: Path) -> None:
    """Whatever --out, --overwrite and names a record has: victims stay, nothing is run, results are in a new folder."""
    victim = here / "victim"
    victim.mkdir()
    (victim / "data_cvqa_sys.json").write_text("mine")
    arguments = record(here, VOTE)["arguments"]
    write_record(
        here, VOTE, arguments=arguments | {"out": str(victim), "options": {"overwrite": True}}, folder=str(here)
    )
    assert magic(here, "rerun", VOTE).code == 0
    assert tree(victim) == {"data_cvqa_sys.json": b"mine"}
    assert (here / "voted.rerun" / "data_cvqa_sys.json").is_file()
    for word in ("$(touch owned)", "; touch owned", "`touch owned`", "| touch owned"):
        write_record(here, VOTE, arguments=arguments | {"files": [word, arguments["files"][1]]})
        assert magic(here, "rerun", VOTE, "--out", "other").code in (3, 4)
    assert not list(here.rglob("owned"))
    before = tree(here)
    write_record(here, PACK, arguments=record(here, PACK)["arguments"] | {"out": ".."})
    assert magic(here, "rerun", PACK).code == 3
    assert {name for name, data in tree(here).items() if before.get(name) != data} == {PACK}


def test_names_of_outputs_lead_nowhere(here: Path) -> None:
    """A record may name any file as its output: only files of the result are read, and compared."""
    secret = here.parent / "secret.json"
    secret.write_text('{"password": "Xanthippe"}')
    outputs = {"../../secret.json": sha256(secret), str(secret): sha256(secret)}
    write_record(here, VOTE, outputs=record(here, VOTE)["outputs"] | outputs)
    ended = magic(here, "rerun", VOTE, "--json")
    assert ended.code == 4
    assert {one["what"] for one in ended.json["differences"]} == {"was not made again"}


def test_masks_of_other_sizes_and_counts(here: Path) -> None:
    """A split that grew, a photo that was turned: each file is told of."""
    path = here / "valid" / "seg" / MASK
    tifffile.imwrite(path, np.zeros((5, 7), np.uint8))
    write_record(here, SEG, outputs=record(here, SEG)["outputs"] | {MASK: sha256(path)})
    [one] = magic(here, "rerun", SEG, "--json").json["differences"]
    assert one == {"file": MASK, "what": "(5, 7) uint8 then, (48, 64) uint8 now"}


def test_a_record_without_options_has_their_defaults(here: Path) -> None:
    arguments = {name: value for name, value in record(here, VOTE)["arguments"].items() if name != "options"}
    write_record(here, VOTE, arguments=arguments)
    assert magic(here, "rerun", VOTE).code == 0


@pytest.mark.parametrize("out", ["", "..", "a\0b", "x" * 5000])
def test_a_package_under_no_name_of_a_file_is_refused(here: Path, out: str) -> None:
    write_record(here, PACK, arguments=record(here, PACK)["arguments"] | {"out": out})
    assert "arguments:out: got no name of a file" in refused(here, PACK)[0]


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_recorded_output_under_no_name_of_a_file_differs(here: Path, name: str) -> None:
    write_record(here, VOTE, outputs=record(here, VOTE)["outputs"] | {name: "0" * 64})
    ended = magic(here, "rerun", VOTE, "--json")
    assert (ended.code, [row["what"] for row in ended.json["differences"]]) == (4, ["was not made again"])
