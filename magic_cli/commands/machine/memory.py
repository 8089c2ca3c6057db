"""Memory of this machine and its GPUs, and what each preset needs of it; without torch."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping

from magic_cli.commands.machine.row import NOTE, Row
from magic_cli.io import memory

# Peak resident memory of `magic train TASK --preset PRESET` in GB: one epoch on pad-magic (602 photos), two cores,
# Linux, torch 2.14. It hardly grows with the photos (examples/reliability.md).
MEASURED: Mapping[str, Mapping[str, float]] = {
    "small": {"seg": 5.2, "cvqa": 1.5, "pretrain": 1.4, "retrieve": 1.4},
    "quick": {"seg": 1.6, "cvqa": 1.1},
    "tiny": {"seg": 0.9, "cvqa": 0.9},
}

# GPU memory in GB: counted, never measured (examples/encoders.md, "Backbones for a GPU").
ESTIMATED: Mapping[str, Mapping[str, float]] = {"large": {"seg": 20.0}}

_WAIT = 5  # seconds for nvidia-smi, which hangs on a broken driver
_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")


def expectation(preset: str, task: str) -> str:
    """Return what a training with a shipped preset takes at most, "" where that was neither measured nor counted.

    >>> expectation("quick", "seg")
    'needs about 1.6 GB of memory at most, measured on a CPU'
    """
    if task in MEASURED.get(preset, {}):
        return f"needs about {MEASURED[preset][task]:.1f} GB of memory at most, measured on a CPU"
    if task in ESTIMATED.get(preset, {}):
        return f"needs about {ESTIMATED[preset][task]:.0f} GB of GPU memory, an estimate"
    return ""


def rows() -> Iterable[Row]:
    """Yield the memory of the machine and of each NVIDIA GPU, then the presets."""
    total, free = memory.total(), memory.available()
    if total is None:
        yield Row("device", "memory", "unknown on this system")
    else:
        rest = "" if free is None else f", {free / 1e9:.1f} GB free"
        yield Row("device", "memory", f"{total / 1e9:.1f} GB{rest}")
    gpus = list(_gpus())
    for number, (name, most, unused) in enumerate(gpus):
        yield Row("device", f"gpu {number}", f"{name}, {most:.1f} GB, {unused:.1f} GB free")
    room = max((most for _, most, _ in gpus), default=0.0)
    yield from (_measured(preset, of_tasks, total) for preset, of_tasks in MEASURED.items())
    yield from (_estimated(preset, of_tasks, room) for preset, of_tasks in ESTIMATED.items())
    text = "not measured; meant for a GPU (magic train pretrain prints an estimate)"
    yield _for_gpu("paper", text, 0.0, room)


def _measured(preset: str, of_tasks: Mapping[str, float], total: int | None) -> Row:
    needs = ", ".join(f"{task} {size:.1f}" for task, size in of_tasks.items())
    text = f"{needs} GB of memory at most, measured on a CPU"
    too_large = [task for task, size in of_tasks.items() if total is not None and size * 1e9 > total]
    if too_large:
        remedy = f"{' and '.join(too_large)}: use --preset quick, or a smaller --set batch_size= with grad_accum_steps="
        return Row("presets", preset, text, NOTE, remedy)
    return Row("presets", preset, text)


def _estimated(preset: str, of_tasks: Mapping[str, float], room: float) -> Row:
    needs = ", ".join(f"{task} about {size:.0f}" for task, size in of_tasks.items())
    return _for_gpu(preset, f"{needs} GB of GPU memory, an estimate", max(of_tasks.values()), room)


def _for_gpu(preset: str, text: str, needs: float, room: float) -> Row:
    """Return the row of a preset that is meant for a GPU, with a note if there is none, or one of less than `needs`."""
    if room and room >= needs:
        return Row("presets", preset, text)
    there = f"the GPU here has {room:.0f} GB" if room else "there is no GPU here"
    remedy = f"{there}: --set batch_size=auto, --finetune lora, or preset small"
    return Row("presets", preset, text, NOTE, remedy)


def _gpus() -> Iterable[tuple[str, float, float]]:
    """Yield the name of each NVIDIA GPU, its memory and what is free of it in GB, as the driver's own tool says."""
    if shutil.which(_QUERY[0]) is None:
        return
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_WAIT, check=True)
    except (OSError, subprocess.SubprocessError):
        return
    for line in done.stdout.splitlines():
        name, *sizes = (part.strip() for part in line.rsplit(",", 2))
        if len(sizes) == 2 and all(size.isdigit() for size in sizes):
            most, unused = (int(size) * 1024**2 / 1e9 for size in sizes)
            yield name, most, unused
