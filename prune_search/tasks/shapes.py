"""How the shapes of outputs and targets fit together: which dimension holds the classes, and numbers of one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Targets of this value count for nothing, as in torch.
IGNORED = -100

# Kinds of targets whose outputs are probabilities of classes.
OF_CLASSES = ("classes", "chances", "tokens")


def class_dimension(scores: Tensor, targets: object) -> int:
    """The dimension of the classes: the second one, or the last one where only that goes with the targets.

    Args:
        scores: [B, C], [B, C, …] or [B, …, C].
        targets: classes [N, …], whose number of examples does not matter; anything else says nothing.
    """
    places = tuple(getattr(targets, "shape", ()))[1:]
    shape = tuple(scores.shape)
    return len(shape) - 1 if len(shape) > 2 and places == shape[1:-1] and places != shape[2:] else 1


def classes_second(scores: Tensor, targets: object) -> Tensor:
    """Scores as torch's losses want them, [B, C, …]."""
    _check_there(targets)
    dimension = class_dimension(scores, targets)
    return scores if dimension == 1 else scores.movedim(dimension, 1)


def _check_there(targets: object) -> None:
    if targets is None:
        raise ValueError("the batch has no labels, and the loss needs some")


def squeezed(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and targets without a dimension of 1 that only one of them has: the last, or the second, a channel."""
    return _without_one(scores, targets), _without_one(targets, scores)


def _without_one(tensor: Tensor, other: Tensor) -> Tensor:
    if tensor.dim() == other.dim() + 1 and tensor.dim() > 1:
        for place in (tensor.dim() - 1, 1):
            if tensor.shape[place] == 1 and (*tensor.shape[:place], *tensor.shape[place + 1 :]) == tuple(other.shape):
                return tensor.squeeze(place)
    return tensor


def alike(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers and their targets of one shape and type: what is never right, to spread one over the other, is refused.

    Raises:
        ValueError: they differ in more than a last or second dimension of 1.
    """
    _check_there(targets)
    scores, targets = squeezed(scores, targets)
    if scores.shape != targets.shape:
        raise ValueError(f"outputs of shape {tuple(scores.shape)} do not go with targets {tuple(targets.shape)}")
    return scores, targets.to(scores.dtype)
