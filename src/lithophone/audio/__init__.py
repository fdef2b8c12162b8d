"""Audio: any source -> samples, windows, features."""
