"""What earlier searches showed: read once, stored with the search, trusted as far as it explains what is seen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
from guided_trials import space_of, told
from made_search import make_definition

from prune_search.api.definition import BY_NAME
from prune_search.api.definition import space_of as defined
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords, read_search
from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import Space, known_epoch, read_space
from prune_search.search.guided.experience import FILE, Earlier, Experience, gathered, stored_experience
from prune_search.search.guided.features import network
from prune_search.search.guided.past import Reader
from prune_search.search.guided.recommend import modelled_metrics, nominal, recommendations, trusted
from prune_search.search.proposer import Proposal, Proposer
from prune_search.simulation.search import simulate_search
from prune_search.simulation.surface import Simulation

SPACE = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 10ep, batch: 64}
mask: {at: end, criterion: magnitude, sparsity: 0.95}
weights: {at: {hole: choice, of: [0it, 1ep, 5ep, end]}}
retrain: {until: end, clock: {hole: choice, of: [0it, 1ep, 5ep]}}
search: {trials: 8, concurrency: 1, seed: 3, controls: false, objectives: [maximize val/accuracy]}
"""
CLOSED = Simulation.of("closed-form")


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def space(**search: Any) -> Space:
    raw = strict_yaml.load(SPACE)
    return read_space({**raw, "search": {**raw["search"], **search}}, "file")


def simulated(storage: Path, name: str, least: int = 100, **search: Any) -> SearchRecords:
    """A simulated search with what those before it showed, until so many trials have ended; or one that goes on."""
    folder = storage / "searches" / name
    if not folder.exists():
        mine = space(**search)
        experience = gathered(storage, mine, True, defined)
        stored = {"space": mine.canonical(), "hole_order": BY_NAME, "simulated": CLOSED.as_data()}
        make_definition(storage, name, SPACE, **stored)
        experience.store(folder)
    ended: list[TrialRecords] = []
    again = defined(read_search(folder, trials=False).definition)
    simulate_search(
        again,
        folder,
        CLOSED,
        lambda: len(ended) >= least,
        lambda records, trial: ended.extend([trial] if trial else []),
    )
    return read_search(folder)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("storage")
    simulated(folder, "first", sampler="random")
    return folder


def test_what_a_search_of_the_same_holes_measured_is_gathered_and_stored(storage: Path, tmp_path: Path) -> None:
    found = gathered(storage, space(), True, defined)
    assert [one.name for one in found.earlier] == ["first (mlp on digits)"]
    (one,) = found.earlier
    assert set(one.figures) == {"val/accuracy"}
    assert len(one.networks) == len(one.figures["val/accuracy"]) >= 6
    found.store(tmp_path)
    assert stored_experience(tmp_path) == found
    # Figures only: no path, no seed, no host.
    assert str(storage) not in (tmp_path / FILE).read_text()


def test_nothing_is_gathered_where_nothing_is_to_be_learned(storage: Path, tmp_path: Path) -> None:
    other = read_space(strict_yaml.load(SPACE.replace("{hole: choice, of: [0it, 1ep, 5ep, end]}", "end")), "")
    cases = [space(begin="cold"), space(reproducible=True), space(sampler="tpe"), other]
    cases += [space(objectives=["minimize steps_trained"])]
    assert [gathered(storage, case, True, defined).earlier for case in cases] == [()] * len(cases)
    assert gathered(storage, space(), False, defined).earlier == ()
    assert gathered(tmp_path / "nowhere", space(), True, defined).earlier == ()
    assert stored_experience(tmp_path) == Experience()


@pytest.mark.slow
def test_a_search_that_goes_on_is_the_same_whatever_was_searched_in_between(storage: Path, tmp_path: Path) -> None:
    begin = [{"weights": {"at": "1ep"}}, {"weights": {"at": "end"}, "retrain": {"clock": "5ep"}}]

    def proposed(records: SearchRecords) -> list[Any]:
        return [(trial.params, trial.proposed and trial.proposed.data["sampler"]) for trial in records.numbered()]

    shutil.copytree(storage, tmp_path / "a")
    shutil.copytree(storage, tmp_path / "b")
    whole = simulated(tmp_path / "a", "second", begin=begin)
    broken = simulated(tmp_path / "b", "second", least=3, begin=begin)
    assert 3 <= len(broken.numbered()) < len(whole.numbered()) == 8
    simulated(tmp_path / "b", "third", sampler="random", seed=9)
    assert proposed(simulated(tmp_path / "b", "second")) == proposed(whole)
    assert [dict(trial.params) for trial in whole.numbered()[:2]][1] == {"weights.at": "end", "retrain.clock": "5ep"}
    assert whole.numbered()[0].params["weights.at"] == "1ep"
    begun = [trial.proposed.data.get("begun") for trial in whole.numbered()[:3] if trial.proposed]
    assert begun == ["recipe 1", "recipe 2", None]
    (entry,) = recommendations([whole])
    assert set(entry["trusted"]) == {"published findings", "first (mlp on digits)", "nothing known before"}
    assert abs(sum(entry["trusted"].values()) - 1) < 1e-5


def worth(proposal: Proposal, turned: bool) -> float:
    """An accuracy by the rate: best at 0.03, or, where it is turned, worst."""
    away = abs(float(numpy.log10(proposal.params["train.optimizer.lr"] / 0.03)))
    return 0.9 - 0.15 * (1.5 - away if turned else away)


def earlier_of(turned: bool) -> Experience:
    networks, figures = [], []
    for trial, figure in _trials(14, turned, seed=5):
        past = Reader(known_epoch).past(trial)
        assert past is not None
        networks.append(network(past.candidate, 1))
        figures.append(figure)
    return Experience((Earlier("before", tuple(networks), {"val/accuracy": tuple(figures)}),))


RATES: dict[str, Any] = {
    "preset": "snip",
    "train": {"steps": "10ep", "optimizer": {"lr": {"hole": "loguniform", "low": 0.001, "high": 1.0}}},
    "mask": {"sparsity": 0.9},
}


def _trials(count: int, turned: bool, seed: int) -> list[tuple[TrialRecords, float]]:
    proposer = Proposer(space_of(RATES, ["maximize val/accuracy"], "random", seed=seed), known_epoch)
    proposals = [proposer.propose(number, [], None) for number in range(1, count + 1)]
    figures = [(one, worth(one, turned)) for one in proposals if one is not None]
    return [(told(one, {"val/accuracy": figure}), figure) for one, figure in figures]


@pytest.mark.parametrize("turned", [False, True])
def test_an_earlier_search_is_trusted_as_far_as_it_explains_what_is_seen(turned: bool) -> None:
    goals = Goals.of(space_of(RATES, ["maximize val/accuracy"]).search)
    past = Reader(nominal).all([trial for trial, _ in _trials(9, False, seed=1)])
    experience = earlier_of(turned)
    share = trusted(modelled_metrics(past, goals, True, experience), goals, experience)["before"]
    # One in five members takes it.
    assert share < 0.1 if turned else share > 0.4


@pytest.mark.slow
def test_the_first_proposal_goes_where_the_earlier_search_was_best() -> None:
    mine = space_of(RATES, ["maximize val/accuracy"], {"name": "guided", "prior": False})
    rates = [
        proposal.params["train.optimizer.lr"]
        for experience in (earlier_of(False), earlier_of(True))
        if (proposal := Proposer(mine, known_epoch, 0, experience).propose(1, [], None)) is not None
    ]
    near = [abs(float(numpy.log10(rate / 0.03))) for rate in rates]
    assert near[0] < 0.5 < near[1]


def test_a_damaged_file_is_told_of_in_one_line(tmp_path: Path) -> None:
    for content in ("{}", '{"format": 2, "searches": []}', '{"format": 1, "searches": [{"name": "x"}]}'):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(UserError, match=r"experience\.json is not as this version writes it"):
            stored_experience(tmp_path)
