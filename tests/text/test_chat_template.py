"""Chat templates: those of the family render as Jinja renders them, no other one runs for ever or reaches out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jinja2
import pytest

from lithophone.errors import CheckpointError
from lithophone.text.chat_template import render
from tests.mutations import ENDLESS, ESCAPES, REFUSED
from tests.tiny_tokenizer import BASE_TEMPLATE, PLUS_TEMPLATE

MESSAGES = [
    {"role": "system", "content": "be\nbrief"}, {"role": "user", "content": "<|audio|>hello"},
    {"role": "assistant", "content": "hi"}, {"role": "user", "content": "again"},
]  # fmt: skip
VALUES: dict[str, Any] = {"messages": MESSAGES, "add_generation_prompt": True, "eos_token": "<|end_of_text|>"}

FEATURES = """
{%- set ns = namespace(system='', n=0) %}
{%- macro turn(role, content='none') %}{{- '<' ~ role ~ '>' + content }}{% endmacro %}
{%- if messages[0].role == 'system' and messages[0].content is string %}
    {%- set ns.system = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{%- endif %}
{%- if tools is defined and tools %}no{% endif %}
{{- ns.system.split('\\n')[0].strip() | upper }}
{%- for message in messages if message.content -%}
    {%- set ns.n = ns.n + loop.index0 * 2 %}
    {%- if not loop.first %} | {% endif %}
    {{- turn(message.role, content=message.content) }}{{ loop.length }}{{ loop.revindex }}
    {%- if loop.last %} end {{- '.' if add_generation_prompt else '' }}{% endif %}
{%- else %}empty{% endfor %}
{{- ns.n }} {{ messages | map(attribute='role') | unique | join(', ') if false else messages | length }}
{{ {'a': [1, 2, 'ü']} | tojson }} {{ range(3) | list }} {{ 'x' in ['x'] }} {{ -ns.n // 2 }} {{ missing | default('d') }}
{%- for key, value in {'k': 1}.items() %} {{ key }}={{ value }}{% endfor %}
{%- set block %}a{{ eos_token }}{% endset %} {{ block }} {{ 'Ab'.lower().startswith('a') }}
{%- for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
"""


@pytest.mark.parametrize("template", [BASE_TEMPLATE, PLUS_TEMPLATE, FEATURES])
def test_a_template_renders_as_with_jinja_alone(template: str) -> None:
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    plain.filters["tojson"] = lambda value: '{"a": [1, 2, "ü"]}'
    assert render(template, VALUES) == plain.from_string(template).render(**VALUES)


def test_a_prompt_with_two_thousand_keywords_is_within_the_budget() -> None:
    content = "<|audio|>transcribe. Keywords: " + ", ".join(f"keyword number {i}" for i in range(2000))
    for template in (BASE_TEMPLATE, PLUS_TEMPLATE, FEATURES):
        messages = [{"role": "system", "content": "s" * 2000}, {"role": "user", "content": content}]
        assert content in render(template, VALUES | {"messages": messages})


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_without_end_is_stopped(template: str) -> None:
    began = time.process_time()
    with pytest.raises(CheckpointError, match="the chat template cannot be rendered"):
        render(template, VALUES)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_does_not_reach_out(template: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    try:
        text = render(template.replace("{mark}", str(mark)), VALUES)
    except CheckpointError:
        text = ""
    assert not any(word in text for word in ("class", "builtin", "module", "function"))
    assert not mark.exists()


FINE = ("no slot at all", "{{ messages[0]['content'] }}{{ messages[0]['content'] }}")


@pytest.mark.parametrize("template", [template for template in REFUSED if template not in FINE])
def test_errors_of_templates_are_ours(template: str) -> None:
    with pytest.raises(CheckpointError, match="the chat template cannot be rendered"):
        render(template, VALUES)


@pytest.mark.parametrize("template", [7, ["x"], "x" * 200_001])
def test_what_is_no_template_is_said(template: Any) -> None:
    with pytest.raises(CheckpointError, match="the chat template"):
        render(template, VALUES)
