"""What stands for examples and functions in keys."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from made_tasks import Counted, Labelled, Pairs
from torch.utils.data import Dataset, default_collate

from prune_search.tasks.examples import Held, Listed
from prune_search.tasks.streams import Streamed
from prune_search.tasks.task_digest import code_digest, examples_digest


class Files(Dataset[Any]):
    """Pairs of a path and a class, as torchvision's folders list them."""

    def __init__(self, folder: Path, labels: tuple[int, ...] = (0, 1, 0)) -> None:
        self.samples = [(str(path), label) for path, label in zip(sorted(folder.iterdir()), labels, strict=True)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("no example is read for a digest of files")


def digest(dataset: Any, given: str | None = None, **more: Any) -> str:
    return examples_digest(Listed(dataset, default_collate, **more), given)[0]


def test_every_byte_of_arrays_counts_and_so_do_names_and_shapes() -> None:
    content = {"a": torch.arange(6.0).view(3, 2), "labels": torch.arange(3)}
    variants = [
        content,
        {"b": content["a"], "labels": content["labels"]},
        {"a": content["a"].view(3, 1, 2), "labels": content["labels"]},
        {"a": content["a"].double(), "labels": content["labels"]},
        {"a": -content["a"], "labels": content["labels"]},
        tuple(content.values()),
    ]
    digests = {examples_digest(Held(one), None)[0] for one in variants}
    assert len(digests) == len(variants)
    turned = {"labels": content["labels"], "a": content["a"].t().contiguous().t()}
    assert examples_digest(Held(turned), None)[0] == examples_digest(Held(content), None)[0]


def test_some_of_arrays_have_the_digest_of_the_same_arrays_elsewhere() -> None:
    content = {"a": torch.randn(30, 3, 2), "labels": torch.arange(30)}
    rows = torch.tensor([5, 29, 0, 7])
    copied = Held({name: tensor[rows].clone() for name, tensor in content.items()})
    assert examples_digest(Held(content).chosen(rows), None) == examples_digest(copied, None)
    # A digest that somebody gives is of all examples: which ones belong to the split counts beside it.
    held = [Held(content).chosen(rows), Held(content).chosen(rows[:3]), Held(content)]
    assert len({examples_digest(one, "v1")[0] for one in held}) == 3


def test_examples_are_sampled_with_what_they_draw_and_it_is_said() -> None:
    assert digest(Labelled(30, 0)) == digest(Labelled(30, 0), workers=3)
    assert len({digest(Labelled(30, 0)), digest(Labelled(30, 1)), digest(Labelled(31, 0)), digest(Pairs(30, 0))}) == 4
    assert digest(Labelled(30, 0), indices=[1, 2]) != digest(Labelled(30, 0), indices=[2, 1])
    many = Labelled(600, 0)
    before = digest(many)
    assert examples_digest(Listed(many, default_collate), None)[1] == "256 of 600 examples, at even distances"
    for index, counts in ((0, True), (599, True), (1, False)):
        kept = many.inputs[index].clone()
        many.inputs[index] += 1
        assert (digest(many) != before) is counts
        many.inputs[index] = kept


def test_files_are_known_by_relative_names_sizes_classes_and_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b", "c"):
            (tmp_path / folder / name).write_bytes(b"x" * 9000)
    first = digest(Files(tmp_path / "one"))
    assert digest(Files(tmp_path / "two")) == first
    said = examples_digest(Listed(Files(tmp_path / "one"), default_collate), None)[1]
    assert said == "names and sizes of 3 files, bytes of some"
    assert digest(Files(tmp_path / "two", (0, 1, 1))) != first
    (tmp_path / "two" / "c").write_bytes(b"x" * 8999 + b"y")
    assert digest(Files(tmp_path / "two")) != first
    (tmp_path / "two" / "c").rename(tmp_path / "two" / "d")
    assert digest(Files(tmp_path / "two")) != first


def test_a_fingerprint_or_a_given_digest_stands_for_all() -> None:
    data = Labelled(9, 0)
    data._fingerprint = "f00"  # type: ignore[attr-defined]
    other = Labelled(9, 1)
    other._fingerprint = "f00"  # type: ignore[attr-defined]
    assert digest(data) == digest(other)
    assert digest(data, indices=[1]) != digest(data)
    assert digest(Labelled(9, 0), "v1") == digest(Labelled(9, 1), "v1") != digest(Labelled(9, 0), "v2")
    assert digest(Labelled(9, 0), "v1", indices=[1]) != digest(Labelled(9, 0), "v1")


def test_a_stream_is_known_by_its_settings_and_that_is_said() -> None:
    found = [examples_digest(Streamed(Counted(9, seed), default_collate), None) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert "set Task.digest" in found[0][1]


def test_functions_are_known_by_their_text_and_what_they_carry() -> None:
    def loss(outputs: Any, batch: Any, weight: float = 1.0) -> Any:
        return outputs

    first = code_digest({"loss": functools.partial(loss, weight=1.0)})
    assert first == code_digest({"loss": functools.partial(loss, weight=1.0), "forward": None})
    assert first != code_digest({"loss": functools.partial(loss, weight=2.0)})
    assert code_digest({"loss": "mse"}) != code_digest({"loss": "l1"})
