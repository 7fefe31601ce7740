"""`prune-search run`: one JSON object, errors in one line, and folders that run again."""

from __future__ import annotations

from pathlib import Path

from command_line import Typed, the_object

SHORT = ("--set", "train.steps=4it", "--set", "train.batch=32")


def test_run_as_json_is_one_object_with_what_a_script_needs(typed: Typed) -> None:
    said = typed("run", "snip", *SHORT, "--json")
    data = the_object(said.out)
    assert said.code == 0
    wanted = {"key", "preset", "paradigm", "mask_sha256", "weights_sha256", "environment", "sparsity", "layers"}
    assert wanted | {"collapsed", "metrics", "steps_trained", "steps_reused", "seconds"} <= set(data)
    assert (data["preset"], data["paradigm"], data["steps_trained"], data["steps_reused"]) == ("snip", "snip", 4, 0)
    assert (data["sparsity"]["asked"], data["sparsity"]["reached"]) == (0.95, 0.95)
    assert 0.9 < data["sparsity"]["of_all_parameters"] < 0.95
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


def test_measurements_in_the_middle_of_a_retraining_are_asked_for_by_a_length(typed: Typed, tmp_path: Path) -> None:
    own = ("--storage", str(tmp_path), "--set", "train.steps=6it", "--set", "train.batch=32")
    data = the_object(typed("run", "snip", *own, "--evaluate-every", "2it", "--json").out)
    assert [(one["round"], one["step"]) for one in data["evaluations"]] == [(1, 2), (1, 4)]
    assert all({"val/accuracy", "val/loss"} <= set(one) for one in data["evaluations"])
    said = typed("run", "snip", *own, "--set", "task.seed=1", "--evaluate-every", "3it")
    assert said.out.startswith("round 1, step 3: val/accuracy ")
    for wrong in ("0it", "often", "end"):
        said = typed("run", "snip", *own, "--evaluate-every", wrong)
        assert (said.code, said.out) == (2, "")
        assert "--evaluate-every: " in said.err


def test_wrong_options_of_training_are_one_line_each(typed: Typed) -> None:
    for key, value in (
        ("train.clip", "0"),
        ("train.accumulate", "0"),
        ("train.accumulate", "10000"),
        ("train.label_smoothing", "1"),
        ("train.layer_decay", "2"),
        ("train.ema", "1"),
        ("train.warmup", "99ep"),
        ("train.early_stopping", "7"),
        ("retrain.loss", "distilation"),
    ):
        said = typed("run", "snip", "--set", f"{key}={value}")
        assert said.code == 2, key
        assert f"{key}: " in said.err
        assert len(said.err.strip().splitlines()) == 1, said.err
