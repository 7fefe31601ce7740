"""What a trial starts with: named by content, and refused before training where something does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.training.segment import MODEL
from prune_search.trial.data_and_network import Code
from prune_search.trial.setup import TrialSetup, prepare

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
CPU = torch.device("cpu")


def small(seed: int = 0, **train: Any) -> dict[str, Any]:
    return {"preset": "snip", "task": {"model": {"name": "mlp", "hidden": [4]}, "seed": seed}, "train": train}


def test_the_same_recipe_starts_with_the_same_bits_and_leaves_the_caller_s_draws_alone(setup_of: SetupOf) -> None:
    torch.manual_seed(5)
    one = setup_of(small())
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    again, other = setup_of(small()), setup_of(small(seed=1))
    assert (one.key, one.root()) == (again.key, again.root())
    assert all(torch.equal(one.start[name], again.start[name]) for name in one.start)
    assert one.key != other.key
    assert one.root() != other.root()


def test_trajectory_1_is_named_by_what_trains_it_not_by_what_comes_after(setup_of: SetupOf) -> None:
    root = setup_of(small()).root()
    assert setup_of({**small(), "mask": {"sparsity": 0.9}}).root() == root
    assert setup_of(small(optimizer={"lr": 0.05})).root() != root
    assert setup_of(small(steps="3ep")).root() != root


def test_given_weights_are_found_beside_the_recipe_file(setup_of: SetupOf, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    raw = {**small(), "preset": "magnitude-after-training"}
    tensors = {name: tensor + 1 for name, tensor in setup_of(raw).model.state_dict().items()}
    save_file(tensors, tmp_path / "own.safetensors")
    raw["train"] = {"from": "own.safetensors"}
    recipe = read_space(raw, "a test").only_recipe()
    setup = prepare(recipe, CPU, folder=tmp_path)
    assert all(torch.equal(setup.start[MODEL + name], tensor) for name, tensor in tensors.items())
    with pytest.raises(UserError, match=r"^train\.from: "):
        prepare(recipe, CPU, folder=tmp_path / "elsewhere")


def test_an_optimizer_s_rate_is_its_own_and_each_place_has_its_own_stream(setup_of: SetupOf) -> None:
    setup = setup_of(small(optimizer={"lr": 0.25, "momentum": 0.5}))
    (group,) = setup.optimizer(setup.recipe.optimizer).param_groups
    assert (group["lr"], group["momentum"]) == (0.25, 0.5)
    assert setup.feed() is setup.feed()
    assert setup.feed() is not setup.feed("mask.prepare", 1)


TRAINED = nn.Linear(64, 10)
ROUNDED = {"preset": "magnitude-after-training", "mask": {"sparsity": 0.5}}


def trained(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """A factory whose weights come from somewhere else."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    network.load_state_dict({f"1.{name}": tensor for name, tensor in TRAINED.state_dict().items()})
    return network


BODY = nn.Linear(64, 64)


def trained_below_a_new_head(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes))
    network[1].load_state_dict(BODY.state_dict())
    return network


def drawn(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def constant(shape: tuple[int, ...], classes: int) -> nn.Module:
    network = drawn(shape, classes)
    nn.init.zeros_(network[1].get_parameter("weight"))
    return network


def prepared(model: Callable[..., nn.Module], **train: Any) -> TrialSetup:
    code = Code(model=model)
    raw = {**ROUNDED, "task": {"model": code.named()["model"]}, "train": train}
    return prepare(read_space(raw, "a test").only_recipe(), CPU, code=code)


def test_what_a_factory_trained_is_kept_or_refused_but_never_drawn_anew_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(UserError, match=r"task\.model: .* builds the same weights whatever the seed, .* kaiming") as e:
        prepared(trained)
    assert "train.from=model" in str(e.value)
    with pytest.raises(UserError, match="builds the same weights whatever the seed"):
        prepared(trained_below_a_new_head)
    assert torch.equal(prepared(trained, init="as-built").start[f"{MODEL}1.weight"], TRAINED.weight)
    assert not caplog.messages
    kept = prepared(trained, **{"from": "model"})
    assert torch.equal(kept.start[f"{MODEL}1.weight"], TRAINED.weight)
    # The digits have no validation split of their own.
    assert ["val/ figures may be too good" in message for message in caplog.messages] == [True]
    assert kept.key != prepared(drawn, **{"from": "model"}).key
    # What is drawn, or says nothing, is drawn anew.
    for factory in (drawn, constant):
        start = prepared(factory).start[f"{MODEL}1.weight"]
        assert not torch.equal(start, TRAINED.weight)
        assert bool((start != 0).all())


def test_files_of_torch_fit_under_other_names_and_in_lower_precision(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = trained((1, 8, 8), 10)
    state = {f"module.{name}": tensor.half() for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net.pt")
    start = prepared(drawn, **{"from": str(tmp_path / "net.pt")}).start
    assert torch.equal(start[f"{MODEL}1.weight"], TRAINED.weight.half().float())
    said = " ".join(caplog.messages)
    assert "without 'module.'" in said
    assert "2 tensors in lower precision become torch.float32" in said
    torch.save({"1.wieght": TRAINED.weight, "1.bias": TRAINED.bias}, tmp_path / "typo.pt")
    with pytest.raises(UserError, match=r"train\.from: .* missing the tensor '1\.weight' \(did you mean '1\.wieght'"):
        prepared(drawn, **{"from": str(tmp_path / "typo.pt")})
    # Nothing is rounded to fit.
    torch.save({name: tensor.double() for name, tensor in network.state_dict().items()}, tmp_path / "double.pt")
    with pytest.raises(UserError, match=r"of torch\.float64, but the model's is .* of torch\.float32"):
        prepared(drawn, **{"from": str(tmp_path / "double.pt")})
