"""The data set hf-dataset, from the recipe to examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from prune_search.recipe.problems import UserError
from prune_search.tasks.task import Task

pytestmark = pytest.mark.slow  # the library takes seconds to be imported
Made = Callable[..., Task]
ROWS = 20
WORDS = {"[UNK]": 0, "the": 1, "cat": 2, "sat": 3, "[EOS]": 4, "[PAD]": 5}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data set ``rows`` and the tokenizer ``words``."""
    datasets = pytest.importorskip("datasets", reason="Hugging Face's data sets")
    tokenizers = pytest.importorskip("tokenizers", reason="Hugging Face's tokenizers")
    pytest.importorskip("transformers", reason="reads tokenizers from folders")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (tmp_path / "words").mkdir()
    library.save(str(tmp_path / "words/tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[EOS]", "pad_token": "[PAD]"}
    (tmp_path / "words/tokenizer_config.json").write_text(json.dumps(settings))
    classes, lists = datasets.ClassLabel(names=["no", "yes"]), datasets.Sequence
    columns: dict[str, tuple[Any, list[Any]]] = {
        "text": (datasets.Value("string"), ["the cat sat"] * ROWS),
        "other": (datasets.Value("string"), ["cat"] * ROWS),
        "label": (classes, [n % 2 for n in range(ROWS)]),
        "words": (lists(datasets.Value("string")), [["the", "cat"]] * ROWS),
        "tags": (lists(classes), [[0, 1]] * ROWS),
        "vector": (lists(datasets.Value("float32")), [[float(n), 1.0] for n in range(ROWS)]),
        "size": (datasets.Value("float64"), [n / 7 for n in range(ROWS)]),
    }
    features = datasets.Features({name: feature for name, (feature, _) in columns.items()})
    rows = datasets.Dataset.from_dict({name: values for name, (_, values) in columns.items()}, features=features)
    rows.save_to_disk(str(tmp_path / "rows"))
    datasets.DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "two"))
    return tmp_path


def test_text_becomes_what_the_tokenizer_makes_and_labels(made: Made, root: Path) -> None:
    task = made(root, "hf-dataset/rows", columns={"inputs": "text", "target": "label"}, tokenizer="words", length=5)
    assert (task.classes, task.loss, task.metrics, task.workers) == (2, "cross-entropy", ("accuracy",), 0)
    assert (len(task.train), len(task.validation), task.test) == (18, 2, None)
    assert sorted(int(task.validation[index]["labels"]) for index in range(2)) == [0, 1]
    batch = next(iter(DataLoader(task.train, 4)))
    assert batch["input_ids"].tolist() == [[1, 2, 3, 5, 5]] * 4
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0]] * 4
    pair = {"inputs": ["text", "other"], "target": "label"}
    task = made(root, "hf-dataset/rows", columns=pair, tokenizer="words", length=6)
    assert task.train[0]["input_ids"].tolist() == [1, 2, 3, 2, 5, 5]
    each = {"inputs": "words", "target": "tags"}
    task = made(root, "hf-dataset/rows", columns=each, tokenizer="words", length=4)
    assert task.train[0]["labels"].tolist() == [0, 1, -100, -100]


def test_text_without_a_target_is_predicted_from_itself_whole_or_as_a_stream(made: Made, root: Path) -> None:
    whole = made(root, "hf-dataset/two", columns={"inputs": "text"}, tokenizer="words", length=6)
    assert (whole.classes, whole.loss, whole.metrics) == (6, "causal-language-model", ("perplexity",))
    inputs, targets = whole.train
    assert inputs[:2].tolist() == [[1, 2, 3, 4, 1, 2], [3, 4, 1, 2, 3, 4]]
    assert torch.equal(inputs, targets)
    stream = made(root, "hf-dataset/two", columns={"inputs": "text"}, tokenizer="words", length=6, streaming=True)
    assert torch.equal(torch.stack([block for block, _ in stream.train]), inputs)
    # The real library goes on where it was, as the stream of the other tests does.
    items = iter(stream.train)
    begun = [next(items)[0] for _ in range(5)]
    again = made(root, "hf-dataset/two", columns={"inputs": "text"}, tokenizer="words", length=6, streaming=True)
    again.train.load_state_dict(stream.train.state_dict())
    assert torch.equal(torch.stack([*begun, *(block for block, _ in again.train)]), inputs)
    again.train.set_epoch(1)
    assert torch.equal(torch.stack([block for block, _ in again.train]), inputs)


def test_numbers_have_the_loss_of_their_target_and_keys_what_they_depend_on(made: Made, root: Path) -> None:
    task = made(root, "hf-dataset/rows", columns={"inputs": "vector", "target": "size"})
    assert (task.classes, task.loss, task.metrics) == (1, "mse", ("rmse", "r2"))
    other = made(root, "hf-dataset/rows", columns={"inputs": "vector", "target": "label"})
    assert (other.train[0][0].tolist(), other.loss) == ([0.0, 1.0], "cross-entropy")
    same = made(root, "hf-dataset/rows", columns={"inputs": ["vector"], "target": "label"}, workers=3)
    assert same.digest == other.digest != task.digest


def test_what_does_not_go_together_is_said(made: Made, root: Path) -> None:
    for columns, more, message in (
        ({"inputs": "text", "target": "label"}, {}, "task.data.tokenizer: is missing: 'text' holds text"),
        ({"inputs": ["text", "vector"], "target": "label"}, {}, "inputs of array, text cannot go together"),
        ({"inputs": "vector"}, {}, "without a target the inputs must be one column of text"),
        ({"inputs": "words", "target": "label"}, {"tokenizer": "words"}, "lists of words go with lists of classes"),
        ({"inputs": "vector", "target": "label"}, {"split": 0.01}, "task.data.split: 0.01 of 20 rows cannot be held"),
        (
            {"inputs": "text"},
            {"tokenizer": "words", "length": 500},
            "task.data.length: the train text .* one block",
        ),
        ({}, {}, "task.data.columns.inputs: is missing"),
    ):
        with pytest.raises(UserError, match=message):
            made(root, "hf-dataset/rows", columns=columns, **more)
