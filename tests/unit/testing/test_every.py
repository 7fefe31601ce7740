"""What a plug-in's author learns of an entry: that it passes, or in a sentence what does not hold of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

import prune_search
from prune_search.pruning.mask.scoring import Scoring
from prune_search.recipe.axes import CRITERIA, LOSSES, NORMALIZATIONS, PATHS, PICTURES, SCHEDULES
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Number
from prune_search.recipe.registry import REQUIRED, AnyAxis, Option
from prune_search.report.figure_data import FigureData
from prune_search.tasks.network import prunable_weights
from prune_search.testing import (
    check_criterion,
    check_every_entry,
    check_loss,
    check_normalization,
    check_path,
    check_picture,
    check_schedule,
)
from prune_search.testing.networks import NETWORKS, network_named

GUIDE = Path(prune_search.__file__).parent / "guide"
NAME = "under-test"
Scorer = Callable[[Scoring], dict[str, Tensor]]


@pytest.fixture(autouse=True)
def withdrawn() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    axes: tuple[AnyAxis, ...] = (CRITERIA, LOSSES, NORMALIZATIONS, PATHS, PICTURES, SCHEDULES)
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
        (reads_data, r"it reads data, and does not declare needs_data=True"),
        (draws_from_elsewhere, r"is another one the second time"),
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


def test_an_option_without_a_default_is_asked_for() -> None:
    @CRITERIA.register(NAME, summary="under test", options={"centre": Option(Number(-1.0, 1.0), REQUIRED, "of it")})
    def distance(scoring: Scoring, *, centre: float) -> dict[str, Tensor]:
        """The distance of each weight from a number."""
        return {name: (weight - centre).abs() for name, weight in scoring.dense.items()}

    with pytest.raises(AssertionError, match=r"must be checked with a value for centre"):
        check_criterion(NAME)
    check_criterion(NAME, centre=0.5)


def test_what_is_wrong_with_a_default_is_said_with_its_option() -> None:
    @CRITERIA.register(NAME, summary="under test", options={"centre": Option(Number(-1.0, 1.0), 3.0, "of it")})
    def distance(scoring: Scoring, centre: float) -> dict[str, Tensor]:
        """The distance of each weight from a number."""
        return {name: (weight - centre).abs() for name, weight in scoring.dense.items()}

    with pytest.raises(AssertionError, match=r"option 'centre': it refuses its own default 3\.0"):
        check_criterion(NAME)


def test_other_axes_say_what_does_not_hold_too() -> None:
    @LOSSES.register(NAME, summary="under test")
    def per_example(logits: Tensor, labels: Tensor) -> Tensor:
        """Not reduced."""
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    @SCHEDULES.register(NAME, summary="under test")
    def falling(lr: float, total: int, epoch: int) -> Callable[[int], float]:
        """Below 0 past the end."""
        return lambda step: lr * (1 - step / total)

    @NORMALIZATIONS.register(NAME, summary="under test")
    def over_the_sum(scores: Tensor) -> Tensor:
        """Zero over zero."""
        return scores / scores.sum()

    @PATHS.register(NAME, summary="under test")
    def late(keep: object, share: object) -> object:
        """Never gets there."""
        return type(keep)(1)  # type: ignore[call-arg]

    with pytest.raises(AssertionError, match=r"loss 'under-test': it is a tensor \[8\], and not one number"):
        check_loss(NAME)
    with pytest.raises(AssertionError, match=r"a rate is negative"):
        check_schedule(NAME)
    with pytest.raises(AssertionError, match=r"whose scores are all 0 it makes one that is not finite"):
        check_normalization(NAME)
    with pytest.raises(AssertionError, match=r"it ends at 1, and not at 0\.001"):
        check_path(NAME)


def test_a_picture_of_nothing_is_refused() -> None:
    @PICTURES.register(NAME, summary="under test")
    def always(figure_data: FigureData) -> Figure | None:
        """An empty figure."""
        return Figure()

    with pytest.raises(AssertionError, match=r"of a search without trials it draws something"):
        check_picture(NAME)


def test_a_module_that_registers_nothing_is_told() -> None:
    with pytest.raises(AssertionError, match=r"^json registers nothing$"):
        check_every_entry("json")


def example(file: str) -> str:
    """A file that guide/criterion.md shows."""
    text = (GUIDE / "criterion.md").read_text(encoding="utf-8")
    found = re.search(rf"^```python\n(# {re.escape(file)}\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_guides_own_entries_pass_by_the_command_that_it_shows(tmp_path: Path) -> None:
    for file in ("my_criterion.py", "my_picture.py"):
        (tmp_path / file).write_text(example(file))
    command = "python -m prune_search.testing my_criterion"
    assert f"```sh\n{command}\n```" in (GUIDE / "criterion.md").read_text(encoding="utf-8")
    words = [sys.executable, *command.split()[1:], "my_picture"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["passed  criterion 'distance'", "passed  picture 'steps-accuracy'"]


def test_the_command_says_what_fails_and_ends_with_1(tmp_path: Path) -> None:
    text = example("my_criterion.py").replace("(weight - 1).abs()", "weight.sum()")
    (tmp_path / "wrong_criterion.py").write_text(text)
    words = [sys.executable, "-m", "prune_search.testing", "wrong_criterion"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("FAILED  criterion 'distance': the scores of 1.weight have the shape [], ")
    assert done.stderr.count("\n") == 1


def test_the_networks_are_small_enough_for_slow_definitions() -> None:
    for name in NETWORKS:
        assert sum(weight.numel() for weight in prunable_weights(network_named(name)).values()) <= 200
