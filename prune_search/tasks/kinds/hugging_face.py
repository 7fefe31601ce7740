"""Builds networks of transformers. No code that a folder brings is run, and nothing is unpickled."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.tasks.kinds.packages import package
from prune_search.tasks.kinds.paths import few, local, looked_up, wrong
from prune_search.tasks.raised import as_user_error

KEY = "task.model"
AUTO: Mapping[str, str] = MappingProxyType(
    {
        "causal-lm": "AutoModelForCausalLM",
        "masked-lm": "AutoModelForMaskedLM",
        "sequence-classification": "AutoModelForSequenceClassification",
        "token-classification": "AutoModelForTokenClassification",
        "image-classification": "AutoModelForImageClassification",
    }
)
# How the names of architectures end.
ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        "ForCausalLM": "causal-lm",
        "LMHeadModel": "causal-lm",
        "ForMaskedLM": "masked-lm",
        "ForSequenceClassification": "sequence-classification",
        "ForTokenClassification": "token-classification",
        "ForImageClassification": "image-classification",
    }
)
LANGUAGE = ("causal-lm", "masked-lm")
_log = logging.getLogger("prune_search")


def pretrained(
    shape: tuple[int, ...],
    classes: int,
    written: str,
    root: Path | None,
    head: str | None,
    values: Mapping[str, Any],
    gguf: str | None,
) -> nn.Module:
    """A network with its trained weights; see `prune_search.tasks.models.hugging_face.pretrained_network`."""
    who = f"hf/{written}"
    transformers = package("transformers", who, KEY)
    place = local(written, root, KEY)
    prefix = "" if place is not None else looked_up(written, root)
    if place is not None and place.is_file():
        if place.suffix != ".gguf":
            raise wrong(KEY, f"{place} is a file: name the folder that it lies in, or a .gguf file")
        place, gguf = place.parent, place.name
    given: dict[str, Any] = {"local_files_only": place is not None, "trust_remote_code": False}
    if gguf is not None:
        for needed in ("gguf", "accelerate"):
            package(needed, f"{who} with gguf", f"{KEY}.gguf")
        if place is not None and not (place / gguf).is_file():
            raise wrong(f"{KEY}.gguf", f"there is no {place / gguf}{suggestion(gguf, _ggufs(place))}")
        given["gguf_file"] = gguf
    failed = f"{who} cannot be built:"
    with quiet(transformers):
        with as_user_error(f"{prefix}{failed}", KEY):
            config = transformers.AutoConfig.from_pretrained(str(place or written), **given)
        # A GGUF file holds a language model, and its configuration names no architecture.
        head = head or ("causal-lm" if gguf is not None else _head_of(config, who))
        _set(config, values, f"{KEY}.config")
        _fit(config, shape, classes, head, values, trained=True)
        auto = _auto(transformers, head, config, who)
        with as_user_error(failed, KEY):
            network, notes = auto.from_pretrained(
                str(place or written), config=config, ignore_mismatched_sizes=True, output_loading_info=True, **given
            )
    drawn = sorted({_name(key) for kind in ("missing_keys", "mismatched_keys") for key in notes.get(kind, ())})
    if drawn:
        _log.warning("%s: not among the trained weights, so drawn at random: %s", who, few(drawn))
    return _finished(network)


def random_weights(shape: tuple[int, ...], classes: int, kind: str, head: str, values: Mapping[str, Any]) -> nn.Module:
    """A network with random weights; see `prune_search.tasks.models.hugging_face.random_network`."""
    who = f"hf-config/{kind}"
    transformers = package("transformers", who, KEY)
    mapping = package("transformers.models.auto.configuration_auto", who, KEY).CONFIG_MAPPING
    if kind not in mapping:
        raise wrong(KEY, f"transformers has no type {shown(kind)}{suggestion(kind, list(mapping.keys()))}")
    failed = f"{who} cannot be built:"
    with quiet(transformers):
        with as_user_error(failed, KEY):
            config = transformers.AutoConfig.for_model(kind)
        # Read anew with the values: some follow from others.
        _check(config, values, f"{KEY}.config")
        with as_user_error(failed, KEY):
            config = transformers.AutoConfig.for_model(kind, **values)
        _fit(config, shape, classes, head, values, trained=False)
        auto = _auto(transformers, head, config, who)
        with as_user_error(failed, KEY):
            network = auto.from_config(config)
        return _finished(network)


def _finished(network: nn.Module) -> nn.Module:
    """In float32, whatever the file has, and without a cache of keys and values, which training does not read."""
    config: Any = network.config
    if getattr(config, "use_cache", None):
        config.use_cache = False
    odd = [name for name, parameter in network.named_parameters() if not parameter.is_floating_point()]
    if odd:
        raise wrong(KEY, f"its weights are quantized ({few(odd, 2)}), and cannot be trained or pruned")
    if getattr(network, "is_quantized", False):
        # From a file of quantized weights that were widened while they were read; the library would refuse float().
        network.is_quantized = False  # type: ignore[assignment]
    return network.float().train()


def _head_of(config: Any, who: str) -> str:
    names = getattr(config, "architectures", None) or []
    heads = {head for name in names for ending, head in ENDINGS.items() if str(name).endswith(ending)}
    if len(heads) == 1:
        return heads.pop()
    told = f"its configuration says {few(names)}" if names else "its configuration does not say"
    raise wrong(f"{KEY}.class", f"is missing: {told}; it must be one of {', '.join(AUTO)} for {who}")


def _auto(transformers: Any, head: str, config: Any, who: str) -> Any:
    auto = getattr(transformers, AUTO[head])
    if type(config) not in auto._model_mapping:
        fits = [name for name, cls in AUTO.items() if type(config) in getattr(transformers, cls)._model_mapping]
        text = f"{who} has no head {head}; it has {', '.join(fits) or 'none that is known here'}"
        raise wrong(f"{KEY}.class", text)
    return auto


def _check(config: Any, values: Mapping[str, Any], key: str) -> None:
    """Refuse values that the configuration does not have: the library takes any name without a word."""
    known = {name for name in (*config.to_dict(), *config.attribute_map) if not name.startswith("_")}
    problems = []
    for name in values:
        if name not in known:
            text = f"is not a value of the configuration of {config.model_type}{suggestion(name, known)}"
            problems.append(Problem(f"{key}.{name}", text))
    if problems:
        raise UserError(problems)


def _set(config: Any, values: Mapping[str, Any], key: str) -> None:
    _check(config, values, key)
    for name, value in values.items():
        setattr(config, name, value)


def _fit(
    config: Any, shape: tuple[int, ...], classes: int, head: str, values: Mapping[str, Any], trained: bool
) -> None:
    """Set the sizes of the data that the recipe's values do not set, or refuse data that do not fit."""
    if head not in LANGUAGE:
        if not {"num_labels", "id2label"} & set(values) and config.num_labels != max(1, classes or 1):
            config.num_labels = max(1, classes or 1)
    elif trained or "vocab_size" in values:
        if (classes or 0) > config.vocab_size:
            text = f"{config.model_type} has {config.vocab_size} tokens, the data {classes}: another tokenizer?"
            raise wrong(KEY if trained else f"{KEY}.config.vocab_size", text)
    elif classes:
        config.vocab_size = classes
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if name not in values and isinstance(number := getattr(config, name, None), int) and number >= classes:
                setattr(config, name, None)
    if trained:
        return
    own = set(values) | {config.attribute_map.get(name, name) for name in values}
    if len(shape) == 3 and head == "image-classification":
        channels, height, width = shape
        for name, value in (("num_channels", channels), ("image_size", height if height == width else [height, width])):
            if hasattr(config, name) and name not in own:
                setattr(config, name, value)
    positions = {"max_position_embeddings", config.attribute_map.get("max_position_embeddings", "")}
    if len(shape) == 1 and not positions & own:
        most = getattr(config, "max_position_embeddings", None)
        if isinstance(most, int) and most < shape[0]:
            config.max_position_embeddings = shape[0]


def _name(key: Any) -> str:
    """The name of a weight, which the library gives with its shapes where they differ."""
    return str(key[0] if isinstance(key, tuple | list) else key)


def _ggufs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.gguf"))


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without the library's own progress bars and notes: what has to be known is said here."""
    notes, hub = transformers.utils.logging, logging.getLogger("huggingface_hub")
    level, bar, hub_level = notes.get_verbosity(), notes.is_progress_bar_enabled(), hub.level
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        notes.set_verbosity(level)
        hub.setLevel(hub_level)
        if bar:
            notes.enable_progress_bar()
