"""The LLM and the embedder of a command, and asking them many questions."""
