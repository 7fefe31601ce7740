"""Plans a search: builds the tree of a space and measures the cost of a step on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prune_search.api.target import Target, read_search_space
from prune_search.api.where import Where, named_storage, where_given
from prune_search.recipe.problems import UserError
from prune_search.recipe.search_block import is_sharded, workers_of
from prune_search.recipe.space import Space, known_epoch
from prune_search.storage.errors import one_line

if TYPE_CHECKING:
    from prune_search.recipe.recipe import Recipe
    from prune_search.search.plan import Plan, Planned
    from prune_search.trial.calibration import Calibration
    from prune_search.trial.setup import TrialSetup

MAX_CALIBRATIONS = 4

logger = logging.getLogger("prune_search")


@dataclass(frozen=True)
class PlannedSearch:
    """A plan of a search, and its cost on this machine.

    Attributes:
        plan: the trials and their steps.
        calibration: of each kind of network that was looked at, with the share of the steps that it stands for; empty
            where nothing was measured.
    """

    plan: Plan
    calibration: tuple[tuple[Calibration, float], ...] = ()

    @property
    def device_hours(self) -> float | None:
        """Hours to train what is not stored and measure everything once, with controls, on the measured device."""
        if not self.calibration:
            return None
        steps = self.plan.steps_shared - (self.plan.steps_stored or 0) + self.plan.steps_controls
        return sum(share * self._seconds(item, steps) for item, share in self.calibration) / 3600

    def _seconds(self, item: Calibration, steps: int) -> float:
        # Every segment after trajectory 1 ends with a measurement.
        return steps * item.seconds_per_step + self.plan.vertices * item.seconds_per_evaluation

    @property
    def storage_bytes(self) -> int | None:
        """Of the states: each has the weights, those that are gone on from the optimizer's buffers, others a mask."""
        if not self.calibration:
            return None
        return round(sum(share * self._bytes(item) for item, share in self.calibration))

    def _bytes(self, item: Calibration) -> int:
        made = self.plan
        buffers, masks = made.states_on_the_way * item.optimizer_bytes, made.states_of_masks * item.mask_bytes
        return made.states * item.model_bytes + buffers + masks

    def as_data(self) -> dict[str, Any]:
        """The data of ``plan --json``."""
        data = self.plan.as_data()
        data["device_hours"] = None if self.device_hours is None else round(self.device_hours, 6)
        data["storage_bytes"] = self.storage_bytes
        data["calibration"] = [{**vars(item), "share": round(share, 4)} for item, share in self.calibration]
        return data


def plan(
    target: Target | Space,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the option
    where: Where | None = None,
    calibrated: bool = True,
    stored: bool = True,
    foreseen: bool = True,
) -> PlannedSearch:
    """Estimate the cost of a search before it is launched. Nothing is stored.

    Args:
        target: a space file, the name of a shipped space, plain data, or a space that was read before.
        set: dotted keys and their values.
        where: storage, data folder, device, and the user's own model and data.
        calibrated: whether to train each kind of network for about a second, to estimate hours and bytes.
        stored: whether to count the steps that are stored already, which needs to read the data and build the networks.
        foreseen: whether to ask a sampler that learns how many steps it expects to spend.

    Raises:
        UserError: the space or an argument is invalid, there is nothing to search, or data or a network cannot be had
            that are needed to calibrate.
    """
    from prune_search.search.epochs import EpochLengths
    from prune_search.search.next_trial import dense_recipe
    from prune_search.search.plan import make_plan

    where = where_given(where)
    space = read_search_space(target, [*where.values(set).items()])
    epochs = EpochLengths(where.data_folder(), where.code())
    dense = dense_recipe(space)
    # A draw between two epochs needs the size of a data set that is not known before it is read.
    examples = 0 if known_epoch(dense) is not None else epochs.examples(dense)
    made = make_plan(space, epochs, examples, _counter(space, where) if stored else None, foreseen)
    return PlannedSearch(made, tuple(_calibrations(made, where)) if calibrated else ())


def _counter(space: Space, where: Where) -> Callable[[list[Planned]], int | None]:
    """Counts the steps of trials that are stored; where data or a network cannot be had, that is not known."""
    from prune_search.search.stored_steps import stored_steps

    workers, sharded = workers_of(space.search).declared, is_sharded(space.search)

    def setup_of(recipe: Recipe) -> TrialSetup:
        from prune_search.training.environment import environment_class

        setup = where.trial_setup(recipe)
        train, device = recipe.train, setup.network.device
        environment = environment_class(device, train.precision, train.threads, workers, sharded)
        return replace(setup, environment=environment)

    def count(items: list[Planned]) -> int | None:
        try:
            return stored_steps(items, setup_of, named_storage(where.storage))
        except UserError as error:
            logger.warning("the plan does not count what the storage has already: %s", one_line(error))
            return None

    return count


def _calibrations(made: Plan, where: Where) -> list[tuple[Calibration, float]]:
    """The kinds of networks among the first trials, by the steps that they stand for, and a measurement of each."""
    from prune_search.trial.calibration import calibrate

    kinds: dict[str, list[Planned]] = {}
    for item in made.first:
        train = item.recipe.train
        kind = repr((item.recipe.task.written, train.step_examples, train.precision, train.threads))
        kinds.setdefault(kind, []).append(item)
    largest = sorted(kinds.values(), key=lambda items: -sum(item.steps for item in items))[:MAX_CALIBRATIONS]
    total = sum(item.steps for items in largest for item in items) or 1
    measured = []
    for items in largest:
        share = sum(item.steps for item in items) / total if total > 1 else 1 / len(largest)
        measured.append((calibrate(where.trial_setup(items[0].recipe)), share))
    return measured
