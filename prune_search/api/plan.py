"""Plans a search: builds the tree of a space and measures the cost of a step on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_search.api.target import Target, read_search_space
from prune_search.api.where import Where
from prune_search.recipe.space import Space, known_epoch

if TYPE_CHECKING:
    from prune_search.search.plan import Plan, Planned
    from prune_search.trial.calibration import Calibration

MAX_CALIBRATIONS = 4


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
        """Hours to train and measure everything once, including controls, on the measured device."""
        if not self.calibration:
            return None
        steps = self.plan.steps_shared + self.plan.steps_controls
        return sum(share * self._seconds(item, steps) for item, share in self.calibration) / 3600

    def _seconds(self, item: Calibration, steps: int) -> float:
        # Every segment after trajectory 1 ends with a measurement.
        return steps * item.seconds_per_step + self.plan.vertices * item.seconds_per_evaluation

    @property
    def storage_bytes(self) -> int | None:
        """Of the states; those on trajectory 1 have optimizer buffers, about as large as the weights again."""
        if not self.calibration:
            return None
        return round(sum(share * self.plan.states * 2 * item.model_bytes for item, share in self.calibration))

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
) -> PlannedSearch:
    """Estimate the cost of a search without running it.

    Args:
        target: a space file, the name of a shipped space, plain data, or a space that was read before.
        set: dotted keys and their values.
        where: storage, data folder, device, and the user's own model and data.
        calibrated: whether to train a few steps to estimate hours and bytes.

    Raises:
        UserError: the space or an argument is invalid, or there is nothing to search.
    """
    from prune_search.search.epochs import EpochLengths
    from prune_search.search.next_trial import dense_recipe
    from prune_search.search.plan import make_plan

    where = where or Where()
    space = read_search_space(target, [*(set or {}).items(), *where.assignments()])
    epochs = EpochLengths(where.data_folder(), where.code())
    dense = dense_recipe(space)
    # A draw between two epochs needs the size of a data set that is not known before it is read.
    made = make_plan(space, epochs, 0 if known_epoch(dense) is not None else epochs.examples(dense))
    return PlannedSearch(made, tuple(_calibrations(made, where)) if calibrated else ())


def _calibrations(made: Plan, where: Where) -> list[tuple[Calibration, float]]:
    """The kinds of networks among the first trials, by the steps that they stand for, and a measurement of each."""
    from prune_search.trial.calibration import calibrate

    kinds: dict[str, list[Planned]] = {}
    for item in made.first:
        train = item.recipe.train
        kind = repr((item.recipe.task.written, train.batch, train.precision, train.threads))
        kinds.setdefault(kind, []).append(item)
    largest = sorted(kinds.values(), key=lambda items: -sum(item.steps for item in items))[:MAX_CALIBRATIONS]
    total = sum(item.steps for items in largest for item in items) or 1
    measured = []
    for items in largest:
        share = sum(item.steps for item in items) / total if total > 1 else 1 / len(largest)
        measured.append((calibrate(where.trial_setup(items[0].recipe)), share))
    return measured
