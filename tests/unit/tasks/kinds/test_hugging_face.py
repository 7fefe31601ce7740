"""Networks of transformers, small and random, built from configurations and read back from folders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.recipe.axes import MODELS
from prune_search.recipe.fields import Value
from prune_search.recipe.named import Named
from prune_search.recipe.problems import UserError
from prune_search.recipe.reading import Reading

pytestmark = pytest.mark.slow  # the library takes seconds to be imported
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 11, "n_positions": 32}
Make = Callable[..., Any]


@pytest.fixture
def make() -> Make:
    """The network that a recipe's ``task.model`` makes."""
    pytest.importorskip("transformers", reason="builds the networks")

    def build(name: str, shape: tuple[int, ...], classes: int, root: Path | None = None, **options: Any) -> Any:
        reading = Reading()
        written = Value(MODELS).read({"name": name, **options}, "task.model", reading)
        if reading.problems:
            raise UserError(reading.problems)
        named = Named.of(MODELS, written)
        entry = named.entry(MODELS)
        given = {"root": root} if entry.facts.rooted else {}
        return entry.make(shape, classes, **given, **named.options)

    return build


@pytest.fixture
def gpt(make: Make, tmp_path: Path) -> Path:
    """tmp_path with the folder ``gpt``: a language model of 11 tokens in half precision."""
    model = make("hf-config/gpt2", (8,), 11, **{"class": "causal-lm", "config": GPT})
    model.half().save_pretrained(str(tmp_path / "gpt"))
    return tmp_path


def test_sizes_that_a_configuration_leaves_out_are_those_of_the_data(make: Make) -> None:
    tokens = torch.randint(0, 5, (2, 8))
    for head, shape in (
        ("sequence-classification", (2, 5)),
        ("token-classification", (2, 8, 5)),
        ("masked-lm", (2, 8, 5)),
        ("causal-lm", (2, 8, 5)),
    ):
        config = {**SMALL, "is_decoder": head == "causal-lm"}
        model = make("hf-config/bert", (8,), 5, **{"class": head, "config": config})
        assert isinstance(model, nn.Module)
        assert model.training
        assert model(tokens).logits.shape == shape
    config = {**SMALL, "patch_size": 8}
    vit = make("hf-config/vit", (1, 16, 16), 5, **{"class": "image-classification", "config": config})
    assert vit(torch.randn(2, 1, 16, 16)).logits.shape == (2, 5)
    # Longer texts than the type's usual limit have a position each, and its tokens for begin and end are left out.
    config = {"n_embd": 8, "n_layer": 1, "n_head": 1}
    gpt2 = make("hf-config/gpt2", (1500,), 7, **{"class": "causal-lm", "config": config})
    assert (gpt2.config.max_position_embeddings, gpt2.config.vocab_size, gpt2.config.eos_token_id) == (1500, 7, None)
    assert not gpt2.config.use_cache


def test_weights_are_drawn_from_the_generator_of_torch(make: Make) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(make("hf-config/gpt2", (8,), 11, **{"class": "causal-lm", "config": GPT}).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_folder_gives_its_weights_in_float32_and_its_own_head(make: Make, gpt: Path) -> None:
    model = make("hf/gpt", (8,), 11, gpt)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.training
    again = make(f"hf/{gpt}/gpt", (8,), 11)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), again.parameters(), strict=True))
    assert MODELS["hf/gpt"].facts.trained(config={})
    assert not MODELS["hf-config/gpt2"].facts.trained(config={})


def test_what_the_trained_weights_lack_is_drawn_and_said(
    make: Make, gpt: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"class": "sequence-classification", "config": {"pad_token_id": 0, "resid_pdrop": 0.0}}
    with caplog.at_level(logging.WARNING, "prune_search"):
        model = make("hf/gpt", (8,), 3, gpt, **options)
    assert caplog.messages == ["hf/gpt: not among the trained weights, so drawn at random: score.weight"]
    assert model(torch.randint(1, 11, (2, 8))).logits.shape == (2, 3)
    assert model.config.resid_pdrop == 0.0


def test_everything_that_does_not_fit_is_one_sentence_with_its_key(make: Make, gpt: Path) -> None:
    (gpt / "empty").mkdir()
    head = {"class": "causal-lm"}
    cases: tuple[tuple[str, tuple[int, ...], int, dict[str, Any], str], ...] = (
        (
            "hf/gpt",
            (8,),
            12,
            {},
            "task.model: gpt2 has 11 tokens, the data 12: another tokenizer",
        ),
        ("hf/gpt", (8,), 11, {"class": "image-classification"}, "task.model.class: hf/gpt has no head image-classif"),
        ("hf/gpt", (8,), 11, {"config": {"n_heads": 4}}, "task.model.config.n_heads: is not a value .* 'n_head'"),
        ("hf/gpt", (8,), 11, {"config": {"_name_or_path": "x"}}, "task.model.config._name_or_path: is not a value"),
        ("hf/gpt", (8,), 11, {"config": {"trust_remote_code": True}}, "task.model.config.trust_remote_code: is not"),
        ("hf/empty", (8,), 11, head, "task.model: hf/empty cannot be built: "),
        ("hf/gpt/config.json", (8,), 11, head, "config.json is a file: name the folder that it lies in, or a .gguf"),
        ("hf/gpt", (8,), 11, {"gguf": "no.gguf"}, "task.model.gguf: (there is no|.*which is not installed)"),
        ("hf/./none", (8,), 11, head, "task.model: there is no .*none"),
        ("hf/gpt", (8,), 11, {"class": "causal"}, "task.model.class: 'causal' is not one of .* did you mean|causal-lm"),
        ("hf-config/bret", (8,), 11, head, "task.model: transformers has no type 'bret' .did you mean 'bert'"),
        ("hf-config/bert", (8,), 11, {}, "task.model.class: is missing"),
        ("hf-config/vit", (8,), 11, head, "task.model.class: hf-config/vit has no head causal-lm; it has image-class"),
        ("hf-config/bert", (8,), 11, {**head, "config": {"hidden": 3}}, "task.model.config.hidden: is not a value"),
        ("hf-config/bert", (8,), 11, {**head, "config": {"hidden_size": 17}}, "hf-config/bert cannot be built: "),
        (
            "hf-config/gpt2",
            (8,),
            12,
            {**head, "config": GPT},
            "task.model.config.vocab_size: gpt2 has 11 tokens, the",
        ),
    )
    for name, shape, classes, options, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            make(name, shape, classes, gpt, **options)
        assert all("\n" not in str(problem) for problem in caught.value.problems)


def test_a_folder_that_brings_code_does_not_run_it(make: Make, gpt: Path, tmp_path: Path) -> None:
    config = gpt / "gpt/config.json"
    config.write_text(
        config.read_text().replace('"gpt2"', '"my-own"').replace("{", '{"auto_map": {"AutoConfig": "own.Own"},', 1)
    )
    (gpt / "gpt/own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match=r"hf/gpt cannot be built"):
        make("hf/gpt", (8,), 11, gpt, **{"class": "causal-lm"})
    assert not (tmp_path / "ran").exists()
