"""vLLM as an engine: the client, the server process, and what runs inside it."""
