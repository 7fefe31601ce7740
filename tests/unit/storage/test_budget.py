"""What a stored state costs to rebuild, and which states go first."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.storage import budget as budget_module
from prune_search.storage.budget import StorageCleaner, clean, to_remove
from prune_search.storage.inventory import YOUNG_S, Inventory, StoredState, take_inventory
from prune_search.storage.manifests import Key, rests_on, state_folder
from prune_search.storage.names import vertex_folder
from prune_search.storage.states import read_state, write_state

NOW = 1_000_000.0


def address(number: int) -> str:
    return f"{number:064x}"


def stored(number: int, step: int, size: int = 10, rests: Collection[Key] = (), **more: Any) -> StoredState:
    values: dict[str, Any] = {"changed": 0.0, "valid": True, "seconds_per_step": 1.0, **more}
    return StoredState(Path("x"), address(number), step, size, rests_on=frozenset(rests), **values)


def inventory(*states: StoredState, leased: Collection[str] = ()) -> Inventory:
    return Inventory({state.key: state for state in states}, frozenset(leased), NOW)


def forest(draw: random.Random) -> Inventory:
    """Stretches that rest on earlier ones, each with states at some steps."""
    states: list[StoredState] = []
    for number in range(draw.randint(1, 7)):
        rests = {
            (address(before), draw.randint(0, 8))
            for before in draw.sample(range(number), min(number, draw.randint(0, 2)))
        }
        pace = draw.choice([0.5, 1.0, 4.0])
        for step in draw.sample(range(1, 9), draw.randint(1, 4)):
            more = {"seconds_per_step": pace, "valid": draw.random() > 0.1}
            states.append(stored(number, step, draw.randint(1, 50), rests, **more))
    return inventory(*states)


def unit_steps(taken: Inventory, key: Key, kept: Collection[Key]) -> set[Key]:
    """The steps that lead to a state, one by one: each is (address, the step after it)."""
    if key in kept and taken.states[key].valid:
        return set()
    where, step = key
    if step > 0:
        return {key} | unit_steps(taken, (where, step - 1), kept)
    rests = {place for state in taken.states.values() if state.address == where for place in state.rests_on}
    return {one for place in rests for one in unit_steps(taken, place, kept)}


def by_hand(taken: Inventory, keys: Collection[Key], kept: Collection[Key]) -> float:
    kept = set(kept) - set(keys)
    steps = {one for key in keys for one in unit_steps(taken, key, kept)}
    return sum(taken.seconds_per_step(where) for where, _ in steps)


@pytest.mark.parametrize("seed", range(60))
def test_the_cost_of_states_is_that_of_their_steps_counted_one_by_one(seed: int) -> None:
    draw = random.Random(seed)
    taken = forest(draw)
    everything = sorted(taken.states)
    kept = {key for key in everything if draw.random() < 0.6}
    for keys in ([draw.choice(everything)], draw.sample(everything, draw.randint(1, len(everything))), everything):
        assert taken.rebuilding(keys, kept) == pytest.approx(by_hand(taken, keys, kept))


@pytest.mark.parametrize("seed", range(30))
def test_each_that_goes_is_the_cheapest_per_byte_of_what_is_left(seed: int) -> None:
    draw = random.Random(seed)
    taken = forest(draw)
    limit = draw.randint(0, taken.size)
    kept, size = dict(taken.states), taken.size
    going = to_remove(taken, limit)
    for state in going:
        assert size > limit or not state.valid

        def price(key: Key, kept: dict[Key, StoredState] = kept) -> float:
            found = taken.states[key]
            return by_hand(taken, [key], kept) / found.size if found.valid else -1.0

        assert price(state.key) == pytest.approx(min(price(key) for key in kept))
        del kept[state.key]
        size -= state.size
    assert size <= limit


def test_a_state_that_rests_on_a_removed_one_becomes_dearer() -> None:
    first, second = stored(1, 100, size=100), stored(2, 10, size=10, rests=[(address(1), 100)])
    taken = inventory(first, second)
    both = set(taken.states)
    assert taken.rebuilding([second.key], both) == 10
    assert taken.rebuilding([second.key], {second.key}) == 110
    # One second per byte each, at first; once the first is gone, the second is the dearer.
    assert to_remove(taken, 10) == [first]


def test_a_cycle_that_somebody_wrote_ends() -> None:
    one, other = stored(1, 5, rests=[(address(2), 5)]), stored(2, 5, rests=[(address(1), 5)])
    assert inventory(one, other).rebuilding([one.key, other.key], ()) == 10


def test_what_is_in_use_never_goes() -> None:
    young = stored(1, 5, changed=NOW - YOUNG_S + 1)
    leased = stored(2, 5)
    below = stored(3, 4)
    rests = stored(4, 5, changed=NOW, rests=[(address(3), 5)])
    free = stored(5, 5)
    taken = inventory(young, leased, below, rests, free, leased=[address(2)])
    assert taken.in_use() == {young.key, leased.key, below.key, rests.key}
    assert to_remove(taken, 0) == [free]


def test_an_unmeasured_pace_is_the_median_of_the_others() -> None:
    taken = inventory(stored(1, 5, seconds_per_step=3.0), stored(2, 5, seconds_per_step=None))
    assert taken.rebuilding([(address(2), 5)], ()) == 15


@pytest.mark.parametrize(
    "written",
    [None, 5, "x", [["short", 1]], [[address(1)]], [[address(1), -1]], [[address(1), True]], [[1, 2]], [5], [[]] * 99],
)
def test_what_a_manifest_cannot_mean_is_nothing(written: Any) -> None:
    assert rests_on({"rests_on": written}) == set()


def put(storage: Path, number: int, step: int, age: float = 2 * YOUNG_S, **meta: Any) -> Path:
    """A state on disk that was stored a while ago."""
    folder = state_folder(vertex_folder(storage, address(number)), step)
    assert isinstance(folder, Path)
    write_state(folder, {"weight": torch.zeros(100)}, {"step": step, "seconds_per_step": 1.0, **meta})
    for path in folder.iterdir():
        os.utime(path, (time.time() - age,) * 2)
    return folder


def test_a_storage_is_cleaned_down_to_its_budget(tmp_path: Path) -> None:
    cheap, dear = put(tmp_path, 1, 5), put(tmp_path, 2, 500)
    young = put(tmp_path, 3, 5, age=0)
    size = take_inventory(tmp_path).size
    each = size // 3
    assert clean(tmp_path, size) == budget_module.Freed(0, 0, 0)
    assert clean(tmp_path, size - 1).states == 1
    assert not cheap.exists()
    assert read_state(dear) is not None
    freed = clean(tmp_path, 0)
    assert (freed.states, abs(freed.size - each) < 10) == (1, True)
    assert read_state(young) is not None
    assert sorted(path.name for path in (tmp_path / "vertices").rglob("*") if path.name.startswith(".tmp")) == []


def test_what_is_broken_or_left_behind_goes_without_a_budget(tmp_path: Path) -> None:
    good, bad = put(tmp_path, 1, 5), put(tmp_path, 1, 6)
    (bad / "manifest.json").write_bytes(b"{}")
    os.utime(bad / "manifest.json", (0, 0))
    left = good.parent / f".tmp-999999999-{'0' * 16}"
    left.mkdir()
    os.utime(left, (0, 0))
    freed = clean(tmp_path, None)
    assert (freed.states, freed.leftovers) == (1, 1)
    assert read_state(good) is not None
    assert not bad.exists()
    assert not left.exists()


def test_a_leased_stretch_is_left_alone(tmp_path: Path) -> None:
    leased, stale = put(tmp_path, 1, 5), put(tmp_path, 2, 5)
    for folder, age in ((leased, 5.0), (stale, 120.0)):
        (folder.parent / "lease.json").write_text(json.dumps({"holder": "x", "time": time.time() - age}))
    assert clean(tmp_path, 0).states == 1
    assert read_state(leased) is not None
    assert not stale.exists()


@pytest.mark.security
def test_links_are_not_followed(tmp_path: Path) -> None:
    outside, storage = tmp_path / "outside", tmp_path / "storage"
    target = put(outside, 1, 5)
    vertex = storage / "vertices" / "00" / address(1)
    vertex.mkdir(parents=True)
    (vertex / "step-000000005").symlink_to(target)
    (storage / "vertices" / "11").symlink_to(outside / "vertices" / "00")
    inside = put(storage, 2, 5)
    (inside / "manifest.json").unlink()
    (inside / "manifest.json").symlink_to(target / "manifest.json")
    os.utime(inside / "state.safetensors", (0, 0))
    assert set(take_inventory(storage).states) == {(address(2), 5)}
    assert clean(storage, 0).states == 1
    assert read_state(target) is not None


def test_a_warden_holds_a_budget_and_looks_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(tmp_path, 1, 5)
    StorageCleaner(tmp_path, None).trial_ended()
    StorageCleaner(tmp_path, None).finish()
    assert read_state(folder) is not None
    cleaner = StorageCleaner(tmp_path, 0)
    cleaner.trial_ended()
    assert cleaner._thread is not None
    cleaner._thread.join()
    assert not folder.exists()
    again = put(tmp_path, 1, 5)
    cleaner.trial_ended()
    cleaner._thread.join()
    assert read_state(again) is not None
    cleaner.finish()
    assert not again.exists()


def test_states_carry_what_is_needed(tmp_path: Path) -> None:
    put(tmp_path, 1, 5, rests_on=[[address(7), 3]], stretch="retrain")
    (state,) = take_inventory(tmp_path).states.values()
    assert replace(state, folder=Path("x"), changed=0.0) == stored(
        1, 5, state.size, [(address(7), 3)], name="retrain", changed=0.0
    )
