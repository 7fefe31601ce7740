"""Spaces of the sampler `guided`, and trials as their records tell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_search.ledger.records import Record, TrialRecords, trial_id
from prune_search.recipe.space import Space, read_space
from prune_search.search.proposer import Proposal

# A small search that tries cheaper forms of its recipes first.
CHEAPER = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 12ep}
mask: {at: end, criterion: magnitude, sparsity: 0.9}
weights: {at: {hole: choice, of: [0it, 1ep, 3ep, 25%, 50%, end]}}
retrain: {until: end, clock: {hole: choice, of: [0it, 25%, 50%]}}
search:
  seed: 5
  trials: 7
  sampler: {name: guided, prior: false}
  reproducible: true
  concurrency: 2
  objectives: [maximize val/accuracy]
  fidelity: {steps: 0.25}
"""


def space_of(blocks: dict[str, Any], objectives: list[str], sampler: Any = "guided", **search: Any) -> Space:
    return read_space({**blocks, "search": {"sampler": sampler, "objectives": objectives, **search}}, "a test")


def told(proposal: Proposal, figures: Mapping[str, Any] | None) -> TrialRecords:
    """A trial as its records tell it: ended with these figures, or running."""
    identity = trial_id(proposal.number)
    data = {
        "number": proposal.number,
        "recipe": proposal.recipe.canonical,
        "option": proposal.option,
        "params": dict(proposal.params),
        "sampler": proposal.sampler,
        "duplicate_of": None,
    }
    trial = TrialRecords(identity, Record(identity, "proposed", 1, 0, 0.0, data))
    if figures is not None:
        ended = {"status": "completed", "result": {"metrics": dict(figures)}, "steps_trained": 1}
        trial.ended = Record(identity, "ended", 1, 0, 0.0, ended)
    return trial
