"""A pretrained pair of encoders as an encoder of cases for an index: photos, words, or both."""

from collections.abc import Sequence

import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from magic_cli.data.index.base import Part
from magic_cli.records import ImageRecord, Sample
from magic_cli.tasks.encoding import Encoded, ToEncode, loaded_photos
from magic_cli.tasks.pretrain.model.contrastive import PretrainModel
from magic_cli.training.case_encoder import EncodedQuery, Vectors

_AT_ONCE = 32  # photos


class PairEncoder:
    """Unit vectors in the joint space; a photo with words is the mean of both, normalised (late fusion)."""

    needs_photo = False
    beta = 0.0
    class_share = 0.0
    region_count = 0

    def __init__(self, model: PretrainModel) -> None:
        self._model = model.eval()
        self.preprocessing, self.side = model.images.preprocessing(), model.images.size
        with torch.inference_mode():
            self.parts: tuple[Part, ...] = (Part("image", model.text_vectors(["skin"]).shape[1]),)

    def photos(self, samples: Sequence[Sample]) -> Vectors:
        """Return vectors (n, d) of the samples' first photos."""
        rows: Vectors = self._vectors([sample.images[0] for sample in samples]).cpu().numpy()
        return rows

    def query(self, photo: Image.Image | None, text: str, beta: float | None = None) -> EncodedQuery:  # noqa: ARG002
        """Return a photo, words, or both; raises ValueError without any."""
        parts = [self._encoded(loaded_photos(self._model.views.first, [photo]))] if photo is not None else []
        if text:
            with torch.inference_mode():
                parts.append(self._model.text_vectors([text]).float())
        if not parts:
            raise ValueError("a query without a photo and without words")
        vector = F.normalize(torch.stack(parts).sum(0), dim=-1)[0].cpu().numpy()
        return EncodedQuery(vector, vector, 1.0)

    def regions(self, photos: Sequence[Image.Image]) -> list[Vectors]:  # noqa: ARG002
        """Return nothing: there are no region masks."""
        return []

    def _vectors(self, records: Sequence[ImageRecord]) -> Tensor:
        model, rows = self._model, []
        for first in range(0, len(records), _AT_ONCE):
            part = records[first : first + _AT_ONCE]
            rows.append(self._encoded(model.views.load(part, [0] * len(part), model.cache, is_training=False)))
        return torch.cat(rows)

    def _encoded(self, photos: Encoded | ToEncode) -> Tensor:
        model = self._model
        with torch.inference_mode():
            features = model.views.features(send_to_device(photos, model.log_scale.device))
            vectors: Tensor = model.image_projection(features["pooled"]).float()
        return vectors
