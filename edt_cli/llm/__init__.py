"""Who is asked: the LLM and the embedder of a command, and questions in any number to them."""
