"""Decoders: embeddings of a prompt -> token ids of a reply. No text, no files, no seconds."""

from lithophone.decode.batched import decode_batch
from lithophone.decode.greedy import Reply, greedy_decode
from lithophone.decode.options import Greedy, token_budget

__all__ = ["Greedy", "Reply", "decode_batch", "greedy_decode", "token_budget"]
