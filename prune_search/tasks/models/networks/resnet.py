"""The residual network for CIFAR (He, Zhang, Ren, Sun 2016, arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, relu


class ZeroPadding(nn.Module):
    """The paper's option A: every second pixel in each direction, and channels of zeros behind the others.

    Args:
        added: how many channels are added.
        stride: of the pixels that are kept.
    """

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added = added
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """From [N, C, H, W] to [N, C + added, ⌈H/stride⌉, ⌈W/stride⌉]."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))

    def extra_repr(self) -> str:
        """What tells two of them apart."""
        return f"added={self.added}, stride={self.stride}"


class Block(nn.Module):
    """Two convolutions, and the input added: relu(shortcut(x) + scale * f(x)).

    Args:
        inputs: channels of the input.
        filters: channels of the output.
        stride: of the first convolution.
        projection: whether a shortcut between different shapes is a 1x1 convolution (option B).
        scale: factor of the residual branch.
    """

    def __init__(self, inputs: int, filters: int, stride: int, projection: bool, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Identity()
        if (inputs, stride) != (filters, 1):
            self.shortcut = ZeroPadding(filters - inputs, stride)
            if projection:
                convolution = nn.Conv2d(inputs, filters, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(filters))

    def forward(self, x: Tensor) -> Tensor:
        """From [N, inputs, H, W] to [N, filters, ⌈H/stride⌉, ⌈W/stride⌉]."""
        branch = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(self.shortcut(x) + self.scale * branch)

    def extra_repr(self) -> str:
        """What no parameter shows."""
        return f"scale={self.scale:g}"


class ResNet(nn.Module):
    """A convolution, three stages of blocks (the later two halve the picture), the mean over pixels, a linear layer.

    Args:
        channels: of the pictures.
        classes: number of outputs.
        blocks: per stage.
        width: filters of the first stage, doubled from stage to stage.
        projection: see `Block`.
        scale: see `Block`.
    """

    def __init__(self, channels: int, classes: int, blocks: int, width: int, projection: bool, scale: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)

        def stage(inputs: int, filters: int, stride: int) -> nn.Sequential:
            first = Block(inputs, filters, stride, projection, scale)
            return nn.Sequential(first, *(Block(filters, filters, 1, projection, scale) for _ in range(blocks - 1)))

        self.stage1 = stage(width, width, stride=1)
        self.stage2 = stage(width, 2 * width, stride=2)
        self.stage3 = stage(2 * width, 4 * width, stride=2)
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """From pictures [N, channels, H, W] to scores [N, classes]."""
        features: Tensor = self.stage3(self.stage2(self.stage1(relu(self.bn(self.conv(x))))))
        scores: Tensor = self.fc(features.mean(dim=(2, 3)))
        return scores
