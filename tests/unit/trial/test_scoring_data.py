"""The data that a mask is scored on: its own draw for every round, iteration and event, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from arrays import arrays
from torch import Tensor

from prune_search.recipe.problems import UserError
from prune_search.trial.scoring_data import _cut, scoring_data
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]


def setup(setup_of: SetupOf, seed: int = 0, **score: Any) -> TrialSetup:
    """A setup of a recipe that scores on data."""
    blocks = {"task": {"model": {"name": "mlp", "hidden": [4]}, "seed": seed}, "train": {"batch": 100}}
    return setup_of({"preset": "snip", **blocks, "mask": {"score": score}})


def inputs(batches: Any) -> Tensor:
    return torch.cat([batch for batch, _ in batches])


def test_iterations_take_one_batch_after_the_other_of_one_stream(setup_of: SetupOf) -> None:
    given = scoring_data(setup(setup_of, batches=2), 1)
    shown = torch.cat([inputs(given.batches(iteration)) for iteration in range(1, 7)])
    assert [len(batch) for batch, _ in given.batches(1)] == [100, 100]
    # 1,257 examples: twelve batches of 100 are no example twice.
    assert len(torch.unique(shown.flatten(1), dim=0)) == 1200
    assert torch.equal(inputs(given.batches(3)), shown[400:600])


def test_every_round_event_and_seed_has_a_stream_of_its_own(setup_of: SetupOf) -> None:
    one, other = setup(setup_of, batches=1), setup(setup_of, seed=1, batches=1)
    streams = [
        scoring_data(one, 1),
        scoring_data(one, 2),
        scoring_data(one, 1, "dynamics", 0),
        scoring_data(one, 1, "dynamics", 4),
    ]
    first = [inputs(given.batches(1)) for given in (*streams, scoring_data(other, 1))]
    assert not any(torch.equal(first[a], first[b]) for a in range(5) for b in range(a))
    assert torch.equal(inputs(scoring_data(one, 1).batches(1)), first[0])


@pytest.mark.parametrize("count", [1, 10, 100_000])
def test_examples_per_class_are_as_many_of_each_or_all_of_a_class_that_has_fewer(setup_of: SetupOf, count: int) -> None:
    given = setup(setup_of, per_class=count)
    (batch,) = scoring_data(given, 1).batches(1)
    found = torch.bincount(batch[1], minlength=10).tolist()
    assert found == [min(count, size) for size in torch.bincount(arrays(given.data).train.labels).tolist()]
    assert len(torch.unique(batch[0].flatten(1), dim=0)) == len(batch[0])
    (other,) = scoring_data(given, 1).batches(2)
    assert not torch.equal(batch[0], other[0])


def test_the_training_s_augmentation_is_not_applied(setup_of: SetupOf) -> None:
    blocks = {"task": {"model": {"name": "small-conv", "channels": [2, 2]}}, "train": {"augment": "crop-flip"}}
    given = setup_of({"preset": "snip", **blocks})
    known = {tuple(row) for row in arrays(given.data).train.inputs.flatten(1).tolist()}
    assert {tuple(row) for row in inputs(scoring_data(given, 1).batches(1)).flatten(1).tolist()} <= known


def test_calibration_is_of_single_examples_that_none_is_seen_twice_of(setup_of: SetupOf) -> None:
    given = scoring_data(setup(setup_of, calibration={"examples": 7}), 1).batches(1)
    assert [len(batch) for batch, _ in given] == [1] * 7
    assert len({str(batch.tolist()) for batch, _ in given}) == 7
    again = scoring_data(setup(setup_of, calibration={"examples": 7}), 1).batches(1)
    assert torch.equal(inputs(given), inputs(again))
    with pytest.raises(UserError, match=r"calibration.examples: is 100000, and the training data have \d+ examples"):
        scoring_data(setup(setup_of, calibration={"examples": 100_000}), 1).batches(1)
    with pytest.raises(UserError, match=r"calibration.length: cuts sequences of tokens, and the inputs"):
        scoring_data(setup(setup_of, calibration={"examples": 7, "length": 3}), 1).batches(1)


def test_calibration_cuts_tokens_alone() -> None:
    tokens, mask, weights = torch.arange(12).reshape(1, 12), torch.ones(1, 12, dtype=torch.bool), torch.rand(1, 12)
    inputs, labels = _cut(({"tokens": tokens, "mask": mask, "weights": weights}, tokens), 5)
    assert (inputs["tokens"].shape, inputs["mask"].shape, inputs["weights"].shape) == ((1, 5), (1, 5), (1, 12))
    assert labels.tolist() == [[0, 1, 2, 3, 4]]
