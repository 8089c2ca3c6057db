"""The exported closed-question model: photos of encounters and features of their texts in, probabilities out."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.data.text_rules import BLOCKS
from magic_cli.errors import ConfigError, problem
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
from magic_cli.models.heads import AnswerHead
from magic_cli.records import Sample
from magic_cli.tasks.cvqa.model import CvqaModel
from magic_cli.tasks.encoding import ToEncode, encoded
from magic_cli.training.task import of_class
from magic_cli.training.task_model import TaskModel


class AnswerGraph(ExportGraph):
    """Encounters to the probabilities (B, R) of all options of all slots.

    The photos of all encounters are one input, with the number of the encounter that each is of. Texts come as the
    features that the model reads (`arguments` makes them). Responses that are a term of their own
    (tasks/cvqa/responses.py) are left out: the answer is that for photos and query.
    """

    def __init__(self, model: CvqaModel) -> None:
        super().__init__()
        if not isinstance(model.head, AnswerHead) or model.concepts is not None or not model.reads_text:
            read = "a text per option" if not isinstance(model.head, AnswerHead) else "concepts"
            got = f"a model that reads {read}" if model.reads_text else "a model of photos alone"
            expected = "head=slots or anchored, and texts without concepts"
            raise ConfigError(problem("--onnx", got, expected, "export another one, or its weights with --hub-folder"))
        self.model, self._head, self._starts = model.eval(), model.head, model.starts
        self.inputs = self._ports()
        rows = self._starts[-1]
        self.output = Port("probability", "float32", ("batch", rows), "of each slot's options; each slot sums to 1")
        slots = zip(model.questions.slots, pairwise(self._starts), strict=True)
        self.facts = {
            **(photo_facts([model.images]) if model.images is not None else {}),
            "text": f"an input: the vector of {model.texts.source}"
            + (", without responses" if model.responses else ""),
            "slots": [
                {"qid": question.qid, "first": first, "end": end, "options": list(question.options.get("en", ()))}
                for question, (first, end) in slots
            ],
            "decode": model.config.decode,
        }

    def _ports(self) -> tuple[Port, ...]:
        model = self.model
        ports: list[Port] = []
        if model.images is not None:
            owner = Port("owner", "int64", ("photos",), "number of the encounter that each photo is of, from 0")
            ports += [photo_port(model.images, "photos"), owner]
        nan = "; NaN for an encounter without text" if model.stand_in is not None else ""
        ports.append(Port("text", "float32", ("batch", model.texts.dim), f"vector of each encounter's text{nan}"))
        if model.reads_words:
            ports.append(Port("words", "float32", ("batch", model.reads_words), "counts of hashed words"))
        if model.reads_rules:
            ports.append(Port("rules", "float32", ("batch", sum(BLOCKS)), "rule features of the text"))
        return tuple(ports)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the probabilities (B, R) of the inputs in the order of `inputs`."""
        model, given = self.model, dict(zip((port.name for port in self.inputs), inputs, strict=True))
        parts = []
        if model.images is not None:
            vectors = model.images(pixels_of(given["photo"]))["pooled"].float()
            encounters = torch.arange(given["text"].shape[0])
            mine = (encounters[:, None] == given["owner"]).float()
            parts.append(mine @ vectors / mine.sum(1, keepdim=True))  # 0 / 0 without a photo: the mean takes its place
        parts.append(given["text"])
        if "words" in given:
            parts.append(F.normalize(given["words"] * model.rarity))
        if "rules" in given:
            parts.append(given["rules"])
        scores = model.scores_of(self._head, torch.cat(parts, 1)).float()
        sizes = [end - first for first, end in pairwise(self._starts)]
        return torch.cat([(part / model.config.temperature).softmax(1) for part in torch.split(scores, sizes, 1)], 1)

    def arguments(self, samples: Sequence[Sample]) -> tuple[Tensor, ...]:
        """Return the photos of encounters and the features of their texts."""
        model = self.model
        batch = model.collate(self._read(samples), [0] * len(samples))
        given: dict[str, Tensor] = {}
        if model.images is not None:
            pixels = of_class(of_class(batch.photos, ToEncode).inputs, Tensor)
            given |= {"photo": photo_of(pixels), "owner": of_class(batch.photo_owner, Tensor)}
        with torch.no_grad():
            given["text"] = encoded(model.texts, of_class(batch.texts, ToEncode))["text"].float()
        if batch.words is not None:
            given["words"] = batch.words
        if batch.rules is not None:
            given["rules"] = batch.rules
        if batch.wordless is not None:
            for name in ("text", "words", "rules"):
                if name in given:
                    given[name] = given[name].masked_fill(batch.wordless[:, None], torch.nan)
        return tuple(given[port.name] for port in self.inputs)

    def expected(self, samples: Sequence[Sample]) -> Rows:
        """Return the model's own probabilities, without responses that are a term of their own."""
        with torch.no_grad():
            found = self.model.predict(self.model.collate(self._read(samples), [0] * len(samples)), 0)
        rows = [np.concatenate([each.probabilities[q.qid] for q in self.model.questions.slots]) for each in found]
        return np.asarray(np.stack(rows), np.float32)

    def _read(self, samples: Sequence[Sample]) -> list[Sample]:
        if self.model.responses is None:
            return list(samples)
        return [replace(sample, case=replace(sample.case, answer="")) for sample in samples]


def build_graph(model: TaskModel, options: GraphOptions) -> ExportGraph:  # noqa: ARG001  one view
    """Return the graph of a trained model."""
    return AnswerGraph(of_class(model, CvqaModel))
