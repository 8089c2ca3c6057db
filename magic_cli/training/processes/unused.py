"""Parameters that one process of several does not use in a step: the others wait for their gradients.

DistributedDataParallel exchanges the gradients of all parameters after every step. A process whose share of a batch has
no photo gives zeros, so that the mean over processes is that of the whole batch. With DDP's own
`find_unused_parameters`, BatchNorm of all processes (batch_norm.py) would still wait.
"""

import torch
from accelerate import PartialState
from torch import Tensor

from magic_cli.models.encoders import ImageEncoder
from magic_cli.training.processes.batch_norm import uncounted


def shares_steps() -> bool:
    """Return whether this process is one of several that take every step together."""
    return int(PartialState().num_processes) > 1


def nothing_of_photos(images: ImageEncoder, device: torch.device) -> Tensor:
    """Return 0, with a gradient of 0 for all that an encoder learns: of a grey photo that counts nothing."""
    if images.is_frozen:
        return torch.zeros((), device=device)
    grey = torch.full((1, 3, images.size, images.size), 128, dtype=torch.uint8, device=device)
    with uncounted():
        vector = images.features(grey)["pooled"]
    return 0.0 * vector.float().sum()
