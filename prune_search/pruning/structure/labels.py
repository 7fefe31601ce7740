"""Labels of units: every index of every dimension of a tensor has one, and operations tie labels together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
# Per dimension of a tensor the labels of its places, [size of the dimension].
Dims = list[Ids]
# The label of a place that cannot go.
FIXED = 0


def fixed(size: int) -> Ids:
    """Labels of places that cannot go, [size]."""
    return np.zeros(size, dtype=np.int64)


@dataclass
class Labels:
    """Labels, and what is known of them.

    Attributes:
        count: how many there are, `FIXED` among them.
        ties: pairs of labels of places that go together.
        fixes: labels of places that cannot go, and why.
    """

    count: int = 1
    ties: list[tuple[Ids, Ids]] = field(default_factory=list)
    fixes: list[tuple[Ids, str]] = field(default_factory=list)

    def fresh(self, size: int) -> Ids:
        """Labels that nothing is tied to yet, [size]; a dimension of one place cannot lose it."""
        if size <= 1:
            return fixed(size)
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def fix(self, ids: Ids, why: str) -> None:
        """Some places cannot go."""
        own = np.unique(ids[ids != FIXED])
        if own.size:
            self.fixes.append((own, why))

    def tie(self, first: Ids, second: Ids, why: str) -> Ids:
        """Places of which none goes without the one beside it.

        Args:
            first: labels.
            second: labels of the same shape.
            why: the reason for those that are tied to a place that cannot go.

        Returns:
            Labels for both.
        """
        both = (first != FIXED) & (second != FIXED)
        if both.any():
            self.ties.append((first[both], second[both]))
        self.fix(first[second == FIXED], why)
        self.fix(second[first == FIXED], why)
        return np.minimum(first, second)

    def classes(self) -> tuple[Ids, dict[int, str]]:
        """What each label stands for: the smallest label that it is tied to, or `FIXED`.

        Returns:
            The classes, [labels], and per class that cannot go one reason, by the smallest label of the class.
        """
        root = joined_roots(np.arange(self.count, dtype=np.int64), self.ties)
        reasons: dict[int, str] = {}
        for ids, why in self.fixes:
            for label in np.unique(root[ids]).tolist():
                reasons.setdefault(label, why)
        stuck = np.zeros(self.count, dtype=bool)
        stuck[[FIXED, *reasons]] = True
        self.roots = root
        return np.where(stuck[root], FIXED, root), reasons


def joined_roots(root: Ids, ties: list[tuple[Ids, Ids]]) -> Ids:
    """The smallest label that each is tied to, with some more ties.

    Args:
        root: without these ties, [labels].
        ties: pairs of labels.
    """
    if not ties:
        return root
    first, second = (np.concatenate(side) for side in zip(*ties, strict=True))
    while True:
        ones, others = root[first], root[second]
        apart = ones != others
        if not apart.any():
            return root
        first, second, ones, others = first[apart], second[apart], ones[apart], others[apart]
        low, high = np.minimum(ones, others), np.maximum(ones, others)
        np.minimum.at(root, high, low)
        while not np.array_equal(root, root[root]):
            root = root[root]


def same_everywhere(ids: Ids, axis: int) -> bool:
    """Whether labels [a, b, …] depend on their place along one axis only."""
    lines = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
    return bool((lines == lines[:, :1]).all())


def labelled(dims: Iterable[Ids]) -> list[int]:
    """The dimensions of which some places can go, as far as it is known."""
    return [at for at, ids in enumerate(dims) if ids.any()]
