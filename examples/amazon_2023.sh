#!/usr/bin/env bash
# Amazon Reviews 2023 to a table, with files that are made up: bash examples/amazon_2023.sh [FOLDER]
# The real ones are fetched by: edt data prepare food-kitchen --download --release 2023
set -euo pipefail
folder=${1:-amazon-2023-example}
mkdir -p "$folder/raw"
export EDT_WORKSPACE="$folder/workspace"

# Two categories in the layout of the release; a variant (asin) belongs to a product (parent_asin), which has the metadata.
python - "$folder/raw" <<'PYTHON'
import gzip, json, random, sys
from pathlib import Path

raw, rng = Path(sys.argv[1]), random.Random(7)
themes = {"coffee": ("beans", "grinder"), "tea": ("leaves", "teapot"), "pasta": ("flour", "press"), "rice": ("basmati", "steamer")}
names = ("Grocery_and_Gourmet_Food", "Home_and_Kitchen")
reviews, products = ([], []), ({}, {})
for user in range(400):
    theme, home = rng.choice(list(themes)), rng.randrange(2)
    for step in range(rng.randrange(5, 12)):
        side = home if rng.random() < 0.85 else 1 - home
        what, number = themes[theme][side], rng.randrange(8)
        parent = f"B{side}{theme[:2].upper()}{number:04}"
        products[side][parent] = {
            "parent_asin": parent, "title": f"{theme} {what} no. {number}", "store": f"{theme.title()} House",
            "main_category": names[side], "categories": [names[side], theme], "features": [f"for {theme}"],
            "description": [], "average_rating": 4.2, "rating_number": 10, "price": None, "details": {},
        }
        reviews[side].append({
            "rating": float(rng.randint(1, 5)), "title": "good", "text": "as said", "images": [], "asin": f"{parent}-{rng.randrange(3)}",
            "parent_asin": parent, "user_id": f"AE{user:06}", "timestamp": 1_600_000_000_000 + 86_400_000 * step + user,
            "helpful_vote": 0, "verified_purchase": True,
        })
for side, name in enumerate(names):
    for path, rows in ((f"{name}.jsonl.gz", reviews[side]), (f"meta_{name}.jsonl.gz", products[side].values())):
        with gzip.open(raw / path, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
PYTHON

edt data prepare food-kitchen --raw "$folder/raw" --window none --k-core none --min-rating 2
edt train --data food-kitchen --model popularity
edt train --data food-kitchen --model content-knn
edt train --data food-kitchen --model sasrec --preset sasrec-ce --epochs 8
edt report --data food-kitchen --cutoffs 5,10
