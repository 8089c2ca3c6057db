"""Where on a photo a score comes from: the gradient map (Grad-CAM) of any image encoder with a last stage."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from magic_cli.errors import ConfigError, problem
from magic_cli.models.encoders import Features, ImageEncoder


def gradient_map(encoder: ImageEncoder, pixels: Tensor, score: Callable[[Features], Tensor]) -> Tensor:
    """Return Grad-CAM at what the encoder's last stage reads: relu(sum over channels of mean gradient x activation).

    Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2. Of a transformer, channels are those of the patches'
    tokens, and tokens before them (class token, registers) are left out. It works inside inference mode.

    Args:
        encoder: of photos; its "patches" say how many places a transformer has.
        pixels: uint8 (B, 3, S, S).
        score: the score (B,) of each photo, from the encoder's features; each depends on its own photo alone.

    Returns:
        float32 (B, h, w), not negative: 14 x 14 for Lite0 at 224 pixels, a place per patch for CLIP.

    Raises:
        ConfigError: the encoder has no last stage.
    """
    if not encoder.last_stage:
        got, remedy = f"{encoder.source}, which has no stages", "use --saliency similarity"
        raise ConfigError(problem("--saliency gradient", got, "an encoder of several stages", remedy))
    read: list[Tensor] = []

    def watch(_: object, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        read.append(inputs[0].detach().clone().requires_grad_())
        return (read[-1], *inputs[1:])

    hook = encoder.get_submodule(encoder.last_stage[0]).register_forward_pre_hook(watch)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            features = encoder(pixels.clone())  # what was made in inference mode takes no part in gradients
            [slopes] = torch.autograd.grad(score(features).sum(), read)
    finally:
        hook.remove()
    activations = read[0].detach()
    if activations.ndim == 4:
        weights = slopes.mean((2, 3), keepdim=True)
        return torch.relu((weights * activations).sum(1)).float()
    places = features["patches"].shape[1]
    weights = slopes[:, -places:].mean(1, keepdim=True)
    side = math.isqrt(places)
    return torch.relu((weights * activations[:, -places:]).sum(2)).float().view(-1, side, side)
