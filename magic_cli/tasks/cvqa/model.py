"""The closed-question model: an encounter's text, hashed words, rule features and photos -> a score per option."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.nn import functional as F

from magic_cli.data.hashed_words import bag_of_words, idf
from magic_cli.data.prompts import written_in
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.text_rules import BLOCKS, rule_features
from magic_cli.data.texts.rewording import reworded_questions
from magic_cli.errors import DataError, problem
from magic_cli.models.answers.stand_in import StandIn, hide
from magic_cli.models.cache.features import Item, encode
from magic_cli.models.encoders import Encoder
from magic_cli.models.fine_tuning import tune
from magic_cli.models.heads import AnchoredHead, AnswerHead, OptionHead, SlotHead, overflow_as_inf
from magic_cli.models.losses import allowed_successors, parent_loss, slot_loss
from magic_cli.records import Sample
from magic_cli.tasks.bottleneck import Seen
from magic_cli.tasks.cvqa.answers import AnswerPrediction, Decode
from magic_cli.tasks.cvqa.batch import CvqaBatch, mean_of_photos
from magic_cli.tasks.cvqa.bottleneck import BottleneckLevels
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.decode import several_slots
from magic_cli.tasks.cvqa.responses import ResponseBatch, ResponseTerm
from magic_cli.tasks.encoding import encoded, gather, gather_all, photo_item, pretrained, text_encoder, text_item
from magic_cli.tasks.pretrain.model.concepts import ConceptReader
from magic_cli.training.processes.unused import nothing_of_photos, shares_steps
from magic_cli.training.task import of_class
from magic_cli.training.task_model import NOT_FINITE, Batch, TaskModel

# Scales of photos, text, hashed words and rules; the last three chosen by five folds over 300 DermaVQA encounters.
_CONCEPTS = 0.6  # as photos; not tuned
_IMAGE, _TEXT, _BAG, _RULES = 0.6, 0.6, 0.6, 0.7

_FEW = 240  # training encounters: the size of a training fold of those 300

_BARRED = -1e4  # score of an impossible option, within half precision


class CvqaModel(TaskModel):
    """Three heads over the same encoders (config.head): "slots", "anchored" and the paper's "options".

    Rows are the (slot, option) pairs in the order of the definitions; slot i owns rows starts[i]:starts[i+1].
    """

    options: Tensor
    rarity: Tensor
    encounters: Tensor

    def __init__(self, config: CvqaConfig, questions: QuestionSchema) -> None:
        super().__init__()
        self.config, self.questions = config, questions
        if config.modality in ("text", "concepts"):
            self.images, self.texts = None, text_encoder(config, config.projected)
        else:
            self.images, self.texts = pretrained(config, "pooled", config.projected)
        for encoder in (self.images, self.texts):
            if encoder is not None:
                tune(encoder, config)
        self.concepts = ConceptReader(config, Path(config.concepts)) if config.concepts else None
        sizes = [q.size for q in questions.slots]
        self.starts = [0, *accumulate(sizes)]
        self.parents = several_slots(questions)
        image_dim = self.images.channels[0] if self.images else 0
        self.reads_text = config.reads_text
        self.reads_words = config.hashed_words if self.reads_text and config.head != "options" else 0
        self.register_buffer("rarity", torch.ones(self.reads_words))
        self.register_buffer("encounters", torch.ones(()))
        self.reads_rules = config.rules and self.reads_text
        self.responses: ResponseTerm | None = None
        self.stand_in: StandIn | None = None
        self.bottleneck = BottleneckLevels.of(self.concepts) if config.modality == "concepts" else None
        if config.head != "options":
            blocks = [(image_dim, _IMAGE)] if image_dim else []
            blocks += [(self.concepts.count, _CONCEPTS)] if self.concepts else []
            blocks += [(self.texts.dim, _TEXT)] if self.reads_text else []
            blocks += [(self.reads_words, _BAG)] if self.reads_words else []
            blocks += [(width, _RULES) for width in BLOCKS] if self.reads_rules else []
            widths, self.weights = zip(*blocks, strict=True)
            term = config.width if config.option_term else 0
            self.head: AnswerHead | OptionHead
            if config.head == "anchored":
                self.head = AnchoredHead(widths, sizes, self.texts.dim, config.dropout)
            else:
                self.head = SlotHead(widths, sizes, self.texts.dim, term, config.dropout)
            by_text = bool(term) or config.head == "anchored"
            options = self._encode_options() if by_text else torch.zeros(self.starts[-1], 0)
            # A text encoder of an earlier run that is trained on is no longer there as it was.
            self.register_buffer("options", options, persistent=by_text and self.texts.origin is not None)
            self._photo_end = image_dim + (self.concepts.count if self.concepts else 0)
            if config.missing == "pool":
                places = [(0, image_dim), (self._photo_end, self._photo_end + self.texts.dim)]
                self.stand_in = StandIn(sum(widths), places, config.pool_size)
            if self.reads_text and config.responses == "apart":
                self.responses = ResponseTerm(self.texts.dim, self.reads_words, sizes, config.dropout)
        else:
            self.head = OptionHead(image_dim, self.texts.dim, config.width, config.dropout)

    @cached_property
    def _rows(self) -> dict[str, list[tuple[str, str]]]:
        """The (question, option) texts of each slot as they are worded, as in the paper (section 4.2.1).

        The challenge tells the slots of a parent apart by a number in front: "2 Where is the affected area?".
        """
        slots = self.questions.slots
        lang = "en" if "en" in slots[0].options else next(iter(slots[0].options))
        return {q.qid: [(_one_line(q.text.get(lang, "")), _one_line(o)) for o in q.options[lang]] for q in slots}

    def read_questions_as(self, wording: str) -> None:
        """Read the questions in other words from now on (data/texts/rewording.py); options keep theirs."""
        self.questions = reworded_questions(self.questions, wording)
        self.__dict__.pop("_rows", None)
        if self.config.head == "anchored" or self.config.option_term:
            self.options = self._encode_options()

    def _encode_options(self) -> Tensor:
        """Return the text vectors (R, T) of all rows; each distinct text is encoded once."""
        rows = [row for slot in self._rows.values() for row in slot]
        distinct = list(dict.fromkeys(rows))
        loaded = [text_item(self.texts, question, option).load() for question, option in distinct]
        vectors = encode(self.texts.eval(), loaded, torch.device("cpu"))["text"]
        index = {row: number for number, row in enumerate(distinct)}
        return vectors[[index[row] for row in rows]]

    def _texts_of(self, sample: Sample) -> list[Item]:
        """Return the encounter's text, or one text per option of its questions (head "options")."""
        if self.config.head != "options":
            return [text_item(self.texts, sample.case.question, "" if self.responses else sample.case.answer)]
        context = _all_text(sample) if self.config.encounter_text and self.reads_text else ""
        rows = [row for qid in sample.qids for row in self._rows[qid]]
        return [text_item(self.texts, f"{question} {option}", context) for question, option in rows]

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view, and every text, whose encoder is frozen."""
        readers = [self.images, self.concepts.images if self.concepts else None]
        for sample in samples:
            for encoder in readers:
                if encoder is not None and encoder.is_frozen:
                    for record in sample.images:
                        for view in range(views):
                            yield encoder, photo_item(encoder, record, view)
            if self.texts.is_frozen and (self.reads_text or self.config.head == "options"):
                for item in self._texts_of(sample):
                    yield self.texts, item
        if self.responses is not None and self.texts.is_frozen:
            for item in self.responses.items(self.texts, samples):
                yield self.texts, item

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> CvqaBatch:
        """Return the photos and texts of the samples, with all other inputs that the settings enable."""
        batch = CvqaBatch([sample.id for sample in samples], [list(sample.qids) for sample in samples])
        batch = replace(batch, wordless=self._wordless(samples))
        if self.images is not None or self.concepts is not None:
            owned = [(n, r, v) for n, (s, v) in enumerate(zip(samples, views, strict=True)) for r in s.images]
            shown = [(record, view) for _, record, view in owned]
            batch = replace(batch, photo_owner=torch.tensor([n for n, _, _ in owned], dtype=torch.long))
            if self.images is not None:
                batch = replace(batch, photos=gather_all(self.images, shown, self.cache))
            if self.concepts is not None:
                batch = replace(batch, seen=gather_all(self.concepts.images, shown, self.cache))
        if self.reads_text or self.config.head == "options":
            texts = [self._texts_of(sample) for sample in samples]
            batch = replace(
                batch,
                texts=gather(self.texts, [item for items in texts for item in items], self.cache),
                text_owner=torch.tensor([n for n, items in enumerate(texts) for _ in items]),
            )
        if self.reads_words:
            words = [bag_of_words(self._own_text(sample), self.reads_words) for sample in samples]
            batch = replace(batch, words=torch.from_numpy(np.stack(words)))
        if self.reads_rules:
            rules = [rule_features(self._written(sample)) for sample in samples]
            batch = replace(batch, rules=torch.from_numpy(np.stack(rules)))
        if self.responses is not None:
            batch = replace(batch, responses=self.responses.collate(self.texts, samples, self.cache))
        if not self.training:
            return batch
        gold = [self._gold(sample) for sample in samples]
        if self.config.head != "options":
            return replace(batch, gold=torch.tensor(gold))
        return replace(batch, asked=[torch.tensor([[index for index in row if index >= 0]]) for row in gold])

    def _written(self, sample: Sample) -> list[tuple[str, str]]:
        """Return (language, text) in the languages that the rules read; the prompt if there is no text in them."""
        languages = self.config.languages
        case = replace(sample.case, answer="") if self.responses else sample.case
        texts = [(lang, written_in(case, lang)) for lang in languages]
        return texts if any(text for _, text in texts) else [(languages[0], self._own_text(sample))]

    def _own_text(self, sample: Sample) -> str:
        """Return what words and rules read: the query, and the responses unless they are inputs of their own."""
        return sample.case.question if self.responses else _all_text(sample)

    def _wordless(self, samples: Sequence[Sample]) -> Tensor | None:
        """Return which samples have no text, bool (B,); None if nothing stands in for it."""
        return None if self.stand_in is None else torch.tensor([not self._own_text(sample) for sample in samples])

    def _gold(self, sample: Sample) -> list[int]:
        """Return the canonical option index of each slot, -1 for slots that the sample does not ask for."""
        row = self.questions.canonical(sample.case.answers or {})
        asked = set(sample.qids)
        return [row[q.qid] if q.qid in asked else -1 for q in self.questions.slots]

    def _photos(self, batch: CvqaBatch) -> Tensor | None:
        """Return the mean of each encounter's photo vectors (paper section 4.2.1); NaN without a photo."""
        if self.images is None:
            return None
        vectors = None if batch.photos is None else encoded(self.images, batch.photos)["pooled"].float()
        means = mean_of_photos(batch, vectors, self.images.channels[0])
        if vectors is None and self.training and shares_steps():
            means = means + nothing_of_photos(self.images, means.device)
        return means

    def _concepts(self, batch: CvqaBatch) -> Tensor | None:
        """Return the mean of each encounter's concept scores over its photos; NaN without a photo."""
        if self.concepts is None:
            return None
        vectors = None if batch.seen is None else encoded(self.concepts.images, batch.seen)["pooled"]
        return mean_of_photos(batch, None if vectors is None else self.concepts(vectors), self.concepts.count)

    def _text_vectors(self, batch: CvqaBatch) -> Tensor:
        if batch.texts is None:
            raise ValueError("a batch without texts")
        return encoded(self.texts, batch.texts)["text"]

    def _inputs(self, batch: CvqaBatch) -> Tensor:
        """Return [image; concepts; text; words; rules] (B, D), NaN where something stands in."""
        parts = [part for part in (self._photos(batch), self._concepts(batch)) if part is not None]
        if self.reads_text:
            parts.append(overflow_as_inf(self._text_vectors(batch).float()))
        if self.reads_words:
            parts.append(F.normalize(of_class(batch.words, Tensor) * self.rarity))
        if self.reads_rules:
            parts.append(of_class(batch.rules, Tensor))
        inputs = torch.cat(parts, 1)
        if batch.wordless is not None:
            inputs[batch.wordless, self._photo_end :] = torch.nan
        if self.training and self.config.modality_dropout:
            groups = (0, self._photo_end), (self._photo_end, inputs.shape[1])
            inputs = hide(inputs, groups, self.config.modality_dropout)
        return inputs

    @torch.no_grad()
    def begin(self, samples: Sequence[Sample]) -> None:
        """Set the input scales and the log prior of each option (counts plus 0.5) from the training samples.

        Raises:
            DataError: the modality needs photos, and no sample has any.
        """
        if self.config.modality != "text" and not any(sample.images for sample in samples):
            raise DataError("no training encounter has a photo; use --modality text, or prepare the folder with photos")
        if not isinstance(self.head, AnswerHead):
            return
        self.eval()
        device = self.head.mean.device
        self.encounters.fill_(len({sample.id for sample in samples}))
        if self.reads_words:
            bags = (bag_of_words(self._own_text(sample), self.reads_words) for sample in samples)
            self.rarity.copy_(torch.from_numpy(idf(bags)))
        if self.responses is not None:
            self.responses.begin(self.texts, samples, self.cache)
        parts = (samples[i : i + 32] for i in range(0, len(samples), 32))
        batches = (self.collate(part, [0] * len(part)) for part in parts)
        inputs = torch.cat([self._inputs(send_to_device(batch, device)) for batch in batches])
        inputs = inputs[~inputs.isnan().any(1)]
        if not len(inputs):
            raise DataError("no training encounter has a photo and a text; use --set missing=mean, or one modality")
        gold = torch.tensor([self._gold(sample) for sample in samples])
        prior = []
        for slot, question in enumerate(self.questions.slots):
            asked = gold[:, slot][gold[:, slot] >= 0]
            counts = torch.bincount(asked, minlength=question.size).float() + 0.5
            prior.append(torch.log(counts / counts.sum()))
        self.head.init_from_data(inputs, torch.cat(prior).to(device), self.weights)
        if self.bottleneck is not None:
            self.bottleneck.begin(inputs)

    def _slot_scores(self, head: AnswerHead, batch: CvqaBatch) -> Tensor:
        return self.scores_of(head, self._inputs(batch))

    def scores_of(self, head: AnswerHead, inputs: Tensor) -> Tensor:
        """Return scores (B, R) of inputs (B, D); NaN is what is missing: the mean stands for it, or a pool."""
        if self.stand_in is not None:
            inputs = self.stand_in(inputs, head.mean, head.scale)
        scores: Tensor = head(torch.where(inputs.isnan(), head.mean, inputs), self.options)
        return scores

    def _option_scores(self, head: OptionHead, batch: CvqaBatch) -> list[Tensor]:
        """Return the scores of each sample's option rows, in the order of its questions."""
        texts, owner = self._text_vectors(batch), of_class(batch.text_owner, Tensor)
        photos = self._photos(batch)
        scores = head(texts, None if photos is None else torch.where(photos.isnan(), 0.0, photos)[owner])
        return list(torch.split(scores, [sum(self._sizes(qids)) for qids in batch.qids]))

    def _sizes(self, qids: Iterable[str]) -> list[int]:
        return [self.questions.by_qid[qid].size for qid in qids]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over the questions of the batch (paper section 4.2.4)."""
        samples = of_class(batch, CvqaBatch)
        if isinstance(self.head, AnswerHead):
            return self._slot_loss(self.head, samples)
        losses = []
        scores = self._option_scores(self.head, samples)
        for rows, qids, gold in zip(scores, samples.qids, samples.asked, strict=True):
            losses.append(slot_loss(rows[None], [0, *accumulate(self._sizes(qids))], gold))
        return torch.stack(losses).mean()

    def _slot_loss(self, head: AnswerHead, batch: CvqaBatch) -> Tensor:
        """Return the loss over slots, plus the losses over parents' sets and weight norms that the settings enable.

        Responses apart: the term of the responses learns what the rest, which does not learn from them, leaves open.
        """
        scores, gold = self._slot_scores(head, batch), of_class(batch.gold, Tensor)
        # 1/n would penalise few encounters too much; 1/sqrt(n) is the rate at which sampling noise shrinks.
        penalty = self.config.group_lasso / torch.maximum(self.encounters, (_FEW * self.encounters).sqrt())
        loss = self._loss_of(scores, gold) + head.group_norms().sum(1).mean() * penalty
        if self.responses is not None:
            answered = of_class(batch.responses, ResponseBatch)
            loss = loss + self.responses.head.group_norms().sum(1).mean() * penalty
            if len(answered.owner):
                term = self.responses(self.texts, answered)
                loss = loss + self._loss_of(scores.detach()[answered.owner] + term, gold[answered.owner])
        return loss

    def _loss_of(self, scores: Tensor, gold: Tensor) -> Tensor:
        """Return the loss over slots, and over parents' sets, of scores (B, R)."""
        if self.config.joint_slots:
            scores = scores.masked_fill(~allowed_successors(self.starts, self.parents, gold), _BARRED)
        loss = slot_loss(scores, self.starts, gold)
        if self.config.hierarchy and self.parents:
            several = [slots for slots, _ in self.parents]
            loss = loss + self.config.hierarchy * parent_loss(scores, self.starts, several, gold)
        return loss

    def predict(self, batch: Batch, view: int) -> list[AnswerPrediction]:  # noqa: ARG002  scores have no direction to undo
        """Return (options,) float32 probabilities of each sample's slots, and the setting for deciding them."""
        samples = of_class(batch, CvqaBatch)
        seen: Sequence[Seen] = [()] * len(samples.ids)
        if isinstance(self.head, AnswerHead):
            rows = self.scores_of(self.head, inputs := self._inputs(samples))
            seen = self.bottleneck.seen(of_class(self.head, SlotHead), inputs) if self.bottleneck else seen
            if self.responses is not None:
                rows = self.responses.added(rows, self.texts, of_class(samples.responses, ResponseBatch))
            scores = list(rows.float().cpu())
        else:
            scores = [row.float().cpu() for row in self._option_scores(self.head, samples)]
        if wrong := [name for name, row in zip(samples.ids, scores, strict=True) if not np.isfinite(row.numpy()).all()]:
            raise DataError(problem(wrong[0], "scores that are no numbers", "finite ones", NOT_FINITE))
        decode: Decode = "set" if self.config.decode == "set" else "slot"
        predictions, warm = [], self.config.temperature
        for name, qids, row, evidence in zip(samples.ids, samples.qids, scores, seen, strict=True):
            asked = list(self.questions.by_qid) if isinstance(self.head, AnswerHead) else qids
            parts = torch.split(row, self._sizes(asked))
            # copies: all predictions stay in memory, and each tensor view would take a kilobyte for a few numbers
            probabilities = {q: torch.softmax(p / warm, 0).numpy().copy() for q, p in zip(asked, parts, strict=True)}
            predictions.append(AnswerPrediction(name, probabilities, decode=decode, seen=evidence))
        return predictions


def _all_text(sample: Sample) -> str:
    """Return the question and answer texts of an encounter, joined."""
    return f"{sample.case.question} {sample.case.answer}".strip()


def build(config: CvqaConfig, questions: QuestionSchema) -> CvqaModel:
    """Return the untrained model."""
    return CvqaModel(config, questions)


def _one_line(text: str) -> str:
    return " ".join(text.split())
