"""OpenAI's `POST /v1/responses`, translated to the gateway's own request and back."""
