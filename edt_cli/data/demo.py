"""The built-in dataset `demo`: two synthetic domains that exercise every part of the method without a download.

Tastes (themes and a style) are shared by both domains and can be read from the titles. Purchases come in projects,
whose next step depends on the last. Most users buy in one domain only, as in figure 1. Ids are random and carry no
information.
"""

from __future__ import annotations

import math
import tomllib
from bisect import bisect
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

DEMO_SEED = 42
DEMO_DOMAINS = ("garden", "kitchen")

USERS = 3000
ITEMS_PER_KIND = 5
ONE_DOMAIN = 0.66  # share of users who buy in one domain only
DAY = 86_400
FIRST_DAY = 19_358  # 1 January 2023

STAY, FOLLOW, AGAIN = 0.75, 0.85, 0.03  # stay in the project; go on to its next kind; buy the same kind again
SAME_DAY, MEAN_GAP = 0.2, 14
NOISE = 0.05  # share of random purchases
TASTES = 4.0  # concentration of the Dirichlet distribution; small values mean few themes per user
STYLE_WEIGHT = 10.0
NO_TEXT, NO_DESCRIPTION = 0.04, 0.12

DETAILS = ("", ", Set of 2", ", Large", ", Small", ", Gift Edition", ", with Guide")


class _Shelf(NamedTuple):
    """Items of one theme, domain and kind, with cumulative weights for each style that a user may like."""

    items: list[int]
    weights: list[list[float]]

    def draw(self, style: int, chance: float, seen: set[int]) -> int:
        """Draw an item by its weight, with `chance` in [0, 1); replace a seen item by an unseen one."""
        weights = self.weights[style]
        item = self.items[bisect(weights, chance * weights[-1])]
        return next((other for other in self.items if other not in seen), item) if item in seen else item


Shelves = list[list[list[_Shelf]]]


def make_demo(seed: int = DEMO_SEED) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make the interactions (user, item, time), in the order of time, and the items with text."""
    words = tomllib.loads((Path(__file__).parent / "demo.toml").read_text("utf-8"))
    draw = np.random.default_rng(seed)
    items, shelves = _catalogue(words, draw)
    users, bought, days = _purchases(shelves, len(words["styles"]), draw)
    names = np.array([f"U{number:04d}" for number in draw.permutation(USERS)])
    log = pl.DataFrame(
        {"user": names[users], "item": items["item"].to_numpy()[bought], "time": np.array(days) * DAY}
    )
    return log[draw.permutation(len(log))].sort("time", maintain_order=True), items


def _catalogue(words: dict[str, Any], draw: np.random.Generator) -> tuple[pl.DataFrame, Shelves]:
    """Make the items, and the shelves by [theme][domain][kind]."""
    styles = [style["name"] for style in words["styles"]]
    rows: list[tuple[int, str | None, str | None, str | None, str | None]] = []

    def shelf(theme: dict[str, Any], domain: int, kind: str) -> _Shelf:
        numbers = list(range(len(rows), len(rows) + ITEMS_PER_KIND))
        popularity = draw.lognormal(0, 0.5, ITEMS_PER_KIND) / np.arange(1, ITEMS_PER_KIND + 1)
        style_of = draw.integers(len(styles), size=ITEMS_PER_KIND)
        for style, detail in zip(style_of, draw.permutation(DETAILS)[:ITEMS_PER_KIND], strict=True):
            rows.append((domain, *_text(theme, DEMO_DOMAINS[domain], kind, words["styles"][style], detail, draw)))
        likings = (np.where(style_of == liked, STYLE_WEIGHT, 1.0) for liked in range(len(styles)))
        return _Shelf(numbers, [list(accumulate(popularity * liking)) for liking in likings])

    shelves = [
        [[shelf(theme, domain, kind) for kind in theme[name]] for domain, name in enumerate(DEMO_DOMAINS)]
        for theme in words["themes"]
    ]
    ids = draw.choice(90_000, size=len(rows), replace=False) + 10_000
    frame = pl.DataFrame(rows, schema=["domain", "title", "brand", "category", "description"], orient="row")
    return frame.insert_column(0, pl.Series("item", [f"D{number}" for number in ids])), shelves


def _text(
    theme: dict[str, Any], domain: str, kind: str, style: dict[str, str], detail: str, draw: np.random.Generator
) -> tuple[str | None, str | None, str | None, str | None]:
    """Make title, brand, category and description; a few items have none of them, or no description."""
    brand = theme["brands"][draw.integers(len(theme["brands"]))]
    chance = draw.random()
    if chance < NO_TEXT:
        return None, None, None, None
    title = f"{brand} {style['name']} {kind}{detail}"
    described = f"{kind}: {style['words']}."
    return (
        title,
        brand,
        f"{domain.title()}, {theme['name']}",
        described if chance > NO_TEXT + NO_DESCRIPTION else None,
    )


def _purchases(shelves: Shelves, styles: int, draw: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
    """Draw the user, item and day of each purchase, in order for each user."""
    themes, kinds = len(shelves), len(shelves[0][0])
    lengths = np.clip(np.round(draw.lognormal(2.2, 0.42, USERS)), 3, 40).astype(int)
    appeal = np.arange(1, themes + 1) ** -0.4
    users: list[int] = []
    bought: list[int] = []
    days: list[int] = []
    for user, length in enumerate(lengths.tolist()):
        taste = draw.dirichlet(TASTES * appeal / appeal.sum()).cumsum().tolist()
        style = int(draw.integers(styles))
        lean = float(draw.integers(2)) if draw.random() < ONE_DOMAIN else draw.beta(1.5, 1.5)
        day, theme, kind = FIRST_DAY + int(draw.integers(500)), -1, 0
        seen: set[int] = set()
        for same_day, gap, side, stay, new_theme, step, new_kind, noise, pick in draw.random((length, 9)).tolist():
            if seen and same_day > SAME_DAY:
                day += 1 + int(-MEAN_GAP * math.log(1 - gap))
            if theme < 0 or stay > STAY:
                theme, kind = min(bisect(taste, new_theme), themes - 1), int(new_kind * kinds)
            elif step < FOLLOW:
                kind = (kind + 1) % kinds
            elif step > FOLLOW + AGAIN:
                kind = int(new_kind * kinds)
            where = (int(new_theme * themes), int(new_kind * kinds)) if noise < NOISE else (theme, kind)
            item = shelves[where[0]][int(side < lean)][where[1]].draw(style, pick, seen)
            seen.add(item)
            users.append(user)
            bought.append(item)
            days.append(day)
    return users, bought, days
