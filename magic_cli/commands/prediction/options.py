"""Options of `magic predict`, with the defaults of the command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from magic_cli.commands.cases.neighbours import NeighbourOptions
from magic_cli.errors import ConfigError, problem
from magic_cli.io.files import StrPath
from magic_cli.setting import SettingValue
from magic_cli.training.runtime import RuntimeOptions

MOST_NEIGHBOURS = 1000

MOST_ZOOM = 16

DEPTHS = (8, 16)
"""Bits of a pixel of probabilities."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`, with the defaults of the command line.

    Attributes:
        tta: average over flipped views: four, or those of the setting `tta`; None: as that setting says.
        zoom: for seg: look again at small lesions, at a part of the photo of so many sides of the first mask (at the
            checkpoint's threshold), above 1 to 16; 0: do not; None: as the checkpoint's setting `zoom` says.
        threshold, largest, fill_holes: for seg: probability above which a pixel is foreground (None: that of the
            checkpoint); keep only the largest region; fill holes.
        zero_shot: for seg: a text; masks are where a photo is like it, by a model of pretraining. background: a text
            whose similarity is taken off. saliency: "similarity" (None) or "gradient". sam: a SAM of the Hub that makes
            a mask of the box around the largest region.
        prompt: for seg: "own", the prepared text, or a step of the prompt ladder, "p0" to "p9"; None: as trained.
        reword: for seg and cvqa, a rule by which the query is reworded; for cvqa, a wording of the closed questions
            (data/texts/rewording.py); for pretrain, other sentences about classes (tasks/pretrain/prompts.py).
        decode: for cvqa: "slot" or "set"; None: as in training.
        classes, concepts, templates: for pretrain: what is asked, instead of the classes and concepts of the split:
            names divided by commas, or a file; a file of concepts; a file of sentences with {} for the class.
        presence: for pretrain: also write how like each class the likest place on a photo is (presence.csv).
        probe: for pretrain: fit linear probes on frozen vectors of split train and score them on the split, instead.
        attributes: with `probe`: names divided by commas that vectors may tell, such as "sex,age", instead of classes.
        neighbours: for cvqa: a case index (`magic index build`); the answers of similar cases of split train are
            weighed in. neighbours_ckpt: the model that built it; None: the one that its folder keeps.
        neighbour_count: how many cases.
        neighbour_weight: their share of the probabilities, in [0, 1]; None: chosen on split valid.
        gallery: for retrieve: "train", split train is ranked, or "loo", the queries' own split without their own group;
            None: "train".
        controls: for retrieve: also write the rankings of controls, a folder each in controls/.
        beir: for retrieve: also write queries, gallery and judgements as a BEIR folder, with the words of both.
        images: photos, files and folders, to predict instead of a split (data/own_photos/files.py).
        text: what is written about them: words or a text file for one case, or a table (data/own_photos/texts.py).
        overlays: for seg: also write each photo with its mask; None: for `images`.
        probabilities: for seg: also write the probabilities as grey PNG of so many bits a pixel, 8 or 16.
        limit: predict only so many samples, the first ones.
        precision: no, bf16 or fp16; None: as in training.
        weights: folder of Hugging Face checkpoints; None: as in training.
        overwrite: replace older predictions.
        dry_run: load the checkpoints and count the samples; write nothing.
        runtime: device and cache.
        classes_by: for pretrain: fit a linear model on split train that reads "concepts" (a concept bottleneck), units
            of a "sparse" autoencoder, "joint" vectors, or the "encoder"'s own, and take its classes, not prompts'.
        sparse: of classes_by="sparse", units and how many are active at once, "256,16"; None: these.
        what_if: of a concept bottleneck, for pretrain and cvqa: also say what it answers to one case with concepts
            absent or present, "ENC00001: ulcer=absent, scale=present".
    """

    tta: bool | None = None
    threshold: float | None = None
    largest: bool = False
    fill_holes: bool = False
    zero_shot: str | None = None
    background: str | None = None
    saliency: str | None = None
    sam: str | None = None
    prompt: str | None = None
    reword: str | None = None
    decode: str | None = None
    classes: str | None = None
    concepts: StrPath | None = None
    templates: StrPath | None = None
    presence: bool = False
    probe: bool = False
    neighbours: StrPath | None = None
    neighbours_ckpt: StrPath | None = None
    neighbour_count: int = 10
    neighbour_weight: float | None = None
    gallery: str | None = None
    controls: bool = False
    beir: bool = False
    images: Sequence[StrPath] = ()
    text: str | None = None
    overlays: bool | None = None
    probabilities: int | None = None
    limit: int | None = None
    precision: str | None = None
    weights: StrPath | None = None
    overwrite: bool = False
    dry_run: bool = False
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    classes_by: str | None = None
    sparse: str | None = None
    what_if: str | None = None
    attributes: str | None = None
    zoom: float | None = None

    def __post_init__(self) -> None:
        """Refuse what the command line would refuse."""
        if self.limit is not None and not (isinstance(self.limit, int) and self.limit >= 1):
            raise ConfigError(problem("--limit", str(self.limit), "a whole number from 1", "give a larger one"))
        if self.zoom is not None and not (self.zoom == 0 or 1 < self.zoom <= MOST_ZOOM):
            expected = f"0 for one look, or a number above 1 to {MOST_ZOOM}"
            raise ConfigError(problem("--zoom", str(self.zoom), expected, "2 is that of the presets"))
        if self.gallery not in (None, "train", "loo"):
            raise ConfigError(problem("--gallery", str(self.gallery), "train or loo", "choose one of these"))
        if not (isinstance(self.neighbour_count, int) and 1 <= self.neighbour_count <= MOST_NEIGHBOURS):
            expected = f"a whole number from 1 to {MOST_NEIGHBOURS}"
            raise ConfigError(problem("--neighbour-count", str(self.neighbour_count), expected, "give another one"))
        if self.neighbour_weight is not None and not 0 <= self.neighbour_weight <= 1:
            raise ConfigError(problem("--neighbour-weight", str(self.neighbour_weight), "0 to 1", "give another one"))
        if self.neighbours is None and (self.neighbours_ckpt, self.neighbour_weight) != (None, None):
            got = "--neighbours-ckpt or --neighbour-weight alone"
            raise ConfigError(problem("magic predict", got, "--neighbours PLACE with it", "name the index"))

        if self.attributes is not None and not (self.probe and self.attributes.strip(", ")):
            got = f"--attributes {self.attributes!r}{'' if self.probe else ' without --probe'}"
            raise ConfigError(problem("magic predict", got, "--probe and names, such as sex,age", "add them"))
        if self.probabilities not in (None, *DEPTHS):
            got, expected = str(self.probabilities), "8 or 16 bits a pixel"
            raise ConfigError(problem("--probabilities", got, expected, "choose one of these"))
        self._check_own_photos()

    def _check_own_photos(self) -> None:
        if isinstance(self.images, str):
            raise ConfigError(problem("images", "one text", "a list of paths", "put it into brackets"))
        if self.text is not None and not self.images:
            raise ConfigError(problem("--text", "it without --images", "photos that it is about", "name them"))
        of_datasets = {
            "--neighbours": self.neighbours is not None,
            "--probe": self.probe,
            "--classes-by": self.classes_by is not None,
            "--gallery": self.gallery is not None,
            "--controls": self.controls,
            "--beir": self.beir,
            "--prompt": self.prompt is not None,
        }
        given = [name for name, is_given in of_datasets.items() if is_given and self.images]
        if given:
            got = f"{', '.join(given)} with --images"
            raise ConfigError(
                problem("magic predict", got, "a prepared dataset for it", "leave it out, or give --data")
            )

    @property
    def decided(self) -> dict[str, SettingValue | None]:
        """The options that only some tasks have (training/task.py, `Decision`)."""
        files = {name: None if path is None else str(path) for name, path in self.lists.items()}
        flags = {"threshold": self.threshold, "largest": self.largest, "fill_holes": self.fill_holes}
        words: dict[str, str | None] = {"prompt": self.prompt, "reword": self.reword}
        ranked = {"gallery": self.gallery, "controls": self.controls, "beir": self.beir}
        words |= {name: getattr(self, name) for name in ("zero_shot", "background", "saliency", "sam")}
        read = {"classes_by": self.classes_by, "sparse": self.sparse, "what_if": self.what_if}
        fitted = {"presence": self.presence, "probe": self.probe, "attributes": self.attributes, **read}
        return {**flags, **words, **ranked, **fitted, "decode": self.decode, "classes": self.classes, **files}

    @property
    def fits(self) -> bool:
        """Whether linear models are fitted on split train, instead of predicting with checkpoints alone."""
        return self.probe or self.classes_by is not None

    @property
    def similar(self) -> NeighbourOptions | None:
        """Where similar cases are looked for; None: nowhere."""
        if self.neighbours is None:
            return None
        place, count = os.fspath(self.neighbours), self.neighbour_count
        return NeighbourOptions(place, self.neighbours_ckpt, count, self.weights, self.runtime)

    @property
    def lists(self) -> dict[str, StrPath | None]:
        """The files of what is asked."""
        return {"concepts": self.concepts, "templates": self.templates}
