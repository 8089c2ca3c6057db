"""The closed-VQA model: encounter text, its words, rules and all photos of an encounter -> a score for every option."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.nn import functional as F

from magic_cli.data.hashed_words import bag_of_words, idf
from magic_cli.data.prompts import written_in
from magic_cli.data.questions import QuestionSchema, normalise, plain
from magic_cli.data.text_rules import BLOCKS, rule_features
from magic_cli.errors import DataError
from magic_cli.models.cache.features import Item, encode
from magic_cli.models.encoders import Encoder
from magic_cli.models.fine_tuning import set_finetuning
from magic_cli.models.heads import OptionHead, SlotHead
from magic_cli.models.losses import allowed_successors, parent_loss, slot_loss
from magic_cli.records import Sample
from magic_cli.tasks.cvqa.answers import AnswerPrediction, Decode
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.encoding import encoded, gather, photo_item, pretrained, text_encoder, text_item
from magic_cli.training.task_model import Batch, TaskModel

# Of photos, text, its words, each kind of rules: the last three chosen by five folds over 300 DermaVQA encounters.
_IMAGE, _TEXT, _BAG, _RULES = 0.6, 0.6, 0.6, 0.7

_FEW = 240  # training encounters; that many are in a fold of those 300

_BARRED = -1e4  # a score of no chance, which half precision can hold


class CvqaModel(TaskModel):
    """Two heads over the same encoders (config.head): "slots" and the paper's "options".

    Rows are the (slot, option) pairs in the order of the definitions; slot i owns rows starts[i]:starts[i+1].
    """

    options: Tensor
    rarity: Tensor
    encounters: Tensor

    def __init__(self, config: CvqaConfig, questions: QuestionSchema) -> None:
        super().__init__()
        self.config, self.questions = config, questions
        if config.modality == "text":
            self.images, self.texts = None, text_encoder(config)
        else:
            self.images, self.texts = pretrained(config, pooled=True)
        for encoder in (self.images, self.texts):
            if encoder is not None:
                set_finetuning(encoder, config.finetune, config.rank)
        sizes = [q.size for q in questions.slots]
        self.starts = [0, *accumulate(sizes)]
        self.parents = _grouped(questions)
        image_dim = self.images.channels[0] if self.images else 0
        self.reads_text = config.modality != "image"
        self.reads_bag = config.hashed_words if self.reads_text and config.head == "slots" else 0
        self.register_buffer("rarity", torch.ones(self.reads_bag))
        self.register_buffer("encounters", torch.ones(()))
        self.reads_rules = config.rules and self.reads_text
        if config.head == "slots":
            blocks = [(image_dim, _IMAGE)] if image_dim else []
            blocks += [(self.texts.dim, _TEXT)] if self.reads_text else []
            blocks += [(self.reads_bag, _BAG)] if self.reads_bag else []
            blocks += [(width, _RULES) for width in BLOCKS] if self.reads_rules else []
            widths, self.weights = zip(*blocks, strict=True)
            term = config.width if config.option_term else 0
            self.head: SlotHead | OptionHead = SlotHead(widths, sizes, self.texts.dim, term, config.dropout)
            options = self._encode_options() if term else torch.zeros(self.starts[-1], 0)
            self.register_buffer("options", options, persistent=False)
        else:
            self.head = OptionHead(image_dim, self.texts.dim, config.width, config.dropout)

    @cached_property
    def _rows(self) -> dict[str, list[tuple[str, str]]]:
        """The (question, option) texts of each slot, cleaned of the slots' numbers and "(please specify)"."""
        slots = self.questions.slots
        lang = "en" if "en" in slots[0].options else next(iter(slots[0].options))
        return {q.qid: [(normalise(q.text.get(lang, "")), plain(o)) for o in q.options[lang]] for q in slots}

    def _encode_options(self) -> Tensor:
        """Return the text vectors (R, T) of all rows; each distinct text is encoded once."""
        rows = [row for slot in self._rows.values() for row in slot]
        distinct = list(dict.fromkeys(rows))
        loaded = [text_item(self.texts, question, option).load() for question, option in distinct]
        vectors = encode(self.texts.eval(), loaded, torch.device("cpu"))["text"]
        place = {row: number for number, row in enumerate(distinct)}
        return vectors[[place[row] for row in rows]]

    def _texts_of(self, sample: Sample) -> list[Item]:
        """Return the encounter's text (head "slots"), or one text an option of its questions (head "options")."""
        if self.config.head == "slots":
            return [text_item(self.texts, sample.case.question, sample.case.answer)]
        told = _told(sample) if self.config.encounter_text and self.reads_text else ""
        rows = [row for qid in sample.qids for row in self._rows[qid]]
        return [text_item(self.texts, f"{question} {option}", told) for question, option in rows]

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view and every text, for the encoders that are frozen."""
        for sample in samples:
            if self.images is not None and self.images.is_frozen:
                for record in sample.images:
                    for view in range(views):
                        yield self.images, photo_item(self.images, record, view)
            if self.texts.is_frozen and (self.reads_text or self.config.head == "options"):
                for item in self._texts_of(sample):
                    yield self.texts, item

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> Batch:
        """Return all photos and texts of the samples, flat, with the sample each belongs to."""
        batch: Batch = {"ids": [s.id for s in samples], "qids": [list(s.qids) for s in samples]}
        if self.images is not None:
            owned = [(n, r, v) for n, (s, v) in enumerate(zip(samples, views, strict=True)) for r in s.images]
            batch["photo_owner"] = torch.tensor([n for n, _, _ in owned], dtype=torch.long)
            if owned:
                items = [photo_item(self.images, record, view) for _, record, view in owned]
                batch["photos"] = gather(self.images, items, self.cache)
        if self.reads_text or self.config.head == "options":
            texts = [self._texts_of(sample) for sample in samples]
            batch["texts"] = gather(self.texts, [item for items in texts for item in items], self.cache)
            batch["text_owner"] = torch.tensor([n for n, items in enumerate(texts) for _ in items])
        if self.reads_bag:
            bags = [bag_of_words(_told(sample), self.reads_bag) for sample in samples]
            batch["bags"] = torch.from_numpy(np.stack(bags))
        if self.reads_rules:
            batch["rules"] = torch.from_numpy(np.stack([rule_features(self._written(s)) for s in samples]))
        if self.training:
            gold = [self._gold(sample) for sample in samples]
            asked = [torch.tensor([[index for index in row if index >= 0]]) for row in gold]
            batch["gold"] = torch.tensor(gold) if self.config.head == "slots" else asked
        return batch

    def _written(self, sample: Sample) -> list[tuple[str, str]]:
        """Return (language, text) in the languages that the rules read; the prompt where no text is in any of them."""
        languages = self.config.languages
        found = [(lang, written_in(sample.case, lang)) for lang in languages]
        return found if any(text for _, text in found) else [(languages[0], _told(sample))]

    def _gold(self, sample: Sample) -> list[int]:
        """Return the canonical option index of each slot, -1 where the sample does not ask it."""
        row = self.questions.canonical(sample.case.answers or {})
        asked = set(sample.qids)
        return [row[q.qid] if q.qid in asked else -1 for q in self.questions.slots]

    def _photos(self, batch: Batch) -> Tensor | None:
        """Return the mean of each encounter's photo vectors (paper section 4.2.1); NaN without a photo."""
        if self.images is None:
            return None
        owner, count = batch["photo_owner"], len(batch["ids"])
        if "photos" not in batch:
            return torch.full((count, self.images.channels[0]), float("nan"), device=owner.device)
        vectors = encoded(self.images, batch["photos"])["pooled"].float()
        total = torch.zeros(count, vectors.shape[1], device=vectors.device).index_add(0, owner, vectors)
        # Unlike bincount, this does not make a GPU wait for the CPU to learn the length of what comes out.
        photos = torch.zeros(count, device=vectors.device).index_add(0, owner, torch.ones_like(vectors[:, 0]))
        return total / photos[:, None]

    def _inputs(self, batch: Batch) -> Tensor:
        """Return [image; text; words; rules] (B, D) for the "slots" head."""
        photos = self._photos(batch)
        parts = [] if photos is None else [photos]
        if self.reads_text:
            parts.append(encoded(self.texts, batch["texts"])["text"].float())
        if self.reads_bag:
            parts.append(F.normalize(batch["bags"] * self.rarity))
        if self.reads_rules:
            parts.append(batch["rules"])
        return torch.cat(parts, 1)

    @torch.no_grad()
    def begin(self, samples: Sequence[Sample]) -> None:
        """Set the input scales and the log prior of each option over the training samples, half a count added.

        Raises:
            DataError: photos are to be learned from, and no sample has one.
        """
        if self.images is not None and not any(sample.images for sample in samples):
            raise DataError("no training encounter has a photo; use --modality text, or prepare the folder with photos")
        if not isinstance(self.head, SlotHead):
            return
        self.eval()
        device = self.head.mean.device
        self.encounters.fill_(len({sample.id for sample in samples}))
        if self.reads_bag:
            bags = (bag_of_words(_told(sample), self.reads_bag) for sample in samples)
            self.rarity.copy_(torch.from_numpy(idf(bags)))
        parts = (samples[i : i + 32] for i in range(0, len(samples), 32))
        batches = (self.collate(part, [0] * len(part)) for part in parts)
        inputs = torch.cat([self._inputs(send_to_device(batch, device)) for batch in batches])
        inputs = inputs[~inputs.isnan().any(1)]
        gold = torch.tensor([self._gold(sample) for sample in samples])
        prior = []
        for slot, question in enumerate(self.questions.slots):
            asked = gold[:, slot][gold[:, slot] >= 0]
            counts = torch.bincount(asked, minlength=question.size).float() + 0.5
            prior.append(torch.log(counts / counts.sum()))
        self.head.init_from_data(inputs, torch.cat(prior).to(device), self.weights)

    def _slot_scores(self, head: SlotHead, batch: Batch) -> Tensor:
        inputs = self._inputs(batch)
        # An encounter without a photo counts as an average one.
        scores: Tensor = head(torch.where(inputs.isnan(), head.mean, inputs), self.options)
        return scores

    def _option_scores(self, head: OptionHead, batch: Batch) -> list[Tensor]:
        """Return the scores of each sample's option rows, which are in the order of its questions."""
        texts, owner = encoded(self.texts, batch["texts"])["text"], batch["text_owner"]
        photos = self._photos(batch)
        scores = head(texts, None if photos is None else torch.nan_to_num(photos)[owner])
        return list(torch.split(scores, [sum(self._sizes(qids)) for qids in batch["qids"]]))

    def _sizes(self, qids: Iterable[str]) -> list[int]:
        return [self.questions.by_qid[qid].size for qid in qids]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over the questions of the batch (paper section 4.2.4)."""
        if isinstance(self.head, SlotHead):
            return self._slot_loss(self.head, batch)
        losses = []
        for rows, qids, gold in zip(self._option_scores(self.head, batch), batch["qids"], batch["gold"], strict=True):
            losses.append(slot_loss(rows[None], [0, *accumulate(self._sizes(qids))], gold))
        return torch.stack(losses).mean()

    def _slot_loss(self, head: SlotHead, batch: Batch) -> Tensor:
        """Return the loss over slots, and what the settings add: of a parent's set, of the weights' norms."""
        scores, gold = self._slot_scores(head, batch), batch["gold"]
        if self.config.joint_slots:
            scores = scores.masked_fill(~allowed_successors(self.starts, self.parents, gold), _BARRED)
        # One over n drowns the little that few encounters say; one over its square root is the rate that chance has.
        many = torch.maximum(self.encounters, (_FEW * self.encounters).sqrt())
        norms = head.group_norms().sum(1).mean() * self.config.group_lasso / many
        loss: Tensor = slot_loss(scores, self.starts, gold) + norms
        if self.config.hierarchy and self.parents:
            several = [slots for slots, _ in self.parents]
            loss = loss + self.config.hierarchy * parent_loss(scores, self.starts, several, gold)
        return loss

    def predict(self, batch: Batch, view: int) -> list[AnswerPrediction]:  # noqa: ARG002  scores have no direction to undo
        """Return (options,) float32 probabilities of each sample's slots, and how the settings decide them."""
        if isinstance(self.head, SlotHead):
            scores = list(self._slot_scores(self.head, batch).float().cpu())
        else:
            scores = [row.float().cpu() for row in self._option_scores(self.head, batch)]
        decode: Decode = "set" if self.config.decode == "set" else "slot"
        predictions = []
        for name, qids, row in zip(batch["ids"], batch["qids"], scores, strict=True):
            asked = list(self.questions.by_qid) if isinstance(self.head, SlotHead) else qids
            parts = torch.split(row, self._sizes(asked))
            # copies: predictions are kept until all are written, and a tensor takes a kilobyte for a few numbers
            probabilities = {q: torch.softmax(p, 0).numpy().copy() for q, p in zip(asked, parts, strict=True)}
            predictions.append(AnswerPrediction(name, probabilities, decode=decode))
        return predictions


def _grouped(questions: QuestionSchema) -> list[tuple[list[int], int]]:
    """Return the numbers of the slots, and the index of "Not mentioned", of each parent that has several and one."""
    place = {question.qid: number for number, question in enumerate(questions.slots)}
    several = [(parent, qids) for parent, qids in questions.parents.items() if len(qids) > 1]
    padded = [(qids, questions.not_mentioned(parent)) for parent, qids in several]
    return [([place[qid] for qid in qids], padding) for qids, padding in padded if padding is not None]


def _told(sample: Sample) -> str:
    """Return all that was written about an encounter."""
    return f"{sample.case.question} {sample.case.answer}".strip()


def build(config: CvqaConfig, questions: QuestionSchema) -> CvqaModel:
    """Return the untrained model."""
    return CvqaModel(config, questions)
