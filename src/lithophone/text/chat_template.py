"""Chat templates: Jinja programs of a checkpoint, rendered with bounded time and memory.

Jinja's sandbox hides Python's internals but bounds neither time nor memory. Here the parsed template is rewritten:
values, loop turns and calls are charged to a budget by their size. Operators, filters and methods whose result may be
far larger than their operands are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Environment, Template, TemplateError, TemplateRuntimeError, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from lithophone.errors import CheckpointError

TEMPLATE_DATE = datetime(2024, 12, 19)
"""The date in prompts: that of training, since another date is another prompt."""

MAX_TEMPLATE = 200_000
"""Characters; the family's templates have some 6,000."""
BUDGET = 3_000_000
"""Cost of a rendering, a few seconds at most."""
MAX_VALUE = 100_000
"""Cost of one value: 1 per list element or CHARACTERS characters."""
CHARACTERS = 16

FILTERS = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "items",
        "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "safe",
        "select", "selectattr", "sort", "string", "title", "tojson", "trim", "unique", "upper",
    }
)  # fmt: skip
METHODS = frozenset(
    {
        "capitalize", "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isdigit", "islower",
        "isspace", "isupper", "items", "keys", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind",
        "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper", "values",
    }
)  # fmt: skip
"""Of strings, lists and dicts."""
GLOBALS = ("namespace", "dict")

CHARGE, TURNS, SPENT = "_charge", "_turns", "_spent"
"""The two added filters, and the variable with the budget."""


class Spent:
    def __init__(self, size: int) -> None:
        self.left = BUDGET
        self.turn = 1 + size // CHARACTERS
        """Cost of a call or loop turn: no part of a template writes more text than all of it."""

    def charge(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise TemplateRuntimeError("it takes too many steps")


def render(template: str, values: Mapping[str, Any]) -> str:
    """The rendered template. Raises CheckpointError if it is refused or refuses."""
    try:
        text: str = _compiled(template).render({**values, SPENT: Spent(len(template))})
    except CheckpointError:
        raise
    except Exception as error:  # a template may raise anything
        seen = f"{type(error).__name__}: {str(error)[:300]}"
        raise CheckpointError(f"the chat template cannot be rendered: {seen}") from error
    return text


@lru_cache(16)
def _compiled(template: str) -> Template:
    """Cached: compiling takes a hundred times as long as rendering."""
    if not isinstance(template, str):
        raise CheckpointError(f"the chat template is a {type(template).__name__}: expected text")
    if len(template) > MAX_TEMPLATE:
        raise CheckpointError(f"the chat template has {len(template)} characters: at most {MAX_TEMPLATE} are read")
    environment = _environment()
    tree = environment.parse(template)
    _Charging().visit(tree)
    tree.set_environment(environment)
    return environment.from_string(tree)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with allow lists of functions and operators."""

    intercepted_binops = frozenset(["*", "**", "%", "+", "/", "//", "-"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = all(isinstance(value, int | float) and abs(value) < 1e12 for value in (left, right))
        texts = operator == "+" and all(isinstance(value, str | list | tuple) for value in (left, right))
        if operator == "**" or not (numbers or texts):
            kinds = f"{type(left).__name__} {operator} {type(right).__name__}"
            raise TemplateRuntimeError(f"{kinds} is not built: only + joins texts, and numbers are below 1e12")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, *args: Any, **kwargs: Any) -> Any:
        _spent(context).charge(_spent(context).turn)
        if not _is_allowed(function, self):
            raise TemplateRuntimeError(f"{getattr(function, '__name__', type(function).__name__)} may not be called")
        return super().call(context, function, *args, **kwargs)


def _is_allowed(function: Any, environment: Environment) -> bool:
    """Macros, loops, globals, and methods whose results are no larger than their object."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, str | list | dict | tuple):
        return function.__name__ in METHODS
    runtime = "jinja2.runtime" in (type(function).__module__, type(owner).__module__)
    return runtime or any(function is given for given in environment.globals.values())


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals = {name: environment.globals[name] for name in GLOBALS}
    environment.globals |= {
        "raise_exception": _refuse, "strftime_now": _date, "range": _range,
    }  # fmt: skip
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.filters |= {"tojson": _to_json, "join": _join, CHARGE: _charge, TURNS: _turns}
    return environment


class _Charging(NodeTransformer):
    """Charges every expression read and every loop."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, nodes.CallBlock | nodes.Include | nodes.Import | nodes.FromImport | nodes.Extends):
            raise TemplateRuntimeError(f"line {node.lineno}: {type(node).__name__} is not built")
        if isinstance(node, nodes.TemplateData | nodes.Const):
            return node
        super().generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.For):
            node.iter = _filtered(node.iter, TURNS)
        return _filtered(node, CHARGE) if _is_value(node) else node


def _is_value(node: nodes.Node) -> bool:
    """Whether an expression is read, not assigned to or a part of another."""
    parts = isinstance(node, nodes.NSRef | nodes.Slice)
    return isinstance(node, nodes.Expr) and not parts and getattr(node, "ctx", "load") == "load"


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _spent(context: Context) -> Spent:
    spent: Spent = context.parent[SPENT]
    return spent


@pass_context
def _charge(context: Context, value: Any) -> Any:
    _spent(context).charge(weight(value))
    return value


@pass_context
def _turns(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _spent(context).charge(_spent(context).turn)
        yield value


def weight(value: Any) -> int:
    """Cost of a value and its contents. Raises TemplateRuntimeError above MAX_VALUE."""
    total, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        total += 1 + (len(one) // CHARACTERS if isinstance(one, str) else 0)
        parts = _parts(one)
        if total + len(parts) > MAX_VALUE:
            raise TemplateRuntimeError("a value is too large")
        waiting += parts
    return total


def _parts(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Namespace):
        value = value._Namespace__attrs
    return [*value, *value.values()] if isinstance(value, dict) else []


def _range(*limits: int) -> range:
    numbers = range(*limits)
    if len(numbers) > 10_000:
        raise TemplateRuntimeError(f"a range of {len(numbers)} is longer than 10000")
    return numbers


def _date(form: str) -> str:
    if len(form) > 200:
        raise TemplateRuntimeError("a form of the date is longer than 200 characters")
    return TEMPLATE_DATE.strftime(form)


def _join(values: Iterable[Any], separator: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        raise TemplateRuntimeError("join is built without an attribute")
    texts: list[str] = []
    total = 0
    for value in values:
        texts.append(str(value))
        total += len(texts[-1]) + len(separator)
        if total > MAX_VALUE * CHARACTERS:
            raise TemplateRuntimeError("a joined text is too large")
    return separator.join(texts)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= 8:
        raise TemplateRuntimeError(f"indent is {indent}: it must lie in 0..8")
    return json.dumps(value, ensure_ascii=False, indent=indent)
