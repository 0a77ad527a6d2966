"""Anthropic's `POST /v1/messages`, translated to the gateway's own request and back."""
