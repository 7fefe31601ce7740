"""Trained weights from the files in which people keep them."""

from __future__ import annotations

import json
import pickle  # noqa: TID251 - what must not be read
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prune_search.recipe.problems import UserError
from prune_search.trial.pretrained import fitted, load_given, load_weights, read_weights


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def same(one: dict[str, Tensor], other: dict[str, Any]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_every_form_of_a_state_dict_is_read(tmp_path: Path) -> None:
    state = network().state_dict()
    for number, content in enumerate(
        (
            state,
            {"state_dict": state, "epoch": 3, "loss": torch.tensor(0.5)},
            {"model_state_dict": state},
            {"model": state, "args": {"lr": 0.1}},
            {**state, "step": 7},
        )
    ):
        for suffix in (".pt", ".pth", ".bin", ".ckpt"):
            path = tmp_path / f"{number}{suffix}"
            torch.save(content, path)
            assert same(read_weights(path, path.name), state), (number, suffix)


def test_a_hugging_face_folder_of_one_file_or_of_several(tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    one = tmp_path / "one"
    one.mkdir()
    save_file(state, one / "elsewhere")
    # As the hub's cache has it.
    (one / "model.safetensors").symlink_to(one / "elsewhere")
    assert same(read_weights(one, "one"), state)
    several = tmp_path / "several"
    several.mkdir()
    names = sorted(state)
    shards = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, held in shards.items():
        save_file({name: state[name] for name in held}, several / file)
    index = several / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, held in shards.items() for name in held}}))
    assert same(read_weights(several, "several"), state)
    index.write_text(json.dumps({"weight_map": {"0.weight": "../one/elsewhere"}}))
    with pytest.raises(UserError, match="not a file beside it"):
        read_weights(several, "several")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"'empty' has no model\.safetensors"):
        read_weights(tmp_path / "empty", "empty")


class Bomb:
    """Would make a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_nothing_is_unpickled_and_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save({"state_dict": Bomb(str(made))}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(str(made))))
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 and no more")
    torch.save({"epoch": 3, "weights": [1, 2]}, tmp_path / "none.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    torch.save(network(), tmp_path / "whole.pt")
    for name, reason in (
        ("bomb.pt", "holds more than tensors and is not read"),
        ("plain.pt", "is not read|cannot be read as a file of torch"),
        ("broken.pt", "cannot be read as a file of torch"),
        ("none.pt", "has no state dict: its keys are 'epoch', 'weights'"),
        ("list.pt", "holds a value of type list"),
        ("whole.pt", r"torch\.save\(model\.state_dict\(\), …\)"),
        ("missing.pt", "there is no file"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            read_weights(tmp_path / name, name)
        assert "\n" not in str(caught.value)
    assert not made.exists()


def test_what_wrappers_put_in_front_of_names_is_taken_away() -> None:
    state = dict(network().state_dict())
    for prefixes in (["module."], ["model."], ["_orig_mod."], ["module.", "_orig_mod."], ["model.", "module."]):
        wrapped = {"".join(prefixes) + name: tensor for name, tensor in state.items()}
        found, taken = fitted(wrapped, state)
        assert same(found, state), prefixes
        assert taken == prefixes
    # A model whose own names begin so keeps them.
    own = {f"model.{name}": tensor for name, tensor in state.items()}
    assert fitted(own, own) == (own, [])
    # A compiled part.
    inner = {f"body.{name}": tensor for name, tensor in state.items()}
    compiled = {f"body._orig_mod.{name}": tensor for name, tensor in state.items()}
    assert same(fitted(compiled, inner)[0], inner)
    # What fits nowhere comes back as it fits best, to be told name by name.
    assert fitted({"encoder.x": torch.ones(1)}, state) == ({"encoder.x": torch.ones(1)}, [])


def test_weights_that_do_not_fit_are_all_named_and_none_is_copied() -> None:
    model = nn.Linear(2, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given: dict[str, Tensor] = {"weight": torch.zeros(3, 2), "extra": torch.zeros(1)}
    with pytest.raises(UserError) as caught:
        load_weights(model, given, "own.safetensors")
    assert [problem.message for problem in caught.value.problems] == [
        "own.safetensors: weight is (3, 2) of torch.float32, but the model's is (2, 2) of torch.float32",
        "own.safetensors is missing the tensor 'bias'",
        "own.safetensors has tensors that the model does not have: extra",
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["best.tar", "weights", "epoch-3.pkl"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_is_known_whatever_it_is_called(tmp_path: Path, name: str, zipped: bool) -> None:
    state = network().state_dict()
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert same(read_weights(tmp_path / name, name), state)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    state = network().state_dict()
    state["2.weight"][0, 1] = float("nan")
    torch.save(state, tmp_path / "net.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"abc")
    for name, reason in (
        ("net.pt", r"'net\.pt': 2\.weight holds values that are not finite"),
        ("torn.safetensors", "'torn"),
    ):
        with pytest.raises(UserError, match=rf"train\.from: .*{reason}"):
            load_given(network(), name, tmp_path)
