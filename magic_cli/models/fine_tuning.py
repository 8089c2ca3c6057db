"""Which weights of an encoder are trained: none, some of its own, or a few that are added to it.

| mode | trained weights of an encoder |
|------|-------------------------------|
| head | none; outputs are cached |
| last | Lite0: blocks 5 and 6 (stride 32), and the last convolution, except in a pyramid. CLIPSeg's vision \
transformer: the blocks after its last tap but one (7 to 9 of 12). Swin, SegFormer, ConvNeXt: the last stage and \
its norm; DINOv2, DINOv3: the last quarter of the blocks and the norm. BERT, CLIP, SigLIP: the last layer, with the \
norm and projection or pooling after it |
| all  | all that its outputs depend on, without its first `frozen_stages` |
| lora | adapters on the attention projections of transformers, on the pointwise convolutions of Lite0 and ConvNeXt |
| bitfit | biases (Ben Zaken et al., ACL 2022), those of norms too |
| norm | scale and shift of its norms: layer, batch, group, root mean square (Frankle et al., ICLR 2021) |
| prompt | learned tokens that transformers read beside the usual ones (models/tuning/prompts.py) |

All other weights stay bit-identical: no gradients, and eval mode, so that no running statistics change and nothing is
dropped out; of batch norms `norm` and `bitfit` train scale and shift only.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from magic_cli.config import Config
from magic_cli.errors import ConfigError, problem
from magic_cli.models.encoders import BertText, Encoder, ImageEncoder
from magic_cli.models.tuning.prompts import NAME, add_prompt

# Attention in CLIP, Swin, DINOv2 and BERT (transformers 5, then 4 where it differs), pointwise convolutions.
_ATTENTION = r"(q_proj|k_proj|v_proj|o_proj|out_proj|(self|attention)\.(query|key|value)|attention\.output\.dense)"

_POINTWISE = r"(blocks\..*conv_pwl?|layers\.\d+\.(pwconv|pointwise_conv)[12])"  # in Lite0, in ConvNeXt

# open_clip and timm: their attention is one parameter or one layer
_MLP = r"(resblocks\.\d+\.mlp\.c_(fc|proj)|trunk\.blocks\.\d+\.attn\.(qkv|proj))"

_NORMS = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.RMSNorm)

_SWITCH = "set_grad_checkpointing"  # of open_clip and timm

_ADAPTED = re.compile(rf"(.*\.)?({_ATTENTION}|{_POINTWISE}|{_MLP}|first|second)")


class Adapter(nn.Module):
    """Low-rank update of a linear map or convolution, up(down(x)), initially zero (Hu et al., LoRA, 2021).

    The scale alpha / rank is 1.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.down: nn.Linear | nn.Conv2d
        self.up: nn.Linear | nn.Conv2d
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)
        else:
            shape: dict[str, Any] = {name: getattr(base, name) for name in ("kernel_size", "stride", "padding")}
            self.down = nn.Conv2d(base.in_channels, rank, bias=False, **shape)
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the update of the base's output for input x."""
        update: Tensor = self.up(self.down(x))
        return update


def _add_update(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    update: Tensor = module.get_submodule("lora")(inputs[0])
    return output + update


def add_adapters(encoder: Encoder, rank: int) -> tuple[str, ...]:
    """Add adapters to an encoder and return their paths; the encoder's own tensors keep their names."""
    layers = {n: m for n, m in encoder.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    fused = {f"{n}.out_proj" for n, m in encoder.named_modules() if isinstance(m, nn.MultiheadAttention)}
    bases = {name: layer for name, layer in layers.items() if _ADAPTED.fullmatch(name) and name not in fused}
    for base in bases.values():
        adapter = Adapter(base, rank).to(base.weight.device)
        if isinstance(base, nn.Conv2d):
            adapter.to(memory_format=torch.channels_last)
        base.add_module("lora", adapter)
        base.register_forward_hook(_add_update)
    return tuple(f"{name}.lora" for name in bases)


def last_stage(encoder: Encoder) -> tuple[str, ...]:
    """Return the paths of the modules of an encoder's last stage.

    Raises:
        ConfigError: the encoder has no stages.
    """
    if not encoder.last_stage:
        raise ConfigError(f"finetune=last: {type(encoder).__name__} has no stages; use finetune=head or finetune=all")
    return encoder.last_stage


def later_stages(encoder: Encoder, frozen: int) -> tuple[str, ...]:
    """Return the paths of the modules that an encoder's outputs depend on, without its first `frozen` stages.

    Early stages find edges and colours, which photos of skin share with ImageNet's, and work on the largest maps: the
    first two of Lite0 take a fifth of a training step (tests/benchmarks/mask_step.py).

    Raises:
        ConfigError: it has not as many stages.
    """
    if frozen >= len(encoder.stages):
        got = f"{frozen} for {type(encoder).__name__}, of which {len(encoder.stages)} can be left untrained in turn"
        raise ConfigError(problem("frozen_stages", got, f"fewer than {len(encoder.stages) or 1}", "use a smaller one"))
    return tuple(path for stage in encoder.stages[frozen:] for path in stage)


def used_modules(encoder: Encoder) -> tuple[str, ...] | None:
    """Return the paths of the modules that an encoder's outputs depend on, None for all.

    A parameter without a gradient would stop training on several processes, and be saved in vain.
    """
    if isinstance(encoder, BertText):
        return ("net.embeddings", "net.encoder")
    return later_stages(encoder, 0) if encoder.stages else encoder.used


def _used_tensors(encoder: Encoder) -> dict[str, nn.Parameter]:
    """Return the parameters that an encoder's outputs depend on, by name."""
    used = used_modules(encoder)
    start = None if used is None else tuple(f"{path}." for path in used)
    return {name: p for name, p in encoder.named_parameters() if start is None or name.startswith(start)}


def biases(encoder: Encoder) -> tuple[str, ...]:
    """Return the names of the biases that an encoder's outputs depend on."""
    return tuple(name for name in _used_tensors(encoder) if name.endswith("bias"))


def norm_weights(encoder: Encoder) -> tuple[str, ...]:
    """Return the names of scale and shift of the norms that an encoder's outputs depend on."""
    norms = tuple(f"{name}." for name, module in encoder.named_modules() if isinstance(module, _NORMS))
    return tuple(name for name in _used_tensors(encoder) if name.startswith(norms))


def tune(encoder: Encoder, config: Config) -> None:
    """Set which weights of an encoder are trained, as the settings say; raises as `set_finetuning`."""
    part = "images" if isinstance(encoder, ImageEncoder) else "texts"
    mode = config.finetune if config.finetune_encoders in ("both", part) else "head"
    set_finetuning(encoder, mode, config.rank, config.frozen_stages, config.prompt_tokens)


def set_finetuning(encoder: Encoder, mode: str, rank: int = 8, frozen_stages: int = 0, prompt_tokens: int = 8) -> None:
    """Set which weights of an encoder are trained; called once, after the weights were loaded.

    Args:
        encoder: changed in place.
        mode: "head", "last", "all", "lora", "bitfit", "norm" or "prompt".
        rank: rank of the adapters; more than the channels of a layer is allowed, but useless.
        frozen_stages: number of first stages that mode "all" leaves as they are, of an image encoder.
        prompt_tokens: number of learned tokens of mode "prompt".

    Raises:
        ConfigError: mode "last" for an encoder without stages, "prompt" for one that is no plain transformer, or more
            frozen stages than it has.
    """
    if mode == "head":
        encoder.freeze()
    elif mode == "bitfit":
        encoder.set_trainable(biases(encoder))
    elif mode == "norm":
        encoder.set_trainable(norm_weights(encoder))
    elif mode == "prompt":
        encoder.set_trainable(add_prompt(encoder, prompt_tokens))
    elif mode == "last":
        encoder.set_trainable(last_stage(encoder))
    elif mode == "lora":
        encoder.set_trainable(add_adapters(encoder, rank))
    elif frozen_stages and isinstance(encoder, ImageEncoder):
        encoder.set_trainable(later_stages(encoder, frozen_stages))
    elif (paths := used_modules(encoder)) is not None:
        encoder.set_trainable(paths)


def keep_batch_statistics(model: nn.Module) -> None:
    """Put all BatchNorm of a model in eval mode: with statistics of each batch, parts of it see other features."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def checkpoint_activations(encoder: Encoder) -> bool:
    """Compute activations anew in the backward pass from now on: less memory, and about a third more time.

    Only blocks in training mode do it: with adapters (finetune=lora) it has no effect. Networks with batch
    normalisation cannot, as their statistics would count every batch twice; nor can those with learned prompts, which
    are handed on from block to block.

    Returns:
        Whether this encoder can.
    """
    modules = list(encoder.modules())
    if any(isinstance(module, nn.BatchNorm2d) or hasattr(module, NAME) for module in modules):
        return False
    of_transformers = [module for module in modules if _switch(module)]
    for module in of_transformers:
        name = _switch(module)
        getattr(module, name)(**{name.replace("_enable", "_kwargs"): {"use_reentrant": False}})
    others = [module for module in modules if hasattr(module, _SWITCH)]
    for module in others:
        if not any(_switch(part) for part in module.modules()):
            getattr(module, _SWITCH)(True)
    return bool(of_transformers or others)


def _switch(module: nn.Module) -> str:
    """Return the name of the method with which transformers 5, or else 4, enables it; "" if there is none."""
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    return next((name for name in names if hasattr(module, name)), "")
