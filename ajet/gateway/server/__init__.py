"""The gateway over HTTP: server, keys, limits."""
