"""What a result depends on beside its inputs: versions of packages, the machine, the state of our own checkout."""

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_RESULT_PACKAGES = ("magic-cli", "torch", "transformers", "timm", "accelerate", "numpy")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    return {package: version(package) for package in _RESULT_PACKAGES}


_PACKAGES = {  # and the module that shows that it is in use
    "magic-cli": "magic_cli",
    "numpy": "numpy",
    "pillow": "PIL",
    "tifffile": "tifffile",
    "pandas": "pandas",
    "matplotlib": "matplotlib",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "accelerate": "accelerate",
    "safetensors": "safetensors",
}


def version(package: str) -> str:
    """Return the version of "python" or of a package, "not installed" where it is not."""
    from importlib import metadata

    try:
        return sys.version.split()[0] if package == "python" else metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that this process has loaded."""
    loaded = (name for name, module in _PACKAGES.items() if module in sys.modules)
    return {name: version(name) for name in ("python", *loaded)}


def of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"platform", "processes", "device", "instructions", "threads"} of a command with these options.

    The last three are torch's, and None for a command that does not compute with it.
    """
    import platform

    found: dict[str, Any] = {"platform": platform.platform(), "processes": int(os.environ.get("WORLD_SIZE", "1"))}
    found |= dict.fromkeys(("device", "instructions", "threads"))
    torch = sys.modules.get("torch")
    if torch is None or not options.get("device") or options.get("vote"):
        return found
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device = options["device"] if options["device"] in here else next(name for name, there in here.items() if there)
    found["device"] = torch.cuda.get_device_name() if device == "cuda" and here["cuda"] else device
    return found | {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


@cache
def git() -> dict[str, Any] | None:
    """Return {"commit", "changed"} of the checkout that this program runs from; None for an installed one."""
    import subprocess

    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None
    words = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--", package.name]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(words, cwd=package.parent, env=clean, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), "")
    return {"commit": commit, "changed": any(not line.startswith("#") for line in lines)}
