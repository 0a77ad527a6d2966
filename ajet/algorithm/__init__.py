"""Credit and policy losses, one file per algorithm. Only the losses import torch.

Start with `baseline` (what an advantage estimator gets and returns), `credit` (from rewards to the
advantage of each token) and `token_loss` (what a loss variant gets and returns).
"""
