"""The search block: objectives, constraints and everything that is of the search and not of a trial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.facts import Metric
from prune_search.recipe.reading import Reading
from prune_search.recipe.search_block import Bound, is_sharded, parse_constraint, parse_objective, read_search
from prune_search.recipe.strict_yaml import load


def read(text: str) -> dict[str, Any]:
    reading = Reading()
    search = read_search(load(text) if text else None, reading)
    assert not reading.problems
    assert search is not None
    return dict(search)


def refused(text: str) -> list[str]:
    reading = Reading()
    assert read_search(load(text), reading) is None
    return [str(problem) for problem in reading.problems]


def test_what_is_left_out_has_defaults() -> None:
    defaults = read("")
    assert defaults == read("{}")
    assert defaults.pop("sampler") == {"name": "guided", "prior": True}
    assert defaults == {
        "scheduler": "none",
        "trials": 24,
        "concurrency": 2,
        "objectives": ["maximize val/accuracy", "maximize sparsity"],
        "constraints": [],
        "stop_when_met": False,
        "seed": 0,
        "reproducible": False,
        "controls": True,
        "max_failures": 3,
        "cpus_per_trial": 1.0,
        "gpus_per_trial": 0.0,
    }


def test_every_key_of_the_specification_is_read() -> None:
    text = """
    {sampler: {name: nsga2, population: 8}, scheduler: none, trials: 40, concurrency: 4, objectives: minimize val/loss,
     constraints: "sparsity >= 90%", stop_when_met: true, seed: 5, reproducible: true, controls: false,
     time_budget: 3600, max_failures: 0, cpus_per_trial: 0.5, gpus_per_trial: 0.25}
    """
    assert read(text) == {
        "sampler": {"name": "nsga2", "population": 8},
        "scheduler": "none",
        "trials": 40,
        "concurrency": 4,
        "objectives": ["minimize val/loss"],
        "constraints": ["sparsity >= 90%"],
        "stop_when_met": True,
        "seed": 5,
        "reproducible": True,
        "controls": False,
        "time_budget": 3600.0,
        "max_failures": 0,
        "cpus_per_trial": 0.5,
        "gpus_per_trial": 0.25,
    }


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("maximize val/accuracy", ("maximize", "val/accuracy")),
        ("  minimize   steps_trained ", ("minimize", "steps_trained")),
        ("minimize collapsed", ("minimize", "collapsed")),
    ],
)
def test_an_objective_is_a_direction_and_a_metric(written: str, canonical: tuple[str, str]) -> None:
    (objective,) = read(f"{{objectives: ['{written}']}}")["objectives"]
    assert objective == " ".join(canonical)
    assert parse_objective(objective) == canonical


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("val/accuracy", "must be maximize METRIC or minimize METRIC (got 'val/accuracy')"),
        ("maximize", "must be maximize METRIC or minimize METRIC (got 'maximize')"),
        ("maximize val/accuracy now", "must be maximize METRIC or minimize METRIC (got 'maximize val/accuracy now')"),
        ("maximise sparsity", "'maximise' is not one of maximize, minimize (did you mean 'maximize'?)"),
        ("maximize accuracy", "'accuracy' is not one of "),
        ("maximize test/accuracy", "'test/accuracy' is measured on test data, which a search never sees"),
        ("maximize test/anything", "'test/anything' is measured on test data, which a search never sees"),
        ("3", "must be maximize METRIC or minimize METRIC (got 3)"),
        ("[]", "must be maximize METRIC or minimize METRIC (got [])"),
    ],
)
def test_a_wrong_objective_is_refused(written: str, message: str) -> None:
    (said,) = refused(f"{{objectives: [minimize val/loss, {written}]}}")
    assert said.startswith(f"search.objectives.1: {message}")


def test_a_search_has_one_to_ten_objectives() -> None:
    assert refused("{objectives: []}") == ["search.objectives: must be a list of 1 to 10 values (got 0)"]
    eleven = ", ".join(["maximize sparsity"] * 11)
    assert refused(f"{{objectives: [{eleven}]}}") == ["search.objectives: must be a list of 1 to 10 values (got 11)"]


@pytest.mark.parametrize(
    # The bound where the dense network has 0.8.
    ("value", "bound", "at_dense"),
    [
        ("0.9", Bound(0.0, 0.9), 0.9),
        ("5", Bound(0.0, 5.0), 5.0),
        (".5", Bound(0.0, 0.5), 0.5),
        ("-1", Bound(0.0, -1.0), -1.0),
        ("1e-3", Bound(0.0, 0.001), 0.001),
        ("1e3", Bound(0.0, 1000.0), 1000.0),
        ("90%", Bound(0.0, 0.9), 0.9),
        ("0.5%", Bound(0.0, 0.005), 0.005),
        ("dense", Bound(1.0, 0.0), 0.8),
        ("dense + 0.05", Bound(1.0, 0.05), 0.85),
        ("dense - 0.05", Bound(1.0, -0.05), 0.75),
        ("dense - 1%", Bound(1.0, -0.01), 0.79),
        ("dense+2%", Bound(1.0, 0.02), 0.82),
        ("dense  -  0", Bound(1.0, -0.0), 0.8),
        ("0.5 * dense", Bound(0.5, 0.0), 0.4),
        ("2*dense", Bound(2.0, 0.0), 1.6),
    ],
)
@pytest.mark.parametrize("relation", [">=", "<="])
def test_every_form_of_a_constraint_s_bound(value: str, bound: Bound, at_dense: float, relation: str) -> None:
    (constraint,) = read(f"{{constraints: ['val/accuracy {relation} {value}']}}")["constraints"]
    metric, how, parsed = parse_constraint(constraint)
    assert (metric, how) == ("val/accuracy", relation)
    assert parsed == bound
    assert parsed.value(0.8) == pytest.approx(at_dense)


@pytest.mark.parametrize("written", ["sparsity>=90%", " sparsity  >=   90% ", "sparsity >=90%"])
def test_the_spaces_around_a_constraint_do_not_matter(written: str) -> None:
    assert read(f"{{constraints: '{written}'}}")["constraints"] == ["sparsity >= 90%"]


FORM = "must be METRIC >= VALUE or METRIC <= VALUE, VALUE a number, N%, dense, dense - N, dense + N or N * dense"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("sparsity", FORM),
        ("sparsity > 0.9", FORM),
        ("sparsity == 0.9", FORM),
        ("sparsity >=", FORM),
        ("0.9 <= sparsity", FORM),
        ("sparsity >= ninety", FORM),
        ("sparsity >= nan", FORM),
        ("sparsity >= inf", FORM),
        ("sparsity >= 90 %", FORM),
        ("sparsity >= dense * 2", FORM),
        ("sparsity >= dense - ", FORM),
        ("sparsity >= dense - 1% - 1%", FORM),
        ("sparsity >= -0.5 * dense", FORM),
        ("sparsity >= 0.9 <= 1", FORM),
        ("sparsity >= " + "9" * 300, FORM),
        ("sparsity >= 1e309", "the bound must be finite (got 'sparsity >= 1e309')"),
        ("sparsity >= 1e309 * dense", "the bound must be finite"),
        ("sparsity >= dense - 1e309%", "the bound must be finite"),
        ("sparsty >= 0.9", "'sparsty' is not one of "),
        ("test/accuracy >= 0.9", "'test/accuracy' is measured on test data, which a search never sees"),
    ],
)
def test_a_wrong_constraint_is_refused(written: str, message: str) -> None:
    (said,) = refused(f"{{constraints: ['val/loss <= dense', '{written}']}}")
    assert said.startswith(f"search.constraints.1: {message}")


@pytest.mark.parametrize("written", ["3", "[]", "{a: 1}", "true"])
def test_a_constraint_is_a_text(written: str) -> None:
    (said,) = refused(f"{{constraints: [{written}]}}")
    assert said.startswith(f"search.constraints.0: {FORM}")


@pytest.fixture
def held_out() -> Iterator[str]:
    axes.METRICS.register(
        "for-this-test", summary="measured on test data under another name", facts=Metric(split="test")
    )(lambda m: 0.0)
    yield "for-this-test"
    axes.METRICS.withdraw("for-this-test")


def test_a_metric_that_is_measured_on_test_data_is_refused_whatever_it_is_called(held_out: str) -> None:
    refusal = f"'{held_out}' is measured on test data, which a search never sees"
    assert refused(f"{{objectives: maximize {held_out}}}") == [f"search.objectives.0: {refusal}"]
    assert refused(f"{{constraints: '{held_out} >= 0.5'}}") == [f"search.constraints.0: {refusal}"]
    assert held_out not in refused("{objectives: maximize nothing}")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{sampler: tpee}", "search.sampler: 'tpee' is not one of "),
        (
            "{sampler: {name: random, startup: 3}}",
            "search.sampler.startup: is not a key of search.sampler; it takes no options",
        ),
        ("{scheduler: asha2}", "search.scheduler: 'asha2' is not one of "),
        ("{trials: 0}", "search.trials: must be a whole number from 1 to 100000 (got 0)"),
        ("{trials: 1000000}", "search.trials: must be a whole number from 1 to 100000 (got 1000000)"),
        ("{concurrency: 1.5}", "search.concurrency: must be a whole number from 1 to 100000 (got 1.5)"),
        ("{seed: -1}", "search.seed: must be a whole number from 0 to 9007199254740991 (got -1)"),
        ("{reproducible: yes}", "search.reproducible: must be true or false (got 'yes')"),
        ("{time_budget: 0}", "search.time_budget: must be a number > 0 and ≤ 1e+09 (got 0)"),
        ("{time_budget:}", "search.time_budget: is empty; it must be a number > 0 and ≤ 1e+09"),
        ("{gpus_per_trial: -1}", "search.gpus_per_trial: must be a number ≥ 0 and ≤ 1000 (got -1)"),
        ("{cpus_per_trial: 0}", "search.cpus_per_trial: must be a number > 0 and ≤ 10000 (got 0)"),
        ("{workers_per_trial: 0}", "search.workers_per_trial: must be a whole number from 1 to 10000 (got 0)"),
        (
            "{workers_per_trial: {at_least: 3, at_most: 2}}",
            "search.workers_per_trial.at_least: must be at most at_most, which is 2 (got 3)",
        ),
        ("{workers_per_trial: {at_least: 3}}", "search.workers_per_trial.at_most: is missing; it must be"),
        (
            "{workers_per_trial: 2, gpus_per_trial: 0.5}",
            "search.gpus_per_trial: must be a whole number if workers_per_trial is above 1: each worker needs",
        ),
        ("{trails: 3}", "search.trails: is not a key of search (did you mean 'trials'?)"),
        ("{trials: {hole: int, low: 1, high: 9}}", "search.trials: must be a whole number from 1 to 100000 (got {"),
        ("5", "search: must be a mapping with the keys sampler, scheduler, trials"),
    ],
)
def test_other_wrong_keys_are_refused_with_their_path(text: str, message: str) -> None:
    (said,) = refused(text)
    assert said.startswith(message)


def test_everything_wrong_with_a_search_is_said_at_once() -> None:
    text = "{sampler: x, trials: 0, objectives: [a, maximize b], constraints: [c], seed: s, extra: 1}"
    assert len(refused(text)) == 7


def test_what_is_no_canonical_constraint_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no constraint: 'sparsity'"):
        parse_constraint("sparsity")


def test_a_network_is_sharded_over_several_workers_only() -> None:
    assert "sharded" not in read("{workers_per_trial: 2, sharded: false}")
    assert read("{workers_per_trial: 2, sharded: true}")["sharded"] is True
    assert is_sharded(read("{workers_per_trial: {at_most: 2}, sharded: true}"))
    text = "search.sharded: true divides the network among the workers of a trial: "
    text += "set search.workers_per_trial to 2 or more"
    (whole,) = refused("{workers_per_trial: 2, sharded: true, constraints: model/flops <= 1000}")
    assert whole.startswith("search.objectives: model/flops needs the whole network in one process, and search.sharded")
    assert refused("{sharded: true}") == refused("{sharded: true, workers_per_trial: 1}") == [text]


def test_low_fidelities_are_a_list_and_one_mapping_is_a_list_of_one() -> None:
    assert read("{fidelity: {steps: 0.25}}")["fidelity"] == [{"steps": 0.25}]
    assert read("{fidelity: [{rounds: 0.5, steps: 0.5}]}")["fidelity"] == [{"steps": 0.5, "rounds": 0.5}]


def test_low_fidelities_need_a_sampler_that_weighs_gains_against_prices() -> None:
    (problem,) = refused("{sampler: tpe, fidelity: {steps: 0.25}}")
    assert problem == ("search.fidelity: needs the sampler guided, which weighs gains against prices (got tpe)")


def test_a_low_fidelity_is_named_once() -> None:
    (problem,) = refused("{fidelity: [{steps: 0.25}, {rounds: 0.5}, {steps: 0.250}]}")
    assert problem == "search.fidelity: names steps 0.25 twice"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "objectives: [maximize sparsity, minimize val/loss, minimize sparsity, minimize val/loss]",
            [
                "search.objectives.2: sparsity is an objective already (maximize sparsity)",
                "search.objectives.3: val/loss is an objective already (minimize val/loss)",
            ],
        ),
        (
            "constraints: [val/loss <= 0.5, 'steps_trained <= 80', val/loss >= 0.6]",
            ["search.constraints.2: no network meets both val/loss <= 0.5 and val/loss >= 0.6"],
        ),
        (
            "constraints: [sparsity >= 95]",
            [
                "search.constraints.0: no network meets it: sparsity is at least 0 and below 1; 90% is 0.9 "
                "(got 'sparsity >= 95')"
            ],
        ),
    ],
)
def test_what_no_network_can_meet_is_refused(text: str, messages: list[str]) -> None:
    reading = Reading()
    assert read_search(load(text), reading) is None
    assert [str(problem) for problem in reading.problems] == messages


@pytest.mark.parametrize("text", ["[sparsity >= 95%, sparsity <= 0.95]", "[val/loss >= 1 * dense, val/loss <= 0.1]"])
def test_what_can_be_met_is_not(text: str) -> None:
    assert len(read(f"constraints: {text}")["constraints"]) == 2
