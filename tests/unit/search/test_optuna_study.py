"""The study that refers to finished trials: none is changed or copied, and a sampler proposes from it."""

from __future__ import annotations

import copy

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from prune_search.search.optuna_study import NAME, STUDY, Generations, OneStudy, placed

WIDE = FloatDistribution(0.0, 1.0)


def trial(number: int, x: float, generation: int | None = None) -> FrozenTrial:
    system = {} if generation is None else {"nsga2:generation": generation}
    made = optuna.trial.create_trial(value=x, params={"x": x}, distributions={"x": WIDE}, system_attrs=system)
    return placed(made, number)


def study_of(storage: OneStudy, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    storage.create_new_study([StudyDirection.MAXIMIZE])
    return optuna.load_study(study_name=NAME, storage=storage, sampler=sampler)


def test_a_placed_trial_shares_all_but_its_number() -> None:
    one = trial(3, 0.5)
    other = placed(one, 7)
    assert (one.number, other.number, other._trial_id) == (3, 7, 7)
    assert other.params is one.params
    assert other.values == [0.5]


def test_what_is_known_is_not_changed_by_a_proposal_or_by_what_is_told_of_it() -> None:
    known = [trial(number, number / 10) for number in range(5)]
    before = copy.deepcopy(known)
    storage = OneStudy(known)
    study = study_of(storage, optuna.samplers.TPESampler(seed=0, n_startup_trials=2))
    asked = study.ask()
    assert 0.0 <= asked.suggest_float("x", 0.0, 1.0) <= 1.0
    storage.set_trial_user_attr(0, "seen", True)
    assert storage.get_trial(0).user_attrs == {"seen": True}
    assert known == before
    assert storage.get_n_trials(STUDY) == 6
    assert storage.get_n_trials(STUDY, TrialState.RUNNING) == 1
    assert storage.get_all_trials(STUDY, deepcopy=False, states=(TrialState.COMPLETE,))[4] is known[4]


def test_it_is_one_study_and_lists_none() -> None:
    with pytest.raises(NotImplementedError, match="there is only one study"):
        OneStudy([]).get_all_studies()


def test_the_parents_of_a_generation_are_chosen_once_for_the_same_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    plain = optuna.samplers.NSGAIISampler.select_parent

    def counting(self: optuna.samplers.NSGAIISampler, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        chosen.append(generation)
        return plain(self, study, generation)

    monkeypatch.setattr(optuna.samplers.NSGAIISampler, "select_parent", counting)
    key = optuna.samplers.NSGAIISampler._get_generation_key()
    known = [trial(number, number / 10) for number in range(6)]
    for number, one in enumerate(known):
        one.system_attrs = {key: number // 2}
    generations = Generations()
    for _ in range(3):
        storage = OneStudy(known)
        sampler = optuna.samplers.NSGAIISampler(seed=0, population_size=2)
        generations.settle(sampler, study_of(storage, sampler), storage)
    assert chosen == [1, 2]
    assert storage.get_study_system_attrs(STUDY)
