"""Meta data of a checkpoint and the names, kinds and shapes of its tensors, read without torch and without a tensor.

best.pt is a zip whose `data.pkl` holds the meta data as JSON and says where each tensor lies. It is unpickled with
nothing but stand-ins for torch's classes, so that no code of the file runs. model.safetensors has its own header.
"""

import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from magic_cli.errors import CheckpointError, MagicError, problem, redact
from magic_cli.io import schema
from magic_cli.io.json_files import parse_json, read_json
from magic_cli.io.regular_file import open_regular
from magic_cli.records import CheckpointMeta

FORMAT = 2  # format 1 used former setting names

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of a hub folder

_MOST = 1 << 28  # bytes of meta data

_KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """What a file says of a tensor: its number type, such as "float32", and its shape."""

    kind: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class SavedModel:
    """A checkpoint without its numbers."""

    path: Path
    meta: CheckpointMeta
    tensors: Mapping[str, SavedTensor]

    @property
    def numbers(self) -> int:
        """How many numbers its tensors hold."""
        return sum(tensor.numbers for tensor in self.tensors.values())


def read_model(path: Path) -> SavedModel:
    """Read a best.pt, or a model.safetensors of `magic export --hub-folder`.

    Raises:
        CheckpointError: missing, damaged, of another kind or format.
    """
    row, tensors = _hub_model(path) if path.suffix == ".safetensors" else _pickled(path)
    return SavedModel(path, checked_meta(row, path), tensors)


def checked_meta(meta: Mapping[str, object], path: Path, task: str | None = None) -> CheckpointMeta:
    """Return meta data as a record.

    Raises:
        CheckpointError: it is a state's, of another format, does not fit its schema, or is of another task than `task`.
    """
    if "format" not in meta and "at" in meta:
        got, remedy = "the state of a training", "give the best.pt beside it, or finish it with `magic train --resume`"
        raise CheckpointError(problem(path, got, "a best.pt", remedy))
    written = meta.get("format")
    if written != FORMAT:
        is_newer = type(written) is int and written > FORMAT
        remedy = "update magic" if is_newer else "train again with this version"
        got = "no format" if written is None else f"format {redact(written)}"
        raise CheckpointError(problem(path, got, FORMAT, remedy))
    lines = schema.problems("checkpoint", dict(meta), str(path))
    if lines:
        raise CheckpointError(lines)
    if task is not None and meta["task"] != task:
        raise CheckpointError(
            f"{path}: checkpoint was made for task '{meta['task']}', not '{task}'; give one of '{task}'"
        )
    tuples = {name: tuple(value) for name, value in meta.items() if isinstance(value, list)}
    return CheckpointMeta(**{**meta, **tuples})  # type: ignore[arg-type]


def _hub_model(path: Path) -> tuple[Mapping[str, object], dict[str, SavedTensor]]:
    try:
        config = read_json(path.with_name(CONFIG))
        with open_regular(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = parse_json(file.read(length)) if length <= _MOST else {}
    except (OSError, ValueError, struct.error, MagicError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: no model of `magic export --hub-folder` ({first})") from None
    meta = config.get("checkpoint") if isinstance(config, dict) else None
    if not isinstance(meta, dict) or not isinstance(header, dict):
        raise CheckpointError(problem(path, "a file of another kind", "a model of `magic export`", "give that one"))
    tensors = {
        name: SavedTensor(_KINDS.get(row["dtype"], str(row["dtype"])), tuple(row["shape"]))
        for name, row in header.items()
        if isinstance(row, dict) and {"dtype", "shape"} <= row.keys()
    }
    return meta, tensors


def _pickled(path: Path) -> tuple[Mapping[str, object], dict[str, SavedTensor]]:
    """Read a best.pt; damaged bytes may raise any exception in zipfile and pickle."""
    remedy = "copy it again or train again; nothing in it was run"
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as file:
            member = next((info for info in file.infolist() if info.filename.endswith("data.pkl")), None)
            if member is None:
                raise CheckpointError(
                    problem(path, "a zip of another kind", "a best.pt of `magic train`", "give that one")
                )
            if member.compress_type or member.file_size > _MOST:
                raise CheckpointError(problem(path, "packed members", "a file as torch.save wrote it", remedy))
            content = _Reader(io.BytesIO(file.read(member))).load()
        meta = json.loads(content["meta"])
        weights = content["weights"]
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; train first, or give --ckpt") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); give a best.pt") from None
    except Exception as error:
        got = f"a damaged checkpoint ({type(error).__name__})"
        if isinstance(error, zipfile.BadZipFile) and not may_be_cut(path):
            got, remedy = "a file of another kind", "give a best.pt"
        raise CheckpointError(problem(path, got, "a best.pt of `magic train`", remedy)) from None
    if not isinstance(meta, dict) or not isinstance(weights, dict):
        raise CheckpointError(problem(path, "a file without meta data", "a best.pt of `magic train`", remedy))
    return meta, {name: tensor for name, tensor in weights.items() if isinstance(tensor, SavedTensor)}


def may_be_cut(path: Path) -> bool:
    """Return whether a file that is no zip begins as one, or holds zeros or nothing, as a broken copy leaves it."""
    try:
        with open_regular(path) as file:
            head = file.read(4)
    except OSError:
        return True
    return head.startswith(b"PK") or not head.strip(b"\0")


@dataclass(frozen=True)
class _Storage:
    """What a type of torch's storages stands for: its number type."""

    kind: str


class _Reader(pickle.Unpickler):
    """Reads the pickle of a best.pt; every class in it is one of these stand-ins, or it is refused."""

    def find_class(self, module: str, name: str) -> Callable[..., object] | _Storage:
        """Return the stand-in of a class of torch."""
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name.endswith("Storage"):
            return _Storage(name.removesuffix("Storage").lower())
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: tuple[object, ...]) -> _Storage:
        """Return the number type of a storage, whose bytes stay where they are."""
        storage = pid[1]
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("storage")
        return storage


_TORCH_KINDS = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32"}


def _tensor(storage: _Storage, _offset: int, shape: tuple[int, ...], *_: object) -> SavedTensor:
    return SavedTensor(_TORCH_KINDS.get(storage.kind, storage.kind), tuple(shape))
