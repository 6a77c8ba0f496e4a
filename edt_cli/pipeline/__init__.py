"""From a dataset to a trained run: what is missing, under which keys, and making it in order."""

from edt_cli.pipeline.run import Pipeline

__all__ = ["Pipeline"]
