"""lm-eval's tasks from a local folder: registered as metrics, refused where the package is missing, and really run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.recipe.axes import METRICS
from prune_search.recipe.metric_names import searchable
from prune_search.recipe.problems import UserError
from prune_search.tasks.lm_eval import by_metric, evaluated, lacks, measure
from prune_search.tasks.metrics import Measured

installed = importlib.util.find_spec("lm_eval") is not None
WORDS = ["<unk>", "the", "sky", "grass", "is", "blue", "green"]


def task_folder(folder: Path) -> Path:
    """A task of three questions with two answers each, and its data."""
    folder.mkdir()
    asked = [("the sky is", 0), ("the grass is", 1), ("sky is", 0)]
    rows = [{"question": question, "answers": ["blue", "green"], "label": label} for question, label in asked]
    data = folder / "colours.json"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "colours.yaml").write_text(
        f"task: colours\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        "output_type: multiple_choice\ntest_split: test\n"
        'doc_to_text: "{{question}}"\ndoc_to_choice: "{{answers}}"\ndoc_to_target: label\n'
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
    )
    return folder


def network(blue: float) -> nn.Module:
    """A language model whose next word is blue the surer, the larger its number."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    none = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(WORDS), **sizes, **none)).eval()
    with torch.no_grad():
        # The stream is the same number everywhere behind the last norm, so that only the rows of the head count.
        model.model.embed_tokens.weight.fill_(1.0)
        for one in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            one.weight.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[WORDS.index("blue")] = blue
    return model  # type: ignore[no-any-return]


def tokenizer(folder: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: at for at, w in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    given = {"unk_token": "<unk>", "eos_token": "<unk>", "pad_token": "<unk>", "bos_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **given).save_pretrained(str(folder))
    return folder


@pytest.fixture
def names(tmp_path: Path) -> Any:
    (tmp_path / "words").mkdir()
    found = measure(task_folder(tmp_path / "tasks"), {"colours": ["acc"]}, tmp_path / "words")
    yield found
    for name in found:
        METRICS.withdraw(name)


def test_a_search_can_name_the_metric(names: list[str]) -> None:
    assert names == ["val/lm-eval/colours/acc"]
    assert names[0] in searchable()
    assert METRICS[names[0]].facts.best == "maximize"
    assert METRICS[names[0]].facts.lacks is lacks
    # lm-eval's evaluator runs in one process.
    assert METRICS[names[0]].facts.whole


def test_a_metric_behind_several_filters_is_named_with_the_filter() -> None:
    found = {"alias": "sums", "acc,none": 0.5, "acc_stderr,none": 0.1, "exact_match_stderr,strict-match": "N/A"}
    found |= {"exact_match,strict-match": 0.25, "exact_match,flexible-extract": 0.75, "samples": 4}
    wanted = {"acc": 0.5, "exact_match,strict-match": 0.25, "exact_match,flexible-extract": 0.75, "samples": 4.0}
    assert by_metric(found) == wanted


def test_a_metric_with_a_filter_can_be_searched_for(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (name,) = measure(task_folder(tmp_path / "tasks"), {"sums": ["exact_match,strict-match"]}, tmp_path / "words")
    try:
        assert name == "val/lm-eval/sums/exact_match,strict-match"
        assert name in searchable()
    finally:
        METRICS.withdraw(name)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        measure(tmp_path / "none", {"colours": ["acc"]}, tmp_path)


@pytest.mark.skipif(installed, reason="lm-eval is installed: nothing is lacking")
def test_what_to_install_is_said_where_it_is_missing(names: list[str]) -> None:
    assert lacks() == "lm_eval (pip install 'prune-search[lm-eval]')"
    with pytest.raises(UserError, match=r"needs the package lm-eval, which is not installed: pip install"):
        METRICS[names[0]].make(Measured(load=lambda: nn.Linear(2, 2)))


@pytest.mark.slow
@pytest.mark.skipif(not installed, reason="lm-eval is not installed (extra lm-eval)")
def test_a_task_of_a_folder_is_measured(tmp_path: Path) -> None:
    folder, words = task_folder(tmp_path / "tasks"), tokenizer(tmp_path / "words")
    # Two of three answers are blue.
    assert evaluated(network(1.0), folder, "colours", words)["acc"] == pytest.approx(2 / 3)
    assert evaluated(network(-1.0), folder, "colours", words)["acc"] == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="colors"):
        evaluated(network(1.0), folder, "colors", words)
    with pytest.raises(UserError, match="needs a causal language model of transformers"):
        evaluated(nn.Linear(2, 2), folder, "colours", words)
