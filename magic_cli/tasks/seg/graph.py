"""The exported segmentation model: photos in, lesion probabilities out, all networks and views in one graph."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from magic_cli.errors import DataError, problem
from magic_cli.models.augment import turn, unturn
from magic_cli.models.export.graph import (
    ExportGraph,
    GraphOptions,
    Port,
    Rows,
    photo_facts,
    photo_of,
    photo_port,
    pixels_of,
)
from magic_cli.records import Sample
from magic_cli.tasks.encoding import encoded, first_photos, gather, text_item
from magic_cli.tasks.seg.model import SegModel
from magic_cli.training.task import of_class
from magic_cli.training.task_model import TaskModel

_FIXED = "fixed to no text, as for photos alone (an input with --text input)"


class MaskGraph(ExportGraph):
    """Photos, and with `reads_text` the vectors of their texts, to probabilities (B, S, S).

    The views are one larger batch inside the graph, so that it holds every network once.
    """

    text: Tensor

    def __init__(self, model: SegModel, options: GraphOptions) -> None:
        super().__init__()
        self.model, self.views, self.reads_text = model.eval(), tuple(options.views), options.reads_text
        self.encoders = [images for images, _ in model.networks]
        self.inputs = (photo_port(model.images),)
        if options.reads_text:
            meaning = f"text vectors of {model.texts.source}, question and answer together"
            self.inputs += (Port("text", "float32", ("batch", model.texts.dim), meaning),)
        side = model.config.image_size
        self.output = Port("probability", "float32", ("batch", side, side), "of a lesion, 0 to 1")
        self.register_buffer("text", self._vectors([("", "")]), persistent=False)
        self.facts = {
            **photo_facts(self.encoders),
            "text": "an input" if options.reads_text else _FIXED,
            "class_names": ["background", "lesion"],
            "threshold": model.config.threshold,
            "tta": [f"view {view}" for view in self.views] if len(self.views) > 1 else [],
            "tta_in_graph": len(self.views) > 1,
            "zoom": model.config.zoom,
            "zoom_in_graph": False,
            "networks": [images.source for images in self.encoders],
            "postprocessing": (
                "resize the probabilities to the photo's size (Pillow, mode F, BILINEAR); lesion: above the threshold; "
                "if no pixel is, those within 1e-6 of the maximum"
            ),
        }

    def _vectors(self, texts: Sequence[tuple[str, str]]) -> Tensor:
        items = [text_item(self.model.texts, question, answer) for question, answer in texts]
        with torch.no_grad():
            return encoded(self.model.texts, gather(self.model.texts, items, None))["text"].float().clone()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return probabilities (B, S, S) of photos (B, S, S, 3) and text vectors (B, T)."""
        pixels = pixels_of(inputs[0])
        vectors = inputs[1] if self.reads_text else self.text.expand(pixels.shape[0], -1)
        count = len(self.views)
        pixels = torch.cat([turn(pixels, view) for view in self.views])
        vectors = torch.cat([vectors] * count)
        maps = self.model.probabilities([head(images(pixels), vectors) for images, head in self.model.networks])
        each = maps.reshape(count, -1, *maps.shape[1:])
        return torch.stack([unturn(each[number], view) for number, view in enumerate(self.views)]).mean(0)

    def arguments(self, samples: Sequence[Sample]) -> tuple[Tensor, ...]:
        """Return the inputs of samples."""
        photo = photo_of(first_photos(self.model.images, samples))
        if not self.reads_text:
            return (photo,)
        return photo, self._vectors([(sample.case.question, sample.case.answer) for sample in samples])

    def expected(self, samples: Sequence[Sample]) -> Rows:
        """Return the mean of the model's own predictions over the views."""
        if not self.reads_text:
            samples = [replace(each, case=replace(each.case, question="", answer="")) for each in samples]
        views = []
        for view in self.views:
            with torch.no_grad():
                found = self.model.predict(self.model.collate(samples, [view] * len(samples)), view)
            views.append([prediction.probability for prediction in found])
        mean = np.mean(np.array(views, np.float32), axis=0)
        if not np.isfinite(mean).all():
            raise DataError(problem("--ckpt", "NaN", "probabilities", "training diverged: lower lr and train again"))
        return np.asarray(mean, np.float32)


def build_graph(model: TaskModel, options: GraphOptions) -> ExportGraph:
    """Return the graph of a trained model."""
    return MaskGraph(of_class(model, SegModel), options)
