#!/usr/bin/env bash
# Own data from two files to recommendations: bash examples/own_data.sh [FOLDER]
# Writes everything below FOLDER (default: ./own-data-example). A minute on two cores.
set -euo pipefail
folder=${1:-own-data-example}
mkdir -p "$folder"
export EDT_WORKSPACE="$folder/workspace"

# Two shops that share customers: who buys a tent in one buys a stove in the other.
python - "$folder" <<'PYTHON'
import csv, random, sys
from pathlib import Path

folder, rng = Path(sys.argv[1]), random.Random(7)
themes = {"camping": ("tent", "stove"), "running": ("shoes", "watch"), "baking": ("tin", "mixer"), "garden": ("hose", "spade")}
with (folder / "shop.csv").open("w") as a, (folder / "outlet.csv").open("w") as b:
    files = [csv.writer(a), csv.writer(b)]
    for file in files:
        file.writerow(("user", "item", "time", "title"))
    for user in range(300):
        theme = rng.choice(list(themes))
        home = rng.randrange(2)
        for step in range(rng.randrange(5, 12)):
            shop = home if rng.random() < 0.9 else 1 - home
            kind, size = themes[theme][shop], rng.choice("SML")
            model = rng.randrange(6)
            item = f"{'AB'[shop]}-{theme}-{model}{size}"
            files[shop].writerow((f"c{user}", item, 1_700_000_000 + 86_400 * step, f"{theme} {kind} no. {model}, size {size}"))
PYTHON

edt data prepare mine --domain-file "$folder/shop.csv" --domain-file "$folder/outlet.csv"
edt data stats mine
edt train --data mine --preset paper --epochs 5 --set options.finetune_epochs=10 --set training.batch=64
edt train --data mine --model item-knn
edt report --data mine
edt train --data mine --preset paper --final --epochs 5 --set options.finetune_epochs=10 --set training.batch=64
printf 'A-camping-0S\n' > "$folder/out-of-stock.txt"
edt recommend --data mine --user c7 --count 3 --exclude "$folder/out-of-stock.txt"
edt recommend --data mine --all --out "$folder/recommendations.parquet"
edt recommend --data mine --export-items "$folder/index"
