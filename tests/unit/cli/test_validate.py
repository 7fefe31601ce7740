"""`prune-search validate`: all errors of all files at once, and warnings where a space has invalid regions."""

from __future__ import annotations

from pathlib import Path

from command_line import Typed, the_object


def test_validate_says_everything_of_many_files(typed: Typed, tmp_path: Path) -> None:
    bad, odd = tmp_path / "bad.yaml", tmp_path / "odd.yaml"
    bad.write_text(
        "preset: lottery-ticket\ntask: {modle: mlp}\nmask: {at: 50%, scope: globl}\nretrain: none\nrounds: 3\n"
    )
    odd.write_text("preset: late-rewinding\ntrain: {steps: 3ep20it, batch: 100}\nweights: {at: 5%}\nrounds: 2\n")
    said = typed("validate", str(bad), str(odd), "snip", "--json")
    data = the_object(said.out)
    assert (said.code, data["ok"]) == (2, False)
    assert [report["ok"] for report in data["files"]] == [False, True, True]
    # What is misspelt, and what does not go together, at once.
    places = [error.removeprefix(f"{bad}: ").split(":")[0] for error in data["files"][0]["errors"]]
    assert places == ["task.modle", "mask.scope", "mask.at", "retrain"]


def test_a_space_is_told_from_a_recipe_and_its_invalid_regions_are_warnings(typed: Typed, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("preset: late-rewinding\ntrain: {steps: 2ep}\nweights: {at: {hole: choice, of: [1ep, 3ep]}}\n")
    said = typed("validate", str(space), "snip")
    assert said.code == 0
    assert said.out == f"{space}: ok (space)\nsnip: ok (recipe)\n"
    assert said.err.startswith(f"prune-search: warning: {space}: ")
    assert "weights.at" in said.err


def test_a_value_that_is_set_is_checked_in_every_file(typed: Typed) -> None:
    said = typed("validate", "snip", "force", "--set", "mask.sparsity=2")
    assert (said.code, said.out) == (2, "")
    assert said.err.count("mask.sparsity") == said.err.count("\n") == 2
    assert typed("validate", "snip", "--set", "mask.sparsity=0.5").code == 0


def test_a_file_that_is_not_there_does_not_hide_the_others(typed: Typed) -> None:
    data = the_object(typed("validate", "missing.yaml", "snip", "--json").out)
    assert [(report["file"], report["ok"], report["kind"]) for report in data["files"]] == [
        ("missing.yaml", False, ""),
        ("snip", True, "recipe"),
    ]
