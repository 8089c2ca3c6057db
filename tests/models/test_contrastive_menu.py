"""models/contrastive: the objectives beside MAKE's, repeated texts, local pools and ontology targets, from formulas."""

import math
from dataclasses import replace

import pytest
import torch
from contrastive_pairs import drawn_pairs, reordered, with_gradient
from contrastive_processes import OPTIONS, PATHS, batch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive import ContrastiveLoss, ContrastiveOptions, PairFeatures, contrastive_loss

SCALE, BIAS = torch.tensor(5.0, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64)
MKCL = ContrastiveOptions()


def loss_of(features: PairFeatures, options: ContrastiveOptions, scale: Tensor = SCALE) -> ContrastiveLoss:
    return contrastive_loss(features, scale, options, bias=BIAS)


def values(loss: ContrastiveLoss) -> list[float]:
    return [loss.t2i.item(), loss.i2t.item(), loss.local.item()]


def only(objective: str, **options: object) -> ContrastiveOptions:
    return replace(MKCL, objective=objective, local_weight=0, **options)


def cross_entropies(logits: Tensor, targets: Tensor) -> list[float]:
    """From text to image and back: (N, N) logits of images by texts, and targets of each."""
    return [F.cross_entropy(logits.T, targets.T).item(), F.cross_entropy(logits, targets).item()]


def single(features: PairFeatures) -> tuple[Tensor, Tensor]:
    """Return the logits of images by texts, and which texts there are: the raw one, or the first that a photo has."""
    firsts = [next((j for j, there in enumerate(mask) if there), 0) for mask in features.mask]
    texts = torch.stack([photo[j] for photo, j in zip(features.texts, firsts, strict=True)])
    return SCALE * features.images @ texts.T, features.mask.any(1)


@pytest.mark.parametrize("name", OPTIONS)
class TestEveryObjective:
    def test_order_and_masked_texts_do_not_matter(self, name: str) -> None:
        features = batch("one has no texts")
        expected = values(loss_of(features, OPTIONS[name]))
        shuffled = reordered(features, torch.tensor([4, 2, 0, 5, 3, 1]))
        assert values(loss_of(shuffled, OPTIONS[name])) == pytest.approx(expected, abs=1e-12)
        assert features.patches is not None
        turned = replace(features, patches=features.patches.flip(1))
        assert values(loss_of(turned, OPTIONS[name])) == pytest.approx(expected, abs=1e-12)
        hidden = replace(features, texts=torch.where(features.mask[..., None], features.texts, torch.nan))
        assert values(loss_of(hidden, OPTIONS[name])) == expected

    def test_masked_texts_have_no_gradient_and_others_a_finite_one(self, name: str) -> None:
        features = with_gradient(batch("one has no texts"))
        loss_of(features, OPTIONS[name]).total.backward()
        assert features.texts.grad is not None
        assert features.texts.grad.isfinite().all()
        assert not features.texts.grad[~features.mask].any()
        assert features.images.grad is not None
        assert features.images.grad.isfinite().all()

    def test_chunks_change_nothing(self, name: str) -> None:
        found = []
        for rows in (1000, 4):
            features = with_gradient(batch("even"))
            loss = loss_of(features, replace(OPTIONS[name], chunk_rows=rows))
            loss.total.backward()
            found.append([loss.total, features.images.grad, features.texts.grad])
        torch.testing.assert_close(*found, rtol=0, atol=1e-13)

    def test_gradients_are_those_of_the_values(self, name: str) -> None:
        options = replace(OPTIONS[name], weighting="none")
        features = reordered(batch("even"), torch.tensor([0, 1, 3, 5]))
        mask = features.mask.clone()
        mask[:, 4:] = False
        features = replace(features, mask=mask)

        def total(texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
            return contrastive_loss(replace(features, texts=texts), scale, options, bias=bias).total

        inputs = [t.clone().requires_grad_() for t in (features.texts, SCALE, BIAS)]
        assert torch.autograd.gradcheck(total, inputs, fast_mode=True)

    def test_half_precision(self, name: str) -> None:
        features = batch("even")
        expected = values(loss_of(features, OPTIONS[name]))
        vectors = {key: getattr(features, key).bfloat16() for key in ("images", "texts", "patches")}
        with torch.autocast("cpu", torch.bfloat16):
            found = values(loss_of(replace(features, **vectors), OPTIONS[name]))
        assert found == pytest.approx(expected, rel=1e-2, abs=1e-2)


def test_clip_takes_the_first_text_that_a_photo_has() -> None:
    features = drawn_pairs()
    features.mask[4] = False
    logits, there = single(features)
    labels = torch.arange(5)[there]
    t2i = F.cross_entropy(logits.T[there], labels).item()  # the image of the photo without text competes
    i2t = F.cross_entropy(logits[there][:, there], torch.arange(4)).item()
    loss = loss_of(features, only("infonce"))
    assert values(loss) == pytest.approx([t2i, i2t, 0], abs=1e-12)
    assert loss.total.item() == pytest.approx((t2i + i2t) / 2, abs=1e-12)


@pytest.mark.parametrize("objective", ["infonce", "mkcl", "multi_positive"])
@pytest.mark.parametrize("same_text", ["negative", "ignore", "positive"])
def test_one_text_per_photo_and_none_twice_is_clip(objective: str, same_text: str) -> None:
    features = drawn_pairs()
    logits, _ = single(features)
    features = replace(features, mask=F.one_hot(features.mask.int().argmax(1), 6).bool())
    loss = loss_of(features, only(objective, same_text=same_text))
    expected = cross_entropies(logits, torch.eye(5, dtype=torch.float64))
    assert values(loss)[:2] == pytest.approx(expected, abs=1e-12)


def test_the_local_loss_is_beside_any_objective() -> None:
    features = drawn_pairs()
    local = loss_of(features, MKCL).local
    for objective in ("infonce", "dhn", "siglip", "multi_positive"):
        loss = loss_of(features, replace(MKCL, objective=objective))
        assert loss.local == local
        terms = loss.t2i + loss.i2t if objective == "dhn" else (loss.t2i + loss.i2t) / 2
        assert loss.total.item() == pytest.approx((terms + 0.7 * local).item(), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_soft_targets(temperature: float) -> None:
    concepts = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]], dtype=torch.float64)
    features = replace(drawn_pairs(), concepts=concepts)
    logits, _ = single(features)
    cosines = F.normalize(concepts, dim=1) @ F.normalize(concepts, dim=1).T
    targets = torch.softmax(cosines / temperature, 1)
    targets[2] = torch.eye(5, dtype=torch.float64)[2]  # without concepts: the photo alone
    expected = [F.cross_entropy(logits.T, targets).item(), F.cross_entropy(logits, targets).item()]
    found = values(loss_of(features, only("soft", soft_temperature=temperature)))
    assert found[:2] == pytest.approx(expected, abs=1e-12)


def test_soft_targets_without_a_common_concept_are_clip() -> None:
    features = replace(drawn_pairs(), concepts=torch.eye(5))
    clip = values(loss_of(features, only("infonce")))
    assert values(loss_of(features, only("soft", soft_temperature=1e-3))) == pytest.approx(clip, abs=1e-12)
    assert values(loss_of(features, only("soft", soft_temperature=1.0))) != pytest.approx(clip, abs=1e-2)


@pytest.mark.parametrize("beta", [0.0, 0.15, 1.0])
def test_dhn_is_its_formula(beta: float) -> None:
    features = drawn_pairs()
    logits, _ = single(features)
    expected = []
    for rows in (logits.T.tolist(), logits.tolist()):
        losses = []
        for i, row in enumerate(rows):
            negatives = [s for j, s in enumerate(row) if j != i]
            norm = sum(math.exp(beta * s) for s in negatives)
            weights = [len(negatives) * math.exp(beta * s) / norm for s in negatives]
            total = sum(w * math.exp(s) for w, s in zip(weights, negatives, strict=True))
            losses.append(math.log(total) - row[i])
        expected.append(sum(losses) / len(losses))
    loss = loss_of(features, only("dhn", hardness=beta))
    assert values(loss)[:2] == pytest.approx(expected, abs=1e-12)
    assert loss.total.item() == pytest.approx(sum(expected), abs=1e-12)


def test_dhn_without_hardness_is_decoupled_contrastive_learning() -> None:
    features = drawn_pairs()
    logits, _ = single(features)
    off = torch.eye(5, dtype=torch.bool)
    expected = torch.logsumexp(logits.masked_fill(off, -torch.inf), 1).mean() - logits.diag().mean()
    assert loss_of(features, only("dhn", hardness=0.0)).i2t.item() == pytest.approx(expected.item(), abs=1e-12)


def test_dhn_needs_negatives() -> None:
    with pytest.raises(ValueError, match="two photos"):
        loss_of(drawn_pairs(photos=1), only("dhn"))
    features = drawn_pairs(photos=2)
    features.mask[1] = False
    assert loss_of(features, only("dhn")).i2t == 0


@pytest.mark.parametrize("same_text", ["negative", "ignore", "positive"])
def test_siglip_is_its_formula(same_text: str) -> None:
    features = drawn_pairs()
    features.case_ids[4] = 0
    logits, _ = single(features)
    signs = 2 * torch.eye(5, dtype=torch.float64) - 1
    signs[0, 4] = signs[4, 0] = {"negative": -1, "ignore": 0, "positive": 1}[same_text]
    pairs = -F.logsigmoid(signs * (logits + BIAS)) * (signs != 0)
    loss = loss_of(features, only("siglip", same_text=same_text))
    assert loss.total.item() == pytest.approx(pairs.sum().item() / 5, abs=1e-12)


def repeated() -> PairFeatures:
    """Photo 4 has raw text and concept of photo 0, with the same vectors."""
    features = drawn_pairs()
    for column in (0, 2):
        features.texts[4, column], features.text_ids[4, column] = (
            features.texts[0, column],
            features.text_ids[0, column],
        )
    return features


@pytest.mark.parametrize("denominator", ["others", "all"])
@pytest.mark.parametrize("same_text", ["ignore", "positive"])
def test_repeated_texts(same_text: str, denominator: str) -> None:
    features, matching = repeated(), same_text == "positive"
    pairs = [tuple(pair) for pair in features.mask.nonzero().tolist()]
    ids = {pair: int(features.text_ids[pair]) for pair in pairs}
    of_photo = [{ids[pair] for pair in pairs if pair[0] == photo} for photo in range(5)]
    logit = {(n, p): float(SCALE * features.images[n] @ features.texts[p]) for n in range(5) for p in pairs}
    t2i, i2t = [], []
    for photo, column in pairs:
        pair = photo, column
        others = [n for n in range(5) if n != photo and ids[pair] in of_photo[n]]
        matches = [photo, *(others if matching else ())]
        competing = [n for n in range(5) if n not in others or matching]
        total = math.log(sum(math.exp(logit[n, pair]) for n in competing))
        t2i.append(total - sum(logit[n, pair] for n in matches) / len(matches))
        copies = [p for p in pairs if p[0] != photo and ids[p] == ids[pair]]
        rivals = [p for p in pairs if p[0] != photo and ids[p] not in of_photo[photo]]
        if denominator == "all":
            rivals = [p for p in pairs if p[0] == photo or p in rivals or matching]
        else:
            rivals += [pair, *(copies if matching else ())]
        i2t.append(math.log(sum(math.exp(logit[photo, p]) for p in rivals)) - logit[photo, pair])
    options = only("mkcl", same_text=same_text, denominator=denominator, weighting="none")
    expected = [sum(t2i) / len(t2i), sum(i2t) / len(i2t)]
    assert values(loss_of(features, options))[:2] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("same_text", "least"), [("negative", math.log(2)), ("ignore", 0), ("positive", math.log(2))])
def test_two_photos_of_one_case(same_text: str, least: float) -> None:
    """Photos of a case are the same vector here: they compete, are left out, or share the target."""
    images = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1, 2, 2]]
    features = PairFeatures(
        images=images,
        texts=images[:, None].expand(6, 5, 3),
        mask=torch.ones(6, 5, dtype=torch.bool),
        text_ids=torch.arange(15).view(3, 5).repeat_interleave(2, 0),
        case_ids=torch.tensor([7, 7, 8, 8, 9, 9]),
        patches=images[:, None],
    )
    loss = loss_of(features, replace(MKCL, same_text=same_text), torch.tensor(100.0, dtype=torch.float64))
    expected = {"negative": math.log(6), "ignore": 0, "positive": math.log(2)}[same_text]  # 5 texts of the other photo
    assert values(loss) == pytest.approx([least, expected, least], abs=1e-12)


def test_multi_positive_targets_are_all_matches() -> None:
    features = repeated()
    weights = features.mask.double()
    logits = SCALE * torch.einsum("nd,gcd->ngc", features.images, features.texts)
    losses = []
    for photo in range(5):
        owned = set(features.text_ids[photo][features.mask[photo]].tolist())
        match = torch.tensor([[int(i) in owned for i in row] for row in features.text_ids]) & features.mask
        match[photo] = features.mask[photo]
        target = weights * match / (weights * match).sum()
        total = torch.logsumexp(logits[photo][features.mask], 0)
        losses.append((total - (target * logits[photo]).sum()).item())
    loss = loss_of(features, only("multi_positive", weighting="none"))
    assert loss.i2t.item() == pytest.approx(sum(losses) / 5, abs=1e-12)
    assert loss.t2i == loss_of(features, only("mkcl", weighting="none", same_text="positive")).t2i


@pytest.mark.parametrize("same_text", ["negative", "ignore", "positive"])
@pytest.mark.parametrize("pool", ["sim", "max", "xattn"])
def test_with_one_patch_the_local_loss_is_from_text_to_image(pool: str, same_text: str) -> None:
    features = drawn_pairs()
    features.case_ids[1] = 0
    features = replace(features, patches=features.images[:, None])
    local = loss_of(features, replace(MKCL, local_pool=pool, same_text=same_text, weighting="none")).local
    alone = replace(features, mask=features.mask & (torch.arange(6) >= 3))
    expected = loss_of(alone, only("mkcl", same_text=same_text, weighting="none")).t2i
    assert local.item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("pool", ["max", "xattn"])
def test_local_pools_in_loops(pool: str) -> None:
    features = drawn_pairs()
    assert features.patches is not None
    losses = []
    for photo, column in features.mask.nonzero().tolist():
        if column < 3:
            continue
        pooled = []
        for patches in features.patches:
            similar = [float(patch @ features.texts[photo, column]) for patch in patches]
            weights = [math.exp(4 * s) for s in similar]
            mean = sum(w * s for w, s in zip(weights, similar, strict=True)) / sum(weights)
            pooled.append(5 * (max(similar) if pool == "max" else mean))
        losses.append(math.log(sum(map(math.exp, pooled))) - pooled[photo])
    local = loss_of(features, replace(MKCL, local_pool=pool, weighting="none")).local
    assert local.item() == pytest.approx(sum(losses) / len(losses), abs=1e-12)


def test_ontology_targets() -> None:
    features = batch("even")
    options = only("mkcl", weighting="none")
    plain, mixed = loss_of(features, options), loss_of(features, replace(options, ontology_beta=0.3))
    paths, mask = features.paths, features.mask
    assert paths is not None
    assert not mask[1, 1]
    classes = [[value for value in path if value] for path in paths.tolist()]

    def distance(a: list[int], b: list[int]) -> float:
        common = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        return 1 - 2 * common / (len(a) + len(b))

    assert [distance(classes[0], classes[n]) for n in (1, 3, 5)] == pytest.approx([0.6, 1, 0])
    changes = []
    for direction in ("t2i", "i2t"):
        change = 0.0
        for photo in range(6):
            if not mask[photo, 1] or not classes[photo]:
                continue
            logits = SCALE * (features.images @ features.texts[photo, 1])
            columns = [n for n in range(6) if classes[n]]
            if direction == "i2t":
                logits = SCALE * (features.texts[:, 1] @ features.images[photo])
                columns = [n for n in columns if mask[n, 1]]
            near = [-distance(classes[photo], classes[n]) / 0.07 for n in columns]
            weights = torch.softmax(torch.tensor(near, dtype=torch.float64), 0)
            change += 0.3 * (logits[photo] - (weights * logits[columns]).sum()).item()
        changes.append(change / int(mask.sum()))
    assert values(mixed)[:2] == pytest.approx([plain.t2i.item() + changes[0], plain.i2t.item() + changes[1]], abs=1e-12)


def test_ontology_without_share_is_the_plain_loss() -> None:
    features = batch("even")
    without = contrastive_loss(replace(features, paths=None), SCALE, MKCL)
    assert values(loss_of(features, replace(MKCL, ontology_beta=0.0))) == values(without)
    unknown = replace(features, paths=torch.zeros_like(PATHS))
    assert values(loss_of(unknown, replace(MKCL, ontology_beta=0.5))) == values(without)


@pytest.mark.parametrize(
    ("options", "missing"),
    [(only("soft"), "concepts"), (only("siglip"), "bias"), (replace(MKCL, ontology_beta=0.1), "paths")],
)
def test_what_is_missing_is_said(options: ContrastiveOptions, missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        contrastive_loss(drawn_pairs(), SCALE, options)
