"""Trinity-RFT: rollout and training side by side on Ray, on policy or fully asynchronous."""
