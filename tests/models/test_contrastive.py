"""models/contrastive: MAKE's loss against plain loops, its guards, its invariances, and its least values."""

from dataclasses import replace

import pytest
import torch
from contrastive_pairs import drawn_pairs, loss_in_loops, reordered, weights_in_loops, with_gradient
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from magic_cli.models.contrastive import ContrastiveLoss, ContrastiveOptions, PairFeatures, contrastive_loss
from magic_cli.models.contrastive.weighting import text_weights

SCALE = torch.tensor(5.0, dtype=torch.float64)
OPTIONS = ContrastiveOptions()


def terms(loss: ContrastiveLoss) -> list[float]:
    return [term.item() for term in (loss.t2i, loss.i2t, loss.local)]


def clip_loss(features: PairFeatures, scale: Tensor = SCALE) -> Tensor:
    """Radford et al. 2021, over raw texts."""
    logits = scale * features.images @ features.texts[:, 0].T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@pytest.mark.parametrize("weighting", ["max", "softmax", "none"])
@pytest.mark.parametrize("denominator", ["others", "all", "image"])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 5.0])
def test_against_plain_loops(weighting: str, denominator: str, threshold: float) -> None:
    options = replace(OPTIONS, weighting=weighting, denominator=denominator, local_threshold=threshold)
    features = drawn_pairs()
    loss = contrastive_loss(features, SCALE, options)
    assert terms(loss) == pytest.approx(loss_in_loops(features, 5.0, options), abs=1e-12)
    assert loss.total.item() == pytest.approx(((loss.t2i + loss.i2t) / 2 + 0.7 * loss.local).item(), abs=1e-12)


@pytest.mark.parametrize("denominator", ["others", "all"])
def test_raw_texts_alone_are_clip(denominator: str) -> None:
    features = drawn_pairs(texts=8)
    features = replace(features, mask=torch.zeros_like(features.mask).index_fill(1, torch.tensor([0]), True))
    for given in (features, reordered_texts(features, [0])):
        loss = contrastive_loss(given, SCALE, replace(OPTIONS, denominator=denominator))
        assert loss.total.item() == pytest.approx(clip_loss(features).item(), abs=1e-12)


def reordered_texts(features: PairFeatures, order: list[int]) -> PairFeatures:
    texts, mask, ids = features.texts[:, order], features.mask[:, order], features.text_ids[:, order]
    return replace(features, texts=texts, mask=mask, text_ids=ids)


@pytest.mark.parametrize("kind", ["max", "softmax", "none"])
def test_weights_are_shares_of_the_largest(kind: str) -> None:
    features = drawn_pairs(texts=9, seed=3)
    weights = text_weights(replace(features, texts=torch.where(features.mask[..., None], features.texts, 0.0)), kind)
    torch.testing.assert_close(weights, weights_in_loops(features, kind), rtol=0, atol=1e-12)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights[:, :3] == features.mask[:, :3]).all()
    has = features.mask[:, 3:].any(1)
    assert weights[has, 3:].amax(1).tolist() == [1.0] * int(has.sum())


def test_weights_are_one_where_no_subtext_is_near_the_disease() -> None:
    features = drawn_pairs()
    texts = features.texts.clone()
    texts[:, 3:] = -texts[:, 1:2]
    assert text_weights(replace(features, texts=texts), "max").equal(features.mask.double())


def anyhow(features: PairFeatures, kind: str) -> PairFeatures:
    """The same photos and texts, told in another way."""
    if kind == "photos":
        return reordered(features, torch.tensor([3, 0, 4, 1, 2]))
    if kind == "subtexts":
        return reordered_texts(features, [0, 1, 2, 5, 3, 4])
    if kind == "patches":
        assert features.patches is not None
        return replace(features, patches=features.patches[:, [2, 0, 3, 1]])
    if kind == "padding":
        more = [
            F.pad(t, (0, 0, 0, 2) if t.dim() == 3 else (0, 2))
            for t in (features.texts, features.mask, features.text_ids)
        ]
        return replace(features, texts=more[0], mask=more[1], text_ids=more[2])
    other = {"masked": 3.0, "nan": torch.nan, "inf": torch.inf}[kind]
    return replace(
        features,
        texts=torch.where(features.mask[..., None], features.texts, other),
        text_ids=torch.where(features.mask, features.text_ids, 1),
    )


@pytest.mark.parametrize("same_text", ["negative", "ignore", "positive"])
@pytest.mark.parametrize("kind", ["photos", "subtexts", "patches", "padding", "masked", "nan", "inf"])
def test_what_does_not_matter(kind: str, same_text: str) -> None:
    features = drawn_pairs()
    features.text_ids[4, 2], features.case_ids[1] = features.text_ids[0, 2], 0
    options = replace(OPTIONS, same_text=same_text)
    plain, changed = (contrastive_loss(f, SCALE, options) for f in (features, anyhow(features, kind)))
    assert terms(changed) == pytest.approx(terms(plain), abs=1e-12)
    if kind in ("masked", "nan", "inf"):
        assert terms(changed) == terms(plain)


@pytest.mark.parametrize("other", [0.0, torch.nan, torch.inf])
def test_masked_texts_have_no_gradient(other: float) -> None:
    features = with_gradient(anyhow(drawn_pairs(), "masked"))
    with torch.no_grad():
        features.texts[~features.mask] = other
    contrastive_loss(features, SCALE, OPTIONS).total.backward()
    for tensor in (features.images, features.texts, features.patches):
        assert tensor is not None
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert features.texts.grad is not None
    assert (features.texts.grad[~features.mask] == 0).all()
    assert (features.texts.grad[features.mask] != 0).any(1).all()


def test_gradients_are_those_of_the_values() -> None:
    features = drawn_pairs(photos=4, width=3, patches=2)
    assert features.patches is not None

    def total(images: Tensor, patches: Tensor, scale: Tensor) -> Tensor:
        return contrastive_loss(replace(features, images=images, patches=patches), scale, OPTIONS).total

    inputs = [t.clone().requires_grad_() for t in (features.images, features.patches, SCALE)]
    assert torch.autograd.gradcheck(total, inputs)
    without = replace(OPTIONS, weighting="none")  # weights have no gradient; without them texts can be moved, too
    texts = features.texts.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: contrastive_loss(replace(features, texts=t), SCALE, without).total, texts)


def test_odd_photos_have_finite_gradients() -> None:
    features = drawn_pairs()
    features.mask[0] = False
    features.texts[1] = features.texts[2]
    for threshold in (0.0, 5.0):
        given = with_gradient(features)
        loss = contrastive_loss(given, SCALE, replace(OPTIONS, local_threshold=threshold)).total
        loss.backward()
        assert loss.isfinite()
        for tensor in (given.images, given.texts, given.patches):
            assert tensor is not None
            assert tensor.grad is not None
            assert tensor.grad.isfinite().all()


def test_one_photo_has_nothing_to_learn() -> None:
    features = with_gradient(drawn_pairs(photos=1))
    loss = contrastive_loss(features, SCALE, OPTIONS)
    assert terms(loss) == [0, 0, 0]
    loss.total.backward()
    assert features.images.grad is not None
    assert not features.images.grad.any()


@pytest.mark.parametrize("weighting", ["max", "none"])
def test_logits_computed_once_are_those_repeated_for_each_text(weighting: str) -> None:
    """The authors' way: (N C) rows of logits over all texts, in which each text has its own row."""
    features = replace(drawn_pairs(), mask=torch.ones(5, 6, dtype=torch.bool))
    weights = text_weights(features, weighting).flatten()
    logits = SCALE * features.images @ features.texts.flatten(0, 1).T
    losses = F.cross_entropy(logits.repeat_interleave(6, 0), torch.arange(30), reduction="none")
    loss = contrastive_loss(features, SCALE, replace(OPTIONS, denominator="all", weighting=weighting))
    assert loss.i2t.item() == pytest.approx(((losses * weights).sum() / weights.sum()).item(), abs=1e-12)


def test_without_weight_the_patches_are_not_in_the_graph() -> None:
    features = with_gradient(drawn_pairs())
    loss = contrastive_loss(features, SCALE, replace(OPTIONS, local_weight=0))
    loss.total.backward()
    assert features.patches is not None
    assert features.patches.grad is None
    assert loss.local == 0
    without = contrastive_loss(replace(features, patches=None), SCALE, replace(OPTIONS, local_weight=0))
    assert without.total == loss.total


def test_least_values() -> None:
    """At perfect alignment: 0 with "others", (ln C) / 2 with "all", whose texts of one photo compete."""
    images = torch.eye(6, dtype=torch.float64)
    features = replace(
        drawn_pairs(photos=6, texts=7, width=6),
        images=images,
        texts=images[:, None].expand(6, 7, 6),
        patches=images[:, None].expand(6, 4, 6),
        mask=torch.ones(6, 7, dtype=torch.bool),
    )
    scale = torch.tensor(100.0, dtype=torch.float64)
    assert contrastive_loss(features, scale, OPTIONS).total.item() == pytest.approx(0, abs=1e-12)
    total = contrastive_loss(features, scale, replace(OPTIONS, denominator="all")).total.item()
    assert total == pytest.approx(torch.tensor(7.0).log().item() / 2, abs=1e-6)


@pytest.mark.parametrize("same_text", ["negative", "ignore", "positive"])
@pytest.mark.parametrize("chunk_rows", [1, 2, 4, 7])
def test_chunks_change_nothing(chunk_rows: int, same_text: str) -> None:
    results = []
    for rows in (chunk_rows, 1000):
        features, scale = with_gradient(drawn_pairs()), SCALE.clone().requires_grad_()
        features.text_ids[4, 2] = features.text_ids[0, 2]
        contrastive_loss(features, scale, replace(OPTIONS, same_text=same_text, chunk_rows=rows)).total.backward()
        assert features.patches is not None
        results.append([t.grad for t in (features.images, features.texts, features.patches, scale)])
    for chunked, whole in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-14)


class LargestResult(TorchDispatchMode):
    """Note the most elements that any operation returns, backward included."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                self.most = max(self.most, each.numel())
        return result


def largest_result(options: ContrastiveOptions) -> int:
    features = with_gradient(drawn_pairs(photos=48, width=4))
    with LargestResult() as largest:
        contrastive_loss(features, SCALE, options).total.backward()
    return largest.most


@pytest.mark.parametrize("same_text", ["negative", "ignore", "positive"])
def test_logits_are_never_repeated_and_in_chunks_never_whole(same_text: str) -> None:
    options = replace(OPTIONS, same_text=same_text)
    assert largest_result(options) == 48 * 48 * 6
    assert largest_result(replace(options, chunk_rows=8)) == 8 * 48 * 6


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(half: torch.dtype) -> None:
    features = drawn_pairs(photos=16, width=32)
    exact = contrastive_loss(features, SCALE, OPTIONS)
    single = replace(
        features, **{n: v.float() for n, v in vars(features).items() if v is not None and v.dtype.is_floating_point}
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert terms(contrastive_loss(single, SCALE, OPTIONS)) == pytest.approx(terms(exact), abs=1e-5)
    halved = replace(
        features, **{n: v.to(half) for n, v in vars(features).items() if v is not None and v.dtype.is_floating_point}
    )
    loss = contrastive_loss(halved, SCALE, OPTIONS)
    assert loss.total.dtype is torch.float32
    assert terms(loss) == pytest.approx(terms(exact), rel=1e-2)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one photo"):
        contrastive_loss(drawn_pairs(photos=0), SCALE, OPTIONS)
    with pytest.raises(ValueError, match="patches"):
        contrastive_loss(replace(drawn_pairs(), patches=None), SCALE, OPTIONS)


def test_no_text_at_all_is_zero_with_a_graph() -> None:
    features = with_gradient(replace(drawn_pairs(), mask=torch.zeros(5, 6, dtype=torch.bool)))
    loss = contrastive_loss(features, SCALE, OPTIONS)
    loss.total.backward()
    assert terms(loss) == [0, 0, 0]


@pytest.mark.parametrize("texts", [1, 3, 6])
def test_knowledge_texts_only(texts: int) -> None:
    """`--no-subtexts` is the loss of a batch without subtexts; with and without the local loss."""
    features = reordered_texts(drawn_pairs(), list(range(texts)))
    plain = replace(reordered_texts(features, list(range(min(texts, 3)))), patches=None)
    expected = contrastive_loss(plain, SCALE, replace(OPTIONS, local_weight=0))
    for weight in (0.0, 0.7):
        loss = contrastive_loss(features, SCALE, replace(OPTIONS, subtexts=False, local_weight=weight))
        assert terms(loss) == terms(expected)
        assert loss.local == 0
