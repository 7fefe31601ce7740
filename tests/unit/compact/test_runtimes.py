"""Networks run by what ships: each runtime gives what the network gives, or says why it cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.compact.metrics import timed
from prune_search.compact.needed import missing_onnx
from prune_search.compact.runtimes import RUNTIMES
from prune_search.recipe.problems import UserError


class Stubborn(nn.Module):
    """No exporter follows it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(x.sum().item()) if bool((x > 0).any()) else x


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(bool(missing_onnx()), reason="needs the extra onnx")
def test_onnxruntime_gives_what_the_network_gives_and_is_timed() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval(), torch.randn(3, 4)
    (outputs,) = RUNTIMES["onnx"](model, x)(x)
    assert torch.allclose(torch.from_numpy(outputs), model(x), atol=1e-5)
    assert timed(model, x, 3, "onnx")["compact"] > 0
    with pytest.raises(UserError, match="onnxruntime cannot run this network"):
        RUNTIMES["onnx"](Stubborn(), x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_torch_compile_gives_what_the_network_gives() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval(), torch.randn(3, 4)
    try:
        compiled = RUNTIMES["compiled"](model, x)
    except UserError as error:
        assert "torch.compile cannot run this network" in str(error)  # noqa: PT017 - no compiler is here
        pytest.skip("there is no C++ compiler here")
    assert torch.allclose(compiled(x), model(x), atol=1e-6)
    assert RUNTIMES["eager"](model, x) is model
