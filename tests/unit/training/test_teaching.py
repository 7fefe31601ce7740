"""A teacher sees what the network sees, and the gradient of distillation is the one written by hand."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import LOSSES
from prune_search.recipe.problems import UserError
from prune_search.tasks.data import Split
from prune_search.training.loop import Feed, Network, pass_over
from prune_search.training.teaching import Lesson, Teaching

LABELS = torch.tensor([0, 2, 1, 1])


def logits(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or (4, 3)), generator=torch.Generator().manual_seed(seed)).double()


def lesson(outputs: object, features: tuple[Tensor, Tensor] | None = None) -> Lesson:
    return Lesson(outputs, nn.functional.cross_entropy, features)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.5), (4.0, 0.9), (2.0, 0.0), (0.5, 1.0)])
def test_the_gradient_is_that_of_the_paper(temperature: float, weight: float) -> None:
    """Per logit: (1 - w) (p - y) / B + w T (p_T - q_T) / B, with q of the teacher (Hinton et al., eq. 2, times T²)."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    loss = LOSSES["distillation"].make(student, LABELS, lesson=lesson(teacher), temperature=temperature, weight=weight)
    loss.backward()  # type: ignore[no-untyped-call]
    own = student.detach()
    hard = torch.softmax(own, 1) - nn.functional.one_hot(LABELS, 3)
    soft = torch.softmax(own / temperature, 1) - torch.softmax(teacher / temperature, 1)
    torch.testing.assert_close(student.grad, ((1 - weight) * hard + weight * temperature * soft) / 4)
    wanted = torch.softmax(teacher / temperature, 1)
    apart = (wanted * (wanted.log() - torch.log_softmax(own / temperature, 1))).sum() / 4
    task = nn.functional.cross_entropy(own, LABELS)
    torch.testing.assert_close(loss.detach(), (1 - weight) * task + weight * temperature**2 * apart)


def test_features_add_their_mean_squared_distance() -> None:
    one, two = logits(2, 4, 5), logits(3, 4, 5)
    student, teacher = logits(0), logits(1)
    plain = LOSSES["distillation"].make(student, LABELS, lesson=lesson(teacher), weight=0.3)
    both = LOSSES["distillation"].make(student, LABELS, lesson=lesson(teacher, (one, two)), weight=0.3)
    torch.testing.assert_close(both - plain, 0.3 * (one - two).square().mean())
    with pytest.raises(
        UserError, match=r"retrain.loss.features: the inputs of the teacher's output layer are \[4, 6\]"
    ):
        LOSSES["distillation"].make(student, LABELS, lesson=lesson(teacher, (one, logits(3, 4, 6))))


def test_places_and_objects_with_logits_are_compared_as_classes() -> None:
    @dataclass
    class Outputs:
        logits: Tensor
        loss: Tensor | None = None

    make = functools.partial(LOSSES["distillation"].make, weight=1.0)
    student, teacher = logits(0, 2, 3, 5), logits(1, 2, 3, 5)
    flat = [one.permute(0, 2, 1).reshape(10, 3) for one in (student, teacher)]
    expected = make(flat[0], LABELS, lesson=replace(lesson(flat[1]), task=lambda *_: torch.zeros(())))
    nothing = replace(lesson({"logits": teacher}), task=lambda *_: torch.zeros(()))
    torch.testing.assert_close(make(Outputs(student), torch.zeros(2, 5, dtype=torch.int64), lesson=nothing), expected)
    last = [one.permute(0, 2, 1) for one in (student, teacher)]
    also = replace(lesson(last[1]), task=lambda *_: torch.zeros(()))
    torch.testing.assert_close(make(last[0], torch.zeros(2, 5, dtype=torch.int64), lesson=also), expected)


def test_outputs_that_cannot_be_compared_are_refused() -> None:
    for student, teacher, said in (
        (logits(0), logits(1, 4, 4), r"the teacher's outputs are \[4, 4\], and the network's \[4, 3\]"),
        (logits(0, 4, 1), logits(1, 4, 1), "the network has a single output"),
        (logits(0, 4), logits(1, 4), "the network has a single output"),
    ):
        with pytest.raises(UserError, match="retrain.loss.teacher: .*" + said):
            LOSSES["distillation"].make(student, LABELS, lesson=lesson(teacher))


class Net(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.drop, self.norm = nn.Linear(6, 5), nn.Dropout(0.5), nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.drop(self.body(x))))
        return out


def test_a_teacher_is_asked_about_the_batch_and_stays_as_it_is() -> None:
    source = torch.Generator().manual_seed(1)
    split = Split(torch.randn(16, 6, generator=source), torch.randint(3, (16,), generator=source))
    master, model = Net(1), Net(2)
    before = {name: tensor.clone() for name, tensor in master.state_dict().items()}
    teaching = Teaching(
        lambda: master,
        nn.functional.cross_entropy,
        functools.partial(LOSSES["distillation"].make, temperature=3.0, weight=0.7, features="last"),
        ("head", "head"),
    )
    net = Network(model, torch.device("cpu"), contextlib.nullcontext, teaching.loss, teaching.gradients(pass_over))
    loss = net.gradients(net, Feed(split, 8, 3), 0)
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    def by_hand(outputs: Tensor, labels: Tensor) -> Tensor:
        inputs, _ = Feed(split, 8, 3)(0)
        with torch.no_grad():
            hidden = master.norm(master.body(inputs))
            wanted = torch.softmax(master.head(hidden) / 3.0, 1)
        kl = (wanted * (wanted.log() - torch.log_softmax(outputs / 3.0, 1))).sum(1).mean()
        squares = (kept[0] - hidden).square().mean()
        found: Tensor = 0.3 * nn.functional.cross_entropy(outputs, labels) + 0.7 * (9.0 * kl + squares)
        return found

    kept: list[Tensor] = []
    other = Net(2)
    handle = other.head.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    expected = pass_over(Network(other, net.device, contextlib.nullcontext, by_hand), Feed(split, 8, 3), 0)
    handle.remove()
    torch.testing.assert_close(loss, expected)
    for one, parameter in zip(found, other.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)
    assert all(torch.equal(before[name], tensor) for name, tensor in master.state_dict().items())
    assert not master.training
    assert all(parameter.grad is None for parameter in master.parameters())
    assert not any(module._forward_pre_hooks for module in (*master.modules(), *model.modules()))


def test_a_loss_that_nobody_listens_for_is_an_error() -> None:
    teaching = Teaching(lambda: Net(1), nn.functional.cross_entropy, LOSSES["distillation"].make)
    with pytest.raises(RuntimeError, match="has not seen the inputs"):
        teaching.loss(logits(0), LABELS)
