"""What a batch is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Request:
    """The examples of one batch.

    Attributes:
        chosen: their indices, int64 [B], on the device of the split.
        seed: gives the number that what reads an example draws from, together with its index.
    """

    chosen: Tensor
    seed: Callable[[], int]
