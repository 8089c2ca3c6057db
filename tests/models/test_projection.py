"""models/projection.py: unit vectors of centred and scaled features."""

import torch

from magic_cli.models.projection import Normalised, Projection

FEATURES = 3 + 5 * torch.randn(40, 7, generator=torch.Generator().manual_seed(0))


def test_centre_and_scale_are_those_of_the_features() -> None:
    made = Projection(7, 4)
    made.fit(FEATURES)
    inputs = (FEATURES - made.mean) / made.scale
    torch.testing.assert_close(inputs.mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.pow(2).sum(1).mean(), torch.tensor(1.0))
    shifted = Projection(7, 4)
    shifted.load_state_dict(made.state_dict())
    shifted.fit(100 * FEATURES + 8)  # other units: the same vectors
    torch.testing.assert_close(shifted(100 * FEATURES + 8), made(FEATURES))


def test_vectors_are_of_norm_1_also_of_features_that_do_not_vary() -> None:
    made = Projection(7, 4)
    made.fit(torch.ones(5, 7))
    assert torch.isfinite(made(torch.ones(5, 7))).all()
    for module in (made, Normalised()):
        torch.testing.assert_close(module(FEATURES[None]).norm(dim=-1), torch.ones(1, 40))


def test_features_are_dropped_in_training_only() -> None:
    made = Projection(7, 4, dropout=0.5)
    assert not torch.equal(made.train()(FEATURES), made(FEATURES))
    assert torch.equal(made.eval()(FEATURES), made(FEATURES))
