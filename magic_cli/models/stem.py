"""The frozen first part of an image encoder as an encoder of its own, so that its features may be cached.

With finetune=last a step then runs the trained part only, and no photo is decoded (MAKE's preset `small`):
    stem = stem_of(images)  # once, after `set_finetuning`; None if there is nothing to gain
    items = [photo_item(stem, photo, view) for photo, view in pairs]  # also what is cached before training
    features = images.tail(encoded(stem, gather(stem, items, cache)))  # bit by bit images.features(pixels)
"""

from collections.abc import Callable

from torch import Tensor

from magic_cli.models.encoders import Features, ImageEncoder


class Stem(ImageEncoder):
    """The first part of an image encoder, {"stem": (B, C, h, w)}; frozen, with a key of its own.

    Its modules are those of the whole encoder. It registers none of them, so that weights keep their names.
    """

    def __init__(self, whole: ImageEncoder) -> None:
        super().__init__(whole.size, whole.mean.flatten().tolist(), whole.std.flatten().tolist(), whole.resample)
        self._whole = (whole,)  # a tuple: modules in it are not registered
        self.source, self.weights_sha256 = whole.source, whole.weights_sha256
        self.freeze()

    def preprocessing(self) -> str:
        """Return also the kind of the whole encoder; the output of its tail makes no difference."""
        return f"{super().preprocessing()} {type(self._whole[0]).__name__}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Stem":
        """Move the whole encoder, too: features may be cached before the model that has it is moved to a device."""
        self._whole[0]._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        return self._whole[0].stem_features(pixels)


def stem_of(images: ImageEncoder) -> Stem | None:
    """Return an image encoder's first part if all that is trained comes after it, as with finetune=last.

    Returns:
        None if the encoder has no stem (`tail_modules`), if parts before its end are trained, or if none is: the
        whole output of a frozen encoder may be cached.
    """
    after = tuple(f"{path}." for path in images.tail_modules())
    trained = tuple(f"{path}." for path in images.trainable or ())
    return Stem(images) if after and trained and all(path.startswith(after) for path in trained) else None
