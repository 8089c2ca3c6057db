"""Devices, mixed precision, determinism and memory of a process that computes."""

import ctypes
import os
import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed

from magic_cli.config import Config
from magic_cli.errors import ConfigError
from magic_cli.io.environment import torch_devices
from magic_cli.io.progress import log

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def keep_memory() -> None:
    """Let glibc keep freed blocks instead of giving them back to the kernel; elsewhere do nothing.

    A convolution on the CPU frees and asks for hundreds of megabytes a step, and every page of them would be
    mapped and zeroed anew: EfficientNet-Lite0 forward on 16 photos took 24 ms a photo without this and
    14 ms with it (median of five pairs, tests/benchmarks/allocator.py).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 26)):
            mallopt(name, value)


def require_determinism() -> None:
    """Fail on non-deterministic operations instead of warning (--deterministic).

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html; cuBLAS's workspace: accelerator_for.
    """
    torch.use_deterministic_algorithms(True)


def accelerator_for(config: Config, device: str) -> Accelerator:
    """Return accelerate's handle for this device and precision, seeds set.

    Raises:
        ConfigError: the device is not here.
    """
    usable = torch_devices(torch)
    if device not in ("auto", *usable):
        raise ConfigError(f"--device {device}: not on this machine; expected one of {', '.join(('auto', *usable))}")
    on_cpu = device == "cpu" or usable == ("cpu",)
    precision = config.precision
    if precision == "fp16" and on_cpu:
        log("precision fp16 needs a GPU: computing in float32 (on the CPU, bf16 is possible)")
        precision = "no"
    if on_cpu:
        keep_memory()
        # Gradients of confident pixels are below 1e-38, and a CPU computes with such numbers many times slower:
        # CLIPSeg's decoder step took 0.25 s without them and 0.40 to 1.1 s with them (tests/benchmarks/clipseg.py).
        torch.set_flush_denormal(True)
        if "MASTER_ADDR" in os.environ and not {"LOCAL_RANK", "WORLD_SIZE"} & os.environ.keys():
            log("the launcher started one process only; several on the CPU: torchrun --nproc_per_node N -m magic_cli …")
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it sums may vary
    set_seed(config.seed)
    if not torch.are_deterministic_algorithms_enabled():  # after `require_determinism` they are, without mere warnings
        torch.use_deterministic_algorithms(True, warn_only=True)
    # It fills every new tensor to make the use of unset memory repeatable: a third of a convolution's training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    AcceleratorState._reset_state()  # else a second run in this process would have to have the first one's precision
    return Accelerator(cpu=on_cpu, mixed_precision=precision, step_scheduler_with_optimizer=False)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a precision on a device; float16 needs a GPU, and elsewhere nothing changes.

    Accelerate's own is a setting of the whole process, and models of an ensemble may differ.
    """
    kinds = {"bf16": torch.bfloat16} | ({} if device.type == "cpu" else {"fp16": torch.float16})
    return torch.autocast(device.type, kinds.get(precision), enabled=precision in kinds)
