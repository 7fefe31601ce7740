"""A finished run is exported as a trial is, and loads without the data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prune_search
from prune_search import Where
from prune_search.api.export import ExportOptions
from prune_search.recipe.problems import UserError

SET = {"train.steps": "1ep", "mask.sparsity": 0.5, "mask.granularity": "filter"}


def net(shape: tuple[int, ...], classes: int) -> nn.Module:
    features = int(torch.tensor(shape).prod())
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))


def data() -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 5, generator=draw)
    labels = (inputs[:, 0] > 0).long()
    return {"train": (inputs[:200], labels[:200]), "test": (inputs[200:], labels[200:])}


def gone() -> dict[str, Any]:
    raise AssertionError("the data are not needed")


gone.__qualname__ = "data"


def test_a_run_becomes_an_export_in_place_and_the_trial_s_options_do_not_apply(tmp_path: Path) -> None:
    folder, where = tmp_path / "ticket", Where(storage=tmp_path / "store", model=net, data=data)
    result = prune_search.run("magnitude-after-training", set=SET, where=where, out=folder)
    # Its shapes are in the folder, so that the network is built without the data.
    loaded = prune_search.load(folder, where=Where(model=net, data=gone))
    assert loaded.compact is None
    inputs = torch.randn(4, 5)
    exported = prune_search.export(str(folder), to=folder, where=where)
    assert exported.result.weights_sha256 == result.weights_sha256
    assert (exported.result.steps[0], exported.result.key) == (0, result.key)
    again = prune_search.load(folder)
    assert again.compact is not None
    small, whole = again.network(), loaded.model
    with torch.no_grad():
        assert torch.allclose(small(inputs), whole(inputs), atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())
    assert "snip" not in (folder / "README.md").read_text()
    with pytest.raises(UserError, match="--trial: applies to a search, not to the folder of a run"):
        prune_search.export(str(folder), to=folder, where=where, options=ExportOptions(trial="1"))


def test_a_folder_that_was_altered_is_not_exported(tmp_path: Path) -> None:
    folder, where = tmp_path / "ticket", Where(storage=tmp_path / "store")
    prune_search.run("snip", set={"train.steps": "2it", "mask.sparsity": 0.5}, where=where, out=folder)
    (folder / "masks.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="masks"):
        prune_search.export(str(folder), to=tmp_path / "other", where=where)
    assert not (tmp_path / "other").exists()
