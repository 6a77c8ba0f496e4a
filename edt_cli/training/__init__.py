"""Dual-phase training (sections 3.3 and 3.5): one loop for all phases."""
