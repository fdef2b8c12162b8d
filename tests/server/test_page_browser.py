"""The page in headless Chromium, against a stand-in for the server."""

from __future__ import annotations

import json
import random
import re
import wave
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithophone.formats import render
from lithophone.transcript import Segment, Transcript, Word
from tests.server.chromium import NEEDS_CHROMIUM, chromium, pages_of, transcribed, until
from tests.server.stand_in import StandIn, problem, reply, served

pytestmark = [pytest.mark.full, *NEEDS_CHROMIUM]

RATE_HZ = 16000
TONE_HZ = 1000


def write_tone(path: Path, seconds: float, rate_hz: int = RATE_HZ) -> Path:
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    samples = (0.4 * np.sin(2 * np.pi * TONE_HZ * times) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone(tmp_path_factory.mktemp("audio") / "Interview 1.wav", 8)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium whose microphone plays a tone."""
    with chromium(write_tone(tmp_path_factory.mktemp("microphone") / "tone.wav", 10, 48000)) as started:
        yield started


@pytest.fixture
def server() -> Iterator[StandIn]:
    with served(StandIn()) as stand_in:
        yield stand_in


@pytest.fixture
def opened(browser: Any, server: StandIn) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end there was no console error and no request to another origin."""
    with pages_of(browser, server.address) as open_page:

        def loaded(*, models: int = 2, **settings: Any) -> Any:
            page = open_page(**settings)
            until(page, f"document.getElementById('model').options.length === {models}")
            return page

        yield loaded


# --- recordings


def test_a_file_becomes_a_transcript_with_the_chosen_options(
    opened: Callable[..., Any], server: StandIn, recording: Path
) -> None:
    page = opened()
    page.select_option("#language", "en")
    page.select_option("#model", "granite-speech-4.1-2b")
    page.select_option("#punctuate", "true")
    page.fill("#keywords", "Granite,  marble ,")
    transcribed(page, recording)
    route, form = server.forms[0]
    assert route == "transcriptions"
    assert form.pop("file") == []
    assert form == {
        "language": ["en"], "model": ["granite-speech-4.1-2b"], "punctuate": ["true"], "stream": ["true"],
        "keywords[]": ["Granite", "marble"], "response_format": ["verbose_json"],
        "timestamp_granularities[]": ["word", "segment"],
    }  # fmt: skip
    assert len(server.forms) == 1
    assert page.inner_text("#facts") == "Interview 1.wav · English · 0:08 · 35 words · 2 speakers"
    texts = [
        text.removeprefix("Speaker 1").removeprefix("Speaker 2")
        for text in page.locator(".turn div").all_text_contents()
    ]
    assert texts == [segment["text"] for segment in reply()["segments"]]
    assert page.get_attribute("#transcript", "lang") == "en"
    assert page.evaluate("document.activeElement.id") == "result"


def test_less_certain_words_are_shaded_and_speakers_coloured(opened: Callable[..., Any], recording: Path) -> None:
    page = transcribed(opened(), recording)
    colour = "element => getComputedStyle(element).backgroundColor"
    shades = {name: page.locator(f".word.{name}").first.evaluate(colour) for name in ("c1", "c2", "c3")}
    assert len({*shades.values(), "rgba(0, 0, 0, 0)"}) == 4
    assert page.locator(".word.c3").first.get_attribute("title") == "31 % certain"
    page.uncheck("#shade")
    assert page.locator(".word.c3").first.evaluate(colour) == "rgba(0, 0, 0, 0)"
    names = page.locator(".speaker")
    colours = names.evaluate_all("all => all.map(one => getComputedStyle(one).color)")
    assert names.all_text_contents() == ["Speaker 1", "Speaker 2"] * 2
    assert colours[0] == colours[2] != colours[1] == colours[3]


def test_words_light_up_as_the_recording_plays(opened: Callable[..., Any], recording: Path) -> None:
    page = transcribed(opened(), recording)
    page.evaluate("""() => {
        window.lit = [];
        const note = ({target}) => target.classList.contains("now") && lit.push(target.textContent);
        const watch = {subtree: true, attributeFilter: ["class"]};
        new MutationObserver((changes) => changes.forEach(note)).observe(document.getElementById("transcript"), watch);
        return document.getElementById("player").play();
    }""")
    until(page, "lit.length >= 6")
    page.evaluate("document.getElementById('player').pause()")
    assert page.evaluate("lit.slice(0, 6)") == ["Good", "morning,", "and", "welcome", "to", "the"]


def test_a_click_on_a_word_or_a_time_plays_from_there(opened: Callable[..., Any], recording: Path) -> None:
    page = transcribed(opened(), recording)
    start = next(word["start"] for word in reply()["words"] if word["word"] == "Granite")
    page.get_by_text("Granite", exact=True).click()
    assert start <= time_of(page) < start + 1.5
    assert not page.evaluate("document.getElementById('player').paused")
    page.get_by_role("button", name="Play from 0:07").click()
    assert time_of(page) >= reply()["segments"][3]["start"]


def time_of(page: Any) -> float:
    seconds: float = page.evaluate("document.getElementById('player').currentTime")
    return seconds


OUTLINE = """(() => {
    const {activeElement} = document;
    const shown = activeElement.id === "file" ? activeElement.nextElementSibling : activeElement;
    return getComputedStyle(shown).outlineStyle;
})()"""


def test_the_keyboard_alone_reaches_every_control_and_word(opened: Callable[..., Any], recording: Path) -> None:
    page = transcribed(opened(), recording)
    page.evaluate("document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute('tabindex')")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        outline = page.evaluate(OUTLINE)
        assert outline != "none" or reached[-1] in ("player", ""), f"{reached[-1]} shows no focus"
        if reached[-1] == "Good":
            break
    wanted = [
        "theme",
        "file",
        "record",
        "live",
        "language",
        "task",
        "punctuate",
        "model",
        "keywords",
        "TXT",
        "JSON",
        "copy",
    ]
    assert [name for name in (*wanted, "again", "player", "shade", "follow", "0:00") if name not in reached] == []
    for key, word in (
        ("ArrowRight", "morning,"),
        ("ArrowDown", "Thank"),
        ("End", "す。"),
        ("ArrowUp", "It"),
        ("Home", "Good"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == word
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(page, "!document.getElementById('player').paused")
    assert time_of(page) >= reply()["segments"][1]["start"]
    page.keyboard.press("Space")
    until(page, "document.getElementById('player').paused")


@pytest.mark.parametrize("name", ["txt", "srt", "vtt", "json"])
def test_downloads_are_the_files_of_the_command_line(
    opened: Callable[..., Any], recording: Path, name: str, tmp_path: Path
) -> None:
    page = transcribed(opened(), recording)
    with page.expect_download() as download:
        page.get_by_role("button", name=name.upper()).click()
    assert download.value.suggested_filename == f"Interview 1.{name}"
    download.value.save_as(tmp_path / "file")
    text = (tmp_path / "file").read_text(encoding="utf-8")
    if name == "json":
        assert {key: json.loads(text)[key] for key in reply()} == reply()
    else:
        assert text == render(name, transcript_of(reply()))


def transcript_of(values: dict[str, Any]) -> Transcript:
    words = [Word.from_dict(word) for word in values["words"]]
    segments = [
        Segment(
            s["text"], s["start"], s["end"], tuple(w for w in words if s["start"] <= w.start_s < s["end"]), s["speaker"]
        )
        for s in values["segments"]
    ]
    return Transcript(tuple(segments), values["duration"])


def test_the_text_is_copied(opened: Callable[..., Any], recording: Path) -> None:
    page = transcribed(opened(), recording)
    page.click("#copy")
    until(page, "document.getElementById('copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == render("txt", transcript_of(reply()))


def test_a_file_is_dropped_or_pasted(opened: Callable[..., Any], server: StandIn) -> None:
    page = opened()
    for number, event in enumerate(
        (
            "new DragEvent('drop', {dataTransfer: files, cancelable: true})",
            "new ClipboardEvent('paste', {clipboardData: files})",
        )
    ):
        page.evaluate(f"""() => {{
            const files = new DataTransfer();
            files.items.add(new File(['RIFF'], 'given {number}.wav'));
            document.body.dispatchEvent({event.replace("{", "{bubbles: true, ", 1)});
        }}""")
        until(page, f"document.getElementById('facts').textContent.startsWith('given {number}.wav')")
        page.wait_for_selector("#result:not([hidden])")
    assert len(server.forms) == 2


def test_a_stream_without_times_is_asked_for_again_as_a_whole(
    opened: Callable[..., Any], server: StandIn, recording: Path
) -> None:
    server.has_times_in_stream = False
    page = transcribed(opened(), recording)
    assert [form.get("stream") for _, form in server.forms] == [["true"], None]
    page.click("#again")
    until(page, "document.getElementById('work').hidden")
    assert [form.get("stream") for _, form in server.forms] == [["true"], None, None]
    assert page.locator(".word").count() == 35


def test_a_translation_has_its_target_and_no_words(
    opened: Callable[..., Any], server: StandIn, recording: Path
) -> None:
    server.reply = {**reply(), "language": "german"}
    del server.reply["words"]
    page = opened()
    assert not page.is_visible("#to")
    page.select_option("#task", "translate")
    page.select_option("#to", "de")
    transcribed(page, recording)
    route, form = server.forms[0]
    assert (route, form["to"], form.keys() & {"stream", "timestamp_granularities[]"}) == ("translations", ["de"], set())
    assert not page.is_visible("#shade")
    page.get_by_text("It is; the tone").click()
    assert time_of(page) >= reply()["segments"][2]["start"]


def test_texts_of_the_server_are_never_markup(opened: Callable[..., Any], server: StandIn, recording: Path) -> None:
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    segment = {"id": 0, "start": 0, "end": 1, "text": attack, "speaker": attack}
    server.reply = {
        "text": attack,
        "language": attack,
        "segments": [segment],
        "words": [],
        "warnings": [{"message": attack}],
    }
    page = transcribed(opened(), recording)
    assert page.locator("#result img, #result script").count() == 0
    assert page.inner_text(".word") == attack
    assert page.inner_text("#warnings") == attack


def test_silence_is_said(opened: Callable[..., Any], server: StandIn, recording: Path) -> None:
    server.reply = {"text": "", "language": "unknown", "duration": 8.0, "segments": [], "words": []}
    page = transcribed(opened(), recording)
    assert page.inner_text("#facts") == "Interview 1.wav · 0:08 · no speech found"
    assert page.inner_text("#status") == "No speech was found."


# --- progress, errors, keys


def test_progress_is_shown_and_work_can_be_cancelled(
    opened: Callable[..., Any], server: StandIn, recording: Path
) -> None:
    server.pause_s = 0.7
    page = opened()
    page.set_input_files("#file", recording)
    until(page, "document.getElementById('progress').value > 0.2")
    assert page.inner_text("#doing") == "Transcribing"
    assert page.inner_text("#preview").startswith("Good morning, and welcome")
    assert page.is_disabled("#record")
    page.click("#cancel")
    until(page, "document.getElementById('work').hidden")
    assert page.inner_text("#status") == "Cancelled."
    assert not page.is_visible("#problem")
    assert page.is_enabled("#record")


ERRORS = [
    (problem(429, "9 requests are waiting", "queue_full", {"retry-after": "12"}), "9 requests are waiting", "in 12 s"),
    (problem(413, "the body is larger than 500 MB", "body_too_large"), "The body is larger", "MP3 or Opus"),
    (
        problem(400, "x.wav is no recording", "invalid_audio", param="file"),
        "X.wav is no recording",
        "file is a recording",
    ),
    (problem(404, "the model 'x' is not served", "model_not_found", param="model"), "The model 'x'", "another model"),
    (problem(500, "it failed", "internal_error", {"x-request-id": "a1"}), "It failed", "request a1"),
    (problem(422, "", ""), "The server answered with status 422.", "Change the options"),
]


@pytest.mark.parametrize(
    ("answer", "message", "advice"), ERRORS, ids=lambda value: str(getattr(value, "status_code", ""))
)
def test_an_error_is_shown_with_what_to_do_and_tried_again(
    opened: Callable[..., Any], server: StandIn, recording: Path, answer: Any, message: str, advice: str
) -> None:
    server.errors = [answer]
    page = opened()
    page.set_input_files("#file", recording)
    page.wait_for_selector("#problem:not([hidden])")
    assert message in page.inner_text("#problem-text")
    assert advice in page.inner_text("#problem-advice")
    page.click("#retry")
    page.wait_for_selector("#result:not([hidden])")
    assert not page.is_visible("#problem")


def test_an_error_within_a_stream_is_shown(opened: Callable[..., Any], server: StandIn, recording: Path) -> None:
    server.fails_in_stream = True
    page = opened()
    page.set_input_files("#file", recording)
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-text") == "The model failed"


def test_a_key_is_asked_for_and_used_for_http_and_websocket(
    opened: Callable[..., Any], server: StandIn, recording: Path
) -> None:
    server.key = "sk-right"
    page = opened(models=1)
    page.wait_for_selector("#key-form:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "key"
    assert not page.is_visible("#problem")
    page.fill("#key", "sk-wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    page.fill("#key", "sk-right")
    page.keyboard.press("Enter")
    page.wait_for_selector("#key-form", state="hidden")
    assert page.locator("#model option").count() == 2
    transcribed(page, recording)
    page.click("#live")
    page.wait_for_selector("#captions p")
    page.click("#live")
    page.wait_for_selector("#result:not([hidden])")
    page.reload()
    until(page, "document.getElementById('model').options.length === 2")


def test_a_refused_websocket_asks_for_the_key(opened: Callable[..., Any], server: StandIn) -> None:
    page = opened()
    server.key = "sk-new"
    page.click("#live")
    page.wait_for_selector("#key-form:not([hidden])")
    assert page.inner_text("#live") == "Live captions"
    assert page.is_enabled("#record")


# --- the microphone


def test_a_recording_from_the_microphone_is_transcribed_and_plays(opened: Callable[..., Any], server: StandIn) -> None:
    page = opened()
    page.click("#record")
    until(page, "document.getElementById('clock').textContent === '0:02'")
    assert page.evaluate("document.getElementById('level').value") > 0.3
    assert not page.is_visible("#options")
    page.click("#record")
    page.wait_for_selector("#result:not([hidden])")
    assert re.fullmatch(r"recording-\d{4}-\d\d-\d\d-\d{6}\.webm · .*", page.inner_text("#facts"))
    until(page, "document.getElementById('player').duration < 10")
    assert page.evaluate("document.getElementById('player').duration") == pytest.approx(2.2, abs=1)
    page.get_by_text("welcome", exact=True).click()
    until(page, "document.getElementById('player').currentTime > 1")


def test_live_captions_grow_become_final_and_then_a_transcript(opened: Callable[..., Any], server: StandIn) -> None:
    page = opened()
    page.select_option("#language", "en")
    page.fill("#keywords", "lithophone")
    page.click("#live")
    until(page, "document.querySelectorAll('#captions p').length === 2")
    until(page, "document.querySelector('#captions .open')?.textContent.startsWith('the bars of')")
    assert page.locator("#captions p").first.text_content() == "The bars of a lithophone are made of stone."
    assert page.locator("#spoken p").all_text_contents() == ["The bars of a lithophone are made of stone."]
    page.click("#live")
    page.wait_for_selector("#result:not([hidden])")
    turns = page.locator(".turn div").all_text_contents()
    assert turns[0] == "The bars of a lithophone are made of stone."
    assert turns[1].startswith("The bars of")
    source = server.session["audio"]["input"]
    assert source["format"] == {"type": "audio/pcm", "rate": RATE_HZ}
    assert source["transcription"] == {"model": "lithophone-mini", "language": "en", "keywords": ["lithophone"]}
    assert server.session["type"] == "transcription"
    sent_s = len(server.samples()) / RATE_HZ
    assert page.evaluate("document.getElementById('player').duration") == pytest.approx(sent_s, abs=0.15)


def test_live_audio_is_16_khz_without_gaps(opened: Callable[..., Any], server: StandIn) -> None:
    page = opened()
    page.click("#live")
    until(page, "document.getElementById('clock').textContent === '0:03'")
    page.click("#live")
    page.wait_for_selector("#result:not([hidden])")
    samples = server.samples()[RATE_HZ : 2 * RATE_HZ].astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) == pytest.approx(TONE_HZ, abs=2)
    near = spectrum[TONE_HZ - 10 : TONE_HZ + 11]
    assert (near**2).sum() / (spectrum**2).sum() > 0.95


def test_a_closed_connection_ends_the_captions_with_an_error(opened: Callable[..., Any], server: StandIn) -> None:
    server.closes_after_bytes = 3 * RATE_HZ
    page = opened()
    page.click("#live")
    page.wait_for_selector("#problem:not([hidden])")
    assert "connection for live captions was closed" in page.inner_text("#problem-text")
    assert page.inner_text("#live") == "Live captions"
    assert page.locator(".turn").count() == 1


def test_live_captions_that_would_translate_are_refused(opened: Callable[..., Any], server: StandIn) -> None:
    page = opened()
    page.select_option("#task", "translate")
    page.click("#live")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-text") == "Live captions do not translate: choose another task."
    assert page.is_enabled("#live")
    assert server.audio == []


def test_a_microphone_that_is_not_allowed_is_explained(opened: Callable[..., Any]) -> None:
    page = opened()
    refusal = "throw new DOMException('', 'NotAllowedError')"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = async () => {{ {refusal}; }}; }}")
    page.click("#record")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-text").startswith("The microphone is not allowed.")
    assert page.is_enabled("#live")


# --- appearance


def test_dark_and_light_follow_the_system_and_the_switch(opened: Callable[..., Any]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    dark, light = opened(color_scheme="dark"), opened(color_scheme="light")
    assert (dark.evaluate(ground), light.evaluate(ground)) == ("rgb(18, 21, 22)", "rgb(243, 245, 245)")
    light.select_option("#theme", "dark")
    assert light.evaluate(ground) == "rgb(18, 21, 22)"
    light.reload()
    assert light.evaluate(ground) == "rgb(18, 21, 22)"
    assert light.input_value("#theme") == "dark"
    light.select_option("#theme", "system")
    assert light.evaluate(ground) == "rgb(243, 245, 245)"


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_needs_no_sideways_scrolling_and_has_large_targets(
    opened: Callable[..., Any], recording: Path, width: int
) -> None:
    page = opened(viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True)
    page.select_option("#task", "translate")
    page.select_option("#task", "transcribe")
    transcribed(page, recording)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator("button:visible, select:visible, input[type=text]:visible, .button:visible").evaluate_all(
        "all => all.map(one => Math.min(one.offsetHeight, one.offsetWidth))"
    )
    assert len(sizes) > 15
    assert min(sizes) >= 24


# --- parts of the scripts, in the browser


def test_subtitles_are_those_of_the_command_line(opened: Callable[..., Any]) -> None:
    page = opened()
    transcripts = [random_transcript(random.Random(seed)) for seed in range(150)]
    transcripts += [overlapping(random.Random(seed)) for seed in range(150)]
    replies = [verbose(transcript) for transcript in transcripts]
    written = page.evaluate(
        """async (replies) => {
            const { FORMATS } = await import("./page/x/formats.js");
            return replies.map((reply) => ["txt", "srt", "vtt"].map((name) => FORMATS[name].write(reply)));
        }""",
        replies,
    )
    for transcript, texts in zip(transcripts, written, strict=True):
        assert texts == [render(name, transcript) for name in ("txt", "srt", "vtt")]


TEXT = r"""
the stone a marble, lithophone. Ünïted (1954) 12 7 3.5 “quoted” don’t well-known; why? so… no! --> <b>bold</b> R&D
{\an8}up [Ann]: incomprehensibilities Donaudampfschifffahrtsgesellschaftskapitänspatentverlängerungsantrag
"""
WIDE_TEXT = "東京/で、/「ラジオ」/を/聞いた。/ちょっと/待って！/二〇二六/年/です/か？/GPU"
WORDS, WIDE_WORDS = [*TEXT.split(), "e\u0301te\u0301"], WIDE_TEXT.split("/")


def random_transcript(chance: random.Random) -> Transcript:
    at, segments = 0.0, []
    for _ in range(chance.randint(1, 4)):
        at += chance.choice((0.0, 0.3, 2.0))
        segment = random_segment(chance, round(at, 3))
        segments.append(segment)
        at = segment.end_s
    return Transcript(tuple(segments), at)


def random_segment(chance: random.Random, start_s: float) -> Segment:
    is_wide, is_timed = chance.random() < 0.3, chance.random() < 0.7
    texts = [chance.choice(WIDE_WORDS if is_wide else WORDS) for _ in range(chance.randint(1, 40))]
    words, at = [], start_s + chance.choice((0.0, 0.2, 1.5))
    for text in texts:
        end = at + chance.randint(50, 700) / 1000
        words.append(Word(text.strip(".,;?!、。"), round(at, 3), round(end, 3)))
        at = end + chance.choice((0.0, 0.0, 0.05, 0.6, 1.4))
    speaker = chance.choice((None, None, "1", "Ann [B]"))
    timed = tuple(word for word in words if word.text) if is_timed else ()
    return Segment(("" if is_wide else " ").join(texts), start_s, round(at, 3), timed, speaker)


def overlapping(chance: random.Random) -> Transcript:
    """Segments that overlap or have no length, without words: a reply lists these by time, whose they are."""
    segments: list[Segment] = []
    for _ in range(chance.randint(2, 5)):
        last = segments[-1] if segments else Segment("", 0.0, 0.0)
        start_s = round(chance.choice((last.start_s, last.start_s + 0.2, last.end_s)), 3)
        one = random_segment(chance, start_s)
        end_s = chance.choice((one.end_s, start_s, start_s + 0.3))
        segments.append(replace(one, text=one.text + chance.choice(("", "\x00", "\x07x")), end_s=end_s, words=()))
    return Transcript(tuple(segments), max(segment.end_s for segment in segments))


def verbose(transcript: Transcript) -> dict[str, Any]:
    segments = [
        {"id": number, "start": s.start_s, "end": s.end_s, "text": s.text, "speaker": s.speaker}
        for number, s in enumerate(transcript.segments)
    ]
    return {"segments": segments, "words": [word.to_dict() for word in transcript.words]}


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000, 96000])
def test_the_resampler_keeps_its_state_and_what_can_be_heard(opened: Callable[..., Any], rate_hz: int) -> None:
    """Tones up to 6 kHz keep their level within 1 %; those from 9 kHz on fall by 50 dB."""
    page = opened()
    hz = [300, 1000, 3000, *([6000] if rate_hz > 16000 else []), *([9000, 12000] if rate_hz > 24000 else [])]
    levels, whole, blocks = page.evaluate(
        """async ([rate, tones]) => {
            const { Resampler } = await import("./page/x/resampler-worklet.js");
            const tone = (hz) => Float32Array.from({ length: rate }, (_, i) => Math.sin((2 * Math.PI * hz * i) / rate));
            const whole = (samples, one = new Resampler(rate)) => [...one.push(samples), ...one.flush()];
            const blocks = (samples, one = new Resampler(rate)) => {
                const out = [];
                for (let at = 0; at < samples.length; at += 128) out.push(...one.push(samples.slice(at, at + 128)));
                return [...out, ...one.flush()];
            };
            const level = (samples) => Math.max(...samples.slice(2000, 14000).map(Math.abs));
            return [tones.map((hz) => level(whole(tone(hz)))), whole(tone(440)), blocks(tone(440))];
        }""",
        [rate_hz, hz],
    )
    assert whole == blocks
    assert len(whole) == pytest.approx(RATE_HZ, abs=2)
    kept = [level for tone, level in zip(hz, levels, strict=True) if tone <= 6000]
    assert kept == pytest.approx([1.0] * len(kept), rel=0.01)
    assert all(level < 0.003 for tone, level in zip(hz, levels, strict=True) if tone >= 9000)
