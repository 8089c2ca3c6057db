"""Photos that look like skin, and the copies of them that datasets hold: re-encoded, resized, cropped, brighter."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance


def draw_skin(seed: int, side: int = 256) -> Image.Image:
    """Return an RGB photo of random light, texture and one lesion: photos of two seeds are different photos."""
    draw = np.random.default_rng(seed)
    planes = [
        Image.fromarray(draw.integers(0, 256, (cells, cells), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        for cells in (3, 9, 33)
    ]
    texture = sum(
        weight * (np.asarray(p, np.float32) - 128) for weight, p in zip((0.35, 0.2, 0.1), planes, strict=True)
    )
    rows, columns = np.mgrid[:side, :side] / side
    centre, size = draw.uniform(0.25, 0.75, 2), draw.uniform(0.08, 0.25, 2)
    lesion = ((rows - centre[0]) / size[0]) ** 2 + ((columns - centre[1]) / size[1]) ** 2 < 1
    tone = np.array((205, 160, 135)) - draw.uniform(0, 90)
    colour = tone - lesion[..., None] * draw.uniform(20, 80, 3)
    return Image.fromarray((colour + texture[..., None]).clip(0, 255).astype(np.uint8))


def jpeg(photo: Image.Image, quality: int = 90) -> Image.Image:
    """Return a photo as JPEG makes it."""
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def _crop(photo: Image.Image, share: float) -> Image.Image:
    width, height = photo.size
    return photo.crop((round(width * share), round(height * share), width, height))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 30": lambda photo: jpeg(photo, 30),
    "half the size": lambda photo: photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS),
    "another shape": lambda photo: photo.resize((photo.width, photo.height * 4 // 5)),
    "cropped by 2 %": lambda photo: _crop(photo, 0.02),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.15),
    "darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.8),
    "more contrast": lambda photo: ImageEnhance.Contrast(photo).enhance(1.2),
}
