"""Files that are whole or as they were, and what is left by processes that were killed."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from edt_cli.config import UserError
from edt_cli.workspace.files import abandoned, replacing, scratch_folder, write_atomic
from edt_cli.workspace.layout import Workspace

WRITE = """
import sys, time
from pathlib import Path
from edt_cli.workspace.files import replacing, scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder, replacing(Path(sys.argv[1]) / "out") as path:
    path.write_bytes(b"half")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def small_disk():
    """Let no file grow beyond 4 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame({"n": range(20_000)}).with_columns(text=pl.col("n").hash().cast(pl.String))


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_what_does_not_fit_leaves_the_old_file_and_nothing_beside_it(form, tmp_path, frame, small_disk):
    path = tmp_path / f"recs.{form}"
    path.write_text("yesterday's")
    with pytest.raises(UserError, match=rf"cannot write .*recs.{form}: .* MB are free there"):  # noqa: SIM117
        with replacing(path) as temporary:
            getattr(frame, f"write_{form}")(temporary)
    assert path.read_text() == "yesterday's" and [*tmp_path.iterdir()] == [path]


def test_an_artefact_that_does_not_fit_is_named(tmp_path, frame, small_disk):
    dataset = Workspace(tmp_path).dataset("shop")
    with pytest.raises(UserError, match=r"cannot write .*shop: "), dataset.create() as (folder, _):
        frame.write_parquet(folder / "items.parquet")
    assert not dataset.complete
    with pytest.raises(FileNotFoundError), dataset.create():  # of something that is read: no matter of room
        (tmp_path / "gone").read_text()


def test_what_fails_is_said_as_the_system_says_it(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*no/file: No such file or directory$"):
        write_atomic(tmp_path / "no" / "file", "text")
    with pytest.raises(UserError, match="Is a directory"):
        write_atomic(tmp_path, "text")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file"):
        1 / 0  # noqa: B018
    assert not [*tmp_path.iterdir()]


def test_any_new_file_has_the_mode_of_new_files_and_an_old_one_keeps_its_own(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "new") as path:
            path.unlink()
            os.close(os.open(path, os.O_CREAT, 0o600))  # as some libraries do
    finally:
        os.umask(before)
    (tmp_path / "old").touch(0o600)
    write_atomic(tmp_path / "old", "secret")
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")}
    assert modes == {"new": 0o640, "old": 0o600}


def test_links_stay_links_and_pipes_are_written_to(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "text"
    read, write = os.pipe()
    with replacing(Path(f"/dev/fd/{write}")) as path, path.open("w") as pipe:
        pipe.write("text")
    assert os.read(read, 9) == b"text"
    os.close(read)
    os.close(write)


def test_names_may_be_long_and_odd(tmp_path):
    for name in ("\u00fc" * 120, "recs [1]*.csv"):
        write_atomic(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"


def test_what_a_killed_process_left_goes_with_the_next_and_what_a_living_one_makes_stays(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    scratch = Path(process.stdout.readline().strip())
    (temporary,) = tmp_path.glob(".out.*.tmp")
    with scratch_folder(tmp_path) as mine:
        write_atomic(tmp_path / "out", "text")
        assert scratch.is_dir() and temporary.is_file() and not abandoned(temporary)
    assert not mine.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert abandoned(temporary)
    with scratch_folder(tmp_path):
        write_atomic(tmp_path / "out", "text")
        assert not scratch.exists() and not temporary.exists()
    assert [*tmp_path.iterdir()] == [tmp_path / "out"]


def test_the_error_of_any_library_has_its_number(tmp_path):
    for text in ("IO error: No space left on device (os error 28)", 'IO Error: {"errno":"28"}'):
        with pytest.raises(UserError, match="No space left"), replacing(tmp_path / "out"):
            raise pl.exceptions.ComputeError(text)
    with pytest.raises(UserError, match="Disk quota exceeded"), replacing(tmp_path / "out"):
        raise OSError(errno.EDQUOT, "")
