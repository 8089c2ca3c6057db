"""`magic runs` and `magic show`: what a folder of trainings says, whole, interrupted, damaged or old; no torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

import magic_cli
from magic_cli.cli.app import app
from magic_cli.commands.run_setup import TrainOptions
from magic_cli.errors import CheckpointError, ConfigError, DataError
from magic_cli.io import schema
from magic_cli.models.saved_meta import SavedTensor, read_model
from magic_cli.training import checkpoint


@pytest.fixture(scope="module")
def trained(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/seg, of two epochs and a setting that differs from the preset."""
    place = tmp_path_factory.mktemp("trained")
    options = TrainOptions(preset="tiny", settings=("lr=0.01", "epochs=2"))
    magic_cli.train("seg", drawn_prepared, place / "runs" / "seg", options)
    return place


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edited(path: Path, drop: tuple[str, ...], **changes: object) -> None:
    """Write a best.pt anew, with other meta data."""
    content = torch.load(path, weights_only=True)
    meta = {name: value for name, value in json.loads(content["meta"]).items() if name not in drop} | changes
    torch.save({**content, "meta": json.dumps(meta)}, path)


def test_a_run_is_told_in_full(work: Path) -> None:
    [run] = magic_cli.runs().runs
    meta, _ = checkpoint.load_best(work / "runs" / "seg" / "best.pt")
    assert (run.folder, run.task, run.preset, run.state) == ("runs/seg", "seg", "tiny", "finished")
    assert run.changed == {"lr": 0.01}
    assert (run.monitor, run.score, run.interval) == ("dice_meanofmax", meta.score, meta.interval)
    assert run.interval is None or run.interval[0] <= run.score <= run.interval[1]
    assert (run.epochs, run.planned) == (2, 2)
    best = max(run.history, key=lambda row: row["dice_meanofmax"])
    assert run.best_epoch == best["epoch"]
    assert run.seconds is not None
    assert run.seconds > 0


def test_the_header_of_a_checkpoint_is_what_torch_reads(work: Path) -> None:
    model = read_model(Path("runs/seg/best.pt"))
    meta, weights = checkpoint.load_best(Path("runs/seg/best.pt"))
    assert model.meta == meta
    shapes = {name: SavedTensor(str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in weights.items()}
    assert model.tensors == shapes
    assert model.numbers == sum(tensor.numel() for tensor in weights.values())


def test_runs_of_every_state_are_listed_and_nothing_stops_the_list(work: Path) -> None:
    runs, whole = work / "runs", work / "runs" / "seg"
    for name in ("cut", "old", "stopped", "foreign", "empty"):
        (runs / name).mkdir()
    (runs / "cut" / "best.pt").write_bytes((whole / "best.pt").read_bytes()[:9000])
    shutil.copy(whole / "best.pt", runs / "old")
    edited(runs / "old" / "best.pt", ("interval", "chosen", "origins"))
    record = json.loads((whole / "run.json").read_text())
    (runs / "stopped" / "run.json").write_text(json.dumps(record | {"exit": None}))
    (runs / "stopped" / "metrics.jsonl").write_text((whole / "metrics.jsonl").read_text().splitlines()[0] + "\n")
    (runs / "foreign" / "run.json").write_text(json.dumps(record | {"verb": "score"}))
    (runs / "gone").mkdir()
    shutil.copy(whole / "best.pt", runs / "gone")
    edited(runs / "gone" / "best.pt", ("encoders",))
    found = {run.folder: run for run in magic_cli.runs(sort="name").runs}
    assert list(found) == ["runs/cut", "runs/gone", "runs/old", "runs/seg", "runs/stopped"]
    assert {name: run.state for name, run in found.items()} == {
        "runs/cut": "damaged",
        "runs/gone": "damaged",
        "runs/old": "finished",
        "runs/seg": "finished",
        "runs/stopped": "unfinished",
    }
    assert "damaged checkpoint" in found["runs/cut"].notes[0]
    assert "encoders" in found["runs/gone"].notes[0]
    assert (found["runs/old"].score, found["runs/old"].interval) == (found["runs/seg"].score, None)
    assert (found["runs/stopped"].epochs, found["runs/stopped"].best_epoch) == (1, 1)
    result = CliRunner().invoke(app, ["runs", "--json"])
    assert schema.problems("runs", json.loads(result.stdout), "--json") == []
    text = CliRunner().invoke(app, ["runs"]).stdout
    assert "runs/seg: lr=0.01" in text
    assert max(map(len, text.split("note:")[0].splitlines())) <= 80


def test_folds_are_one_run(work: Path) -> None:
    folds = {"task": "seg", "config": json.loads((work / "runs/seg/run.json").read_text())["settings"]}
    scores = {"dice_meanofmax": {"value": 0.5, "low": 0.4, "high": 0.6, "mean": 0.5, "sd": 0.1}}
    parts = [{"fold": n, "epochs": 2} for n in (1, 2, 3)]
    row = folds | {"finished": True, "monitor": "dice_meanofmax", "figures": scores, "parts": parts}
    for n in (1, 2, 3):
        shutil.copytree(work / "runs/seg", work / f"runs/cv/fold-{n}")
    (work / "runs/cv/folds.json").write_text(json.dumps(row))
    first, second = magic_cli.runs(sort="score").runs
    assert (first.folder, first.folds, first.score, first.interval) == ("runs/cv", 3, 0.5, (0.4, 0.6))
    assert (first.epochs, first.changed, second.folder) == (2, {"lr": 0.01}, "runs/seg")
    with pytest.raises(CheckpointError, match=r"3 folds, expected one checkpoint.*runs/cv/fold-1/best\.pt"):
        magic_cli.show("runs/cv")


def test_runs_on_one_page(work: Path) -> None:
    shutil.copytree(work / "runs/seg", work / "runs/<b>other")
    edited(
        work / "runs/<b>other/best.pt",
        (),
        config=read_model(Path("runs/seg/best.pt")).meta.config | {"lr": 0.5, "weights_dir": "/home/ann/w"},
    )
    assert magic_cli.runs(compare="c.html").page == "c.html"
    text = Path("c.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert "runs/&lt;b&gt;other" in text
    assert "<b>other" not in text
    assert "<script" not in text
    assert "/home/ann" not in text
    differing = text.split("Settings that differ")[2]
    assert "<td>w</td>" in differing
    assert "<td>0.5</td><td>0.01</td>" in differing or "<td>0.01</td><td>0.5</td>" in differing
    with pytest.raises(DataError, match="already there"):
        magic_cli.runs(compare="c.html")
    Path("mine.html").write_text("a page of somebody")
    Path("report.html").write_text('<meta name="generator" content="magic 0.1.0">\n<title>Report</title>')
    Path("README.md").write_text("How we use magic")
    for name in ("mine.html", "report.html", "README.md", "runs/seg/best.pt"):
        before = Path(name).read_bytes()
        for overwrite in (False, True):  # the first line is the true one already
            with pytest.raises(DataError, match="a file of another kind"):
                magic_cli.runs(compare=name, overwrite=overwrite)
        assert Path(name).read_bytes() == before
    assert magic_cli.runs([work / "runs"], compare="c.html", overwrite=True).page == "c.html"
    assert str(work) not in Path("c.html").read_text(encoding="utf-8")


def test_what_cannot_be_listed(work: Path) -> None:
    with pytest.raises(DataError, match="nowhere: got no such folder"):
        magic_cli.runs(["nowhere"])
    with pytest.raises(ConfigError, match=r"--sort.*did you mean score\?"):
        magic_cli.runs(sort="scores")
    Path("empty").mkdir()
    assert magic_cli.runs(["empty"]).lines() == ["empty: no training in it; next: magic train seg"]
    with pytest.raises(DataError, match="no training in it"):
        magic_cli.runs(["empty"], compare="c.html")
    assert magic_cli.runs(task="cvqa").runs == ()


def test_a_checkpoint_is_shown_with_its_data_and_its_changes(work: Path, drawn_prepared: Path) -> None:
    result = CliRunner().invoke(app, ["show", "seg", "--json"])  # runs/ is looked in
    found = json.loads(result.stdout)
    assert schema.problems("shown", found, "--json") == []
    assert (found["checkpoint"], found["changed"]) == ("runs/seg/best.pt", {"lr": 0.01})
    manifest = json.loads((drawn_prepared / "prepare.json").read_text())
    [data] = found["data"]
    assert data["counts"]["train"]["images"] == manifest["counts"]["train"]["images"]
    assert (data["name"], data["adapter"]) == (drawn_prepared.name, "dermavqa")
    assert found["encoders"] == [{"source": "random:tiny", "licence": "random numbers, no licence"}]
    lines = magic_cli.show("runs/seg").lines()
    assert "* lr = 0.01" in lines
    assert "  width = 16" in lines


@pytest.mark.parametrize(
    ("name", "content", "got"),
    [
        (
            "lesion.jpg",
            b"\xff\xd8\xff\xe0",
            "a file of another kind, expected a best.pt of `magic train`; give a best.pt",
        ),
        ("metrics.jsonl", b'{"epoch": 1}\n', "a file of another kind, "),
        ("cut.pt", b"PK\x03\x04", "a damaged checkpoint (BadZipFile), "),
        ("zeros.pt", bytes(9), "a damaged checkpoint (BadZipFile), "),
        ("masks.zip", b"PK\x05\x06" + bytes(18), "a zip of another kind, "),
    ],
)
def test_what_is_no_checkpoint_is_told_from_a_damaged_one(tmp_path: Path, name: str, content: bytes, got: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        magic_cli.show(path)
    assert str(error.value).startswith(f"{path}: got {got}")


def test_a_model_card_is_markdown_with_a_header_that_hubs_read(work: Path) -> None:
    assert magic_cli.show("runs/seg/best.pt", "CARD.md").written == "CARD.md"
    text = Path("CARD.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    meta = yaml.safe_load(header)
    assert (meta["library_name"], meta["license"], meta["pipeline_tag"]) == (
        "mediqa-magic",
        "other",
        "image-segmentation",
    )
    assert (meta["datasets"], meta["metrics"]) == (["dermavqa"], ["dice_meanofmax"])
    for words in ("not a medical device", "## Intended use", "## Training data", "## How to use", "lr=0.01"):
        assert words in body
    assert str(work) not in text
    assert CliRunner().invoke(app, ["show", "runs/seg", "--card", "-"]).stdout == text
    with pytest.raises(DataError, match="already there"):
        magic_cli.show("runs/seg", "CARD.md")
    assert magic_cli.show("runs/seg", "CARD.md", overwrite=True).written == "CARD.md"
    Path("mine.md").write_text("---\nlicense: mit\n---\n")
    Path("lesion.jpg").write_bytes(b"a photo")
    for name in ("mine.md", "lesion.jpg", "runs/seg/best.pt"):  # no card, so never replaced
        before = Path(name).read_bytes()
        for overwrite in (False, True):
            with pytest.raises(DataError, match=r"^--card .*: got a file of another kind, expected an older card"):
                magic_cli.show("runs/seg", name, overwrite=overwrite)
        assert Path(name).read_bytes() == before
    for name in ("runs", "no/such/CARD.md"):
        with pytest.raises(DataError, match=r"^--card .*expected a new file"):
            magic_cli.show("runs/seg", name, overwrite=True)


def test_a_strange_checkpoint_runs_nothing(work: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("open('run', 'w')",))

    torch.save({"meta": "{}", "weights": Evil()}, "evil.pt")
    for path, word in (
        ("evil.pt", "UnpicklingError"),
        ("runs/seg/state.pt", "state of a training"),
        ("x", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=word):
            magic_cli.show(path)
    assert not Path("run").exists()


def test_neither_verb_loads_torch(work: Path) -> None:
    code = "import sys, magic_cli; magic_cli.runs(); magic_cli.show('runs/seg'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
