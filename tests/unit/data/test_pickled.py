"""Arrays out of pickles, and pickles that would run something: none does, each is one line."""

import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from edt_cli.config import UserError
from edt_cli.data.pickled import read_pickled

VALUE = (
    {1: np.arange(3), 2: np.array([5], np.int32), "x": None},
    {1: [0, 1, -7, 2**40], 2: [True, 0.5]},
    np.asfortranarray(np.array([[1, 2], [3, 4], [5, 6]], np.float32)),
    np.arange(6.0).reshape(2, 3)[:, ::2],
    np.array([1.5], ">f8"),
    [np.int64(3), np.float64(0.5)],
    ["Ä", "a" * 300, b"bytes"],
    (1, 2, 3, 4),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.pkl"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("numpy", ["numpy.core", "numpy._core"])
def test_what_is_in_the_file(path, protocol, numpy):
    """As pickle itself reads it, written by numpy before 2 or since."""
    data = pickle.dumps(VALUE, protocol=protocol)
    modules = [f"numpy.{core}.{name}" for core in ("core", "_core") for name in ("multiarray", "numeric")]
    for module in modules if protocol < 4 else ():
        data = data.replace(f"c{module}\n".encode(), f"c{numpy}.{module.rpartition('.')[2]}\n".encode())
    path.write_bytes(data)
    read = read_pickled(path)
    for ours, theirs in zip(read, VALUE, strict=True):
        pairs = zip(ours.values(), theirs.values(), strict=True) if isinstance(theirs, dict) else [(ours, theirs)]
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)
            assert type(one) is type(other) and getattr(one, "dtype", None) == getattr(other, "dtype", None)
    assert read[0].keys() == VALUE[0].keys() and type(read[5][0]) is int


def test_one_object_in_two_places(path):
    shared = np.arange(3)
    path.write_bytes(pickle.dumps([shared, shared, [shared]]))
    assert [len(one) for one in read_pickled(path)] == [3, 3, 1]


class Calls:
    """Pickled as a call, which unpickling makes."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    def __init__(self):
        self.name = "state"


def hidden_in_array(proof):
    return np.array([Calls(open, str(proof), "w")], dtype=object)


def raw(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module, attribute):
    return b"c" + f"{module}\n{attribute}\n".encode()


def string(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


ARRAY = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
DTYPE = name("numpy", "dtype") + string("f8") + b"\x89\x88\x87R"
OPEN = name("builtins", "open")


def hostile(proof):
    """Each writes `proof` when it is unpickled, or would take the machine's memory."""
    opened = string(str(proof)) + string("w") + b"\x86R"
    return {
        "os.system": pickle.dumps(Calls(os.system, f"touch {proof}")),
        "builtins.eval": pickle.dumps(Calls(eval, f"open({str(proof)!r}, 'w')")),
        "nested in a dict": pickle.dumps(({1: [Calls(open, str(proof), "w")]}, {1: [0]})),
        "as a key": pickle.dumps({Calls(str.strip, "x"): 1}),
        "in an array": pickle.dumps(hidden_in_array(proof)),
        "protocol 0": pickle.dumps(Calls(open, str(proof), "w"), protocol=0),
        "by INST": b"(S'" + str(proof).encode() + b"'\nS'w'\nibuiltins\nopen\n.",
        "by OBJ": raw(b"(", OPEN, string(str(proof)), string("w"), b"o"),
        "by NEWOBJ": raw(OPEN, string(str(proof)), string("w"), b"\x86\x81"),
        "by names on the stack": raw(string("builtins"), string("open"), b"\x93", opened),
        "numpy's names, another attribute": raw(name("numpy.core.multiarray", "fromfile"), opened),
        "numpy's names, a path in them": raw(name("numpy", "core.multiarray.fromfile"), opened),
        "a memoised name": raw(OPEN, b"q\x00h\x00", opened),
        "a call of ndarray": raw(name("numpy", "ndarray"), b"J\xff\xff\xff\x7f\x85\x85R"),
        "a call of dtype with an object": raw(name("numpy", "dtype"), string("O8"), b"\x89\x88\x87R"),
        "a structured dtype": raw(name("numpy", "dtype"), string("V999999"), b"\x89\x88\x87R"),
        "an encoder of choice": raw(name("_codecs", "encode"), string("a"), string("rot13"), b"\x86R"),
        "an extension": raw(b"\x82\x01"),
        "a persistent id": raw(b"Pid\n"),
        "an instance": pickle.dumps(State()),
        "a class": pickle.dumps(OrderedDict(a=1)),
        "a bare name": raw(name("numpy", "ndarray")),
        "a bare type": raw(DTYPE),
        "an array without numbers": raw(ARRAY),
        "a list of names": raw(b"]", name("numpy", "dtype"), b"a"),
        "a set": pickle.dumps({1, 2}),
        "state for a dict": raw(b"}", b"}b"),
        "a key that is a list": raw(b"}]Ks."),
        "an array of another size": raw(
            ARRAY, b"(K\x01J\xff\xff\xff\x7f\x85", DTYPE, b"\x89C\x08", b"\0" * 8, b"tb"
        ),
        "an array of size -1": raw(ARRAY, b"(K\x01J\xff\xff\xff\xff\x85", DTYPE, b"\x89C\x08", b"\0" * 8, b"tb"),
        "a size beyond numbers": raw(ARRAY, b"(K\x01\x8a\x08" + b"\xff" * 7 + b"\x7f\x85", DTYPE, b"\x89C\x00tb"),
        "bytes longer than the file": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        "bytes longer than memory": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
        "text longer than the file": b"\x80\x04X" + struct.pack("<I", 2**32 - 1) + b"abc.",
        "a frame longer than the file, cut": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"]",
        "a number of a billion digits": b"\x80\x04\x8b" + struct.pack("<I", 2**31 - 1) + b"1.",
        "cut off": pickle.dumps(VALUE)[:-20],
        "nothing to stop on": raw(b""),
        "more than one value": raw(b"K\x01K\x02"),
        "a mark that is not there": raw(b"e"),
        "a memo that is not there": raw(b"h\x07"),
        "an append to a number": raw(b"K\x01K\x02a"),
        "no pickle": b"user,item,time\n1,2,3\n",
        "a zip, as torch saves": b"PK\x03\x04" + b"\0" * 60,
    }


@pytest.mark.parametrize("kind", hostile("/x"))
def test_nothing_in_a_file_is_run(path, tmp_path, kind):
    proof = tmp_path / "ran"
    path.write_bytes(hostile(proof)[kind])
    with pytest.raises(UserError) as refusal:
        read_pickled(path)
    assert not proof.exists()
    assert str(refusal.value).startswith("data.pkl ") and "\n" not in str(refusal.value)


def test_these_files_do_run_when_they_are_unpickled(tmp_path):
    """So that the test above says something."""
    for kind in ("os.system", "builtins.eval", "nested in a dict", "in an array", "by INST", "a memoised name"):
        proof = tmp_path / kind
        pickle.load(io.BytesIO(hostile(proof)[kind]))  # noqa: S301
        assert proof.exists(), kind


def test_the_message_says_what_it_was(path):
    path.write_bytes(pickle.dumps(Calls(os.system, "true")))
    with pytest.raises(UserError, match=r"data.pkl has more in it than numbers, texts and arrays.*'posix.system'"):
        read_pickled(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"data.pkl is no pickle"):
        read_pickled(path)
    with pytest.raises(UserError, match=r"cannot read .*none.pkl: No such file"):
        read_pickled(path.with_name("none.pkl"))


def test_what_holds_itself_takes_no_room(path):
    """Two lists of two lists, a hundred times over, are a hundred lists."""
    value: list = []
    for _ in range(100):
        value = [value, value]
    path.write_bytes(pickle.dumps(value))
    assert len(read_pickled(path)) == 2
    inside: list = []
    inside.append(inside)
    path.write_bytes(pickle.dumps(inside))
    read = read_pickled(path)
    assert read[0] is read


def test_tuples_within_tuples_without_end(path):
    path.write_bytes(raw(b"K\x01" + b"\x85" * 100_000))
    assert isinstance(read_pickled(path), tuple)
