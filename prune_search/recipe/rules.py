"""Rules for which values can be combined; invalid combinations are refused in one sentence, before training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.facts import Criterion, DynamicsFacts, Scope, Transform
from prune_search.recipe.fields import Value
from prune_search.recipe.metric_names import measured_on, wrong_metric
from prune_search.recipe.problems import Problem, shown
from prune_search.recipe.reading import BAD, UnreadableError
from prune_search.recipe.registry import Axis, Declared, Entry, Made
from prune_search.recipe.step import Step
from prune_search.recipe.training_options import DENSE, OFF

Blocks = Mapping[str, Any]
GoesWithSome = Entry[Criterion | Scope | Transform | DynamicsFacts, object]


def entry_of(axis: Axis[Declared, Made], written: Any) -> Entry[Declared, Made]:
    """The entry that a canonical value names."""
    return axis[written if isinstance(written, str) else written["name"]]


def _options(written: Any) -> Mapping[str, Any]:
    return {} if isinstance(written, str) else written


def check_rules(blocks: dict[str, Any]) -> list[Problem]:
    """Everything that is impossible about canonical blocks. Fills in a sparsity that the granularity fixes.

    BAD can stand for parts that could not be read.
    """
    problems: list[Problem] = []
    with contextlib.suppress(UnreadableError):
        mask = blocks["mask"]
        problems += _sparsity(blocks)
        blocks = {**blocks, "mask": {**mask, "sparsity": BAD}} if problems else blocks
    with contextlib.suppress(UnreadableError):
        # A granularity that could not be read may have fixed one.
        blocks = {**blocks, "mask": {"sparsity": BAD, **blocks["mask"]}}
    for rule in RULES:
        # A rule that needs a part that could not be read says nothing of it.
        with contextlib.suppress(UnreadableError):
            for problem in rule(blocks):
                problems.append(problem)
    return problems


def _no(path: str, message: str) -> Problem:
    return Problem(path, message, form=False)


def _sparsity(blocks: dict[str, Any]) -> Iterator[Problem]:
    mask = blocks["mask"]
    fixed = entry_of(axes.GRANULARITIES, mask["granularity"]).facts.fixed_sparsity
    if fixed is not None:
        only = fixed(**{k: v for k, v in _options(mask["granularity"]).items() if k != "name"})
        given = mask.setdefault("sparsity", {"final": only})
        if not isinstance(given, dict) or abs(given.get("final", -1.0) - only) > 1e-9:
            yield _no("mask.sparsity", f"is always {only:g} with this granularity; leave it out (got {shown(given)})")
        else:
            mask["sparsity"] = {"final": only}
    elif entry_of(axes.SCOPES, mask["scope"]).facts.decides:
        given = mask.setdefault("sparsity", {"by": "scope"})
        if given != {"by": "scope"}:
            scope = entry_of(axes.SCOPES, mask["scope"]).name
            yield _no("mask.sparsity", f"is determined by scope {scope}; leave it out (got {shown(given)})")
    elif "sparsity" not in mask:
        text = "is missing; it must be a number from 0 to below 1, {final: …} or {per_round: …}"
        yield Problem("mask.sparsity", text)


def _shape(blocks: Blocks) -> Iterator[Problem]:
    """Granularity and scope, each for itself and together."""
    mask = blocks["mask"]
    granularity, scope = entry_of(axes.GRANULARITIES, mask["granularity"]), entry_of(axes.SCOPES, mask["scope"])
    for path, entry, told in (("mask.granularity", granularity, ()), ("mask.scope", scope, (mask["sparsity"],))):
        check = entry.facts.check
        options = {k: v for k, v in _options(mask[path.removeprefix("mask.")]).items() if k != "name"}
        unread = any(part is BAD for part in told)
        wrong = check(*told, **options) if check is not None and not unread else ""
        if wrong:
            yield _no(path, wrong)
    if granularity.facts.fixed_sparsity is not None and not scope.facts.even:
        yield _no("mask.scope", f"must be global or uniform: {granularity.name} fixes every layer (got {scope.name!r})")
    if not scope.facts.once:
        return
    if blocks["rounds"] > 1:
        yield _no("rounds", f"must be 1 with scope {scope.name}, which measures only once (got {blocks['rounds']})")
    if blocks["retrain"] != "none" and "dynamics" in blocks["retrain"]:
        yield _no("mask.scope", f"{scope.name} measures only once and cannot be combined with retrain.dynamics")


def _rounds(blocks: Blocks) -> Iterator[Problem]:
    if blocks["rounds"] == 1:
        return
    if blocks["mask"]["at"] != "end":
        yield _no("mask.at", f"must be end with more than one round (got {shown(blocks['mask']['at'])})")


def _retrained(blocks: Blocks) -> Iterator[Problem]:
    if blocks["rounds"] > 1 and blocks["retrain"] == "none":
        text = "cannot be none with more than one round: each round finds its mask on the retrained weights"
        yield _no("retrain", text)


def _criterion(blocks: Blocks) -> Iterator[Problem]:
    mask = blocks["mask"]
    criterion = entry_of(axes.CRITERIA, mask["criterion"])
    dynamics = None if blocks["retrain"] == "none" else blocks["retrain"].get("dynamics")
    sparsity = mask["sparsity"]
    if criterion.facts.keeps_all:
        if dynamics is None and sparsity not in ({"final": 0.0}, {"per_round": 0.0}):
            yield _no(
                "mask.sparsity",
                f"must be 0 with criterion {criterion.name}, which keeps everything, unless retrain.dynamics prunes "
                f"(got {shown(sparsity)})",
            )
        if "control" in mask and dynamics is None:
            yield _no("mask.control", f"has nothing to change: criterion {criterion.name} keeps everything")
    forms = ("learned",) if sparsity == "learned" else tuple(sparsity)
    scope = entry_of(axes.SCOPES, mask["scope"])
    if "budget" in forms:
        yield from _budget(blocks)
    for form in forms:
        # A budget is met with the shares that a scope takes.
        form = "final" if form == "budget" else form
        if form not in criterion.facts.sparsity and form not in scope.facts.sparsity:
            yield _no("mask.sparsity", f"{form!r} works with neither criterion {criterion.name} nor scope {scope.name}")


def _budget(blocks: Blocks) -> Iterator[Problem]:
    """What a budget that is searched for on a mask's scores does not go with."""
    mask = blocks["mask"]
    criterion, scope = entry_of(axes.CRITERIA, mask["criterion"]), entry_of(axes.SCOPES, mask["scope"])
    path = "mask.sparsity.budget"
    if criterion.facts.trains or criterion.facts.keeps_all:
        yield _no(path, f"needs scores, and criterion {criterion.name} learns its mask or keeps everything")
    if "final" not in scope.facts.sparsity:
        yield _no(path, f"needs a scope that takes a sparsity, and {scope.name} decides it itself")
    if (order := _options(mask["scope"]).get("order", "together")) != "together":
        yield _no(path, f"needs the scores of all layers together (mask.scope.order is {order!r})")
    if blocks["rounds"] > 1:
        yield _no("rounds", f"must be 1 with a budget, which is met once (got {blocks['rounds']})")
    if blocks["retrain"] != "none" and "dynamics" in blocks["retrain"]:
        yield _no(path, "is met once and cannot be combined with retrain.dynamics")


def _learned(blocks: Blocks) -> Iterator[Problem]:
    """What a criterion that trains its scores goes with, and who learns how much is kept."""
    mask = blocks["mask"]
    criterion, scope = entry_of(axes.CRITERIA, mask["criterion"]), entry_of(axes.SCOPES, mask["scope"])
    learned, only = mask["sparsity"] == "learned", scope.facts.sparsity == ("learned",)
    if only and not learned:
        yield _no("mask.sparsity", f"must be learned with scope {scope.name} (got {shown(mask['sparsity'])})")
    if learned and only and "learned" not in criterion.facts.sparsity:
        yield _no("mask.sparsity", f"'learned' needs a criterion that learns the mask (got {criterion.name!r})")
    if learned and not only and not scope.facts.even:
        yield _no("mask.scope", f"must be learned or global with sparsity: learned (got {scope.name!r})")
    if not criterion.facts.trains:
        return
    if _options(mask["scope"]).get("order", "together") != "together":
        yield _no(
            "mask.scope.order", f"must be 'together' with criterion {criterion.name}, which learns all layers at once"
        )
    score = mask["score"]
    if score["iterations"] > 1:
        text = f"must be 1 with criterion {criterion.name}, which trains (got {score['iterations']})"
        yield _no("mask.score.iterations", text)
    if score["mode"] != "train":
        yield _no("mask.score.mode", f"must be 'train' with criterion {criterion.name}, which trains (got 'eval')")
    if scope.facts.measured or scope.facts.decides:
        yield _no(
            "mask.scope",
            f"{scope.name} measures scores, which criterion {criterion.name} has not learned at that point",
        )


def _block_order(blocks: Blocks) -> Iterator[Problem]:
    """What goes with layers that are decided block by block."""
    mask = blocks["mask"]
    if _options(mask["scope"]).get("order", "together") != "blocks":
        return
    criterion = entry_of(axes.CRITERIA, mask["criterion"])
    if criterion.facts.trains:
        return  # said already
    if criterion.facts.layerwise is None and criterion.facts.needs_data:
        able = ", ".join(sorted(name for name, entry in axes.CRITERIA.items() if entry.facts.layerwise is not None))
        text = f"'blocks' needs a criterion that scores a layer by its own inputs, or without data: {able}, magnitude"
        yield _no("mask.scope.order", f"{text} … (got {criterion.name!r})")
    granularity = entry_of(axes.GRANULARITIES, mask["granularity"])
    if granularity.facts.structured and criterion.facts.layerwise is not None:
        yield _no(
            "mask.granularity", f"must be of single weights with scope option order: blocks (got {granularity.name!r})"
        )
    if criterion.facts.layerwise is None:
        return
    if mask["score"]["iterations"] > 1:
        text = f"must be 1 with scope option order: blocks (got {mask['score']['iterations']})"
        yield _no("mask.score.iterations", text)
    if "control" in mask and not entry_of(axes.CONTROLS, mask["control"]).facts.with_dynamics:
        name = entry_of(axes.CONTROLS, mask["control"]).name
        yield _no("mask.control", f"{name} needs scores, and a search block by block keeps none")


def _granularity(blocks: Blocks) -> Iterator[Problem]:
    mask = blocks["mask"]
    granularity = entry_of(axes.GRANULARITIES, mask["granularity"]).name
    parts: list[tuple[str, GoesWithSome]] = [
        ("mask.criterion", entry_of(axes.CRITERIA, mask["criterion"])),
        ("mask.scope", entry_of(axes.SCOPES, mask["scope"])),
    ]
    for index, written in enumerate(blocks["weights"]["transform"]):
        parts.append((f"weights.transform.{index}", entry_of(axes.TRANSFORMS, written)))
    if "prepare" in mask:
        parts.append(("mask.prepare", entry_of(axes.TRANSFORMS, mask["prepare"])))
    if blocks["retrain"] != "none" and "dynamics" in blocks["retrain"]:
        parts.append(("retrain.dynamics", entry_of(axes.DYNAMICS, blocks["retrain"]["dynamics"])))
    for path, entry in parts:
        allowed = entry.facts.granularities
        if allowed is not None and granularity not in allowed:
            yield _no(path, f"{entry.name} works only with granularity {', '.join(allowed)} (got {granularity!r})")


def _places(blocks: Blocks) -> Iterator[Problem]:
    weights, mask, retrain = blocks["weights"], blocks["mask"], blocks["retrain"]
    if weights["at"] == "prepared" and "prepare" not in mask:
        yield _no("weights.at", "is 'prepared', but mask.prepare is not given")
    if "from" in blocks["train"]:
        for path, place in (("mask.at", mask["at"]), ("weights.at", weights["at"])):
            if place not in ("end", "prepared", "mask"):
                text = (
                    f"must be end with train.from, which provides only w(K), not earlier weights (got {shown(place)})"
                )
                yield _no(path, text)
    if retrain == "none":
        return
    clock = retrain.get("clock")
    if ("steps" in retrain) == ("until" in retrain):
        both = "has both steps and until: they are alternatives"
        yield _no("retrain", both if "steps" in retrain else "needs steps, or until: end")
    if "schedule" in retrain and clock is not None:
        yield _no("retrain.clock", f"works only with train's schedule, not with retrain.schedule (got {shown(clock)})")
    held = isinstance(clock, Mapping)
    if "steps" not in retrain and "until" in retrain:
        if "schedule" in retrain:
            yield _no("retrain.steps", "is required with retrain.schedule; until counts on train's clock")
        elif held:
            yield _no("retrain.steps", "is required if the rate is held; until counts on train's clock")
    on_clock = clock is not None and not held
    if isinstance(retrain.get("steps"), Mapping) and on_clock and not retrain["stretch"]:
        yield _no(
            "retrain.stretch", "must be true with same_flops_as on train's clock, which can end before these steps do"
        )
    if retrain["stretch"] and not on_clock:
        what = "retrain.schedule, which has its own steps" if clock is None else "a held rate"
        yield _no("retrain.stretch", f"cannot be combined with {what}")


def _stable(blocks: Blocks) -> Iterator[Problem]:
    """A place that is found by looking at masks on the way."""
    mask = blocks["mask"]
    if not isinstance(mask["at"], Mapping):
        return
    criterion, scope = entry_of(axes.CRITERIA, mask["criterion"]), entry_of(axes.SCOPES, mask["scope"])
    if "prepare" in mask:
        yield _no("mask.prepare", "cannot be combined with mask.at: {stable: …}, which looks at earlier masks")
    options = {key: value for key, value in _options(mask["criterion"]).items() if key != "name"}
    if criterion.facts.trains or criterion.facts.steps(mask["score"], **options):
        yield _no(
            "mask.criterion", f"{criterion.name} trains its scores, which takes too long to check the mask every epoch"
        )
    if criterion.facts.keeps_all:
        yield _no("mask.criterion", f"{criterion.name} keeps everything: there is no mask to become stable")
    if scope.facts.decides:
        yield _no("mask.scope", f"{scope.name} determines the sparsity, which is not known yet at that point")


def _dynamics(blocks: Blocks) -> Iterator[Problem]:
    mask, retrain = blocks["mask"], blocks["retrain"]
    if retrain == "none" or "dynamics" not in retrain:
        return
    dynamics = entry_of(axes.DYNAMICS, retrain["dynamics"])
    criterion = entry_of(axes.CRITERIA, mask["criterion"])
    for key, option in dynamics.options.items():
        written = _options(retrain["dynamics"]).get(key)
        if written is not None and isinstance(option.field, Value) and option.field.axis is axes.CRITERIA:
            scored = entry_of(axes.CRITERIA, written)
            if scored.facts.trains:
                text = f"{scored.name} trains its scores, which is not possible while the mask moves"
                yield _no(f"retrain.dynamics.{key}", text)
    if (dynamics.facts.starts_from == "all") != bool(criterion.facts.keeps_all):
        must = "must be all" if dynamics.facts.starts_from == "all" else "must not keep everything"
        yield _no("mask.criterion", f"{must} with dynamics {dynamics.name} (got {criterion.name!r})")
    if blocks["rounds"] > 1:
        yield _no("rounds", f"must be 1 with retrain.dynamics (got {blocks['rounds']})")
    scopes, scope = dynamics.facts.scopes, entry_of(axes.SCOPES, mask["scope"]).name
    if scopes is not None and scope not in scopes:
        yield _no("mask.scope", f"must be {', '.join(scopes)} with dynamics {dynamics.name} (got {scope!r})")
    if dynamics.facts.check is not None:
        options = {key: value for key, value in _options(retrain["dynamics"]).items() if key != "name"}
        wrong = dynamics.facts.check(entry_of(axes.GRANULARITIES, mask["granularity"]).name, **options)
        if wrong:
            yield _no("retrain.dynamics", f"{dynamics.name} {wrong}")
    if "control" in mask and not entry_of(axes.CONTROLS, mask["control"]).facts.with_dynamics:
        name = entry_of(axes.CONTROLS, mask["control"]).name
        yield _no("mask.control", f"{name} needs scores, and a mask moved by retrain.dynamics ends without any")
    # Last: of a sparsity that is not known nothing more is said.
    if "per_round" in mask["sparsity"]:
        yield _no("mask.sparsity", f"must be final with retrain.dynamics (got {shown(mask['sparsity'])})")


def _redraw(blocks: Blocks) -> Iterator[Problem]:
    init = entry_of(axes.INITS, blocks["train"]["init"])
    for index, written in enumerate(blocks["weights"]["transform"]):
        entry = entry_of(axes.TRANSFORMS, written)
        if entry.facts.redraws and not init.facts.draws:
            yield _no(
                f"weights.transform.{index}",
                f"{entry.name} needs a train.init that draws random weights (got {init.name!r})",
            )


def _reshaping(blocks: Blocks) -> Iterator[Problem]:
    """What a transform that changes the network's layers does not go with."""
    entries = [entry_of(axes.TRANSFORMS, written) for written in blocks["weights"]["transform"]]
    name = next((entry.name for entry in entries if entry.facts.reshapes), None)
    if name is None:
        return
    retrain, weights, does = blocks["retrain"], blocks["weights"], f"transform {name}, which changes the layers"
    if blocks["rounds"] > 1 and weights["at"] != "end":
        text = f"must be end with more than one round and {does}: earlier weights have other layers"
        yield _no("weights.at", f"{text} (got {shown(weights['at'])})")
    if blocks["rounds"] > 1 and "layers" not in blocks["mask"]["sparsity"]:
        text = f"must be {{layers: …}} with more than one round and {does}: a share means other layers in each"
        yield _no("mask.sparsity", f"{text} (got {shown(blocks['mask']['sparsity'])})")
    if retrain == "none":
        return
    if "dynamics" in retrain:
        yield _no("retrain.dynamics", f"cannot be combined with {does}")
    if isinstance(retrain.get("steps"), Mapping):
        yield _no("retrain.steps", f"same_flops_as cannot be combined with {does}")
    if _options(retrain.get("loss", "")).get("features", OFF) != OFF:
        yield _no("retrain.loss.features", f"cannot be combined with {does}")


def _layers(blocks: Blocks) -> Iterator[Problem]:
    """A count of layers instead of a share."""
    mask = blocks["mask"]
    if "layers" not in mask["sparsity"]:
        return
    criterion = entry_of(axes.CRITERIA, mask["criterion"]).facts
    if "layers" not in criterion.sparsity:
        return  # said already
    granularity = entry_of(axes.GRANULARITIES, mask["granularity"]).name
    if granularity != "layer" and criterion.granularities is None:
        yield _no("mask.sparsity", f"layers works only with granularity layer (got {granularity!r})")
    scope = entry_of(axes.SCOPES, mask["scope"]).name
    if scope != "global":
        yield _no("mask.scope", f"must be global with sparsity: {{layers: …}} (got {scope!r})")
    if isinstance(mask["at"], Mapping):
        yield _no("mask.sparsity", "layers cannot be combined with mask.at: {stable: …}, which compares shares")


def _optimizer_places(blocks: Blocks) -> list[tuple[str, Any]]:
    """Path and value of every optimizer of a recipe."""
    places = [("train.optimizer", blocks["train"]["optimizer"])]
    phases = [(f"weights.transform.{index}", item) for index, item in enumerate(blocks["weights"]["transform"])]
    phases += [("retrain", blocks["retrain"]), ("mask.prepare", blocks["mask"].get("prepare"))]
    phases.append(("mask.criterion", blocks["mask"]["criterion"]))
    return places + [
        (f"{path}.optimizer", phase["optimizer"]) for path, phase in phases if "optimizer" in _options(phase or "")
    ]


def _optimizers(blocks: Blocks) -> Iterator[Problem]:
    for path, written in _optimizer_places(blocks):
        check = entry_of(axes.OPTIMIZERS, written).facts.check
        wrong = check(**{k: v for k, v in _options(written).items() if k != "name"}) if check is not None else ""
        if wrong:
            yield _no(path, wrong)


def _prior(blocks: Blocks) -> Iterator[Problem]:
    """A weight decay that is a word is made of the prior that the initializer finds."""
    init, given = entry_of(axes.INITS, blocks["train"]["init"]), "from" in blocks["train"]
    if init.facts.prior and not given:
        return
    known = ", ".join(name for name, entry in axes.INITS.items() if entry.facts.prior)
    got = "train.from, with which nothing is drawn" if given else f"train.init {init.name!r}"
    for path, written in _optimizer_places(blocks):
        decay = _options(written).get("weight_decay")
        if isinstance(decay, str):
            yield _no(
                f"{path}.weight_decay", f"{decay} is computed from the prior that train.init {known} finds (got {got})"
            )


def _training_options(blocks: Blocks) -> Iterator[Problem]:
    for path in ("train", "retrain"):
        block = blocks[path]
        schedule = block.get("schedule") if isinstance(block, Mapping) else None
        if schedule is None or "warmup" not in block:
            continue
        own = _options(schedule).get("warmup", "0it")
        if block["warmup"] is not BAD and own is not BAD and Step.parse(own).place(Step(unit="it")) != "start":
            text = f"is a second warm-up: {path}.schedule has one of {own}; give one of them"
            yield _no(f"{path}.warmup", text)


def _low_rank(blocks: Blocks) -> Iterator[Problem]:
    """Low-rank updates leave every other parameter as it is, and the mask where it is."""
    train, retrain = blocks["train"], blocks["retrain"]
    if retrain == "none" or not isinstance(retrain.get("lora"), Mapping):
        return
    if "dynamics" in retrain:
        yield _no("retrain.lora", "trains under one mask and cannot be combined with retrain.dynamics, which moves it")
    if train.get("batchnorm_l1", 0.0):
        yield _no("retrain.lora", "leaves batch norms as they are and cannot be combined with train.batchnorm_l1")
    optimizer = entry_of(axes.OPTIMIZERS, retrain["optimizer"])
    if optimizer.facts.samples:
        text = f"cannot be combined with optimizer {optimizer.name}, which samples weights that have a prior"
        yield _no("retrain.lora", text)
    elif isinstance(_options(retrain["optimizer"]).get("weight_decay"), str):
        yield _no(
            "retrain.lora", "cannot be combined with a weight_decay from the prior: low-rank updates have no prior"
        )


def _teacher(blocks: Blocks) -> Iterator[Problem]:
    train, retrain = blocks["train"], blocks["retrain"]
    if retrain == "none" or _options(retrain.get("loss", "")).get("teacher") != DENSE:
        return
    untrained = Step.parse(train["steps"]).place(Step(unit="it")) == "start"
    if untrained and "from" not in train:
        text = f"{DENSE} is the network at the end of its training, and train.steps is {train['steps']}"
        yield _no("retrain.loss.teacher", text)


def _stopping(blocks: Blocks) -> Iterator[Problem]:
    """Early stopping by a metric that is not measured on the data set, as far as that is known."""
    known = measured_on(blocks["task"]["data"]) if "task" in blocks else ()
    for role in ("train", "retrain"):
        block = blocks[role]
        stopping = block.get("early_stopping") if isinstance(block, Mapping) else None
        if known and isinstance(stopping, Mapping):
            text = wrong_metric(stopping["metric"], [*known, "loss"])
            if text:
                yield _no(f"{role}.early_stopping.metric", text)


RULES: tuple[Callable[[Blocks], Iterator[Problem]], ...] = (
    _shape,
    _rounds,
    _retrained,
    _criterion,
    _learned,
    _block_order,
    _granularity,
    _places,
    _stable,
    _dynamics,
    _redraw,
    _reshaping,
    _layers,
    _optimizers,
    _prior,
    _training_options,
    _stopping,
    _teacher,
    _low_rank,
)
