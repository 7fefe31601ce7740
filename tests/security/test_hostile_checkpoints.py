"""Hostile states, tensor files and names: refused, nothing in them is carried out, and nothing is written outside."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.storage.names import safe_child
from prune_search.storage.states import (
    load_tensors,
    newest_state,
    read_state,
    save_tensors,
    state_folder,
    write_state,
)

pytestmark = pytest.mark.security

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def header(entries: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with a header of the attacker's making."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def pickle_of(canary: Path) -> bytes:
    """A pickle (protocol 0) that makes the canary when it is loaded."""
    return b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."


def torch_file_of(canary: Path) -> bytes:
    """What torch.save writes, with that pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_of(canary))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


CONTENTS: dict[str, Callable[[Path], bytes]] = {
    "pickle": pickle_of,
    "file of torch.save": torch_file_of,
    "pickle behind an empty header": lambda canary: header({}) + pickle_of(canary),
    "pickle as the header": lambda canary: header(pickle_of(canary)),
    "nothing": lambda canary: b"",
    "seven bytes": lambda canary: b"\0" * 7,
    "zeros": lambda canary: b"\0" * 1000,
    "header longer than the file": lambda canary: header({"a": ENTRY}, b"\0" * 8, length=1000),
    "header of 2^64 - 1 bytes": lambda canary: header({"a": ENTRY}, b"\0" * 8, length=2**64 - 1),
    "header of 11 MB": lambda canary: header(b"{" + b" " * 11_000_000 + b"}"),
    "overlapping tensors": lambda canary: header({"a": ENTRY, "b": ENTRY}, b"\0" * 8),
    "partly overlapping tensors": lambda canary: header(
        {"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, b"\0" * 12
    ),
    "gap between tensors": lambda canary: header({"a": ENTRY, "b": {**ENTRY, "data_offsets": [12, 20]}}, b"\0" * 20),
    "tensor past the end": lambda canary: header({"a": {**ENTRY, "shape": [200], "data_offsets": [0, 800]}}, b"\0" * 8),
    "bytes behind the last tensor": lambda canary: header({"a": ENTRY}, b"\0" * 9),
    "backward offsets": lambda canary: header({"a": {**ENTRY, "data_offsets": [8, 0]}}, b"\0" * 8),
    "negative offsets": lambda canary: header({"a": {**ENTRY, "data_offsets": [-8, 0]}}, b"\0" * 8),
    "shape that does not fit": lambda canary: header({"a": {**ENTRY, "shape": [3]}}, b"\0" * 8),
    "negative shape": lambda canary: header({"a": {**ENTRY, "shape": [-1, -2]}}, b"\0" * 8),
    "fractional shape": lambda canary: header({"a": {**ENTRY, "shape": [2.0]}}, b"\0" * 8),
    "boolean shape": lambda canary: header(
        {"a": {"dtype": "U8", "shape": [True], "data_offsets": [False, True]}}, b"\0"
    ),
    "shape whose product overflows": lambda canary: header(
        {"a": {**ENTRY, "shape": [2**33, 2**33], "data_offsets": [0, 16]}}, b"\0" * 16
    ),
    "empty tensor of an impossible shape": lambda canary: header(
        {"a": {**ENTRY, "shape": [0, 2**63], "data_offsets": [0, 0]}}
    ),
    "thousand dimensions": lambda canary: header(
        {"a": {**ENTRY, "shape": [1] * 1000, "data_offsets": [0, 4]}}, b"\0" * 4
    ),
    "unknown type": lambda canary: header({"a": {**ENTRY, "dtype": "object"}}, b"\0" * 8),
    "type that torch lacks": lambda canary: header({"a": {**ENTRY, "dtype": "F4", "data_offsets": [0, 1]}}, b"\0"),
    "type that is a list": lambda canary: header({"a": {**ENTRY, "dtype": ["F32"]}}, b"\0" * 8),
    "boolean bytes that are none": lambda canary: header(
        {"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, b"\x02\xff"
    ),
    "duplicate tensor": lambda canary: header(b'{"a":%s,"a":%s}' % ((json.dumps(ENTRY).encode(),) * 2), b"\0" * 8),
    "NaN in the header": lambda canary: header(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', b"\0" * 8),
    "deep header": lambda canary: header(b'{"a":' * 100_000),
    "deep list": lambda canary: header(b"[" * 100_000 + b"]" * 100_000),
    "header that is a list": lambda canary: header([ENTRY], b"\0" * 8),
    "header that is not UTF-8": lambda canary: header(b'{"\xff":{}}'),
    "integer of 5000 digits": lambda canary: header(b'{"a":{"shape":[' + b"9" * 5000 + b"]}}"),
    "metadata that are no texts": lambda canary: header({"__metadata__": {"a": [1]}, "a": ENTRY}, b"\0" * 8),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_hostile_tensor_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.safetensors"
    path.write_bytes(CONTENTS[name](canary))
    with pytest.raises(UserError) as caught:
        load_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300
    assert os.listdir(tmp_path) == [path.name]


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(header({"a": ENTRY}))
        file.truncate(2**40)


PLACES: dict[str, Callable[[Path], None]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a file": lambda path: path.symlink_to(path.with_name("good")),
    "sparse file of 1 TiB": sparse,
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_of_tensors_is_refused_unread(name: str, tmp_path: Path) -> None:
    save_tensors(tmp_path / "good", {"a": torch.zeros(2)})
    path = tmp_path / "model.safetensors"
    PLACES[name](path)
    with pytest.raises(UserError) as caught:
        load_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def signed(content: dict[str, Any]) -> bytes:
    """A manifest whose own hash is right: an attacker can compute it too."""
    digest = hashlib.sha256(json.dumps(content).encode() + b"\n").hexdigest()
    return json.dumps({**content, "sha256": digest}).encode() + b"\n"


def entry_of(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def manifest_of(data: bytes, **changes: Any) -> bytes:
    return signed({"format": 1, "files": {"state.safetensors": entry_of(data)}, "meta": {}, **changes})


def with_manifest(make: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def attack(folder: Path, outside: Path) -> None:
        data = (folder / "state.safetensors").read_bytes()
        (folder / "manifest.json").write_bytes(make(data))

    return attack


def naming(path: str) -> Callable[[Path, Path], None]:
    """A manifest that names a file outside, which is there and has the right hash."""

    def attack(folder: Path, outside: Path) -> None:
        data = (folder / "state.safetensors").read_bytes()
        named = path.replace("OUTSIDE", str(outside))
        (outside / "state.safetensors").write_bytes(data)
        (folder / "manifest.json").write_bytes(manifest_of(data, files={named: entry_of(data)}))

    return attack


def linking(name: str) -> Callable[[Path, Path], None]:
    def attack(folder: Path, outside: Path) -> None:
        (folder / name).rename(outside / name)
        (folder / name).symlink_to(outside / name)

    return attack


def linked_folder(folder: Path, outside: Path) -> None:
    shutil.move(folder, outside / "state")
    folder.symlink_to(outside / "state")


def pipe(folder: Path, outside: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def content(make: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    """A hostile tensor file whose manifest is right about it."""

    def attack(folder: Path, outside: Path) -> None:
        data = make(outside / "canary")
        (folder / "state.safetensors").write_bytes(data)
        (folder / "manifest.json").write_bytes(manifest_of(data))

    return attack


def huge(folder: Path, outside: Path) -> None:
    with (folder / "state.safetensors").open("wb") as file:
        file.truncate(2**40)
    entry = {"sha256": "0" * 64, "bytes": 2**40}
    (folder / "manifest.json").write_bytes(manifest_of(b"", files={"state.safetensors": entry}))


def huge_manifest(folder: Path, outside: Path) -> None:
    os.truncate(folder / "manifest.json", 2**40)


ATTACKS: dict[str, Callable[[Path, Path], None]] = {
    "a manifest that names ../": naming("../outside/state.safetensors"),
    "a manifest that names an absolute path": naming("OUTSIDE/state.safetensors"),
    "a manifest that names a file below": naming("./state.safetensors"),
    "a manifest that names no file": with_manifest(lambda data: manifest_of(data, files={})),
    "a manifest that names two files": with_manifest(
        lambda data: manifest_of(data, files={"state.safetensors": entry_of(data), "../x": entry_of(b"")})
    ),
    "a manifest with another size": with_manifest(
        lambda data: manifest_of(data, files={"state.safetensors": {"sha256": "", "bytes": -1}})
    ),
    "a manifest with a wrong hash": with_manifest(
        lambda data: manifest_of(data, files={"state.safetensors": {"sha256": "0" * 64, "bytes": len(data)}})
    ),
    "a manifest with NaN": with_manifest(lambda data: manifest_of(data, meta={"loss": float("nan")})),
    "a manifest with Infinity": with_manifest(lambda data: manifest_of(data, meta={"loss": float("inf")})),
    "a manifest with a key twice": with_manifest(
        lambda data: manifest_of(data).replace(b'"meta": {}', b'"meta": {}, "meta": {}')
    ),
    "a manifest with a further key": with_manifest(lambda data: manifest_of(data, more=1)),
    "a manifest written differently": with_manifest(lambda data: manifest_of(data) + b" "),
    "a manifest of another format": with_manifest(lambda data: manifest_of(data, format=3)),
    "a manifest of the format true": with_manifest(lambda data: manifest_of(data, format=True)),
    "a manifest whose meta are a list": with_manifest(lambda data: manifest_of(data, meta=[])),
    "a manifest whose files are a list": with_manifest(lambda data: manifest_of(data, files=["state.safetensors"])),
    "a manifest that is deep": with_manifest(lambda data: b'{"a":' * 100_000),
    "a manifest of deep lists": with_manifest(lambda data: b"[" * 100_000 + b"]" * 100_000),
    "a manifest that is a list": with_manifest(lambda data: b"[1]\n"),
    "a manifest that is not UTF-8": with_manifest(lambda data: manifest_of(data).replace(b"meta", b"m\xffta")),
    "a manifest in UTF-16": with_manifest(lambda data: manifest_of(data).decode().encode("utf-16")),
    "a manifest with a huge integer": with_manifest(lambda data: b'{"format": ' + b"9" * 10_000 + b"}\n"),
    "a manifest that is a pickle": with_manifest(lambda data: b"cos\nsystem\n(S'exit 1'\ntR."),
    "a manifest of 1 TiB": huge_manifest,
    "a manifest that is a pipe": pipe,
    "a manifest that is a link out": linking("manifest.json"),
    "tensors that are a link out": linking("state.safetensors"),
    "tensors of 1 TiB": huge,
    "a folder that is a link out": linked_folder,
    **{f"tensors: {name}": content(make) for name, make in CONTENTS.items()},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_state_is_refused_and_the_one_before_it_is_used(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parent, outside = tmp_path / "states", tmp_path / "outside"
    outside.mkdir()
    for step in (100, 200):
        write_state(state_folder(parent, step), {"a": torch.full((2,), float(step))}, {"step": step})
    hostile = state_folder(parent, 200)
    ATTACKS[name](hostile, outside)
    assert read_state(hostile) is None
    found = newest_state(parent, 200)
    assert found is not None
    assert found[0] == 100
    assert found[1].tensors["a"].tolist() == [100.0, 100.0]
    assert not (outside / "canary").exists()
    messages = [record.getMessage() for record in caplog.records if record.name == "prune_search"]
    assert len(messages) == 1
    assert "\n" not in messages[0]


def test_the_manifests_made_here_are_refused_for_their_content_alone(tmp_path: Path) -> None:
    folder = state_folder(tmp_path, 1)
    write_state(folder, {"a": torch.zeros(2)}, {"x": 1})
    data = (folder / "state.safetensors").read_bytes()
    (folder / "manifest.json").write_bytes(manifest_of(data, meta={"x": 2}))
    state = read_state(folder)
    assert state is not None
    assert state.meta == {"x": 2}


def climbing_names(count: int) -> list[str]:
    """Names that lead out of a folder, hide in it, or are taken for something else by some file system."""
    names = [
        *(
            "",
            ".",
            "..",
            "...",
            "/",
            "//",
            "\\",
            "~",
            "~root",
            "-/..",
            ".hidden",
            ".tmp-1-0",
            ".git",
            "a/",
            "/a",
            "a/b",
        ),
        *("../x", "../../x", "a/../../x", "./x", "..\\x", "..\\..\\x", "/etc/passwd", "/tmp/x", "//server/share/x"),
        *("C:\\x", "C:x", "\\\\server\\x", "\\\\?\\C:\\x", "file:///tmp/x", "x:y", "x\x00", "\x00", "x\x00/../../y"),
        *("x\n", "x\r", "\nx", "x\ty", " x", "x ", "x y", "x\x1b[2J", "x\x7f", "*", "?", "x|y", "x;y", "$HOME", "`x`"),
        *("%2e%2e%2fx", "..%2fx", "..%c0%afx", "%00", "\u2025/x", "\u2024\u2024/x", "\uff0e\uff0e\uff0fx"),
        *("..\u2215x", "..\u2044x", "..\u29f8x", "\u202e../x", "x\u200b", "\ufeffx", "\udcffx", "\udc2e\udc2e/x"),
        *(
            "é",
            "\u0435",
            "x\u0301",
            "\u0660",
            "\U0001d7ce",
            "x" * 129,
            "x" * 5000,
            "x\u2028",
            "x\x85",
            "\xa0",
            "\u3000",
        ),
    ]
    draw = random.Random(3)
    parts = ["..", "../", "/", "\\", "..\\", "\x00", "x", "%2f", "\u2215", "\uff0e", "\n", "~/", "./", "C:", " "]
    tries = ("".join(draw.choices(parts, k=draw.randint(2, 6))) for _ in itertools.count())
    names.extend(name for name in itertools.islice(tries, 2000) if not set(name) <= set("x."))
    return list(dict.fromkeys(names))[:count]


def test_two_hundred_names_that_climb_out_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    root = tmp_path / "storage" / "root"
    root.mkdir(parents=True)
    names = climbing_names(200)
    assert len(names) == 200
    for name in names:
        with pytest.raises(UserError) as caught:
            safe_child(root, name).write_bytes(b"out")
        assert "\n" not in str(caught.value)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["storage", "storage/root"]


@pytest.mark.parametrize("name", [None, 3, b"x", ["x"], Path("x")])
def test_what_is_no_text_is_no_name(name: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        safe_child(tmp_path, name)
