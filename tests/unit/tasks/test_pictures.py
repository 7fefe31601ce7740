"""From grey levels to a data set."""

from __future__ import annotations

import torch

from prune_search.tasks.pictures import Normalisation, picture_set


def levels(count: int, channels: int = 2) -> torch.Tensor:
    source = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, channels, 3, 3), generator=source, dtype=torch.uint8)


def test_levels_are_scaled_and_normalised_channel_by_channel_and_left_as_they_were() -> None:
    given = levels(4)
    before = given.clone()
    found = Normalisation((0.5, 0.25), (0.2, 0.5))(given)
    assert found.dtype == torch.float32
    assert torch.allclose(found[:, 1], (given[:, 1] / 255 - 0.25) / 0.5, atol=1e-6)
    assert torch.equal(given, before)
    assert float(Normalisation((0.0,), (1.0,), top=16.0)(torch.full((1, 1, 1, 1), 16))) == 1.0


def test_the_validation_split_is_held_out_of_the_training_part_and_the_test_part_is_whole() -> None:
    labels = torch.arange(100, dtype=torch.uint8) % 10
    plain = Normalisation((0.0, 0.0), (1.0, 1.0))
    data = picture_set("mine", (levels(100), labels), (levels(20), labels[:20]), 30, plain)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [70, 30, 20]
    assert (data.classes, data.train.labels.dtype) == (10, torch.int64)
    rows = torch.cat([data.train.inputs, data.validation.inputs]).reshape(100, -1).mul(255).round().to(torch.uint8)
    assert sorted(rows.tolist()) == sorted(levels(100).reshape(100, -1).tolist())
