"""Fits an affine map to examples of inputs and outputs, by least squares on their covariances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch


@dataclass
class Moments:
    """The means and covariances of inputs x and outputs y, summed up over batches in float64.

    Sums are taken of differences from the first batch's means, so that large means cost no digits.

    Attributes:
        count: pairs so far.
    """

    count: int = 0
    _shifts: tuple[Tensor, Tensor] | None = None
    _sums: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor, y: Tensor) -> None:
        """More pairs.

        Args:
            x: inputs, [pairs, inputs].
            y: outputs, [pairs, outputs].
        """
        x, y = x.double(), y.double()
        if self._shifts is None:
            self._shifts = x.mean(0), y.mean(0)
        x, y = x - self._shifts[0], y - self._shifts[1]
        more = [x.sum(0), y.sum(0), x.T @ x, y.T @ x]
        self._sums = [old.add_(new) for old, new in zip(self._sums, more, strict=True)] if self._sums else more
        self.count += len(x)

    def means(self) -> tuple[Tensor, Tensor]:
        """E x, [inputs], and E y, [outputs]."""
        if self._shifts is None:
            raise ValueError("no pair was added")
        return self._shifts[0] + self._sums[0] / self.count, self._shifts[1] + self._sums[1] / self.count

    def covariances(self) -> tuple[Tensor, Tensor]:
        """C_x, [inputs, inputs], and C_yx, [outputs, inputs]: of the sample, divided by its size."""
        x, y, xx, yx = self._sums
        n = self.count
        return xx / n - torch.outer(x, x) / n**2, yx / n - torch.outer(y, x) / n**2


def affine_fit(moments: Moments, ridge: float) -> tuple[Tensor, Tensor]:
    """The affine map that makes E ‖y - (W x + b)‖² + ρ ‖W‖² least.

    W = C_yx (C_x + ρ I)⁻¹ and b = E y - W E x. For y = W₂ a₁ + b₂ this is W₂ C_{a₁x} (C_x + ρ I)⁻¹ with
    b = W₂ E a₁ - W E x + b₂ (Ghods et al. 2020, 2001.10509).

    Args:
        moments: of the sample.
        ridge: ρ, at least 0; with 0 the solution of least norm.

    Returns:
        W, [outputs, inputs], and b, [outputs], float64.

    Example:
        Of pairs with y = 3 x + 1 the map is W = 3, b = 1, but for the ridge: W = 3 v / (v + ρ) with the variance v.
    """
    of_x, of_yx = moments.covariances()
    held = of_x.clone()
    held.diagonal().add_(ridge)
    root, failed = torch.linalg.cholesky_ex(held)
    if ridge == 0.0 or bool(failed):
        # Inputs that depend on each other, beside which the ridge, if there is one, is less than a rounding error.
        weight: Tensor = of_yx @ torch.linalg.pinv(held, hermitian=True, rtol=1e-12)
    else:
        weight = torch.cholesky_solve(of_yx.T, root).T
    x, y = moments.means()
    return weight, y - weight @ x
