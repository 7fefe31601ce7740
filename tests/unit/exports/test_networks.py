"""An exported folder as on a model hub: networks as data that load without a class, costs, and what the card says."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from mixtures import Sparse, network, tokens
from torch import Tensor, nn

from prune_search import find_mask
from prune_search.compact.config_file import CONFIG_FILE, MASKED, load_network
from prune_search.compact.file_names import MODEL_FILE
from prune_search.exports.card_costs import size_and_speed, verdict
from prune_search.exports.densities_picture import densities_svg
from prune_search.exports.networks import Finished, costs_of, describe_finished, write_networks
from prune_search.exports.onnx_file import TOLERANCE, fixed_length, onnx_bytes, runner, write_onnx
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.recipe.problems import UserError
from prune_search.storage.measurements import Measurements
from prune_search.storage.tensors import encode
from prune_search.tasks.batches import Inputs, adapted, named_tensors


class Scaled(nn.Module):
    """Somebody's own class: a convolution with half of its filters gone, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.fc = nn.Linear(8 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv(x)) * 0.5, 2)
        scores: Tensor = self.fc(x.flatten(1))
        return scores


def finished() -> Finished:
    torch.manual_seed(0)
    model = Scaled().eval()
    mask = torch.ones(8, 1, 3, 3, dtype=torch.bool)
    mask[::2] = False
    held = torch.arange(8) % 2 == 1
    masks = MaskSet({"conv.weight": mask, "fc.weight": torch.ones(3, 128, dtype=torch.bool)}, held={"conv.bias": held})
    masks.apply(model)
    return Finished(model, masks, torch.randn(5, 1, 8, 8), {"weights": "a", "mask": "b"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = finished()
    write_networks(tmp_path, describe_finished(own))
    (tmp_path / MODEL_FILE).write_bytes(encode(own.model.state_dict()))
    return tmp_path


def test_both_networks_load_without_the_class(folder: Path) -> None:
    own = finished()
    masked, small = load_network(folder, MASKED), load_network(folder)
    with torch.no_grad():
        expected = own.model(own.inputs)
        assert torch.equal(masked(own.inputs), expected)
        assert torch.allclose(small(own.inputs), expected, rtol=1e-5, atol=1e-6)
    assert small.get_parameter("conv.weight").shape == (4, 1, 3, 3)
    assert not small.training
    assert b"Scaled" not in (folder / CONFIG_FILE).read_bytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"format": NaN}', "NaN is not a number"),
        ('{"format": 1}', "contains no networks"),
        ('{"format": 2, "networks": {}}', "has format 2"),
        ('{"format": 1, "networks": {}}', "is not one of"),
        ('{"format": 1, "networks": {"evil": {}}}', "'evil' is not one of"),
        ('{"format": 1, "networks": {"compact": {"weights": "../../x.safetensors"}}}', "must keep its weights in"),
        ('{"format": 1, "networks": {"compact": {"weights": "compact.safetensors"}}}', "must have the keys"),
    ],
)
def test_a_config_that_was_altered_is_refused(folder: Path, text: str, reason: str) -> None:
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(UserError, match=reason):
        load_network(folder)


def test_a_config_that_is_a_link_is_not_followed(folder: Path) -> None:
    (folder / "other").write_bytes((folder / CONFIG_FILE).read_bytes())
    (folder / CONFIG_FILE).unlink()
    (folder / CONFIG_FILE).symlink_to(folder / "other")
    with pytest.raises(UserError, match="symbolic link"):
        load_network(folder)


def test_widths_can_be_rounded_at_export() -> None:
    networks = describe_finished(finished(), multiple=3)
    assert networks.compact is not None
    assert networks.compact.get_parameter("conv.weight").shape[0] == 6
    assert networks.apart < 1e-5


def test_costs_are_measured_once_for_a_network_and_a_machine(tmp_path: Path) -> None:
    own = finished()
    networks = describe_finished(own)
    costs = costs_of(own, networks, Measurements(tmp_path))
    assert costs == costs_of(own, networks, Measurements(tmp_path))
    assert costs["sizes"]["compact parameters"] < costs["sizes"]["dense parameters"]
    assert [taken["batch"] for taken in costs["latency_ms"]] == [1, 64]
    for taken in costs["latency_ms"]:
        assert taken["device"]
        for name in ("dense", "masked", "compact"):
            assert 0 < taken[name]["low"] <= taken[name]["median"] <= taken[name]["high"]
    json.dumps(costs, allow_nan=False)
    assert "parameters | 467 | 427 | 235 |" in size_and_speed(costs)


def test_a_batch_that_would_take_too_long_is_not_timed_and_the_card_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    own = finished()
    monkeypatch.setattr("prune_search.exports.networks.SLOW_S", 0.0)
    costs = costs_of(own, describe_finished(own), Measurements(None))
    assert [taken["batch"] for taken in costs["latency_ms"]] == [1]
    assert list(costs["not_timed_s"]) == ["64"]
    assert "Batch 64 was not timed: one forward pass would take about 0 s." in size_and_speed(costs)


def test_a_network_that_cannot_be_described_has_costs_and_no_config(tmp_path: Path) -> None:
    class Sorting(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(super().forward(x)).values

    own = finished()
    model = Sorting().eval()
    other = Finished(model, own.masks, own.inputs, own.identity)
    networks = describe_finished(other)
    write_networks(tmp_path, networks)
    assert list(tmp_path.iterdir()) == []
    text = size_and_speed(costs_of(other, networks, Measurements(None)))
    assert "There is no compact network: it calls sort, which is not supported." in text


@pytest.mark.slow
def test_what_is_said_of_removed_experts_agrees_where_no_graph_can_be_captured() -> None:
    class Named(Sparse):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * self.experts[4](x)  # type: ignore[no-any-return]

    without, none = "without the experts that were removed", "There is no compact network"
    for block, said, cuts in ((Sparse(), without, True), (Named(), none, False)):
        model, inputs = network(block), tokens()
        torch.manual_seed(2)
        with pytest.warns(UserWarning, match="not pruned"):
            mask = find_mask(model, "l2", 0.4, granularity="expert", batches=[(inputs, None)])
        mask.apply(model)
        other = Finished(model, mask, inputs, {"weights": "a", "mask": "b"})
        costs = costs_of(other, describe_finished(other), Measurements(None))
        assert said in size_and_speed(costs)
        assert bool(costs["experts"]) == cuts
        assert ("could not be cut out: it does not run" in size_and_speed(costs)) != cuts


def taken(**bars: tuple[float, float, float]) -> dict[str, Any]:
    return {name: dict(zip(("low", "median", "high"), bar, strict=True)) for name, bar in bars.items()}


def test_faster_is_said_only_where_it_was_measured_beyond_the_noise() -> None:
    said = verdict(taken(dense=(0.9, 1.0, 1.1), masked=(0.8, 0.95, 1.0), compact=(0.4, 0.5, 0.6)))
    assert said == (
        "The masked network was not measured faster. The compact network is 2.00 times as fast as the dense one."
    )


def test_the_picture_names_every_layer_and_escapes_what_is_markup() -> None:
    masks = MaskSet({f"a<{place}>.weight": torch.ones(4, dtype=torch.bool) for place in range(70)})
    text = densities_svg(masks.receipt().layers)
    assert "a&lt;0&gt;.weight" in text
    assert "… and 10 more" in text
    assert "100.0 %" in text


@pytest.mark.slow
def test_onnxruntime_says_what_torch_says_for_any_batch(folder: Path) -> None:
    small, inputs = load_network(folder), finished().inputs
    assert write_onnx(small, folder, inputs) < TOLERANCE
    run = runner(folder / "model.onnx")
    with torch.no_grad():
        for batch in (1, 4, 5):
            assert torch.allclose(run({"x": inputs[:batch]}), small(inputs[:batch]), rtol=1e-4, atol=1e-5)


class Two(nn.Module):
    """Takes two inputs, one of them whole numbers, and returns its scores in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, words: Tensor, scale: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.layer(self.table(words).mean(1) * scale)}


class Reads(nn.Module):
    """Scores of every token; a table of places, where there is one, has so many of them."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.places = nn.Parameter(torch.randn(places, 4)) if places else None

    def forward(self, words: Tensor) -> Tensor:
        seen = self.table(words)
        scores: Tensor = self.layer(seen if self.places is None else seen + self.places)
        return scores


@pytest.mark.slow
@pytest.mark.parametrize("places", [0, 6])
def test_texts_have_any_length_unless_the_network_fixes_it(tmp_path: Path, places: int) -> None:
    model, words = Reads(places).eval(), torch.randint(7, (5, 6))
    assert write_onnx(model, tmp_path, words) < TOLERANCE
    assert fixed_length(tmp_path) == (places or None)


@pytest.mark.slow
@pytest.mark.parametrize("mapping", [True, False])
def test_networks_of_several_inputs_are_written_with_their_names(tmp_path: Path, mapping: bool) -> None:
    words, scale = torch.randint(7, (5, 6)), torch.rand(5, 1)
    content = {"words": words, "scale": scale, "labels": torch.zeros(5)} if mapping else (words, scale)
    model, inputs = adapted(Two()).eval(), Inputs(content)
    assert write_onnx(model, tmp_path, inputs) < TOLERANCE
    named = named_tensors(model, inputs)
    assert list(named) == (["words", "scale"] if mapping else ["x0", "x1"])
    with torch.no_grad():
        assert torch.allclose(runner(tmp_path / "model.onnx")(named), model(inputs)["logits"], atol=1e-5)


@pytest.mark.slow
def test_what_is_no_tensor_and_what_has_no_place_for_each_example_stay_as_they_are(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor, flip: bool, scale: Tensor) -> Tensor:
            found: Tensor = self.layer(x) * scale
            return -found if flip else found

    model, inputs = adapted(Scaled()).eval(), Inputs((torch.randn(5, 4), True, torch.tensor(3.0)))
    assert list(named_tensors(model, inputs)) == ["x0", "x2"]
    assert write_onnx(model, tmp_path, inputs) < TOLERANCE


def test_tensors_within_an_input_are_told(tmp_path: Path) -> None:
    inputs = Inputs({"words": [torch.zeros(5)], "scale": torch.zeros(5, 1)})
    with pytest.raises(UserError, match=r"--onnx: .*the input words is not a tensor but contains some"):
        write_onnx(adapted(Two()).eval(), tmp_path, inputs)


@pytest.mark.slow
def test_what_the_exporter_cannot_do_is_one_plain_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dependent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if bool(x.sum() > 0) else x

    with pytest.raises(UserError) as caught:
        write_onnx(Dependent().eval(), tmp_path, torch.randn(5, 4))
    (problem,) = caught.value.problems
    assert problem.message.isprintable()
    assert "the network cannot be written as ONNX (" in problem.message
    assert "step 1/3" not in problem.message
    assert capsys.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_forward_of_the_users_is_not_written(tmp_path: Path) -> None:
    model = adapted(Two(), lambda network, batch: network(batch["words"], batch["scale"])).eval()
    inputs = Inputs({"words": torch.randint(7, (5, 6)), "scale": torch.rand(5, 1)})
    with pytest.raises(UserError, match=r"--onnx: .*a forward function of your own reads the batch"):
        write_onnx(model, tmp_path, inputs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_says_something_else_is_not_left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, inputs = load_network(folder), finished().inputs
    wrong = onnx_bytes(nn.Sequential(small, nn.Softmax(1)), inputs)
    monkeypatch.setattr("prune_search.exports.onnx_file.onnx_bytes", lambda model, shape: wrong)
    with pytest.raises(UserError, match="onnxruntime and torch differ"):
        write_onnx(small, folder, inputs)
    assert not (folder / "model.onnx").exists()
