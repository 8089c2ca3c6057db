"""Write predictions of a contrastive model: tables of scores, vectors for retrieval, and some maps for the report.

Photos pass by one at a time, and vectors wait on disk until their number is known: memory does not grow with them, but
for their ids and a hash of each text's vector. The files are described in submission/pairs.py.
"""

import csv
import hashlib
import heapq
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.issues import counted
from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.data.pair_gold import PairGold
from magic_cli.data.prompts import name_key
from magic_cli.io.json_files import write_json
from magic_cli.io.progress import log
from magic_cli.io.staging import replace_results
from magic_cli.submission.pairs import ASKED, CONCEPTS, LABELS, MAPS, PRESENCE, VECTORS, ZERO_SHOT
from magic_cli.tasks.pretrain.asked import Asked
from magic_cli.tasks.pretrain.predictions import PairPrediction, Vector

_FORMULA = ("=", "+", "-", "@")

MOST_MAPS = 200
"""Photos whose maps are kept, for the report: those whose ids have the smallest hashes, in whatever order they come."""


def save(
    predictions: Iterable[PairPrediction],
    asked: Asked,
    gold: PairGold,
    split: str,
    out: Path,
    beside: SideFiles | None = None,
) -> list[Path]:
    """Write predictions to the folder `out` in one step, and return the files.

    Args:
        predictions: of distinct photos, all with the same classes and concepts.
        asked: what was asked.
        gold: of the split, for labels.csv; only photos, classes and ids of it are written, no text.
        split: train, valid or test.
        out: the folder.
        beside: what else is written.
    """
    with replace_results(out) as folder:
        writer = _Writer(folder)
        with writer.open():
            for prediction in predictions:
                writer.add(prediction)
        writer.finish()
        _write_labels(folder / LABELS, writer.ids, asked.classes, gold, split)
        write_json(folder / ASKED, _summary(writer, asked, split))
        if beside is not None:
            beside.finish(folder)
        names = sorted(path.name for path in folder.iterdir())
    formulas = [name for name in (*asked.classes, *(c.name for c in asked.concepts)) if name.startswith(_FORMULA)]
    if formulas:
        what = counted(len(formulas), "name begins", "names begin")
        log(f"note: {what} with =, +, - or @, which spreadsheets take for a formula: import {out}/*.csv as text")
    return [out / name for name in names]


def _summary(writer: "_Writer", asked: Asked, split: str) -> Mapping[str, object]:
    counts = {"photos": len(writer.ids), "texts": len(writer.text_of) - writer.text_of.count(-1), "dim": writer.dim}
    return {
        "schema": 1,
        "format": "magic-pretrain",
        "split": split,
        **counts,
        "distinct_texts": len(writer.numbers),
        "maps": len(writer.maps),
        "classes": list(asked.classes),
        "templates": list(asked.templates) if asked.classes else [],
        "concepts": {concept.name: list(concept.terms) for concept in asked.concepts},
    }


class _Writer:
    """Files of predictions as they grow in a folder: tables row by row, vectors as bytes of float32."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: list[str] = []
        self.text_of: list[int] = []
        self.numbers: dict[bytes, int] = {}  # of distinct texts, by a hash of their vectors
        self.maps: dict[str, NDArray[np.float16]] = {}
        self.dim = 0
        self._kept: list[tuple[int, str]] = []  # a heap of ids by their hash, the largest first
        self._tables: dict[str, IO[str]] = {}
        self._stack = ExitStack()

    def open(self) -> ExitStack:
        """Open the files of vectors; the stack closes all files."""
        opened = [self._stack.enter_context((self.folder / name).open("w+b")) for name in ("images", "texts")]
        self._images, self._texts = opened
        return self._stack

    def add(self, prediction: PairPrediction) -> None:
        """Write what is said of a photo."""
        name = prediction.id
        if prediction.class_scores is not None:
            best = prediction.classes[int(np.argmax(prediction.class_scores))]
            self._row(ZERO_SHOT, ("image_id", "predicted"), prediction.classes, (name, best), prediction.class_scores)
        if prediction.concept_scores is not None:
            self._row(CONCEPTS, ("image_id",), prediction.concepts, (name,), prediction.concept_scores)
        if prediction.presence is not None:
            self._row(PRESENCE, ("image_id",), prediction.classes, (name,), prediction.presence)
        self.ids.append(name)
        self.dim = len(prediction.image)
        self._images.write(prediction.image.astype("<f4").tobytes())
        self.text_of.append(-1 if prediction.text is None else self._number(prediction.text))
        if prediction.maps is not None:
            self._keep(name, prediction.maps)

    def _row(self, file: str, head: Sequence[str], names: Sequence[str], cells: Sequence[str], scores: Vector) -> None:
        if file not in self._tables:
            self._tables[file] = self._stack.enter_context((self.folder / file).open("w", encoding="utf-8", newline=""))
            csv.writer(self._tables[file], lineterminator="\n").writerow([*head, *names])
        writer = csv.writer(self._tables[file], lineterminator="\n")
        writer.writerow([*cells, *(f"{score:.7g}" for score in scores.tolist())])

    def _number(self, text: Vector) -> int:
        data = text.astype("<f4").tobytes()
        number = self.numbers.setdefault(hashlib.sha256(data).digest()[:16], len(self.numbers))
        if self._texts.tell() == number * len(data):
            self._texts.write(data)
        return number

    def _keep(self, name: str, maps: NDArray[np.float16]) -> None:
        order = -int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
        heapq.heappush(self._kept, (order, name))
        self.maps[name] = maps
        if len(self._kept) > MOST_MAPS:
            del self.maps[heapq.heappop(self._kept)[1]]

    def finish(self) -> None:
        """Join the vectors to one file, and write the maps."""
        from safetensors.numpy import save_file

        rows = {"images": len(self.ids), "texts": len(self.numbers)}
        shapes = {name: [count, self.dim] for name, count in rows.items()}
        numbers = np.array(self.text_of, "<i8").tobytes()
        join_tensors(self.folder / VECTORS, shapes, ("text_of", numbers), {"ids": json.dumps(self.ids)})
        if self.maps:
            save_file({name: self.maps[name] for name in sorted(self.maps)}, self.folder / MAPS)


def join_tensors(
    path: Path, shapes: Mapping[str, Sequence[int]], last: tuple[str, bytes], notes: Mapping[str, str]
) -> None:
    """Write a safetensors file of float32 tensors that lie as bytes in files beside it, which are removed.

    Args:
        path: the file.
        shapes: of the tensors, by the names of their files.
        last: name and bytes of one more tensor, int64 of one dimension.
        notes: the metadata.
    """
    header: dict[str, object] = {"__metadata__": dict(notes)}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    header[last[0]] = {"dtype": "I64", "shape": [len(last[1]) // 8], "data_offsets": [end, end + len(last[1])]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in shapes:
            with (path.parent / name).open("rb") as part:
                shutil.copyfileobj(part, file, 1 << 20)
            (path.parent / name).unlink()
        file.write(last[1])


def _write_labels(path: Path, ids: Sequence[str], classes: Sequence[str], gold: PairGold, split: str) -> None:
    """Write the labelled photos as MAKE's and PanDerm's programs read them; nothing without any.

    `filename` and `image` are paths below the folder that all photos have in common, `label` is the place of the class
    in the list of classes, from 0, and `diag` its name.
    """
    places = {name_key(name): number for number, name in enumerate(classes)}
    rows = [(gold.photos[name], gold.classes[name]) for name in ids if name in gold.photos and name in gold.classes]
    rows = [(photo, classes[place]) for photo, label in rows if (place := places.get(name_key(label))) is not None]
    if not rows:
        return
    root = os.path.commonpath([os.path.dirname(photo) for photo, _ in rows])  # noqa: PTH120  paths are text here
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", "image", "label", "diag", "split"])
        for photo, label in rows:
            name = Path(os.path.relpath(photo, root)).as_posix()
            writer.writerow([name, name, places[name_key(label)], label, split])
