"""A folder that only holds a program is opened where it is trusted, without the network's class."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prune_search
from prune_search import Where
from prune_search.compact.file_names import PROGRAM_FILE
from prune_search.compact.from_graph import smaller
from prune_search.exports.networks import add_costs
from prune_search.recipe.problems import UserError

SET = {"train.steps": "2it", "retrain.steps": "2it", "mask.sparsity": 0.5, "mask.granularity": "filter"}


def net(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, classes))


def data() -> dict[str, Any]:
    inputs = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long()
    return {"train": (inputs[:150], labels[:150]), "test": (inputs[150:], labels[150:])}


def test_a_program_is_opened_where_it_is_trusted_and_stands_for_a_class_that_is_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, named = tmp_path / "run", Where(model=net, data=data)
    where = Where(storage=tmp_path / "store", model=net, data=data)
    prune_search.run("magnitude-after-training", set=SET, where=where, out=folder)
    inputs = torch.randn(4, 5)
    model = prune_search.load(folder, where=named).model
    torch.export.save(smaller(model, inputs).program, folder / PROGRAM_FILE)
    add_costs(folder, {"program": True, "program_inputs": ["x"]})
    with caplog.at_level(logging.WARNING):
        assert prune_search.load(folder, where=named).compact is None
    assert "pass trusted=True" in caplog.text
    with pytest.raises(UserError, match="net"):
        prune_search.load(folder)
    loaded = prune_search.load(folder, trusted=True)
    assert loaded.network() is loaded.model
    assert sum(one.numel() for one in loaded.model.parameters()) < sum(one.numel() for one in model.parameters())
    with torch.no_grad():
        assert torch.allclose(loaded.network()(inputs), model(inputs), atol=1e-5)
    add_costs(folder, {"program": True})
    with pytest.raises(UserError, match=r"costs\.program_inputs: does not name the inputs"):
        prune_search.load(folder, trusted=True)
