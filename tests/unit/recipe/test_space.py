"""A space: its blocks, its samples, what is said of one that is wrong in part, and that everything is said at once."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.space import Drawn, Space, find, inspect, read_space
from prune_search.recipe.space_samples import AtRandom, Corner, space_samples
from prune_search.recipe.step import Step
from prune_search.recipe.strict_yaml import load

SNIP = "preset: snip\ntask: {data: fashion-mnist}\n"


def space(text: str) -> Space:
    found, problems = inspect(load(text, mapping=True), "file")
    assert [str(problem) for problem in problems if problem.form] == []
    assert found is not None
    return found


def errors(text: str) -> list[Problem]:
    with pytest.raises(UserError) as caught:
        read_space(load(text, mapping=True), "file")
    problems = list(caught.value.problems)
    assert all(problem.source == "file" for problem in problems)
    return problems


def warning(text: str) -> str:
    found, problems = inspect(load(text, mapping=True), "file")
    assert found is not None
    (problem,) = problems
    assert not problem.form
    read_space(load(text, mapping=True), "file")
    return str(problem)


# --- blocks ---------------------------------------------------------------------------------------------------------


def test_a_recipe_is_a_space_of_one_point() -> None:
    one = space(SNIP)
    assert not one.has_holes
    assert one.preset == "snip"
    assert one.fill(Corner({})).recipe().canonical == one.only_recipe().canonical
    assert not space("any: [{preset: snip}]").has_holes
    assert space("any: [{preset: snip}, {preset: force}]").has_holes


def test_a_space_is_no_recipe() -> None:
    text = SNIP + "rounds: {hole: int, low: 1, high: 1}\nmask: {sparsity: {hole: choice, of: [0.5, 0.6]}}"
    with pytest.raises(UserError, match=r"file: is a search space with holes \(mask\.sparsity, rounds\): fill them"):
        read_space(load(text, mapping=True), "file").only_recipe()
    pairs = [("rounds", 1), ("mask.sparsity", 0.5)]
    assert read_space(load(text, mapping=True), "file", pairs).only_recipe().mask.sparsity.final == 0.5


def test_the_digest_of_a_space_changes_with_what_is_in_it_and_not_with_how_it_is_ordered() -> None:
    base = SNIP + "mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}\nsearch: {trials: 3}\n"
    digests = {
        space(text).digest()
        for text in (base, base.replace("0.9", "0.8"), base.replace("trials: 3", "trials: 4"), base + "rounds: 1\n")
    }
    assert len(digests) == 4
    again = "search: {trials: 3}\nmask: {sparsity: {high: 0.9, low: 0.5, hole: uniform}}\n" + SNIP
    assert space(again).digest() == space(base).digest()


# --- regions that are wrong -----------------------------------------------------------------------------------------


def test_a_region_that_is_invalid_is_a_warning_with_an_example() -> None:
    said = warning(SNIP + "rounds: {hole: int, low: 1, high: 2}")
    assert said.startswith("file: a region is invalid (")
    assert "sampled draws), for example rounds=2: mask.at: must be end with more than one round (got '0it')" in said


def test_a_corner_that_is_invalid_is_found_however_small() -> None:
    said = warning(
        SNIP + "retrain: {steps: {hole: int, low: 1it, high: 4290it}, clock: {hole: int, low: 1it, high: 2it}}"
    )
    assert said.startswith(
        "file: a region is invalid (at a corner), for example retrain.clock=1it, retrain.steps=4290it: "
    )
    assert said.endswith("retrain.steps: 4290it from the clock's 1it runs past its end (4290it)")


def test_a_region_off_the_clock_is_found_where_the_data_set_s_size_is_known() -> None:
    said = warning(SNIP + "weights: {at: {hole: choice, of: [0it, 20ep]}}")
    assert "weights.at=20ep: weights.at: 20ep is past the end of the training clock (train.steps is 4290it" in said


def test_draws_between_epochs_are_judged_by_the_real_length_of_an_epoch() -> None:
    _, problems = inspect(
        load("preset: snip\nweights: {at: {hole: uniform, low: 0ep, high: 9ep}}", mapping=True), "file"
    )
    assert problems == []


def test_a_space_that_is_invalid_everywhere_is_an_error_said_once_per_place() -> None:
    text = (
        SNIP
        + "rounds: {hole: int, low: 2, high: 9}\nretrain: none\nmask: {sparsity: {hole: uniform, low: 0.1, high: 0.9}}"
    )
    assert [(problem.path, problem.form) for problem in errors(text)] == [("mask.at", True), ("retrain", True)]


def test_an_error_of_form_inside_an_option_is_an_error_though_other_options_are_valid() -> None:
    options = "[{name: sgd, lr: 0.1}, {name: adam, momentum: 0.9}, {name: adm}]"
    text = SNIP + f"train: {{optimizer: {{hole: choice, of: {options}}}}}\nrounds: {{hole: int, low: 1, high: 1}}"
    assert [str(problem) for problem in errors(text)] == [
        "file: train.optimizer.momentum: is not a key of train.optimizer; valid keys: lr, beta1, beta2, eps, "
        "weight_decay",
        "file: train.optimizer: 'adm' is not one of adam, adamw, muon, rmsprop, sgd, sghmc (did you mean 'adam'?)",
    ]


def test_a_metric_that_the_registered_data_set_does_not_have_is_an_error_with_the_nearest_one() -> None:
    search = "search: {objectives: [minimize val/loss, maximize val/acuracy], constraints: [val/f1 >= 0.5]}"
    first, second = errors(SNIP + "rounds: {hole: int, low: 1, high: 2}\n" + search)
    assert first.path == "search.objectives[1]"
    assert first.message.startswith("'val/acuracy' is not one of ")
    assert first.message.endswith("(did you mean 'val/accuracy'?)")
    assert (second.path, second.message.partition(" is ")[0]) == ("search.constraints[0]", "'val/f1'")


def test_the_metrics_of_a_task_of_ones_own_are_left_to_its_launch() -> None:
    task = "preset: snip\ntask: {data: 'my_task:task', model: 'my_task:task'}\n"
    search = "search: {objectives: [maximize val/acuracy]}"
    found = space(task + "rounds: {hole: int, low: 1, high: 2}\n" + search)
    assert found.search["objectives"] == ["maximize val/acuracy"]


def test_a_range_that_leaves_what_is_allowed_is_an_error_at_its_end() -> None:
    (problem,) = errors(
        SNIP + "mask: {sparsity: {hole: uniform, low: 0.5, high: 1.5}}\nrounds: {hole: int, low: 1, high: 1}"
    )
    assert str(problem) == "file: mask.sparsity: must be a number ≥ 0 and < 1 (got 1.5)"


def test_errors_inside_an_option_of_any_are_told_with_the_option_and_shared_ones_once() -> None:
    text = "train: {batch: 0}\nany: [{preset: snip, mask: {sparsity: 2}}, {preset: force, rounds: 0}, {preset: snip}]"
    assert [(problem.path, problem.form) for problem in errors(text)] == [
        ("train.batch", True),
        ("any[snip].mask.sparsity", True),
        ("any[force].rounds", True),
    ]


def test_nested_holes_are_reached_in_every_option() -> None:
    text = """
preset: snip
any:
  - {mask: {sparsity: {hole: choice, of: [0.5, {final: {hole: uniform, low: 0.1, high: 1.0}}]}}}
  - {mask: {score: {hole: choice, of: [{batches: 1}, {iterations: {hole: int, low: 1, high: 20000}}]}}}
"""
    assert [problem.path for problem in errors(text)] == [
        "any[0].mask.sparsity.final",
        "any[1].mask.score.iterations",
    ]


def test_corners_hold_every_option_and_both_ends_of_every_range_conditional_ones_too() -> None:
    text = SNIP + (
        "task: {seed: {hole: int, low: 0, high: 10, step: 4}}\n"
        "mask: {sparsity: {hole: choice, of: [0.1, {final: {hole: uniform, low: 0.2, high: 0.8}}, 0.9]}}\n"
        "weights: {transform: {hole: choice, of: [[], [reinit]]}}"
    )
    text = text.replace("task: {data: fashion-mnist}\n", "", 1)
    points = [drawn.params for drawn in space_samples(space(text).fill)]
    seen: dict[str, set[Any]] = {}
    for params in points:
        for path, value in params.items():
            seen.setdefault(path, set()).add(value)
    assert seen == {
        "task.seed": {0, 8},
        "mask.sparsity": {0.1, "1-final", 0.9},
        "mask.sparsity.final": {0.2, 0.8},
        "weights.transform": {"0", "1"},
    }
    assert len(points) == 1 + 1 + 2 + 1 + 1


def test_random_points_lie_in_their_ranges_and_repeat_with_the_seed() -> None:
    text = SNIP + (
        "train:\n"
        "  batch: {hole: int, low: 1, high: 1000, log: true}\n"
        "  optimizer: {lr: {hole: loguniform, low: 1e-3, high: 1}}\n"
        "mask: {sparsity: {hole: uniform, low: 0.1, high: 0.95, step: 0.1}}\n"
        "rounds: {hole: int, low: 1, high: 10, step: 2}"
    )
    one = space(text)
    points = [one.fill(AtRandom(random.Random(seed))).params for seed in range(300)]
    assert points == [one.fill(AtRandom(random.Random(seed))).params for seed in range(300)]
    assert {point["rounds"] for point in points} == {1, 3, 5, 7, 9}
    assert {round(point["mask.sparsity"], 9) for point in points} == {n / 10 for n in range(1, 10)}
    assert all(1e-3 <= point["train.optimizer.lr"] <= 1 for point in points)
    assert sum(point["train.batch"] < 32 for point in points) > 100


# --- files and names ------------------------------------------------------------------------------------------------


def test_a_file_an_exported_folder_and_a_preset_are_found(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("preset: snip\n")
    assert find(str(file)) == ({"preset": "snip"}, str(file))
    assert find(str(tmp_path)) == ({"preset": "snip"}, str(file))
    assert find("snip") == ({"preset": "snip"}, "snip")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("snop", "snop: is neither a file nor a preset (did you mean 'snip'?): 'snop' is not one of "),
        ("no/such/file", "no/such/file: cannot be read: No such file or directory"),
        ("nothing.yaml", "nothing.yaml: cannot be read: No such file or directory"),
        ("x" * 5000, "is neither a file nor a preset"),
        ("a\0b", "is neither a file nor a preset"),
    ],
)
def test_what_is_not_found_is_said(target: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        find(target)
    assert message in str(caught.value)


def test_a_newer_schema_is_the_only_thing_that_is_said() -> None:
    text = "schema: 2\npreset: quantum\nnew-block: {hole: magic}\nmask: 3\nsearch: {x: 1}\nany: 5\n"
    (problem,) = errors(text)
    said = "file: schema: 2 was written by a newer prune-search; this one reads up to 1: upgrade prune-search"
    assert str(problem) == said


def test_a_top_level_key_called_hole_is_just_unknown() -> None:
    assert [problem.path for problem in errors("preset: snip\nhole: choice\nof: [1]\n")] == ["hole", "of"]


# --- everything at once ---------------------------------------------------------------------------------------------

EIGHT = """
schema: 1
preset: lottery-ticket
task: {data: fashion-minst}
train: {optimizer: {name: sgd, momentun: 0.5}, steps: 10}
mask: {sparsity: {per_round: 1.2}}
weights: {at: 3epp}
retrain: {untill: end}
rounds: 0
serch: {}
search: {sampler: tpee}
"""


def test_eight_mistakes_and_more_in_different_blocks_are_all_said_with_path_value_and_suggestion() -> None:
    said = [str(problem) for problem in errors(EIGHT)]
    expected = {
        "file: search.sampler: 'tpee' is not one of": "(did you mean 'tpe'?)",
        "file: serch: 'serch' is not one of": "(did you mean 'search'?)",
        "file: task.data: 'fashion-minst' is not one of": "(did you mean 'fashion-mnist'?)",
        "file: train.steps: must be a length": "(got 10) (did you mean '10it'?)",
        "file: train.optimizer.momentun: is not a key of train.optimizer": "(did you mean 'momentum'?)",
        "file: mask.sparsity.per_round: must be a number ≥ 0 and < 1": "(got 1.2)",
        "file: weights.at: '3epp' is not a step": "write 3ep, 120it",
        "file: retrain.untill: is not a key of retrain": "(did you mean 'until'?)",
        "file: rounds: must be a whole number from 1 to 1000": "(got 0)",
    }
    assert len(said) == len(expected)
    for start, inside in expected.items():
        (line,) = [line for line in said if line.startswith(start)]
        assert inside in line
        assert "\n" not in line


def test_a_wrong_optimizer_of_train_is_not_told_of_again_in_every_phase() -> None:
    text = "preset: greg-1\ntrain: {optimizer: {name: adm}}\nretrain: {optimizer: {beta1: 0.5}}"
    assert [problem.path for problem in errors(text)] == ["train.optimizer"]
    text = "preset: greg-1\ntrain: {batch: 0, optimizer: adam}\nretrain: {optimizer: {beta1: 0.5}}"
    assert [problem.path for problem in errors(text)] == ["train.batch"]


def test_an_unknown_preset_does_not_hide_what_else_is_wrong() -> None:
    text = "preset: snop\nmask: {sparsity: 2}\ntrain: {batch: {hole: int, low: 9, high: 1}}\nsearch: {trials: no}"
    assert {problem.path for problem in errors(text)} == {"preset", "mask.sparsity", "train.batch", "search.trials"}


def test_a_message_is_one_line_whatever_the_key_and_the_value_are() -> None:
    text = (
        'preset: snip\nmask: {"a\\nb": "c\\nd", sparsity: "e\\nf"}\n"g\\rh": 1\nrounds: {hole: choice, of: ["\\n", 2]}'
    )
    problems = errors(text)
    assert {problem.path for problem in problems} == {"mask.'a\\nb'", "mask.sparsity", "'g\\rh'", "rounds"}
    assert all(str(problem).isprintable() for problem in problems)


# --- cost -----------------------------------------------------------------------------------------------------------


def calls(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    """How many points of a space are looked at."""
    from prune_search.recipe import space as module

    count = 0
    fill: Callable[..., Drawn] = module.Space.fill

    def counted(*args: Any, **options: Any) -> Drawn:
        nonlocal count
        count += 1
        return fill(*args, **options)

    monkeypatch.setattr(module.Space, "fill", counted)
    inspect(load(text, mapping=True), "file")
    return count


def test_a_space_is_checked_at_200_points_and_its_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    text = SNIP + "mask: {sparsity: {hole: uniform, low: 0.1, high: 0.9}}"
    assert calls(monkeypatch, text) == 200 + 2


def test_a_recipe_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls(monkeypatch, SNIP) == 1


def test_a_space_of_a_great_many_corners_is_checked_at_the_first_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from prune_search.recipe import space_samples as module

    monkeypatch.setattr(module, "MAX_CORNERS", 50)
    holes = ", ".join(f"{key}: {{hole: choice, of: {list(range(1, 100))}}}" for key in ("batch", "threads"))
    assert calls(monkeypatch, SNIP + f"train: {{{holes}}}") == 200 + 50


def test_much_that_is_wrong_ends_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = ", ".join(f"key{index}: 1" for index in range(150))
    text = SNIP + f"mask: {{{unknown}}}\nrounds: {{hole: choice, of: {list(range(1, 100))}}}"
    assert calls(monkeypatch, text) == 1


def test_reading_presets_and_spaces_imports_no_torch() -> None:
    code = """
import sys
from prune_search.recipe import axes
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.space import find, read_space

names = list(axes.PRESETS)
for name in names:
    raw, source = find(name)
    paradigm(read_space(raw, source, [("train.steps", "100ep")]).only_recipe())
options = [{"preset": name} for name in names]
hole = {"hole": "uniform", "low": 0.1, "high": 0.9}
read_space({"any": options, "train": {"steps": "100ep", "optimizer": {"lr": hole}}}, "space")
heavy = [name for name in ("torch", "ray", "mlflow", "optuna", "numpy", "sklearn") if name in sys.modules]
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_preset_is_read_at_once() -> None:
    for name in axes.PRESETS:
        raw, source = find(name)
        point = read_space(raw, source, [("train.steps", "100ep")]).fill(Corner({}))
        assert point.params == {}
        assert Step.parse(point.raw["train"]["steps"]).epochs == 100
