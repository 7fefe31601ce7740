"""The model of a metric: what was measured is met, what runs counts at its expected figure, sparsity is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy
import pytest
from guided_trials import space_of, told

from prune_search.ledger.records import TrialRecords
from prune_search.recipe.space import known_epoch
from prune_search.search.guided.features import Frame
from prune_search.search.guided.model import Model
from prune_search.search.guided.past import Reader, looked_at
from prune_search.search.proposer import Proposer

BLOCKS: dict[str, Any] = {
    "preset": "snip",
    "train": {"steps": "10ep"},
    "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.95}},
}
ACCURACY = "val/accuracy"


def modelled(pending: int = 0, metric: str = ACCURACY, direction: str = "maximize") -> Any:
    """The model of 8 recipes' accuracies, which fall with the sparsity, and their sparsities."""
    proposer = Proposer(space_of(BLOCKS, ["maximize val/accuracy"], sampler="random"), known_epoch)
    trials: list[TrialRecords] = []
    for number in range(1, 9):
        proposal = proposer.propose(number, trials, None)
        assert proposal is not None
        sparsity = float(proposal.params["mask.sparsity"])
        trials.append(told(proposal, {ACCURACY: 1 - 0.05 - 0.2 * sparsity**2, "sparsity": sparsity}))
    past = Reader(known_epoch).all(trials)
    seen = looked_at(past)
    networks = [one.network for one in seen]
    known = len(seen) - pending
    model = Model(Frame.of(networks, True), seen[:known], {"all": networks}, networks[known:])
    return model.of(metric, direction), seen, numpy.arange(len(seen))


def test_what_was_measured_is_about_what_is_expected() -> None:
    found, seen, rows = modelled()
    centre, deviation = found.moments(rows)
    expected = [found.target.figure(float(value)) for value in centre]
    assert expected == pytest.approx([one.figures[ACCURACY] for one in seen], abs=0.02)
    assert (deviation > 0).all()


def test_what_runs_counts_at_its_expected_figure() -> None:
    """A pending recipe is known better than one of which nothing is known, and expected to be the same."""
    with_pending, _, rows = modelled(pending=2)
    everything, _, _ = modelled()
    centre, deviation = with_pending.moments(rows[-2:])
    whole, _ = everything.moments(rows[-2:])
    assert centre == pytest.approx(whole, abs=0.5)
    assert numpy.isfinite(deviation).all()


def test_a_metric_that_some_lack_says_nothing_there() -> None:
    _, seen, _ = modelled()
    networks = [one.network for one in seen]
    lacking = [replace(one, figures={}) if place == 2 else one for place, one in enumerate(seen)]
    found = Model(Frame.of(networks, True), lacking, {"all": networks}).of(ACCURACY, "maximize")
    assert found.belief is not None
    assert numpy.isnan(found.belief.mean[:, 8 + 2]).all()
    assert numpy.isfinite(numpy.delete(found.belief.mean, 8 + 2, axis=1)).all()


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_sparsity_needs_no_model(direction: str, sign: float) -> None:
    found, seen, rows = modelled(metric="sparsity", direction=direction)
    centre, deviation = found.moments(rows)
    assert centre == pytest.approx([sign * (1 - (one.network.density or 0.0)) for one in seen])
    assert (deviation == 0).all()
