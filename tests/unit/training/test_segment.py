"""A stretch: any of its states on demand, the same bits however it was stored, stopped or damaged."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.retrain.mask_keeper import MaskKeeper, masks_of
from prune_search.recipe.axes import AUGMENTATIONS, OPTIMIZERS
from prune_search.storage import states
from prune_search.storage.states import StorageError, list_states, read_state, state_folder
from prune_search.tasks.data import Split
from prune_search.training import segment as stretch_module
from prune_search.training.loop import Course, Feed, Hook, Network, TrainingError
from prune_search.training.segment import Segment, model_tensors
from prune_search.training.state_store import PreemptedError, StateStore, Steps

TOTAL = 30
KINDS: list[tuple[str, dict[str, Any]]] = [("sgd", {"momentum": 0.9, "weight_decay": 0.01}), ("adam", {})]
Hooks = Callable[[nn.Module, torch.optim.Optimizer], Sequence[Hook]]


def network() -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    return Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)


def split() -> Split:
    source = torch.Generator().manual_seed(9)
    return Split(torch.randn(50, 1, 8, 8, generator=source), torch.randint(5, (50,), generator=source))


def segment(folder: Path | None, kind: int = 0, hooks: Hooks | None = None, **more: Any) -> Segment:
    """A segment in a network of its own, as another process would have it."""
    net = network()
    start = model_tensors(net.model)
    name, options = KINDS[kind]
    feed = Feed(split(), 8, 3, ("here",), lambda inputs, draw: AUGMENTATIONS["crop-flip"].make(inputs, draw, pad=1))

    def course() -> Course:
        optimizer = OPTIMIZERS[name].make(list(net.model.parameters()), 1.0, **options)
        made = hooks(net.model, optimizer) if hooks else ()
        return Course(optimizer, feed, 0, lambda step: 0.05 if step < 20 else 0.01, made)

    store = StateStore(folder, more.pop("steps", None) or Steps())
    return Segment("a stretch", f"ab{kind:062d}", more.pop("total", TOTAL), lambda: start, course, net, store, **more)


def differing(one: dict[str, Tensor], other: dict[str, Tensor], prefix: str = "") -> list[str]:
    keys = {key for key in (*one, *other) if key.startswith(prefix)}
    return sorted(key for key in keys if key not in one or key not in other or not torch.equal(one[key], other[key]))


def vertex(folder: Path) -> Path:
    home = StateStore(folder, Steps()).vertex(f"ab{0:062d}")
    assert isinstance(home, Path)
    return home


def stored(folder: Path) -> list[int]:
    return [step for step, _ in list_states(vertex(folder))]


def damage(folder: Path, step: int) -> None:
    file = state_folder(vertex(folder), step) / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state to recover from after every step."""
    monkeypatch.setattr(stretch_module, "RECOVERY_EVERY_S", -1.0)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_run_that_another_process_goes_on_with_at_every_step_is_one_run(tmp_path: Path, kind: int) -> None:
    whole = segment(None, kind).end().tensors
    for step in range(1, TOTAL + 1):
        torch.manual_seed(step)
        steps = Steps()
        reached = segment(tmp_path, kind, steps=steps).at(step)
        assert steps.trained == 1
    assert differing(whole, reached.tensors) == []


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("inside", [True, False])
def test_any_state_is_the_same_wherever_it_is_replayed_from(tmp_path: Path, kind: int, inside: bool) -> None:
    """Asked in any order, from memory or from the nearest stored state, with buffers and all."""
    reference = {step: segment(None, kind).at(step).tensors for step in (7, 12, 13, 25, TOTAL)}
    one = segment(None if inside else tmp_path, kind, asked=(12,), grid=True)
    for step in (25, 7, TOTAL, 13, 12, 7):
        found = one.at(step).tensors
        assert differing(found, reference[step]) == []
        if not inside:
            assert differing(segment(tmp_path, kind).at(step).tensors, reference[step]) == []


def test_only_the_steps_from_the_nearest_state_are_trained(tmp_path: Path) -> None:
    first = Steps()
    segment(tmp_path, steps=first, grid=True).end()
    assert (first.trained, first.replayed) == (TOTAL, 0)
    assert stored(tmp_path) == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    second = Steps(needed=14)
    segment(tmp_path, steps=second, grid=True).at(14)
    assert (second.trained, second.replayed, second.reused) == (2, 2, 14)
    third = Steps(needed=TOTAL)
    segment(tmp_path, steps=third).end()
    assert (third.trained, third.reused) == (0, TOTAL)


def test_nothing_is_begun_where_a_state_is_stored(tmp_path: Path) -> None:
    segment(tmp_path).end()
    second = segment(tmp_path)

    def begin() -> dict[str, Tensor]:
        raise AssertionError("the beginning was computed")

    second.begin = begin
    assert second.end().meta["ended"] is True


def test_what_is_asked_is_stored_on_the_way_and_an_end_needs_no_buffers(tmp_path: Path) -> None:
    segment(tmp_path, asked=(4, 11, TOTAL)).end()
    assert stored(tmp_path) == [4, 11, TOTAL]
    steps = Steps()
    again = segment(tmp_path, steps=steps)
    assert any(key.startswith("optimizer/") for key in again.at(4).tensors)
    assert not any(key.startswith("optimizer/") for key in again.end().tensors)
    assert steps.trained == 0


@pytest.mark.parametrize(("broken", "trained"), [([TOTAL], 10), ([TOTAL, 20], 20), ([10, 20, TOTAL], TOTAL), ([10], 0)])
def test_a_damaged_state_is_passed_over_and_replaced(
    tmp_path: Path, broken: list[int], trained: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = segment(tmp_path, asked=(10, 20)).end().tensors
    for step in broken:
        damage(tmp_path, step)
    steps = Steps()
    with caplog.at_level(logging.WARNING, "prune_search"):
        assert differing(segment(tmp_path, asked=(10, 20), steps=steps).end().tensors, whole) == []
    assert steps.trained == trained
    assert ("ignoring the stored state" in caplog.text) is (trained > 0)
    after = Steps()
    assert differing(segment(tmp_path, steps=after).end().tensors, whole) == []
    assert after.trained == 0


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("stop", [1, 8, 17, 29])
def test_an_interrupted_stretch_goes_on_where_it_was_and_leaves_no_scraps(tmp_path: Path, stop: int) -> None:
    whole = segment(None).end().tensors

    def interrupt(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Hook]:
        def before_step(step: int) -> None:
            if step == stop:
                raise KeyboardInterrupt

        return [Hook("interrupt", before_step=before_step)]

    with pytest.raises(KeyboardInterrupt):
        segment(tmp_path, hooks=interrupt).end()
    assert stored(tmp_path) == [stop]
    steps = Steps()
    assert differing(segment(tmp_path, steps=steps).end().tensors, whole) == []
    assert steps.trained == TOTAL - stop
    assert stored(tmp_path) == [TOTAL]


@pytest.mark.usefixtures("every_step")
def test_states_to_recover_from_do_not_pile_up_between_those_that_are_kept(tmp_path: Path) -> None:
    one = segment(tmp_path, asked=(7,), grid=True)
    seen: set[int] = set()
    one.store.progress = lambda step, total, loss: seen.add(len(stored(tmp_path)))
    one.end()
    assert stored(tmp_path) == [3, 6, 7, 9, 12, 15, 18, 21, 24, 27, 30]
    assert max(seen) <= 12  # beside those that are kept the newest one, and the one before it until that is stored


@pytest.mark.usefixtures("every_step")
def test_the_last_state_is_not_removed_for_one_that_could_not_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = states.write_state

    def full(folder: Path, tensors: Any, meta: Any) -> None:
        if meta["step"] > 12:
            raise StorageError("no space left on device")
        real(folder, tensors, meta)

    monkeypatch.setattr(stretch_module, "write_state", full)
    whole = segment(None).end().tensors
    with caplog.at_level(logging.WARNING, "prune_search"):
        assert differing(segment(tmp_path).end().tensors, whole) == []
    assert "continuing without it" in caplog.text
    assert stored(tmp_path) == [12]


def test_training_goes_on_while_a_state_is_written_which_counts_once_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go, begun = states.write_state, threading.Event(), threading.Event()

    def slow(folder: Path, tensors: Any, meta: Any) -> None:
        begun.set()
        assert go.wait(30)
        real(folder, tensors, meta)

    monkeypatch.setattr(stretch_module, "write_state", slow)
    monkeypatch.setattr(stretch_module, "BESIDE_FROM_BYTES", 0)
    told: list[tuple[str, int]] = []
    one = segment(tmp_path, asked=(10,))
    one.store.reached = lambda place, step: told.append(("reached", step))

    def progress(step: int, total: int, loss: Tensor) -> None:
        told.append(("step", step))
        if step == 15:
            assert begun.is_set()
            assert (stored(tmp_path), one.store.steps.stored) == ([], 0)
            go.set()

    one.store.progress = progress
    end = one.end()
    at = told.index(("reached", 10))
    assert told.index(("step", 15)) < at
    assert told[-1] == ("reached", TOTAL)
    assert (stored(tmp_path), one.store.steps.stored) == ([10, TOTAL], TOTAL)
    # What was trained meanwhile is not in it.
    assert differing(segment(tmp_path).at(10).tensors, segment(None).at(10).tensors) == []
    assert differing(segment(None).end().tensors, end.tensors) == []


def test_a_training_that_fails_waits_for_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = states.write_state

    def slow(folder: Path, tensors: Any, meta: Any) -> None:
        time.sleep(0.2)
        real(folder, tensors, meta)

    monkeypatch.setattr(stretch_module, "write_state", slow)
    one = segment(tmp_path, asked=(10,))

    def progress(step: int, total: int, loss: Tensor) -> None:
        if step == 11:
            raise TrainingError("nan", "no number")

    one.store.progress = progress
    with pytest.raises(TrainingError):
        one.end()
    assert (stored(tmp_path), one.store.steps.stored) == ([10], 10)


def test_what_is_wrong_with_a_state_is_raised_where_the_next_one_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(folder: Path, tensors: Any, meta: Any) -> None:
        raise ValueError("cannot be stored")

    monkeypatch.setattr(stretch_module, "write_state", wrong)
    with pytest.raises(ValueError, match="cannot be stored"):
        segment(tmp_path, asked=(10,)).end()


def early(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Hook]:
    return [Hook("early", finished=lambda step: step >= 11)]


def test_a_hook_can_end_a_stretch_early_and_the_end_is_known_from_the_storage(tmp_path: Path) -> None:
    one = segment(tmp_path, hooks=early, asked=(TOTAL,))
    end = one.end()
    assert (end.meta["step"], end.meta["ended"], one.length) == (11, True, 11)
    assert one.end() is end
    assert differing(segment(None).at(11).tensors, end.tensors, "model/") == []
    steps = Steps()
    other = segment(tmp_path, hooks=early, steps=steps)
    assert other.length == TOTAL
    assert other.known_length() == 11
    assert differing(other.end().tensors, end.tensors) == []
    assert (steps.trained, other.length) == (0, 11)
    assert segment(tmp_path / "nothing", hooks=early).known_length() == TOTAL


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("asked", [(TOTAL,), (11, TOTAL), (10, 12)])
def test_an_early_end_is_stored_as_an_end_where_another_state_would_stand_too(
    tmp_path: Path, asked: tuple[int, ...]
) -> None:
    segment(tmp_path, hooks=early, asked=asked).end()
    steps = Steps()
    other = segment(tmp_path, hooks=early, asked=asked, steps=steps)
    assert other.known_length() == 11
    assert other.end().meta["ended"] is True
    assert steps.trained == 0


def preempted(one: Segment, stop: int) -> None:
    def preempt(step: int, total: int, loss: Tensor) -> None:
        if step == stop:
            raise PreemptedError

    one.store.progress = preempt
    with pytest.raises(PreemptedError):
        one.end()


def test_a_trial_preempted_at_an_early_end_finds_it_an_end_when_it_goes_on(tmp_path: Path) -> None:
    preempted(segment(tmp_path, hooks=early), 11)
    assert stored(tmp_path) == [11]
    steps = Steps()
    assert segment(tmp_path, hooks=early, steps=steps).end().meta["ended"] is True
    assert steps.trained == 0
    assert segment(tmp_path, hooks=early).known_length() == 11


@pytest.mark.parametrize("stop", [1, 13, TOTAL - 1])
def test_a_preempted_trial_goes_on_where_it_was(tmp_path: Path, stop: int) -> None:
    preempted(segment(tmp_path), stop)
    assert stored(tmp_path) == [stop]
    steps = Steps()
    assert differing(segment(tmp_path, steps=steps).end().tensors, segment(None).end().tensors) == []
    assert steps.trained == TOTAL - stop
    assert stored(tmp_path) == [TOTAL]


def test_what_a_hook_does_at_the_end_is_in_the_last_state_once(tmp_path: Path) -> None:
    def doubling(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Hook]:
        def at_end() -> None:
            with torch.no_grad():
                model.get_parameter("5.bias").mul_(2.0)

        return [Hook("doubling", at_end=at_end)]

    plain = segment(None).end().tensors["model/5.bias"]
    parts = segment(tmp_path, hooks=doubling)
    parts.at(10)
    parts.at(20)
    assert torch.equal(parts.end().tensors["model/5.bias"], plain * 2)
    assert torch.equal(segment(tmp_path, hooks=doubling).end().tensors["model/5.bias"], plain * 2)


def test_making_a_course_may_use_the_network(tmp_path: Path) -> None:
    """A course can find a mask or train in the same network; what is trained is the state all the same."""

    def careless(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Hook]:
        with torch.no_grad():
            for tensor in model.state_dict(keep_vars=True).values():
                tensor.fill_(7)
        return []

    whole = segment(None).end().tensors
    segment(tmp_path, hooks=careless).at(13)
    assert differing(segment(tmp_path, hooks=careless).end().tensors, whole) == []


def test_a_hook_remembers_what_it_says_and_starts_with_the_state_in_place(tmp_path: Path) -> None:
    def counting(trace: list[tuple[str, int, float]]) -> Hooks:
        def hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Hook]:
            count = torch.zeros((), dtype=torch.int64)

            def load(state: Any) -> None:
                count.copy_(state["count"])

            def note(word: str) -> None:
                trace.append((word, int(count), float(model.get_parameter("5.weight").detach().sum())))

            def before_step(step: int) -> None:
                note("step")
                count.add_(1)

            return [
                Hook(
                    "counting",
                    at_start=lambda: note("start"),
                    before_step=before_step,
                    state=lambda: {"count": count},
                    load=load,
                )
            ]

        return hooks

    whole: list[tuple[str, int, float]] = []
    segment(None, hooks=counting(whole)).end()
    parts: list[tuple[str, int, float]] = []
    for step in (9, 10, 22, TOTAL):
        segment(tmp_path, hooks=counting(parts)).at(step)
    assert [entry for entry in parts if entry[0] == "step"] == [entry for entry in whole if entry[0] == "step"]
    starts = [entry[1:] for entry in parts if entry[0] == "start"]
    firsts = {count: total for word, count, total in whole if word == "step"}
    assert starts == [(count, firsts[count]) for count in (0, 9, 10, 22)]


def half_masked(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Hook]:
    source = torch.Generator().manual_seed(4)
    shapes = {name: model.get_parameter(name).shape for name in ("0.weight", "5.weight")}
    masks = MaskSet({name: torch.rand(shape, generator=source) < 0.5 for name, shape in shapes.items()})
    return [MaskKeeper(model, masks, optimizer).hook()]


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_masked_network_has_no_masked_weight_and_no_momentum_there_at_any_step(tmp_path: Path, kind: int) -> None:
    """From a start that was not masked, with weight decay and momentum, over stops and goes."""
    for step in range(1, TOTAL + 1):
        tensors = segment(tmp_path, kind, half_masked).at(step).tensors
        for name in ("0.weight", "5.weight"):
            mask = tensors[f"hook/mask/mask/{name}"]
            assert 0.3 < float(mask.float().mean()) < 0.7
            buffers = [key for key in tensors if key.startswith(f"optimizer/{name}/") and not key.endswith("/step")]
            assert buffers or step == TOTAL
            for key in (f"model/{name}", *buffers):
                assert bool((tensors[key][mask] != 0).any())
                assert bool((tensors[key][~mask] == 0).all())
    assert differing(tensors, segment(None, kind, half_masked).end().tensors) == []
    own = {key.removeprefix("hook/mask/"): value for key, value in tensors.items() if key.startswith("hook/mask/")}
    assert len(masks_of(own, ["0.weight", "5.weight"])) == 2


@pytest.mark.usefixtures("every_step")
def test_a_loss_that_is_no_number_is_raised_and_its_state_not_stored(tmp_path: Path) -> None:
    def poison(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Hook]:
        def before_step(step: int) -> None:
            if step == 5:
                with torch.no_grad():
                    model.get_parameter("5.weight").fill_(float("nan"))

        return [Hook("poison", before_step=before_step)]

    with pytest.raises(TrainingError):
        segment(tmp_path, hooks=poison).end()
    assert stored(tmp_path) == [5]
    state = read_state(state_folder(vertex(tmp_path), 5))
    assert state is not None
    assert all(bool(torch.isfinite(value).all()) for key, value in state.tensors.items() if "model" in key)


def test_a_stretch_of_no_steps_is_its_beginning(tmp_path: Path) -> None:
    one = segment(tmp_path, total=0)
    assert differing(one.end().tensors, dict(one.begin())) == []
    assert one.store.steps.trained == 0


def test_progress_and_stage_are_told(tmp_path: Path) -> None:
    told: list[Any] = []
    one = segment(tmp_path, asked=(10,))
    one.store.stage = lambda name, total: told.append((name, total))
    one.store.progress = lambda step, total, loss: told.append(step)
    one.end()
    one.end()
    assert told == [("a stretch", TOTAL), *range(1, TOTAL + 1)]
