"""Dual-phase training (sections 3.3 and 3.5): one loop, a phase tells it what to learn from."""
