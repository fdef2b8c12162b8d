"""CTC greedy decoding as raw text; the tensor part is `decode/ctc_greedy.py`."""

from __future__ import annotations

from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import labels_text
from lithophone.ctc.posteriors import CTCPosteriors
from lithophone.decode.ctc_greedy import bpe_replies
from lithophone.decode.reply import Reply


def ctc_replies(checkpoint: Checkpoint, posteriors: CTCPosteriors, head: str) -> list[tuple[str, Reply]]:
    """Text and reply of every row by a CTC `head`; characters have no token ids."""
    if head == "characters":
        return [(text, Reply((), True, ())) for text in character_texts(posteriors)]
    replies = bpe_replies(checkpoint.network, posteriors)
    return [(checkpoint.tokenizer.decode(reply.ids), reply) for reply in replies]


def character_texts(posteriors: CTCPosteriors) -> list[str]:
    """Best path of every row as text; "" where all frames are blank."""
    return [labels_text(row.labels) for row in posteriors]
