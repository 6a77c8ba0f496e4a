"""edt: LLM-enhanced cross-domain sequential recommendation in the terminal."""

import os

__version__ = "0.1.0"

# Read once, before the first tensor. Training makes and frees the same large blocks at each step: in pages of 4 KiB
# a third of its time goes into having them cleared. And a product is compiled for each shape that comes: of
# hundreds that are kept, few are met again.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
