"""best.pt: trained weights and their CheckpointMeta, written atomically; also the file format shared with state.pt."""

import dataclasses
import json
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from magic_cli.errors import CheckpointError, problem
from magic_cli.io.files import write_atomic
from magic_cli.io.regular_file import open_regular
from magic_cli.models.encoders import Encoder
from magic_cli.models.export import hub_format
from magic_cli.models.saved_meta import FORMAT as FORMAT
from magic_cli.models.saved_meta import checked_meta, may_be_cut
from magic_cli.records import CheckpointMeta
from magic_cli.training.seen import NOTHING, Seen

_SEEN = {"learned_from": "learned", "chosen_on": "chosen"}  # entries of the file, and fields of `Seen`

Loaded = dict[str, Any]
"""Contents of a file by name: meta data as JSON text or values, tensors, state dicts."""


def encoders(model: nn.Module) -> dict[str, Encoder]:
    """Return the encoders of a model by attribute path."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Encoder)}


def live(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model's state that training may change (not copies): all but frozen encoder parts."""
    frozen = {
        f"{path}.{name}"
        for path, encoder in encoders(model).items()
        for name in encoder.state_dict()
        if not encoder.is_trainable(name)
    }
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def learned(model: nn.Module) -> dict[str, Tensor]:
    """Return copies, on the CPU, of the weights in best.pt: what training may have changed, or an earlier run has."""
    handed_on = {f"{p}.{n}" for p, encoder in encoders(model).items() if encoder.origin for n in encoder.state_dict()}
    names = live(model).keys() | handed_on
    return {name: tensor.cpu().clone() for name, tensor in model.state_dict().items() if name in names}


def load_learned(model: nn.Module, weights: dict[str, Tensor], where: Path) -> None:
    """Load saved tensors into a model.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or of another kind of number; the first few are
            named.
    """
    own = learned(model)
    faults = [f"no {name}" for name in own if name not in weights]
    faults += [f"unknown {name}" for name in weights if name not in own]
    faults += [f"{n} is {tuple(weights[n].shape)}" for n in own if n in weights and own[n].shape != weights[n].shape]
    faults += [f"{n} is {weights[n].dtype}" for n in own if n in weights and not _fits(weights[n], own[n])]
    if faults:
        got = f"{len(faults)} tensors that do not fit ({', '.join(faults[:3])})"
        raise CheckpointError(problem(where, got, "the tensors of its own settings", "train again with this version"))
    model.load_state_dict(weights, strict=False)


def check_encoders(model: nn.Module, meta: CheckpointMeta, path: Path) -> None:
    """Check that the encoders of a model, as it was built, have the weights that the training began with.

    Those that come from an earlier run and were trained on need no check: the checkpoint holds all of them.

    Raises:
        CheckpointError: they differ.
    """
    for where, encoder in encoders(model).items():
        is_whole = encoder.origin is not None and not encoder.is_frozen
        if not is_whole and meta.encoders.get(f"{where}={encoder.source}") != encoder.weights_sha256:
            got = f"weights of {encoder.source} that differ from those in training"
            raise CheckpointError(f"{path}: {got}; provide the same ones (--weights DIR) or train again")


def check_handed_on(model: nn.Module, path: Path) -> None:
    """Check that the frozen encoders in a state are those of the runs that they were loaded from, when it is resumed.

    Raises:
        CheckpointError: a run's best.pt is another one by now.
    """
    for encoder in encoders(model).values():
        before = encoder.weights_sha256
        if encoder.origin and encoder.is_frozen:
            encoder.record_weights()
        if encoder.origin and encoder.weights_sha256 != before:
            got, remedy = f"weights of another {encoder.origin.run}", "restore that file, or train again"
            raise CheckpointError(problem(path, got, "those that it has now", remedy))


def _fits(saved: Tensor, own: Tensor) -> bool:
    """Return whether a saved tensor holds the numbers of a model's: floats of any precision, else the same type."""
    return saved.is_floating_point() if own.is_floating_point() else saved.dtype == own.dtype


def _odd_tensor(value: object, name: str = "") -> str | None:
    """Return the name and the kind of the first tensor that is not an array of real numbers in memory; None if none is.

    Meta tensors have no numbers, and operations on sparse, quantized and nested ones fail one by one.
    """
    if isinstance(value, Tensor):
        plain = type(value) in (Tensor, nn.Parameter) and not value.is_nested and value.layout == torch.strided
        if plain and value.device.type == "cpu" and not value.is_quantized and not value.is_complex():
            return None
        kind = "nested" if value.is_nested else "quantized" if value.is_quantized else str(value.layout)
        return f"{name} ({kind}, {value.dtype}, on {value.device.type})".replace("torch.", "")
    if isinstance(value, dict):
        pairs: Iterable[tuple[object, object]] = value.items()
    else:
        pairs = enumerate(value) if isinstance(value, list | tuple) else ()
    odd = (_odd_tensor(item, f"{name}.{key}" if name else str(key)) for key, item in pairs)
    return next((found for found in odd if found), None)


def _check(path: Path, checksums: bool) -> None:
    """Check that torch.save wrote a file.

    Args:
        path: the file.
        checksums: also compare every checksum, which torch does not.

    Raises:
        CheckpointError: no such file, no zip, compressed members (torch would unpack any size), or changed bytes.
    """
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as file:
            names = file.namelist()
            packed = [i for i in file.infolist() if i.compress_type or i.file_size != i.compress_size]
            bad = file.testzip() if checksums and not packed else None
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; train first, or give --ckpt") from None
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except Exception as error:  # damaged bytes may raise any exception, an OSError without a name too
        if isinstance(error, OSError) and error.filename:  # a folder, a pipe or /proc/kmsg, which would be waited for
            raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a best.pt") from None
        got, remedy = f"a damaged checkpoint ({type(error).__name__})", "copy it again or train again"
        if not may_be_cut(path):
            got, remedy = "a file of another kind", "give a best.pt"
        raise CheckpointError(
            problem(path, got, "a best.pt of `magic train`", f"{remedy}; nothing in it was run")
        ) from None
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(problem(path, "a zip of another kind", "a best.pt of `magic train`", "give that one"))
    if packed or bad:
        got = "packed members" if packed else f"changed bytes in {bad}"
        raise CheckpointError(problem(path, got, "a file as torch.save wrote it", "copy it again or train again"))


def load_file(path: Path, mapped: bool = False) -> Loaded:
    """Read a checkpoint or a state with `weights_only=True`; with `mapped`, the tensors stay on disk.

    A model.safetensors is read with the config.json beside it (models/export/hub_format.py).

    Raises:
        CheckpointError: missing, damaged, or not written by magic.
    """
    if path.suffix == ".safetensors":
        return hub_format.read(path)
    _check(path, checksums=not mapped)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign pickles, which are rejected below
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError:
        remedy = "use a best.pt that `magic train` wrote; nothing in it was run"
        raise CheckpointError(problem(path, "a pickle with code or foreign objects", "tensors only", remedy)) from None
    except Exception as error:  # damaged bytes may raise any exception
        if mapped:
            return load_file(path)  # names what is wrong
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({first}); copy it again or train again") from None
    if not isinstance(loaded, dict) or not isinstance(loaded.get("meta"), str):
        raise CheckpointError(problem(path, "a file without meta data", "a magic checkpoint", "use a best.pt"))
    odd = _odd_tensor(loaded)
    if odd:
        remedy = "use a file that `magic train` wrote, or train again"
        raise CheckpointError(problem(path, f"the tensor {odd}", "dense tensors of real numbers", remedy))
    return loaded


def save_best(path: Path, model: nn.Module, meta: CheckpointMeta, seen: Seen = NOTHING) -> None:
    """Write best.pt atomically; the same weights, meta and data give the same bytes."""
    content = {"meta": json.dumps(dataclasses.asdict(meta), sort_keys=True), "weights": learned(model)}
    content |= {name: torch.from_numpy(getattr(seen, field)) for name, field in _SEEN.items()}
    write_atomic(path, lambda file: torch.save(content, file))


def load_best(path: Path, task: str | None = None) -> tuple[CheckpointMeta, dict[str, Tensor]]:
    """Read best.pt with `weights_only=True`, so that it cannot run code.

    Raises:
        CheckpointError: missing, damaged, of another format, or for a task other than `task`.
    """
    loaded = load_file(path)
    meta, weights = load_meta(loaded, path), loaded.get("weights")
    checked = checked_meta(meta, path, task)
    tensors = isinstance(weights, dict) and all(isinstance(t, Tensor) for t in weights.values())
    if not isinstance(weights, dict) or not tensors or not all(isinstance(name, str) for name in weights):
        raise CheckpointError(problem(path, "no tensors by name", "weights", "use a best.pt that `magic train` wrote"))
    return checked, weights


def load_seen(path: Path) -> Seen:
    """Return what the model of a best.pt has seen, `NOTHING` for one of an earlier version.

    Raises:
        CheckpointError: as `load_best`, or these entries are no hashes.
    """
    loaded = load_file(path, mapped=True)
    found = {field: loaded.get(name, torch.zeros(0, dtype=torch.int64)) for name, field in _SEEN.items()}
    if any(not isinstance(t, Tensor) or t.dtype != torch.int64 or t.ndim != 1 for t in found.values()):
        raise CheckpointError(problem(path, "no hashes of what was learned from", "them", "train again"))
    return Seen(**{field: tensor.numpy().copy() for field, tensor in found.items()})


def best_meta(path: Path) -> Loaded:
    """Return only the meta data of a checkpoint; its tensors stay on disk. Raises CheckpointError as `load_best`."""
    return load_meta(load_file(path, mapped=True), path)


def load_meta(loaded: Loaded, path: Path) -> Loaded:
    """Return the meta data in the result of `load_file`; raises CheckpointError if it is damaged."""
    try:
        meta = json.loads(loaded["meta"])
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path}: damaged meta data; copy it again or train again")
    return meta


def find(ckpt: Path, task: str) -> tuple[list[Path], str]:
    """Return the checkpoints that a path refers to, and a note if it was resolved in runs/TASK/ instead.

    A folder refers to its best.pt, or to those of its subfolders (folds, seeds), in the order of their names, or to the
    model.safetensors of `magic export --hub-folder`.

    Raises:
        CheckpointError: it exists in neither place, or the folder holds none.
    """
    path = ckpt if ckpt.exists() or ckpt.is_absolute() else Path("runs") / task / ckpt
    note = "" if path == ckpt else f"{ckpt} does not exist; using {path}"
    if path.is_dir():
        checkpoints = [path / "best.pt"] if (path / "best.pt").is_file() else sorted(path.glob("*/best.pt"))
        if not checkpoints and hub_format.is_hub_folder(path):
            checkpoints = [path / hub_format.WEIGHTS]
        if not checkpoints:
            begun = (path / "state.pt").is_file()
            remedy = "finish its training with `magic train --resume`" if begun else "check --ckpt"
            raise CheckpointError(problem(path, "no best.pt in it", "a run folder, or a folder of runs", remedy))
        return checkpoints, note
    if path.is_file():
        return [path], note
    got = "no regular file" if ckpt.exists() else "no such file"
    expected = "a best.pt" if path == ckpt else f"it, or {path}"
    raise CheckpointError(problem(ckpt, got, expected, f"run `magic train {task}` first"))
