"""Backbones: each trains behind one small protocol; third-party imports stay in its folder."""
