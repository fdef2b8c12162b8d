"""CTC: the character vocabulary, alignment, prefix scores, confidence, language bias."""
