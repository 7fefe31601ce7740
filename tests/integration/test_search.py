"""Whole searches: the real Ray, the real MLflow, real training on digits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guided_trials import CHEAPER
from real_mlflow import MLFLOW_WARNINGS, Kept, kept_runs
from real_search import LATE, MIXED, SMALL, Searches, environment, outcomes, troubles

import prune_search
from prune_search import Where
from prune_search.api.outcome import Outcome
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords
from prune_search.recipe.problems import UserError
from prune_search.recipe.schema import BLOCKS

pytestmark = [MLFLOW_WARNINGS, pytest.mark.usefixtures("known")]


@pytest.fixture(scope="module", autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs, and the criteria that make trouble are known."""
    with troubles():
        yield


def kept(records: SearchRecords) -> dict[str, Kept]:
    """The search's runs in MLflow by the trial's id; the search itself is the empty one."""
    from mlflow import MlflowClient

    definition = records.definition
    found = kept_runs(MlflowClient(records.tracking_uri), definition["experiment"], definition["id"])
    runs = {run.key: run for run in found}
    assert len(runs) == len(found)
    return runs


def test_a_search_over_several_paradigms_completes_every_trial(mixed: Outcome, searches: Searches) -> None:
    data = mixed.as_data()
    assert data["trials"] == {"completed": 8, "stopped": 0, "failed": 0, "duplicates": 0}
    paradigms = {trial.proposed.data["paradigm"] for trial in mixed.records.numbered() if trial.proposed}
    assert {"snip", "magnitude-after-training", "lottery-ticket"} <= paradigms
    assert data["best"]["metrics"]["val/accuracy"] > 0.5
    assert (mixed.signal, mixed.undelivered) == (None, 0)
    assert sorted(searches.ended["mixed"]) == sorted(mixed.records.trials)


def test_mlflow_has_every_trial_and_control_once_and_none_running(mixed: Outcome) -> None:
    runs = kept(mixed.records)
    assert sorted(runs) == sorted(["", *mixed.records.trials])
    assert {run.status for run in runs.values()} == {"FINISHED"}
    names = {key: run.run.info.run_name for key, run in runs.items()}
    assert names["control-dense"] == "control-dense"
    for trial in mixed.records.numbered():
        assert trial.proposed is not None
        assert names[trial.id] == trial.proposed.data["name"]
    for run in runs.values():
        places = [(name, step) for name, step, _, _ in run.rows]
        assert len(places) == len(set(places))
    accuracy = runs["000001"].run.data.metrics["best/val/accuracy"]
    assert accuracy >= mixed.records.trials["000001"].metrics["val/accuracy"] - 1e-9
    assert mixed.parent_run_id == runs[""].run.info.run_id


def test_a_trial_under_ray_equals_a_run_bit_for_bit(mixed: Outcome, tmp_path: Path) -> None:
    for trial in mixed.records.numbered()[:4]:
        recipe = {block: trial.recipe[block] for block in BLOCKS}
        alone = prune_search.run(recipe, where=Where(storage=tmp_path), fresh=True).as_data()
        for figure in ("key", "mask_sha256", "weights_sha256"):
            assert trial.result[figure] == alone[figure]
        assert trial.metrics == {name: value for name, value in alone["metrics"].items() if name in trial.metrics}
        assert not [name for name in trial.metrics if name.startswith("test/")]


def test_cheaper_forms_are_trained_beside_the_trials_and_are_runs_of_their_own(searches: Searches) -> None:
    records = searches.launch(CHEAPER, "cheaper", search__controls=False).records
    cheaper = records.low_fidelity()
    assert cheaper
    assert {trial.status for trial in records.trials.values()} == {"completed"}
    assert len(records.numbered()) == 7
    assert {trial.fidelity for trial in cheaper} == {"steps 0.25"}
    # What a cheaper form shares with a trial is trained once.
    trained = sum(trial.result["steps_trained"] for trial in cheaper)
    assert 0 < trained < sum(trial.result["steps_trained"] for trial in records.numbered())
    runs = kept(records)
    assert sorted(runs) == sorted(["", *records.trials])
    assert {run.status for run in runs.values()} == {"FINISHED"}


def test_controls_come_first_and_last(mixed: Outcome) -> None:
    records = mixed.records
    assert [trial.id for trial in records.controls()] == ["control-dense", "control-dense-long", "control-shuffle"]
    begun = {identity: trial.attempts[0].time for identity, trial in records.trials.items()}
    ended = max(trial.ended.time for trial in records.numbered() if trial.ended is not None)
    proposed = {key: trial.proposed.time for key, trial in records.trials.items() if trial.proposed is not None}
    assert min(proposed, key=proposed.__getitem__) == "control-dense"
    assert min(begun["control-dense-long"], begun["control-shuffle"]) >= ended
    best, _ = Goals.of(records.definition["space"]["search"]).best(records.numbered(), None)
    assert best is not None
    dense, long, shuffle = records.controls()
    assert dense.metrics["sparsity"] == 0
    assert dense.recipe["train"]["steps"] == "3ep"
    assert long.metrics["steps_trained"] == best.metrics["steps_trained"]
    assert shuffle.metrics["sparsity"] == best.metrics["sparsity"]
    assert shuffle.result["mask_sha256"] != best.result["mask_sha256"]


def test_a_reproducible_search_is_the_same_however_its_trials_are_timed(
    mixed: Outcome, searches: Searches, trouble: Path, tmp_path: Path
) -> None:
    (trouble / LATE).write_text("0.5")
    try:
        other = searches.launch(MIXED, "late", storage=tmp_path)
    finally:
        (trouble / LATE).unlink()
    assert outcomes(other.records) == outcomes(mixed.records)
    # The storage was empty, so that nothing but the beginning was there to be shared.
    assert other.as_data()["steps_trained"] > 0


def test_an_export_runs_again_to_the_same_bits_in_another_process(
    mixed: Outcome, searches: Searches, trouble: Path, tmp_path: Path
) -> None:
    key = next(
        t.result["key"] for t in mixed.records.numbered() if t.proposed and t.proposed.data["paradigm"] == "snip"
    )
    where = Where(storage=searches.storage)
    result = prune_search.export(
        "mixed", tmp_path / "out", options=prune_search.ExportOptions(trial=key), where=where
    ).result
    command = [sys.executable, "-m", "prune_search", "run", str(tmp_path / "out"), "--verify", "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(trouble), cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    verified = json.loads(said.stdout)
    assert verified["verified"] == "exact"
    assert verified["mask_sha256"] == result.masks.sha256
    loaded = prune_search.load(tmp_path / "out")
    kept_weights = sum(int(mask.sum()) for mask in loaded.masks.values())
    assert kept_weights == sum(layer.kept for layer in result.receipt.layers)
    for name, mask in loaded.masks.items():
        assert not loaded.model.state_dict()[name][~mask].any()


TROUBLED = f"""\
{SMALL}
mask: {{sparsity: 0.8}}
any:
- {{preset: snip}}
- {{preset: snip, train: {{optimizer: {{lr: 1.0e+30}}}}}}
- {{mask: {{at: 0it, criterion: broken}}, weights: {{at: 0it}}, retrain: {{until: end, clock: 0it}}}}
- {{preset: random}}
search:
  {{sampler: random, trials: 8, concurrency: 1, seed: 0, controls: false, objectives: [maximize val/accuracy]}}
"""


@pytest.fixture(scope="module")
def troubled(searches: Searches) -> Outcome:
    """Eight draws of four recipes; two of them fail whoever tries them."""
    return searches.launch(TROUBLED, "troubled")


@pytest.mark.faults
def test_what_a_retry_cannot_cure_fails_a_trial_and_no_other(troubled: Outcome) -> None:
    """Row 4 of the fault table."""
    from optuna.trial import TrialState

    from prune_search.search.proposer import frozen_trial

    assert troubled.as_data()["trials"] == {"completed": 2, "stopped": 0, "failed": 2, "duplicates": 4}
    goals = Goals.of(troubled.records.definition["space"]["search"])
    runs = kept(troubled.records)
    messages = {}
    for trial in troubled.records.numbered():
        if trial.status == "failed":
            assert trial.ended is not None
            kind = trial.ended.data["error"]["kind"]
            messages[kind] = trial.ended.data["error"]["message"]
            assert len(trial.attempts) == 1
            assert frozen_trial(trial, goals, None).state is TrialState.FAIL
            assert runs[trial.id].status == "FAILED"
            assert runs[trial.id].run.data.tags["error.kind"] == kind
    assert set(messages) == {"nan", "ValueError"}
    assert "is broken" in messages["ValueError"]
    assert {run.status for run in runs.values()} == {"FINISHED", "FAILED"}


def test_a_repeated_recipe_is_not_trained_twice(troubled: Outcome) -> None:
    records, runs = troubled.records, kept(troubled.records)
    assert sorted(runs) == sorted(["", *records.trials])
    repeated = [trial for trial in records.numbered() if trial.duplicate_of is not None]
    assert len(repeated) == 4
    for trial in repeated:
        twin = records.trials[trial.duplicate_of or ""]
        assert not trial.attempts
        assert trial.result == twin.result
        assert trial.ended is not None
        assert trial.ended.data["steps_trained"] == 0
        assert twin.ended is not None
        # A twin that failed was trained until then; that many steps are not trained again.
        spent = twin.ended.data["steps_trained"] + twin.ended.data["steps_saved"]
        assert trial.ended.data["steps_saved"] == (27 if twin.result else spent)
        assert runs[trial.id].run.data.tags["duplicate_of"] == twin.id


UNEQUAL = f"""\
{SMALL}
preset: random
mask: {{scope: global, sparsity: {{hole: choice, of: [0.2, 0.3, 0.4, 0.995]}}}}
search:
  {{sampler: grid, scheduler: {{name: asha, grace: 1ep, eta: 2}}, trials: 4, concurrency: 1, seed: 0, controls: false,
  objectives: [maximize val/accuracy], reproducible: true}}
"""


@pytest.mark.parametrize(("grace", "share"), [("1ep", None), ("33%", "33%")])
def test_a_scheduler_stops_what_is_behind(searches: Searches, grace: str, share: str | None) -> None:
    scheduler = {"name": "asha", "grace": grace, "eta": 2}
    outcome = searches.launch(UNEQUAL, f"unequal-{grace.strip('%')}", search__scheduler=scheduler)
    by_sparsity = {trial.params["mask.sparsity"]: trial for trial in outcome.records.numbered()}
    worst = by_sparsity[0.995]
    assert worst.status == "stopped"
    assert outcome.as_data()["best"]["metrics"]["sparsity"] < 0.5
    # Stopped after its first epoch, so that the other two were not trained.
    assert worst.ended is not None
    assert worst.ended.data["steps_trained"] == 9
    assert worst.measured[-1].data["step"] == 9
    assert worst.measured[-1].data.get("share") == share
    assert kept(outcome.records)[worst.id].status == "FINISHED"


def test_a_trial_that_needs_more_than_the_machine_has_is_refused_and_nothing_is_left(searches: Searches) -> None:
    with pytest.raises(UserError, match="a trial needs 64 CPUs, but this machine has 2"):
        searches.launch(MIXED, "large", search__cpus_per_trial=64)
    assert not (searches.storage / "searches" / "large" / "search.json").exists()
    with pytest.raises(UserError, match="GPU"):
        searches.launch(MIXED, "large", search__gpus_per_trial=1)


def test_a_space_where_every_draw_is_invalid_is_told_as_one(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prune_search.search.proposer import Proposer

    def never(*given: Any) -> None:
        raise UserError("1000 draws in a row fell in an invalid region of the space")

    monkeypatch.setattr(Proposer, "propose", never)
    with pytest.raises(UserError, match="1000 draws in a row"):
        searches.launch(MIXED, "invalid", search__controls=False)
