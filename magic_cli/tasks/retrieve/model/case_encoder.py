"""A trained retrieval model as an encoder of cases for an index (training/case_encoder.py)."""

from collections.abc import Sequence

import torch
from accelerate.utils import send_to_device
from PIL import Image

from magic_cli.data.index.base import Part
from magic_cli.models.retrieval.classes import WIDTH
from magic_cli.models.retrieval.regions import LevelVectors
from magic_cli.records import Sample
from magic_cli.tasks.encoding import ToEncode, gather, loaded_photos, text_item
from magic_cli.tasks.retrieve.model.composed import RetrieveModel, Vectors, longest
from magic_cli.training.case_encoder import EncodedQuery
from magic_cli.training.case_encoder import Vectors as Rows

NAMES = ("l", "m", "h")

_AT_ONCE = 32  # photos


class RetrievalEncoder:
    """Photos, and photos with words, by one model in evaluation mode on its device."""

    needs_photo = True

    def __init__(self, model: RetrieveModel) -> None:
        self._model = model.eval()
        config, levels = model.config, len(model.photos.channels)
        names = NAMES[-levels:]
        local = config.dim * (config.regions if config.local == "regionwise" else 1)
        levels_parts = [
            part
            for name in names
            for part in (Part(f"global_{name}", config.dim, "global"), Part(f"local_{name}", local, "local"))
        ]
        self.parts = (*levels_parts, *([Part("class", WIDTH + 1)] if config.class_share else []))
        self.beta, self.class_share, self.region_count = config.beta, config.class_share, config.regions
        self.preprocessing, self.side = model.images.preprocessing(), model.images.size

    def photos(self, samples: Sequence[Sample]) -> Rows:
        """Return vectors (n, p) of the samples' first photos."""
        with torch.inference_mode():
            rows: Rows = self._model.gallery_vectors(samples).float().cpu().numpy()
        return rows

    def query(self, photo: Image.Image | None, text: str, beta: float | None = None) -> EncodedQuery:
        """Return a photo with words; raises ValueError without a photo."""
        if photo is None:
            raise ValueError("this model composes a photo with words; it has no vector for words alone")
        model = self._model
        words = gather(model.texts, [text_item(model.texts, text, "")], None)
        with torch.inference_mode():
            levels = model.photos(self._loaded([photo]))
            vectors = model.query_vectors(levels, send_to_device(words, self._device), longest(words))
            scaled, unit = model.query_rows(vectors, beta)
        masks = _masks(vectors)[0]
        return EncodedQuery(scaled[0].float().cpu().numpy(), unit[0].float().cpu().numpy(), len(vectors.levels), masks)

    def regions(self, photos: Sequence[Image.Image]) -> list[Rows]:
        """Return the masks of photos as gallery photos have them."""
        found: list[Rows] = []
        for first in range(0, len(photos), _AT_ONCE):
            loaded = self._loaded(photos[first : first + _AT_ONCE])
            with torch.inference_mode():
                found += _masks(self._model.photo_vectors(self._model.photos(loaded)))
        return found

    @property
    def _device(self) -> torch.device:
        return self._model.log_scale.device

    def _loaded(self, photos: Sequence[Image.Image]) -> ToEncode:
        loaded: ToEncode = send_to_device(loaded_photos(self._model.photos.encoder, photos), self._device)
        return loaded


def _masks(vectors: Vectors) -> list[Rows]:
    """Return the masks of every photo on the level in the middle: fine enough to see, coarse enough to mean something.

    Masks that are no probabilities (mask_act none or softmax) are brought to [0, 1], photo by photo.
    """
    level: LevelVectors = vectors.levels[len(vectors.levels) // 2]
    masks = level.masks.float()
    low, high = masks.amin((1, 2, 3), keepdim=True), masks.amax((1, 2, 3), keepdim=True)
    if float(low.min()) < 0 or float(high.max()) > 1 or float(high.max()) < 0.2:
        masks = (masks - low) / (high - low).clamp(min=1e-12)
    return list(masks.cpu().numpy())
