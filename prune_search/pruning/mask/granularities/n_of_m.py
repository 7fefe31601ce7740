"""n of every m weights along the input channels, as sparse tensor cores expect them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.facts import Granularity
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from torch import Tensor


def _sparsity(*, n: int, m: int) -> float:
    return 1 - n / m


def _run(*, n: int, m: int) -> int:
    return m


def _fits(shape: tuple[int, ...], *, n: int, m: int) -> bool:
    return shape[1] % m == 0


def _check(*, n: int, m: int) -> str:
    return "" if n <= m else f"n must be at most m (got {n} of {m})"


@GRANULARITIES.register(
    "n-of-m",
    summary="n of every m weights along the inputs (2:4); layers whose inputs are not a multiple of m are not pruned",
    source="Mishra et al. 2021, Accelerating Sparse Deep Neural Networks, 2104.08378; Zhou et al. 2021, 2102.04010",
    options={
        "n": Option(Integer(1, 4096), 2, "weights kept in each run"),
        "m": Option(Integer(2, 4096), 4, "weights in a run"),
    },
    facts=Granularity(fixed_sparsity=_sparsity, by_channels=True, run=_run, fits=_fits, check=_check),
)
def n_of_m(tensor: Tensor, *, n: int, m: int) -> Tensor:
    """A weight [outputs, inputs, *kernel] as [weights, 1], runs of m along the inputs one after another."""
    del n, m
    return tensor.movedim(1, -1).reshape(-1, 1)
