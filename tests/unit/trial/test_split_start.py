"""Networks that are divided before they have values, against the same ones drawn whole."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from prune_search.recipe.space import read_space
from prune_search.tasks.network import forward_digest, network_digest
from prune_search.tasks.shards import gathered, is_shard
from prune_search.tasks.workers import ALONE
from prune_search.training.initialized import initialize
from prune_search.trial.data_and_network import Code, NetworkFactory, read_data
from prune_search.trial.pretrained import load_given
from prune_search.trial.split_start import SplitStart, split_start

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A group of one worker, which holds all rows of a network that is sharded nevertheless."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


class Scale(nn.Module):
    """Has parameters that nothing draws anew, drawn after those of the layers before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(1 + 0.1 * torch.randn(width))
        self.register_buffer("noise", torch.randn(width))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = inputs * self.factor + 0.01 * self.get_buffer("noise")
        return found


class Mixed(nn.Module):
    """Layers that draw themselves in many ways, and a tied weight."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, 12)
        nn.init.trunc_normal_(self.first.weight, std=0.02)
        self.norm = nn.BatchNorm1d(12)
        self.attention = nn.MultiheadAttention(12, 3)
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.scale = Scale(12)
        self.lone = nn.Parameter(torch.randn(12))
        self.again = nn.Linear(12, 12)
        self.again.weight = self.blocks.get_parameter("0.weight")
        self.head = nn.Linear(12, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.first(inputs.flatten(1)))
        for block in self.blocks:
            hidden = self.scale(hidden + block(hidden).relu())
        hidden = self.again(hidden) + self.lone
        mixed, _ = self.attention(hidden[None], hidden[None], hidden[None])
        found: Tensor = self.head(mixed[0])
        return found


def mixed(classes: int) -> nn.Module:
    return Mixed(classes)


def loaded(classes: int) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    with warnings.catch_warnings(action="ignore"):
        model.load_state_dict({name: torch.ones(one.shape) for name, one in model.state_dict().items()})
    return model


def replaced(classes: int) -> nn.Module:
    layer = nn.Linear(64, classes)
    layer.weight = nn.Parameter(torch.ones(classes, 64))
    return nn.Sequential(nn.Flatten(), layer)


def seeded(classes: int) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def looking(classes: int) -> nn.Module:
    layer = nn.Linear(64, classes)
    layer.weight.data /= layer.weight.norm().item()
    return nn.Sequential(nn.Flatten(), layer)


class Halved(nn.Embedding):
    """Draws nothing: it changes what is there."""

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.mul_(0.5)


def halving(classes: int) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    model[0].extra = Halved(3, 3)
    return model


def keeping(classes: int) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    model.listed = [model[1].weight]  # type: ignore[assignment]
    return model


def both(
    factory: Callable[..., nn.Module] | None, folder: Path | None = None, **train: Any
) -> tuple[NetworkFactory, SplitStart | None]:
    """A factory, and its network without values."""
    model: Any = {"name": "mlp", "hidden": [16, 8]} if factory is None else f"test_split_start:{factory.__name__}"
    task = {"model": model, "data": "digits"}
    blocks = {"preset": "magnitude-after-training", "task": task, "mask": {"sparsity": 0.5}, "train": train}
    recipe = read_space(blocks, "a test").only_recipe()
    code = Code(model if isinstance(model, str) else None)
    made = NetworkFactory(recipe, code, None, read_data(recipe, None, code))
    assert made.data is not None
    return made, split_start(recipe, made, made.data, folder, ALONE)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def no_inputs(count: int) -> Any:
    raise AssertionError(count)


@pytest.mark.parametrize("factory", [None, mixed])
@pytest.mark.parametrize("init", ["kaiming", "kaiming-uniform", "xavier"])
def test_values_are_those_of_the_network_that_is_drawn_whole(
    factory: Callable[..., nn.Module] | None, init: str
) -> None:
    made, split = both(factory, init=init)
    assert split is not None
    layers = [module for module in split.model.modules() if isinstance(module, nn.Linear)]
    assert all(layer.weight.is_meta for layer in layers)
    recipe = made.recipe
    whole, _ = made.build()
    initialize(recipe.train.init, whole, recipe.seed, no_inputs)
    assert forward_digest(split.model) == forward_digest(whole)
    split.divide(CPU, lambda model: initialize(recipe.train.init, model, recipe.seed, no_inputs))
    assert all(map(is_shard, split.model.parameters()))
    assert network_digest(split.model) == network_digest(whole)
    # Another draw, of the sharded network.
    for model in (whole, split.model):
        initialize(recipe.train.init, model, recipe.seed, no_inputs, "reinit/0")
    assert network_digest(split.model) == network_digest(whole)


def test_given_weights_are_read_into_shards(tmp_path: Path) -> None:
    made, _ = both(mixed)
    whole, _ = made.build(3)
    state = {name: one.clone() for name, one in whole.state_dict().items()}
    # In lower precision, as many files are.
    state["first.weight"] = state["first.weight"].bfloat16()
    save_file(state, tmp_path / "net.safetensors")
    written = {"from": "net.safetensors"}
    _, split = both(mixed, tmp_path, **written)
    assert split is not None
    split.divide(CPU, lambda model: load_given(model, "net.safetensors", tmp_path))
    load_given(whole, "net.safetensors", tmp_path)
    assert network_digest(split.model) == network_digest(whole)
    assert torch.equal(gathered(split.model.get_parameter("first.weight")), state["first.weight"].float())


@pytest.mark.parametrize(
    ("factory", "train", "why"),
    [
        (loaded, {}, "copies values into weights"),
        (replaced, {}, "replaces weight of a Linear"),
        (seeded, {}, "seeds torch's generator itself"),
        (looking, {}, "without values it cannot be built or passed through: .*looking"),
        (halving, {}, r"0\.extra \(Halved\) does not draw all of its parameters anew"),
        (keeping, {}, "the network keeps weights, or what is computed from them, in an attribute too"),
        (mixed, {"init": "as-built"}, "as-built does not draw layer by layer"),
        (mixed, {"from": "model"}, "keeps what its factory gives"),
        (mixed, {"from": "net.pt"}, "is a file of torch; one of safetensors is read tensor by tensor"),
    ],
)
def test_what_cannot_be_split_is_told(
    factory: Callable[..., nn.Module],
    train: dict[str, Any],
    why: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.save({}, tmp_path / "net.pt")
    with caplog.at_level(logging.WARNING):
        _, split = both(factory, tmp_path, **train)
    assert split is None
    assert caplog.text.count("each worker holds the whole network in its host memory while it starts: ") == 1
    assert re.search(why, caplog.text), caplog.text
