"""The loop: every step is a function of its number, hooks are called when they say, and a broken loss ends it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import AUGMENTATIONS, OPTIMIZERS
from prune_search.recipe.recipe import Named
from prune_search.tasks.data import Split
from prune_search.training.loop import Course, Feed, Hook, Network, TrainingError, augmentation, train
from prune_search.training.optimizers import load_state_tensors, state_tensors

STEPS = 9  # more than two epochs of four batches, so that an order is drawn anew on the way
KINDS: list[tuple[str, dict[str, Any]]] = [("sgd", {"momentum": 0.9}), ("adam", {}), ("adamw", {})]


def network(dropout: float = 0.3) -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    return Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)


def feed(seed: int = 0, *words: str, augment: bool = True) -> Feed:
    source = torch.Generator().manual_seed(9)
    split = Split(torch.randn(34, 1, 8, 8, generator=source), torch.randint(5, (34,), generator=source))
    named = Named.of(AUGMENTATIONS, {"name": "crop-flip", "pad": 2} if augment else "none")
    return Feed(split, 8, seed, words, augmentation(named))


def rate(step: int) -> float:
    return 0.1 / (1 + step // 3)


def course(net: Network, kind: str = "sgd", options: dict[str, Any] | None = None, **more: Any) -> Course:
    optimizer = OPTIMIZERS[kind].make(list(net.model.parameters()), 123.0, **(options or {}))
    return Course(optimizer, more.pop("feed", None) or feed(), more.pop("first", 0), more.pop("rate", rate), **more)


def names(net: Network) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in net.model.named_parameters()}


def everything(net: Network, run: Course) -> dict[str, Tensor]:
    return {**net.model.state_dict(), **state_tensors(run.optimizer, names(net))}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_one_run_equals_one_with_a_stop_and_a_fresh_start_at_every_step(kind: str, options: dict[str, Any]) -> None:
    whole = network()
    run = course(whole, kind, options)
    assert train(whole, run, 0, STEPS) == STEPS

    weights: dict[str, Tensor] = copy.deepcopy(network().model.state_dict())
    buffers: dict[str, Tensor] = {}
    for step in range(STEPS):
        torch.manual_seed(1000 + step)  # whatever else was drawn between two steps
        part = network()
        part.model.load_state_dict(weights)
        again = course(part, kind, options)
        load_state_tensors(again.optimizer, names(part), buffers)
        torch.rand(step)
        assert train(part, again, step, step + 1) == step + 1
        weights, buffers = copy.deepcopy(part.model.state_dict()), state_tensors(again.optimizer, names(part))
    assert differing(everything(whole, run), {**weights, **buffers}) == []


@pytest.mark.parametrize("change", ["dropout", "augment", "seed", "words", "first", "rate"])
def test_everything_that_a_step_depends_on_matters(change: str) -> None:
    """So that the test above could fail: each of these gives other weights."""
    plain, other = network(), network(0.0 if change == "dropout" else 0.3)
    different: dict[str, dict[str, Any]] = {
        "augment": {"feed": feed(augment=False)},
        "seed": {"feed": feed(1)},
        "words": {"feed": feed(0, "elsewhere")},
        "first": {"first": 1},
        "rate": {"rate": lambda step: 0.01},
    }
    train(plain, course(plain), 0, 3)
    train(other, course(other, **different.get(change, {})), 0, 3)
    assert differing(plain.model.state_dict(), other.model.state_dict()) != []


def test_a_stretch_that_begins_later_on_the_clock_sees_the_batches_of_its_place() -> None:
    seen: list[Tensor] = []
    given = feed(augment=False)
    net = network()
    handle = net.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    train(net, course(net, feed=given, first=5), 0, 3)
    handle.remove()
    assert all(torch.equal(inputs, feed(augment=False)(5 + step)[0]) for step, inputs in enumerate(seen))


def test_an_epoch_shows_each_example_once_and_another_epoch_another_order() -> None:
    given = feed(augment=False)
    assert given.epoch == 4
    epochs = [torch.cat([given(epoch * 4 + place)[0] for place in range(4)]).flatten(1) for epoch in (0, 1)]
    assert [len(torch.unique(epoch, dim=0)) for epoch in epochs] == [32, 32]
    assert not torch.equal(epochs[0], epochs[1])
    backwards = [given(step)[0] for step in reversed(range(8))]
    assert all(torch.equal(inputs, given(7 - index)[0]) for index, inputs in enumerate(backwards))


def test_an_augmentation_draws_anew_for_every_batch_of_every_epoch() -> None:
    seeds: list[int] = []

    def note(inputs: Tensor, draw: torch.Generator) -> Tensor:
        seeds.append(draw.initial_seed())
        return inputs

    given = feed()
    given.augment = note
    for step in (*range(12), *range(12)):
        given(step)
    assert len(set(seeds)) == 12
    assert seeds[:12] == seeds[12:]


def test_the_rate_of_each_step_is_the_course_s_at_that_step() -> None:
    net, rates = network(), []
    run = course(net)
    hook = Hook("watch", after_backward=lambda step: rates.append(run.optimizer.param_groups[0]["lr"]))
    run = Course(run.optimizer, run.feed, 0, rate, [hook])
    train(net, run, 2, STEPS)
    assert rates == [rate(step) for step in range(2, STEPS)]


def test_hooks_are_called_in_order_around_each_step() -> None:
    net = network()
    calls: list[tuple[str, int]] = []

    def note(word: str) -> Callable[[int], None]:
        return lambda step: calls.append((word, step))

    hooks = [Hook(name, before_step=note(f"before {name}"), after_backward=note(f"after {name}")) for name in "ab"]
    told: list[int] = []
    train(net, course(net, hooks=hooks), 4, 6, lambda step, loss: told.append(step))
    assert calls == [(f"{part} {name}", step) for step in (4, 5) for part in ("before", "after") for name in "ab"]
    assert told == [5, 6]


def test_a_hook_sees_gradients_before_they_are_used_and_can_change_them() -> None:
    net = network()
    before = copy.deepcopy(net.model.state_dict())

    def erase(step: int) -> None:
        for parameter in net.model.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()

    train(net, course(net, options={"weight_decay": 0.0}, hooks=[Hook("erase", after_backward=erase)]), 0, 3)
    trained = {name for name, _ in net.model.named_parameters()}
    assert trained.isdisjoint(differing(before, net.model.state_dict()))


def test_a_hook_that_is_finished_ends_the_stretch_before_the_step() -> None:
    net, plain = network(), network()
    done = Hook("done", finished=lambda step: step >= 4)
    assert train(net, course(net, hooks=[done]), 0, STEPS) == 4
    assert train(plain, course(plain), 0, 4) == 4
    assert differing(net.model.state_dict(), plain.model.state_dict()) == []


def test_a_loss_that_is_no_number_ends_the_training_with_its_step() -> None:
    net = network()
    told: list[int] = []

    def poison(step: int) -> None:
        if step == 3:
            with torch.no_grad():
                net.model.get_parameter("5.weight").fill_(float("inf"))

    with pytest.raises(TrainingError, match="step 3") as failed:
        train(net, course(net, hooks=[Hook("poison", before_step=poison)]), 0, 6, lambda step, loss: told.append(step))
    assert failed.value.kind == "nan"
    assert told == [1, 2, 3]


def test_the_network_trains_in_training_mode() -> None:
    net = network()
    net.model.eval()
    train(net, course(net), 0, 1)
    assert all(module.training for module in net.model.modules())
