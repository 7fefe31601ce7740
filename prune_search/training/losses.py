"""Losses: what training minimises and criteria differentiate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import LOSSES
from prune_search.recipe.facts import Loss
from prune_search.recipe.fields import Number, Text, Word
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option
from prune_search.recipe.training_options import DENSE, OFF

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.training.teaching import Lesson
else:
    from prune_search.lazy import torch


@LOSSES.register("cross-entropy", summary="mean cross-entropy of the softmax of the logits", source="common practice")
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of -log softmax(logits)[label].

    Args:
        logits: [B, classes], floating point; 16-bit logits are widened to float32 first.
        labels: [B], int64 in 0 … classes - 1.

    Returns:
        A scalar, in nats.
    """
    return torch.nn.functional.cross_entropy(_widened(logits), labels)


@LOSSES.register(
    "nll-logits",
    summary="minus the mean logit of the correct class, without softmax, as two published implementations do",
    source="the released code of de Jorge et al. 2020, arXiv 2006.09081 (naver/force); mil-ad/snip",
)
def nll_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of -logits[label].

    The released code of FORCE (naver/force, pruning/pruning_algos.py) and the SNIP of mil-ad/snip (snip.py) score with
    ``F.nll_loss`` on networks that end in a linear layer and have no log-softmax. It is here so that their masks can be
    had; it is unbounded below and no loss to train with.

    Args:
        logits: [B, classes], floating point; 16-bit logits are widened to float32 first.
        labels: [B], int64 in 0 … classes - 1.

    Returns:
        A scalar, in units of the logits.
    """
    return torch.nn.functional.nll_loss(_widened(logits), labels)


@LOSSES.register(
    "distillation",
    summary="the task's loss and the distance of the softened outputs from those of a teacher",
    source="Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2; features: Romero et al. 2014, arXiv 1412.6550",
    options={
        "teacher": Option(Text(), DENSE, "dense: w(K) of the same trial; or the folder of an exported network"),
        "temperature": Option(Number(0.0, 1e3, above=True), 2.0, "T, by which the logits are divided"),
        "weight": Option(Number(0.0, 1.0), 0.5, "share of the teacher in the loss; the rest is the task's loss"),
        "features": Option(
            Word((OFF, "last")), OFF, "last: also the mean squared distance of the inputs of the output layer"
        ),
    },
    facts=Loss(taught=True),
)
def distillation(
    outputs: object,
    labels: object,
    *,
    lesson: Lesson,
    teacher: str = DENSE,
    temperature: float = 2.0,
    weight: float = 0.5,
    features: str = OFF,
) -> Tensor:
    """(1 - weight) * task + weight * (T² * KL(softmax(teacher / T) || softmax(student / T)) + MSE of the features).

    The divergence is the mean over the examples, and over the places of outputs that have some. T² keeps the size of
    its gradient whatever the temperature (section 2.1).

    Args:
        outputs: of the network: logits [B, classes, …], or [B, …, classes] where labels [B, …] show it; or an object or
            mapping that carries them.
        labels: of the task.
        lesson: what the teacher says of the batch.
        teacher: who it is; the lesson is its.
        temperature: T, above 0.
        weight: 0 … 1.
        features: ``none`` or ``last``.

    Returns:
        A scalar.

    Raises:
        UserError: the two do not have outputs of the same shape, or have a single one, whose softmax is always 1.
    """
    from prune_search.tasks.outputs import logits_of

    given, wanted = _widened(logits_of(outputs)), _widened(logits_of(lesson.outputs))
    if given.shape != wanted.shape:
        raise _unteachable(f"the teacher's outputs are {list(wanted.shape)}, and the network's {list(given.shape)}")
    classes = _classes(given, labels)
    if given.ndim < 2 or given.shape[classes] < 2:
        raise _unteachable("distillation compares probabilities of classes, and the network has a single output")
    student, master = (torch.log_softmax(one / temperature, dim=classes) for one in (given, wanted))
    places = given.numel() // given.shape[classes]
    apart = torch.nn.functional.kl_div(student, master, reduction="sum", log_target=True) / places
    taught = temperature**2 * apart
    if lesson.features is not None:
        own, other = lesson.features
        if own.shape != other.shape:
            text = (
                f"the inputs of the teacher's output layer are {list(other.shape)}, and the network's {list(own.shape)}"
            )
            raise _unteachable(text, "retrain.loss.features")
        taught = taught + torch.nn.functional.mse_loss(_widened(own), _widened(other))
    return (1.0 - weight) * lesson.task(outputs, labels) + weight * taught


def _unteachable(message: str, path: str = "retrain.loss.teacher") -> UserError:
    return UserError([Problem(path, message, form=False)])


def _classes(logits: Tensor, labels: object) -> int:
    """The dimension of the classes: the second one, or the last one where the labels have all others."""
    if isinstance(labels, torch.Tensor) and logits.ndim > 2 and labels.shape == logits.shape[:-1]:
        return logits.ndim - 1 if labels.shape != (logits.shape[0], *logits.shape[2:]) else 1
    return 1


def _widened(logits: Tensor) -> Tensor:
    """A mean over a batch in 16 bits would lose most of its digits."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
