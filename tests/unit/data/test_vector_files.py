"""Vectors as people have them: each format in, one clear line for what is wrong with a file."""

import json
import pickle

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from edt_cli.config import UserError
from edt_cli.data.columns import Columns
from edt_cli.data.vector_files import read_vectors, vector_files

VECTORS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)


def read(path, columns=None):
    table = read_vectors(path, columns or Columns())
    return dict(zip(table.ids, np.asarray(table.vectors).tolist(), strict=True))


@pytest.fixture
def npy(tmp_path):
    """A whole file, to be spoiled."""
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "v.ids.txt").write_text("a\nb\nc\n")
    return tmp_path / "v.npy"


def refused(path, *words, columns=None):
    with pytest.raises(UserError) as refusal:
        read_vectors(path, columns or Columns())
    message = str(refusal.value)
    assert path.stem in message and "\n" not in message
    assert all(word in message for word in words), message


EXPECTED = {"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]}


def test_each_format_gives_the_same(npy, tmp_path):
    lists = pl.DataFrame({"item_id": ["a", "b", "c"], "title": "x", "emb": VECTORS.tolist()})
    lists.write_parquet(tmp_path / "list.parquet")
    lists.with_columns(pl.col("emb").cast(pl.Array(pl.Float32, 2))).write_parquet(tmp_path / "array.parquet")
    wide = pl.DataFrame({"asin": ["a", "b", "c"], "price": [1, 2, 3], "0": VECTORS[:, 0], "1": VECTORS[:, 1]})
    wide.write_parquet(tmp_path / "wide[1].parquet")
    save_file({"emb": VECTORS, "other": np.zeros(3)}, tmp_path / "v.safetensors")
    assert read(npy) == EXPECTED
    for name in ("list.parquet", "array.parquet", "wide[1].parquet", "v.safetensors"):
        assert read(tmp_path / name) == EXPECTED, name


def test_the_files_that_a_dataset_is_made_of(tmp_path):
    assert [path.name for path in vector_files(tmp_path / "a.b.npy")] == ["a.b.npy", "a.b.ids.txt"]
    assert [path.name for path in vector_files(tmp_path / "v.Parquet")] == ["v.Parquet"]


def test_ids_are_those_of_the_data(npy, tmp_path):
    """Spaces, a byte order mark, Windows' line ends and pandas' 100.0 make no other id."""
    (tmp_path / "v.ids.txt").write_bytes("\ufeff 100.0 \r\nb\r\nÄ\r\n\r\n".encode())
    assert list(read(npy)) == ["100", "b", "Ä"]
    pl.DataFrame({"item": [100.0, 7.0], "emb": [[1.0], [2.0]]}).write_parquet(tmp_path / "f.parquet")
    assert list(read(tmp_path / "f.parquet")) == ["100", "7"]


def test_the_column_of_ids_can_be_named(tmp_path):
    path = tmp_path / "v.parquet"
    pl.DataFrame({"key": ["a"], "emb": [[1.0]]}).write_parquet(path)
    refused(path, "no column known as item", "key, emb")
    assert read(path, Columns(names={"item": "key"})) == {"a": [1.0]}


def test_a_row_without_a_vector_is_an_item_without_one(tmp_path):
    pl.DataFrame({"item": ["a", "b"], "emb": [[1.0], None]}).write_parquet(tmp_path / "v.parquet")
    assert read(tmp_path / "v.parquet") == {"a": [1.0]}


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 2)), ["no vectors", "0 by 2"]),
        (np.zeros((3, 0)), ["no vectors"]),
        (np.zeros(3), ["shape (3,)", "one row an item"]),
        (np.zeros((3, 2, 2)), ["shape (3, 2, 2)"]),
        (np.array([["x"]] * 3), ["not", "<U1"][1:]),
        (np.zeros((3, 2), complex), ["complex128"]),
        (np.zeros((2, 2)), ["2 vectors", "3 ids"]),
    ],
)
def test_arrays_that_are_no_vectors(npy, array, words):
    np.save(npy, array)
    refused(npy, *words)


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_objects_are_not_unpickled(npy, tmp_path):
    proof = tmp_path / "ran"
    np.save(npy, np.array([Runs(proof)] * 3, dtype=object), allow_pickle=True)
    refused(npy, "Python objects", "not read")
    npy.write_bytes(pickle.dumps(Runs(proof)))
    refused(npy, "no .npy file")
    assert not proof.exists()


def header(shape):
    text = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        b"PK\x03\x04 a zip",
        b"\x93NUMPY\x01\x00\xff\xff",
        header((10**12, 10**6)),
        header((-1, 2)),
        header((3, 2))[:60],
        header("((" * 40),
    ],
    ids=["empty", "rubbish", "zip", "cut", "huge", "negative", "half a header", "no shape"],
)
def test_a_file_that_is_no_array(npy, content):
    npy.write_bytes(content)
    refused(npy, "no .npy file, or is damaged")


def test_ids_that_are_wrong(npy, tmp_path):
    (tmp_path / "v.ids.txt").write_text("a\nb\na\n")
    refused(npy, "several vectors for 1 ids", "such as a")
    (tmp_path / "v.ids.txt").write_text("a\n\nc\n")
    refused(npy, "1 vectors have an empty id")
    (tmp_path / "v.ids.txt").unlink()
    refused(npy, "has no ids", "v.ids.txt beside it")


def test_parquet_that_is_wrong(tmp_path):
    path = tmp_path / "v.parquet"

    def written(**columns):
        pl.DataFrame(columns).write_parquet(path)
        return path

    refused(written(item=["a", "b"], emb=[[1.0], [1.0, 2.0]]), "different lengths", "1 and 2")
    refused(written(item=["a"], one=[[1.0]], two=[[1.0]]), "several columns of lists", "one, two")
    refused(written(item=["a"], title=["x"]), "neither a column of lists nor columns of floats")
    refused(written(item=["a"], tags=[["x"]]), "cannot read")
    refused(written(item=["a", None], emb=[[1.0], [2.0]]), "1 vectors have an empty id")
    path.write_bytes(b"PAR1 rubbish")
    refused(path, "cannot read")
    path.unlink()
    refused(path, "cannot read", "No such file")


def test_safetensors_that_are_wrong(tmp_path):
    path = tmp_path / "v.safetensors"
    (tmp_path / "v.ids.txt").write_text("a\n")
    save_file({"one": np.zeros((1, 2)), "two": np.zeros((1, 2))}, path)
    refused(path, "the only tensor of two dimensions", "one, two")
    head = json.dumps({"v": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"\0" * 4)
    refused(path, "BF16", "float32")
    path.write_bytes(b"\xff" * 30)
    refused(path, "no safetensors file")


def test_other_endings_are_told_what_is_read(tmp_path):
    refused(tmp_path / "v.csv", ".parquet, .npy or .safetensors")
