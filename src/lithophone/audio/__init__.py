"""Audio: any source -> samples, speech segments, features."""
