"""BLEU and chrF++ against sacrebleu's own command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lithophone.errors import OptionError
from lithophone.metrics.translation import translation_score

TEXTS = {
    "de": (
        ["Das ist ein Haus, in dem wir wohnen.", "Es regnet heute sehr stark."],
        ["Das ist das Haus, in dem wir wohnten.", "Heute regnet es sehr stark."],
    ),
    "ja": (["今日はとても良い天気です。", "私は学生です。"], ["今日はとてもいい天気ですね。", "私は学生だ。"]),
    "zh-CN": (["今天天气很好，我们去公园。", "我是学生。"], ["今天天气非常好，我们去公园吧。", "我是一个学生。"]),
}
TOKENIZER = {"de": "13a", "ja": "ja-mecab", "zh-CN": "zh"}


@pytest.mark.parametrize("lang", TEXTS)
def test_scores_are_those_of_the_command_line(lang: str, tmp_path: Path) -> None:
    references, hypotheses = TEXTS[lang]
    (tmp_path / "ref").write_text("\n".join(references) + "\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("\n".join(hypotheses) + "\n", encoding="utf-8")
    command = f"-m sacrebleu ref -i hyp -m bleu chrf --chrf-word-order 2 -w 12 -tok {TOKENIZER[lang]}"
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    bleu, chrf = json.loads(done.stdout)
    ours = translation_score(references, hypotheses, lang)
    assert (ours.bleu, ours.chrf) == (pytest.approx(bleu["score"]), pytest.approx(chrf["score"]))
    assert (ours.bleu_signature, ours.chrf_signature) == (bleu["signature"], chrf["signature"])
    assert f"tok:{TOKENIZER[lang]}" in ours.bleu_signature
    assert "nw:2" in ours.chrf_signature
    assert 0 < ours.bleu < 100
    assert 0 < ours.chrf < 100


def test_the_same_text_is_perfect() -> None:
    references = TEXTS["de"][0]
    score = translation_score(references, references, "de")
    assert (score.bleu, score.chrf) == (pytest.approx(100), pytest.approx(100))


@pytest.mark.parametrize(("references", "hypotheses"), [(["a"], []), ([], []), (["a"], ["a", "b"])])
def test_every_clip_needs_both(references: list[str], hypotheses: list[str]) -> None:
    with pytest.raises(OptionError, match=f"{len(references)} references and {len(hypotheses)}"):
        translation_score(references, hypotheses, "de")
