"""Folders of models with one thing changed, as damage, mistakes or malice may change it. Seeded."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**20 + 1, 10**9, -(10**9), 10**30, 0.5, -0.5, 1e300, float("nan"),
    float("inf"), "", "x", "4", "../x", "a" * 5000, [], [1], [[]], ["x", None], {}, {"x": 1}, {"content": 7},
)  # fmt: skip
"""What may stand where a number, a name or a section is expected."""

ENDLESS = (
    "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9) %}x{% endfor %}{% endfor %}{% endfor %}",
    "{% for i in range(999999999) %}{{ i }}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
    "{{ 'a' * 99999999999 }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ '%0999999999d' % 1 }}",
    "{{ 'a'.center(9999999999) }}",
    "{{ 'a' | center(9999999999) }}",
    "{{ 'a'.replace('', 'b' * 9999).replace('', 'b' * 99999) }}",
    "{{ [1, 2] | tojson(indent=999999999) }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
)
"""Templates that do not end, or fill the memory, in Jinja's own sandbox."""

ESCAPES = (
    "{{ cycler.__init__.__globals__.os.system('touch {mark}') }}",
    "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__['__builtins__'].open('{mark}', 'w') }}",
    "{{ strftime_now.__self__.__class__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ messages | map('format', 1) | list }}{{ messages | map(attribute='__class__') | list }}",
    "{% include '{mark}' %}",
    "{% import 'os' as os %}{{ os.system('touch {mark}') }}",
)
"""Templates that reach out; `{mark}` is a file that must not appear."""

REFUSED = (
    "{{ raise_exception('no') }}", "{{ undefined.attribute }}", "{% if %}", "{{ 1 / 0 }}", "{{ messages[0] + 1 }}",
    "{{ messages | nofilter }}", "{{ messages is notest }}", "{% break %}", "{{ nothing() }}", "{{ messages[9].x }}",
    "{{ " + "((((" * 5000, "{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ " + "1 + " * 5000 + "1 }}",
    "no slot at all",
    "{% for m in messages %}" * 200, "{{ messages[0]['content'] }}{{ messages[0]['content'] }}",
    "{{ 'a' ~ 1 ~ none }}{{ messages.append(1) }}", "{% set messages = 1 %}{{ messages[0].content.x.y }}",
)  # fmt: skip

RAW = (
    b"", b"{", b"null", b"[]", b"3", b"\xff\xfe", b"\x00" * 100, b"[" * 100_000, b'{"a":' * 100_000, b'{"a": NaN}',
    b'"' + b"9" * 10_000, b"9" * 10_000,
)  # fmt: skip

PLACES: tuple[Any, ...] = (
    7, None, [], {}, "a" * 400, "../elsewhere/model.safetensors", "/etc/passwd", "sub/model.safetensors",
    "..\\model.safetensors", "model\x00.safetensors", "model.bin", "", ".", "missing.safetensors",
)  # fmt: skip
"""What may stand in an index in place of the name of a shard."""


def mutated(source: Path, folder: Path, seed: int, mark: Path) -> str:
    """Make `folder` of `source` with one change, and say which. A template that gets out creates `mark`."""
    shutil.copytree(source, folder, copy_function=_link)
    rng = random.Random(seed)
    change = rng.choice(CHANGES)
    return f"{seed}: {change.__name__[1:]} {change(folder, rng, mark)}"


def _link(source: str, target: str) -> None:
    """Weights are replaced, never written into, and so are small files."""
    os.link(source, target)


def _value(folder: Path, rng: random.Random, mark: Path) -> str:
    """A value, a key taken away or a key added."""
    name = rng.choice(["config.json"] * 6 + ["generation_config.json", "preprocessor_config.json"]
                      + ["tokenizer_config.json"] * 2)  # fmt: skip
    values = json.loads((folder / name).read_text())
    places = list(_objects(values))
    place = rng.choice(places)
    key, odd = rng.choice([*place, "new_key"]), copy.deepcopy(rng.choice(ODD))
    if rng.random() < 0.15:
        place.pop(key, None)
        odd = "taken away"
    else:
        place[key] = odd
    _replace(folder / name, json.dumps(values).encode())
    return f"{name} {key}={odd!r:.60}"


def _raw(folder: Path, rng: random.Random, mark: Path) -> str:
    path = rng.choice([path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".jinja", ".safetensors")])
    content = rng.choice(RAW)
    _replace(path, content)
    return f"{path.name} {content[:20]!r}"


def _bytes(folder: Path, rng: random.Random, mark: Path) -> str:
    """Bytes turned or cut off, headers of weights included."""
    path = rng.choice([path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")])
    content = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        content = content[: rng.randrange(len(content))]
    else:
        for _ in range(rng.choice([1, 3, 30])):
            content[rng.randrange(min(len(content), 30_000))] = rng.randrange(256)
    _replace(path, bytes(content))
    return path.name


def _template(folder: Path, rng: random.Random, mark: Path) -> str:
    text = rng.choice(ENDLESS + ESCAPES + REFUSED).replace("{mark}", str(mark))
    _replace(folder / "chat_template.jinja", text.encode())
    return text[:60]


def _tensors(folder: Path, rng: random.Random, mark: Path) -> str:
    """A tensor of another type, shape or name, or none."""
    path = folder / rng.choice(["model.safetensors", "model.safetensors", "out_llm.safetensors"])
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    old = tensors[name]
    kinds = [torch.bool, torch.int64, torch.int8, torch.uint8, torch.complex64, torch.float64, torch.float16]
    odd: dict[str, Callable[[], Any]] = {
        "type": lambda: tensors.update({name: old.to(rng.choice(kinds))}),
        "empty": lambda: tensors.update({name: torch.zeros(0)}),
        "scalar": lambda: tensors.update({name: torch.tensor(1.0)}),
        "wide": lambda: tensors.update({name: torch.zeros(*old.shape, 2)}),
        "gone": lambda: tensors.pop(name),
        "renamed": lambda: tensors.update({"x" * 300: tensors.pop(name)}),
        "numbered": lambda: tensors.update({f"encoder.layers.{10**8}.x": tensors.pop(name)}),
        "nan": lambda: tensors.update({name: torch.full_like(old, float("nan")) if old.is_floating_point() else old}),
    }
    kind = rng.choice(sorted(odd))
    odd[kind]()
    path.unlink()
    save_file(tensors, path)
    return f"{kind} {name}"


def _index(folder: Path, rng: random.Random, mark: Path) -> str:
    """An index with a name that is no shard of the folder; the weights lie where the names point."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    shutil.copy(folder / "model.safetensors", elsewhere / "model.safetensors")
    (folder / "model.safetensors").unlink()
    place = rng.choice(PLACES)
    index = rng.choice([{"weight_map": {"encoder.out.bias": place}}, {"weight_map": place}, {"weight_map": {}}, {}])
    _replace(folder / "model.safetensors.index.json", json.dumps(index).encode())
    return repr(index)[:80]


def _file(folder: Path, rng: random.Random, mark: Path) -> str:
    """A file that is gone, a folder, or a link to itself."""
    path = rng.choice([path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".jinja", ".safetensors")])
    path.unlink()
    kind = rng.choice(["gone", "folder", "loop"])
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    return f"{path.name} {kind}"


def _token(folder: Path, rng: random.Random, mark: Path) -> str:
    """A token taken out of the tokenizer, or with another id."""
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    added, vocabulary = values["added_tokens"], values["model"]["vocab"]
    if rng.random() < 0.5:
        one = rng.choice(added)
        one[rng.choice(sorted(one))] = copy.deepcopy(rng.choice(ODD))
        seen = repr(one)[:80]
    else:
        name = rng.choice(sorted(vocabulary))
        vocabulary[name] = rng.choice([5000, 0, 2**31])
        seen = name
    _replace(path, json.dumps(values).encode())
    return seen


CHANGES: tuple[Callable[[Path, random.Random, Path], str], ...] = (
    _value, _value, _value, _value, _raw, _bytes, _template, _template, _tensors, _tensors, _index, _file, _token,
)  # fmt: skip


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _objects(part)


def _replace(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
