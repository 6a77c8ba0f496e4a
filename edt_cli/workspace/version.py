"""The version of edt, defined here only; manifests record it."""

__version__ = "0.1.0"
