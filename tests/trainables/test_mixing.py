"""MixUp and CutMix equal torchvision's v2 transforms on the same share, and Beta draws follow Beta."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from trainables.mixing import beta, blend, boxes, mix_batch, soften
from trainables.randomness import key


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Return images [6, 3, 12, 16], classes and sample numbers."""
    images = torch.rand(6, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    return images, torch.tensor([0, 1, 2, 3, 1, 0]), torch.tensor([30, 7, 12, 55, 2, 9])


def mixed(batch: tuple[Tensor, Tensor, Tensor], **options: Any) -> tuple[Tensor, Tensor]:
    images, targets, rows = batch
    values = {"classes": 4, "mixup": 0.0, "cutmix": 0.0, "seed": 1, "epoch": 0, "sample_index": rows} | options
    return mix_batch(images, targets, **values)


def test_blend_equals_torchvision_mixup(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    images, targets, _ = batch
    share = torch.full((6,), 0.3, dtype=torch.float64)
    theirs = v2.MixUp(num_classes=4)
    options = {"labels": targets, "batch_size": 6, "lam": 0.3}
    torch.testing.assert_close(blend(images, share), theirs.transform(images, options))
    soft = theirs.transform(targets, options)
    torch.testing.assert_close(blend(soften(targets, classes=4, dtype=torch.float32), share), soft)


def test_boxes_equal_torchvision_cutmix() -> None:
    """The same cut as `v2.CutMix.make_params` writes it: half sides floored, clipped at the border, share corrected."""
    height, width = 12, 16
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(50, 2, generator=generator, dtype=torch.float64)
    lam = torch.rand(50, generator=generator, dtype=torch.float64)
    inside, share = boxes(1.0 - lam, centre, height=height, width=width)
    for row in range(50):
        r_y, r_x = int(centre[row, 0] * height), int(centre[row, 1] * width)
        r = 0.5 * float((1.0 - lam[row]).sqrt())
        half_w, half_h = int(r * width), int(r * height)
        x1, y1 = max(r_x - half_w, 0), max(r_y - half_h, 0)
        x2, y2 = min(r_x + half_w, width), min(r_y + half_h, height)
        expected = torch.zeros(height, width, dtype=torch.bool)
        expected[y1:y2, x1:x2] = True
        assert torch.equal(inside[row], expected)
        assert share[row].item() == pytest.approx(1 - (x2 - x1) * (y2 - y1) / (height * width))


def test_cutmix_pastes_the_neighbour_and_counts_its_pixels(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    images = batch[0]
    result, soft = mixed(batch, cutmix=1.0)
    for row in range(6):
        own, other = (result[row] == images[row]).all(0), (result[row] == images[row - 1]).all(0)
        assert (own | other).all()
        labels = {int(batch[1][row]), int(batch[1][row - 1])}
        assert set(soft[row].nonzero().flatten().tolist()) <= labels
        expected = torch.zeros(4)
        expected[batch[1][row]] += own.float().mean()
        expected[batch[1][row - 1]] += 1 - own.float().mean()
        torch.testing.assert_close(soft[row], expected)


def test_mixup_targets_carry_the_share_of_the_pixels(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    images, targets, _ = batch
    result, soft = mixed(batch, mixup=1.0)
    share = ((result - images.roll(1, 0)) / (images - images.roll(1, 0))).flatten(1).median(dim=1).values
    torch.testing.assert_close(soft, blend(soften(targets, classes=4, dtype=torch.float32), share), atol=1e-4, rtol=0)


def test_both_choose_one_for_each_sample() -> None:
    images = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(400)
    result, _ = mix_batch(
        images, torch.zeros(400, dtype=torch.int64), classes=2, mixup=1.0, cutmix=1.0, seed=0, epoch=0, sample_index=rows
    )
    kept = ((result == images) | (result == images.roll(1, 0))).flatten(1).all(1)
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_off_gives_plain_one_hot_rows(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    result, soft = mixed(batch)
    assert torch.equal(result, batch[0])
    assert torch.equal(soft, torch.eye(4)[batch[1]])


def test_regression_mixes_values(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    images, _, rows = batch
    values = torch.arange(6, dtype=torch.float32)
    result, soft = mix_batch(images, values, classes=0, mixup=1.0, cutmix=0.0, seed=1, epoch=0, sample_index=rows)
    share = ((result - images.roll(1, 0)) / (images - images.roll(1, 0))).flatten(1).median(dim=1).values
    torch.testing.assert_close(soft, share * values + (1 - share) * values.roll(1), atol=1e-3, rtol=0)


def test_shares_depend_on_seed_epoch_and_sample_alone(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    _, soft = mixed(batch, mixup=0.4)
    assert torch.equal(mixed(batch, mixup=0.4)[1], soft)
    assert not torch.equal(mixed(batch, mixup=0.4, seed=2)[1], soft)
    assert not torch.equal(mixed(batch, mixup=0.4, epoch=1)[1], soft)
    rows = torch.arange(20)
    draws = beta(0.4, key(1, "mix", 0, 1), rows)
    torch.testing.assert_close(beta(0.4, key(1, "mix", 0, 1), rows[[7, 3]]), draws[[7, 3]])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_draws_follow_beta(alpha: float) -> None:
    draws = beta(alpha, key(0, "mix", 1), torch.arange(20_000)).numpy()
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).statistic < 0.015


def test_tiny_alpha_stays_finite() -> None:
    draws = beta(0.001, key(0, "mix", 1), torch.arange(2000))
    assert torch.isfinite(draws).all()
    assert ((draws < 0.01) | (draws > 0.99)).float().mean() > 0.98


def test_several_batches_at_once_are_each_mixed_with_their_own_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.rand(2, 3, 7, 3, 8, 8, generator=generator), torch.randint(0, 4, (2, 3, 7), generator=generator)
    index, seeds = torch.randint(0, 99, (2, 3, 7), generator=generator), torch.tensor([[4], [5], [6]])
    for mixup, cutmix in ((0.4, 0.0), (0.0, 1.0), (0.4, 1.0)):
        knobs = {"classes": 4, "mixup": mixup, "cutmix": cutmix, "epoch": 2}
        options = {**knobs, "seed": seeds, "sample_index": index}
        together, soft = mix_batch(images.flatten(0, 2), targets.flatten(), **options)
        for step in range(2):
            for slot in range(3):
                options = {**knobs, "seed": 4 + slot, "sample_index": index[step, slot]}
                alone, wanted = mix_batch(images[step, slot], targets[step, slot], **options)
                assert torch.equal(together.view(images.shape)[step, slot], alone)
                assert torch.equal(soft.view(2, 3, 7, 4)[step, slot], wanted)
