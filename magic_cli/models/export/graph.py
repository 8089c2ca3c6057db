"""What of a trained model is exported: a module of tensors alone, whose inputs and output have names and meanings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from magic_cli.errors import ConfigError, problem
from magic_cli.models.encoders import ImageEncoder
from magic_cli.records import Sample

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class GraphOptions:
    """What may be chosen about a graph.

    Attributes:
        views: of each photo, over which masks are averaged inside the graph (models/augment.py, `turn`).
        reads_text: seg: whether the text's vector is an input; else it is that of no text, and part of the graph.
    """

    views: Sequence[int] = (0,)
    reads_text: bool = False


@dataclass(frozen=True)
class Port:
    """An input or the output of a graph.

    Attributes:
        name: its name in the file.
        dtype: uint8, int64 or float32.
        axes: the length of each axis; a name where it is known only when the graph runs.
        meaning: what it holds, for people: range, order, units.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]
    meaning: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.name}: {self.dtype} ({', '.join(map(str, self.axes))}), {self.meaning}"


class ExportGraph(nn.Module):
    """A trained model as a function of tensors: `forward` takes the inputs in order and returns the output.

    Attributes:
        inputs: in the order of `forward`.
        output: what is returned.
        facts: what a user of the file has to know beside inputs and output, by name; values are JSON.
    """

    inputs: tuple[Port, ...]
    output: Port
    facts: Mapping[str, object]

    def arguments(self, samples: Sequence[Sample]) -> tuple[Tensor, ...]:
        """Return the inputs of samples, as the model itself would read them."""
        raise NotImplementedError

    def expected(self, samples: Sequence[Sample]) -> Rows:
        """Return what `magic predict` makes of samples, float32: what the graph has to return for them."""
        raise NotImplementedError


def photo_port(encoder: ImageEncoder, axis: str = "batch") -> Port:
    """Return the input of photos for an encoder."""
    side = encoder.size
    meaning = f"RGB photos, upright, resized to {side} x {side} without keeping the aspect ratio"
    return Port("photo", "uint8", (axis, side, side, 3), f"{meaning} (Pillow's {resampling(encoder)})")


def photo_facts(encoders: Sequence[ImageEncoder]) -> dict[str, object]:
    """Return what is done to photos before and inside the graph.

    Raises:
        ConfigError: two encoders want photos of different sizes or resized in different ways.
    """
    first = encoders[0]
    if any((each.size, each.resample) != (first.size, first.resample) for each in encoders):
        got = ", ".join(f"{each.source} {each.size} px {resampling(each)}" for each in encoders)
        raise ConfigError(
            problem("--onnx", f"networks that resize photos differently ({got})", "one way", "export one")
        )
    normalised = [{"mean": each.mean.flatten().tolist(), "std": each.std.flatten().tolist()} for each in encoders]
    return {
        "input_size": first.size,
        "resample": resampling(first),
        "normalisation": normalised,
        "normalisation_in_graph": True,
    }


def resampling(encoder: ImageEncoder) -> str:
    """Return the name of Pillow's filter that an encoder resizes photos with: "BICUBIC", "BILINEAR"."""
    return Image.Resampling(encoder.resample).name


def pixels_of(photo: Tensor) -> Tensor:
    """Return photos (B, S, S, 3), as Pillow and numpy have them, as encoders read them, (B, 3, S, S)."""
    return photo.permute(0, 3, 1, 2)


def photo_of(pixels: Tensor) -> Tensor:
    """Return the inverse of `pixels_of`."""
    return pixels.permute(0, 2, 3, 1).contiguous()
