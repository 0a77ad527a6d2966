"""vLLM as an engine: client, server process, and extensions that run inside the server."""
