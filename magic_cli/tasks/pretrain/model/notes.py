"""What is said before a training starts: what is compared with what, and about how much memory a step takes."""

from collections.abc import Sequence
from statistics import fmean

from magic_cli.data.texts.captions import MOST_SUBTEXTS
from magic_cli.data.texts.pair_texts import pair_texts
from magic_cli.models.contrastive.features import SUBTEXTS
from magic_cli.models.encoders import Encoder, ImageEncoder
from magic_cli.records import Sample
from magic_cli.tasks.encoding import text_windows
from magic_cli.tasks.pretrain.memory import Comparison, Transformer, size, states
from magic_cli.tasks.pretrain.model.contrastive import PretrainModel

_COUNTED = 256  # samples whose texts are counted


def training_notes(model: PretrainModel, samples: Sequence[Sample], processes: int, updates: int) -> list[str]:
    """Return the lines; the memory is an estimate.

    Args:
        model: untrained.
        samples: to learn from.
        processes: that share a batch.
        updates: of the weights, in all epochs.
    """
    config = model.config
    texts = _Texts.of(model, samples)
    photos = min(config.batch_size, len(samples))
    places = SUBTEXTS + MOST_SUBTEXTS if processes > 1 and config.subtexts else texts.places  # as batches are filled up
    local = config.local_weight > 0 and places > SUBTEXTS
    compared = Comparison(
        photos=photos,
        texts=places,
        subtexts=places - SUBTEXTS if local else 0,
        dim=model.images.dim if model.images.projected else config.dim,
        processes=processes,
        patches=_patches(model.images) if local else 0,
    )
    return [_comparison(model, compared, texts), _schedule(model, updates), _memory(model, compared, texts)]


class _Texts:
    """How many texts photos have, by some of them.

    Attributes:
        places: at most, three knowledge texts included.
        mean: on average.
        encoded: windows of distinct texts per photo.
        longest: tokens of the longest window.
    """

    def __init__(self, rows: Sequence[Sequence[str]], model: PretrainModel) -> None:
        self.places = max(SUBTEXTS, max(map(len, rows)))
        self.mean = fmean(sum(map(bool, row)) for row in rows)
        distinct = {text for row in rows for text in row if text}
        windows = [item for text in distinct for item in text_windows(model.texts, text)]
        self.encoded = len(windows) / len(rows)
        self.longest = max((len(item.load()) for item in windows), default=0)

    @classmethod
    def of(cls, model: PretrainModel, samples: Sequence[Sample]) -> "_Texts":
        step = max(1, len(samples) // _COUNTED)
        chosen = [samples[place] for place in range(0, len(samples), step)][:_COUNTED]
        return cls([model.chosen_texts(pair_texts(sample.case)) for sample in chosen], model)


def _comparison(model: PretrainModel, compared: Comparison, texts: _Texts) -> str:
    config, others = model.config, compared.photos - 1
    shared = f" on {compared.processes} processes, {compared.own:,} each" if compared.processes > 1 else ""
    part = min(config.micro_batch, compared.own)
    parts = f", encoded {part:,} at a time with the gradient of the whole batch" if part else ""
    against = others * (texts.mean if config.objective in ("mkcl", "multi_positive") else 1)
    negatives = f"negatives: {others:,} photos per text, {against:,.0f} texts per photo"
    alone = "; grad_accum_steps adds none, micro_batch does" if config.grad_accum_steps > 1 else ""
    if not others:
        alone = "; one photo has nothing to be told from: nothing is learned, give more photos or a larger batch_size"
    return f"batches of {compared.photos:,} photos with {texts.mean:.1f} texts each{shared}{parts}; {negatives}{alone}"


def _schedule(model: PretrainModel, updates: int) -> str:
    warm = model.config.warmup_updates(updates) if model.config.schedule == "cosine" else 0
    return f"{updates:,} updates, warm-up in the first {warm:,} ({warm / max(1, updates):.0%})"


def _memory(model: PretrainModel, compared: Comparison, texts: _Texts) -> str:
    config = model.config
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    learning = sum(count for count, learns in sizes if learns)
    kept = states(learning, sum(count for count, _ in sizes) - learning, config.ema > 0)
    vectors = 2 * (compared.gathered + compared.local_vectors)  # with their gradients
    loss = compared.loss(config.chunk_rows)
    found, unknown = _activations(model, config.micro_batch or compared.own, texts)
    total = f"about {size(kept + vectors + loss + found)} per process"
    also = f", activations {size(found)}" if found else ""
    but = f"; without the activations of {' and '.join(unknown)}, which are not known" if unknown else ""
    return f"memory: {total}: weights and Adam {size(kept)}{also}, vectors {size(vectors)}, loss {size(loss)}{but}"


def _activations(model: PretrainModel, photos: int, texts: _Texts) -> tuple[int, list[str]]:
    """Return the bytes that backward keeps of encoders that learn, for so many photos and their texts."""
    config, total, unknown = model.config, 0.0, []
    counted: list[tuple[Encoder, int, float]] = [
        (model.images, _patches(model.images) + 1, photos),
        (model.texts, texts.longest, photos * texts.encoded),
    ]
    for encoder, tokens, items in counted:
        if encoder.is_frozen:
            continue
        shape = _transformer(encoder, tokens)
        if shape is None:
            unknown.append("the image encoder" if encoder is model.images else "the text encoder")
        else:
            half = config.precision != "no"
            total += items * shape.activations(half, config.gradient_checkpointing)
    return round(total), unknown


def _transformer(encoder: Encoder, tokens: int) -> Transformer | None:
    """Return the shape of an encoder that is a transformer of the transformers library; None for others."""
    for module in encoder.modules():
        config = getattr(module, "config", None)
        width, layers = (getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers"))
        if isinstance(width, int) and isinstance(layers, int):
            return Transformer(tokens, width, layers)
    return None


def _patches(encoder: ImageEncoder) -> int:
    """Return the number of patches of a photo, or an estimate: squares of 32 pixels."""
    for module in encoder.modules():
        patch = getattr(getattr(module, "config", None), "patch_size", None)
        if isinstance(patch, int):
            return (encoder.size // patch) ** 2
    return (encoder.size // 32) ** 2
