"""Simulated searches write what trained ones write, and obey the stopping rule and the faults asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from real_search import outcomes, statuses
from simulated_runs import Simulated, shuffled
from simulated_search import SPACE

from prune_search.ledger.account import total
from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.axes import METRICS, SURFACES
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.simulation.optimum import optimum, truth_of
from prune_search.simulation.surface import Simulation
from prune_search.simulation.trained import Trained

ASHA = SPACE.replace("seed: 5}", "seed: 5, scheduler: {name: asha, grace: 1ep, eta: 2}}")
SHARES = ASHA.replace("grace: 1ep", "grace: 20%")
CHAINS = """\
preset: lottery-ticket
task: {data: digits, model: mlp, seed: 0}
train: {steps: 3ep}
rounds: {hole: int, low: 1, high: 9}
search: {sampler: tpe, trials: 12, concurrency: 3, controls: false}
"""
UNCONTROLLED = SPACE.replace("seed: 5}", "seed: 5, controls: false}")


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def test_every_trial_and_control_ends_with_a_result(tmp_path: Path) -> None:
    records = Simulated.begin(tmp_path).run()
    assert len(records.numbered()) == 12
    assert {trial.id for trial in records.controls()} == {"control-dense", "control-dense-long", "control-shuffle"}
    assert set(statuses(records)) <= {"completed", "duplicate"}
    for trial in records.trials.values():
        assert 0 <= trial.metrics["val/accuracy"] <= 1
        assert trial.result["environment"] == {"simulated": "closed-form"}
        assert len(trial.result["rounds"]) == trial.recipe["rounds"]


def test_the_records_have_the_keys_of_a_trained_trial(tmp_path: Path) -> None:
    from prune_search.api.run import run
    from prune_search.api.where import Where

    records = Simulated.begin(tmp_path).run()
    trial = next(t for t in records.numbered() if t.status == "completed")
    recipe = {key: value for key, value in trial.recipe.items() if key != "schema"}
    trained = run(recipe, where=Where(storage=tmp_path / "store")).as_data()
    # What only a network has: its inputs, and what of it takes no part.
    assert set(trial.result) == set(trained) - {"inputs", "left_out"}
    assert set(trial.result["rounds"][0]) == set(trained["rounds"][0])
    assert set(trial.result["layers"][0]) == set(trained["layers"][0])
    known = {name for name in trained["metrics"] if not name.startswith("test/") and METRICS[name].facts.simulated}
    assert set(trial.result["metrics"]) == known
    # Never taken for the trained one.
    assert trial.result["key"] != trained["key"]
    assert trial.result["digests"]["data"] != trained["digests"]["data"]


@pytest.mark.parametrize("space", [ASHA, SHARES])
def test_a_reproducible_search_does_not_depend_on_who_goes_on_first(tmp_path: Path, space: str) -> None:
    one = Simulated.begin(tmp_path / "one", space).run()
    assert outcomes(Simulated.begin(tmp_path / "other", space).run(shuffled(1))) == outcomes(one)
    assert "stopped" in statuses(one)
    assert all(trial.status == "completed" for trial in one.controls())


def test_a_trial_that_was_stopped_at_a_share_was_behind_others_at_that_share(tmp_path: Path) -> None:
    records = Simulated.begin(tmp_path, SHARES).run()
    stopped = [trial for trial in records.numbered() if trial.status == "stopped"]
    inside = [trial for trial in stopped if trial.measured[-1].data["step"] is not None]
    assert inside
    for trial in inside:
        last = trial.measured[-1]
        at = [other.measured for other in records.numbered() if other.duplicate_of is None and other is not trial]
        rivals = [one for found in at for one in found if one.data.get("share") == last.data["share"]]
        assert last.data["share"] in ("20%", "40%", "80%")
        assert any(one.data["metrics"]["val/accuracy"] > last.data["metrics"]["val/accuracy"] for one in rivals)


def test_trials_share_what_they_train_and_the_account_says_so(tmp_path: Path) -> None:
    records = Simulated.begin(tmp_path, CHAINS).run()
    longest = max(trial.recipe["rounds"] for trial in records.numbered())
    steps = 27
    account = total(records.trials.values())
    # One chain: the first training and every round once, whoever asked for them.
    assert account.trained == steps * (longest + 1)
    asked = sum(steps * (trial.recipe["rounds"] + 1) for trial in records.numbered())
    assert account.trained + account.saved == asked
    assert account.repeated == account.abandoned == 0


def test_a_share_of_the_trials_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    records = Simulated.begin(tmp_path, UNCONTROLLED, {"name": "closed-form", "failing": 1.0}).run()
    assert len(records.numbered()) == 12
    for trial in records.numbered():
        assert trial.ended is not None
        assert (trial.ended.data["status"], trial.ended.data["error"]["kind"]) == ("failed", "nan")
        assert trial.ended.data["result"] is None
    some = Simulated.begin(tmp_path / "some", UNCONTROLLED, {"name": "closed-form", "failing": 0.3}).run()
    assert 0 < statuses(some).count("failed") < 12


@pytest.mark.slow
def test_an_attempt_whose_process_dies_is_made_again_and_given_up_at_last(tmp_path: Path) -> None:
    unbroken = Simulated.begin(tmp_path / "unbroken", UNCONTROLLED).run()
    records = Simulated.begin(tmp_path / "some", UNCONTROLLED, {"name": "closed-form", "dying": 0.3}).run()
    assert any(len(trial.attempts) > 1 for trial in records.numbered())
    assert _accuracies(records) == _accuracies(unbroken)
    lost = Simulated.begin(tmp_path / "all", UNCONTROLLED, {"name": "closed-form", "dying": 1.0}).run()
    assert statuses(lost) == ["failed"] * 12
    assert {len(trial.attempts) for trial in lost.numbered()} == {4}
    assert {trial.ended.data["error"]["kind"] for trial in lost.numbered() if trial.ended} == {"lost"}


def _accuracies(records: SearchRecords) -> list[float | None]:
    return [trial.metrics.get("val/accuracy") for trial in records.numbered()]


def test_a_search_that_is_asked_to_end_goes_on_later(tmp_path: Path) -> None:
    whole = Simulated.begin(tmp_path / "whole", ASHA).run()
    search = Simulated.begin(tmp_path / "asked", ASHA)

    def listener(records: SearchRecords, trial: TrialRecords | None) -> None:
        search.asked |= trial is not None and trial.id == "000003"

    assert len(search.run(listener=listener).numbered()) < 12
    search.asked = False
    assert outcomes(search.run()) == outcomes(whole)


def test_a_stretch_is_waited_for_or_trained_on() -> None:
    trained = Trained()
    assert trained.train("a", 10, 0.0) == (10, 10.0)
    assert trained.train("a", 4, 1.0) == (0, 4.0)
    assert trained.train("a", 10, 20.0) == (0, 20.0)
    assert trained.train("a", 15, 2.0) == (5, 15.0)
    assert trained.train("b", 3, 5.0) == (3, 8.0)


RATE = {"hole": "loguniform", "low": 0.01, "high": 0.9}


def test_the_optimum_is_no_worse_than_any_draw_and_exact_in_a_continuous_hole() -> None:
    raw: dict[str, Any] = {
        "preset": "late-rewinding",
        "train": {
            "steps": "20ep",
            "optimizer": {"name": "sgd", "lr": {"hole": "loguniform", "low": 0.01, "high": 0.9}},
        },
        "weights": {"at": {"hole": "choice", "of": ["0it", "1ep", "10ep"]}},
    }
    simulation = Simulation.of("closed-form")
    recipe, best = optimum(read_space(raw, "a test"), simulation, points=4)
    # The rate of the dense network is best at the optimizer's default.
    assert recipe.optimizer.options["lr"] == pytest.approx(0.1, rel=1e-3)
    assert str(recipe.weights.at) == "1ep"
    for rate in (0.02, 0.09, 0.11, 0.5):
        for at in ("0it", "1ep", "10ep"):
            sets = [("train.optimizer.lr", rate), ("weights.at", at)]
            assert truth_of(read_space(raw, "a test", sets).only_recipe(), simulation) <= best


def test_a_surface_that_is_written_wrongly_is_refused_in_one_line() -> None:
    for value, said in (
        ("closed-from", "did you mean 'closed-form'"),
        ({"name": "closed-form", "failing": 2}, "--surface.failing"),
        ({"name": "closed-form", "nois": 1}, "nois"),
        ("none.csv", "cannot be read"),
    ):
        with pytest.raises(UserError) as refused:
            Simulation.of(value)
        assert said in "; ".join(str(problem) for problem in refused.value.problems)


@pytest.mark.parametrize("name", [name for name, entry in SURFACES.items() if "file" not in entry.options])
def test_every_surface_is_a_pure_function(tmp_path: Path, name: str) -> None:
    one, other = (Simulated.begin(tmp_path / folder, UNCONTROLLED, name).run() for folder in ("one", "other"))
    assert outcomes(one) == outcomes(other)
    assert Simulation.of(name).digest == Simulation.of({"name": name}).digest
