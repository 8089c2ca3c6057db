"""Small CLIPSeg, CLIP, SigLIP, BERT, Swin and SAM checkpoints with random weights, in the same files as on the Hub."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    CLIPConfig,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizerFast,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SamConfig,
    SamModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    SwinConfig,
    SwinModel,
    ViTImageProcessor,
)

CLIPSEG, BERT, SWIN = "clipseg-rd64-refined", "Bio_ClinicalBERT", "swin-tiny-patch4-window7-224"


def save_clipseg(folder: Path, seed: int = 0) -> CLIPSegForImageSegmentation:
    """Save a CLIPSeg of two-digit widths with its tokenizer and processor."""
    torch.manual_seed(seed)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config={**text, "vocab_size": 60, "eos_token_id": 59, "bos_token_id": 58, "max_position_embeddings": 77},
        vision_config={**vision, "image_size": 32, "patch_size": 16},
        projection_dim=12,
        extract_layers=[1, 2, 3],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    model = CLIPSegForImageSegmentation(config).eval()
    model.save_pretrained(folder)
    save_clip_inputs(folder)
    return model


def save_clip(folder: Path, half: bool = False) -> CLIPModel:
    """Save a CLIP with vectors of 12 values and photos of 32 pixels, four patches; `half` in float16."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": 60, "eos_token_id": 59, "bos_token_id": 58, "max_position_embeddings": 20}
    vision = {**small, "image_size": 32, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config={**small, **ids}, vision_config=vision, projection_dim=12)).eval()
    _spread(model)
    (model.half() if half else model).save_pretrained(folder)
    save_clip_inputs(folder)
    return model.float()


def save_siglip(folder: Path, kind: str = "siglip") -> SiglipModel | Siglip2Model:
    """Save a SigLIP, or a SigLIP 2 of any resolution, with vectors of 16 values and a window of 12 tokens."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = ["</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz.\u2581"]
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 12}
    vision = {**small, "patch_size": 16, **({"image_size": 32} if kind == "siglip" else {"num_patches": 4})}
    both = {"text_config": text, "vision_config": vision}
    model = SiglipModel(SiglipConfig(**both)) if kind == "siglip" else Siglip2Model(Siglip2Config(**both))
    _spread(model.eval())
    model.save_pretrained(folder)
    backend = Tokenizer(BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))  # noqa: S106
    backend.normalizer = Replace(" ", "\u2581")
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    special = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "padding_side": "right"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    processor = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    ViTImageProcessor(**processor).save_pretrained(folder)
    return model


def _spread(model: PreTrainedModel) -> None:
    """Draw all weights anew: those of a new model are too small for its outputs to differ visibly."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "logit" not in name:
                tensor.add_(torch.randn_like(tensor), alpha=0.3)


def save_clip_inputs(folder: Path) -> None:
    """Save a tokenizer of letters and a processor."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{c}</w>" for c in letters)]
    vocab = {word: i for i, word in enumerate(words)} | {"<|startoftext|>": 58, "<|endoftext|>": 59}
    folder.joinpath("vocab.json").write_text(json.dumps(vocab))
    folder.joinpath("merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    mean_std = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    ViTImageProcessor(size={"height": 64, "width": 64}, **mean_std).save_pretrained(folder)


def save_bert(folder: Path) -> None:
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "red", "itch", "where"]
    folder.joinpath("vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **small)).save_pretrained(folder)


def save_swin(folder: Path) -> None:
    small = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    SwinModel(SwinConfig(image_size=64, patch_size=4, **small)).save_pretrained(folder)


def save_sam(folder: Path) -> None:
    """Save a SAM of photos of 64 pixels, whose maps have 16, with weights far enough apart that boxes matter."""
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "output_channels": 16, "mlp_dim": 32}
    vision |= {"image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 8}
    prompts = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "image_embedding_size": 4}
    masks = {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks)).eval()
    _spread(model)
    model.save_pretrained(folder)
