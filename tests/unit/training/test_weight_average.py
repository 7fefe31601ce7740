"""The moving average of weights: the closed form, what is measured, and how a stop does not show."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.training.loop import Hook
from prune_search.training.weight_average import WeightAverage, averaged

DECAY = 0.8


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def moved(net: nn.Module, hook: Hook, steps: range) -> list[dict[str, torch.Tensor]]:
    """Weights that change from step to step, and what they were."""
    path = []
    for step in steps:
        with torch.no_grad():
            for number, tensor in enumerate(net.state_dict(keep_vars=True).values()):
                if tensor.is_floating_point():
                    source = torch.Generator().manual_seed(100 * step + number)
                    tensor.copy_(torch.randn(tensor.shape, generator=source))
                else:
                    tensor.fill_(step)
        assert hook.after_step is not None
        hook.after_step(step)
        path.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
    return path


def begun(hook: Hook) -> Hook:
    assert hook.at_start is not None
    hook.at_start()
    return hook


def test_the_result_is_the_closed_form_of_the_average() -> None:
    net = model()
    first = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    hook = begun(WeightAverage(net, DECAY).hook())
    path = moved(net, hook, range(7))
    assert hook.at_end is not None
    hook.at_end()
    for name, tensor in net.state_dict().items():
        if not tensor.is_floating_point():
            assert int(tensor) == 6
            continue
        closed = DECAY**7 * first[name].double()
        for place, weights in enumerate(path):
            closed += (1 - DECAY) * DECAY ** (6 - place) * weights[name].double()
        torch.testing.assert_close(tensor.double(), closed, rtol=1e-5, atol=1e-6)


def test_a_stop_on_the_way_does_not_show() -> None:
    one, other = model(), model()
    whole = begun(WeightAverage(one, DECAY).hook())
    moved(one, whole, range(6))
    part = begun(WeightAverage(other, DECAY).hook())
    moved(other, part, range(3))
    later = WeightAverage(other, DECAY).hook()
    assert part.state is not None
    assert later.load is not None
    assert whole.state is not None
    later.load({name: tensor.clone() for name, tensor in part.state().items()})
    moved(other, begun(later), range(3, 6))
    assert later.state is not None
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, later.state()[name])
    assert averaged({f"hook/ema/{name}": value for name, value in whole.state().items()}).keys() == whole.state().keys()


def test_within_the_network_has_the_average_and_after_its_own_weights() -> None:
    net = model()
    settled: list[float] = []
    average = WeightAverage(net, DECAY, lambda: settled.append(float(net[0].weight.detach().sum())))  # type: ignore[index]
    hook = begun(average.hook())
    moved(net, hook, range(4))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert hook.state is not None
    with average.in_place():
        for name, tensor in hook.state().items():
            assert torch.equal(net.state_dict()[name], tensor)
    assert settled == [float(hook.state()["0.weight"].sum())]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_zeros_stay_exact_zeros_and_a_tied_weight_is_averaged_once() -> None:
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    net = nn.Sequential(first, second)
    with torch.no_grad():
        first.weight[0] = 0.0
    hook = begun(WeightAverage(net, DECAY).hook())
    assert hook.after_step is not None
    assert hook.state is not None
    for step in range(5):
        with torch.no_grad():
            first.weight[1:] += 1.0
        hook.after_step(step)
    assert list(hook.state()) == ["0.weight"]
    assert (hook.state()["0.weight"][0] == 0).all()
