"""The version of edt: the one place where it stands. Manifests record it."""

__version__ = "0.1.0"
