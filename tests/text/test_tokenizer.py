"""Text to ids and back, templates, and folders that are not complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lithophone.errors import CheckpointError
from lithophone.text.tokenizer import Tokenizer
from tests.tiny_tokenizer import BASE_TEMPLATE, PLUS_TEMPLATE, SPECIAL, save_tiny_tokenizer, tiny_tokenizer

USER = {"role": "user", "content": "<|audio|>hello"}


@pytest.mark.parametrize("text", ["hello world", " Héllo,  wörld!\n", "石が歌う", "12345 a\tb", ""])
def test_text_survives(text: str) -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_ids_and_are_skipped_in_text() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode("a<|audio|>b<|end_of_text|>")
    assert ids.count(tokenizer.audio_id) == 1
    assert ids[-1] == tokenizer.eos_id == tokenizer.bos_id == tokenizer.id_of("<|end_of_text|>")
    assert tokenizer.decode(ids) == "ab"
    assert tokenizer.special_tokens == SPECIAL
    assert len(tokenizer) == 300 + len(SPECIAL)


def test_it_agrees_with_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = save_tiny_tokenizer(tmp_path, PLUS_TEMPLATE)
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = "<|audio|> can you transcribe the speech , please ?  <|end_of_text|>"
    assert tokenizer.encode(text) == reference(text).input_ids
    assert tokenizer.decode(tokenizer.encode(text)) == reference.decode(reference(text).input_ids, True)
    messages = [{"role": "system", "content": "be\nbrief"}, USER]
    expected = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tokenizer.render(messages) == expected


def test_save_writes_what_was_read(tmp_path: Path) -> None:
    save_tiny_tokenizer(tmp_path / "a")
    Tokenizer.from_folder(tmp_path / "a").save(tmp_path / "b")
    again = Tokenizer.from_folder(tmp_path / "b")
    assert again.encode("the stone<|audio|>") == tiny_tokenizer().encode("the stone<|audio|>")
    assert (again.chat_template, again.settings) == (BASE_TEMPLATE, tiny_tokenizer().settings)


@pytest.mark.parametrize("form", ["string", "list", "file"])
def test_the_template_may_stand_in_a_json_file(tmp_path: Path, form: str) -> None:
    save_tiny_tokenizer(tmp_path, chat_template=None)
    path = tmp_path / ("chat_template.json" if form == "file" else "tokenizer_config.json")
    values = json.loads(path.read_text()) if path.exists() else {}
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": BASE_TEMPLATE}]
    values["chat_template"] = named if form == "list" else BASE_TEMPLATE
    path.write_text(json.dumps(values))
    assert Tokenizer.from_folder(tmp_path).render([USER]) == "USER: <|audio|>hello\n ASSISTANT:"


def test_a_template_is_told_the_day_of_training() -> None:
    tokenizer = tiny_tokenizer("{{ strftime_now('%B %d, %Y') }} {{ bos_token }} {{ messages | tojson }}")
    assert tokenizer.render([]) == "December 19, 2024 <|end_of_text|> []"


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('system first') }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% if %}",
    ],
)
def test_a_template_that_refuses_or_reaches_out_is_an_error(template: str) -> None:
    with pytest.raises(CheckpointError, match="chat template cannot be rendered"):
        tiny_tokenizer(template).render([USER])


def test_no_template_no_rendering() -> None:
    with pytest.raises(CheckpointError, match="no chat template"):
        tiny_tokenizer(None).render([USER])


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_and_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    save_tiny_tokenizer(tmp_path)
    (tmp_path / name).write_text("[")
    with pytest.raises(CheckpointError, match=name):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        Tokenizer.from_folder(tmp_path)


def test_unknown_tokens_are_named() -> None:
    with pytest.raises(CheckpointError, match=r"<\|video\|>.*<\|audio\|>"):
        tiny_tokenizer().id_of("<|video|>")
