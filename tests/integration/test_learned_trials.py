"""Learned masks in whole trials: weights never change, steps count, states are shared; what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import EPOCH, SMALL, Blocks, SetupOf, blocks, model_part, rounds

from prune_search.library import masks
from prune_search.pruning.mask.score_training import learned_scores
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.tasks.network import prunable_weights
from prune_search.training.segment import MODEL
from prune_search.training.state_store import PreemptedError, StateStore, Steps
from prune_search.trial.rounds import rounds_of
from prune_search.trial.run import run_trial

OPTIMIZERS: dict[str, Blocks] = {"edge-popup": {"lr": 0.1}, "supermask": {"lr": 50.0}, "gumbel-mask": {"lr": 0.1}}


def learned(preset: str, steps: str = "7it", **more: Any) -> Blocks:
    """A preset of a learned mask, shortened; `more` goes into its criterion."""
    name = preset.removesuffix("-mask")
    optimizer = {"name": "adam" if name == "gumbel" else "sgd", **OPTIMIZERS[preset], "weight_decay": 0.0}
    found = blocks(preset, retrain="none")
    found["train"] = {"steps": "0it"}
    found["mask"] = {"criterion": {"name": name, "steps": steps, "optimizer": optimizer, **more}}
    return found


@pytest.mark.parametrize("preset", OPTIMIZERS)
def test_weights_are_bitwise_unchanged_in_every_state_while_the_mask_is_learned(setup_of: SetupOf, preset: str) -> None:
    setup = setup_of(learned(preset))
    _, (item,) = rounds(setup)
    assert item.learning is not None
    scores = []
    for step in range(1, item.learning.total + 1):
        tensors = item.learning.at(step).tensors
        assert all(torch.equal(value, setup.start[MODEL + key]) for key, value in model_part(tensors).items())
        scores.append(torch.cat([score.flatten() for score in learned_scores(tensors).values()]))
    assert len({tuple(score.tolist()) for score in scores}) == 7
    kept = {name: mask for name, mask in item.masks.items() if not bool(mask.all())}
    assert kept
    for name, mask in item.masks.items():
        weight = item.result[MODEL + name]
        assert torch.equal(weight, torch.where(mask, setup.start[MODEL + name], torch.zeros(())))


def test_the_mask_is_that_of_the_last_scores(setup_of: SetupOf) -> None:
    _, (item,) = rounds(setup_of(learned("edge-popup")))
    assert item.learning is not None
    for name, score in learned_scores(item.learning.end().tensors).items():
        sizes = score.abs().tolist()
        order = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
        wanted = sorted(order[: len(sizes) // 2])
        assert item.masks[name].flatten().nonzero().flatten().tolist() == wanted


def test_how_much_a_supermask_keeps_is_learned(setup_of: SetupOf) -> None:
    raw = learned("supermask")
    raw["mask"]["criterion"]["sign_constant"] = True
    setup = setup_of(raw)
    result = run_trial(setup, None)
    _, (item,) = rounds(setup)
    assert item.learning is not None
    scores = learned_scores(item.learning.end().tensors)
    for name, mask in result.masks.items():
        assert torch.equal(mask.flatten(), scores[name] > 0)
        sizes = result.tensors[name][mask].abs()
        start = setup.start[MODEL + name]
        assert torch.allclose(sizes, start.square().mean().sqrt().expand_as(sizes))
        assert torch.equal(result.tensors[name][mask].sign(), start[mask].sign())
    assert result.receipt.units_asked == result.receipt.units_kept
    assert 0.0 < result.receipt.asked < 1.0


def test_everything_kept_is_the_network_as_it_was_drawn(setup_of: SetupOf) -> None:
    raw = learned("edge-popup")
    raw["mask"]["sparsity"] = 0.0
    setup = setup_of(raw)
    result = run_trial(setup, None)
    assert all(torch.equal(value, setup.start[MODEL + key]) for key, value in result.tensors.items())


@pytest.mark.parametrize("preset", OPTIMIZERS)
def test_steps_of_learning_count_and_are_not_trained_twice(setup_of: SetupOf, tmp_path: Path, preset: str) -> None:
    first = run_trial(setup_of(learned(preset)), tmp_path)
    assert first.steps == (7, 0, 0)
    assert first.metrics["steps_trained"] == 7
    again = run_trial(setup_of(learned(preset)), tmp_path)
    assert again.steps == (0, 7, 0)
    assert (again.masks.sha256, again.weights_sha256) == (first.masks.sha256, first.weights_sha256)


@pytest.mark.parametrize("preset", OPTIMIZERS)
def test_learning_that_was_cut_off_goes_on_to_the_same_bits(setup_of: SetupOf, tmp_path: Path, preset: str) -> None:
    unbroken = run_trial(setup_of(learned(preset)), None)
    setup = setup_of(learned(preset))
    seen = []

    def stop(step: int, total: int, loss: torch.Tensor) -> None:
        seen.append(step)
        if step == 4:
            raise PreemptedError

    _, (item,) = rounds_of(setup, StateStore(tmp_path, Steps(), setup.environment, progress=stop))
    with pytest.raises(PreemptedError):
        _ = item.result
    assert seen == [1, 2, 3, 4]
    result = run_trial(setup_of(learned(preset)), tmp_path)
    assert result.steps[0] == 3
    assert (result.masks.sha256, result.weights_sha256) == (unbroken.masks.sha256, unbroken.weights_sha256)


def test_learning_that_the_share_plays_no_part_in_is_shared_between_sparsities(
    setup_of: SetupOf, tmp_path: Path
) -> None:
    trained = {}
    cases: list[tuple[str, Blocks]] = [("edge-popup", {}), ("gumbel-mask", {}), ("supermask", {})]
    for preset, more in (*cases, ("gumbel-mask", {"prior": 0.5})):
        found = []
        for sparsity in (0.5, 0.8):
            raw = learned(preset, "7it", **more)
            raw["mask"].update(sparsity=sparsity, scope="global")
            found.append(run_trial(setup_of(raw), tmp_path))
        assert found[0].masks.sparsity() < found[1].masks.sparsity()
        trained[preset, bool(more)] = found[1].steps[0]
    assert trained == {
        ("edge-popup", False): 7,
        ("gumbel-mask", False): 7,
        ("gumbel-mask", True): 0,
        ("supermask", False): 0,
    }


def test_batch_norm_statistics_of_the_learning_stay_where_nothing_is_rewound(setup_of: SetupOf) -> None:
    raw = learned("edge-popup", steps="2ep")
    raw["task"] = {"model": {"name": "small-conv", "channels": [8, 8]}, "seed": 3}
    setup = setup_of(raw)
    _, (item,) = rounds(setup)
    assert item.learning is not None
    mean = "model/bn1.running_mean"
    assert torch.equal(item.result[mean], item.learning.end().tensors[mean])
    assert not torch.equal(item.result[mean], setup.start[mean])
    # Learned on the trained weights, the weights rewound to w(0): its statistics come with them.
    raw["train"] = {"steps": "6it"}
    raw["mask"]["at"] = "end"
    setup = setup_of(raw)
    _, (item,) = rounds(setup)
    assert torch.equal(item.result[mean], setup.start[mean])
    kept = item.masks["fc.weight"]
    assert torch.equal(item.result["model/fc.weight"][kept], setup.start["model/fc.weight"][kept])


def test_controls_and_rounds_go_with_learned_scores(setup_of: SetupOf) -> None:
    plain = run_trial(setup_of(learned("edge-popup")), None)
    for control in ("shuffle", "invert"):
        raw = learned("edge-popup")
        raw["mask"]["control"] = control
        other = run_trial(setup_of(raw), None)
        counts = [(layer.name, layer.kept) for layer in other.receipt.layers]
        assert counts == [(layer.name, layer.kept) for layer in plain.receipt.layers]
        assert other.masks.sha256 != plain.masks.sha256
    raw = learned("edge-popup")
    raw.update(rounds=2, train={"steps": "3it"}, retrain={"steps": "3it", "clock": "0it"})
    raw["mask"].update(at="end", sparsity={"per_round": 0.5})
    _, (first, second) = rounds(setup_of(raw))
    for name, mask in second.masks.items():
        assert not bool((mask & ~first.masks[name]).any())
        assert int(mask.sum()) == (mask.numel() + 2) // 4


def test_a_learned_mask_finds_what_training_finds(setup_of: SetupOf) -> None:
    """Twelve epochs of scores alone on random weights: far above one tenth, the chance of ten digits."""
    for preset in ("edge-popup", "supermask"):
        raw = learned(preset, steps="12ep")
        raw["task"] = {"model": {"name": "mlp", "hidden": [60]}, "seed": 3}
        assert run_trial(setup_of(raw), None).metrics["val/accuracy"] > 0.6
    assert EPOCH == 9
    assert SMALL["train"]["steps"] == "2ep"


TAIL: Blocks = {"weights": {"at": "0it"}, "retrain": "none"}


@pytest.mark.parametrize(
    ("mask", "path", "message"),
    [
        (
            {"criterion": "supermask", "sparsity": 0.5, "scope": "learned"},
            "mask.sparsity",
            "must be learned with scope",
        ),
        (
            {"criterion": "magnitude", "sparsity": "learned", "scope": "learned"},
            "mask.sparsity",
            "needs a criterion that learns",
        ),
        ({"criterion": "supermask", "sparsity": "learned", "scope": "erk"}, "mask.scope", "must be learned or global"),
        (
            {"criterion": "edge-popup", "sparsity": 0.5, "score": {"iterations": 3}},
            "mask.score.iterations",
            "must be 1",
        ),
        ({"criterion": "edge-popup", "sparsity": 0.5, "score": {"mode": "eval"}}, "mask.score.mode", "must be 'train'"),
        (
            {"criterion": {"name": "edge-popup", "optimizer": {"nesterov": True, "momentum": 0}}, "sparsity": 0.5},
            "mask.criterion.optimizer",
            "nesterov",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(mask: Blocks, path: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read_space({"mask": {"at": "0it", **mask}, **TAIL}, "a test").only_recipe()
    (problem,) = refused.value.problems
    assert problem.path == path
    assert message in problem.message


def test_a_dynamics_cannot_score_by_a_criterion_that_trains() -> None:
    dynamics = {"name": "gradual", "criterion": "edge-popup"}
    raw = {"preset": "gradual-magnitude", "retrain": {"until": "end", "dynamics": dynamics}}
    with pytest.raises(UserError) as refused:
        read_space(raw, "a test").only_recipe()
    assert [problem.path for problem in refused.value.problems] == ["retrain.dynamics.criterion"]


def test_the_library_face_says_that_a_learned_mask_takes_a_loop(setup_of: SetupOf) -> None:
    model = setup_of(learned("edge-popup")).model
    with pytest.raises(UserError, match="trains its scores"):
        masks.find_mask(model, "edge-popup", 0.5)
    with pytest.raises(UserError, match="trains its scores"):
        masks.score("edge-popup", model)
    assert prunable_weights(model)
