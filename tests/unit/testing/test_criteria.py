"""What a plug-in's author learns of a criterion: in a sentence what does not hold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from prune_search.pruning.mask.scoring import Scoring
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.registry import AnyAxis
from prune_search.testing import check_criterion
from prune_search.testing.checked import Checked
from prune_search.testing.criteria import masks, networks_for, scoring, variants
from prune_search.testing.networks import network_named

Scorer = Callable[[Scoring], dict[str, Tensor]]
NAME = "under-test"


@pytest.fixture(autouse=True)
def withdrawn() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    axes: tuple[AnyAxis, ...] = (CRITERIA,)
    for axis in axes:
        if NAME in axis:
            axis.withdraw(NAME)


def plain(scoring: Scoring) -> dict[str, Tensor]:
    """The size of each weight."""
    return {name: weight.abs() for name, weight in scoring.dense.items()}


def not_finite(scoring: Scoring) -> dict[str, Tensor]:
    """Zero over zero."""
    return {name: weight * 0 / 0 for name, weight in scoring.dense.items()}


def of_another_shape(scoring: Scoring) -> dict[str, Tensor]:
    """One score per layer."""
    return {name: weight.abs().sum() for name, weight in scoring.dense.items()}


def changes_weights(scoring: Scoring) -> dict[str, Tensor]:
    """Scales what it scores."""
    with torch.no_grad():
        for weight in scoring.weights.values():
            weight.mul_(2)
    return plain(scoring)


def reads_data(scoring: Scoring) -> dict[str, Tensor]:
    """Looks at batches without saying so."""
    scoring.batches()
    return plain(scoring)


drawn = torch.Generator().manual_seed(0)


def draws_from_elsewhere(scoring: Scoring) -> dict[str, Tensor]:
    """Another score each time."""
    return {name: torch.rand(weight.shape, generator=drawn) for name, weight in scoring.dense.items()}


def undocumented(scoring: Scoring) -> dict[str, Tensor]:
    return plain(scoring)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (not_finite, r"a score of \d\.weight is not finite"),
        (of_another_shape, r"the scores of 1\.weight have the shape \[\], and the weight \[7, 16\]"),
        (changes_weights, r"scoring the network 'perceptron' changes its weights"),
        (reads_data, r"it reads data but does not declare needs_data=True"),
        (draws_from_elsewhere, r"differs the second time"),
        (undocumented, r"its function has no docstring"),
    ],
)
def test_what_does_not_hold_of_a_criterion_is_said_in_a_sentence(score: Scorer, said: str) -> None:
    CRITERIA.register(NAME, summary="under test")(score)
    with pytest.raises(AssertionError, match=said):
        check_criterion(NAME)


def test_a_criterion_is_compared_with_the_slow_definition_that_it_declares() -> None:
    def twice(scoring: Scoring, **options: object) -> dict[str, object]:
        return {name: 2 * weight.abs().flatten() for name, weight in scoring.dense.items()}

    CRITERIA.register(NAME, summary="under test", facts=Criterion(oracle=twice))(plain)
    with pytest.raises(AssertionError, match=r"criterion 'under-test': .* is 5\.0e-01 off the slow definition"):
        check_criterion(NAME)


def test_a_criterion_is_checked_with_every_word_and_flag_of_its_options() -> None:
    one = Checked.of(CRITERIA, "snip")
    written = variants(one)
    assert written[0] == one.named.written
    assert len(written) == len({str(value) for value in written})
    assert "perceptron" not in networks_for("batchnorm-scale")
    assert set(networks_for("snip")) > set(networks_for("batchnorm-scale"))


def test_what_is_scored_is_the_masked_network_and_the_mask_of_half_is_exact() -> None:
    given = scoring(network_named("perceptron"), True, "magnitude")
    assert any(bool((weight == 0).any()) for weight in given.weights.values())
    assert not any(bool((weight == 0).any()) for weight in given.dense.values())
    with pytest.raises(AssertionError, match="does not declare needs_data=True"):
        given.batches()
    found = masks(Checked.of(CRITERIA, "magnitude"), network_named("perceptron"), "eval")
    whole = sum(weight.numel() for weight in given.weights.values())
    assert found.receipt().units_kept == (whole + 1) // 2
