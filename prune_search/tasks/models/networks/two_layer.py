"""The two-layer network of a theory of pruning: powers of ReLU, and a readout that is not trained."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu


class PolynomialReLU(nn.Module):
    """max(z, 0)^q / q, element by element.

    Args:
        power: q; 1 is ReLU.
    """

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        """From any shape to the same."""
        positive = relu(x)
        found = positive
        for _ in range(self.power - 1):
            found = found * positive
        return found * (1 / self.power)

    def extra_repr(self) -> str:
        """What tells two of them apart."""
        return f"power={self.power}"


class SumPerClass(nn.Module):
    """The sum over each class's own neurons: a readout of ones, which is neither trained nor pruned.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """From [N, K * m], the m neurons of class 0 first, to [N, K]."""
        return x.reshape(x.shape[0], self.classes, -1).sum(dim=2)

    def extra_repr(self) -> str:
        """What tells two of them apart."""
        return f"classes={self.classes}"
