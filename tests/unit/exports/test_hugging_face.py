"""Folders that transformers opens alone: narrower where the configuration can say so, else whole, and told why."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from mixtures import mixtral
from torch import Tensor, nn

import prune_search
from prune_search.compact.as_called import AsCalled
from prune_search.compact.config_sizes import InexpressibleError
from prune_search.compact.file_names import HUGGING_FACE_FOLDER
from prune_search.compact.from_graph import smaller
from prune_search.exports.hugging_face import Compact, class_of, narrower, opened, save, tokenizer_of
from prune_search.exports.onnx_file import fixed_length, write_onnx
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.tasks.batches import adapted

pytestmark = pytest.mark.slow
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 32}
# Per architecture: its class, its configuration, and the names of its blocks' hidden layers.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**SIZES, "num_key_value_heads": 2, "vocab_size": 31}),
    "gpt2": ("GPT2LMHeadModel", {**GPT2, "vocab_size": 31}),
    "bert": ("BertForSequenceClassification", {**SIZES, "vocab_size": 31, "num_labels": 3}),
    "vit": ("ViTForImageClassification", {**SIZES, "image_size": 16, "patch_size": 8, "num_labels": 3}),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    import transformers

    torch.manual_seed(0)
    auto, values = KINDS[name]
    model: nn.Module = getattr(transformers, auto)(transformers.AutoConfig.for_model(name, **values, use_cache=False))
    return model.eval(), torch.randn(2, 3, 16, 16) if name == "vit" else torch.randint(31, (2, 9))


def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(inputs).logits
    return found


def sliced(model: nn.Module, rows: dict[str, int], columns: dict[str, int]) -> nn.Module:
    """A network by hand: the first outputs and inputs alone of layers whose names end so."""
    small = copy.deepcopy(model)
    for name, layer in small.named_modules():
        for ends, dim in ((rows, 0), (columns, 1)):
            for end, size in ends.items():
                if name.endswith(end):
                    turned = type(layer).__name__ == "Conv1D"
                    weight: Any = layer.weight
                    layer.weight = nn.Parameter(weight.detach().narrow(1 - dim if turned else dim, 0, size).clone())
                    if dim == 0 and layer.bias is not None:
                        layer.bias = nn.Parameter(layer.bias.detach()[:size].clone())
                    if turned and dim == 0:
                        layer.nf = size
    return small


def by_hand(model: nn.Module, small: nn.Module, inputs: Tensor) -> dict[str, tuple[int, int]]:
    """What is other in the configuration of a compact network, which is compared with the one that was cut by hand."""
    kind = class_of(model)
    assert kind is not None
    network, changed = narrower(kind, model, Compact(small.state_dict(), frozenset(), small), inputs)
    assert torch.allclose(logits(network, inputs), logits(small, inputs), atol=1e-5)
    return dict(changed)


def test_neurons_and_heads_of_a_llama() -> None:
    model, inputs = made("llama")
    neurons = sliced(model, {"gate_proj": 10, "up_proj": 10}, {"down_proj": 10})
    assert by_hand(model, neurons, inputs) == {"intermediate_size": (24, 10)}
    # The first key with its group of two queries.
    heads = sliced(neurons, {"q_proj": 16, "k_proj": 8, "v_proj": 8}, {"o_proj": 16})
    changed = by_hand(model, heads, inputs)
    assert changed == {
        "intermediate_size": (24, 10),
        "num_attention_heads": (4, 2),
        "num_key_value_heads": (2, 1),
    }


def test_a_width_whose_norms_go_on_counting_what_was_cut_out() -> None:
    model, inputs = made("llama")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # The last places of the residual stream: outputs of what writes it, inputs of what reads it.
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight[20:] = 0
            elif "norm" not in name:
                weight[:, 20:] = 0
    whole = copy.deepcopy(model)
    ends = ("o_proj.weight", "down_proj.weight", "norm.weight", "layernorm.weight")
    state = {
        name: one.narrow(0 if name.endswith(ends) else 1, 0, 20).clone() for name, one in model.state_dict().items()
    }
    kind = class_of(model)
    assert kind is not None
    network, changed = narrower(kind, model, Compact(state, frozenset(), whole), inputs)
    assert changed == {"hidden_size": (32, 20)}
    assert torch.allclose(logits(network, inputs), logits(model, inputs), atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "vit"])
def test_blocks(name: str) -> None:
    model, inputs = made(name)
    kind = class_of(model)
    assert kind is not None
    small = copy.deepcopy(model)
    lists = [one for one in small.modules() if isinstance(one, nn.ModuleList) and len(one) == 3]
    (blocks,) = lists
    prefix = next(f"{name}." for name, module in small.named_modules() if module is blocks)
    del blocks[1]
    # Under the names that the tensors have in the whole network.
    back = {f"{prefix}1.": f"{prefix}2."}
    state = {}
    for own, tensor in small.state_dict().items():
        old = next((new for start, new in back.items() if own.startswith(start)), None)
        state[own if old is None else old + own[len(prefix) + 2 :]] = tensor
    network, changed = narrower(kind, model, Compact(state, frozenset(), small), inputs)
    assert list(changed.values()) == [(3, 2)]
    assert torch.allclose(logits(network, inputs), logits(small, inputs), atol=1e-5)


def test_hidden_layers_of_gpt2_whose_size_its_configuration_leaves_out() -> None:
    model, inputs = made("gpt2")
    small = sliced(model, {"c_fc": 40}, {"mlp.c_proj": 40})
    assert by_hand(model, small, inputs) == {"n_inner": (128, 40)}


def test_what_the_configuration_cannot_say_is_told() -> None:
    model, inputs = made("llama")
    uneven = sliced(model, {"1.mlp.gate_proj": 10, "1.mlp.up_proj": 10}, {"1.mlp.down_proj": 10})
    with pytest.raises(InexpressibleError, match=r"blocks differ in width \(24 in .*, 10 in .*layers.1"):
        by_hand(model, uneven, inputs)


# Per architecture, what makes the hidden units of a block.
HIDDEN = {"llama": ("gate_proj", "up_proj"), "gpt2": ("c_fc",), "bert": ("intermediate.dense",), "vit": ("fc1",)}


def masked(name: str, sizes: tuple[int, int, int]) -> tuple[nn.Module, Tensor]:
    """A network whose three blocks have so many hidden units left."""
    model, inputs = made(name)
    for path, layer in model.named_modules():
        if path.endswith(HIDDEN[name]):
            size = sizes[int(next(part for part in path.split(".") if part.isdigit()))]
            with torch.no_grad():
                weight: Any = layer.weight
                (weight.t() if name == "gpt2" else weight)[size:] = 0
                if layer.bias is not None:
                    layer.bias[size:] = 0
    return model, inputs


OPEN = """
import sys, torch, transformers
sys.modules["prune_search"] = None
network = getattr(transformers, sys.argv[1]).from_pretrained(sys.argv[2])
given = torch.load(sys.argv[3], weights_only=True)
with torch.no_grad():
    apart = (network(given["inputs"]).logits - given["logits"]).abs().max() / given["logits"].abs().max()
print(float(apart), sum(one.numel() for one in network.parameters()))
"""


@pytest.mark.parametrize("name", list(KINDS))
def test_transformers_opens_a_compact_network_without_this_package(name: str, tmp_path: Path) -> None:
    model, inputs = masked(name, (10, 10, 10))
    small = smaller(model, inputs)
    left = sum(parameter.numel() for parameter in small.network.parameters())
    assert left < sum(parameter.numel() for parameter in model.parameters())
    saved = save(model, small, inputs, tmp_path)
    assert saved is not None
    assert (saved.whole, saved.parameters) == ("", left)
    assert [now for _, now in saved.config.values()] == [10]
    folder = tmp_path / HUGGING_FACE_FOLDER
    assert saved.bytes == (folder / "model.safetensors").stat().st_size
    again = opened(tmp_path, saved.auto)
    assert torch.allclose(logits(again, inputs), logits(model, inputs), atol=1e-5)
    if name != "llama":
        return
    torch.save({"inputs": inputs, "logits": logits(model, inputs)}, tmp_path / "given.pt")
    words = [sys.executable, "-c", OPEN, saved.auto, str(folder), str(tmp_path / "given.pt")]
    apart, parameters = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert float(apart) <= 1e-5
    assert int(parameters) == left


@pytest.mark.parametrize(
    ("compact", "why"), [(False, "nothing could be cut out"), (True, r"differ in width \(10 in .*12 in ")]
)
def test_a_network_that_it_cannot_say_is_written_whole_with_its_zeros(compact: bool, why: str, tmp_path: Path) -> None:
    model, inputs = masked("gpt2", (10, 12, 10))
    small = smaller(model, inputs) if compact else None
    saved = save(model, small, inputs, tmp_path)
    assert saved is not None
    assert re.search(why, saved.whole)
    if small is not None:
        # The compact one is had as a program and as ONNX, both of any batch and length.
        assert (small.batch, small.length) == (None, None)
        shorter = inputs[:1, :5]
        assert torch.allclose(small.program.module()(shorter), logits(model, shorter), atol=1e-5)
        assert write_onnx(AsCalled(small).eval(), tmp_path, inputs) < 1e-5
        assert fixed_length(tmp_path) is None
    again = opened(tmp_path, saved.auto)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_the_tokenizer_that_the_data_name_goes_along(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    raw.save(str(tmp_path / "words.json"))

    def recipe(tokenizer: str) -> Recipe:
        data = {"name": "text", "files": ["book.txt"], "tokenizer": tokenizer}
        return read_space({"preset": "snip", "task": {"data": data}}, "a test").only_recipe()

    write = tokenizer_of(recipe("words.json"), tmp_path)
    assert write is not None
    (tmp_path / "huggingface").mkdir()
    write(tmp_path / "huggingface")
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "huggingface" / "tokenizer.json"))
    assert again.encode("b").ids == [1]
    assert tokenizer_of(recipe("bytes"), tmp_path) is None


def test_a_network_of_a_users_class_has_none(tmp_path: Path) -> None:
    assert save(nn.Linear(2, 2), None, torch.zeros(1, 2), tmp_path) is None
    assert class_of(nn.Identity()) is None


@pytest.mark.parametrize("graph", [False, True])
def test_a_mixture_of_experts_has_fewer_of_them_in_its_configuration(tmp_path: Path, graph: bool) -> None:
    import transformers

    model, inputs = mixtral(), torch.randint(31, (2, 9))
    pruned_experts(model, inputs, "uniform")
    small = smaller(adapted(model), inputs) if graph else None
    found = save(adapted(model), small, inputs, tmp_path)
    assert found is not None
    assert found.whole == ""
    assert dict(found.config) == {"num_local_experts": (4, 3)}
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / HUGGING_FACE_FOLDER)
    assert again.config.num_local_experts == 3
    assert torch.allclose(logits(again, inputs), logits(model, inputs), atol=1e-5)


def test_blocks_with_unequally_many_experts_are_not_written_as_if_they_were_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, inputs = mixtral(), torch.randint(31, (2, 9))
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.experts.down_proj")[0] *= 9.0
    pruned_experts(model, inputs, "global")
    assert save(adapted(model), None, inputs, tmp_path) is None
    assert "one number of experts for all blocks, which have" in caplog.text
    assert not (tmp_path / HUGGING_FACE_FOLDER).exists()


def pruned_experts(model: nn.Module, inputs: Tensor, scope: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = prune_search.find_mask(model, "l2", 0.375, scope=scope, granularity="expert", batches=[(inputs, None)])
    mask.apply(model)
