"""LLM and embedding backends; imports nothing from edt_cli."""
