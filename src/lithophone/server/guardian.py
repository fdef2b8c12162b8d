"""Pairing with Granite Guardian, which the model card recommends: prompts and transcripts judged for harm.

The Guardian runs elsewhere, behind an OpenAI-compatible chat endpoint (vLLM). Prompt formats: cookbooks of
ibm-granite/granite-guardian; 3.x takes the criterion as an argument of its chat template, 4.1 in a last message. Texts
stand in no log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from lithophone.pipeline.assembly import Event, RecordingDone
from lithophone.server.errors import ApiError
from lithophone.server.http_client import Answer, Outgoing, OutgoingError, exchange
from lithophone.server.settings import MEGABYTE, Settings
from lithophone.text.prompts import RAW
from lithophone.transcript import Transcript

PIECE = 4000
"""Characters judged at once: a Guardian has some thousand tokens of context."""

AT_ONCE = 4
ANSWER_TOKENS = 64
RISK = "harm"

CRITERION = (
    "The text promotes or contains content that is universally harmful across all contexts and audiences, including "
    "content that could cause physical, psychological, or social harm."
)
BLOCK = (
    "<guardian><no-think>As a judge agent, assess whether the provided text meets the given judging criteria using all "
    "available information, including conversations, documents, and tools. Provide your score immediately without "
    "explanation. Output empty <think>\n</think> tags followed by your score in <score></score> tags.\n\n"
    f"### Criteria: {CRITERION}\n\n"
    "### Scoring Schema: If the last assistant's text meets the criteria, return 'yes'; otherwise, return 'no'."
)
"""Last message for Guardian 4.1."""

TEMPLATE_OF_3 = {"guardian_config": {"criteria_id": RISK, "risk_name": RISK}, "think": False}
"""Arguments of the chat template: `criteria_id` of 3.3, `risk_name` of 3.0 to 3.2."""

YES, NO, UNKNOWN = "yes", "no", "unknown"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """`yes` (harmful), `no`, or `unknown` where the Guardian failed; None where there was no text to judge."""

    prompt: str | None = None
    transcript: str | None = None

    @property
    def flagged(self) -> bool | None:
        """None where the Guardian failed on one text and did not flag the other."""
        if YES in (self.prompt, self.transcript):
            return True
        return None if UNKNOWN in (self.prompt, self.transcript) else False

    def to_dict(self) -> dict[str, Any]:
        return {"risk": RISK, "flagged": self.flagged, "prompt": self.prompt, "transcript": self.transcript}


@dataclass(frozen=True)
class Judged(RecordingDone):
    """The event of a recording whose transcript was judged."""

    verdict: Verdict = field(kw_only=True)


class Guardian:
    """A client of the Guardian that the settings name."""

    def __init__(self, settings: Settings) -> None:
        assert settings.guardian_url is not None, "without a URL there is no Guardian"
        self.settings = settings
        self._url = urlsplit(settings.guardian_url.rstrip("/"))
        self._places = asyncio.Semaphore(AT_ONCE)

    async def judged(self, events: AsyncGenerator[Event, None], prompt: str) -> AsyncGenerator[Event, None]:
        """Events of one recording; the last one is Judged. With policy `block` no text comes before the verdict.

        Raises ApiError: 400 for blocked content, 503 where the Guardian fails and failure is `closed`.
        """
        async with aclosing(events):
            of_prompt = await self.verdict_of_prompt(prompt)
            held: list[Event] = []
            done: RecordingDone | None = None
            async for event in events:
                if isinstance(event, RecordingDone):
                    done = event
                elif self.settings.guardian_policy == "block":
                    held.append(event)
                else:
                    yield event
        assert done is not None, "errors are raised"
        assert isinstance(done.result, Transcript), "errors are raised"
        of_transcript = await self.verdict_of_transcript(done.result.text, prompt)
        for one in held:
            yield one
        verdict = Verdict(of_prompt, of_transcript)
        yield Judged(done.source, done.result, done.warnings, verdict=verdict)

    async def verdict_of_prompt(self, prompt: str) -> str | None:
        pieces = [[_message("user", piece)] for piece in pieces_of(prompt)]
        return await self._verdict("prompt", pieces)

    async def verdict_of_transcript(self, text: str, prompt: str = "") -> str | None:
        """A transcript is judged as the reply to the prompt."""
        asked = _message("user", pieces_of(prompt)[0] if prompt.strip() else RAW)
        return await self._verdict("transcript", [[asked, _message("assistant", piece)] for piece in pieces_of(text)])

    async def _verdict(self, what: str, conversations: list[list[dict[str, str]]]) -> str | None:
        """The worst of the verdicts; None without conversations. Raises ApiError by policy and failure."""
        found = await asyncio.gather(*[self._score(conversation) for conversation in conversations])
        if YES in found and self.settings.guardian_policy == "block":
            raise ApiError(400, f"the {what} was judged harmful, and is blocked", code="content_blocked")
        if YES not in found and UNKNOWN in found and self.settings.guardian_failure == "closed":
            raise ApiError(503, f"the guardian did not judge the {what}: try again later", code="guardian_failed")
        return next((verdict for verdict in (YES, UNKNOWN, NO) if verdict in found), None)

    async def _score(self, conversation: list[dict[str, str]]) -> str:
        async with self._places:
            try:
                asked = exchange(self._asked(conversation), MEGABYTE)
                return verdict_of(await asyncio.wait_for(asked, self.settings.guardian_timeout_s))
            except (OutgoingError, asyncio.TimeoutError) as error:
                why = str(error) or f"no answer within {self.settings.guardian_timeout_s:g} s"
                logger.warning("the guardian failed: %s", why)
                return UNKNOWN

    def _asked(self, conversation: list[dict[str, str]]) -> Outgoing:
        url, key = self._url, self.settings.guardian_api_key
        assert url.hostname is not None, "the settings are checked"
        body = json.dumps(self._body(conversation)).encode()
        headers = [("content-type", "application/json"), *([("authorization", f"Bearer {key}")] if key else [])]
        port = url.port or (443 if url.scheme == "https" else 80)
        target = f"{url.path}/chat/completions"
        return Outgoing("POST", url.hostname, port, url.hostname, target, self._tls, headers, body)

    def _body(self, conversation: list[dict[str, str]]) -> dict[str, Any]:
        model = self.settings.guardian_model
        common = {"model": model, "temperature": 0, "max_tokens": ANSWER_TOKENS}
        if re.search(r"granite-?3|guardian-?3", model, re.IGNORECASE):
            return {**common, "messages": conversation, "chat_template_kwargs": TEMPLATE_OF_3}
        return {**common, "messages": [*conversation, _message("user", BLOCK)]}

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self._url.scheme == "https" else None


def verdict_of(answer: Answer) -> str:
    """`yes` or `no` of a chat completion. Raises OutgoingError for anything else."""
    if answer.status != 200:
        raise OutgoingError(f"status {answer.status}")
    try:
        content = json.loads(answer.body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise OutgoingError("the answer is no chat completion") from error
    score = _score_of(content) if isinstance(content, str) else None
    if score is None:
        raise OutgoingError("the answer holds no verdict")
    return score


def _score_of(content: str) -> str | None:
    """Of `<think>...</think><score> yes </score>` (3.3 and later), or `Yes <confidence> High </confidence>`."""
    said = re.sub(r"<think>.*?</think>", "", content, flags=re.DOTALL).strip().lower()
    found = re.search(r"<score>\s*(yes|no)\s*</score>", said) or re.match(r"(yes|no)\b", said)
    return found[1] if found else None


def pieces_of(text: str) -> list[str]:
    """The text in pieces of at most PIECE characters, cut at spaces where there are any; none of blank text."""
    pieces = []
    text = text.strip()
    while len(text) > PIECE:
        cut = text.rfind(" ", PIECE // 2, PIECE)
        cut = cut if cut > 0 else PIECE
        pieces.append(text[:cut])
        text = text[cut:].strip()
    return [*pieces, text] if text else pieces


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
