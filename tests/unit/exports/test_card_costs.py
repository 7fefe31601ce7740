"""What a model card says of size and speed: faster only where it was measured so."""

from __future__ import annotations

from typing import Any

from prune_search.exports.card_costs import size_and_speed, verdict


def bar(median: float, noise: float = 0.1) -> dict[str, float]:
    return {"median": median, "low": median - noise, "high": median + noise}


def costs(**more: Any) -> dict[str, Any]:
    taken = {"batch": 1, "device": "a cpu", "threads": 1, "dense": bar(2.0), "masked": bar(2.0), "compact": bar(1.0)}
    kinds = ("parameters", "flops", "bytes")
    sizes = {f"{name} {kind}": 1000.0 for name in ("dense", "compact") for kind in kinds}
    sizes |= {"nonzero": 100.0, "sparse flops": 200.0, "packed bytes": 1234.0}
    return {"sizes": sizes, "described": True, "outputs_apart": 1e-7, "latency_ms": [taken], **more}


def test_the_tables_have_every_size_and_the_sentence_what_was_compared() -> None:
    text = size_and_speed(costs())
    assert "| parameters | 1,000 | 100 | 1,000 |" in text
    assert "| on disk | 1 kB | 1.23 kB | 1 kB |" in text
    assert "within 1e-07 of the masked network's" in text
    assert "the outputs of the compact network are those of the masked network." in size_and_speed(
        costs(outputs_apart=0.0)
    )
    assert "Batch 1 on a cpu, 1 thread(s): dense 2 [1.9, 2.1] ms" in text
    assert "The compact network is 2.00 times as fast as the dense one." in text
    assert "The masked network was not measured faster." in text


def test_without_a_compact_network_the_reason_is_told() -> None:
    text = size_and_speed(costs(described="its forward branches"))
    assert "There is no compact network: its forward branches." in text


def test_a_network_that_only_lost_its_experts_is_a_compact_network() -> None:
    text = size_and_speed(costs(described="its forward branches", experts={"1.experts": [2, 5]}))
    assert "There is no compact network" not in text
    assert "without the experts that were removed; nothing else was cut out: its forward branches." in text
    # None could be cut out.
    text = size_and_speed(costs(described="its forward branches", experts={}))
    assert "There is no compact network: its forward branches." in text


def test_within_the_noise_nothing_is_faster() -> None:
    taken = {"dense": bar(2.0, 0.5), "masked": bar(1.6, 0.1), "compact": bar(1.3, 0.1)}
    assert verdict(taken) == (
        "The masked network was not measured faster. The compact network is 1.54 times as fast as the dense one."
    )
