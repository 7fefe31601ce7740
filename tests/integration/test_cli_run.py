"""run, validate, methods and cp as they are typed: one JSON object, every error at once, folders that run again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Typed

from prune_search.cli.exits import INTERRUPTED
from prune_search.recipe.axes import AXES, PRESETS

SHORT = ("--set", "train.steps=4it", "--set", "train.batch=32")


def the_object(out: str) -> dict[str, Any]:
    """Exactly one JSON object, on one line, and nothing else."""
    assert out.count("\n") == 1
    data = json.loads(out)
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["methods", "--json"], ["validate", "snip", "--json"]]
)
def test_what_trains_nothing_imports_nothing_heavy(words: list[str]) -> None:
    text = (
        "import sys\nfrom prune_search.cli import main\nsys.argv = ['prune-search', *sys.argv[1:]]\n"
        "try:\n    main.main()\nfinally:\n"
        "    print([name for name in ('torch', 'ray', 'mlflow', 'optuna') if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", text, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"


def test_run_as_json_is_one_object_with_what_a_script_needs(typed: Typed) -> None:
    said = typed("run", "snip", *SHORT, "--json")
    data = the_object(said.out)
    assert said.code == 0
    wanted = {"key", "preset", "paradigm", "mask_sha256", "weights_sha256", "environment", "sparsity", "layers"}
    assert wanted | {"collapsed", "metrics", "steps_trained", "steps_reused", "seconds"} <= set(data)
    assert (data["preset"], data["paradigm"], data["steps_trained"], data["steps_reused"]) == ("snip", "snip", 4, 0)
    assert data["sparsity"] == {"asked": 0.95, "reached": 0.95}
    assert sum(layer["kept"] for layer in data["layers"]) == round(
        0.05 * sum(layer["total"] for layer in data["layers"])
    )
    assert {"val/accuracy", "test/accuracy"} <= set(data["metrics"])
    again = the_object(typed("run", "snip", *SHORT, "--json").out)
    assert (again["steps_trained"], again["steps_reused"]) == (0, 4)
    assert again["weights_sha256"] == data["weights_sha256"]


def test_a_folder_runs_again_to_the_same_bits_and_an_altered_claim_is_told(typed: Typed, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "ticket"
    assert typed("run", "fine-tune", *SHORT, "--set", "retrain.steps=2it", "--out", str(folder)).code == 0
    assert {path.name for path in folder.iterdir()} == {
        "recipe.yaml",
        "model.safetensors",
        "masks.safetensors",
        "metrics.json",
    }
    said = typed("run", str(folder), "--verify", "--json")
    data = the_object(said.out)
    assert (said.code, data["verified"], data["steps_reused"]) == (0, "exact", 0)
    assert data["preset"] is None
    assert data["paradigm"] == "fine-tune"
    assert typed("run", str(folder), "--verify", "--set", "task.seed=7", "--json").code == 3
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x3f")
    said = typed("run", str(folder), "--verify")
    assert said.code == 2
    assert "model.safetensors: does not match metrics.json" in said.err


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in ("file", "file/below"):
        said = typed("run", "snip", *SHORT, "--out", str(tmp_path / out))
        assert said.code == 2
        assert said.err.startswith("prune-search: --out: ")
        assert said.err.count("\n") == 1
    assert not (tmp_path / "vertices").exists()


def test_a_loss_that_is_no_number_is_a_trial_that_failed(typed: Typed) -> None:
    said = typed("run", "dense", *SHORT, "--set", "train.optimizer.lr=1e9", "--json")
    assert (said.code, said.out) == (3, "")
    assert "the loss is" in said.err


def test_ctrl_c_in_a_command_ends_it_with_130(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prune_search.api.run.run", interrupted)
    assert typed("run", "snip").code == INTERRUPTED == 130


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_copied_and_the_copy_is_the_preset(preset: str, typed: Typed, tmp_path: Path) -> None:
    from prune_search.recipe import strict_yaml
    from prune_search.recipe.recipe import Recipe

    file = tmp_path / f"{preset}.yaml"
    assert typed("cp", preset, str(file)).code == 0
    assert Recipe.read(strict_yaml.load_file(file)).canonical == Recipe.read(PRESETS[preset].make()).canonical
    assert typed("cp", preset, str(file)).code == 2


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


def test_methods_has_every_value_of_every_axis(typed: Typed) -> None:
    rows = the_object(typed("methods", "--json").out)["methods"]
    assert {(row["axis"], row["name"]) for row in rows} == {(axis.name, name) for axis in AXES for name in axis}
    assert all(row["summary"] and row["key"] for row in rows)
    assert [row["name"] for row in rows if row["axis"] in ("preset", "criterion") and not row["source"]] == []
    assert typed("methods", "no-such-axis").code == 2
