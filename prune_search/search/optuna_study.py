"""The Optuna study that proposals are drawn from. It refers to finished trials without copying them."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

STUDY, NAME = 0, "proposals"


class OneStudy(BaseStorage):
    """A storage of one study, which takes trials as they are.

    Trials that are put in must not be changed afterwards; one that is changed here is copied first. It serves one
    proposal in one thread.

    Args:
        trials: what is known, each with its place as number and id.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self._trials = list(trials)
        self._directions: list[StudyDirection] = []
        self._attributes: dict[str, dict[str, Any]] = {"user": {}, "system": {}}

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """The study; there is one."""
        self._directions = list(directions)
        return STUDY

    def delete_study(self, study_id: int) -> None:
        """Forget all trials."""
        self._trials.clear()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._attributes["user"][key] = value

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._attributes["system"][key] = value

    def get_study_id_from_name(self, study_name: str) -> int:
        return STUDY

    def get_study_name_from_id(self, study_id: int) -> str:
        return NAME

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._attributes["user"]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._attributes["system"]

    def get_all_studies(self) -> NoReturn:
        """Nothing that a sampler calls lists studies, and what would be listed is of a class private to Optuna."""
        raise NotImplementedError("there is only one study, which the proposer holds")

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        number = len(self._trials)
        if template_trial is None:
            trial = optuna.trial.create_trial(state=TrialState.RUNNING)
        else:
            trial = copy.deepcopy(template_trial)
        self._trials.append(placed(trial, number))
        return number

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        trial = self._copied(trial_id)
        trial.params = {**trial.params, param_name: distribution.to_external_repr(param_value_internal)}
        trial.distributions = {**trial.distributions, param_name: distribution}

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        trial = self._copied(trial_id)
        trial.state = state
        if values is not None:
            trial.values = list(values)
        if state.is_finished():
            trial.datetime_complete = datetime.now()
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        trial = self._copied(trial_id)
        trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._copied(trial_id)
        trial.user_attrs = {**trial.user_attrs, key: value}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._copied(trial_id)
        trial.system_attrs = {**trial.system_attrs, key: value}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        states = (state,) if isinstance(state, TrialState) else state
        return sum(states is None or trial.state in states for trial in self._trials)

    def _copied(self, trial_id: int) -> FrozenTrial:
        trial = self._trials[trial_id] = copy.copy(self._trials[trial_id])
        return trial


def placed(trial: FrozenTrial, number: int) -> FrozenTrial:
    """The trial with its place in the study as number and id. It shares all else with the trial that was given."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )


@dataclass
class Generations:
    """Parents of a genetic algorithm's generations, chosen once for the same populations.

    Left to itself the sampler recurses as deep as there are generations, and chooses all parents anew in every study.
    """

    _chosen: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def settle(self, sampler: BaseSampler, study: optuna.Study, storage: OneStudy) -> None:
        """Choose the parents of each generation in turn, or take those that were chosen from the same trials."""
        if not isinstance(sampler, BaseGASampler):
            return
        populations: dict[int, list[FrozenTrial]] = {}
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            populations.setdefault(_generation(trial), []).append(trial)
        generation = 1
        while generation in populations:
            # The parents of a generation are of the one before: its population, and its own parents.
            known = populations.get(generation - 1, [])
            attributes = storage.get_study_system_attrs(STUDY)
            if not self._same(generation, known):
                before = set(attributes)
                sampler.get_parent_population(study, generation)
                del self._chosen[generation - 1 :]
                self._chosen.append((known, {key: attributes[key] for key in attributes if key not in before}))
            for key, value in self._chosen[generation - 1][1].items():
                storage.set_study_system_attr(STUDY, key, value)
            generation += 1

    def _same(self, generation: int, known: list[FrozenTrial]) -> bool:
        if len(self._chosen) < generation:
            return False
        before = self._chosen[generation - 1][0]
        return len(before) == len(known) and all(one is other for one, other in zip(before, known, strict=True))


def _generation(trial: FrozenTrial) -> int:
    return next((int(value) for key, value in trial.system_attrs.items() if key.endswith(":generation")), -1)
