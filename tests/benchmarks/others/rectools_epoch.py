"""One epoch of RecTools' SASRec on (user, item, position) rows; run by speed.py in an interpreter that has it."""

import json
import resource
import sys
import time

import numpy as np
import pandas as pd
from rectools.dataset import Dataset
from rectools.models import SASRecModel

rows = np.load(sys.argv[1], allow_pickle=False)
frame = pd.DataFrame({"user_id": rows[:, 0], "item_id": rows[:, 1], "weight": 1.0})
frame["datetime"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rows[:, 2], unit="s")
dataset = Dataset.construct(frame)


def seconds(epochs: int) -> float:
    model = SASRecModel(
        n_factors=128,
        n_blocks=2,
        n_heads=2,
        session_max_len=50,
        dropout_rate=0.5,
        lr=1e-3,
        batch_size=512,
        loss="BCE",
        n_negatives=1,
        epochs=epochs,
        verbose=0,
    )
    began = time.perf_counter()
    model.fit(dataset)
    return time.perf_counter() - began


# What fitting costs beside its epochs is in both and falls out.
one = seconds(1)
took = {"seconds": (seconds(3) - one) / 2, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
sys.stdout.write(json.dumps(took) + "\n")
