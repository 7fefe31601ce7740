"""Every optimizer, schedule, initializer, augmentation and loss; every data set, model and metric."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from prune_search.recipe.axes import (
    AUGMENTATIONS,
    DATASETS,
    INITS,
    LOSSES,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
)
from prune_search.recipe.fields import Reading, Value
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import AnyAxis
from prune_search.tasks.data import DataSet
from prune_search.tasks.metrics import Measured, evaluate
from prune_search.tasks.network import output_layer, prunable_weights
from prune_search.training.optimizers import load_state_tensors, state_tensors

EMBEDDED = [name for name, entry in DATASETS.items() if entry.facts.embedded]


def named(axis: AnyAxis, name: str) -> Named:
    told = Reading()
    written = Value(axis).read(name, "x", told)
    assert told.problems == []
    return Named.of(axis, written)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    options = dict(named(OPTIMIZERS, name).options)
    made: torch.optim.Optimizer = OPTIMIZERS[name].make(list(model.parameters()), options.pop("lr"), **options)
    return made


def names(model: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        source = torch.Generator().manual_seed(step)
        inputs, labels = torch.randn(6, 1, 8, 8, generator=source), torch.randint(5, (6,), generator=source)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_that_is_stored_and_restored_trains_on_bit_for_bit(name: str) -> None:
    whole, part = network(), network()
    optimizer = optimizer_of(name, whole)
    train(whole, optimizer, range(8))
    restored = optimizer_of(name, part)
    for step in range(8):
        train(part, restored, range(step, step + 1))
        stored = state_tensors(restored, names(part))
        part = copy.deepcopy(part)
        restored = optimizer_of(name, part)
        load_state_tensors(restored, names(part), stored)
    assert all(torch.equal(part.state_dict()[key], value) for key, value in whole.state_dict().items())
    buffers, others = state_tensors(optimizer, names(whole)), state_tensors(restored, names(part))
    assert buffers.keys() == others.keys()
    assert all(torch.equal(buffers[key], others[key]) for key in buffers)
    assert not torch.equal(whole.get_parameter("4.weight"), network().get_parameter("4.weight"))


@pytest.mark.parametrize("total", [1, 7, 100])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_s_rates_are_finite_and_not_negative_past_the_end_too(name: str, total: int) -> None:
    schedule = named(SCHEDULES, name)
    rate = SCHEDULES[name].make(0.3, total, 10, **schedule.options)
    rates = [rate(step) for step in range(total + 20)]
    assert all(isinstance(value, float) and math.isfinite(value) and value >= 0 for value in rates)
    assert max(rates[:total]) > 0
    assert [rate(step) for step in reversed(range(total + 20))] == rates[::-1]


@pytest.mark.parametrize("name", INITS)
def test_an_initializer_depends_on_the_seed_and_the_stream_alone(name: str) -> None:
    entry, init = INITS[name], named(INITS, name)

    def drawn(seed: int, stream: str, disturbance: int) -> dict[str, Tensor]:
        model = network()
        torch.manual_seed(disturbance)
        entry.make(model, seed, stream=stream, **init.options)
        return {key: value.clone() for key, value in model.state_dict().items()}

    first, again = drawn(1, "init", 0), drawn(1, "init", 5)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(bool(torch.isfinite(value).all()) for value in first.values())
    for other in (drawn(2, "init", 0), drawn(1, "elsewhere", 0)):
        assert torch.equal(first["4.weight"], other["4.weight"]) is not entry.facts.draws


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_gives_pictures_of_the_same_shape_drawn_by_its_generator(name: str) -> None:
    augmentation, inputs = named(AUGMENTATIONS, name), torch.randn(12, 3, 9, 7)
    before = inputs.clone()

    def drawn(seed: int) -> Tensor:
        found: Tensor = AUGMENTATIONS[name].make(inputs, torch.Generator().manual_seed(seed), **augmentation.options)
        return found

    torch.manual_seed(0)
    first = drawn(1)
    torch.manual_seed(1)
    assert torch.equal(first, drawn(1))
    assert (first.shape, first.dtype) == (inputs.shape, inputs.dtype)
    assert torch.equal(inputs, before)
    assert set(first.flatten().tolist()) <= {0.0, *inputs.flatten().tolist()}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_one_finite_number_with_a_gradient(name: str) -> None:
    logits = torch.randn(8, 5).requires_grad_()
    loss = LOSSES[name].make(logits, torch.arange(8) % 5, **named(LOSSES, name).options)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.shape == ()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all() and torch.isfinite(loss))
    assert bool((logits.grad != 0).any())


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_data_set_that_needs_no_file_is_what_it_declares(name: str) -> None:
    facts = DATASETS[name].facts
    data = DATASETS[name].build(DataSet, None, **named(DATASETS, name).options)
    assert (len(data.train), data.classes, data.shape) == (facts.train_examples, facts.classes, facts.shape)
    for split in (data.train, data.validation, data.test):
        assert len(split) > 0
        assert split.inputs.dtype == torch.float32
        assert bool(torch.isfinite(split.inputs).all())
        assert set(split.labels.tolist()) == set(range(data.classes))
    assert data.digest == DATASETS[name].build(DataSet, None, **named(DATASETS, name).options).digest


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_runs_and_has_gradients_in_all_weights_that_can_be_pruned(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = MODELS[name].make(shape, 7, **named(MODELS, name).options)
    inputs = torch.randn(4, *shape)
    logits = model(inputs)
    assert logits.shape == (4, 7)
    assert bool(torch.isfinite(logits).all())
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    weights = prunable_weights(model)
    assert len(weights) >= 2
    assert all(weight.grad is not None and bool(torch.isfinite(weight.grad).all()) for weight in weights.values())
    assert output_layer(model, inputs) == list(weights)[-1]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_a_finite_number_of_what_was_measured(name: str) -> None:
    data = DATASETS[EMBEDDED[0]].build(DataSet, None)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, data.classes))
    facts = METRICS[name].facts
    splits = {"validation": data.validation, "test": data.test}
    scores = {key: evaluate(model, split) for key, split in splits.items() if facts.split in (key, "")}
    total = {key: weight.numel() for key, weight in prunable_weights(model).items()}
    kept = {key: count // 3 for key, count in total.items()}
    measured = Measured(scores, kept, total, 17, lambda: model, data)
    value = METRICS[name].make(measured)
    assert isinstance(value, float)
    assert math.isfinite(value)
    assert facts.best in ("maximize", "minimize")
    assert name.startswith("test/") is (facts.split == "test")
