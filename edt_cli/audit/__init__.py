"""Audit of results: the chain from the raw files to a table's cell, leaks, and runs that are made again."""
