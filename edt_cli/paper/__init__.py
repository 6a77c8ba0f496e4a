"""Data from the paper: its ablations, and figures to compare with."""
