"""Losses against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from prune_search.recipe.axes import LOSSES
from prune_search.training.teaching import Lesson

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0]])
LABELS = torch.tensor([1, 0])


def test_cross_entropy_is_the_mean_surprise() -> None:
    first = -math.log(math.exp(2.0) / (math.exp(1.0) + math.exp(2.0) + math.exp(0.5)))
    second = -math.log(math.exp(-1.0) / (math.exp(-1.0) + 1.0 + math.exp(3.0)))
    loss = LOSSES["cross-entropy"].make(LOGITS, LABELS)
    assert loss.shape == ()
    assert loss.item() == pytest.approx((first + second) / 2)


def test_nll_logits_takes_the_logits_for_log_probabilities() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = LOSSES["nll-logits"].make(logits, LABELS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(-(2.0 - 1.0) / 2)
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, -0.5, 0.0], [-0.5, 0.0, 0.0]]


def made(name: str, logits: torch.Tensor) -> torch.Tensor:
    """A loss of two examples of three outputs, with targets of the kind that it takes."""
    facts = LOSSES[name].facts
    outputs: object = {"logits": logits, "loss": logits.float().mean()} if facts.target == "outputs" else logits
    targets = {"classes": LABELS, "chances": torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), "numbers": LOGITS + 1}
    labels = targets.get(facts.target, LABELS)
    if facts.target == "tokens":
        outputs, labels = logits[None], LABELS[None]
    more = {"lesson": Lesson(LOGITS.flip(0).to(logits.dtype), LOSSES["cross-entropy"].make)} if facts.taught else {}
    return LOSSES[name].make(outputs, labels, **more)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"model"}))
def test_precision_is_not_lost(name: str) -> None:
    half = made(name, LOGITS.bfloat16())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(made(name, LOGITS).item())
    assert made(name, LOGITS.double()).dtype == torch.float64


def test_the_loss_of_the_network_itself_is_taken_as_it_is() -> None:
    own = torch.tensor(0.25)
    assert LOSSES["model"].make({"logits": LOGITS, "loss": own}, None) is own
    with pytest.raises(ValueError, match="the outputs of the network carry no loss"):
        LOSSES["model"].make({"logits": LOGITS}, None)


def test_classes_can_stand_in_the_second_or_the_last_dimension() -> None:
    source = torch.Generator().manual_seed(0)
    last, labels = torch.randn(2, 5, 4, generator=source), torch.randint(4, (2, 5), generator=source)
    wanted = -last.log_softmax(-1).gather(-1, labels[..., None]).mean()
    for logits in (last, last.movedim(-1, 1)):
        assert LOSSES["cross-entropy"].make(logits, labels).item() == pytest.approx(wanted.item())
        ignored = LOSSES["cross-entropy"].make(logits, labels.where(labels != 2, -100))
        assert ignored.item() == pytest.approx(
            -last.log_softmax(-1).gather(-1, labels[..., None])[labels != 2].mean().item()
        )


def test_class_weights_weigh_the_mean_and_smoothing_spreads_the_target() -> None:
    surprise = -LOGITS.log_softmax(1)
    weighted = (3.0 * surprise[0, 1] + 0.5 * surprise[1, 0]) / 3.5
    loss = LOSSES["cross-entropy"].make(LOGITS, LABELS, class_weights=[0.5, 3.0, 1.0])
    assert loss.item() == pytest.approx(weighted.item())
    target = torch.full((2, 3), 0.3 / 3)
    target[range(2), LABELS] += 0.7
    smoothed = LOSSES["cross-entropy"].make(LOGITS, LABELS, label_smoothing=0.3)
    assert smoothed.item() == pytest.approx((target * surprise).sum(1).mean().item())


def test_the_binary_loss_is_its_formula_and_weighs_the_positive() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    chance = LOGITS.sigmoid()
    wanted = -(4.0 * targets * chance.log() + (1 - targets) * (1 - chance).log()).mean()
    loss = LOSSES["binary-cross-entropy"].make(LOGITS, targets, positive_weight=4.0)
    assert loss.item() == pytest.approx(wanted.item())
    whole = LOSSES["binary-cross-entropy"].make(LOGITS[:, :1], targets[:, 0].long())
    assert whole.item() == pytest.approx(
        -(targets[:, 0] * chance[:, 0].log() + (1 - targets[:, 0]) * (1 - chance[:, 0]).log()).mean().item()
    )


def test_errors_of_numbers_are_their_formulas_and_are_never_spread_over_each_other() -> None:
    targets = LOGITS + torch.tensor([[0.5, -3.0, 0.0], [2.0, 0.1, -0.2]])
    error = LOGITS - targets
    huber = torch.where(error.abs() <= 1.5, error.square() / 2, 1.5 * (error.abs() - 0.75)).mean()
    assert LOSSES["mse"].make(LOGITS, targets).item() == pytest.approx(error.square().mean().item())
    assert LOSSES["l1"].make(LOGITS, targets).item() == pytest.approx(error.abs().mean().item())
    assert LOSSES["huber"].make(LOGITS, targets, delta=1.5).item() == pytest.approx(huber.item())
    one = LOSSES["mse"].make(LOGITS[:, :1], targets[:, 0])
    assert one.item() == pytest.approx(error[:, 0].square().mean().item())
    for name in ("mse", "l1", "huber", "binary-cross-entropy"):
        with pytest.raises(ValueError, match=r"outputs of shape \(2, 3\) do not go with targets \(2,\)"):
            LOSSES[name].make(LOGITS, targets[:, 0])


def test_a_language_model_predicts_each_token_from_those_before_it() -> None:
    source = torch.Generator().manual_seed(0)
    logits, tokens = torch.randn(2, 4, 6, generator=source), torch.randint(6, (2, 4), generator=source)
    surprise = [-logits[b, t].log_softmax(0)[tokens[b, t + 1]] for b in range(2) for t in range(3)]
    loss = LOSSES["causal-language-model"].make(logits, tokens)
    assert loss.item() == pytest.approx(torch.stack(surprise).mean().item())
    tokens[0, 3] = -100
    kept = LOSSES["causal-language-model"].make(logits, tokens)
    assert kept.item() == pytest.approx(torch.stack(surprise[:2] + surprise[3:]).mean().item())


def test_ignored_targets_change_neither_the_mean_squared_error_nor_its_gradient() -> None:
    outputs = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    loss = LOSSES["mse"].make(outputs, torch.tensor([0.0, 5.0, -100.0]), ignore_value=-100.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx((1**2 + 3**2) / 2)
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [1.0, -3.0, 0.0]
    whole = LOSSES["mse"].make(outputs, torch.tensor([0.0, 5.0, -100.0]))
    assert whole.item() == pytest.approx((1**2 + 3**2 + 103**2) / 3)
