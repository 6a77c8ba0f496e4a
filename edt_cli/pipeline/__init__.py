"""Pipeline from a dataset to a trained run, which makes the missing artefacts in order."""

from edt_cli.pipeline.run import Pipeline

__all__ = ["Pipeline"]
