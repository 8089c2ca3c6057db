"""What a result depends on besides its inputs: versions of packages, the machine, the state of a git checkout."""

import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from magic_cli.io.launcher import launched

# the packages that a result may depend on, and the module that shows that one is in use
PACKAGES = {
    "mediqa-magic": "magic_cli",
    "numpy": "numpy",
    "pillow": "PIL",
    "tifffile": "tifffile",
    "pandas": "pandas",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "accelerate": "accelerate",
    "safetensors": "safetensors",
}

NOT_INSTALLED = "not installed"


def version(package: str) -> str:
    """Return the version of "python" or of a package, "not installed" for a package that is not."""
    from importlib import metadata

    try:
        return sys.version.split()[0] if package == "python" else metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def versions() -> dict[str, str]:
    """Return the versions of Python and of those of `PACKAGES` that this process has loaded."""
    loaded = (name for name, module in PACKAGES.items() if module in sys.modules)
    return {name: version(name) for name in ("python", *loaded)}


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of all `PACKAGES`: the same in every process of an installation."""
    return {name: version(name) for name in ("python", *PACKAGES)}


def torch_devices(torch: ModuleType) -> tuple[str, ...]:
    """Return the kinds of devices that torch can use on this machine, the fastest first: "cuda", "mps", "cpu".

    `torch` is the module, so that this one does not import it.
    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return tuple(name for name, is_usable in usable.items() if is_usable)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: str | None) -> dict[str, str | int | None]:
    """Return {"platform", "processes", "device", "instructions", "threads"} of this machine.

    Args:
        device: as in --device: "auto", "cpu", "cuda" or "mps"; None or "" for a command that does not compute with
            torch. Then, and while torch is not loaded, the last three are None.
    """
    import platform

    facts: dict[str, str | int | None] = {"platform": platform.platform()}
    facts["processes"] = launched().processes
    torch = sys.modules.get("torch")
    if torch is None or not device:
        return facts | dict.fromkeys(("device", "instructions", "threads"))
    usable = torch_devices(torch)
    kind = device if device in ("cuda", "mps", "cpu") else usable[0]
    facts["device"] = torch.cuda.get_device_name() if kind == "cuda" and "cuda" in usable else kind
    return facts | {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


@cache
def git() -> dict[str, str | bool] | None:
    """Return {"commit", "changed"} of the git checkout that this program runs from; None if it is installed."""
    import subprocess

    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--", package.name]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, cwd=package.parent, env=clean, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), "")
    return {"commit": commit, "changed": any(not line.startswith("#") for line in lines)}
