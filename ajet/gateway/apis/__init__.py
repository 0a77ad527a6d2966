"""The wire APIs that agents can speak: one folder per API, all behind the contract in `base.py`."""
