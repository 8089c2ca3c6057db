"""The exported encoder of contrastive pretraining: photos in, unit vectors of the joint space out."""

from collections.abc import Sequence

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
from magic_cli.records import Sample
from magic_cli.tasks.encoding import first_photos
from magic_cli.tasks.pretrain.model.case_encoder import PairEncoder
from magic_cli.tasks.pretrain.model.contrastive import PretrainModel
from magic_cli.training.task import of_class
from magic_cli.training.task_model import TaskModel


class PhotoVectorGraph(ExportGraph):
    """Photos to unit vectors (B, d); the text encoder is no part of it."""

    def __init__(self, model: PretrainModel) -> None:
        super().__init__()
        self.model, self._encoder = model.eval(), PairEncoder(model)
        self.inputs = (photo_port(model.images),)
        width = self._encoder.parts[0].width
        self.output = Port("vector", "float32", ("batch", width), "of length 1; cosines are inner products")
        self.facts = {
            **photo_facts([model.images]),
            "text": "not part of the graph: only photos are encoded",
            "temperature": float((-model.log_scale.detach()).exp()),
        }

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return vectors (B, d) of photos (B, S, S, 3)."""
        vectors: Tensor = self.model.image_projection(self.model.images(pixels_of(inputs[0]))["pooled"]).float()
        return vectors

    def arguments(self, samples: Sequence[Sample]) -> tuple[Tensor, ...]:
        """Return the samples' first photos."""
        return (photo_of(first_photos(self.model.images, samples)),)

    def expected(self, samples: Sequence[Sample]) -> Rows:
        """Return the vectors that an index would hold."""
        return self._encoder.photos(samples)


def build_graph(model: TaskModel, options: GraphOptions) -> ExportGraph:  # noqa: ARG001  one view, no texts
    """Return the graph of a trained model."""
    return PhotoVectorGraph(of_class(model, PretrainModel))
