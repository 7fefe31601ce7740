"""Compact networks: physically smaller, with the outputs of the masked network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prune_search
from prune_search.compact.cutting import TOLERANCE, compact
from prune_search.compact.graph import Described
from prune_search.recipe.axes import MODELS

NETWORKS: dict[str, dict[str, Any]] = {
    "lenet-5": {},
    "vgg-16-bn": {},
    "resnet-56": {"width": 16, "shortcut": "zero-padding", "residual_scale": "one"},
    "mobilenet": {"width": 0.25},
}
RESIDUAL = NETWORKS["resnet-56"]
SHAPE = (3, 32, 32)
SEED = 0


def lively(model: nn.Module) -> nn.Module:
    """Normalizations as after training: constants that are not 0 everywhere."""
    draw = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=draw)
                module.bias.normal_(0.0, 0.3, generator=draw)
                module.running_mean.normal_(0.0, 0.3, generator=draw)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5, generator=draw)  # type: ignore[union-attr]
    return model.eval()


def network(name: str, **options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return lively(MODELS[name].make(SHAPE, 10, **{**NETWORKS.get(name, RESIDUAL), **options}))


def inputs(shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(SEED))


def masked(model: nn.Module, granularity: Any, sparsity: float = 0.5, **more: Any) -> nn.Module:
    batches = [(inputs(), torch.zeros(4, dtype=torch.long))]
    rule = {"criterion": "l1", "scope": "uniform", **more}
    found = prune_search.find_mask(model, granularity=granularity, sparsity=sparsity, batches=batches, **rule)
    found.apply(model)
    return model


def difference(model: nn.Module, small: Described, shape: tuple[int, ...] = SHAPE) -> float:
    x = inputs(shape)
    with torch.no_grad():
        expected, got = model(x), small(x)
    return float((got - expected).abs().max() / expected.abs().max())


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "granularity"),
    # In a sequence of layers channels are filters, and finding them in VGG-16 takes seconds.
    [
        pytest.param(name, one, marks=pytest.mark.slow if one == "channel" and name != "lenet-5" else ())
        for name in NETWORKS
        for one in ("filter", "channel")
        if (name, one) != ("vgg-16-bn", "channel")
    ],
)
def test_the_outputs_are_those_of_the_masked_network(name: str, granularity: str) -> None:
    options = {"shortcut": "projection"} if name == "resnet-56" else {}
    model = masked(network(name, **options), granularity)
    small = compact(model, SHAPE)
    assert difference(model, small) < TOLERANCE
    # Half of the filters: in a residual network only those within a block can go, where layers share nothing a quarter
    # of the weights is left.
    assert count(small) < (0.56 if (name, granularity) == ("resnet-56", "filter") else 0.3) * count(model)


def test_layers_of_a_zero_padded_residual_network_go_with_their_branches() -> None:
    model = masked(network("resnet-56"), "layer", 0.6, scope="global", criterion="random")
    small = compact(model, SHAPE)
    assert difference(model, small) < TOLERANCE
    convolutions = [node for node in small.description.nodes if node.op == "Conv2d"]
    # A branch that ends in a removed layer is a constant, and goes whole.
    assert len(convolutions) < 40


@pytest.mark.parametrize("granularity", ["weight", "kernel"])
def test_without_structure_nothing_much_goes_and_the_outputs_stay(granularity: str) -> None:
    model = masked(network("lenet-5"), granularity)
    small = compact(model, SHAPE)
    assert count(small) == count(model)
    assert difference(model, small) == 0.0


@pytest.mark.parametrize(
    ("name", "multiple"), [("mobilenet", 8), pytest.param("resnet-56", 16, marks=pytest.mark.slow)]
)
def test_widths_are_rounded_up_to_a_multiple(name: str, multiple: int) -> None:
    model = masked(network(name), "filter", 0.7)
    small = compact(model, SHAPE, multiple)
    assert difference(model, small) < TOLERANCE
    full = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    widths = {name: layer.out_channels for name, layer in small.named_modules() if isinstance(layer, nn.Conv2d)}
    assert all(width % multiple == 0 or width == full[name].out_channels for name, width in widths.items())
    assert count(compact(model, SHAPE)) < count(small) < count(model)


def test_a_mask_in_multiples_makes_widths_in_multiples() -> None:
    model = masked(network("mobilenet"), {"name": "channel", "multiple": 8}, 0.6, scope="global")
    small = compact(model, SHAPE)
    widths = [layer.out_channels for layer in small.modules() if isinstance(layer, nn.Conv2d) and layer.groups == 1]
    assert difference(model, small) < TOLERANCE
    assert all(width % 8 == 0 for width in widths)
    assert len(set(widths)) > 3


def test_the_coupled_channels_are_those_that_torch_pruning_removes() -> None:
    import torch_pruning

    model = masked(network("resnet-20", shortcut="projection"), "channel")
    ours = compact(model, SHAPE)
    theirs = network("resnet-20", shortcut="projection")
    torch_pruning.pruner.MetaPruner(
        theirs,
        inputs()[:1],
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=[theirs.fc],
    ).step()
    assert count(ours) == count(theirs)


class Grouped(nn.Module):
    """A ResNeXt block: a grouped convolution between two that mix, and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.narrow, self.bn1 = nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32)
        self.grouped, self.bn2 = nn.Conv2d(32, 32, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(32)
        self.wide, self.bn3 = nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y = self.bn1(self.narrow(x)).relu()
        y = self.bn2(self.grouped(y)).relu()
        x = (x + self.bn3(self.wide(y))).relu()
        scores: Tensor = self.fc(x.mean((2, 3)))
        return scores


@pytest.mark.parametrize("removed", [[0, 1, 2, 3], [0, 4, 8, 12, 16, 20, 24, 28], [0, 1, 2, 3, 4, 8, 12, 31], [5]])
def test_grouped_convolutions_lose_whole_groups_and_equally_many_of_the_others(removed: list[int]) -> None:
    torch.manual_seed(SEED)
    model = lively(Grouped())
    with torch.no_grad():
        for name in ("narrow.weight", "bn1.weight", "bn1.bias", "grouped.weight", "bn2.weight", "bn2.bias"):
            model.get_parameter(name)[removed] = 0.0
    small = compact(model, SHAPE)
    assert difference(model, small) < TOLERANCE
    grouped = small.get_submodule("grouped")
    groups = {place // 4 for place in range(32) if place not in removed}
    most = max(4 - sum(place // 4 == group for place in removed) for group in groups)
    assert isinstance(grouped, nn.Conv2d)
    assert (grouped.groups, grouped.out_channels, grouped.in_channels) == (len(groups), *[len(groups) * most] * 2)


def sequence(padding: int) -> tuple[nn.Sequential, nn.Conv2d]:
    torch.manual_seed(SEED)
    second = nn.Conv2d(8, 6, 3, padding=padding, bias=False)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 2))
    lively(model)
    with torch.no_grad():
        model.get_parameter("0.weight")[:4] = 0.0
        model.get_parameter("1.bias")[:4] = 0.7
        model.get_buffer("1.running_mean")[:4] = 0.0
    return model, second


def test_a_constant_that_is_not_zero_goes_into_the_next_bias() -> None:
    model, _ = sequence(padding=0)
    small = compact(model, SHAPE)
    assert difference(model, small) < TOLERANCE
    assert small.get_parameter("3.weight").shape == (6, 4, 3, 3)
    assert small.get_parameter("3.bias").shape == (6,)


def test_behind_a_padding_it_stays_because_the_borders_would_differ() -> None:
    model, _ = sequence(padding=1)
    small = compact(model, SHAPE)
    assert difference(model, small) < TOLERANCE
    assert small.get_parameter("3.weight").shape == (6, 8, 3, 3)


def test_channels_that_nothing_reads_go() -> None:
    model, second = sequence(padding=1)
    with torch.no_grad():
        second.weight[:, 2:] = 0.0
    small = compact(model, SHAPE)
    assert difference(model, small) < TOLERANCE
    assert small.get_parameter("0.weight").shape == (2, 3, 3, 3)


@pytest.mark.parametrize("name", ["lenet-5", "resnet-56", "mobilenet"])
def test_a_network_with_nothing_left_still_says_what_it_says(name: str) -> None:
    model = network(name)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
    small = compact(model, SHAPE)
    assert difference(model, small) < TOLERANCE
    assert count(small) < 0.5 * count(model)


class Twice(nn.Module):
    """One layer that runs twice, a channel shuffle and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.again = nn.Conv2d(8, 8, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.again(self.first(x)).relu())
        x = x.reshape(x.shape[0], 2, 4, 8, 8).transpose(1, 2).reshape(x.shape[0], 8, 8, 8)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        scores: Tensor = self.fc(x.mean((2, 3)))
        return scores


def test_what_is_not_known_by_channel_stays_whole() -> None:
    torch.manual_seed(SEED)
    model = Twice().eval()
    with torch.no_grad():
        model.first.weight[3:5], model.first.bias[3:5] = 0.0, 0.0  # type: ignore[index]
        model.again.weight[1:4], model.again.bias[1:4] = 0.0, 0.0  # type: ignore[index]
    small = compact(model, (3, 8, 8))
    assert difference(model, small, (3, 8, 8)) < TOLERANCE


def test_the_masked_network_is_left_as_it_was() -> None:
    model = masked(network("mobilenet"), "channel")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compact(model, SHAPE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
