"""The gateway behind a socket: FastAPI on uvicorn. The only place that imports them."""
