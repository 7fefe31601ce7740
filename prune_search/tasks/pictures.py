"""Turns images as bytes into a data set: scaled, normalised, with a validation split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prune_search.tasks.data import DataSet, Split, split_indices


@dataclass(frozen=True)
class Normalisation:
    """From a grey level to what a network sees: (level / top - mean) / std, channel by channel.

    Attributes:
        mean: of the scaled training pictures, one figure per channel.
        std: likewise.
        top: the grey level that is scaled to 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    top: float = 255.0

    def __call__(self, levels: Tensor) -> Tensor:
        """Normalise grey levels [N, C, H, W] of any dtype; the result is a new float32 tensor of that shape."""
        scaled = levels.to(torch.float32, copy=True).div_(self.top)
        per_channel = (1, -1, 1, 1)
        return scaled.sub_(torch.tensor(self.mean).view(per_channel)).div_(torch.tensor(self.std).view(per_channel))


def picture_set(
    name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], held_out: int, normalise: Normalisation
) -> DataSet:
    """A data set of ten classes from its official two parts.

    Args:
        name: how a recipe names it.
        train: grey levels [N, C, H, W] and labels [N]; `held_out` of them become the validation split.
        test: likewise, used whole.
        held_out: how many examples the validation split has.
        normalise: applied to all three splits alike.
    """
    levels, labels = train[0], train[1].long()
    rest, held = split_indices(labels, held_out)
    return DataSet(
        name,
        train=Split(normalise(levels[rest]), labels[rest]),
        validation=Split(normalise(levels[held]), labels[held]),
        test=Split(normalise(test[0]), test[1].long()),
        classes=10,
        held_out=True,
    )
