"""Segmentation: one binary mask per photo; scored against every annotator, written as official TIFF files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from magic_cli.data.gold import Gold, MaskGold, TaskGold, mask_gold
from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.issues import counted
from magic_cli.data.own_photos.side_files import SideFiles
from magic_cli.data.prepared import MANIFEST, Prepared
from magic_cli.data.prompts import LADDER
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.texts.prompt_ladder import prompted, tells_gold, with_ladder
from magic_cli.data.texts.rewording import QUERY_RULES, reworded_case
from magic_cli.errors import ConfigError, EmptySplit, problem, shorten
from magic_cli.io.progress import log
from magic_cli.io.staging import replace_results
from magic_cli.records import Case, ImageRecord, Mask, Prediction, Sample
from magic_cli.submission.reader import MASKS, SUFFIX, mask_name
from magic_cli.tasks.pretraining_runs import TASK as PRETRAIN
from magic_cli.tasks.seg.decide import MaskPrediction, full_map, to_mask
from magic_cli.tasks.seg.mask_prompt import MaskPrompt, mask_prompt
from magic_cli.tasks.seg.score import score
from magic_cli.training.task import ChosenSettings, Decision, Task, Validated, of_class

if TYPE_CHECKING:
    from magic_cli.config import Config
    from magic_cli.models.export.graph import ExportGraph, GraphOptions
    from magic_cli.setting import SettingValue
    from magic_cli.training.task_model import TaskModel


@dataclass(frozen=True)
class SegDecision(Decision):
    """How probabilities become a mask, what text the model reads, and what masks are asked for in words.

    Attributes:
        threshold: see tasks/seg/decide.py; None: that of the checkpoint, or 0.5; in words, that of each photo.
        largest, fill_holes: as there.
        zero_shot, background, saliency, sam: a text, and more (tasks/seg/mask_prompt.py); None for masks as trained.
        prompt: "own" or a step of the ladder; None: as in training.
        reword: a rule by which the query is reworded; None: as it is.
    """

    threshold: float | None = None
    largest: bool = False
    fill_holes: bool = False
    zero_shot: str | None = None
    background: str | None = None
    saliency: str | None = None
    sam: str | None = None
    prompt: str | None = None
    reword: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no threshold, NaN among it, no prompt, and no rewording of a query."""
        for flag, word, words in (("--prompt", self.prompt, ("own", *LADDER)), ("--reword", self.reword, QUERY_RULES)):
            if word not in (None, *words):
                raise ConfigError(problem(flag, word, f"{', '.join(words)} for seg", "choose one of these"))
        if self.threshold is not None and not (isinstance(self.threshold, int | float) and 0 <= self.threshold < 1):
            raise ConfigError(problem("--threshold", str(self.threshold), "a number in [0, 1)", "give another one"))
        if self.in_words is not None and (self.prompt, self.reword) != (None, None):
            got = "--zero-shot with --prompt or --reword"
            raise ConfigError(problem("magic predict", got, "one text", "leave one out"))

    @property
    def in_words(self) -> MaskPrompt | None:
        """What is asked for in words; None: nothing. Raises ConfigError as `mask_prompt`."""
        return mask_prompt(self.zero_shot, self.background, self.saliency, self.sam)


class SegTask(Task):
    """Segmentation of skin lesions.

    `decision` says what text is read instead of that of the settings, or what masks are asked for in words, for one
    command: the models are then those of pretraining.
    """

    name = "seg"
    title = "segmentation"
    unit = "images"
    count_score = "number_segmentation_instances"
    decision_class = SegDecision
    monitor = "dice_meanofmax"
    headline_scores = ("dice_meanofmax", "jaccard_meanofmax")
    deliverable = "masks"
    outputs = (f"{MASKS}/*{SUFFIX}",)
    score = staticmethod(score)

    def __init__(self, decision: SegDecision | None = None) -> None:
        self.decision = decision or SegDecision()

    @property
    def trained_as(self) -> str:
        """This task, or for masks in words that of pretraining."""
        return self.name if self.decision.in_words is None else PRETRAIN

    @property
    def config_class(self) -> type[Config]:
        """The class of the models' settings."""
        if self.decision.in_words is not None:
            from magic_cli.tasks.pretrain.config import PretrainConfig

            return PretrainConfig
        from magic_cli.tasks.seg.config import SegConfig

        return SegConfig

    def training_samples(self, prepared: Prepared, split: str, config: Config) -> tuple[Sample, ...]:
        """Return one sample per photo that has a mask.

        If the masks were prepared with `--merge each`, a train photo gives one sample per annotator, with the same
        id and that annotator's mask.

        Raises:
            EmptySplit: there are no such photos.
        """
        each = split == "train" and prepared.manifest.settings.merge == "each"
        draws = self._step(config) == "any"
        samples = []
        for image in prepared.images_of(split):
            has_gold = image.mask if split == "train" and not each else image.mask or image.annotators
            if image.path is not None and has_gold:
                encounter = self._asked(prepared.cases[image.case_id], prepared, config)
                if draws and split == "train":
                    encounter = with_ladder(encounter, prepared.questions)
                samples += [Sample(image.image_id, encounter, (photo,)) for photo in _photos(image, each)]
        remedy = f"prepare photos with a mask each, beside them or in masks/; {MANIFEST} says what was left out"
        return _filled(samples, prepared, split, "photos with masks", remedy)

    def prediction_samples(self, prepared: Prepared, split: str, config: Config) -> tuple[Sample, ...]:
        """Return one sample per photo, with a mask or without.

        Raises:
            EmptySplit: there are no photos.
        """
        photos = (image for image in prepared.images_of(split) if image.path is not None)
        cases = prepared.cases
        samples = [Sample(p.image_id, self._asked(cases[p.case_id], prepared, config), (p,)) for p in photos]
        return _filled(samples, prepared, split, "photos", f"see its {MANIFEST}")

    def prediction_warnings(
        self, prepared: Prepared, split: str, samples: Sequence[Sample], config: Config
    ) -> list[str]:
        """Return a line that names the photos which encounters of the split list, and which cannot be predicted."""
        told, predicted = self._told(prepared, config), {sample.id for sample in samples}
        listed = dict.fromkeys(image for case in prepared.cases_of(split) for image in case.image_ids)
        missing = [image for image in listed if image not in predicted]
        if not missing:
            return told
        got = f"{len(missing)} of {len(listed)} listed photos of split {split} are absent or unusable"
        return [*told, f"{got} and get no mask ({shorten(missing)}); {prepared.root / MANIFEST} says why"]

    def data_warnings(self, prepared: Prepared, samples: Sequence[Sample], config: Config) -> list[str]:
        """Return a line if texts tell gold answers."""
        return self._told(prepared, config)

    def _told(self, prepared: Prepared, config: Config) -> list[str]:
        if self.decision.in_words is not None:
            return []
        step = self._step(config)
        step = step if step in LADDER else prepared.manifest.settings.prompt
        got = f"prompt {step} is made from gold answers and classes"
        return [f"{got}: its scores are upper bounds of what a text can give"] if tells_gold(step) else []

    def configured(self, settings: Mapping[str, SettingValue], decision: Decision | None = None) -> SegTask:
        """Return the task with the text that the options name, or what they ask for in words."""
        return self if decision is None else SegTask(of_class(decision, SegDecision))

    def facts(self) -> Mapping[str, SettingValue]:
        """Return what text is read, where an option says so, and what is asked for in words."""
        if self.decision.in_words is not None:
            return self.decision.in_words.facts()
        words = {"prompt": self.decision.prompt, "reword": self.decision.reword}
        return {name: word for name, word in words.items() if word is not None}

    def _step(self, config: Config) -> str:
        """Return the prompt that options or settings name; models of pretraining read none."""
        from magic_cli.tasks.seg.config import SegConfig

        return self.decision.prompt or (config.prompt if isinstance(config, SegConfig) else "own")

    def _asked(self, case: Case, prepared: Prepared, config: Config) -> Case:
        """Return a case with the prompt that is read in prediction and validation."""
        step = self._step(config)
        if step in LADDER:
            return prompted(case, step, prepared.questions)
        return case if self.decision.reword is None else reworded_case(case, self.decision.reword)

    def build(self, config: Config, questions: QuestionSchema) -> TaskModel:
        """Return the untrained model; imports torch."""
        if self.decision.in_words is not None:
            from magic_cli.tasks.pretrain.config import PretrainConfig
            from magic_cli.tasks.pretrain.model.zero_shot_masks import build as build_zero_shot

            return build_zero_shot(of_class(config, PretrainConfig), self.decision.in_words)
        from magic_cli.tasks.seg.config import SegConfig
        from magic_cli.tasks.seg.model import build

        return build(of_class(config, SegConfig), questions)

    def graph(self, model: TaskModel, options: GraphOptions) -> ExportGraph:
        """Return the model as a graph of tensors, for `magic export --onnx`."""
        from magic_cli.tasks.seg.graph import build_graph

        return build_graph(model, options)

    def write(
        self,
        predictions: Iterable[Prediction],
        prepared: Prepared,
        out: Path,
        decision: Decision | None = None,
        beside: SideFiles | None = None,
    ) -> list[Path]:
        """Write out/masks_preds/IMG_*_mask_sys.tiff in one step: uint8 {0, 1}, the photo's (H, W), never empty.

        The masks that run.json in the folder lists go: the official scorer and `package` would treat them as
        predictions of this split.

        Raises:
            DataError: a prediction is not a valid mask, or the folder cannot be written.
        """
        chosen = of_class(decision or SegDecision(), SegDecision)
        names, flat = [], []
        with replace_results(out) as folder:
            for prediction in cast(Iterable[MaskPrediction], predictions):
                if prediction.probability is not None and prediction.probability.min() == prediction.probability.max():
                    flat.append(prediction.id)
                mask: Mask = to_mask(prediction, chosen.threshold, chosen.largest, chosen.fill_holes)
                if beside is not None:
                    probabilities = None if prediction.probability is None else full_map(prediction)
                    mask = beside.mask(folder, prediction.id, mask, probabilities)
                names.append(f"{MASKS}/{mask_name(prediction.id)}")
                write_mask(folder / names[-1], mask)
            names += () if beside is None else beside.finish(folder)
        if flat:
            masks = counted(len(flat), "mask is", "masks are")
            log(f"note: {masks} the whole photo, as the map is the same everywhere: {shorten(flat)}")
        return [out / name for name in names]

    def gold(self, prepared: Prepared, split: str) -> MaskGold:
        """Return the annotators' masks of a split."""
        return mask_gold(prepared, split)

    def gold_in(self, gold: Gold) -> MaskGold:
        """Return the masks in a user's file or folder."""
        return gold.masks

    def choose_settings(self, validated: Sequence[Validated], config: Config) -> ChosenSettings | None:
        """Choose the threshold for the score that the setting `threshold_for` names; None for "none"."""
        from magic_cli.tasks.seg.config import SegConfig

        settings = of_class(config, SegConfig)
        if settings.threshold_for == "none":
            return None
        datasets = [(of_class(gold, MaskGold), cast(Iterable[MaskPrediction], found)) for gold, found in validated]
        from magic_cli.tasks.seg.threshold import best_threshold

        return best_threshold(datasets, settings.threshold_for, settings.threshold)

    def strata(self, samples: Sequence[Sample], questions: QuestionSchema) -> dict[str, tuple[str, ...]]:
        """Return the lesion size per encounter: small, medium or large."""
        from magic_cli.tasks.seg.baselines import lesion_sizes

        return lesion_sizes(samples)

    def baseline_predictions(
        self, parts: Sequence[Sequence[Sample]], questions: QuestionSchema
    ) -> Mapping[str, Iterable[Prediction]]:
        """Return the mean mask of the other parts for the samples of each part."""
        from magic_cli.tasks.seg.baselines import mean_masks

        return {"training mean mask": mean_masks(parts)}

    def baseline_scores(self, train: Sequence[Sample], gold: TaskGold) -> dict[str, float]:
        """Return the scores on `gold` of masks that are all foreground, and of the mean of the training masks."""
        from magic_cli.tasks.seg.baselines import mean_mask_of

        shapes = {image: next(truth.masks()).shape for image, truth in of_class(gold, MaskGold).images.items()}
        trivial: dict[str, Iterable[Prediction]] = {
            "all foreground": (MaskPrediction(image, mask=np.ones(s, np.uint8)) for image, s in shapes.items()),
            "training mean mask": mean_mask_of(train, shapes),
        }
        return {name: self.score(gold, masks).scores[self.monitor] for name, masks in trivial.items()}


TASK = SegTask()


def _filled(
    samples: Sequence[Sample], prepared: Prepared, split: str, expected: str, remedy: str
) -> tuple[Sample, ...]:
    if not samples:
        raise EmptySplit(problem(prepared.root, f"none in split {split!r}", expected, remedy))
    return tuple(samples)


def _photos(image: ImageRecord, each: bool) -> tuple[ImageRecord, ...]:
    """Return the photo with its merged mask, or with `each` once per annotator."""
    if each and image.annotators:
        return tuple(replace(image, mask=path) for _, path in sorted(image.annotators.items()))
    return (image,)
