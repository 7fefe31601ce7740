"""Presets, options and --set: what wins over what, and what displaces what."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe.merge import Written, assign, expand, merge
from prune_search.recipe.problems import UserError
from prune_search.recipe.reading import Reading
from prune_search.recipe.space import read_space
from prune_search.recipe.strict_yaml import load, scalar

SNIP = {"preset": "snip"}


def expanded(text: str) -> Written:
    reading = Reading()
    written = expand(load(text, mapping=True), reading)
    assert not reading.problems
    return written


def blocks(text: str) -> dict[str, Any]:
    ((label, blocks),) = expanded(text).options
    assert label == ""
    return blocks


def refused(text: str) -> list[str]:
    reading = Reading()
    expand(load(text, mapping=True), reading)
    return [str(problem) for problem in reading.problems]


def with_sets(raw: dict[str, Any], **sets: str) -> dict[str, Any]:
    """The canonical form of a recipe with ``--set`` keys (dots as two underscores)."""
    pairs = [(key.replace("__", "."), scalar(value)) for key, value in sets.items()]
    return read_space(raw, "recipe", pairs).only_recipe().canonical


# --- merging --------------------------------------------------------------------------------------------------------


def test_a_block_given_in_part_is_merged_one_level_deep_and_its_keys_win_whole() -> None:
    base = {
        "mask": {"at": "0it", "criterion": {"name": "x", "a": 1}, "score": {"batches": 1, "mode": "eval"}},
        "rounds": 2,
    }
    over = {"mask": {"criterion": {"name": "x"}, "score": {"batches": 4}}}
    assert merge(base, over) == {
        "mask": {"at": "0it", "criterion": {"name": "x"}, "score": {"batches": 4}},
        "rounds": 2,
    }
    assert base["mask"]["score"] == {"batches": 1, "mode": "eval"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("below", "over", "result"),
    [
        ({"until": "end", "clock": "0it"}, {"steps": "5ep"}, {"clock": "0it", "steps": "5ep"}),
        ({"steps": "5ep", "clock": "0it"}, {"until": "end"}, {"clock": "0it", "until": "end"}),
        ({"steps": "5ep", "clock": "0it"}, {"schedule": "cosine"}, {"steps": "5ep", "schedule": "cosine"}),
        ({"steps": "5ep", "schedule": "cosine"}, {"clock": "0it"}, {"steps": "5ep", "clock": "0it"}),
        ({"steps": "5ep", "clock": "0it"}, {"stretch": False}, {"steps": "5ep", "clock": "0it", "stretch": False}),
        ({"until": "end"}, {"steps": "5ep", "until": "end"}, {"steps": "5ep", "until": "end"}),
    ],
)
def test_what_is_written_displaces_its_alternative(below: Any, over: Any, result: Any) -> None:
    assert merge({"retrain": below}, {"retrain": over}) == {"retrain": result}


@pytest.mark.parametrize(
    ("below", "over"),
    [
        ("none", {"steps": "5ep"}),
        ({"until": "end"}, "none"),
        ({"until": "end"}, {"hole": "choice", "of": ["none"]}),
        ({"hole": "choice", "of": ["none"]}, {"until": "end"}),
    ],
)
def test_a_word_or_a_hole_is_replaced_whole(below: Any, over: Any) -> None:
    assert merge({"retrain": below}, {"retrain": over}) == {"retrain": over}


# --- presets --------------------------------------------------------------------------------------------------------


def test_a_preset_fills_the_blocks_that_the_file_leaves_out() -> None:
    written = blocks("preset: snip\nmask: {sparsity: 0.8}\ntask: {seed: 3}")
    assert written["mask"] == {
        "at": "0it",
        "criterion": "snip",
        "score": {"batches": 1, "loss": "cross-entropy", "mode": "train"},
        "sparsity": 0.8,
        "scope": "global",
    }
    assert written["weights"] == {"at": "0it"}
    assert written["retrain"] == {"until": "end"}
    assert written["task"] == {"seed": 3}
    assert "preset" not in written


def test_a_preset_is_not_changed_by_what_is_written_over_it() -> None:
    before = blocks("preset: greg-1")
    changed = blocks("preset: greg-1")
    changed["weights"]["transform"][0]["step"] = 1.0
    assert blocks("preset: greg-1") == before


def test_the_name_that_the_user_typed_is_kept() -> None:
    assert expanded("preset: snip").preset == "snip"
    assert expanded("any: [{preset: snip}, {preset: force}]").preset is None
    assert expanded("rounds: 1").preset is None


def test_search_is_taken_out() -> None:
    written = expanded("preset: snip\nsearch: {trials: 3}")
    assert written.search == {"trials": 3}
    assert "search" not in written.options[0][1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("preset: snop", "preset: 'snop' is not one of "),
        ("preset: 3", "preset: 3 is not one of "),
        ("preset:", "preset: None is not one of "),
        (
            "preset: {hole: choice, of: [snip, force]}",
            "preset: {'hole': 'choice', 'of': ['snip', 'force']} is not one of",
        ),
        ("any: [{preset: snop}]", "any.0.preset: 'snop' is not one of"),
        ("preset: snip\nany: [{rounds: 1}, {preset: snop}]", "any.1.preset: 'snop' is not one of"),
        ("preset: snop\nany: [{rounds: 1}]", "preset: 'snop' is not one of"),
        ("any: snip", "any: must be a list of 1 to 1000 options (got 'snip')"),
        ("any: []", "any: must be a list of 1 to 1000 options (got [])"),
        ("any:", "any: must be a list of 1 to 1000 options (got None)"),
        ("preset: snip\nany: [snip]", "any.0: must be a mapping of top-level blocks (got 'snip')"),
        ("preset: snip\nany: [{masks: {}}]", "any.0.masks: 'masks' is not one of"),
        ("preset: snip\nany: [{search: {}}]", "any.0.search: 'search' is not one of"),
    ],
)
def test_what_cannot_be_resolved_is_said(text: str, problem: str) -> None:
    (said,) = refused(text)
    assert said.startswith(problem)


def test_a_near_preset_is_suggested() -> None:
    assert refused("preset: lotery-ticket")[0].endswith("(did you mean 'lottery-ticket'?)")


# --- any ------------------------------------------------------------------------------------------------------------


def test_an_option_is_merged_over_the_rest_and_its_preset_below_both() -> None:
    text = """
    task: {data: fashion-mnist}
    mask: {sparsity: 0.7, scope: erk}
    any: [{preset: snip, mask: {scope: uniform}}, {preset: lottery-ticket, rounds: 2}, {preset: snip}]
    """
    options = dict(expanded(text).options)
    assert list(options) == ["snip", "lottery-ticket", "snip-2"]
    assert options["snip"]["mask"] | {"score": 0} == {
        "at": "0it",
        "criterion": "snip",
        "score": 0,
        "sparsity": 0.7,
        "scope": "uniform",
    }
    assert options["lottery-ticket"]["mask"]["sparsity"] == 0.7
    assert options["lottery-ticket"]["mask"]["scope"] == "erk"
    assert options["lottery-ticket"]["rounds"] == 2
    assert all(option["task"] == {"data": "fashion-mnist"} for option in options.values())


def test_an_options_preset_takes_the_place_of_the_rest_s() -> None:
    options = dict(expanded("preset: snip\nany: [{preset: dense}, {rounds: 1}]").options)
    assert options["dense"]["mask"]["criterion"] == "all"
    assert options["1"]["mask"]["criterion"] == "snip"


def test_an_options_keys_displace_the_rest_s() -> None:
    options = dict(expanded("preset: snip\nretrain: {steps: 5ep}\nany: [{retrain: {until: end}}, {rounds: 1}]").options)
    assert options["0"]["retrain"] == {"until": "end"}
    assert options["1"]["retrain"] == {"steps": "5ep"}


# --- --set ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "block", "canonical"),
    [
        ("mask.sparsity", "0.5", "mask.sparsity", {"final": 0.5}),
        ("mask.sparsity.final", "0.5", "mask.sparsity", {"final": 0.5}),
        ("mask.sparsity.per_round", "0.2", "mask.sparsity", {"per_round": 0.2}),
        ("mask.score.batches", "4", "mask.score.batches", 4),
        ("rounds", "1", "rounds", 1),
        ("train.steps", "2ep", "train.steps", "2ep"),
        ("train.batch", "64", "train.batch", 64),
        ("train.optimizer.lr", "0.01", "train.optimizer.lr", 0.01),
        ("train.augment", "{name: crop-flip, pad: 2}", "train.augment", {"name": "crop-flip", "pad": 2}),
        ("weights.transform", "[reinit]", "weights.transform", ["reinit"]),
        ("weights.transform", "reinit", "weights.transform", ["reinit"]),
        ("retrain", "none", "retrain", "none"),
        ("mask.control", "shuffle", "mask.control", "shuffle"),
    ],
)
def test_a_key_is_set_over_what_stands_there(key: str, value: str, block: str, canonical: Any) -> None:
    node: Any = read_space(SNIP, "recipe", [(key, scalar(value))]).only_recipe().canonical
    for part in block.split("."):
        node = node[part]
    assert node == canonical


def test_a_name_becomes_a_mapping_when_an_option_of_it_is_set() -> None:
    transform = with_sets({"preset": "scratch-e"}, weights__transform__0="batchnorm-recalibrate")["weights"][
        "transform"
    ]
    assert transform == [{"name": "batchnorm-recalibrate", "batches": 16}]
    model = with_sets({**SNIP, "task": {"model": "mlp"}}, task__model__hidden="[20, 10]")["task"]["model"]
    assert model == {"name": "mlp", "hidden": [20, 10]}
    pairs = [("weights.transform.0", "batchnorm-recalibrate"), ("weights.transform.0.batches", 3)]
    recipe = read_space({"preset": "scratch-e"}, "recipe", pairs).only_recipe()
    assert recipe.blocks["weights"]["transform"] == [{"name": "batchnorm-recalibrate", "batches": 3}]


def test_a_key_of_a_list_item_is_set() -> None:
    transform = with_sets({"preset": "greg-1"}, weights__transform__0__stabilise="50it")["weights"]["transform"]
    assert transform[0]["stabilise"] == "50it"
    assert transform[0]["name"] == "growing-penalty"


@pytest.mark.parametrize(
    ("sets", "retrain"),
    [
        ([("retrain.steps", "5ep")], {"steps": "5ep", "clock": "0it"}),
        ([("retrain.steps", "5ep"), ("retrain.schedule", "cosine")], {"steps": "5ep", "schedule": "cosine"}),
        ([("retrain.steps", "5ep"), ("retrain.clock.hold", "final")], {"steps": "5ep", "clock": {"hold": "final"}}),
        ([("retrain.steps", "5ep"), ("retrain.until", "end")], {"until": "end", "clock": "0it"}),
        ([("retrain.clock", "mask")], {"until": "end", "clock": "mask"}),
    ],
)
def test_what_is_set_displaces_its_alternative(sets: list[tuple[str, Any]], retrain: dict[str, Any]) -> None:
    got = read_space(SNIP, "recipe", sets).only_recipe().blocks["retrain"]
    got = {key: value for key, value in got.items() if key in ("steps", "until", "clock", "schedule")}
    if "schedule" in got:
        got["schedule"] = got["schedule"]["name"]
    assert got == retrain


def test_words_that_are_no_registered_names_give_way_to_a_mapping() -> None:
    pairs = [("retrain.steps", "1ep"), ("retrain.clock.hold", 0.01)]
    assert read_space({"preset": "dense"}, "recipe", pairs).only_recipe().blocks["retrain"]["clock"] == {"hold": 0.01}
    with pytest.raises(UserError, match=r"mask\.at\.stable: 'x' is not one of "):
        read_space(SNIP, "recipe", [("mask.at.stable", "x")])


def test_batches_and_per_class_displace_each_other() -> None:
    score = with_sets(SNIP, mask__score__calibration="{examples: 3}")["mask"]["score"]
    assert (score["calibration"], "batches" in score) == ({"examples": 3}, False)
    score = with_sets(SNIP, mask__score__per_class="3")["mask"]["score"]
    assert score["per_class"] == 3
    assert "batches" not in score


def test_a_key_is_set_in_every_option() -> None:
    written = assign(expanded("any: [{preset: snip}, {preset: force}]"), "mask.sparsity", 0.5)
    assert [blocks["mask"]["sparsity"] for _, blocks in written.options] == [0.5, 0.5]


def test_a_hole_can_be_set_and_filled() -> None:
    raw = {**SNIP, "mask": {"sparsity": {"hole": "uniform", "low": 0.1, "high": 0.9}}}
    assert with_sets(raw, mask__sparsity="0.5")["mask"]["sparsity"] == {"final": 0.5}
    space = read_space(SNIP, "recipe", [("task.seed", scalar("{hole: int, low: 0, high: 9}"))])
    assert space.has_holes


def test_the_search_is_set_too_and_the_rest_stays() -> None:
    raw: dict[str, Any] = {**SNIP, "search": {"trials": 3, "sampler": "tpe"}}
    search = read_space(raw, "recipe", [("search.concurrency", 4), ("search.sampler.startup", 5)]).search
    assert (search["trials"], search["concurrency"]) == (3, 4)
    assert search["sampler"] == {"name": "tpe", "startup": 5}
    assert read_space(raw, "recipe", [("search", {"trials": 7})]).search["trials"] == 7
    assert raw["search"] == {"trials": 3, "sampler": "tpe"}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "--set: '' is not a dotted path to a key"),
        ("mask..at", "--set: 'mask..at' is not a dotted path to a key"),
        (".".join("abcdefghijklm"), "--set: 'a.b.c.d.e.f.g.h.i.j.k.l.m' is not a dotted path to a key"),
        ("preset", "--set: 'preset': preset can only be written in the file, not set"),
        ("any.0.rounds", "--set: 'any.0.rounds': any can only be written in the file, not set"),
        ("weights.transform.1.name", "--set: 'weights.transform.1.name': '1' is not an index into a list of 1"),
        ("weights.transform.x", "--set: 'weights.transform.x': 'x' is not an index into a list of 1"),
        ("weights.transform.-1", "--set: 'weights.transform.-1': '-1' is not an index into a list of 1"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(key: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        assign(expanded("preset: scratch-e"), key, 1)
    assert str(caught.value) == message


def test_a_key_that_does_not_exist_is_refused_with_its_path() -> None:
    with pytest.raises(UserError, match=r"recipe: mask\.sparsty: is not a key of mask \(did you mean 'sparsity'\?\)"):
        read_space(SNIP, "recipe", [("mask.sparsty", 0.5)])


def test_every_wrong_set_is_said() -> None:
    with pytest.raises(UserError) as caught:
        read_space(SNIP, "recipe", [("a..b", 1), ("preset", 1), ("rounds", 0)])
    assert [problem.path for problem in caught.value.problems] == ["--set", "--set", "rounds"]


# --- forms of sparsity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("0.9", {"final": 0.9}),
        ("0", {"final": 0.0}),
        ("{final: 0.9}", {"final": 0.9}),
        ("{per_round: 0.2}", {"per_round": 0.2}),
    ],
)
def test_every_form_of_sparsity_has_one_canonical_form(written: str, canonical: dict[str, float]) -> None:
    assert with_sets(SNIP, mask__sparsity=written)["mask"]["sparsity"] == canonical


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("1", "mask.sparsity: must be a number ≥ 0 and < 1 (got 1)"),
        ("-0.1", "mask.sparsity: must be a number ≥ 0 and < 1 (got -0.1)"),
        ("90%", "mask.sparsity: must be a number ≥ 0 and < 1 (got '90%')"),
        ("{final: 1.0}", "mask.sparsity.final: must be a number ≥ 0 and < 1 (got 1.0)"),
        ("{per_round: x}", "mask.sparsity.per_round: must be a number ≥ 0 and < 1 (got 'x')"),
        ("{finally: 0.9}", "mask.sparsity.finally: 'finally' is not one of budget, by, final, layers, per_round"),
        ("{}", "mask.sparsity: must have exactly one of final, per_round, by, layers, budget (got {})"),
        (
            "{final: 0.5, per_round: 0.2}",
            "mask.sparsity: must have exactly one of final, per_round, by, layers, budget",
        ),
        ("{by: criterion}", "mask.sparsity.by: 'criterion' is not one of scope"),
        ("{layers: 0}", "mask.sparsity.layers: must be a whole number from 1 to 10000 (got 0)"),
        ("learnt", "mask.sparsity: must be a number ≥ 0 and < 1 (got 'learnt')"),
    ],
)
def test_other_forms_of_sparsity_are_refused(written: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        with_sets(SNIP, mask__sparsity=written)
    (said,) = caught.value.problems
    assert str(said).startswith(f"recipe: {problem}")
