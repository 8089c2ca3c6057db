"""best.pt: what it holds, what it refuses, and that nothing in it is ever run."""

import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from magic_cli.errors import CheckpointError
from magic_cli.models.encoders import TinyText
from magic_cli.records import CheckpointMeta
from magic_cli.training import checkpoint


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.texts = TinyText(8)
        self.texts.freeze()
        self.head = nn.Linear(3, 2)


@pytest.fixture
def meta() -> CheckpointMeta:
    config = {"preset": "tiny", "lr": 0.1}
    return CheckpointMeta(
        checkpoint.FORMAT, "seg", config, ({"qid": "Q"},), {"t": "0"}, ({"epoch": 1},), 0.5, 0, "0", {}
    )


def test_round_trip_holds_only_what_learned(tmp_path: Path, meta: CheckpointMeta) -> None:
    model = Model()
    checkpoint.save_best(tmp_path / "best.pt", model, meta)
    found, weights = checkpoint.load_best(tmp_path / "best.pt", "seg")
    assert found == meta
    assert weights.keys() == {"head.weight", "head.bias"}
    other = Model()
    checkpoint.load_learned(other, weights, tmp_path)
    assert torch.equal(other.head.weight, model.head.weight)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, meta: CheckpointMeta) -> None:
    model = Model()
    for name in ("one.pt", "other.pt"):
        checkpoint.save_best(tmp_path / name, model, meta)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_with_code_is_refused_and_never_run(tmp_path: Path, legacy: bool) -> None:
    path, canary = tmp_path / "best.pt", tmp_path / "executed"
    if legacy:
        path.write_bytes(pickle.dumps(Canary(canary)))
    else:
        torch.save({"meta": "{}", "weights": Canary(canary)}, path)
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        checkpoint.load_best(path)
    assert not canary.exists()


def test_damage_is_one_line(tmp_path: Path, meta: CheckpointMeta) -> None:
    path = tmp_path / "best.pt"
    checkpoint.save_best(path, Model(), meta)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[:100], whole[: len(whole) // 2], whole[:-40]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load_best(path)
        assert len(caught.value.problems) == 1
        assert str(path) in caught.value.problems[0]


def test_other_formats_and_tasks_are_refused_with_a_remedy(tmp_path: Path, meta: CheckpointMeta) -> None:
    path = tmp_path / "best.pt"
    checkpoint.save_best(path, Model(), dataclasses.replace(meta, format=99))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load_best(path)
    checkpoint.save_best(path, Model(), dataclasses.replace(meta, format=1))  # its settings had other names
    with pytest.raises(CheckpointError, match=r"best\.pt: got format 1, expected 2; train again with this version"):
        checkpoint.load_best(path)
    checkpoint.save_best(path, Model(), meta)
    with pytest.raises(CheckpointError, match="made for task 'seg', not 'cvqa'"):
        checkpoint.load_best(path, "cvqa")
    torch.save({"model_state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="without meta data"):
        checkpoint.load_best(path)
    torch.save({"meta": json.dumps({"format": checkpoint.FORMAT}), "weights": {}}, path)
    with pytest.raises(CheckpointError, match="required"):
        checkpoint.load_best(path)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no head\.bias.*unknown tail"):
        checkpoint.load_learned(Model(), {"head.weight": torch.zeros(2, 3), "tail": torch.zeros(1)}, tmp_path)
    with pytest.raises(CheckpointError, match=r"head\.weight is \(5, 5\)"):
        checkpoint.load_learned(Model(), {"head.weight": torch.zeros(5, 5), "head.bias": torch.zeros(2)}, tmp_path)


def test_find_looks_here_then_in_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="magic train seg"):
        checkpoint.find(Path("best.pt"), "seg")
    there = Path("runs/seg/best.pt")
    there.parent.mkdir(parents=True)
    there.touch()
    paths, note = checkpoint.find(Path("best.pt"), "seg")
    assert paths == [there]
    assert "using runs/seg/best.pt" in note
    Path("best.pt").touch()
    assert checkpoint.find(Path("best.pt"), "seg") == ([Path("best.pt")], "")


def test_a_folder_stands_for_the_runs_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("fold-1", "fold-2"):
        (tmp_path / "runs" / "seg" / name).mkdir(parents=True)
        (tmp_path / "runs" / "seg" / name / "best.pt").touch()
    members = [Path("runs/seg/fold-1/best.pt"), Path("runs/seg/fold-2/best.pt")]
    assert checkpoint.find(Path("runs/seg"), "seg") == (members, "")
    assert checkpoint.find(Path("fold-2"), "seg")[0] == members[1:]
    Path("runs/seg/best.pt").touch()
    assert checkpoint.find(Path("runs/seg"), "seg")[0] == [Path("runs/seg/best.pt")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: got no best\.pt in it"):
        checkpoint.find(Path("empty"), "seg")
