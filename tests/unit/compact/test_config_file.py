"""config.json: networks as data that load from a folder of anybody's, and everything else refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.compact.config_file import COMPACT, COMPACT_FILE, CONFIG_FILE, config, load_network, read_config
from prune_search.compact.graph import Described
from prune_search.compact.tracing import described
from prune_search.recipe.problems import UserError
from prune_search.storage.tensors import save_tensors


@pytest.fixture
def network() -> Described:
    torch.manual_seed(0)
    return described(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,)).eval()


@pytest.fixture
def folder(network: Described, tmp_path: Path) -> Path:
    (tmp_path / CONFIG_FILE).write_bytes(config({COMPACT: network}))
    save_tensors(tmp_path / COMPACT_FILE, network.state_dict())
    return tmp_path


def test_a_network_comes_back_with_its_outputs(folder: Path, network: Described) -> None:
    assert list(read_config(folder)) == [COMPACT]
    loaded = load_network(folder)
    inputs = torch.randn(5, 4)
    assert torch.equal(loaded(inputs), network(inputs))
    assert not loaded.training
    with pytest.raises(UserError, match="'masked' is not one of compact"):
        load_network(folder, "masked")


def test_what_is_no_such_file_is_refused_in_one_line(folder: Path) -> None:
    file = folder / CONFIG_FILE
    whole: dict[str, Any] = json.loads(file.read_text())
    (entry,) = whole["networks"].values()
    for text, said in (
        ("{", "cannot be read"),
        ("[]", "contains no networks"),
        (json.dumps({**whole, "format": 2}), "has format 2; this prune-search reads format 1"),
        (json.dumps({**whole, "networks": {"other": entry}}), "'other' is not one of"),
        (json.dumps({**whole, "networks": {COMPACT: {**entry, "weights": "../x"}}}), "must keep its weights in"),
        ('{"format": 1, "networks": {}, "x": NaN}', "NaN is not a number"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=said) as refused:
            read_config(folder)
        assert "\n" not in str(refused.value)
    file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_config(folder)
