"""io/run_record.py: each verb's record is complete, written last, and in nobody's way."""

import dataclasses
import errno
import json
import os
import shutil
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from launchers import launch
from recorded_run import LINES, magic, record, tree
from tiny_dataset import files_of, make_prepared, write_folder

from magic_cli.commands.score import ScoreOptions, score
from magic_cli.commands.score_files import digest
from magic_cli.commands.vote import vote
from magic_cli.io import run_record, schema
from magic_cli.io.files import sha256
from magic_cli.io.json_files import read_jsonl
from magic_cli.io.run_record import Call, RunFiles
from magic_cli.models.weights import LITE0, MINILM_SHA256, encoder_digests
from magic_cli.models.weights import digests as weight_digests
from magic_cli.submission.reader import submitted_files


@pytest.fixture
def here(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the folder in which every verb has run."""
    return Path(shutil.copytree(recorded, tmp_path / "copy"))


@pytest.mark.parametrize("name", LINES)
def test_a_record_says_all_of_a_result(recorded: Path, name: str) -> None:
    found = record(recorded, name)
    assert schema.problems("run", found, "run.json") == []
    assert found["argv"] == list(LINES[name])
    assert (found["folder"], found["exit"], found["resumed"], found["repeats"]) == (str(recorded), 0, False, None)
    assert {"python", "mediqa-magic", "numpy"} <= found["versions"].keys()
    assert found["git"] is None or len(found["git"]["commit"]) == 40
    assert found["inputs"]
    for path, written in found["inputs"].items():
        assert not Path(path).is_absolute()
        assert sha256(recorded / path) == written, path
    root = {"folds/folds/run.json": "folds", "valid.zip.run.json": "."}.get(name, str(Path(name).parent))
    assert found["outputs"]
    for path, written in found["outputs"].items():
        assert sha256(recorded / root / path) == written
    times = found["times"]
    assert datetime.fromisoformat(times["start"]) <= datetime.fromisoformat(times["end"])
    assert sum(times["phases"].values()) <= times["seconds"] + 0.2  # each is rounded
    expected = {"runs/cvqa": {"encoding", "training", "scoring"}, "runs/seg": {"encoding", "training", "scoring"}}
    assert times["phases"].keys() == expected.get(str(Path(name).parent), times["phases"].keys())
    computes = name.startswith(("runs", "folds", "valid/"))
    assert (found["machine"]["threads"] is not None) == computes


def outputs(folder: Path, name: str) -> set[str]:
    return set(record(folder, name)["outputs"])


def test_the_outputs_are_all_files_of_a_result_but_states(recorded: Path) -> None:
    for name in ("prepared", "report", "valid/cvqa", "valid/seg", "voted"):
        there = {path.relative_to(recorded / name) for path in (recorded / name).rglob("*") if path.is_file()}
        assert outputs(recorded, f"{name}/run.json") == {p.as_posix() for p in there if p.name != "run.json"}
    assert outputs(recorded, "runs/seg/run.json") == {"best.pt", "metrics.jsonl", "progress.html", "review.json"}
    assert (recorded / "runs" / "seg" / "state.pt").is_file()
    assert outputs(recorded, "folds/folds/run.json") == {
        *("folds.json", "folds.html", "folds/data_cvqa_sys.json", "folds/predictions.jsonl"),
        *(f"fold-{k}/{file}" for k in (1, 2) for file in ("best.pt", "metrics.jsonl")),
    }
    assert outputs(recorded, "valid.zip.run.json") == {"valid.zip"}


def inputs(folder: Path, name: str) -> set[str]:
    return {Path(path).name for path in record(folder, name)["inputs"]}


def test_the_inputs_are_all_files_that_were_read(recorded: Path) -> None:
    raw = [path for path in (recorded / "DermaVQA").rglob("*") if path.is_file()]
    assert inputs(recorded, "prepared/run.json") == {path.name for path in raw}
    tables = {"prepare.json", "cases.jsonl", "images.jsonl", "questions.json", "mean_mask.png"}
    rows = {row["image_id"]: row for row in read_jsonl(recorded / "prepared" / "images.jsonl")}
    photos = {s: {f"{i}.jpg" for i, row in rows.items() if row["split"] == s} for s in ("train", "valid", "test")}
    labelled = [i for i, row in rows.items() if row["split"] != "test"]
    raw_masks = {f"{i}_mask_ann{k}.tiff" for i in labelled for k in (0, 1)}
    learned = tables | photos["train"] | photos["valid"]
    assert inputs(recorded, "runs/cvqa/run.json") == inputs(recorded, "folds/folds/run.json") == learned
    assert inputs(recorded, "runs/seg/run.json") == learned | raw_masks | {f"{i}.tiff" for i in labelled}
    assert inputs(recorded, "valid/seg/run.json") == tables | photos["valid"] | {"best.pt"}
    answers = {"data_cvqa_sys.json", "predictions.jsonl"}
    assert inputs(recorded, "voted/run.json") == tables | answers
    packed = {Path(name).name for name in outputs(recorded, "valid/seg/run.json")} | answers
    assert inputs(recorded, "valid.zip.run.json") == tables | packed
    judged = {name for name in raw_masks if rows[name.partition("_mask_")[0]]["split"] == "valid"}
    merged = {name.partition("_mask_")[0] + ".tiff" for name in judged}
    assert inputs(recorded, "report/run.json") == tables | photos["valid"] | judged | merged | {
        "valid.zip",
        "metrics.jsonl",
    }


def test_seeds_and_settings_are_the_resolved_ones(recorded: Path) -> None:
    trained = record(recorded, "runs/cvqa/run.json")
    assert (trained["seed"], trained["settings"]["epochs"], trained["settings"]["modality"]) == (0, 2, "text")
    assert trained["settings"]["lr"] == 0.01  # of the preset
    settings = record(recorded, "prepared/run.json")["settings"]
    assert {"merge": "or", "prompt": "qa", "responses": True, "source": "dermavqa"}.items() <= settings.items()
    scored = record(recorded, "report/run.json")
    assert (scored["seed"], scored["settings"]["resamples"]) == (2025, 100)


def test_weights_are_those_of_the_encoders_in_use(tmp_path: Path) -> None:
    found = weight_digests(["lite0", "minilm", "tiny", "minilm"], None)
    assert found["lite0/efficientnet-lite0-57934424.pth"] == LITE0.sha256
    assert found["minilm/model.safetensors"] == MINILM_SHA256
    assert {name.split("/")[0] for name in found} == {"lite0", "minilm"}
    assert "minilm/tokenizer.json" in found
    folder = tmp_path / "net"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    by_hub = weight_digests(["owner/net"], tmp_path)
    assert by_hub == {f"owner/net/{name}": sha256(folder / name) for name in ("config.json", "model.safetensors")}
    assert weight_digests(["owner/nothing", "../../etc/passwd", ""], tmp_path) == {}
    config = {"image_encoder": "owner/net", "text_encoder": "tiny", "weights_dir": str(tmp_path)}
    assert encoder_digests([config], None) == by_hub
    assert encoder_digests([config | {"weights_dir": ""}], tmp_path) == by_hub
    assert encoder_digests([], None) == {}


def test_a_prediction_knows_the_weights_of_its_checkpoints(recorded: Path, tmp_path: Path) -> None:
    from torch import nn

    from magic_cli.training.checkpoint import best_meta, load_best, save_best

    meta, _ = load_best(recorded / "runs" / "seg" / "best.pt")
    for name in ("minilm", "tiny"):
        config = meta.config | {"text_encoder": name}
        save_best(tmp_path / f"{name}.pt", nn.Linear(1, 1), dataclasses.replace(meta, config=config))
    configs = [best_meta(tmp_path / f"{name}.pt")["config"] for name in ("tiny", "minilm")]
    found = encoder_digests(configs, None)
    assert found == weight_digests(["minilm"], None)
    assert found["minilm/model.safetensors"] == MINILM_SHA256


def test_commands_that_write_nothing_or_fail_leave_none(here: Path) -> None:
    before = tree(here)
    for words in (
        ("prepare", "--data", "DermaVQA", "--dry-run"),
        ("train", "cvqa", "--preset", "tiny", "--dry-run", "--out", "no"),
        ("predict", "cvqa", "--ckpt", "best.pt", "--dry-run", "--out", "no"),
        ("score", "valid.zip", "prepared", "--resamples", "100"),
        ("package", "--check-only", "valid.zip", "--split", "valid"),
        ("package", "--seg", "valid/seg", "--cvqa", "valid/cvqa", "--split", "valid", "--dry-run"),
    ):
        assert magic(here, *words).code == 0, words
    for words in (
        ("prepare", "--data", "DermaVQA"),
        ("prepare", "--data", "nowhere", "--overwrite"),
        ("train", "cvqa", "--preset", "tiny"),
        ("train", "cvqa", "--preset", "tiny", "--overwrite", "--data", "nowhere"),
        ("predict", "cvqa", "--ckpt", "nowhere.pt", "--out", "valid/cvqa", "--overwrite"),
        ("score", "valid.zip", "prepared", "--resamples", "100", "--out", "report"),
        ("package", "--seg", "valid/seg", "--cvqa", "valid/cvqa", "--out", "valid.zip", "--overwrite"),  # split test
    ):
        assert magic(here, *words).code in (3, 4), words
    assert tree(here) == before  # results that stay keep their records


def test_a_record_ends_with_the_result_it_tells_of(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of files comes with them: a kill before the end leaves a record that says so, never a false one."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    again = {
        "valid/seg": (
            "predict",
            "seg",
            "--ckpt",
            "best.pt",
            "--split",
            "valid",
            "--out",
            "valid/seg",
            "--threshold",
            ".9",
        ),
        "voted": LINES["voted/run.json"],
        "prepared": ("prepare", "--data", "DermaVQA", "--merge", "intersection"),
    }
    monkeypatch.setattr("magic_cli.io.run_record.write", killed)
    for name, words in again.items():
        assert magic(here, *words, "--overwrite").code == 130
        found = record(here, f"{name}/run.json")
        assert schema.problems("run", found, "run.json") == []
        assert (found["argv"], found["exit"]) == ([*words, "--overwrite"], None)
        assert found["outputs"] == digests(here / name)
    monkeypatch.undo()
    for name, words in again.items():
        assert magic(here, *words, "--overwrite").code == 0
        found = record(here, f"{name}/run.json")
        assert (found["exit"], found["outputs"]) == (0, digests(here / name))
    assert magic(here, *LINES["valid.zip.run.json"], "--data", "given", "--overwrite").code == 3
    assert (here / "valid.zip.run.json").is_file()


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_zip_that_cannot_be_put_in_place_leaves_the_older_one_and_its_record(
    here: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, original = tree(here), getattr(os, call)

    def broken(*words: object) -> None:
        place = str(words[-1])
        if call == "fsync" or place.endswith("valid.zip"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        original(*words)

    monkeypatch.setattr(os, call, broken)
    ended = magic(here, *LINES["valid.zip.run.json"], "--overwrite")
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert "valid.zip: cannot be written (Device or resource busy)" in ended.err
    assert tree(here) == before


def test_records_are_in_nobody_s_way(here: Path) -> None:
    """Folders with a run.json are folders of masks, answers and runs as before; it is in no zip and in no digest."""
    with zipfile.ZipFile(here / "valid.zip") as file:
        assert [name for name in file.namelist() if "run" in name] == []
    assert magic(here, "package", "--check-only", "valid/cvqa", "--split", "valid").code == 0
    both = here / "both"
    shutil.copytree(here / "valid" / "seg", both)
    shutil.copy(here / "valid" / "cvqa" / "data_cvqa_sys.json", both)
    assert magic(here, "package", "--check-only", "both", "--split", "valid").code == 0
    assert magic(here, "score", "both", "prepared", "--resamples", "100", "--strict").code == 0
    seeds = here / "seeds"
    for name in ("a", "b"):
        shutil.copytree(here / "runs" / "cvqa", seeds / name)
    (seeds / "run.json").write_text("{}")
    assert magic(here, "predict", "cvqa", "--ckpt", "seeds", "--split", "valid", "--out", "mean").code == 0
    before = digest(here / "valid" / "seg", submitted_files(here / "valid" / "seg"))
    (here / "valid" / "seg" / "run.json").write_text("other")
    assert digest(here / "valid" / "seg", submitted_files(here / "valid" / "seg")) == before


def test_the_same_command_gives_the_same_but_for_its_record(here: Path) -> None:
    first = tree(here / "prepared")
    assert magic(here, "prepare", "--data", "DermaVQA", "--out", "second").code == 0
    second = tree(here / "second")
    assert [name for name in first if first[name] != second[name]] == ["run.json"]
    a, b = (json.loads(files["run.json"]) for files in (first, second))
    may_differ = {"argv", "arguments", "folder", "record", "versions", "git", "times"}
    assert {key for key in a if a[key] != b[key]} <= may_differ


def test_one_process_of_several_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_prepared(tmp_path / "prepared")
    for name in ("a", "b"):
        write_folder(tmp_path / name, files_of("valid"))
    for rank, name in ((1, "one"), (0, "two")):
        launch(monkeypatch, rank)
        vote([tmp_path / "a", tmp_path / "b"], tmp_path / "prepared", "valid", tmp_path / name)
    assert [path.parent.name for path in tmp_path.rglob("run.json")] == ["two"]
    assert record(tmp_path, "two/run.json")["machine"]["processes"] == 2


def test_a_record_in_the_place_of_somebody_s_file_is_an_error(here: Path) -> None:
    (here / "valid2.zip.run.json").write_text("mine")
    line = [word.replace("valid.zip", "valid2.zip") for word in LINES["valid.zip.run.json"]]
    for again in ((), ("--overwrite",)):
        ended = magic(here, *line, *again, "--json")
        assert ended.code == 3
        assert "valid2.zip.run.json: got no record of this program" in ended.err
        assert ended.json["exit_code"] == 3
    assert not (here / "valid2.zip").exists()
    assert (here / "valid2.zip.run.json").read_text() == "mine"


def test_a_call_from_python_is_recorded_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    options = ScoreOptions(resamples=100, out="report", overwrite=True)
    report = score(Path("valid.zip"), "prepared", options)
    again = record(here, "report/run.json")
    assert schema.problems("run", again, "run.json") == []
    assert (again["argv"], again["verb"], again["exit"]) == (None, "score", 0)
    assert again["arguments"]["preds"] == "valid.zip"
    assert again["arguments"]["options"] | {"out": "report", "overwrite": True} == again["arguments"]["options"]
    assert again["outputs"] == {p.name: sha256(p) for p in sorted((here / "report").iterdir()) if p.name != "run.json"}
    score("valid.zip", "prepared", ScoreOptions(resamples=100))  # writes nothing, and deletes nothing
    assert record(here, "report/run.json") == again
    assert report.run_files() is not None


def test_what_a_verb_starts_is_recorded_within_its_call_only(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run.json", tmp_path, lambda: iter(()), outputs=("a.txt",))
    run_record.start(files)
    run_record.write(files, 0)
    assert list(tmp_path.iterdir()) == []
    with run_record.running(Call("train", {"task": "seg"})):
        run_record.start(files)
        assert record(tmp_path, "run.json")["exit"] is None
        (tmp_path / "a.txt").write_text("a")
        run_record.write(files, 4)
    assert (record(tmp_path, "run.json")["exit"], list(record(tmp_path, "run.json")["outputs"])) == (4, ["a.txt"])
