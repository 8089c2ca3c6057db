"""`magic export`: ONNX files that answer as torch does, folders for a model hub that predict as best.pt does."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_folder import make_folder
from recorded_run import magic, tree
from run_options import predict_options, train_options
from safetensors.numpy import load_file

import magic_cli
from magic_cli.commands.export import hub_folder, onnx_file
from magic_cli.commands.export.onnx_file import OnnxFile
from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import CheckpointError, ConfigError, DataError
from magic_cli.io import schema
from magic_cli.io.files import sha256
from magic_cli.models.export import hub_format, onnx_model
from magic_cli.training import checkpoint

PAGE = Path(__file__).resolve().parents[2] / "examples" / "export.md"
PHOTOS, MASKS = ([f"{folder}/photo{number}.png" for number in range(8)] for folder in ("images", "masks"))


@pytest.fixture(scope="module")
def work(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every task, and prepared/ with photos and masks, without anybody's words."""
    root = tmp_path_factory.mktemp("work")
    magic_cli.prepare(make_folder(root / "raw", {}, PHOTOS, MASKS), root / "prepared")
    for task in ("seg", "cvqa", "pretrain", "retrieve"):
        settings = ("epochs=1", *(("tta=flips",) if task == "seg" else ()))
        magic_cli.train(task, drawn_prepared, root / "runs" / task, train_options(root / "cache", *settings))
    return root


@pytest.fixture(scope="module")
def files(work: Path, drawn_prepared: Path) -> Mapping[str, OnnxFile]:
    """Each run as an ONNX file: that of masks checked on drawn photos, the others on those of a dataset."""
    made = {}
    for task, data in (("seg", None), *((task, drawn_prepared) for task in ("cvqa", "pretrain", "retrieve"))):
        run, out = work / "runs" / task / "best.pt", work / f"{task}.onnx"
        made[task] = magic_cli.export(run, out, None, data, magic_cli.ExportOptions(photos=3)).onnx
    return {task: file for task, file in made.items() if file is not None}


@pytest.mark.parametrize("task", ["seg", "cvqa", "pretrain", "retrieve"])
def test_a_file_answers_as_torch_does_and_says_how_to_use_it(
    task: str, files: Mapping[str, OnnxFile], work: Path
) -> None:
    file = files[task]
    assert 0 <= file.difference <= onnx_file.TOLERANCE == 1e-4
    assert (file.samples, file.checked_on == "drawn photos") == (3, task == "seg")
    content = file.path.read_bytes()
    assert (len(content), sha256(file.path)) == (file.size, file.sha256)
    facts = onnx_model.Session(content).properties
    assert (facts["format"], facts["task"], facts["magic_version"]) == ("magic-onnx", task, magic_cli.__version__)
    assert facts["checkpoint_sha256"] == sha256(work / "runs" / task / "best.pt")
    assert json.loads(facts["inputs"]) == list(file.inputs)
    assert facts["output"] == file.output
    assert (json.loads(facts["input_size"]), facts["resample"]) == (64, "BILINEAR")
    assert json.loads(facts["normalisation"]) == [{"mean": [0.5] * 3, "std": [0.25] * 3}]
    assert str(work).encode() not in content  # no path of this machine
    assert b"magic_cli" not in content


def test_the_lines_of_the_page_give_the_mask_of_predict(
    files: Mapping[str, OnnxFile], work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"os", "numpy", "onnxruntime", "PIL"}
    run, prepared = work / "runs" / "seg" / "best.pt", open_prepared(work / "prepared")
    magic_cli.predict("seg", run, work / "prepared", "valid", tmp_path / "valid", predict_options(None))
    magic_cli.predict("seg", run, work / "prepared", "train", tmp_path / "train", predict_options(None))
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(files["seg"].path.read_bytes())
    shares = []
    for split in ("train", "valid"):
        for image in prepared.images_of(split):
            Image.open(image.path or "").save("lesion.jpg", "PNG")
            names: dict[str, np.ndarray] = {}
            exec(compile(code, "export.md", "exec"), names)  # noqa: S102
            expected = read_mask(tmp_path / split / "masks_preds" / f"{image.image_id}_mask_sys.tiff")
            doubtful = np.abs(names["enlarged"] - 0.5) <= onnx_file.TOLERANCE
            found = np.asarray(Image.open("mask.png")) == 255
            assert found.shape == (image.height, image.width)
            assert np.array_equal(found[~doubtful], expected[~doubtful] == 1)
            shares.append(doubtful.mean())
    assert len(shares) >= 6
    assert np.mean(shares) < 0.01  # else nothing was compared


def test_onnxruntime_reports_nothing_and_keeps_no_id_of_the_machine(
    files: Mapping[str, OnnxFile], tmp_path: Path
) -> None:
    code = f"""
import os
from pathlib import Path
from magic_cli.models.export.onnx_model import Session
Session(Path({str(files["seg"].path)!r}).read_bytes())
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    known = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    ended = subprocess.run([sys.executable, "-c", code], env=known | places, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1"]
    assert "telemetry" not in ended.stderr
    assert [path for path in tmp_path.rglob("*") if "icrosoft" in str(path)] == []


def test_text_and_views_as_chosen(work: Path, drawn_prepared: Path) -> None:
    run, out = work / "runs" / "seg" / "best.pt", work / "text.onnx"
    options = magic_cli.ExportOptions(text="input", tta=False, photos=2)
    made = magic_cli.export(run, out, None, drawn_prepared, options).onnx
    assert made is not None
    assert [line.partition(":")[0] for line in made.inputs] == ["photo", "text"]
    assert (made.facts["text"], made.facts["tta"]) == ("an input", [])
    given = magic_cli.graph_inputs(run, drawn_prepared, "valid", 2, options)
    session = onnx_model.Session(out.read_bytes())
    assert session.names == list(given.feeds) == ["photo", "text"]
    texts = given.feeds["text"]
    assert len(given.ids) == len(texts) == 2
    assert np.abs(texts).max() > 0


def test_a_file_that_answers_otherwise_is_refused(
    files: Mapping[str, OnnxFile], work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, answer = files["seg"].path.read_bytes(), onnx_model.Session.__call__
    monkeypatch.setattr(onnx_model, "onnx_bytes", lambda *_: content)
    run, out = work / "runs" / "seg" / "best.pt", tmp_path / "new" / "model.onnx"
    monkeypatch.setattr(onnx_model.Session, "__call__", lambda self, given: answer(self, given) + np.float32(2e-4))
    with pytest.raises(CheckpointError, match=r"^--onnx: got outputs that differ from torch by up to 2\.0e-04"):
        magic_cli.export(run, out, data=None)
    assert not out.parent.exists()
    monkeypatch.setattr(onnx_model.Session, "__call__", answer)
    assert magic_cli.export(run, out, data=None).onnx is not None


def test_what_cannot_be_exported(work: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    train = train_options(None, "epochs=1", "head=options", modality="text")
    magic_cli.train("cvqa", drawn_prepared, tmp_path / "options", train)
    with pytest.raises(ConfigError, match=r"^--onnx: got a model that reads a text per option, expected head=slots"):
        magic_cli.export(tmp_path / "options", tmp_path / "x.onnx", data=drawn_prepared)
    with pytest.raises(DataError, match="no prepared dataset, expected one with the questions"):
        magic_cli.export(work / "runs" / "cvqa", tmp_path / "x.onnx", data=tmp_path)
    with pytest.raises(ConfigError, match="--text: got both, expected none or input"):
        magic_cli.ExportOptions(text="both")
    assert [path.name for path in tmp_path.iterdir()] == ["options"]


def test_places_that_are_taken(files: Mapping[str, OnnxFile], work: Path, tmp_path: Path) -> None:
    run, theirs = work / "runs" / "seg" / "best.pt", tmp_path / "theirs.onnx"
    theirs.write_bytes(b"not made here")
    over = magic_cli.ExportOptions(overwrite=True)
    with pytest.raises(DataError, match=r"seg\.onnx: already there; use --overwrite, or another --onnx"):
        magic_cli.export(run, files["seg"].path)
    for options in (magic_cli.ExportOptions(), over):  # the first line is the true one already
        with pytest.raises(DataError, match=r"theirs\.onnx: not made by `magic export`, so it is not replaced"):
            magic_cli.export(run, theirs, options=options)
    with pytest.raises(DataError, match="got a folder, expected the name of a file"):
        magic_cli.export(run, tmp_path)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "README.md").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "patient.png").write_bytes(b"a photo")
    for name in ("hub", "photos"):  # all that lies in the folder would be shared with the model
        for options in (magic_cli.ExportOptions(), over):
            with pytest.raises(DataError, match=rf"{name}: got files, and no older export.*another --hub-folder"):
                magic_cli.export(run, hub=tmp_path / name, options=options)
    assert (tmp_path / "hub" / "README.md").read_text() == "mine"
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["patient.png"]
    for name in ("new", "new/model.onnx"):
        with pytest.raises(DataError, match=r"^--onnx .*got a file in --hub-folder .*two calls"):
            magic_cli.export(run, tmp_path / name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_read_is_checked_before_what_is_written(work: Path, tmp_path: Path) -> None:
    run, taken = work / "runs" / "seg" / "best.pt", tmp_path / "taken.onnx"
    taken.write_bytes(b"not made here")
    with pytest.raises(CheckpointError, match=r"no_such\.pt: got no such file"):
        magic_cli.export(tmp_path / "no_such.pt", taken)
    with pytest.raises(DataError, match=r"nowhere: got no prepared dataset, expected one; give its --data, or none"):
        magic_cli.export(run, taken, data=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nowhere"):
        magic_cli.predict("seg", run, tmp_path / "nowhere", out=tmp_path)
    with pytest.raises(DataError, match=r"nowhere"):
        magic_cli.train("seg", tmp_path / "nowhere", run.parent, train_options(None))


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_a_hub_folder_predicts_as_the_checkpoint(task: str, work: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    run, hub = work / "runs" / task / "best.pt", tmp_path / "hub"
    made = magic_cli.export(run, hub=hub)
    assert made.hub is not None
    assert sorted(path.name for path in hub.iterdir()) == sorted([*made.hub.files, hub_folder.SUMS])
    with pytest.raises(DataError, match="hub: already there; use --overwrite, or another --hub-folder"):
        magic_cli.export(run, hub=hub)
    for name, ckpt in (("a", run), ("b", hub), ("c", hub / hub_format.WEIGHTS)):
        magic_cli.predict(task, ckpt, drawn_prepared, "valid", tmp_path / name, predict_options(None))
        (tmp_path / name / "run.json").unlink()
    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(tmp_path / "c") != {}
    _, weights = checkpoint.load_best(run)
    assert {name: array.tobytes() for name, array in load_file(hub / hub_format.WEIGHTS).items()} == {
        name: tensor.numpy().tobytes() for name, tensor in weights.items()
    }


def test_a_hub_folder_tells_nothing_of_this_machine(work: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    settings = (f"image_encoder={work / 'runs' / 'pretrain' / 'best.pt'}", "epochs=1")
    magic_cli.train("seg", drawn_prepared, tmp_path / "seg", train_options(None, *settings))
    hub = tmp_path / "hub"
    assert str(work) in (tmp_path / "seg" / "run.json").read_text()
    magic_cli.export(tmp_path / "seg", hub=hub)
    assert "| prepared | train |" in (hub / hub_folder.CARD).read_text()  # the card knows what show --card knows
    for name, content in tree(hub).items():
        assert str(work.parent).encode() not in content, name
    for name, ckpt in (("a", tmp_path / "seg"), ("b", hub)):
        magic_cli.predict("seg", ckpt, drawn_prepared, "valid", tmp_path / name, predict_options(None))
        (tmp_path / name / "run.json").unlink()
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    again = magic_cli.export(hub, hub=tmp_path / "again").hub  # it is a checkpoint like any other
    assert again is not None
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (hub / "model.safetensors").read_bytes()


def test_damaged_hub_folders_are_refused(work: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    magic_cli.export(work / "runs" / "seg", hub=hub)
    weights, config = hub / hub_format.WEIGHTS, hub / hub_format.CONFIG
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged or not a checkpoint"):
        checkpoint.load_best(weights)
    weights.write_bytes(whole)
    text = config.read_text()
    config.write_text(text.replace("magic-model", "bert"))
    with pytest.raises(CheckpointError, match="got a file of another kind, expected magic-model"):
        checkpoint.load_best(weights)
    config.write_text("{")
    with pytest.raises(CheckpointError, match="config"):
        checkpoint.load_best(weights)
    config.write_text(text)
    checkpoint.load_best(weights, "seg")


def test_the_command(work: Path, files: Mapping[str, OnnxFile], monkeypatch: pytest.MonkeyPatch) -> None:
    content = files["seg"].path.read_bytes()
    monkeypatch.setattr(onnx_model, "onnx_bytes", lambda *_: content)
    ended = magic(
        work, "export", "runs/seg", "--onnx", "o/seg.onnx", "--hub-folder", "o/hub", "--photos", "2", "--json"
    )
    assert schema.problems("exported", ended.json, "--json") == []
    assert ended.json["onnx"]["max_difference"] <= ended.json["onnx"]["tolerance"]
    ended = magic(work, "export", "runs/seg/best.pt", "--hub-folder", "o/hub", "--overwrite")
    assert (ended.code, "model.safetensors" in ended.out) == (0, True)
    assert magic(work, "export", "runs/seg/best.pt").errors == [
        "magic export: nothing to write, expected --onnx FILE or --hub-folder DIR; give one or both"
    ]
    ended = magic(work, "export", "best.pt", "--hub-folder", "o/other")
    assert (ended.code, ended.errors[0].partition(":")[0]) == (2, "magic export best.pt")
    monkeypatch.setattr(onnx_model, "LIBRARIES", ("onnx", "no_such_library"))
    ended = magic(work, "export", "runs/seg/best.pt", "--onnx", "o/new.onnx")
    line = (
        "magic export --onnx needs onnx, no_such_library; not installed: no_such_library; pip install no_such_library"
    )
    assert (ended.code, ended.errors) == (6, [line])
