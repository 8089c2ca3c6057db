"""SAM of transformers: the mask of what is in a box; from files only, and never trained here."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from magic_cli.errors import WeightsError, problem
from magic_cli.models.huggingface import IMAGENET_MEAN, IMAGENET_STD, load, normalisation
from magic_cli.models.weights import hub_dir, model_type

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the photo's width and height."""


class BoxPrompt:
    """Masks of boxes by SAM (Kirillov et al., Segment anything, ICCV 2023), one box a photo.

    Args:
        name: "owner/model", such as facebook/sam-vit-base.
        weights: folder of --weights; None for the local Hub cache.

    Raises:
        WeightsError: files are missing, damaged, or of another kind of model.
    """

    def __init__(self, name: str, weights: Path | None) -> None:
        from transformers import SamModel

        if not re.fullmatch(r"[^/\\]+/[^/\\]+", name):
            expected = "owner/model, such as facebook/sam-vit-base, below --weights DIR"
            raise WeightsError(problem(f"--sam {name}", "no such name", expected, "name it so"))
        kind = model_type(name, weights)
        if kind != "sam":
            raise WeightsError(problem(name, f"a model of type {kind!r}", "a SAM (model_type sam)", "name another one"))
        folder = hub_dir(name, weights)
        self.model: Any = load(SamModel, name, folder).eval().requires_grad_(False)
        mean, std, _ = normalisation(folder, IMAGENET_MEAN, IMAGENET_STD)
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        self.side = int(self.model.config.vision_config.image_size)

    def pixels(self, photo: Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """Return float32 (3, side, side), the photo in its top left corner and zeros beside; and its (h, w) there."""
        scale = self.side / max(photo.size)
        width, height = (max(1, round(length * scale)) for length in photo.size)
        small = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR))
        array = (torch.from_numpy(small.copy()).permute(2, 0, 1).float() / 255 - self.mean) / self.std
        padded = torch.zeros(3, self.side, self.side)
        padded[:, :height, :width] = array
        return padded, (height, width)

    def masks(
        self, pixels: Tensor, shapes: Sequence[tuple[int, int]], boxes: Sequence[Box]
    ) -> list[NDArray[np.float32]]:
        """Return a map of probabilities of each photo, float32 (h, w) in [0, 1], as high as SAM's own for its shape.

        Args:
            pixels: (B, 3, side, side) of `pixels`.
            shapes: (height, width) of each photo in them.
            boxes: one per photo.
        """
        self.model.to(pixels.device)
        corners = [
            [left * width, top * height, right * width, bottom * height]
            for (left, top, right, bottom), (height, width) in zip(boxes, shapes, strict=True)
        ]
        prompts = torch.tensor(corners, device=pixels.device)[:, None]
        logits = self.model(pixel_values=pixels, input_boxes=prompts, multimask_output=False).pred_masks[:, 0, 0]
        probabilities = torch.sigmoid(logits.float()).cpu().numpy()
        scale = probabilities.shape[1] / self.side
        sizes = [[max(1, round(length * scale)) for length in shape] for shape in shapes]
        return [each[: size[0], : size[1]].copy() for each, size in zip(probabilities, sizes, strict=True)]
