"""The gateway over HTTP: server, API keys and limits."""
