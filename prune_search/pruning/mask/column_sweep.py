"""SparseGPT's sweep over the columns of a layer: later columns make up for what is removed from earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prune_search.pruning.mask.layerwise import Keeping
from prune_search.pruning.mask.mask_set import ScoreError


def damped(products: Tensor, damping: float) -> Tensor:
    """The lower Cholesky root of H + λ I, λ being `damping` times the mean of H's diagonal.

    Args:
        products: H, [inputs, inputs]; it is changed.
        damping: at least 0.

    Raises:
        ScoreError: there is none.
    """
    diagonal = products.diagonal()
    diagonal.add_(damping * diagonal.mean())
    diagonal[diagonal == 0] = 1.0
    return _rooted(products, False, damping)


def _rooted(matrix: Tensor, upper: bool, damping: float) -> Tensor:
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(matrix, upper=upper)
    if bool(failed):
        text = f"the products of a layer's inputs have no Cholesky root with damping {damping:g}"
        raise ScoreError(f"{text}: raise the damping, or use more calibration examples")
    return root


@dataclass(frozen=True)
class Sweep:
    """The settings of a sweep.

    Attributes:
        damping: added to the diagonal of H, times its mean.
        columns: that are decided at a time; within n of m, a run.
    """

    damping: float = 0.01
    columns: int = 128

    def root(self, products: Tensor) -> Tensor:
        """U, the upper triangular root of (H + λ I)⁻¹ = Uᵀ U, [inputs, inputs].

        Args:
            products: H = Σ x xᵀ, [inputs, inputs]; it is changed. Of an input that is always 0 λ alone is left.

        Raises:
            ScoreError: H has no root: the damping is too small for it.
        """
        # The inverse takes the place of H, so that no more than two such matrices are in memory.
        torch.cholesky_inverse(damped(products, self.damping), out=products)
        return _rooted(products, True, self.damping)

    def pruned(self, weight: Tensor, root: Tensor, keeping: Keeping) -> tuple[Tensor, Tensor]:
        """The mask of a layer and the weight that makes up for it.

        Columns are decided in slices from the first to the last. The score of a weight w_j is w_j² / U_jj² (of n of m,
        when the sweep reaches its run); what is removed of column j moves the columns k after it by -w_j / U_jj · U_jk.

        Args:
            weight: [outputs, inputs].
            root: U of its inputs.
            keeping: of the layer, or of runs along the inputs; of a layer each slice keeps the same share.

        Returns:
            bool and float [outputs, inputs]; exactly as many are kept as asked.
        """
        return self._swept(weight, root, _Chooser(keeping, weight.shape))

    def compensated(self, weight: Tensor, root: Tensor, mask: Tensor, run: int = 0) -> Tensor:
        """The weight that makes up for a given mask, bool [outputs, inputs], by the same sweep.

        With the mask that `pruned` has found, and its run, it is the same weight bit for bit.
        """
        return self._swept(weight, root, _Given(mask, run))[1]

    def _swept(self, weight: Tensor, root: Tensor, chooser: _Chooser | _Given) -> tuple[Tensor, Tensor]:
        # Columns lie next to each other in memory: each of them is read and written whole.
        w = weight.T.contiguous()
        kept = torch.empty(w.shape, dtype=torch.bool, device=w.device)
        width = -(-self.columns // chooser.run) * chooser.run if chooser.run else self.columns
        for begin in range(0, len(w), width):
            end = min(begin + width, len(w))
            errors = self._slice(w, root, (begin, end), (chooser, kept))
            w[end:].addmm_(root[begin:end, end:].T, errors, alpha=-1)
        return kept.T.contiguous(), w.T.contiguous()

    def _slice(
        self, w: Tensor, root: Tensor, span: tuple[int, int], choosing: tuple[_Chooser | _Given, Tensor]
    ) -> Tensor:
        """Decide and compensate the columns of a span within it, and return their errors, [columns, outputs]."""
        (begin, end), (chooser, kept) = span, choosing
        part, among = w[begin:end], root[begin:end, begin:end]
        scale = among.diagonal()
        errors = torch.empty_like(part)
        at_a_time = chooser.run or end - begin
        for column in range(end - begin):
            if column % at_a_time == 0:
                chosen = slice(column, column + at_a_time)
                scores = part[chosen].square() / scale[chosen, None].square()
                kept[begin:end][chosen] = chooser.chosen(scores.T, begin + column).T
            torch.mul(part[column], ~kept[begin + column], out=errors[column])
            part[column] -= errors[column]
            errors[column] /= scale[column]
            part[column + 1 :].addr_(among[column, column + 1 :], errors[column], alpha=-1)
        return errors


class _Chooser:
    """Decides slice after slice, so that exact counts result."""

    def __init__(self, keeping: Keeping, shape: torch.Size) -> None:
        self.keeping = keeping
        self.run = keeping.run
        self.rows, self.inputs = shape
        allowed = keeping.allowed
        self.allowed = None if allowed is None else [0, *allowed.sum(0).cumsum(0).tolist()]

    def chosen(self, scores: Tensor, begin: int) -> Tensor:
        """The mask of a slice [outputs, columns] that begins at a column."""
        end = begin + scores.shape[1]
        allowed = None if self.keeping.allowed is None else self.keeping.allowed[:, begin:end]
        if self.run:
            return replace(self.keeping, parts=self.rows, allowed=allowed).of(scores)
        count = self._until(end) - self._until(begin)
        return replace(self.keeping, count=count, allowed=allowed).of(scores)

    def _until(self, column: int) -> int:
        """What is kept of the columns before one: the layer's share of those that may be, rounded half up."""
        steps = range(self.inputs + 1) if self.allowed is None else self.allowed
        whole = max(1, steps[-1])
        return (2 * self.keeping.count * steps[column] + whole) // (2 * whole)


class _Given:
    """The mask is there already."""

    def __init__(self, mask: Tensor, run: int) -> None:
        self.mask, self.run = mask, run

    def chosen(self, scores: Tensor, begin: int) -> Tensor:
        return self.mask[:, begin : begin + scores.shape[1]]
