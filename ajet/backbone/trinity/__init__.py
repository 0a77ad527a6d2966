"""The Trinity-RFT backbone: rollout and training in parallel on Ray, also asynchronously."""
