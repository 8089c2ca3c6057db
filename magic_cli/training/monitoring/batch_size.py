"""`--set batch_size=auto`: the largest power of two that fits on a GPU, by real steps of a trial that is thrown away.

The trial is a trainer of its own. The run's trainer is made afterwards, which sets all seeds: its weights, random
numbers and moments are those of a run that was given the number.
"""

import gc
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from magic_cli.config import AUTO, Config
from magic_cli.errors import ConfigError, ResourceError, problem
from magic_cli.io.progress import log
from magic_cli.io.resources import is_memory
from magic_cli.records import Sample
from magic_cli.training.devices import accelerator_for
from magic_cli.training.monitoring.out_of_memory import smaller_steps
from magic_cli.training.trainer import Trainer

_STEPS = 2  # the second one has the optimizer's moments
_LOOKED_AT = 4096  # samples among which the largest are sought
_MOST = 65_536  # the setting's own limit


def largest_fitting(fits: Callable[[int], bool], first: int, most: int) -> int:
    """Return the largest power of two up to `most` that fits; 0 if not even 1 does.

    Args:
        fits: whether a size fits; asked for powers of two alone, each once. What fits, fits in all smaller sizes.
        first: about what is expected to fit: the search doubles or halves from there.
        most: at least 1.
    """
    size = _power_of_two(min(first, most))
    if not fits(size):
        while size > 1:
            size //= 2
            if fits(size):
                return size
        return 0
    while size * 2 <= most and fits(size * 2):
        size *= 2
    return size


def with_batch_size(trainer_of: Callable[[Config], Trainer], config: Config, device: str) -> Config:
    """Return the settings with the largest batch that fits; on other devices than CUDA, as they are.

    Args:
        trainer_of: makes a trainer with other settings.
        config: the settings, with the batch size of the preset.
        device: as in --device.

    Raises:
        ConfigError: several processes share the work. ResourceError: not even one sample fits.
    """
    accelerator = accelerator_for(config, device)
    if not searches(accelerator.device):
        kind = accelerator.device.type
        log(f"note: batch_size={AUTO} is for CUDA, not {kind}: batch_size={config.batch_size}, as without it")
        return config
    if accelerator.num_processes > 1:
        got = f"{AUTO} on {accelerator.num_processes} processes"
        remedy = "find it with one process, and give it times their number"
        raise ConfigError(problem("batch_size", got, "a number", remedy))
    trial = trainer_of(config)
    try:
        found = _search(trial)
        drawn = len(trial.train_set)
    finally:
        del trial
        _free()
    if not found:
        raise ResourceError(
            f"batch_size={AUTO}: not even one sample fits; {smaller_steps(replace(config, batch_size=1))}"
        )
    updates = -(-drawn // (found * config.grad_accum_steps))
    rest = f"{updates} updates an epoch at the same lr={config.lr:g}"
    log(f"batch_size={AUTO}: {found} is the largest power of two that fits (without it: {config.batch_size}); {rest}")
    return replace(config, batch_size=found)


def searches(device: torch.device) -> bool:
    """Return whether a size is sought on a device: what fits into the memory of a CPU is no question of the batch."""
    return device.type == "cuda"


def _search(trial: Trainer) -> int:
    """Return the largest size that fits; the model of `trial` is another one afterwards."""
    trial.prepare()
    samples = _largest(trial.data.train)

    def fits(size: int) -> bool:
        try:
            for _ in range(_STEPS):
                trial.try_step([samples[place % len(samples)] for place in range(size)])
        except (RuntimeError, MemoryError) as error:
            if not is_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold what did fit
            return False
        finally:
            trial.optimizer.zero_grad(set_to_none=True)
            _free()
        return True

    return largest_fitting(fits, trial.config.batch_size, min(len(trial.train_set), _MOST))


def _largest(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples in the order of how much a step on them takes: the most photos, then the longest text."""
    every = max(1, len(samples) // _LOOKED_AT)
    looked_at = [samples[place] for place in range(0, len(samples), every)]
    return sorted(looked_at, key=_size, reverse=True)


def _size(sample: Sample) -> tuple[int, int]:
    texts = (text for by_language in sample.case.texts.values() for text in by_language.values())
    return len(sample.images), len(sample.case.question) + len(sample.case.answer) + sum(map(len, texts))


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to a number from 1."""
    return 1 << (number.bit_length() - 1)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
