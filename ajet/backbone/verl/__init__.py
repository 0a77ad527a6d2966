"""The verl backbone: training with FSDP2 and sampling with vLLM on a Ray cluster."""
