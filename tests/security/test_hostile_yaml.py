"""Hostile YAML files: each is refused, as a problem of the user's, and nothing in it is ever carried out."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.recipe.strict_yaml import load, load_file

pytestmark = pytest.mark.security

# What blows up takes minutes or never ends; what is refused takes a quarter of a second and less.
SECONDS = 10.0


def laughs(width: int, levels: int) -> str:
    lines = ["a0: &a0 [" + ", ".join(["lol"] * width) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * width) + "]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


# CANARY is replaced by the path of a file that must never come into being.
TEXTS: dict[str, str | bytes] = {
    "python object apply": "a: !!python/object/apply:os.system ['touch CANARY']\n",
    "python object new": "a: !!python/object/new:os.system ['touch CANARY']\n",
    "python object": "a: !!python/object:subprocess.Popen {args: [touch, CANARY]}\n",
    "python name": "a: !!python/name:os.system ''\n",
    "python module": "a: !!python/module:antigravity ''\n",
    "python tuple": "a: !!python/tuple [1, 2]\n",
    "python apply of eval": "a: !!python/object/apply:builtins.eval [\"open('CANARY', 'w')\"]\n",
    "python apply by a verbatim tag": "a: !<tag:yaml.org,2002:python/object/apply:os.system> [touch CANARY]\n",
    "python apply by a tag directive": "%TAG !p! tag:yaml.org,2002:python/\n---\n"
    "a: !p!object/apply:os.system [touch CANARY]\n",
    "python apply as the root": "!!python/object/apply:os.system [touch CANARY]\n",
    "python apply as a key": "? !!python/object/apply:os.system [touch CANARY]\n: 1\n",
    "python apply with percent signs": "a: !!python/object%2Fapply:os.system [touch CANARY]\n",
    "python list items": "a: !!python/object/new:type\n  args: [z, !!python/tuple [], {extend: !!python/name:exec }]\n"
    "  listitems: \"open('CANARY', 'w')\"\n",
    "local tag": "a: !include CANARY\n",
    "binary tag": "a: !!binary aGVsbG8=\n",
    "set tag": "a: !!set {b, c}\n",
    "billion laughs": laughs(9, 9),
    "quadratic blow-up": "a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 20_000 + "*a]\n",
    "alias of itself": "a: &a [*a, *a, *a]\n",
    "alias of nothing": "a: *b\n",
    "alias as a key": "a: &a x\n*a : y\n",
    "merge key bomb": "a: &a {x: 1}\nb: {<<: [" + "*a, " * 5000 + "*a]}\n",
    "merge key": "base: &base {lr: 0.1}\ntrain: {<<: *base, steps: 10ep}\n",
    "deep lists": "[" * 100_000,
    "deep closed lists": "a: " + "[" * 50_000 + "]" * 50_000 + "\n",
    "deep mappings": "{a: " * 50_000,
    "deep list of mappings": "[{a: " * 40_000,
    "deep dashes": "- " * 100_000,
    "deep question marks": "? " * 100_000,
    "deep indentation": "".join(" " * i + "a:\n" for i in range(600)),
    "too deep by one": "a: " + "[" * 20 + "]" * 20 + "\n",
    "huge integer": "a: " + "9" * 200_000 + "\n",
    "huge hexadecimal": "a: 0x" + "f" * 200_000 + "\n",
    "huge octal": "a: 0o" + "7" * 200_000 + "\n",
    "huge version": "%YAML " + "1" * 100_000 + ".1\n---\na: 1\n",
    "impossible escape": 'a: "\\UFFFFFFFF"\n',
    "half a surrogate": 'a: "\\ud800"\n',
    "escaped NUL": 'a: "\\0"\n',
    "NUL": b"a: 1\x00\nb: 2\n",
    "only NUL": b"\x00" * 100_000,
    "escape sequence": b"a: \x1b[2J\n",
    "backspaces": b"a: 1\x08\x08\x08\n",
    "bad UTF-8": b"a: \xc3\x28\n",
    "overlong UTF-8": b"a: \xc0\xaf\n",
    "surrogate in UTF-8": b"a: \xed\xa0\x80\n",
    "UTF-16": "a: 1\n".encode("utf-16"),
    "UTF-16 without a mark": "a: 1\n".encode("utf-16-le"),
    "UTF-32": "a: 1\n".encode("utf-32"),
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbfa: 1\n",
    "byte order mark inside": b"a: 1\n\xef\xbb\xbfb: 2\n",
    "duplicate key": "a: 1\nb: 2\na: 3\n",
    "duplicate key below": "a: {b: [{c: 1, c: 2}]}\n",
    "duplicate key in disguise": 'a: 1\n"\\x61": 2\n',
    "many duplicate keys": "a: 1\n" * 50_000,
    "list as a key": "? [a, b]\n: 1\n",
    "mapping as a key": "? {a: 1}\n: 1\n",
    "mapping as a key in flow style": "{{a: 1}: 2}\n",
    "number as a key": "1: a\n",
    "nothing as a key": "~: a\n",
    "several documents": "a: 1\n---\nb: 2\n",
    "many documents": "---\na\n" * 40_000,
    "unterminated single quotes": "a: 'b\n" * 3,
    "unterminated double quotes": 'a: "' + "b\n" * 100_000,
    "unterminated list": "a: [1, 2\nb: 3\n",
    "tab as indentation": "a:\n\tb: 1\n",
    "tab before a key": "\ta: 1\n",
    "wrong indentation": "a:\n    b: 1\n  c: 2\n",
    "reserved character": "a: @b\n",
    "root list": "- a\n- b\n",
    "root text": "just a text\n",
    "empty": "",
    "only comments": "# a\n" * 1000,
    "too large by one": "a: " + "x" * (256 * 1024 - 2),
    "many anchors": "[" + "&a b, " * 40_000 + "]",
    "pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "random bytes": random.Random(0).randbytes(100_000),
}


def refuse(path: Path) -> UserError:
    begin = time.thread_time()
    with pytest.raises(UserError) as caught:
        load_file(path)
    # Time of this thread: what other threads and processes do is no fault of the file's.
    assert time.thread_time() - begin < SECONDS
    for problem in caught.value.problems:
        assert "\n" not in str(problem)
        assert len(problem.message) < 300
    return caught.value


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_file_is_refused_and_not_carried_out(name: str, tmp_path: Path) -> None:
    canary, untouched = tmp_path / "canary", tmp_path / "untouched"
    untouched.write_text("as it was", encoding="utf-8")
    text = TEXTS[name]
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    path = tmp_path / "hostile.yaml"
    path.write_bytes(data.replace(b"CANARY", str(canary).encode()))
    refuse(path)
    assert not canary.exists()
    assert untouched.read_text(encoding="utf-8") == "as it was"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["hostile.yaml", "untouched"]


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)


def loop(path: Path) -> None:
    path.symlink_to(path)


PLACES: dict[str, Callable[[Path], None]] = {
    "a sparse file of 100 MB": sparse,
    "a folder": lambda path: path.mkdir(),
    "a pipe without a writer": lambda path: os.mkfifo(path),
    "a link to a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "a link to a device without content": lambda path: path.symlink_to("/dev/null"),
    "a link to a folder": lambda path: path.symlink_to(path.parent),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": loop,
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_small_regular_file_is_refused_unread(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.yaml"
    PLACES[name](path)
    error = refuse(path)
    assert len(error.problems) == 1
    assert error.problems[0].source == str(path)


@pytest.mark.parametrize("name", ["a\x00b.yaml", "x" * 5000, "a\nb.yaml", "\udcff.yaml"])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    error = refuse(tmp_path / name)
    assert "\n" not in str(error)


def test_random_yaml_is_read_or_refused_and_never_anything_else() -> None:
    draw = random.Random(20)
    parts = [
        *"ab01:-?[]{},&*!|>'\"%@`# \n~<=.\\",
        "  ",
        "- ",
        "? ",
        ": ",
        "\n  ",
        "---",
        "...",
        "%YAML ",
        "!!",
        "\\x",
        "\\U",
    ]
    read = refused = 0
    for _ in range(3000):
        text = "".join(draw.choice(parts) for _ in range(draw.choice([4, 8, 25])))
        try:
            load(text)
            read += 1
        except UserError:
            refused += 1
    assert read > 100
    assert refused > 100
