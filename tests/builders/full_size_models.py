"""Checkpoints of full size with random weights, in the same files as on the Hub: for times and memory on a GPU."""

from pathlib import Path

import torch
from small_models import save_clip, save_clip_inputs
from transformers import BitImageProcessor, CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

CLIP, DINO = "clip-vit-base-patch16", "dinov2-base"


def save_clip_model(folder: Path, is_tiny: bool = False) -> None:
    """Save a CLIP ViT-B/16 whose tokenizer knows letters alone; `is_tiny`: one of two layers."""
    if is_tiny:
        save_clip(folder)
        return
    torch.manual_seed(0)
    text = {"bos_token_id": 58, "eos_token_id": 59}
    CLIPModel(CLIPConfig(text_config=text, vision_config={"patch_size": 16})).save_pretrained(folder)
    save_clip_inputs(folder)


def save_dino(folder: Path, is_tiny: bool = False) -> None:
    """Save a DINOv2 of the base size; `is_tiny`: one of four narrow layers."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 28}
    Dinov2Model(Dinov2Config(**(small if is_tiny else {}))).save_pretrained(folder)
    BitImageProcessor().save_pretrained(folder)
