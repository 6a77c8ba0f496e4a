"""Result documents as `edt eval` leaves them, small."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from edt_cli.workspace.documents import Result


@pytest.fixture
def result() -> Callable[..., Result]:
    """`result("sasrec", food=(0.5, 0.3), kitchen=(0.4, 0.2), seed=42)`: HR@10 and NDCG@10 of each domain."""

    def make(model: str, **given: Any) -> Result:
        fields = {key: given.pop(key) for key in list(given) if key in Result.__annotations__}
        users = given.pop("users", 10)
        domains = {
            name: {"users": users, "hr@10": hit, "ndcg@10": gain, "mrr": 0.15, "popularity@10": 7.25}
            for name, (hit, gain) in given.items()
        }
        document = {
            "data": "shop",
            "synthetic": False,
            "preset": "",
            "variant": "",
            "first_phase": False,
            "label": model,
            "llm": "",
            "seed": 42,
            "split": "test",
            "protocol": "full",
            "negatives": None,
            "overall": {"users": 20, "hr@10": 0.45, "ndcg@10": 0.25},
            "groups": {},
            "seconds": 1.5,
            "parameters": 1234,
        } | fields
        document |= {"model": model, "domains": domains}
        document.setdefault("run", "-".join(str(document[key]) for key in ("data", "label", "variant", "seed")))
        return document  # type: ignore[return-value]

    return make


@pytest.fixture
def printed() -> Callable[..., list[str]]:
    """The lines that a console of `width` cells shows, without the blanks at their ends."""

    def lines(renderable: RenderableType, width: int = 80, encoding: str = "utf-8", **console: Any) -> list[str]:
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
        Console(file=file, width=width, highlight=False, **console).print(renderable)
        file.flush()
        return [line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()]

    return lines
