"""LLM and embedding backends. Stands alone: imports nothing from edt_cli."""
