"""Device, mixed precision, determinism and memory settings of a training or predicting process."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import set_seed

from magic_cli.config import Config
from magic_cli.errors import ConfigError, problem
from magic_cli.io.environment import torch_devices
from magic_cli.io.launcher import ignore_leftovers, launched, sharding
from magic_cli.io.progress import log, log_if_longer
from magic_cli.io.signals import ending_at_once

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h

_PATIENCE = 5.0  # seconds; torchrun starts its processes within one


def keep_memory() -> None:
    """Let glibc reuse freed blocks instead of returning them to the kernel; on other systems do nothing.

    A convolution on the CPU frees and allocates hundreds of megabytes per step, and the kernel would map and zero
    every page again: EfficientNet-Lite0 forward on 16 photos took 24 ms per photo without this and 14 ms with it
    (median of five pairs, tests/benchmarks/allocator.py).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 26)):
            mallopt(name, value)


_choice: list[bool | None] = [None]  # of this process


def set_determinism(required: bool | None) -> None:
    """Choose what the trainings of this process do about operations whose result varies from run to run.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html; cuBLAS's workspace: accelerator_for. On a GPU
    deterministic algorithms may be slower: enlarging maps by interpolation, for one, has another backward pass.

    Args:
        required: True: there are none, an operation without a deterministic algorithm is an error (--deterministic).
            False: the fastest algorithms, convolutions' chosen by trial (--no-deterministic). None: deterministic
            ones where there are any, and a warning where not.
    """
    _choice[0] = required
    _apply_determinism()


def _apply_determinism() -> None:
    required = _choice[0]
    torch.use_deterministic_algorithms(required is not False, warn_only=required is None)
    torch.backends.cudnn.benchmark = required is False
    # Filling every new tensor makes reads of unset memory repeatable, but takes a third of a convolution's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def accelerator_for(config: Config, device: str) -> Accelerator:
    """Return the Accelerator for a device and the config's precision; sets the random seeds.

    Raises:
        ConfigError: this machine does not have the device, or accelerate was told to shard the model.
    """
    note = ignore_leftovers()
    if note:
        log(f"note: {note}")
    _require_data_parallel()
    usable = torch_devices(torch)
    if device not in ("auto", *usable):
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") if device == "cuda" else None
        why = "not on this machine" if hidden is None else f"none with CUDA_VISIBLE_DEVICES={hidden[:40]}"
        raise ConfigError(f"--device {device}: {why}; expected one of {', '.join(('auto', *usable))}")
    on_cpu = device == "cpu" or usable == ("cpu",)
    precision = config.precision
    if precision == "fp16" and on_cpu:
        log("precision fp16 needs a GPU: computing in float32 (on the CPU, bf16 is possible)")
        precision = "no"
    if on_cpu:
        keep_memory()
        # Gradients of confident pixels fall below 1e-38, and a CPU computes with such numbers many times slower:
        # CLIPSeg's decoder step took 0.25 s with them flushed, else 0.40 to 1.1 s (tests/benchmarks/clipseg.py).
        torch.set_flush_denormal(True)
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; otherwise sums may vary
    set_seed(config.seed)
    _apply_determinism()
    _forget_runs(on_cpu)
    with _meeting_others():
        return Accelerator(cpu=on_cpu, mixed_precision=precision, step_scheduler_with_optimizer=False)


def _forget_runs(on_cpu: bool) -> None:
    """Allow a further run in this process another precision and, unless it is one of several, another device.

    Accelerate's state is of the process: it would stay on the device of the first run, whatever is asked for.
    """
    known = PartialState._shared_state
    moves = bool(known) and PartialState().num_processes == 1 and known.get("_cpu") is not on_cpu
    AcceleratorState._reset_state(reset_partial_state=moves)


def _require_data_parallel() -> None:
    """Raise ConfigError if accelerate is to shard the model: gradient norms and checkpoints are of whole ones."""
    asked = sharding()
    if asked:
        got, remedy = " and ".join(asked), "accelerate launch --multi_gpu, or torchrun"
        raise ConfigError(problem("accelerate", got, "data parallelism (DDP), the only type here", remedy))


@contextmanager
def _meeting_others() -> Iterator[None]:
    """Log whom a process of several waits for if they do not come; meanwhile a signal ends it, which torch ignores."""
    ours = launched()
    if ours.processes == 1:
        yield
        return
    who = f"WORLD_SIZE={ours.processes}, this one is RANK={ours.rank}"
    remedy = "if there are none: unset WORLD_SIZE RANK LOCAL_RANK MASTER_ADDR MASTER_PORT"
    note = f"note: waiting for the other process(es): {who}; {remedy}"
    with log_if_longer(_PATIENCE, note, everywhere=True), ending_at_once():
        yield


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the autocast context of a precision on a device; fp16 on a CPU has no effect.

    Accelerate's autocast is set per process, and the models of an ensemble may differ in precision.
    """
    kinds = {"bf16": torch.bfloat16} | ({} if device.type == "cpu" else {"fp16": torch.float16})
    return torch.autocast(device.type, kinds.get(precision), enabled=precision in kinds)
