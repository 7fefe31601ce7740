"""Functions that no worker could import by name travel as they were given."""

from __future__ import annotations

import functools
import linecache
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from prune_search.api.trust import allowed_code
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError
from prune_search.search.given_code import GivenCode, has_importable_name, settings_digest
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ray.driver import check_given
from prune_search.tasks.user import source_digest
from prune_search.trial.data_and_network import Code

SCRIPT = """\
def net(shape, classes):
    return shape, classes

class Builder:
    def __call__(self, classes):
        return classes
"""


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A script that runs."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    module = types.ModuleType("__main__")
    module.__file__ = str(file)
    exec(compile(SCRIPT, str(file), "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def test_what_an_import_finds_stays_at_home() -> None:
    assert has_importable_name(torch.nn.Linear)
    assert GivenCode.of(Code()) is None
    assert GivenCode.of(Code("mynet:net", nn.Linear)) is None


def test_functions_of_a_script_partials_closures_and_objects_travel(main: types.ModuleType) -> None:
    def inner(classes: int) -> int:
        return classes

    for function in (main.net, functools.partial(nn.Linear, 4), inner, lambda classes: classes, main.Builder()):
        given = GivenCode.of(Code(model=function))
        assert given is not None
        assert given.functions == {"model": function}
    named = GivenCode.of(Code(data="__main__:net"))
    assert named is not None
    assert named.functions["data"] is main.net


def test_a_worker_without_the_script_takes_the_same_digest(
    main: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = GivenCode.of(Code(model=main.net))
    assert given is not None
    digest = source_digest(main.net)
    Path(str(main.__file__)).unlink()
    monkeypatch.setattr(linecache, "cache", {})
    assert source_digest(main.net) != digest
    monkeypatch.setattr(linecache, "cache", {})
    arrived = given.arrive()
    assert source_digest(arrived.functions["model"]) == digest
    # Trial after trial the same functions, whatever was unpickled anew.
    again = GivenCode(dict(given.functions), given.files, given.token)
    assert again.arrive() is arrived


def test_options_travel_as_plain_data_and_the_functions_beside_them() -> None:
    given = GivenCode.of(Code(model=functools.partial(nn.Linear, 4)))
    assert given is not None
    options = LaunchOptions("/store", code={"model": "torch.nn.modules.linear:Linear", "data": "a:b"}, given=given)
    assert "given" not in options.as_plain()
    code = options.user_code()
    assert code.model is given.functions["model"]
    assert code.data == "a:b"
    assert LaunchOptions(**options.as_plain()).user_code().model == "torch.nn.modules.linear:Linear"


def test_what_cannot_be_pickled_is_refused_before_anything_is_created() -> None:
    import threading

    lock = threading.Lock()
    given = GivenCode.of(Code(model=lambda classes: lock, data=functools.partial(nn.Linear, 4)))
    assert given is not None
    with pytest.raises(UserError, match=r"task\.model: .*cannot be sent to the workers .*lock"):
        check_given(given)


def test_whoever_resumes_gives_the_same_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wide = functools.partial(nn.Linear, 16)
    given = GivenCode.of(Code(model=wide))
    assert given is not None
    name = "torch.nn.modules.linear:Linear"
    definition = {"code": {"model": name, "data": None}, "given": given.settings()}
    assert given.settings() == {"model": settings_digest(wide)}
    assert allowed_code(definition, Where(model=functools.partial(nn.Linear, 16)), "s")["model"] is not None
    for model, reason in (
        (None, "function that cannot be imported as torch.nn.modules.linear:Linear"),
        (name, r"prune_search\.resume\('s', where=prune_search\.Where\(model=…\)\)"),
        (functools.partial(nn.Linear, 17), "other arguments than the function"),
        (nn.Linear, "other arguments than the function"),
    ):
        with pytest.raises(UserError, match=reason):
            allowed_code(definition, Where(model=model), "s")
