"""What a launcher of several processes (torchrun, accelerate) says in the environment, told from what is left there.

Schedulers, notebooks and earlier jobs leave RANK, WORLD_SIZE and their like behind. A process is one of several only if
all the variables that a launcher sets are there and fit together; whatever else is found is ignored.
"""

import os
import re
import sys
import zlib
from dataclasses import dataclass

from magic_cli.errors import PeerError

_SET_BY_A_LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# accelerate reads these of MPI before WORLD_SIZE, and takes a process for one of several by them alone
_OF_MPI = (
    *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    *("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    *("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)
_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE")
_RANKS = ("RANK", "LOCAL_RANK")
# how gloo, NCCL and torch's store tell that the process at the other end is gone
_OF_A_PEER = re.compile(
    r"gloo|connection (closed|reset|refused)|NCCL|remote process exited|socket ?timeout|broken pipe|timed out",
    re.IGNORECASE,
)
_FLAGS = ("1", "0", "true", "false", "yes", "no", "on", "off", "y", "n", "t", "f")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# what accelerate launch sets for distributed types that shard a model
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor parallelism",
}


@dataclass(frozen=True)
class Launched:
    """This process among those that a launcher started: its `rank`, from 0 to `processes` - 1."""

    rank: int
    processes: int


_ALONE = Launched(0, 1)


def _number(name: str) -> int:
    """Return the whole number in a variable, -1 if there is none."""
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1


def launched() -> Launched:
    """Return which process this is of how many; rank 0 of 1 unless a launcher has set all of its variables."""
    rank, processes = _number("RANK"), _number("WORLD_SIZE")
    fits = processes > 1 and 0 <= rank < processes and 0 <= _number("LOCAL_RANK") <= rank
    has_address = bool(os.environ.get("MASTER_ADDR", "").strip()) and 0 < _number("MASTER_PORT") < 65_536
    return Launched(rank, processes) if fits and has_address else _ALONE


def sharding() -> list[str]:
    """Return the distributed types that accelerate was told to shard a model with; [] for a process that is alone."""
    asked = [name for key, name in _SHARDING.items() if os.environ.get(key, "").lower() in ("1", "true", "yes", "on")]
    return [] if launched() == _ALONE else asked


def as_peer_error(error: BaseException, what: str = "") -> PeerError | None:
    """Return an exception as a PeerError if another process of a distributed run has ended; None for any other.

    Args:
        error: any exception; in a process that is alone, None is returned.
        what: what goes before the end of the line, such as a folder and a remedy.
    """
    is_of_a_peer = type(error).__name__.startswith("Dist") or _OF_A_PEER.search(str(error)[:2000])
    if launched() == _ALONE or not isinstance(error, RuntimeError | OSError) or not is_of_a_peer:
        return None
    line = "another process of this run ended: its own message is above, or it was killed"
    if "EADDRINUSE" in str(error):
        port, names = os.environ["MASTER_PORT"], " ".join(_SET_BY_A_LAUNCHER)
        line = f"MASTER_PORT={port}: another program uses it; choose another, or for a single process unset {names}"
    return PeerError(f"{line}; {what}" if what else line)


def says_first(line: str) -> bool:
    """Return whether no other process of this run has said a line, and note that this one does.

    False before the processes have met: what is wrong until then, all of them find.
    """
    distributed = sys.modules.get("torch.distributed")  # to be loaded for this only, it would take seconds
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return False
    try:
        store = distributed.distributed_c10d._get_default_store()
        return bool(store.add(f"magic/said/{zlib.crc32(line.encode())}", 1) == 1)
    except Exception:
        return True


def ignore_leftovers(alone: bool = False) -> str:
    """Remove from the environment what would mislead accelerate, torch and numpy; return a note, or "".

    What a launcher set stays, if it is whole. Of ACCELERATE_* only a valid ACCELERATE_USE_CPU stays, and what would
    shard the model (`sharding`), which is refused: settings and options say what the others would.

    Args:
        alone: the command never is one of several processes: remove what a launcher set, too.
    """
    is_alone = alone or launched() == _ALONE
    # a command that never is one of several need not tell what it ignores
    misleading = [name for name in (*_SIZES, *_RANKS) if is_alone and not alone and _says_several(name)]
    if is_alone and not alone and os.environ.get("MASTER_ADDR") and not os.environ.get("WORLD_SIZE"):
        misleading.append("MASTER_ADDR")  # `accelerate launch --cpu --num_processes 2` starts one process
    threads = [name for name in _THREADS if name in os.environ and not _are_threads(os.environ[name])]
    note = ", ".join(f"{name}={os.environ[name][:40]}" for name in (*misleading, *threads))
    doomed = [*threads, *_OF_MPI, *(_SET_BY_A_LAUNCHER if is_alone else ())]
    doomed += ["LOCAL_WORLD_SIZE"] if is_alone or _number("LOCAL_WORLD_SIZE") < 1 else []
    doomed += [name for name in os.environ if name.startswith("ACCELERATE_") or name == "FORK_LAUNCHED"]
    kept = _SHARDING if sharding() else ()
    for name in doomed:
        if name in kept:
            continue
        if name != "ACCELERATE_USE_CPU" or os.environ[name].lower() not in _FLAGS:
            os.environ.pop(name, None)
    if misleading:
        return f"{note}: ignored, as no launcher set it (unset it); several processes: torchrun --no-python magic …"
    return f"{note}: ignored, as this is no number of threads" if note else ""


def _says_several(name: str) -> bool:
    """Return whether a variable holds anything but the number of one process alone; an empty one holds nothing."""
    text = os.environ.get(name, "").strip()
    return text != "" and text != ("0" if name in _RANKS else "1")


def _are_threads(text: str) -> bool:
    """Return whether a text is what OpenMP takes as numbers of threads, such as "4" or "4,2"; empty is none."""
    parts = text.split(",")
    return not text.strip() or all(part.strip().isdecimal() and 0 < int(part) < 2**31 for part in parts)
