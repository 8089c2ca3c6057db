"""Weights of a pretraining run in an encoder: its tensors, and the projection into the joint space of photos and texts.

An encoder whose weights come from a run knows its `origin`; checkpoints hold all of its tensors, trained or frozen.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from magic_cli.errors import CheckpointError, problem
from magic_cli.models.encoders import Encoder, Features, ImageEncoder, TextEncoder
from magic_cli.models.projection import Projection
from magic_cli.models.tuning.prompts import NAME as PROMPT
from magic_cli.models.tuning.prompts import add_prompt
from magic_cli.records import Origin

JOINT = "joint"  # the name of the projection among an encoder's modules

_DOWN, _UP = ".lora.down.weight", ".lora.up.weight"


def merged(encoder: Encoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the low-rank updates (models/fine_tuning.py) added to the weights of an encoder."""
    found = {name: tensor for name, tensor in tensors.items() if ".lora." not in name}
    own = encoder.state_dict()
    for name, down in tensors.items():
        target = f"{name.removesuffix(_DOWN)}.weight"
        if name.endswith(_DOWN) and target in own:
            update = tensors[f"{name.removesuffix(_DOWN)}{_UP}"].flatten(1) @ down.flatten(1)
            found[target] = found.get(target, own[target]) + update.view_as(own[target])
    return found


def hand_on(encoder: Encoder, tensors: Mapping[str, Tensor], origin: Origin) -> None:
    """Load the tensors of a run into an encoder of the same kind, which is changed in place.

    Args:
        encoder: with the weights that the run's encoder began with.
        tensors: by their names in the encoder; those of a projection (models/projection.py), which is applied to all
            that the encoder gives, begin with "joint."; with none, nothing changes.
        origin: where they come from.

    Raises:
        CheckpointError: a tensor is unknown, or of another shape or kind of number.
    """
    if not tensors:
        return
    complete = merged(encoder, tensors)
    learned_tokens = [tensor for name, tensor in complete.items() if name.endswith(f".{PROMPT}.tokens")]
    if learned_tokens and learned_tokens[0].ndim:
        add_prompt(encoder, len(learned_tokens[0]))
    weight = complete.get(f"{JOINT}.linear.weight")
    if weight is not None and weight.ndim == 2:
        _add_projection(encoder, *reversed(weight.shape))
    own = encoder.state_dict()
    faults = [f"unknown {name}" for name in complete if name not in own]
    faults += [f"{n} is {tuple(t.shape)}" for n, t in complete.items() if n in own and t.shape != own[n].shape]
    faults += [f"{n} is {t.dtype}" for n, t in complete.items() if n in own and t.dtype != own[n].dtype]
    if faults:
        got, expected = f"tensors that do not fit ({', '.join(faults[:3])})", f"those of {origin.encoder}"
        raise CheckpointError(problem(origin.run, got, expected, "train it again with this version"))
    encoder.load_state_dict(complete, strict=False)
    encoder.origin = origin
    encoder.record_weights()


def _add_projection(encoder: Encoder, features: int, dim: int) -> None:
    encoder.add_module(JOINT, Projection(features, dim))
    encoder.register_forward_hook(_project)
    if isinstance(encoder, ImageEncoder):
        encoder.channels = (dim,)
    elif isinstance(encoder, TextEncoder):
        encoder.dim = dim


def _project(module: nn.Module, _: tuple[object, ...], output: Features) -> Features:
    joint = module.get_submodule(JOINT)
    with torch.autocast("cuda" if next(iter(output.values())).is_cuda else "cpu", enabled=False):
        return {name: joint(tensor.float()) for name, tensor in output.items()}
