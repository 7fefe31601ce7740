"""The wide two-layer network against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from prune_search.tasks.models.networks.inverse_prior import InversePrior
from prune_search.tasks.network import prunable_weights


def test_inverse_prior_is_its_formula() -> None:
    torch.manual_seed(0)
    model = InversePrior(5, 3, 7, "sigmoid", both=True)
    u = torch.randn(2, 5)
    weights, signs, found = model.hidden.weight.detach(), model.get_parameter("out.weight").detach(), model(u).detach()
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    for row in range(2):
        for place in range(3):
            wanted = sum(
                float(signs[place, k]) / (1 + math.exp(-float(weights[k] @ u[row]))) / math.sqrt(7) for k in range(7)
            )
            assert float(found[row, place]) == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    torch.manual_seed(0)
    fixed = InversePrior(5, 3, 7, "sigmoid", both=False)
    assert torch.equal(fixed(u), model(u))
    assert list(prunable_weights(fixed)) == ["hidden.weight"]
    assert float(InversePrior(50, 3, 4000, "tanh", both=True).hidden.weight.detach().std()) == pytest.approx(
        1.0, rel=0.02
    )
