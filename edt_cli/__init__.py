"""edt: LLM-enhanced cross-domain sequential recommendation in the terminal."""

__version__ = "0.1.0"
