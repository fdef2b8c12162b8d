"""The HTTP server: OpenAI's contract, and others that clients speak, over one transcriber per model."""
