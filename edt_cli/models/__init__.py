"""Backbones, item encoders, losses, and one file per system; the contract is in `sequential.py`."""
