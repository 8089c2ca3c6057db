"""Weights and meta data of a checkpoint as a model hub keeps them: model.safetensors and config.json in one folder.

model.safetensors    the tensors of best.pt, under their names
config.json          "checkpoint" holds the meta data of best.pt (schemas/checkpoint.schema.json), without local paths

best.pt's hashes of the photos that were learned from are left out: whoever has a photo could tell that it was among
them. So `magic predict` cannot warn about such photos.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from torch import Tensor

from magic_cli import __version__
from magic_cli.errors import CheckpointError, MagicError, problem
from magic_cli.io.files import write_atomic
from magic_cli.io.json_files import read_json, write_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"

FORMAT = "magic-model"


def is_hub_folder(folder: Path) -> bool:
    """Return whether a folder holds such a model."""
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def config_of(meta: Mapping[str, Any], digest: str) -> dict[str, object]:
    """Return config.json.

    Args:
        meta: meta data of a checkpoint.
        digest: hex SHA-256 of the best.pt.
    """
    about = {"format": FORMAT, "library_name": "mediqa-magic", "magic_version": __version__, "task": meta["task"]}
    settings = {**meta["config"], "weights_dir": ""}
    return about | {"checkpoint_sha256": digest, "checkpoint": _without_places({**meta, "config": settings})}


def _without_places(value: Any) -> Any:
    """Return JSON with absolute paths cut to the name of the file: they tell names of users and of folders."""
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(item) for item in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


def write(folder: Path, config: Mapping[str, object], weights: Mapping[str, Tensor]) -> None:
    """Write both files into a folder."""
    from safetensors.torch import save

    content = save({name: tensor.contiguous() for name, tensor in weights.items()}, metadata={"format": "pt"})
    write_atomic(folder / WEIGHTS, lambda file: file.write(content))
    write_json(folder / CONFIG, config)


def read(weights: Path) -> dict[str, object]:
    """Return what training/checkpoint.py reads from a best.pt: "meta", JSON text, and "weights", tensors by name.

    Args:
        weights: the model.safetensors, with config.json beside it.

    Raises:
        CheckpointError: a file is missing, damaged or not of this kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    place = weights.with_name(CONFIG)
    try:
        config = read_json(place)
    except MagicError as error:
        raise CheckpointError(error.problems) from None
    found = config.get("checkpoint") if isinstance(config, dict) and config.get("format") == FORMAT else None
    if not isinstance(found, dict):
        got, remedy = "a file of another kind", "give a best.pt, or a folder of `magic export --hub-folder`"
        raise CheckpointError(problem(place, got, f"{FORMAT} with its checkpoint", remedy))
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"{weights}: damaged or not a checkpoint ({reason}); copy it again") from None
    return {"meta": json.dumps(found), "weights": tensors}
