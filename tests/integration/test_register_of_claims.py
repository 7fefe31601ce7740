"""The register of claims is there for as long as the cluster is, whoever made it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prune_search.search.ray import claims

OTHER = "a-register-of-its-own"


def test_a_register_that_a_trial_made_does_not_end_with_it(trouble: Path, monkeypatch: Any) -> None:
    """Ray Tune runs each trial in a placement group, which takes what the trial makes along when it goes."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @ray.remote(num_cpus=1)
    def trial(name: str) -> bool:
        from prune_search.search.ray import claims

        claims.ACTOR = name
        ray.get(claims.cluster_register().renew.remote("nobody"))
        return True

    group = placement_group([{"CPU": 1}])
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    assert ray.get(trial.options(scheduling_strategy=strategy).remote(OTHER), timeout=120)
    remove_placement_group(group)
    monkeypatch.setattr(claims, "ACTOR", OTHER)
    register = claims.cluster_register()
    try:
        # It would be gone within a moment.
        for _ in range(10):
            ray.get(register.renew.remote("nobody"), timeout=30)
            time.sleep(0.1)
    finally:
        ray.kill(register)
