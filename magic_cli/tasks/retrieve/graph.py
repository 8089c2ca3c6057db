"""The exported encoder of case retrieval: photos in, the vectors out that a case index holds."""

from collections.abc import Sequence
from dataclasses import asdict

from torch import Tensor

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
from magic_cli.models.retrieval.levels import last_levels
from magic_cli.records import Sample
from magic_cli.tasks.encoding import first_photos
from magic_cli.tasks.retrieve.model.case_encoder import RetrievalEncoder
from magic_cli.tasks.retrieve.model.composed import RetrieveModel
from magic_cli.training.task import of_class
from magic_cli.training.task_model import TaskModel


class GalleryGraph(ExportGraph):
    """Photos to the vectors (B, p) of a gallery: global and local vectors of each level, and the code of the class."""

    def __init__(self, model: RetrieveModel) -> None:
        super().__init__()
        self.model, self._encoder = model.eval(), RetrievalEncoder(model)
        self.inputs = (photo_port(model.images),)
        parts = self._encoder.parts
        width = sum(part.width for part in parts)
        self.output = Port("vector", "float32", ("batch", width), "the parts side by side, each of length 1")
        self.facts = {
            **photo_facts([model.images]),
            "text": "not part of the graph: photos of a gallery are encoded, queries with words are not",
            "parts": [asdict(part) for part in parts],
            "beta": self._encoder.beta,
            "class_share": self._encoder.class_share,
        }

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return vectors (B, p) of photos (B, S, S, 3)."""
        levels = last_levels(self.model.images(pixels_of(inputs[0])), self.model.photos.side)
        return self.model.gallery_rows(self.model.photo_vectors(self.model.photos.projected(levels))).float()

    def arguments(self, samples: Sequence[Sample]) -> tuple[Tensor, ...]:
        """Return the samples' first photos."""
        return (photo_of(first_photos(self.model.images, samples)),)

    def expected(self, samples: Sequence[Sample]) -> Rows:
        """Return the vectors that an index would hold."""
        return self._encoder.photos(samples)


def build_graph(model: TaskModel, options: GraphOptions) -> ExportGraph:  # noqa: ARG001  one view, no texts
    """Return the graph of a trained model."""
    return GalleryGraph(of_class(model, RetrieveModel))
