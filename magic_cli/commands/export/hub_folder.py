"""A trained model as a folder for a model hub: weights, settings, a model card, and whose licences to look at."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from magic_cli.commands.trainings.show import card_facts, run_beside
from magic_cli.errors import CheckpointError, DataError, printable, problem
from magic_cli.io import ownership
from magic_cli.io.files import refuse_existing, sha256, write_text
from magic_cli.io.staging import replace_results
from magic_cli.models.export import hub_format
from magic_cli.models.export.hub_format import CONFIG, WEIGHTS
from magic_cli.models.licences import licence_of, sources
from magic_cli.models.saved_meta import read_model
from magic_cli.records import CheckpointMeta
from magic_cli.report.model_card import card
from magic_cli.training import checkpoint

CARD, LICENCES, SUMS = "README.md", "LICENSE", "SHA256SUMS"


@dataclass(frozen=True)
class HubFolder:
    """A folder that was written.

    Attributes:
        path: the folder.
        files: bytes of each file by its name.
        task: of the model.
        tensors: how many there are.
        parameters: how many numbers they hold.
    """

    path: Path
    files: Mapping[str, int]
    task: str
    tensors: int
    parameters: int

    def to_json(self) -> dict[str, object]:
        """Return `hub` of schemas/exported.schema.json."""
        about = {"out": str(self.path), "files": dict(self.files)}
        return about | {"tensors": self.tensors, "parameters": self.parameters}

    def lines(self) -> list[str]:
        """Return it for the terminal."""
        size = sum(self.files.values()) / 1e6
        content = f"{', '.join(self.files)}; {self.tensors} tensors, {self.parameters:,} numbers, {size:.1f} MB"
        return [
            f"{self.path}: {content}",
            f"read {self.path / CARD} before you share it; `hf upload OWNER/NAME {self.path}` would send it",
            f"next: magic predict {self.task} --ckpt {self.path} gives the same predictions",
        ]


def check_place(out: Path, overwrite: bool) -> None:
    """Refuse a place for the folder before the work begins.

    Raises:
        DataError: it is no folder, or holds something, but no older export (what lies there, such as photos, would be
            shared with the model), or an older export that `overwrite` does not allow to replace.
    """
    if out.exists() and not out.is_dir():
        raise DataError(problem(out, "no folder", "a folder, or a new name", "choose another --hub-folder"))
    if out.is_dir() and any(out.iterdir()):
        owned = ownership.read(out / SUMS)
        if owned is None:
            got, expected = "files, and no older export", "a new folder, or an older export"
            remedy = "choose another --hub-folder; all in it is shared with the model"
            raise DataError(problem(out, got, expected, remedy))
        ownership.refuse_foreign(out, owned.files, (WEIGHTS, CONFIG, CARD, LICENCES))
    refuse_existing(out, overwrite, "--hub-folder")


def check_apart(out: Path, onnx: Path | None) -> None:
    """Refuse an ONNX file that the same call would write into the folder, or in its place.

    Raises:
        DataError: as said.
    """
    if onnx is not None and onnx.resolve().is_relative_to(out.resolve()):
        got, expected = f"a file in --hub-folder {out}", "one outside of it"
        raise DataError(problem(f"--onnx {onnx}", got, expected, "or two calls, the one with --hub-folder first"))


def write_hub_folder(path: Path, out: Path) -> HubFolder:
    """Write a checkpoint as a folder, and read it again before it is put in place.

    Args:
        path: a best.pt.
        out: the folder.

    Raises:
        CheckpointError: the checkpoint cannot be used, or other tensors were read than written. DataError: `out`.
    """
    meta, weights = checkpoint.load_best(path)
    with replace_results(out, SUMS) as folder:
        hub_format.write(folder, hub_format.config_of(asdict(meta), sha256(path)), weights)
        _, again = checkpoint.load_best(folder / WEIGHTS, meta.task)
        if again.keys() != weights.keys() or any(not torch.equal(again[n], weights[n]) for n in weights):
            raise CheckpointError(f"{printable(out)}: other tensors were read than written; check the disk")
        facts = card_facts(read_model(path), run_beside(path.parent))
        write_text(folder / CARD, card(meta, replace(facts, licence_file=LICENCES, checkpoint="FOLDER")))
        write_text(folder / LICENCES, _licences(meta))
        write_text(folder / SUMS, f"# Files of a model that `magic export` wrote; check them with: sha256sum -c {SUMS}")
        files = {name: (folder / name).stat().st_size for name in (WEIGHTS, CONFIG, CARD, LICENCES)}
    numbers = sum(tensor.numel() for tensor in weights.values())
    return HubFolder(out, files, meta.task, len(weights), numbers)


def _licences(meta: CheckpointMeta) -> str:
    """Return a note on whose licences hold: those of the encoders, and of the data, which the user has to name."""
    lines = [
        "Licences of this model",
        "",
        "1. Encoders. The weights began as, or need, those of:",
        *(f"   {source}: {licence_of(source)}" for source in sources(meta.encoders)),
        "2. Training data. What its licence says about models holds too: name the dataset and its licence here.",
        "3. Your own terms: add them here before you share this folder.",
        "",
    ]
    return "\n".join(lines)
