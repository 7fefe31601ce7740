"""Gaussian processes as priors over functions: kernels, and draws of functions at given inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch

# Of the mean variance: what keeps a covariance positive definite in the face of rounding.
JITTER = 1e-6


@dataclass(frozen=True)
class Kernel:
    """A covariance function.

    Attributes:
        of: from (inputs [N, D], the process) to the covariances [N, N].
        stationary: whether it depends on distances alone, and so has a length scale and no bias.
    """

    of: Callable[[Tensor, GaussianProcess], Tensor]
    stationary: bool = False


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process with mean 0.

    Attributes:
        kernel: a key of `KERNELS`.
        amplitude: a, above 0.
        lengthscale: ℓ of a stationary kernel, above 0; None: the root mean square distance of two of the inputs, which
            is √(2·D) for D standardized inputs, the value of the paper's released code.
        bias: b of a kernel that is not stationary, at least 0.
        noise: standard deviation of the white noise that is part of the functions, at least 0.
    """

    kernel: str = "rbf"
    amplitude: float = 1.0
    lengthscale: float | None = None
    bias: float = 0.0
    noise: float = 0.0

    def covariance(self, inputs: Tensor) -> Tensor:
        """The covariances of a function's values.

        Args:
            inputs: [N, …]; all but the first dimension are flattened.

        Returns:
            float64 [N, N], noise included.
        """
        points = inputs.flatten(1).double()
        found = KERNELS[self.kernel].of(points, self)
        return found + self.noise**2 * torch.eye(len(points), dtype=torch.float64)

    def draw(self, inputs: Tensor, functions: int, source: torch.Generator) -> Tensor:
        """Functions at some inputs.

        Args:
            inputs: [N, …].
            functions: how many, S.
            source: on the CPU.

        Returns:
            float32 [S, N].
        """
        covariance = self.covariance(inputs)
        level = JITTER * float(covariance.diagonal().mean()) + 1e-12
        lower = torch.linalg.cholesky(covariance + level * torch.eye(len(covariance), dtype=torch.float64))
        normal = torch.randn((functions, len(covariance)), generator=source, dtype=torch.float64)
        found: Tensor = (normal @ lower.T).float()
        return found


def _rbf(x: Tensor, process: GaussianProcess) -> Tensor:
    square = torch.cdist(x, x).square()
    scale = process.lengthscale**2 if process.lengthscale is not None else _mean_square(square)
    return process.amplitude**2 * torch.exp(-square / (2 * scale))


def _mean_square(square: Tensor) -> float:
    """The mean square distance of two different inputs; 1 where they are all the same."""
    count = len(square)
    mean = float(square.sum()) / max(count * (count - 1), 1)
    return mean if mean > 0 else 1.0


def _linear(x: Tensor, process: GaussianProcess) -> Tensor:
    return process.amplitude**2 * (x @ x.T) / x.shape[1] + process.bias**2


def _arc_cosine(x: Tensor, process: GaussianProcess) -> Tensor:
    before = _linear(x, process)
    size = before.diagonal().clamp(min=0).sqrt()
    both = torch.outer(size, size)
    cosine = (before / both.clamp(min=1e-300)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    relu = both * (torch.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)
    return process.amplitude**2 * relu + process.bias**2


KERNELS: dict[str, Kernel] = {
    # a² exp(-‖x - x'‖² / 2ℓ²)
    "rbf": Kernel(_rbf, stationary=True),
    # a² x·x' / D + b²: a linear layer with weights N(0, a²/D) and biases N(0, b²)
    "linear": Kernel(_linear),
    # The same followed by a wide layer of ReLUs and a linear layer with a and b: Cho, Saul 2009, NeurIPS, order 1, with
    # E[relu(u) relu(v)]; Lee et al. 2018, 1711.00165, eq. 11.
    "arc-cosine": Kernel(_arc_cosine),
}
