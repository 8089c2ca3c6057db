"""models/heads.py: what an untrained head answers, what its blocks weigh, and that every input reaches the output."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from magic_cli.models.answers.stand_in import StandIn, hide
from magic_cli.models.heads import AnchoredHead, Film, OptionHead, PyramidDecoder, SlotHead


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pyramid(channels: Sequence[int], size: int, batch: int = 2) -> dict[str, Tensor]:
    return {f"p{i}": torch.randn(batch, c, size >> i, size >> i) for i, c in enumerate(channels)}


# --- Film


def test_film_at_start_is_the_identity() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(Film(7, 3)(x, torch.randn(2, 7)), x)


def test_film_scales_and_shifts_each_channel_by_the_text() -> None:
    film = Film(1, 2)
    with torch.no_grad():
        film.mul.weight.copy_(torch.tensor([[1.0], [0.0]]))
        film.add.bias.copy_(torch.tensor([0.0, 5.0]))
    x = torch.ones(2, 2, 1, 1)
    assert film(x, torch.tensor([[1.0], [3.0]])).flatten(1).tolist() == [[2, 6], [4, 6]]


# --- PyramidDecoder


@pytest.mark.parametrize("channels", [(8,), (8, 16), (24, 40, 112, 320)])
@pytest.mark.parametrize("size", [8, 12, 20])
def test_decoder_gives_logits_at_the_finest_level(channels: Sequence[int], size: int) -> None:
    head = PyramidDecoder(channels, 6, 12, 0.1)
    assert head(pyramid(channels, size), torch.randn(2, 6)).shape == (2, size, size)


def test_decoder_takes_levels_that_do_not_halve_exactly() -> None:
    levels = {"p0": torch.randn(1, 4, 9, 7), "p1": torch.randn(1, 6, 5, 4), "p2": torch.randn(1, 8, 2, 1)}
    assert PyramidDecoder((4, 6, 8), 3, 10, 0.0)(levels, torch.randn(1, 3)).shape == (1, 9, 7)


@pytest.mark.parametrize("width", [4, 10, 13, 64])
def test_decoder_of_any_width(width: int) -> None:
    """Group normalisation needs a divisor of the width: 13 has none but 1."""
    assert PyramidDecoder((8, 16), 3, width, 0.0)(pyramid((8, 16), 8), torch.randn(2, 3)).shape == (2, 8, 8)


def test_every_level_reaches_the_output() -> None:
    channels = (4, 6, 8)
    head = PyramidDecoder(channels, 3, 8, 0.0).eval()
    levels, text = pyramid(channels, 16), torch.zeros(2, 3)
    before = head(levels, text)
    for name in levels:
        assert not torch.allclose(head(levels | {name: levels[name] + 1}, text), before)


def test_coarser_levels_give_maps_for_deep_supervision() -> None:
    """The finest map is the one that is predicted, with or without them; a coarser one does not see finer levels."""
    channels = (4, 6, 8)
    torch.manual_seed(0)
    plain = PyramidDecoder(channels, 3, 8, 0.0).eval()
    head = PyramidDecoder(channels, 3, 8, 0.0, deeply=True).eval()
    head.load_state_dict(plain.state_dict() | {k: v for k, v in head.state_dict().items() if "coarser" in k})
    levels, text = pyramid(channels, 16), torch.randn(2, 3)
    finest, middle, coarsest = head.maps(levels, text)
    assert [map_.shape for map_ in (finest, middle, coarsest)] == [(2, 16, 16), (2, 8, 8), (2, 4, 4)]
    (only,) = plain.maps(levels, text)
    assert torch.equal(finest, only)
    assert torch.equal(finest, head(levels, text))
    moved = head.maps(levels | {"p1": levels["p1"] + 1}, text)
    assert torch.equal(moved[2], coarsest)
    assert not torch.allclose(moved[1], middle)


def test_text_changes_nothing_at_first_and_decides_after_training() -> None:
    """The same photo with two texts and opposite masks: only the text can tell them apart."""
    head = PyramidDecoder((4, 6), 2, 8, 0.0)
    one = pyramid((4, 6), 8, batch=1)
    levels = {name: level.repeat(2, 1, 1, 1) for name, level in one.items()}
    text, target = torch.eye(2), torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    first, second = head(levels, text)
    assert torch.allclose(first, second, atol=1e-6)
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for step in range(40):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(head(levels, text), target).backward()
        optimizer.step()
        if step == 0:
            first, second = head(levels, text)
            assert not torch.allclose(first, second, atol=1e-6)
    first, second = torch.sigmoid(head(levels, text)).mean((1, 2)).tolist()
    assert second > first + 0.3


# --- SlotHead

STARTS = [0, 3, 5]
PRIOR = torch.log(torch.tensor([0.7, 0.2, 0.1, 0.25, 0.75]))


def slot_head(dropout: float = 0.5, blocks: Sequence[int] = (2, 4), width: int = 8) -> SlotHead:
    return SlotHead(blocks, sizes=(3, 2), text_dim=4, width=width, dropout=dropout)


@pytest.mark.parametrize("width", [0, 8])
@pytest.mark.parametrize("training", [True, False])
def test_untrained_the_head_answers_with_the_prior(training: bool, width: int) -> None:
    head = slot_head(width=width).train(training)
    head.init_from_data(torch.randn(20, 6), PRIOR, [1.0, 3.0])
    scores = head(torch.randn(7, 6) * 100, torch.randn(5, 4))
    assert torch.equal(scores, PRIOR.expand(7, 5))
    assert torch.softmax(scores[:, 3:], 1)[0].tolist() == pytest.approx([0.25, 0.75])


def test_start_centres_and_gives_each_block_its_norm() -> None:
    head = slot_head(0.0, blocks=(2, 3, 1))
    inputs = torch.randn(500, 6) * torch.tensor([1.0, 9.0, 1e-3, 2e-3, 1e-3, 50.0]) + 7
    weights = [1.0, 4.0, 0.5]
    head.init_from_data(inputs, PRIOR, weights)
    x = (inputs - head.mean) / head.scale
    assert x.mean(0).abs().max() < 0.05
    for part, weight in zip(torch.split(x, [2, 3, 1], 1), weights, strict=True):
        assert part.pow(2).sum(1).mean().item() == pytest.approx(weight**2, rel=1e-3)
    assert torch.equal(head.linear.bias, PRIOR)
    assert len({round(v, 6) for v in head.scale[:2].tolist()}) == 1  # one scale a block, not one a value


def test_what_is_constant_in_training_is_not_blown_up_later() -> None:
    head = slot_head(blocks=(3, 3))
    inputs = torch.cat([torch.full((9, 3), 0.1) * 3, torch.randn(9, 3)], 1)
    head.init_from_data(inputs, PRIOR, [4.0, 1.0])
    later = (torch.ones(1, 6) - head.mean) / head.scale
    assert later[0, :3].abs().max() < 10


def test_start_is_part_of_the_state() -> None:
    first, second = slot_head(), slot_head()
    first.init_from_data(torch.randn(9, 6), PRIOR, [2.0, 1.0])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.scale, second.scale)


def test_start_refuses_what_is_not_the_input() -> None:
    with pytest.raises((RuntimeError, ValueError)):
        slot_head(blocks=(5, 2)).init_from_data(torch.randn(9, 6), PRIOR, [1.0, 1.0])
    with pytest.raises(ValueError, match="shorter"):
        slot_head().init_from_data(torch.randn(9, 6), PRIOR, [1.0])


def test_slot_scores_are_linear_plus_compatibility() -> None:
    head = slot_head().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    assert head.query is not None
    assert head.option is not None
    x, options = torch.randn(3, 6), torch.randn(5, 4)
    expected = torch.empty(3, 5)
    for b in range(3):
        for r in range(5):
            query, option = head.query.weight @ x[b], head.option.weight @ options[r]
            expected[b, r] = head.linear.weight[r] @ x[b] + head.linear.bias[r] + query @ option / 8
    assert torch.allclose(head(x, options), expected, atol=1e-4)


def test_without_the_option_term_the_head_is_linear() -> None:
    head = slot_head(0.0, width=0)
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]
    torch.nn.init.normal_(head.linear.weight)
    x = torch.randn(3, 6)
    assert torch.equal(head(x, torch.zeros(5, 0)), head.linear(x))


def test_the_slot_head_learns_from_inputs_and_from_option_texts() -> None:
    head = slot_head(dropout=0.0)
    x, options = torch.eye(6)[:4], torch.randn(5, 4)
    gold = torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(x, options)[:, :3], gold).backward()
        optimizer.step()
    assert head(x, options)[:, :3].argmax(1).tolist() == gold.tolist()
    assert head.query is not None
    assert head.query.weight.abs().max() > 0
    assert not torch.allclose(head(x, options), head(x, options.flip(0)))


def test_norms_are_those_of_each_slot_and_block() -> None:
    head = slot_head()
    with torch.no_grad():
        head.linear.weight.copy_(torch.arange(30.0).view(5, 6))
    w = head.linear.weight.detach()
    expected = [[part.norm() for part in (w[a:b, :2], w[a:b, 2:])] for a, b in ((0, 3), (3, 5))]
    assert torch.allclose(head.group_norms(), torch.tensor(expected), atol=1e-3)


def test_norms_have_a_gradient_at_zero() -> None:
    head = slot_head()
    head.group_norms().sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(head.linear.weight.grad, torch.zeros(5, 6))


def test_the_penalty_leaves_alone_what_does_not_answer_a_slot() -> None:
    """Block one answers slot one, block two slot two: a slot's weights on the other block stay near zero."""
    head = slot_head(0.0, width=0)
    x = torch.randn(200, 6)
    first, second = (x[:, 0] > 0).long(), (x[:, 3] > 0).long()
    head.init_from_data(x, PRIOR, [1.0, 1.0])
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        scores = head(x, torch.zeros(5, 0))
        loss = torch.nn.functional.cross_entropy(scores[:, :3], first)
        loss = loss + torch.nn.functional.cross_entropy(scores[:, 3:], second)
        (loss + 0.05 * head.group_norms().sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    norms = head.group_norms().tolist()
    assert norms[0][0] > 20 * norms[0][1]
    assert norms[1][1] > 20 * norms[1][0]


# --- OptionHead


def test_option_head_with_an_image() -> None:
    head = OptionHead(image_dim=6, text_dim=4, width=8, dropout=0.1).eval()
    text, image = torch.randn(5, 4), torch.randn(5, 6)
    scores = head(text, image)
    assert scores.shape == (5,)
    assert not torch.allclose(head(text, image + 1), scores)
    assert not torch.allclose(head(text + 1, image), scores)
    assert torch.allclose(head(text[[2]], image[[2]]), scores[[2]], atol=1e-6)  # rows do not mix


def test_option_head_without_an_image() -> None:
    head = OptionHead(image_dim=0, text_dim=4, width=8, dropout=0.1).eval()
    text = torch.randn(5, 4)
    assert head(text, None).shape == (5,)
    assert torch.equal(head(text, torch.randn(5, 6)), head(text, None))
    assert not [name for name, _ in head.named_parameters() if name.startswith("image")]


def test_option_head_drops_out_after_the_projections_only() -> None:
    head = OptionHead(image_dim=6, text_dim=4, width=8, dropout=0.5)
    assert [name for name, part in head.named_modules() if isinstance(part, torch.nn.Dropout)] == ["image.1", "text.1"]
    assert [name for name in head.state_dict() if name.startswith("ffn")] == [
        *("ffn.0.weight", "ffn.0.bias", "ffn.3.weight", "ffn.3.bias"),
    ]


def test_option_head_gradients_reach_every_parameter() -> None:
    head = OptionHead(image_dim=6, text_dim=4, width=8, dropout=0.0)
    head(torch.randn(50, 4), torch.randn(50, 6)).pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


# --- AnchoredHead


def anchored() -> AnchoredHead:
    return AnchoredHead((2, 4), sizes=(3, 2), text_dim=4, dropout=0.0).eval()


def test_anchored_scores_are_the_prior_and_cosines_with_what_tells_options_of_a_slot_apart() -> None:
    head, x, options = anchored(), torch.randn(3, 6), torch.randn(5, 4) + 3
    head.init_from_data(torch.randn(20, 6) * 4 + 1, PRIOR, [1.0, 3.0])
    with torch.no_grad():
        head.log_scale.fill_(1.5)
    scaled = (x - head.mean) / head.scale
    expected = torch.empty(3, 5)
    for b in range(3):
        for r in range(5):
            own = options[:3] if r < 3 else options[3:]
            anchor = options[r] - own.mean(0)
            cosine = torch.cosine_similarity(head.projection.weight @ scaled[b], anchor, 0)
            expected[b, r] = PRIOR[r] + 2.718281828**1.5 * cosine
    assert torch.allclose(head(x, options), expected, atol=1e-4)
    assert torch.allclose(head(x, options + torch.randn(4)), expected, atol=1e-4)  # what all texts share tells nothing


def test_options_worded_alike_are_scored_alike_and_only_few_weights_learn() -> None:
    head, options = anchored(), torch.randn(5, 4)
    options[1] = options[0]
    scores = head(torch.randn(4, 6), options)
    assert torch.allclose(scores[:, 0], scores[:, 1], atol=1e-6)
    assert {name for name, _ in head.named_parameters()} == {"projection.weight", "bias", "log_scale"}
    before = options.clone()
    torch.nn.functional.cross_entropy(scores[:, :3], torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert torch.equal(options, before)


# --- what stands in for a missing input

BLOCKS = ((0, 3), (4, 6))


def test_an_untrained_pool_is_the_mean_and_leaves_what_is_there() -> None:
    pool, mean, scale = StandIn(8, BLOCKS, 5), torch.randn(8), torch.rand(8) + 0.5
    inputs = torch.randn(4, 8)
    inputs[1, :3], inputs[2, 4:] = torch.nan, torch.nan
    assert torch.equal(pool(inputs, mean, scale), torch.where(inputs.isnan(), mean, inputs))


def test_a_pool_is_weighed_by_what_is_there_and_by_nothing_else() -> None:
    pool, mean, scale = StandIn(8, BLOCKS, 5), torch.randn(8), torch.rand(8) + 0.5
    for each in pool.pools:
        torch.nn.init.normal_(each.values)
    inputs = torch.randn(3, 8)
    inputs[:, :3] = torch.nan
    inputs[1] = inputs[0]
    made = pool(inputs, mean, scale)
    assert torch.equal(made[:, 3:], inputs[:, 3:])
    assert torch.equal(made[0], made[1])
    assert not torch.allclose(made[0, :3], made[2, :3])
    own, present = pool.pools[0], torch.where(inputs.isnan(), 0, (inputs - mean) / scale)
    weights = torch.softmax(own.query(present) @ own.keys.T / 32**0.5, 1)
    assert torch.allclose((made[:, :3] - mean[:3]) / scale[:3], weights @ own.values, atol=1e-5)
    assert torch.allclose(weights.sum(1), torch.ones(3))


def test_whole_rows_lose_one_group_or_none() -> None:
    inputs = torch.randn(4000, 8)
    inputs[:10, :3] = torch.nan
    kept = hide(inputs, ((0, 4), (4, 8)), 0.5)
    photos, texts = kept[:, :4].isnan().all(1), kept[:, 4:].isnan().all(1)
    assert torch.equal(kept[:10].isnan(), inputs[:10].isnan())
    assert not (photos & texts).any()
    assert torch.equal(kept[~(photos | texts)].nan_to_num(), inputs[~(photos | texts)].nan_to_num())
    assert 0.2 < photos.float().mean().item() < 0.3
    assert 0.2 < texts.float().mean().item() < 0.3
    assert torch.equal(hide(inputs, ((0, 4), (4, 8)), 0.0).nan_to_num(), inputs.nan_to_num())
