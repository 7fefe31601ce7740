"""A program of torch.export is called as the network that it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prune_search.exports.program import opened
from prune_search.recipe.problems import UserError
from prune_search.tasks.batches import Inputs


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(3, 2), nn.Dropout(0.5)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = self.drop(self.layer(x)) * scale
        return found


def test_it_takes_tensors_by_place_by_name_and_as_inputs_and_stays_in_evaluation_mode(tmp_path: Path) -> None:
    model, x, scale = Two().eval(), torch.randn(2, 3), torch.ones(2, 1)
    torch.export.save(torch.export.export(model, (x, scale)), tmp_path / "program.pt2")
    program = opened(tmp_path / "program.pt2", ["x", "scale"]).train()
    expected = model(x, scale)
    batch = Inputs({"x": x, "scale": scale, "labels": torch.zeros(2)})
    for found in (program(x, scale), program(x, scale=scale), program(batch)):
        assert torch.allclose(found, expected)


def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    (tmp_path / "program.pt2").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"program\.pt2: cannot be read as a program"):
        opened(tmp_path / "program.pt2", ["x"])
