"""What a pruned network costs: sizes by hand, and latencies with a noise bar that are taken once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.compact import metrics
from prune_search.compact.latency import Latency, latencies
from prune_search.compact.metrics import sizes, timed
from prune_search.compact.packing import pack, unpack
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.recipe.axes import METRICS
from prune_search.recipe.space import read_space
from prune_search.search.schedulers import check_scheduler
from prune_search.storage.tensors import encode
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
# Other runtimes take long to make: `test_runtimes`.
ASKED = [
    name
    for name, entry in METRICS.items()
    if not entry.facts.always and not name.startswith(("latency/compiled", "latency/onnx"))
]


def pruned() -> tuple[nn.Module, MaskSet]:
    """Linear 4 → 6 → 2, half of the hidden units gone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[:3] = False
    held = torch.ones(6, dtype=torch.bool)
    held[:3] = False
    masks = MaskSet({"0.weight": mask, "2.weight": torch.ones(2, 6, dtype=torch.bool)}, held={"0.bias": held})
    masks.apply(model)
    return model.eval(), masks


def test_sizes_are_those_computed_by_hand() -> None:
    model, masks = pruned()
    found = sizes(model, masks, torch.zeros(1, 4))
    assert found["dense parameters"] == 4 * 6 + 6 + 6 * 2 + 2
    assert found["compact parameters"] == 4 * 3 + 3 + 3 * 2 + 2
    assert found["nonzero"] == 4 * 3 + 3 + 6 * 2 + 2
    assert found["dense flops"] == 2 * (24 + 12)
    # What reads a removed unit has nothing to do.
    assert found["compact flops"] == found["sparse flops"] == 2 * (12 + 6)
    assert found["dense bytes"] == len(encode(model.state_dict()))
    assert found["compact bytes"] < found["dense bytes"]


def test_a_network_that_cannot_be_described_counts_as_it_is() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sort(self.fc(x)).values

    model = Sorted().eval()
    found = sizes(model, MaskSet({"fc.weight": torch.ones(3, 4, dtype=torch.bool)}), torch.zeros(1, 4))
    assert found["compact parameters"] == found["dense parameters"] == 15


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.99, 1.0])
def test_what_is_packed_comes_back_to_the_last_bit(density: float) -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 7, 3, 3, generator=draw)
    mask = torch.rand(weight.shape, generator=draw) < density
    tensors = {"a.weight": weight * mask, "a.bias": torch.randn(40, generator=draw), "n": torch.tensor(3)}
    packed = pack(tensors, {"a.weight": mask})
    assert all(torch.equal(unpack(packed)[name], tensor) for name, tensor in tensors.items())
    assert sorted(unpack(packed)) == sorted(tensors)
    assert len(encode(packed)) <= len(encode(tensors))
    if density < 0.1:
        assert len(encode(packed)) < 0.2 * len(encode(tensors))


def test_a_latency_has_a_noise_bar_around_its_median() -> None:
    model = nn.Linear(8, 8)
    found = latencies({"one": model, "same": model}, torch.zeros(2, 8))
    for latency in found.values():
        assert 0 < latency.low <= latency.median <= latency.high
        assert latency.passes >= 20
    assert model.training


def test_faster_is_only_what_lies_beyond_the_noise() -> None:
    slow, near, fast = Latency(2.0, 1.8, 2.4, 50), Latency(1.7, 1.5, 1.9, 50), Latency(1.0, 0.9, 1.1, 50)
    assert fast.faster_than(slow)
    assert not near.faster_than(slow)
    assert not slow.faster_than(fast)


def recipe(**mask: Any) -> dict[str, Any]:
    return {
        "task": {"model": {"name": "mlp", "hidden": [16]}},
        "train": {"steps": "2it"},
        "mask": {"at": "end", "criterion": "l1", "sparsity": 0.5, "granularity": "filter", **mask},
        "weights": {"at": "end"},
        "retrain": "none",
    }


def test_they_are_taken_where_they_are_asked_for_and_only_there(setup_of: SetupOf) -> None:
    metrics = run_trial(setup_of(recipe()), None, asked=("model/parameters",)).metrics
    assert metrics["model/parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert set(metrics) & set(ASKED) == {"model/parameters"}
    assert not set(run_trial(setup_of(recipe()), None).metrics) & set(ASKED)


def test_a_network_is_measured_once(setup_of: SetupOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def measure(*given: Any) -> Mapping[str, float]:
            taken.append(name)
            found: Mapping[str, float] = function(*given)
            return found

        return measure

    monkeypatch.setattr(metrics, "sizes", counted("sizes", sizes))
    monkeypatch.setattr(metrics, "timed", counted("timed", timed))
    first = run_trial(setup_of(recipe()), tmp_path, asked=ASKED).metrics
    assert sorted(taken) == ["sizes", "timed", "timed"]
    assert all(first[name] > 0 for name in ASKED)
    # The very figures, the noisy ones too.
    assert run_trial(setup_of(recipe()), tmp_path, asked=ASKED).metrics == first
    run_trial(setup_of(recipe(sparsity=0.25)), tmp_path, asked=["model/bytes"])
    assert sorted(taken) == ["sizes", "sizes", "timed", "timed"]


def test_a_metric_that_is_asked_for_later_sees_the_network_of_its_own_round(
    setup_of: SetupOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = {**recipe(), "mask": {"at": "end", "criterion": "magnitude", "sparsity": {"per_round": 0.5}}}
    chain |= {"retrain": {"steps": "2it"}, "rounds": 3}
    seen: list[int] = []

    def counted(model: nn.Module, masks: MaskSet, example: torch.Tensor) -> Mapping[str, float]:
        weights = dict(model.named_parameters())
        seen.append(sum(int(torch.count_nonzero(weights[name])) for name in masks))
        return sizes(model, masks, example)

    monkeypatch.setattr(metrics, "sizes", counted)
    first = run_trial(setup_of(chain), tmp_path)
    assert not seen
    # Everything else is stored, so that nothing but this metric looks at the network.
    setup = setup_of(chain)
    later = run_trial(setup, tmp_path, asked=["model/nonzero"])
    assert seen == [one.receipt.units_kept for one in later.rounds]
    assert [one.metrics["val/accuracy"] for one in later.rounds] == [
        one.metrics["val/accuracy"] for one in first.rounds
    ]
    assert all(torch.equal(value, later.tensors[name]) for name, value in setup.model.state_dict().items())


def space(**search: Any) -> Any:
    drawn = recipe(sparsity={"hole": "uniform", "low": 0.1, "high": 0.9})
    return read_space({**drawn, "search": search}, "a test")


def test_they_are_objectives_and_constraints() -> None:
    written = {"objectives": ["minimize latency/batch-1"], "constraints": ["model/bytes <= 0.5 * dense"]}
    assert check_scheduler(space(**written)) == []
    (problem,) = check_scheduler(space(**written, scheduler="asha"))
    assert "latency/batch-1 is not measured" in problem.message
