"""What a network is: digests that change with it and with nothing else, and the weights that can be pruned."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prune_search.recipe.axes import MODELS
from prune_search.tasks.network import forward_digest, network_digest, output_layer, prunable_weights
from prune_search.tasks.user import factory_named


def seeded(name: str = "small-conv", **options: object) -> Any:
    torch.manual_seed(0)
    entry = MODELS[name]
    defaults = {key: option.default for key, option in entry.options.items()}
    return entry.make(shape=(1, 8, 8), classes=10, **{**defaults, **options})


def module_from(folder: Path, name: str, text: str) -> ModuleType:
    """A fresh module of a user, imported from a file of its own."""
    (folder / f"{name}.py").write_text(text)
    sys.modules.pop(name, None)
    factory_named(f"{name}:make", "task.model")
    return sys.modules[name]


# --- the digest of the weights


def test_equal_networks_have_equal_digests() -> None:
    assert network_digest(seeded()) == network_digest(seeded())


@pytest.mark.parametrize("kind", ["parameter", "buffer", "buffer that is not stored"])
def test_one_bit_of_any_tensor_changes_the_digest(kind: str) -> None:
    model = seeded()
    model.register_buffer("table", torch.zeros(3), persistent=False)
    before = network_digest(model)
    tensor = {"parameter": model.fc.bias, "buffer": model.bn1.running_mean}.get(kind, model.table)
    tensor.data.view(torch.uint8)[0] ^= 1
    assert network_digest(model) != before


def test_a_step_counter_without_dimensions_counts() -> None:
    model = seeded()
    before = network_digest(model)
    model.bn1.num_batches_tracked += 1
    assert network_digest(model) != before


def test_names_shapes_and_dtypes_count() -> None:
    weights = torch.zeros(2, 3)

    def holding(name: str, tensor: Tensor) -> str:
        model = nn.Module()
        model.register_buffer(name, tensor)
        return network_digest(model)

    digests = {
        holding("a", weights),
        holding("b", weights),
        holding("a", weights.reshape(3, 2)),
        holding("a", weights.int()),
        holding("a", weights.bfloat16()),
        holding("a", torch.zeros(0)),
    }
    assert len(digests) == 6


def test_memory_format_mode_and_gradients_do_not_count() -> None:
    model = seeded()
    before = network_digest(model)
    model.to(memory_format=torch.channels_last).eval()
    model(torch.zeros(1, 1, 8, 8)).sum().backward()
    assert network_digest(model) == before


# --- the digest of the code

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, slope=0.0):
        super().__init__()
        self.slope = slope
        self.fc = nn.Linear(4, 2)
    def forward(self, x):
        return self.fc(x) * 1.0
def make(slope=0.0):
    torch.manual_seed(0)
    return Net(slope)
"""


def test_changed_forward_code_changes_the_digest_though_the_weights_are_the_same(here: Path) -> None:
    first = module_from(here, "net_one", NET).make()
    again = module_from(here, "net_two", NET).make()
    changed = module_from(here, "net_three", NET.replace("* 1.0", "* 2.0")).make()
    assert network_digest(first) == network_digest(again) == network_digest(changed)
    assert forward_digest(first) == forward_digest(again)
    assert forward_digest(changed) != forward_digest(first)


def test_changed_code_of_a_base_class_or_a_submodule_changes_the_digest(here: Path) -> None:
    def digests(base: str) -> tuple[str, str]:
        sys.modules.pop("base_net", None)
        module_from(here, "base_net", base)
        text = "from torch import nn\nimport base_net\nclass Net(base_net.Net):\n    pass\n"
        text += "def make():\n    return Net()\ndef wrapped():\n    return nn.Sequential(base_net.make())\n"
        user = module_from(here, "heir", text)
        return forward_digest(user.make()), forward_digest(user.wrapped())

    first, second, changed = digests(NET), digests(NET), digests(NET.replace("* 1.0", "* 2.0"))
    assert first == second
    assert first[0] != changed[0]
    assert first[1] != changed[1]


def test_a_setting_that_no_parameter_shows_changes_the_digest(here: Path) -> None:
    user = module_from(here, "net_slope", NET)
    assert forward_digest(user.make(slope=0.0)) == forward_digest(user.make(slope=0.0))
    assert forward_digest(user.make(slope=0.1)) != forward_digest(user.make(slope=0.0))


LOCAL = """
from torch import nn

def make(slope=1.0, bias=0.0):
    class Net(nn.Linear):
        shift = bias

        def forward(self, x):
            return super().forward(x) * slope + self.shift

    return Net(3, 3)
"""


def test_what_a_class_made_in_a_function_encloses_changes_the_digest(here: Path) -> None:
    user = module_from(here, "net_local", LOCAL)
    assert forward_digest(user.make()) == forward_digest(user.make())
    assert len({forward_digest(user.make(*given)) for given in ((1.0, 0.0), (2.0, 0.0), (1.0, 1.0))}) == 3


def test_settings_of_torch_modules_change_the_digest() -> None:
    def of(*layers: nn.Module) -> str:
        return forward_digest(nn.Sequential(*layers))

    networks = [
        of(nn.ReLU()),
        of(nn.Tanh()),
        of(nn.Dropout(0.1)),
        of(nn.Dropout(0.2)),
        of(nn.MaxPool2d(2)),
        of(nn.MaxPool2d(3)),
        of(nn.ReLU(), nn.ReLU()),
    ]
    assert len(set(networks)) == len(networks)
    assert of(nn.ReLU()) == networks[0]


def test_the_residual_scale_changes_the_digest() -> None:
    plain, scaled = seeded("resnet-20"), seeded("resnet-20", residual_scale="inverse-sqrt-depth")
    assert network_digest(plain) == network_digest(scaled)
    assert forward_digest(plain) != forward_digest(scaled)


def test_weights_modes_and_gradients_do_not_change_the_digest_of_the_code() -> None:
    model = seeded("resnet-20")
    before = forward_digest(model)
    model.eval()
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert forward_digest(model) == before


def test_tying_and_freezing_change_the_digest_of_the_code() -> None:
    plain, tied, frozen = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(3))
    tied[1].weight = tied[0].weight
    frozen[0].weight.requires_grad_(False)
    assert len({forward_digest(model) for model in (plain, tied, frozen)}) == 3


def with_setting(value: object) -> str:
    model = nn.Linear(1, 1)
    vars(model)["setting"] = value
    return forward_digest(model)


def closure(inner: object) -> object:
    return lambda x: (x, inner)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ([1, {"a": 2}], [1, {"a": 3}]),
        ({"x", "y"}, {"x", "z"}),
        (torch.zeros(2), torch.ones(2)),
        (torch.zeros(2).numpy(), torch.ones(2).numpy()),
        (functional.relu, functional.gelu),
        (torch.relu, torch.tanh),
        (partial(functional.leaky_relu, negative_slope=0.1), partial(functional.leaky_relu, negative_slope=0.2)),
        (closure(1), closure(2)),
        (SimpleNamespace(width=1), SimpleNamespace(width=2)),
        (nn.ReLU, nn.Tanh),
        (torch.float32, torch.float64),
    ],
)
def test_settings_of_every_kind_count(one: object, other: object) -> None:
    assert with_setting(one) == with_setting(one)
    assert with_setting(one) != with_setting(other)


def test_a_setting_that_holds_itself_is_no_endless_loop() -> None:
    loop: list[object] = []
    loop.append(loop)

    def recursive(n: int) -> int:
        return n and recursive(n - 1)

    assert with_setting(loop) != with_setting(recursive)


def test_an_object_that_tells_only_its_address_does_not_change_the_digest() -> None:
    assert with_setting(object()) == with_setting(object())


@pytest.mark.slow
def test_the_digests_are_the_same_in_another_process(here: Path) -> None:
    text = NET.replace("self.slope = slope", "self.slope = {'b', 'a', 'c'}; self.act = torch.relu; self.x = object()")
    model = module_from(here, "net_process", text).make()
    code = (
        "import net_process; from prune_search.tasks.network import *; "
        "model = net_process.make(); print(network_digest(model), forward_digest(model))"
    )
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": f"{root}:{here}", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [network_digest(model), forward_digest(model)]


# --- the weights that can be pruned


def test_the_prunable_weights_are_those_of_linear_and_convolutional_layers_in_order() -> None:
    model = seeded()
    assert list(prunable_weights(model)) == ["conv1.weight", "conv2.weight", "fc.weight"]
    named = dict(model.named_parameters())
    assert all(named[name] is weight for name, weight in prunable_weights(model).items())


def test_every_kind_of_convolution_counts_and_nothing_else() -> None:
    model = nn.ModuleList(
        [
            nn.Conv1d(1, 1, 1),
            nn.Conv2d(1, 1, 1),
            nn.Conv3d(1, 1, 1),
            nn.ConvTranspose1d(1, 1, 1),
            nn.ConvTranspose2d(1, 1, 1),
            nn.ConvTranspose3d(1, 1, 1),
            nn.BatchNorm2d(1),
            nn.LayerNorm(1),
            nn.Embedding(2, 2),
            nn.PReLU(),
        ]
    )
    assert list(prunable_weights(model)) == [f"{place}.weight" for place in range(6)]
    assert list(prunable_weights(nn.Linear(1, 1))) == ["weight"]


def test_a_tied_weight_is_there_once_under_its_first_name() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert list(prunable_weights(model)) == ["0.weight"]
    assert output_layer(model, torch.zeros(1, 3)) == "0.weight"


@pytest.mark.parametrize(
    ("name", "last"), [("mlp", "fc3.weight"), ("lenet-5", "fc3.weight"), ("resnet-20", "fc.weight")]
)
def test_the_output_layer_of_a_registered_model_is_its_last_linear_layer(name: str, last: str) -> None:
    assert output_layer(seeded(name), torch.zeros(1, 1, 8, 8)) == last


class Backwards(nn.Module):
    """Its layers run in another order than they were defined in; one never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.body = nn.Linear(3, 4)
        self.idle = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x))
        return scores


def test_the_output_layer_is_the_one_that_runs_last_and_the_model_is_left_as_it_was() -> None:
    backwards = Backwards()
    model = nn.Sequential(backwards, nn.BatchNorm1d(2))
    backwards.body.eval()
    before, modes = network_digest(model), [module.training for module in model.modules()]
    assert output_layer(model, torch.ones(2, 3)) == "0.head.weight"
    assert network_digest(model) == before
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_removed_after_an_error() -> None:
    model = Backwards()
    with pytest.raises(RuntimeError):
        output_layer(model, torch.ones(2, 9))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_a_network_without_such_layers_has_no_output_layer() -> None:
    assert output_layer(nn.ReLU(), torch.ones(2, 3)) is None
