"""Multinomial logistic regression with an L2 penalty, for linear probes of frozen features."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float64]
Classes = NDArray[np.intp]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)

_FOLDS = 5

_STEPS = 300  # at most, of L-BFGS; a third of that, and less exact, where strengths are compared

_LEAST = 1e-6  # probability of a class that no training row has


def probabilities(
    train: Floats, gold: Classes, features: Floats, classes: int, strength: float, exact: bool = True
) -> Floats:
    """Fit on training rows and return the probability (M, classes) of each class for other rows.

    Minimises mean cross-entropy + strength / 2 * ||W||^2 by L-BFGS, in float64; the intercept is not penalised, so that
    scikit-learn's `LogisticRegression(C=1 / (strength * N))` is the same model. Features are centred and scaled to unit
    variance by the training rows.

    Args:
        train: (N, D) features.
        gold: (N,) class indices in [0, classes).
        features: (M, D).
        classes: number of classes; those without a training row get probability 0.
        strength: of the penalty, above 0.
        exact: whether the gradient must fall below 1e-7, else 1e-4.
    """
    present, target = np.unique(gold, return_inverse=True)
    found = np.zeros((len(features), classes))
    if len(present) == 1:
        found[:, present[0]] = 1.0
        return found
    mean, scale = _standard(train)
    rows, others = torch.from_numpy((train - mean) / scale), torch.from_numpy((features - mean) / scale)
    if len(rows) < rows.shape[1]:  # the solution lies in the span of the rows, which has fewer dimensions
        basis = torch.linalg.svd(rows, full_matrices=False).Vh
        rows, others = rows @ basis.T, others @ basis.T
    weight, bias = _fit(rows, torch.from_numpy(target), (len(present), strength), exact)
    found[:, present] = torch.softmax(others @ weight + bias, 1).numpy()
    return found


def linear_model(train: Floats, gold: Classes, strength: float) -> tuple[Classes, Floats, Floats]:
    """Fit as `probabilities`, and return the classes that have training rows, and their model of features as they are.

    Returns:
        (C,) indices of these classes, and float64 weight (C, D) and bias (C,), so that softmax(weight @ x + bias) is
        the probability of each. A single class has weights 0.
    """
    present, target = np.unique(gold, return_inverse=True)
    mean, scale = _standard(train)
    rows, basis = torch.from_numpy((train - mean) / scale), None
    if len(rows) < rows.shape[1]:  # as above
        basis = torch.linalg.svd(rows, full_matrices=False).Vh
        rows = rows @ basis.T
    weight, bias = _fit(rows, torch.from_numpy(target), (len(present), strength), True)
    raw = (weight if basis is None else basis.T @ weight).numpy().T / scale
    return present, raw, bias.numpy() - raw @ mean


def _standard(train: Floats) -> tuple[Floats, Floats]:
    """Return mean and deviation (D,) of features; the deviation of what is constant, and says nothing, is infinite."""
    mean, deviation = train.mean(0), train.std(0)
    constant = deviation <= 1e-9 * np.abs(mean).max(initial=1e-9)
    return mean, np.where(constant, np.inf, deviation)


def _fit(rows: Tensor, target: Tensor, model: tuple[int, float], exact: bool) -> tuple[Tensor, Tensor]:
    classes, strength = model
    weight = torch.zeros(rows.shape[1], classes, dtype=rows.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=rows.dtype, requires_grad=True)
    steps, least = (_STEPS, 1e-7) if exact else (_STEPS // 3, 1e-4)
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, tolerance_grad=least, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        value: Tensor = F.cross_entropy(rows @ weight + bias, target) + strength / 2 * weight.pow(2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        search.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def best_strength(train: Floats, gold: Classes, groups: Sequence[str], classes: int, seed: int) -> float:
    """Return the strength of STRENGTHS with the highest mean log-likelihood over at most five folds of whole groups."""
    names = sorted(set(groups))
    if len(names) < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[at]: place % min(_FOLDS, len(names)) for place, at in enumerate(order)}
    folds = np.array([fold_of[group] for group in groups])
    likelihood = []
    for strength in STRENGTHS:
        logs = []
        for fold in range(folds.max() + 1):
            held = folds == fold
            chances = probabilities(train[~held], gold[~held], train[held], classes, strength, exact=False)
            logs.append(np.log(np.maximum(chances[np.arange(held.sum()), gold[held]], _LEAST)))
        likelihood.append(np.concatenate(logs).mean())
    return STRENGTHS[int(np.argmax(likelihood))]
