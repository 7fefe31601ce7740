"""Transforms without training: another draw of the weights, and statistics of the masked network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.weights.context import TransformContext
from prune_search.pruning.weights.transforms.redraw import batchnorm_recalibrate, reinit
from prune_search.recipe.recipe import Named
from prune_search.training.environment import autocast
from prune_search.training.loop import Network

DEVICE = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


Words = tuple[str | int, ...]


def setting(model: nn.Module, masks: MaskSet | None = None, seed: int = 1, words: Words = ("t", 1)) -> TransformContext:
    given = Network(model, DEVICE, autocast(DEVICE, "fp32"), nn.functional.cross_entropy)
    rule: Any = None

    def batch(number: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(number)
        return torch.randn(8, 1, 4, 4, generator=source) + number, torch.zeros(8, dtype=torch.long)

    feed: Callable[[], Any] = lambda: batch  # noqa: E731
    return TransformContext(given, masks, rule, (), Named("kaiming", {}, "kaiming"), seed, words, feed)


def drawn(**changes: Any) -> Tensor:
    model = network()
    reinit(setting(model, **changes))
    return model.get_parameter("0.weight").detach()


def test_every_place_round_and_seed_has_its_own_draw_and_none_is_the_first() -> None:
    assert torch.equal(drawn(), drawn())
    others = [drawn(seed=2), drawn(words=("t", 2)), drawn(words=("prepare", 1))]
    assert not any(torch.equal(drawn(), other) for other in others)
    assert not torch.equal(drawn(), network().get_parameter("0.weight"))


def test_statistics_are_the_cumulative_mean_over_the_batches_of_the_masked_network() -> None:
    model = network()
    mask = torch.ones(4, 1, 3, 3, dtype=torch.bool)
    mask[0] = False
    given = setting(model, MaskSet({"0.weight": mask, "4.weight": torch.ones(3, 16, dtype=torch.bool)}))
    batchnorm_recalibrate(given, batches=3)
    assert bool((model.get_parameter("0.weight")[0] == 0).all())
    with torch.no_grad():
        layer = model.get_submodule("0")
        seen = [layer(given.feed()(number)[0]) for number in range(3)]
    wanted = torch.stack([outputs.mean(dim=(0, 2, 3)) for outputs in seen]).mean(0)
    assert torch.allclose(model.get_buffer("1.running_mean"), wanted, atol=1e-5)
    # Of the removed filter only its bias is left.
    assert float(model.get_buffer("1.running_var")[0]) < 1e-6
