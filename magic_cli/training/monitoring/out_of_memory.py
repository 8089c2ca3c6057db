"""What to type when memory does not suffice for a training, with values computed from its settings."""

import torch

from magic_cli.config import Config
from magic_cli.training.monitoring.outlook import memory_text


def remedy(config: Config, device: torch.device, compares: bool) -> str:
    """Return the remedy as the end of an error's line.

    Args:
        config: the settings of the run.
        device: where it ran.
        compares: whether the loss compares the samples of a batch, so that smaller batches are another training.
    """
    ways = [*_of_batch(config, compares)]
    if device.type == "cuda":
        if config.precision == "no":
            ways.append("--set precision=bf16 (activations take half)")
        if config.batch_size > 1:
            ways.append("--set batch_size=auto (the largest that fits)")
    elif config.workers:
        ways.append("--set workers=0")
    if not ways:
        ways.append(smaller_steps(config))
    used = memory_text(device)
    return f"batch_size={config.batch_size} does not fit ({used}); train anew with --overwrite and {', or '.join(ways)}"


def smaller_steps(config: Config) -> str:
    """Return what makes a step on a single sample smaller."""
    size = f"--set image_size={max(32, config.image_size // 2 // 32 * 32)}"
    ways = [size, *(["--finetune head"] if config.finetune != "head" else [])]
    return f"use {', or '.join(ways)}, or another machine"


def _of_batch(config: Config, compares: bool) -> list[str]:
    """Return settings of half the batch in each step; with accumulation the samples of an update stay the same."""
    size = config.batch_size // 2
    part = getattr(config, "micro_batch", None)
    if compares and isinstance(part, int):
        smaller = (part or config.batch_size) // 2
        return [f"--set micro_batch={smaller} (the same gradient, in parts)"] if smaller else []
    if not size:
        return []
    if compares:
        return [f"--set batch_size={size} (each photo is compared with fewer)"]
    update = config.batch_size * config.grad_accum_steps
    every = -(-update // size)
    before = "as now" if size * every == update else f"now {update}"
    return [f"--set batch_size={size} --set grad_accum_steps={every} ({size * every} samples an update, {before})"]
