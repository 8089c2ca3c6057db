"""models/augment.py: the eight turns and their inverses; crops and colour repeat by number, for mask and photo."""

import numpy as np
import pytest
import torch

from magic_cli.models.augment import Augment, turn, unturn

VIEWS = range(8)


@pytest.mark.parametrize("shape", [(3, 3), (3, 5, 5), (2, 3, 4, 4)])
def test_a_turn_is_undone(shape: tuple[int, ...]) -> None:
    x = torch.arange(float(np.prod(shape))).view(shape)
    for view in VIEWS:
        assert torch.equal(unturn(turn(x, view), view), x)
        assert torch.equal(turn(unturn(x, view), view), x)


def test_eight_views_are_the_eight_symmetries_of_the_square() -> None:
    x = torch.arange(9).view(3, 3)
    views = {tuple(turn(x, view).flatten().tolist()) for view in VIEWS}
    turned = [np.rot90(y, k) for y in (x.numpy(), x.numpy().T) for k in range(4)]
    assert len(views) == 8
    assert views == {tuple(y.flatten().tolist()) for y in turned}


def test_views_by_hand() -> None:
    x = torch.tensor([[1, 2], [3, 4]])
    assert torch.equal(turn(x, 0), x)
    assert turn(x, 1).tolist() == [[2, 1], [4, 3]]  # left and right
    assert turn(x, 2).tolist() == [[3, 4], [1, 2]]  # top and bottom
    assert turn(x, 4).tolist() == [[1, 3], [2, 4]]  # transposed
    assert turn(x, 5).tolist() == [[3, 1], [4, 2]]  # a quarter turn: transposed first, then flipped


def test_photo_and_mask_turn_together() -> None:
    mask = (torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) > 0.5).to(torch.uint8)
    photo = mask.expand(3, 6, 6) * torch.tensor([10, 20, 30], dtype=torch.uint8).view(3, 1, 1)
    for view in VIEWS:
        assert torch.equal(turn(photo, view) > 0, (turn(mask, view) > 0).expand(3, 6, 6))


def pair(side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """A photo whose red channel is its mask."""
    mask = torch.zeros(side, side, dtype=torch.uint8)
    mask[10:30, 5:40] = 255
    photo = torch.randint(0, 256, (3, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    photo[0] = mask
    return photo, mask


def test_photo_and_mask_are_cropped_together() -> None:
    augment = Augment(32, 0.3, 0.0)
    for seed in range(20):
        photo, mask = augment(*pair(), seed)
        assert photo.shape == (3, 32, 32)
        assert photo.dtype == mask.dtype == torch.uint8
        assert torch.equal(photo[0], mask)


def test_a_number_names_a_view_whatever_ran_before() -> None:
    augment = Augment(32, 0.5, 0.3)
    first = augment(*pair(), 7)
    torch.rand(5)
    before = torch.get_rng_state()
    again = augment(*pair(), 7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(before, torch.get_rng_state())  # the run's own randomness goes on undisturbed
    others = [augment(*pair(), seed)[0] for seed in range(12)]
    assert len({tuple(photo.flatten().tolist()) for photo in others}) == 12


def test_coarse_views_lose_detail_and_nothing_else() -> None:
    """Noise becomes smoother, the mean and the mask stay; a share of 0.5 is about half of the views."""
    plain, coarse = Augment(32, 1.0, 0.0), Augment(32, 1.0, 0.0, 0.5)
    changed = 0
    for seed in range(40):
        (photo, mask), (other, same) = plain(*pair(), seed), coarse(*pair(), seed)
        assert torch.equal(mask, same)
        if not torch.equal(photo, other):
            changed += 1
            before, after = photo[1].float(), other[1].float()
            assert after.std() < 0.8 * before.std()
            assert abs(after.mean() - before.mean()) < 2
    assert 10 < changed < 30


def test_views_that_are_zoomed_out_show_all_of_a_lesion_and_make_it_smaller() -> None:
    """The lesion keeps its shape up to a side 1.6 times as large, the canvas has the photo's mean; half are plain."""
    photo = torch.full((3, 48, 48), 90, dtype=torch.uint8)
    mask = torch.zeros(48, 48, dtype=torch.uint8)
    mask[8:40, 8:40] = 255
    photo[0, 8:40, 8:40] = 210
    plain, zoomed = Augment(48, 1.0, 0.0), Augment(48, 1.0, 0.0, zoom_out=0.5)
    whole = plain(photo, mask, 0)[1].float().mean()
    shares = []
    for seed in range(60):
        seen, lesion = zoomed(photo, mask, seed)
        shares.append(float(lesion.float().mean() / whole))
        assert seen.dtype == lesion.dtype == torch.uint8
        assert abs(float(seen[1].float().mean()) - 90) <= 1  # where the photo is even, the canvas is as it
    assert 15 < sum(share < 0.99 for share in shares) < 45
    assert 1 / 1.6**2 - 0.03 < min(shares) < 0.6
    assert max(shares) < 1.03


def test_colour_leaves_the_mask_alone() -> None:
    plain, coloured = Augment(32, 0.5, 0.0), Augment(32, 0.5, 0.5)
    changed = 0
    for seed in range(10):
        (photo, mask), (other, same) = plain(*pair(), seed), coloured(*pair(), seed)
        assert torch.equal(mask, same)
        changed += not torch.equal(photo, other)
    assert changed == 10


def test_crops_keep_at_least_their_area() -> None:
    side = 60
    rows = torch.arange(side, dtype=torch.uint8).view(side, 1).expand(side, side)
    seen = []
    for seed in range(60):
        _, mask = Augment(side, 0.5, 0.0)(rows.expand(3, side, side), rows.contiguous(), seed)
        span = (int(mask.max()) - int(mask.min())) / (side - 1)
        seen.append(span)
        assert span >= 0.5**0.5 * 0.8**0.5 - 0.08
    assert min(seen) < 0.9
