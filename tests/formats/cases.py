"""Transcripts that formats are tested with, and the cues that they must be: start and end in ms, and text."""

from __future__ import annotations

from dataclasses import dataclass

from lithophone.transcript import Segment, Transcript, Word

Shown = tuple[int, int, str]


@dataclass(frozen=True)
class Case:
    transcript: Transcript
    cues: tuple[Shown, ...]


HOURS_S = 3 * 3600.0
HOSTILE_TEXT = 'He said "a\tb" & <b>c</b>\n\n1\n00:00:09,000 --> 00:00:10,000\n\x00\x07 {\\an8} ]]> ;; \ud800 end'
HOSTILE_NAME = ' "Ann\t<i>& Bob" [x]\n;; \x00'

CASES = {
    "empty": Case(Transcript((), 0.0), ()),
    "silent": Case(Transcript((Segment("  ", 0.0, 2.0),), 2.0), ()),
    "one_word": Case(Transcript((Segment("Yes.", 0.25, 0.75, (Word("Yes.", 0.25, 0.75, 0.5),)),), 1.0, "en"),
                     ((250, 750, "Yes."),)),
    "no_words": Case(Transcript((Segment("It rained.", 0.0, 1.5), Segment("We left.", 2.0, 3.0)), 3.0, "en"),
                     ((0, 1500, "It rained."), (2000, 3000, "We left."))),
    "speakers": Case(
        Transcript(
            (
                Segment("How are you?", 0.5, 1.5, (
                    Word("How", 0.5, 0.8, 0.9, "1"), Word("are", 0.8, 1.0, 0.4, "1"), Word("you?", 1.0, 1.5, 0.7, "1"),
                ), "1"),
                Segment("Fine.", 1.5, 2.0, (Word("Fine.", 1.6, 2.0, 1.0, "Ann B."),), "Ann B."),
                Segment("Good.", 2.25, 2.75, (Word("Good.", 2.25, 2.75, 0.0, "1"),), "1"),
            ),
            4.0, "en",
        ),
        ((500, 1500, "[Speaker 1]: How are you?"), (1500, 2000, "[Ann B.]: Fine."), (2250, 2750, "[Speaker 1]: Good.")),
    ),
    "words_change_speaker": Case(
        Transcript(
            (
                Segment("Yes. No, never.", 1.0, 3.0, (
                    Word("Yes.", 1.0, 1.4, 0.9, "1"), Word("No,", 2.0, 2.2, 0.9, "2"),
                    Word("never.", 2.2, 3.0, 0.9, "2"),
                )),
            ),
            3.0,
        ),
        ((1000, 1400, "[Speaker 1]: Yes."), (2000, 3000, "[Speaker 2]: No, never.")),
    ),
    "japanese": Case(
        Transcript(
            (
                Segment("東京で「ラジオ」を聞いた。", 0.0, 3.0, (
                    Word("東京", 0.0, 0.8, 0.9), Word("で", 0.8, 1.0, 0.6), Word("「ラジオ」", 1.0, 2.0, 0.3),
                    Word("を", 2.0, 2.1, 0.8), Word("聞いた。", 2.1, 3.0, 0.95),
                )),
            ),
            3.5, "ja",
        ),
        ((0, 3000, "東京で「ラジオ」を聞いた。"),),
    ),
    "overlap": Case(
        Transcript(
            (
                Segment("We went all the way to the sea.", 0.0, 4.0, speaker="channel 1"),
                Segment("Did you?", 3.0, 3.8, speaker="channel 2"),
                Segment("Really.", 3.0, 3.5, speaker="channel 3"),
            ),
            5.0,
        ),
        (
            (0, 3000, "[channel 1]: We went all the way to the sea."),
            (3000, 3409, "[channel 2]: Did you?"),
            (3409, 4409, "[channel 3]: Really."),
        ),
    ),
    "nested": Case(
        Transcript((Segment("x" * 40, 0.0, 5.0, speaker="A"), Segment("Mhm.", 0.3, 0.9, speaker="B")), 5.0),
        ((0, 2250, f"[A]: {'x' * 40}"), (2250, 2700, "[B]: Mhm.")),
    ),
    "short": Case(
        Transcript(
            (
                Segment("a b c", 1.0, 1.004, (
                    Word("a", 1.0, 1.0, 0.5), Word("b", 1.0, 1.0, 0.5), Word("c", 1.001, 1.004),
                )),
                Segment("d", 2.0, 2.0, (Word("d", 2.0, 2.0),)),
                Segment("e", 2.0, 2.5, (Word("", 2.0, 2.1), Word("e", 2.1, 2.5))),
            ),
            2.5,
        ),
        ((1000, 1004, "a b c"), (2000, 2001, "d"), (2001, 2500, "e")),
    ),
    "hours": Case(
        Transcript(
            (
                Segment("Start.", 0.0, 1.0, (Word("Start.", 0.0, 1.0, 1.0),)),
                Segment("An hour later.", 3600.0, 3601.999, (
                    Word("An", 3600.0, 3600.5, 1.0), Word("hour", 3600.5, 3601.0, 1.0),
                    Word("later.", 3601.0, 3601.999),
                )),
                Segment("End.", HOURS_S - 0.123, HOURS_S, (Word("End.", HOURS_S - 0.123, HOURS_S, 0.25),)),
            ),
            HOURS_S,
        ),
        ((0, 1000, "Start."), (3_600_000, 3_601_999, "An hour later."), (10_799_877, 10_800_000, "End.")),
    ),
}  # fmt: skip

HOSTILE = Transcript(
    (Segment(HOSTILE_TEXT, 0.5, 2.0, (Word("He", 0.5, 0.7, 0.3), Word('"a\tb"', 0.7, 1.0)), HOSTILE_NAME),
     Segment(HOSTILE_TEXT, 2.0, 3.0, (Word("<ALT_BEGIN>", 2.0, 2.5), Word(";;", 2.5, 3.0)), "Ann_B"),
     Segment(HOSTILE_TEXT, 3.0, 4.0, speaker="Ann B")),
    4.0, "en",
)  # fmt: skip
