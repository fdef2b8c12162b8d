"""Text: tokenizer, chat templates, prompts, replies, Japanese readings."""
