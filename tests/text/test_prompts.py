"""Every row of the prompt tables, what is refused, and what replies mean."""

from __future__ import annotations

from typing import Any

import pytest

from lithophone.errors import OptionError, PromptError
from lithophone.languages import LANGUAGES, PAIRS, SOURCE_LANGUAGES
from lithophone.pipeline.options import TranscribeOptions
from lithophone.text.prompts import (
    SpeakerTurns,
    Task,
    Transcribe,
    Translate,
    WordTimes,
    build_prompt,
    clean_keywords,
    default_task,
    instruction,
    language_code,
    max_new_tokens,
    parse_reply,
    prompt_text,
    task_named,
)
from lithophone.text.replies import Turn
from lithophone.text.tags import unwrap
from tests.tiny_tokenizer import BASE_TEMPLATE, PLUS_TEMPLATE, tiny_tokenizer

BASE: Any = "granite_speech"
PLUS: Any = "granite_speech_plus"
FIVE: Any = "granite_speech_5"
PUNCTUATED = "transcribe the speech with proper punctuation and capitalization."
HINT = "The speech is in German. Transcribe it exactly; do not translate. "
SPEAKERS = (
    "Speaker attribution: Transcribe and denote who is speaking by adding [Speaker 1]: and [Speaker 2]: tags before "
    "speaker turns."
)
TIMES = (
    "Timestamps: Transcribe the speech. After each word, add a timestamp tag showing the end time in centiseconds, "
    "e.g. hello [T:45] world [T:82]"
)
RAW = "can you transcribe the speech into a written format?"


@pytest.mark.parametrize(
    ("task", "model_type", "words"),
    [
        (Transcribe(punctuate=False), BASE, RAW),
        (Transcribe(), BASE, "transcribe the speech with proper punctuation and capitalization."),
        (Transcribe(keywords=("granite", "IBM")), BASE, "transcribe the speech to text. Keywords: granite, IBM"),
        (Translate("fr", punctuate=False), BASE, "translate the speech to French."),
        (Translate("ja"), BASE, "translate the speech to Japanese with proper punctuation and capitalization."),
        (Translate("zh", keywords=("a",)), BASE, "translate the speech to Mandarin. Keywords: a"),
        (Transcribe(punctuate=False), PLUS, RAW),
        (Transcribe(punctuate=False, keywords=("kw1", "kw2")), PLUS, f"{RAW} Keywords: kw1, kw2"),
        (SpeakerTurns(), PLUS, SPEAKERS),
        (SpeakerTurns(keywords=("x",)), PLUS, f"{SPEAKERS} Keywords: x"),
        (WordTimes(), PLUS, TIMES),
        (Transcribe(punctuate=False), FIVE, RAW),
        (Transcribe(), FIVE, PUNCTUATED),
        (Transcribe(punctuate=False, language="de"), FIVE, f"{HINT}{RAW}"),
        (Transcribe(language="de-AT", keywords=("a", "b")), FIVE, f"{HINT}{PUNCTUATED} Keywords: a, b"),
        (Transcribe(punctuate=False, keywords=("a",)), FIVE, "transcribe the speech to text. Keywords: a"),
        (Translate("it", punctuate=False), FIVE, "Translate the speech to Italian."),
        (Translate("zh"), FIVE, "Translate the speech to Mandarin with proper punctuation and capitalization."),
        (
            Translate("de", language="en"),
            FIVE,
            "Translate the speech to German with proper punctuation and capitalization.",
        ),
    ],
)
def test_every_row_of_the_tables(task: Task, model_type: Any, words: str) -> None:
    assert instruction(task, model_type) == words


@pytest.mark.parametrize("template", [BASE_TEMPLATE, None])
def test_base_prompt_with_and_without_a_template(template: str | None) -> None:
    text = prompt_text(Transcribe(punctuate=False), tiny_tokenizer(template), BASE)
    assert text == f"USER: <|audio|>{RAW}\n ASSISTANT:"


@pytest.mark.parametrize("template", [PLUS_TEMPLATE, None])
def test_plus_prompt_with_and_without_a_template(template: str | None) -> None:
    assert prompt_text(WordTimes(), tiny_tokenizer(template), PLUS) == (
        "<|start_of_role|>system<|end_of_role|>Knowledge Cutoff Date: April 2024.\n"
        "Today's Date: December 19, 2024.\n"
        "You are Granite, developed by IBM. You are a helpful AI assistant<|end_of_text|>\n"
        f"<|start_of_role|>user<|end_of_role|><|audio|> {TIMES}<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>"
    )


def test_the_prompt_has_one_slot_per_embedding() -> None:
    tokenizer = tiny_tokenizer()
    ids = build_prompt(Transcribe(), tokenizer, BASE, 7)
    text = prompt_text(Transcribe(), tokenizer, BASE)
    assert ids == tokenizer.encode(text.replace("<|audio|>", "<|audio|>" * 7))
    assert ids.count(tokenizer.audio_id) == 7


def test_the_text_so_far_follows_the_header() -> None:
    tokenizer = tiny_tokenizer(PLUS_TEMPLATE)
    plain = build_prompt(SpeakerTurns(), tokenizer, PLUS, 2)
    assert build_prompt(SpeakerTurns(), tokenizer, PLUS, 2, "[Speaker 1]: so") == [
        *plain,
        *tokenizer.encode("[Speaker 1]: so"),
    ]


@pytest.mark.parametrize("template", ["USER: no slot", "<|audio|>{{ messages[0]['content'] }}"])
def test_a_template_without_exactly_one_slot_is_refused(template: str) -> None:
    with pytest.raises(PromptError, match=r"<\|audio\|>"):
        build_prompt(Transcribe(), tiny_tokenizer(template), BASE, 3)


def test_a_prompt_needs_audio() -> None:
    with pytest.raises(PromptError):
        build_prompt(Transcribe(), tiny_tokenizer(), BASE, 0)


def test_the_models_own_marks_cannot_be_smuggled_in() -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(OptionError, match=r"<\|audio\|>"):
        build_prompt(Transcribe(keywords=("a<|audio|>",)), tokenizer, BASE, 1)
    with pytest.raises(OptionError, match=r"<\|end_of_text\|>"):
        build_prompt(Transcribe(), tokenizer, BASE, 1, prefix_text="so<|end_of_text|>")


@pytest.mark.parametrize(
    ("task", "model_type", "reason"),
    [
        (SpeakerTurns(), BASE, "no speakers.*granite_speech_plus"),
        (WordTimes(), BASE, "no word times.*granite_speech_plus"),
        (Translate("fr"), PLUS, "does not translate"),
        (Transcribe(), PLUS, "punctuate=False"),
        (WordTimes(language="ja"), PLUS, r"Japanese.*en \(English\)"),
        (Transcribe(), "granite_speech_nar", "granite_speech_nar"),
        (SpeakerTurns(), FIVE, "no speakers.*granite_speech_plus"),
    ],
)
def test_what_a_model_cannot_do_is_said(task: Task, model_type: Any, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        instruction(task, model_type)


def test_default_tasks_fit_their_models() -> None:
    assert default_task(BASE) == Transcribe()
    assert instruction(default_task(PLUS), PLUS) == RAW
    assert instruction(default_task(FIVE), FIVE) == PUNCTUATED


def test_budgets() -> None:
    assert max_new_tokens(Transcribe(), BASE) is None
    assert max_new_tokens(Transcribe(), FIVE) is None
    assert max_new_tokens(SpeakerTurns(), PLUS) == 2_000
    assert max_new_tokens(WordTimes(), PLUS) == 10_000


def test_keywords_are_cleaned() -> None:
    assert clean_keywords([" New \n York ", "", "granite", "New York", "  "]) == ("New York", "granite")
    assert Transcribe(keywords=("b", "a", "b")).keywords == ("b", "a")
    with pytest.raises(OptionError, match="not one string"):
        clean_keywords("granite")
    with pytest.raises(OptionError, match="commas"):
        clean_keywords(["a, b"])


def test_languages_by_code_or_name() -> None:
    assert [language_code(name) for name in ("fr", "FR", " French ", "mandarin")] == ["fr", "fr", "fr", "zh"]
    assert Translate("german", language="English") == Translate("de", language="en")
    with pytest.raises(OptionError, match=r"'klingon'.*en \(English\).*zh \(Mandarin\)"):
        Translate("klingon")
    with pytest.raises(OptionError, match="no Italian speech"):
        Transcribe(language="it")


def test_languages_allowed_as_spoken_are_those_that_are_understood() -> None:
    for build in (
        lambda: Transcribe(language="klingon"),
        lambda: Translate("fr", language="klingon"),
        lambda: TranscribeOptions(language="klingon"),
    ):
        with pytest.raises(OptionError, match=r"'klingon'; allowed are en \(English\).*ja \(Japanese\)$") as refused:
            build()
        assert "Italian" not in str(refused.value)
        assert "Mandarin" not in str(refused.value)


@pytest.mark.parametrize(
    ("tag", "code"),
    [("pt-BR", "pt"), ("zh_CN", "zh"), ("en-us", "en"), ("zh-Hant-TW", "zh"), (" JA_jp ", "ja"), ("de-", "de")],
)
def test_a_region_or_script_behind_a_code_changes_no_language(tag: str, code: str) -> None:
    assert language_code(tag) == code


@pytest.mark.parametrize("tag", ["", "-BR", "ptBR", "xx-YY", "por-BR", "ger"])
def test_what_is_no_tag_of_a_language_is_refused(tag: str) -> None:
    with pytest.raises(OptionError, match="unknown language"):
        language_code(tag)


def test_regions_go_with_every_option_of_a_language() -> None:
    assert Transcribe(language="pt-BR") == Transcribe(language="pt")
    assert Translate("zh_CN", language="en-GB") == Translate("zh", language="en")
    with pytest.raises(OptionError, match="no Italian speech"):
        Transcribe(language="it_CH")


def test_the_pairs_of_the_family() -> None:
    assert len(PAIRS) == 12
    assert {source for source, _ in PAIRS} == set(SOURCE_LANGUAGES)
    assert {target for _, target in PAIRS} == set(LANGUAGES)
    with pytest.raises(OptionError, match=r"no translation from fr to de; there are .*en-de"):
        Translate("de", language="fr")
    with pytest.raises(OptionError, match="from en to en"):
        Translate("en", language="en")


def test_tasks_by_name() -> None:
    assert task_named("transcribe", keywords=["a"]) == Transcribe(keywords=("a",))
    assert task_named("translate", to="fr", punctuate=False) == Translate("fr", punctuate=False)
    assert (task_named("speakers"), task_named("word-times")) == (SpeakerTurns(), WordTimes())
    with pytest.raises(OptionError, match=r"'summarise'.*transcribe, translate, speakers, word-times"):
        task_named("summarise")
    with pytest.raises(OptionError, match="'speakers' has no option punctuate; it has keywords, language"):
        task_named("speakers", punctuate=True)
    with pytest.raises(OptionError, match="needs the option 'to'"):
        task_named("translate")


def test_plain_and_chained_replies() -> None:
    assert parse_reply(Transcribe(), "  hello world\n").text == "hello world"
    assert parse_reply(Translate("fr"), " bonjour").text == "bonjour"
    chained = parse_reply(Translate("fr"), "[Transcription] hello\nyou [Translation] bonjour\nvous ")
    assert (chained.transcription, chained.text) == ("hello\nyou", "bonjour\nvous")
    assert parse_reply(Translate("fr"), "[Translation] salut").transcription is None
    assert parse_reply(Translate("fr"), "[Transcription] cut off here").text == "cut off here"


@pytest.mark.parametrize(
    ("text", "words", "malformed"),
    [
        ("bon [Translation] jour", "jour", 1),
        ("[Translation] a [Translation] b", "a b", 1),
        ("[Translation] le [Transcription] mot", "le mot", 1),
        ("[Transcription] one [Transcription] two [Translation] deux", "deux", 0),
        ("[Translation]", "", 0),
        ("salut [Transcription]", "salut", 1),
        ("[Transcription] cut off here", "cut off here", 1),
        ("[Transcription] hello [Translation] bonjour", "bonjour", 0),
        ("bonjour [Translation", "bonjour", 1),
        ("[Transcription] hello [Tran", "hello", 2),
        ("[Transcription] hello [Translation] le mot [T", "le mot", 1),
        ("voir [Table] et [Tout ", "voir [Table] et [Tout", 0),
    ],
)
def test_no_tag_of_a_chain_of_thought_is_left_in_a_translation(text: str, words: str, malformed: int) -> None:
    reply = parse_reply(Translate("fr"), text)
    assert (reply.text, reply.malformed) == (words, malformed)
    assert "[Trans" not in reply.text + (reply.transcription or "")


def test_turns() -> None:
    reply = parse_reply(SpeakerTurns(), "[Speaker 1]: hello there [Speaker 2]: hi [Speaker 1]:again")
    assert reply.turns == (Turn("1", "hello there"), Turn("2", "hi"), Turn("1", "again"))
    assert (reply.text, reply.malformed) == ("hello there hi again", 0)


def test_turns_without_or_with_broken_tags_keep_their_words() -> None:
    assert parse_reply(SpeakerTurns(), "just words").turns == (Turn(None, "just words"),)
    reply = parse_reply(SpeakerTurns(), "so [Speaker 1]: a [Speaker X]: b [Speaker 2 c [Speaker 2] d [Speaker 2]: e")
    assert reply.turns == (Turn(None, "so"), Turn("1", "a b"), Turn("2", "c d e"))
    assert reply.malformed == 2
    assert parse_reply(SpeakerTurns(), "").turns == ()


def times(text: str, duration_s: float | None = None) -> list[tuple[str, float, float]]:
    words = parse_reply(WordTimes(), text, duration_s).words
    return [(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in words]


@pytest.mark.parametrize("text", ["if [T:12] you [T:30] _ [T:95] can [T:120]", "if[T:12]you[T:30]_[T:95]can[T:120]"])
def test_word_times_with_and_without_spaces(text: str) -> None:
    assert times(text) == [("if", 0.0, 0.12), ("you", 0.12, 0.3), ("can", 0.95, 1.2)]
    reply = parse_reply(WordTimes(), text)
    assert (reply.text, reply.malformed) == ("if you can", 0)


def test_times_wrap_every_ten_seconds() -> None:
    assert times("a [T:950] _ [T:20] b [T:60] _ [T:990] c [T:5]") == [
        ("a", 0.0, 9.5), ("b", 10.2, 10.6), ("c", 19.9, 20.05),
    ]  # fmt: skip
    assert unwrap(0.0, 30.0) == 30.0
    assert unwrap(0.01, 30.02) == 40.01


def test_broken_time_tags_are_counted_and_lose_no_word() -> None:
    reply = parse_reply(WordTimes(), "one [T:] three [T:80] six[T:1x0] [T:1234] x [T:120]", None)
    assert reply.text == "one three six x"
    assert reply.malformed == 5
    assert times("one [T:] three [T:80]") == [("one", 0.0, 0.3), ("three", 0.3, 0.8)]


def test_a_reply_that_was_cut_keeps_its_last_words() -> None:
    assert times("a [T:50] bc d", 0.8) == [("a", 0.0, 0.5), ("bc", 0.5, 0.7), ("d", 0.7, 0.8)]
    assert times("a [T:50] b [T:6") == [("a", 0.0, 0.5), ("b", 0.5, 0.5)]
    assert parse_reply(WordTimes(), "a [T:50] b [T:6").malformed == 2
    assert parse_reply(WordTimes(), "").words == ()
