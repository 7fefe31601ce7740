"""Small networks, and data for them, on which entries are checked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.scoring import Batches
from prune_search.tasks.models.networks.mixture import Mixture

CLASSES = 3


def perceptron() -> nn.Module:
    """Two hidden layers, for inputs [examples, 1, 4, 4]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def convolutional() -> nn.Module:
    """Two convolutions and a BatchNorm, for inputs [examples, 1, 4, 4]."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, CLASSES),
    )


def with_dropout() -> nn.Module:
    """A hidden layer and dropout, for inputs [examples, 1, 4, 4]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, CLASSES))


class ResidualBlock(nn.Module):
    """A hidden layer beside a skip connection, [examples, width] to the same."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """The stream and what is added to it."""
        return x + self.down(nn.functional.relu(self.up(x)))  # type: ignore[no-any-return]


def residual() -> nn.Module:
    """Three residual blocks, for inputs [examples, 1, 4, 4]."""
    blocks = nn.Sequential(ResidualBlock(4, 3), ResidualBlock(4, 3), ResidualBlock(4, 3))
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), blocks, nn.Linear(4, CLASSES))


def experts() -> nn.Module:
    """Two mixtures of four experts, of which each example goes through one or two, for inputs [examples, 1, 4, 4]."""
    mixtures = [Mixture(3, 2, 4, chosen) for chosen in (1, 2)]
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3), *mixtures, nn.Linear(3, CLASSES))


NETWORKS = {"perceptron": perceptron, "convolutional": convolutional, "dropout": with_dropout}
# For what needs more structure than those have.
STRUCTURED = {"residual": residual, "experts": experts}
# Those of them that have the units of a granularity; of the others the first.
HAVING = {"expert": "experts"}


def network_named(name: str) -> nn.Module:
    """The same weights each time; at most 200 that can be pruned."""
    torch.manual_seed(4)
    return {**NETWORKS, **STRUCTURED}[name]()


def batches(iteration: int = 1) -> Batches:
    """Two batches of six examples, [6, 1, 4, 4]; others in each iteration."""
    source = torch.Generator().manual_seed(iteration)
    return [
        (torch.randn(6, 1, 4, 4, generator=source), torch.randint(CLASSES, (6,), generator=source)) for _ in range(2)
    ]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the examples of logits [examples, classes], a scalar."""
    return nn.functional.cross_entropy(logits, labels)


def trained_network() -> nn.Module:
    """A convolution, a BatchNorm and a linear layer, for inputs [examples, 1, 8, 8] of five classes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
