"""Text: languages, tokenizer, prompts, replies, Japanese readings."""
