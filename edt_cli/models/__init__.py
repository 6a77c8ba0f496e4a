"""Backbones, item encoders, losses, and one file a system; all behind one contract (`sequential.py`)."""
