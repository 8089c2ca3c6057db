"""`magic index build` and `add`: prepared photos, encoded by a trained model, in an index.

A photo is encoded once: one whose content the index has already is skipped, so a killed call goes on where it stopped
when it is given again, and several processes (accelerate launch) share the photos.
"""

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from magic_cli import tasks
from magic_cli.commands.index import GROUP, LABEL, Batch, IndexAdded, add_batches, building, content_hash, unchanged
from magic_cli.commands.run_setup import RUNS
from magic_cli.data.datasets import open_dataset
from magic_cli.data.imaging.images import open_record
from magic_cli.data.index import kind_of, open_index
from magic_cli.data.index.base import CaseIndex, IndexedCase, IndexInfo, in_batches
from magic_cli.data.prepared import Prepared
from magic_cli.data.retrieval.queries import labelled_samples, photo_samples, query_of, with_class
from magic_cli.data.sources.source import CONCEPTS, LABEL_PATH
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.data.texts.query_text import NAMES
from magic_cli.errors import ConfigError, DataError, problem, shorten
from magic_cli.io.files import StrPath, sha256, write_atomic
from magic_cli.io.progress import loading_torch, log, track
from magic_cli.records import SPLITS, Sample
from magic_cli.report.search.votes import PROOFS
from magic_cli.training.case_encoder import CaseEncoder
from magic_cli.training.runtime import RuntimeOptions

_COMMON = (LABEL, "site", "sex", "age", "age_band", "skin_type", "source")

_COARSER = "diagnosis_"  # coarser diagnoses: diagnosis_3 of Derm7pt

_EXACT = "diagnosis_exact"  # the diagnosis itself, where a coarser one is the class

_THUMB = 320  # pixels, the longer side

_AT_ONCE = 64  # photos between two commits: what a kill costs

_ENCODERS = ("retrieve", "pretrain")  # tasks whose models encode cases, in the order in which runs/ is looked through

_PAIRS = (200, 300)  # validation queries and photos from which the scores of one class are measured


@dataclass(frozen=True)
class IndexOptions:
    """Options of `index_build` and `index_add`, with the defaults of the command line.

    Attributes:
        splits: the splits of the prepared dataset that are indexed.
        fields: what is kept of each case, by names of its attributes, beside "diagnosis"; () for all that queries can
            tell, how the diagnosis was made, and coarser ones, or, on a server, for the diagnosis alone. Other columns
            may hold notes, paths or names of patients.
        dtype: of the stored vectors; float16 takes half the space.
        thumbs: keep a small picture of each photo; not on a server.
        limit: index only so many photos, the first ones.
        weights: folder of Hugging Face checkpoints; None: as in training.
        rebuild: build anew in the place of an older index, which is searched until the new one is complete.
        runtime: device and cache.
    """

    splits: Sequence[str] = ("train",)
    fields: Sequence[str] = ()
    dtype: str = "float32"
    thumbs: bool = True
    limit: int | None = None
    weights: StrPath | None = None
    rebuild: bool = False
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        """Refuse what the command line would refuse."""
        unknown = [split for split in self.splits if split not in SPLITS]
        if unknown or not self.splits:
            raise ConfigError(problem("--split", ", ".join(unknown) or "none", "train, valid or test", "choose some"))
        if self.dtype not in ("float32", "float16"):
            raise ConfigError(problem("--dtype", self.dtype, "float32 or float16", "choose one of these"))


_DEFAULTS = IndexOptions()


def index_build(
    index: StrPath, ckpt: StrPath, data: StrPath = "prepared", options: IndexOptions = _DEFAULTS
) -> IndexAdded:
    """Encode the photos of a prepared dataset into a new index; go on with one that was begun alike.

    Args:
        index: a folder, "lance:FOLDER", or "http(s)://HOST:6333/COLLECTION".
        ckpt: best.pt of `magic train retrieve` or `pretrain`, or its run folder.
        data: folder that `prepare` wrote.
        options: what is kept, and how.

    Raises:
        ConfigError: a model that does not compare cases. DataError: another index is there already.
        MagicError: any other of its kinds.
    """
    prepared = open_dataset(Path(data))[0]
    model = _Model.load(ckpt, prepared, options)
    samples = _samples(prepared, options, model.classes)
    about = _info(model, prepared, samples, _fields(str(index), samples, options), options)
    line = _add_line(index, ckpt, data, options)
    with building(location_of(index), about, options.rebuild, model.is_first, _wait_for_others, line) as target:
        model.keep(index)
        result = _filled(target, index, model, samples[: options.limit], options)
    model.keep_alone(index)
    return result


def index_add(
    index: StrPath, data: StrPath = "prepared", ckpt: StrPath | None = None, options: IndexOptions = _DEFAULTS
) -> IndexAdded:
    """Encode further photos into an index; those that it has already are skipped.

    Args:
        index: as for `index_build`.
        data: folder that `prepare` wrote.
        ckpt: the model that built it; None: the one that the index folder keeps, or that of a run in runs/.
        options: `fields`, `dtype` and `rebuild` do not matter: the index has its own.

    Raises:
        DataError: there is no such index, or another model built it. MagicError: any other of its kinds.
    """
    prepared = open_dataset(Path(data))[0]
    with open_index(location_of(index)) as target:
        model = _Model.load(model_of(index, target.info, ckpt), prepared, options)
        target.check_model(model.sha256)
        return _filled(target, index, model, _samples(prepared, options, model.classes)[: options.limit], options)


def _add_line(index: StrPath, ckpt: StrPath, data: StrPath, options: IndexOptions) -> str:
    """Return the command line that adds the photos of a call of `index_build`; a folder keeps the model."""
    words = ["magic", "index", "add", os.fspath(index)]
    words += ["--data", os.fspath(data)] if Path(data) != Path("prepared") else []
    words += ["--ckpt", os.fspath(ckpt)] if folder_of(index) is None else []
    words += [word for split in options.splits for word in ("--split", split)]
    words += ["--limit", str(options.limit)] if options.limit is not None else []
    words += [] if options.thumbs else ["--no-thumbs"]
    words += ["--weights", os.fspath(options.weights)] if options.weights is not None else []
    return shlex.join(words)


@dataclass(frozen=True, eq=False)
class _Model:
    """A trained model as an encoder of cases, its file, and this process among those that share the photos.

    `classes` is the attribute that was the class of a case in its training; "": the diagnosis.
    """

    file: Path
    sha256: str
    classes: str
    encoder: CaseEncoder
    rank: int
    processes: int

    @classmethod
    def load(cls, ckpt: StrPath, prepared: Prepared, options: IndexOptions) -> "_Model":
        with loading_torch():
            from magic_cli.training import checkpoint

        path = one_checkpoint(ckpt)
        encoder, rank, processes = encoder_of(path, prepared, options.weights, options.runtime)
        classes = str(checkpoint.best_meta(path)["config"].get("classes", ""))
        return cls(path, sha256(path), classes, encoder, rank, processes)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def keep(self, index: StrPath) -> None:
        """Copy the model into an index folder, so that a search needs nothing else."""
        folder = folder_of(index)
        if folder is not None and self.is_first:
            kept, data = folder / model_name(self.sha256), self.file.read_bytes()
            write_atomic(kept, lambda file: file.write(data))

    def keep_alone(self, index: StrPath) -> None:
        """Remove models of older indexes from an index folder."""
        folder = folder_of(index) if self.is_first else None
        for path in () if folder is None else folder.glob(model_name("?" * 12)):
            if path.name != model_name(self.sha256):
                path.unlink(missing_ok=True)


def one_checkpoint(ckpt: StrPath) -> Path:
    """Return the checkpoint that a path means; raises ConfigError for several."""
    with loading_torch():
        from magic_cli.training import checkpoint

    name = Path(ckpt)
    tasks_there = [task for task in _ENCODERS if (RUNS / task / name).exists()]
    paths, note = checkpoint.find(name, tasks_there[0] if tasks_there else _ENCODERS[0])
    if note:
        log(note)
    if len(paths) != 1:
        raise ConfigError(problem("--ckpt", f"{len(paths)} checkpoints", "one", "name one best.pt"))
    return paths[0]


def encoder_of(
    path: Path, prepared: Prepared | None, weights: StrPath | None, options: RuntimeOptions
) -> tuple[CaseEncoder, int, int]:
    """Return a checkpoint's model as an encoder of cases on its device, the rank of this process, and their number."""
    with loading_torch():
        from magic_cli.training import checkpoint
        from magic_cli.training.devices import accelerator_for
        from magic_cli.training.restoring import restored

    task = tasks.get(str(checkpoint.best_meta(path)["task"]))
    model, config = restored(path, task, prepared, weights)
    runtime = options.runtime()
    accelerator = accelerator_for(config, runtime.device)
    model.to(accelerator.device)
    return task.case_encoder(model), accelerator.process_index, accelerator.num_processes


def model_name(digest: str) -> str:
    """Return the name under which an index folder keeps the model of this SHA-256."""
    return f"model-{digest[:12]}.pt"


def folder_of(index: StrPath) -> Path | None:
    """Return the folder of an index that is one; None for a database, a server, or an empty name."""
    text = os.fspath(index)
    return Path(text) if text and kind_of(text) == "folder" else None


def model_of(index: StrPath, about: IndexInfo, ckpt: StrPath | None) -> Path:
    """Return the checkpoint to read an index with: the one given, the one in its folder, or that of a run here.

    Raises:
        ConfigError: there is none.
    """
    if ckpt is not None:
        return one_checkpoint(ckpt)
    folder = folder_of(index)
    kept = None if folder is None else folder / model_name(about.model_sha256)
    if kept is not None and kept.is_file():
        return kept
    for path in (RUNS / task / "best.pt" for task in _ENCODERS):
        if path.is_file() and sha256(path) == about.model_sha256:
            log(f"note: using {path}, which built the index")
            return path
    got = "no model" if kept is None else f"no {kept.name} in it"
    raise ConfigError(problem(os.fspath(index), got, "the model that built it", "give its file with --ckpt FILE"))


def location_of(index: StrPath) -> str | Path:
    """Return an index as data/index/ has it: the path of a folder, or the text of another place."""
    return folder_of(index) or os.fspath(index)


def _samples(prepared: Prepared, options: IndexOptions, classes: str = "") -> list[Sample]:
    """Return the photos to index; those without class and closed answers are counted: nobody could compare with them.

    Closed answers are what `magic predict cvqa --neighbours` looks up. Where an attribute is the class, the diagnosis
    is kept as `_EXACT`.
    """
    photos = [_of_class(s, classes) for split in options.splits for s in photo_samples(prepared, split)]
    known = [sample for sample in photos if class_of(sample.case) or sample.case.answers is not None]
    if len(known) < len(photos):
        left_out = f"{len(photos) - len(known):,} of {len(photos):,} photos"
        log(f"note: {left_out} have neither class nor answers and are left out")
    if not known:
        got = f"no photo with a class or answers in split {' or '.join(options.splits)}"
        raise DataError(problem(prepared.root, got, "at least one", "prepare a dataset with classes (--map label=)"))
    return known


def _of_class(sample: Sample, classes: str) -> Sample:
    made, exact = with_class(sample, classes), class_of(sample.case)
    if not classes or not exact:
        return made
    return replace(made, case=replace(made.case, attributes={**made.case.attributes, _EXACT: exact}))


def _fields(index: str, samples: Sequence[Sample], options: IndexOptions) -> tuple[str, ...]:
    """Return the names of the fields that are kept."""
    named = {name for sample in samples for name in sample.case.attributes}
    if options.fields:
        absent = sorted(set(options.fields) - named - {LABEL, GROUP})
        if absent:
            there = shorten(sorted(named), 20) or "none but the diagnosis"
            log(f"note: no case has {shorten(absent, 20)}, which --fields names; fields of these cases: {there}")
        return tuple(dict.fromkeys((LABEL, *options.fields)))
    if kind_of(index) == "qdrant":  # what leaves the machine is named, field by field
        return (LABEL,)
    kept = [name for name in _COMMON if name == LABEL or name in named]
    known = {name for name in named if name in (*NAMES, *PROOFS) or name.startswith(_COARSER)} - set(kept)
    known.discard(CONCEPTS)
    left_out = sorted(named - known - set(kept) - {LABEL_PATH, CONCEPTS})
    if left_out:
        log(f"note: fields that are not kept, unless --fields names them: {shorten(left_out, 20)}")
    return tuple(dict.fromkeys((*kept, GROUP, *sorted(known))))


def _info(
    model: _Model, prepared: Prepared, samples: Sequence[Sample], fields: tuple[str, ...], options: IndexOptions
) -> IndexInfo:
    encoder = model.encoder
    return IndexInfo(
        model_sha256=model.sha256,
        parts=encoder.parts,
        beta=encoder.beta,
        preprocessing=encoder.preprocessing,
        regions=encoder.region_count,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        licences=tuple(sorted({licence for sample in samples if (licence := sample.case.licence)})),
        fields=fields,
        dataset=prepared.manifest.settings.source or prepared.root.name,
        dtype="float16" if options.dtype == "float16" else "float32",
        low_score=_low_score(model, prepared, samples),
    )


def _low_score(model: _Model, prepared: Prepared, samples: Sequence[Sample]) -> float | None:
    """Return what 95 % of the pairs of a validation query and a photo of its class reach; None without queries."""
    encoder, known = model.encoder, {sample.id for sample in samples}
    asking = labelled_samples(prepared, "valid", model.classes)
    queries = [sample for sample in asking if sample.id not in known][: _PAIRS[0]]
    if not queries:
        return None
    photos = samples[:: max(1, len(samples) // _PAIRS[1])]
    vectors, scores = encoder.photos(photos), []
    classes = np.array([class_of(photo.case) for photo in photos])
    for sample in queries:
        asked = encoder.query(open_record(sample.images[0]), query_of(sample.case))
        scores.append(vectors[classes == class_of(sample.case)] @ asked.vector / asked.weight)
    joined = np.concatenate(scores)
    return float(np.percentile(joined, 5)) if joined.size else None


def _wait_for_others() -> None:
    from accelerate import PartialState

    PartialState().wait_for_everyone()


def _filled(
    target: CaseIndex, place: StrPath, model: _Model, samples: Sequence[Sample], options: IndexOptions
) -> IndexAdded:
    """Encode what the index does not have, this process's share of it."""
    about, folder = target.info, folder_of(place)
    cases = {sample.id: _case(sample, about, options.thumbs and folder is not None) for sample in samples}
    there = unchanged(target, cases.values())
    wanted, before = [sample for sample in samples if sample.id not in there], target.contents()
    _wait_for_others()  # what one adds before another has looked would be missing in the shares of that one
    share = wanted[model.rank :: model.processes]

    def batches() -> Iterator[Batch]:
        for part in track(list(in_batches(share, _AT_ONCE)), "indexing"):
            if folder is not None and options.thumbs:
                for sample in part:
                    _write_thumb(sample, folder / cases[sample.id].thumb)
            yield [cases[sample.id] for sample in part], model.encoder.photos(part)

    result = add_batches(str(place), target, batches())
    _wait_for_others()
    own = replace(result, skipped=result.skipped + len(there), cases=len(target), ckpt=str(model.file))
    replaced = sum(sample.id in before for sample in wanted)
    return own if model.processes == 1 else replace(own, added=len(wanted) - replaced, replaced=replaced)


def _case(sample: Sample, about: IndexInfo, has_thumb: bool) -> IndexedCase:
    """Return a case as it is stored; its content begins with the SHA-256 of the photo, so that copies are found."""
    photo, fields = sample.images[0], _values(sample, about.fields)
    content = f"{photo.content_key} {content_hash(str(photo.upright), fields, about.fields)[:16]}"
    thumb = f"thumbs/{hash_of(f'{sample.id} {photo.content_key} {photo.upright}')}.jpg" if has_thumb else ""
    return IndexedCase(sample.id, fields, content, thumb)


def _values(sample: Sample, names: Sequence[str]) -> Mapping[str, str]:
    """Return the fields of a case; its group is hashed, as it may name a patient."""
    case = sample.case
    own = {LABEL: class_of(case), GROUP: hash_of(case.group_id or case.case_id)}
    values = {**case.attributes, **own}
    return {name: str(values[name]) for name in names if values.get(name) not in (None, "")}


def hash_of(name: str) -> str:
    """Return 16 digits of the SHA-256 of a name."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _write_thumb(sample: Sample, path: Path) -> None:
    """Write a photo as a small JPEG without metadata, unless it is there; its name tells nothing."""
    if not path.is_file():
        photo = open_record(sample.images[0], at_least=_THUMB)
        photo.thumbnail((_THUMB, _THUMB))
        write_atomic(path, lambda file: photo.save(file, "JPEG", quality=85))
