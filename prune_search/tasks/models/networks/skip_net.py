"""The hourglass with skip connections of deep image prior (Ulyanov, Vedaldi, Lempitsky 2018, 1711.10925)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLOPE = 0.2


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with reflected borders, normalization, leaky ReLU: [N, inputs, H, W] to [N, outputs, H', W'].

    The normalization takes the statistics of the batch in evaluation too, as the released code does, which never leaves
    training mode: of a single picture they are the picture's own. A bias before it would have no effect.
    """
    border = kernel // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=border, bias=False, padding_mode="reflect")
    return nn.Sequential(convolution, _norm(outputs), nn.LeakyReLU(SLOPE))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


class Scale(nn.Module):
    """One scale of the hourglass: halved, what is inside, doubled, joined with what skips it.

    Args:
        inputs: channels of the input.
        channels: of the output, and of the layers.
        skip: channels that skip the scale; 0: none do.
        inside: the next scale, or nothing.
        mode: of the doubling, ``bilinear`` or ``nearest``.
    """

    def __init__(self, inputs: int, channels: int, skip: int, inside: nn.Module, mode: str) -> None:
        super().__init__()
        self.skip = _layer(inputs, skip, 1) if skip else None
        self.down = nn.Sequential(_layer(inputs, channels, 3, stride=2), _layer(channels, channels, 3))
        self.inside = inside
        self.doubled = nn.Upsample(scale_factor=2, mode=mode, align_corners=False if mode == "bilinear" else None)
        self.joined = _norm(channels + skip)
        self.up = nn.Sequential(_layer(channels + skip, channels, 3), _layer(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """From [N, inputs, H, W] to [N, channels, H, W]; H and W are even."""
        beside = [] if self.skip is None else [self.skip(x)]
        inner = self.doubled(self.inside(self.down(x)))
        found: Tensor = self.up(self.joined(torch.cat([*beside, inner], dim=1) if beside else inner))
        return found


class SkipNet(nn.Module):
    """Scales inside each other, then a 1x1 convolution.

    Args:
        inputs: channels of the input.
        outputs: channels of the picture.
        channels: of each scale.
        scales: how many there are.
        skip: channels that skip each scale.
        mode: of the doubling, ``bilinear`` or ``nearest``.
        sigmoid: whether the outputs are brought to 0 … 1.
    """

    def __init__(
        self, inputs: int, outputs: int, channels: int, scales: int, skip: int, mode: str, sigmoid: bool
    ) -> None:
        super().__init__()
        inside: nn.Module = nn.Identity()
        for scale in reversed(range(scales)):
            inside = Scale(channels if scale else inputs, channels, skip, inside, mode)
        self.hourglass = inside
        self.out = nn.Conv2d(channels, outputs, 1)
        self.range: nn.Module = nn.Sigmoid() if sigmoid else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """From [N, inputs, H, W] to [N, outputs, H, W]; H and W are multiples of 2^scales."""
        found: Tensor = self.range(self.out(self.hourglass(x)))
        return found
