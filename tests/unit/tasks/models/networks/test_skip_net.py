"""The hourglass with skip connections: its layers, and what passes them by."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.tasks.models.networks.skip_net import SkipNet
from prune_search.tasks.network import prunable_weights


def built(inputs: int, channels: int, scales: int = 2, skip: int = 4, sigmoid: bool = True) -> SkipNet:
    return SkipNet(inputs, 3, channels, scales, skip, "bilinear", sigmoid)


def test_skip_net_is_the_papers_in_layers_and_channels() -> None:
    """Five scales of 128 channels, 4 that skip: 3x3 down twice, 3x3 and 1x1 up, 1x1 for the picture."""
    model = built(32, channels=128, scales=5)
    count = sum(weight.numel() for weight in prunable_weights(model).values())
    down = 9 * 32 * 128 + 4 * 9 * 128 * 128 + 5 * 9 * 128 * 128
    up = 5 * (9 * 132 * 128 + 128 * 128)
    skip = 32 * 4 + 4 * 128 * 4
    assert count == down + up + skip + 128 * 3
    assert sum(isinstance(module, nn.Upsample) for module in model.modules()) == 5


def test_what_a_network_makes_of_a_picture_is_the_same_in_evaluation() -> None:
    torch.manual_seed(0)
    model = built(4, channels=6)
    given = torch.rand(1, 4, 16, 16)
    trained = model.train()(given).detach()
    assert torch.equal(model.eval()(given).detach(), trained)
    assert 0.0 < float(trained.min()) < float(trained.max()) < 1.0
    wide = built(4, channels=6, sigmoid=False)(given).detach()
    assert float(wide.min()) < 0.0


def test_skipping_channels_carry_what_is_finer_than_the_narrowest_place() -> None:
    """Without what goes through the scales inside, the output still depends on the input by skipping channels alone."""
    for skip in (0, 4):
        torch.manual_seed(1)
        model = built(4, channels=6, skip=skip, scales=2)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if ".down." in name:
                    weight.zero_()
            first, second = (model(torch.rand(1, 4, 16, 16)) for _ in range(2))
        assert torch.equal(first, second) is (skip == 0)
