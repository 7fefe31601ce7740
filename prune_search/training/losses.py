"""Losses: what training minimises and criteria differentiate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import LOSSES
from prune_search.recipe.facts import Loss
from prune_search.recipe.fields import Integer, ListOf, Number, Text, Word
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Option
from prune_search.recipe.training_options import DENSE, OFF
from prune_search.tasks.shapes import IGNORED, alike, class_dimension, classes_second

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.training.teaching import Lesson
else:
    from prune_search.lazy import torch


@LOSSES.register(
    "cross-entropy",
    summary="mean cross-entropy of the softmax of the logits",
    source="common practice",
    options={
        "label_smoothing": Option(
            Number(0.0, 1.0, below=True), 0.0, "share of the target that is spread over all classes", later=True
        ),
        "ignore_index": Option(Integer(-(2**31), 2**31), IGNORED, "targets of this value are ignored", later=True),
        "class_weights": Option(
            ListOf(Number(0.0), 0, 100_000),
            [],
            "weight of each class, instead of 1; the mean is weighted too",
            later=True,
        ),
    },
    facts=Loss(target="classes", metric="accuracy"),
)
def cross_entropy(
    outputs: Any,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORED,
    class_weights: Sequence[float] = (),
) -> Tensor:
    """The mean of -log softmax(logits)[label].

    Args:
        outputs: logits [B, C], [B, C, …] or [B, …, C], floating point; 16-bit logits are widened to float32 first.
        labels: [B] or [B, …], whole numbers in 0 … C - 1; or chances shaped like the logits.
        label_smoothing: share of the target that is spread over all classes, 0 … 1 (Szegedy et al. 2015, 1512.00567).
        ignore_index: targets that count for nothing.
        class_weights: one for each class, or none.

    Returns:
        A scalar, in nats.
    """
    logits, labels = classes_second(_logits(outputs), labels), _classes(labels)
    if not (label_smoothing or class_weights or ignore_index != IGNORED):
        return torch.nn.functional.cross_entropy(logits, labels)
    weights = torch.tensor(class_weights, dtype=logits.dtype, device=logits.device) if class_weights else None
    return torch.nn.functional.cross_entropy(
        logits, labels, weight=weights, ignore_index=ignore_index, label_smoothing=label_smoothing
    )


@LOSSES.register(
    "nll-logits",
    summary="minus the mean logit of the correct class, without softmax, as two published implementations do",
    source="the released code of de Jorge et al. 2020, arXiv 2006.09081 (naver/force); mil-ad/snip",
    facts=Loss(target="classes", metric="accuracy"),
)
def nll_logits(outputs: Any, labels: Tensor) -> Tensor:
    """The mean of -logits[label].

    The released code of FORCE (naver/force, pruning/pruning_algos.py) and the SNIP of mil-ad/snip (snip.py) score with
    ``F.nll_loss`` on networks that end in a linear layer and have no log-softmax. It is here so that their masks can be
    had; it is unbounded below and no loss to train with.

    Args:
        outputs: logits [B, C], floating point; 16-bit logits are widened to float32 first.
        labels: [B], int64 in 0 … C - 1.

    Returns:
        A scalar, in units of the logits.
    """
    return torch.nn.functional.nll_loss(classes_second(_logits(outputs), labels), _classes(labels))


@LOSSES.register(
    "binary-cross-entropy",
    summary="mean binary cross-entropy of the sigmoid of each output",
    source="common practice",
    options={"positive_weight": Option(Number(0.0, above=True), 1.0, "weight of targets that are 1", later=True)},
    facts=Loss(target="chances", metric="accuracy"),
)
def binary_cross_entropy(outputs: Any, labels: Tensor, *, positive_weight: float = 1.0) -> Tensor:
    """The mean of -y·w·log σ(z) - (1-y)·log(1-σ(z)).

    Args:
        outputs: logits z [B, …].
        labels: y, 0 … 1, of the same shape; a last or second dimension of 1 may be missing.
        positive_weight: w.

    Returns:
        A scalar, in nats.
    """
    logits, targets = alike(_logits(outputs), labels)
    weight = None if positive_weight == 1.0 else logits.new_tensor(positive_weight)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)


@LOSSES.register(
    "mse",
    summary="mean squared error",
    source="common practice",
    options={"ignore_value": Option(Number(), None, "targets of this value are ignored", later=True)},
    facts=Loss(target="numbers", metric="rmse"),
)
def mse(outputs: Any, labels: Tensor, *, ignore_value: float | None = None) -> Tensor:
    """The mean of (output - target)², in the square of the target's unit; both [B, …].

    Args:
        outputs: numbers [B, …].
        labels: targets of the same shape; a last or second dimension of 1 may be missing.
        ignore_value: targets of exactly this value are left out of the mean and of its gradient; None: all count. Of a
            batch of nothing else the mean is NaN.

    Returns:
        A scalar.

    Example:
        Outputs (1, 2, 3) and targets (0, 5, -100) with ``ignore_value`` -100: (1² + 3²) / 2 = 5.
    """
    numbers, targets = alike(_logits(outputs), labels)
    if ignore_value is None:
        return torch.nn.functional.mse_loss(numbers, targets)
    counts = targets != ignore_value
    # Not picked by the mask, whose length would have to come from the device.
    return torch.where(counts, numbers - targets, 0.0).square().sum() / counts.sum()


@LOSSES.register(
    "l1",
    summary="mean absolute error",
    source="common practice",
    facts=Loss(target="numbers", metric="mae"),
)
def l1(outputs: Any, labels: Tensor) -> Tensor:
    """The mean of |output - target|, in the target's unit; both [B, …]."""
    return torch.nn.functional.l1_loss(*alike(_logits(outputs), labels))


@LOSSES.register(
    "huber",
    summary="squared error near the target, absolute error far from it",
    source="Huber 1964, Robust Estimation of a Location Parameter",
    options={"delta": Option(Number(0.0, above=True), 1.0, "error from which it grows linearly", later=True)},
    facts=Loss(target="numbers", metric="mae"),
)
def huber(outputs: Any, labels: Tensor, *, delta: float = 1.0) -> Tensor:
    """The mean of e²/2 where |e| ≤ delta, else delta·(|e| - delta/2); e is output - target, both [B, …]."""
    return torch.nn.functional.huber_loss(*alike(_logits(outputs), labels), delta=delta)


@LOSSES.register(
    "model",
    summary="the loss that the network itself returns with its outputs",
    source="common practice of transformers",
    facts=Loss(target="outputs", metric="accuracy"),
)
def model(outputs: Any, labels: Any) -> Tensor:
    """``outputs.loss`` or ``outputs["loss"]``, a scalar."""
    from prune_search.tasks.outputs import carried_loss

    found = carried_loss(outputs)
    if found is None:
        raise ValueError("loss model: the outputs of the network carry no loss")
    return found


@LOSSES.register(
    "causal-language-model",
    summary="mean cross-entropy of each token, predicted from those before it",
    source="common practice",
    options={
        "ignore_index": Option(Integer(-(2**31), 2**31), IGNORED, "targets of this value are ignored", later=True)
    },
    facts=Loss(target="tokens", metric="perplexity"),
)
def causal_language_model(outputs: Any, labels: Tensor, *, ignore_index: int = IGNORED) -> Tensor:
    """The mean of -log softmax(logits[:, t])[labels[:, t + 1]]: the targets are the inputs, which are shifted here.

    Args:
        outputs: logits [B, T, V].
        labels: [B, T], int64 in 0 … V - 1.
        ignore_index: targets that count for nothing.

    Returns:
        A scalar, in nats per token.
    """
    logits = _logits(outputs)[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten().long(), ignore_index=ignore_index
    )


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
    given, wanted = _logits(outputs), _logits(lesson.outputs)
    if given.shape != wanted.shape:
        raise _unteachable(f"the teacher's outputs are {list(wanted.shape)}, and the network's {list(given.shape)}")
    classes = class_dimension(given, labels)
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


def _logits(outputs: Any) -> Tensor:
    """The scores among the outputs. A mean over a batch in 16 bits would lose most of its digits."""
    from prune_search.tasks.outputs import logits_of

    return _widened(logits_of(outputs))


def _classes(labels: Tensor) -> Tensor:
    """Classes as torch's losses take them: int64 (uint8 goes as well); chances stay what they are."""
    narrow = (torch.int8, torch.int16, torch.int32, torch.bool)
    return labels.long() if labels.dtype in narrow else labels


def _widened(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
