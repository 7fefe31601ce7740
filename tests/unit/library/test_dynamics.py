"""Masks that move in a user's loop: the spoken options, the length of the training, the end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search import Dynamics, UserError, find_mask, sparsity_at
from prune_search.tasks.data import Split
from prune_search.training.loop import Course, Feed, Network
from prune_search.training.loop import train as train_as_a_recipe

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


def start(name: str = "gradual", **given: Any) -> tuple[nn.Module, Dynamics]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return model, Dynamics(name, model, optimizer, **{"sparsity": 0.8, **given})


def train(model: nn.Module, dynamics: Dynamics, steps: range) -> list[float]:
    """The sparsity after each step."""
    found = []
    for i in steps:
        dynamics.optimizer.zero_grad()
        model(X).square().mean().backward()
        dynamics.step(i)
        kept = torch.cat([mask.flatten() for mask in dynamics.mask.values()])
        found.append(1 - float(kept.float().mean()))
    return found


def test_begin_and_end_are_whole_steps_and_the_mask_follows_the_path_between_them() -> None:
    model, dynamics = start(begin=2, end=6, every=2)
    sparsities = train(model, dynamics, range(8))
    assert sparsities[0] == 0.0
    assert sparsities[4] == pytest.approx(sparsity_at("cubic", 4, 0, 0.8, 2, 6), abs=0.01)
    assert sparsities[6:] == pytest.approx([0.8, 0.8], abs=0.01)


def test_what_is_masked_is_zero_after_every_step() -> None:
    model, dynamics = start(begin=0, end=2, every=1)
    train(model, dynamics, range(4))
    weights = dict(model.named_parameters())
    assert all(bool((weights[name][~mask] == 0).all()) for name, mask in dynamics.finish().items())


def test_fractions_need_the_length_of_the_training() -> None:
    with pytest.raises(UserError, match="steps: is required"):
        start(begin=0, end="50%", every=1)
    model, dynamics = start(begin=0, end="50%", every=1, steps=8)
    assert train(model, dynamics, range(5))[4] == pytest.approx(0.8, abs=0.01)


def test_a_dynamics_of_constant_size_begins_with_the_mask_that_is_given_or_a_random_one() -> None:
    model, dynamics = start("set", every=2, end=4)
    size = sum(int(mask.sum()) for mask in dynamics.mask.values())
    assert size == round(0.2 * 100)
    given = find_mask(model, sparsity=0.5)
    _, other = start("set", every=2, end=4, sparsity=0.5, mask=given)
    assert all(torch.equal(other.mask[name], mask) for name, mask in given.items())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradul", {}, "did you mean 'gradual'"),
        ("gradual", {"evry": 3}, "evry"),
        ("gradual", {"sparsity": None, "begin": 0, "end": 4}, "sparsity"),
    ],
)
def test_wrong_arguments_are_told_before_a_step(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        start(name, **options)


def test_a_forward_pass_after_the_end_moves_nothing() -> None:
    model, dynamics = start(begin=0, end=2, every=1)
    train(model, dynamics, range(3))
    final = {name: mask.clone() for name, mask in dynamics.finish().items()}
    out: Tensor = model(X)
    assert out.shape == (8, 4)
    assert all(torch.equal(dynamics.mask[name], mask) for name, mask in final.items())


LABELS = torch.arange(8) % 4
MOVING: dict[str, dict[str, Any]] = {
    "gradual": {"begin": 1, "end": 7, "every": 2},
    "set": {"every": 2, "end": 8, "drop": 0.5},
    "rigl": {"every": 2, "end": 8, "drop": 0.5},
    "snfs": {"every": 2, "end": 8, "drop": 0.5},
    "deepr": {"end": 9, "alpha": 0.05, "temperature": 1e-4},
    "gibbs": {"scope": "uniform", "beta": {"until": "6it", "every": "2it"}},
}


@pytest.mark.parametrize("name", MOVING)
def test_a_step_in_a_loop_of_one_s_own_is_the_step_of_a_recipe_bit_for_bit(name: str) -> None:
    """The mask moves before the forward pass of an event's step, wherever the network is evaluated in between."""
    options = {"steps": 9, "sparsity": 0.6, **MOVING[name]}
    model, dynamics = start(name, **options)
    twin, hooked = start(name, **options)
    hooked._handle.remove()  # its hooks are called by the training loop of recipes
    losses = nn.CrossEntropyLoss()

    def gradients(network: Network, feed: Feed, number: int) -> Tensor:
        loss = losses(network.model(X), LABELS)
        loss.backward()
        return torch.as_tensor(loss.detach())

    network = Network(twin, torch.device("cpu"), torch.enable_grad, losses, gradients)
    feed = Feed(Split(X, LABELS), 8, 0)
    moved = 0
    for i in range(9):
        before = dynamics.mask
        dynamics.optimizer.zero_grad()
        losses(model(X), LABELS).backward()
        dynamics.step(i)
        moved += dynamics.mask is not before
        model.eval()
        with torch.no_grad():
            model(X)
        model.train()
        train_as_a_recipe(network, Course(hooked.optimizer, feed, 0, lambda step: 0.1, hooked._hooks), i, i + 1)
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(one, other)
    assert name == "gibbs" or moved > 1


def test_a_forward_pass_that_is_not_seen_is_told_of_where_the_mask_moves() -> None:
    model, dynamics = start(begin=0, end=4, every=2)
    for i in (0, 1):
        torch.func.functional_call(model, dict(model.named_parameters()), (X,))
        dynamics.step(i)
    hidden = [layer.forward for layer in model.children()]
    hidden[2](hidden[1](hidden[0](X))).square().mean().backward()
    with pytest.warns(UserWarning, match="the mask of step 2 moved after its gradients were computed"):
        dynamics.step(2)


def test_a_training_that_goes_on_begins_at_its_own_step() -> None:
    whole, first = start("set", every=2, end=8, steps=9)
    train(whole, first, range(9))
    model, dynamics = start("set", every=2, end=8, steps=9)
    train(model, dynamics, range(5))
    dynamics._handle.remove()
    rest = Dynamics(
        "set", model, dynamics.optimizer, sparsity=0.8, every=2, end=8, steps=9, mask=dynamics.mask, start=5
    )
    train(model, rest, range(5, 9))
    for one, other in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_option_that_is_a_mapping_is_read_like_the_others() -> None:
    """Whole numbers are steps where a step is meant, and begin and end are from and until where those are keys."""
    betas = [
        {"from": 2.0, "to": 50.0, "until": "6it", "every": "2it"},
        {"begin": 2.0, "to": 50.0, "end": 6, "every": 2},
    ]
    runs = []
    for beta in betas:
        model, dynamics = start("gibbs", scope="uniform", steps=9, beta=beta)
        train(model, dynamics, range(9))
        runs.append(dynamics.finish().sha256)
    assert runs[0] == runs[1]
    with pytest.raises(UserError, match=r"dynamics\.beta\.until: .*'-1it'"):
        start("gibbs", scope="uniform", steps=9, beta={"end": -1})
    batches = [(X, LABELS)]
    movement = {"name": "movement", "rate": 0}
    _, dynamics = start("gradual", begin=0, end=4, every=1, criterion=movement, batches=batches)
    assert dynamics.mask.sparsity() == 0.0
