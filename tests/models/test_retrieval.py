"""Composed retrieval: one inner product for all levels, masks, composition, and losses against their definitions."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magic_cli.models.encoders import TinyImage, TinyText
from magic_cli.models.fine_tuning import set_finetuning
from magic_cli.models.retrieval.composer import CrossTransformer, GatedResidual
from magic_cli.models.retrieval.levels import frozen_levels, last_levels, levels_of, shrunk, statistics
from magic_cli.models.retrieval.loss import Terms, batch_classification, multi_positive, partners, retrieval_sum
from magic_cli.models.retrieval.regions import RegionMasks, diversity, level_vectors
from magic_cli.models.retrieval.tokens import TokenText


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def level(rows: int = 3, dim: int = 8, side: int = 4) -> Tensor:
    return torch.randn(rows, dim, side, side)


@pytest.mark.parametrize("local", ["pooled", "regionwise"])
@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
def test_similarity_is_one_inner_product(local: str, activation: str) -> None:
    """S of Eqs. 7 to 9 from cosines equals the product of scaled query and stored photo vectors."""
    beta = 0.6
    query, photo = [level(), level(side=2)], [level(), level(side=2)]
    masks = [RegionMasks(8, 5, activation) for _ in range(2)]  # type: ignore[arg-type]
    expected = torch.zeros(3, 3)
    sides: list[list[Tensor]] = [[], []]
    for q, p, mask in zip(query, photo, masks, strict=True):
        regions = [mask(x)[0] for x in (q, p)]
        if local == "pooled":
            own = F.cosine_similarity(regions[0].mean(1)[:, None], regions[1].mean(1)[None], dim=-1)
        else:
            own = F.cosine_similarity(regions[0][:, None], regions[1][None], dim=-1).mean(-1)
        whole = F.cosine_similarity(q.mean((2, 3))[:, None], p.mean((2, 3))[None], dim=-1)
        expected += beta * own + (1 - beta) * whole
        for vectors, x, weight in zip(sides, (q, p), ((1 - beta, beta), (1.0, 1.0)), strict=True):
            one = level_vectors(x, mask, local)  # type: ignore[arg-type]
            vectors += [weight[0] * one.whole, weight[1] * one.local]
    product = torch.cat(sides[0], 1) @ torch.cat(sides[1], 1).T
    assert torch.allclose(product, expected, atol=1e-6)
    assert torch.allclose(torch.cat(sides[1], 1).norm(dim=1) ** 2, torch.full((3,), 4.0))


def test_one_region_is_the_same_pooled_and_regionwise() -> None:
    x, mask = level(), RegionMasks(8, 1, "sigmoid")
    assert torch.allclose(level_vectors(x, mask, "pooled").local, level_vectors(x, mask, "regionwise").local, atol=1e-6)


def test_masks_are_in_their_range() -> None:
    assert RegionMasks(8, 3, "sigmoid")(level())[1].min() >= 0
    soft = RegionMasks(8, 3, "softmax")(level())[1]
    assert torch.allclose(soft.sum((2, 3)), torch.ones(3, 3))


def test_diversity_is_one_for_equal_masks_and_zero_for_apart_ones() -> None:
    apart = torch.eye(4).view(1, 4, 2, 2)
    assert diversity(apart).item() == 0
    assert diversity(apart[:, :1].expand(1, 3, 2, 2)).item() == pytest.approx(1)
    assert diversity(apart[:, :1]).item() == 0


@pytest.mark.parametrize("composer", [CrossTransformer(8, 2, 2, 0.0), GatedResidual(8)])
def test_padding_changes_nothing_and_words_do(composer: nn.Module) -> None:
    x, words = level(2), torch.randn(2, 5, 8)
    padding = torch.tensor([[False, False, False, True, True]] * 2)
    composer.eval()
    out = composer(x, words, padding)
    assert out.shape == x.shape
    other = words.clone()
    other[:, 3:] = 100.0
    assert torch.allclose(composer(x, other, padding), out, atol=1e-6)
    assert torch.allclose(composer(x, words[:, :3], padding[:, :3]), out, atol=1e-6)
    assert not torch.allclose(composer(x, words.flip(0), padding), out, atol=1e-3)


def test_every_weight_of_the_transformer_has_a_gradient() -> None:
    composer = CrossTransformer(8, 3, 2, 0.0)
    composer(level(2), torch.randn(2, 4, 8), torch.zeros(2, 4, dtype=torch.bool)).sum().backward()
    assert all(parameter.grad is not None for parameter in composer.parameters())


def labels(*names: int) -> tuple[Tensor, Tensor]:
    own = torch.tensor(names)
    return own[:, None] == own, ~torch.eye(len(names), dtype=torch.bool)


def test_multi_positive_is_its_definition() -> None:
    positive, allowed = labels(0, 0, 1, 1, 2)
    similarity = torch.randn(5, 5)
    total, count = multi_positive(similarity, positive, allowed)
    expected = 0.0
    for i in range(4):
        others = [j for j in range(5) if j != i]
        log = similarity[i, others] - similarity[i, others].logsumexp(0)
        expected -= sum(log[others.index(j)].item() for j in others if positive[i, j])
    assert total.item() == pytest.approx(expected, abs=1e-5)
    assert count.item() == 4  # the fifth has no positive


def test_with_own_classes_it_is_classification_of_the_batch() -> None:
    """Two photos per class: each has one positive; the losses agree where the negatives do."""
    positive = torch.eye(4, dtype=torch.bool)
    allowed = torch.ones(4, 4, dtype=torch.bool)  # targets are other photos, in the order of the queries
    similarity = torch.randn(4, 4)
    expected = F.cross_entropy(similarity, torch.arange(4), reduction="sum")
    for loss in (multi_positive, batch_classification):
        total, count = loss(similarity, positive, allowed)
        assert total.item() == pytest.approx(expected.item(), abs=1e-5)
        assert count.item() == 4


def test_partners_are_others_of_the_class() -> None:
    positive, allowed = labels(0, 1, 0, 1, 0, 2)
    assert partners(positive, allowed).tolist() == [2, 3, 4, 1, 0, -1]


def test_classification_without_a_positive_stays_finite() -> None:
    positive, allowed = labels(0, 0, 1)
    similarity = torch.randn(3, 3, requires_grad=True)
    total, count = batch_classification(similarity, positive, allowed)
    total.backward()
    assert count.item() == 2
    assert similarity.grad is not None
    assert torch.isfinite(similarity.grad).all()


@pytest.mark.parametrize("objective", ["multi_positive", "batch"])
def test_a_single_term_gives_the_same_loss_on_terms_and_on_the_sum(objective: str) -> None:
    positive, allowed = labels(0, 0, 1, 1)
    q, p = (F.normalize(torch.randn(4, 6), dim=1) for _ in range(2))
    terms, scale = Terms([q], [p], [1.0]), torch.tensor(16.0)
    both = [retrieval_sum(terms, positive, allowed, scale, objective, on)[0] for on in (True, False)]  # type: ignore[arg-type]
    assert both[0].item() == pytest.approx(both[1].item())
    zero = Terms([q, p], [p, q], [1.0, 0.0])
    assert retrieval_sum(zero, positive, allowed, scale, objective, on_terms=True)[0].item() == pytest.approx(  # type: ignore[arg-type]
        both[0].item()
    )


@pytest.mark.parametrize("mode", ["head", "last"])
def test_cached_levels_are_those_of_the_whole_encoder(mode: str) -> None:
    images = TinyImage(64, "pyramid").eval()
    set_finetuning(images, mode, 4)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    first = frozen_levels(images, 4)
    assert first is not None
    assert first.has_end == (mode == "last")
    cached = levels_of(images, first, first.features(pixels), 4)
    for mine, whole in zip(cached, last_levels(images(pixels), 4), strict=True):
        assert torch.allclose(mine, whole, atol=1e-6)
        assert max(mine.shape[2:]) <= 4


def test_a_wholly_trained_encoder_caches_nothing() -> None:
    images = TinyImage(64, "pyramid")
    set_finetuning(images, "all", 4)
    assert frozen_levels(images, 4) is None


def test_shrinking_averages() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert shrunk(x, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert shrunk(x, 4) is x


def test_statistics_are_those_of_all_places() -> None:
    x = level(5)
    ((mean, std),) = statistics([x])
    assert torch.allclose(mean, x.mean((0, 2, 3)))
    assert torch.allclose(std, x.transpose(0, 1).flatten(1).std(1))


def test_tokens_are_padded_to_the_window_and_masked() -> None:
    whole = TinyText(12)
    tokens = TokenText(whole, 3)
    batch = tokens.batch([tokens.join(tokens.ids("a palpable lesion"), ()), tokens.join((), ())])
    features = tokens(batch)
    assert features["tokens"].shape == (2, 3, 12, whole.dim)
    assert features["mask"].sum(1).tolist() == [4, 1]
    mean = features["tokens"][0, -1, :4].mean(0)
    assert torch.allclose(mean, whole(batch)["text"][0], atol=1e-6)
    assert dict(tokens.state_dict()).keys() == dict(whole.state_dict()).keys()
    assert tokens.fingerprint != whole.fingerprint
