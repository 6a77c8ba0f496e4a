"""A workspace in object storage gives what one on a disk gives: by a local S3 server, and by a folder's address."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_data_cli import edt as edt  # the command in this process
from toy import prepared, random_dataset

from edt_cli.config import UsageError, UserError
from edt_cli.experiments.compare import Comparison, compare
from edt_cli.experiments.plan import Plan
from edt_cli.workspace.jobs import launch
from edt_cli.workspace.layout import MANIFEST, Workspace
from edt_cli.workspace.remote import Mirror, _units, pull, push

pytestmark = pytest.mark.e2e
SECRET = "secret-of-nobody"
TRAINED = ("--data", "tiny", "--model", "popularity", "--workspace")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a bucket on a server of this process."""
    server = pytest.importorskip("moto.server", reason="no moto: pip install 'moto[server]'")
    pytest.importorskip("s3fs", reason="no s3fs: pip install 'edt-cli[s3]'")
    running = server.ThreadedMotoServer("127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3, tmp_path, monkeypatch) -> str:
    """The address of a workspace in a new bucket, and the credentials for it in the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "EDT_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    name = tmp_path.name.replace("_", "-").lower()
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    return f"s3://{name}/ws"


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path, monkeypatch) -> str:
    monkeypatch.delenv("EDT_WORKSPACE", raising=False)
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    pytest.importorskip("fsspec")
    return f"file://{tmp_path / 'storage' / 'ws'}"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Go to a machine with a disk of its own."""
    return lambda name: monkeypatch.setenv("EDT_MIRRORS", str(tmp_path / name))


def at(url: str) -> Workspace:
    return Workspace.find(Path(url))


def test_a_run_of_one_machine_is_told_and_used_on_another(edt, url, machine, tmp_path):
    plain = prepared(tmp_path / "plain", random_dataset()).root
    machine("first")
    push_all = at(url)
    prepared(push_all.root, random_dataset())
    push(push_all)
    edt("train", *TRAINED, plain)
    edt("train", *TRAINED, url)
    machine("second")
    asks = ("--data", "tiny", "--json", "--workspace")
    shown = [json.loads(edt("report", *asks, place).stdout) for place in (plain, url)]
    assert shown[0]["tables"] == shown[1]["tables"] and shown[0]["tables"]
    said = [json.loads(edt("recommend", *asks, place, "--user", "u001").stdout) for place in (plain, url)]
    assert said[0] == said[1] and said[0]
    edt("eval", "--data", "tiny", "--protocol", "sampled", "--workspace", url)
    machine("first")
    (run,) = json.loads(edt("runs", "list", "--json", "--workspace", url).stdout)["runs"]
    results = sorted(path.name for path in (at(url).runs / run["run"] / "results").glob("*.json"))
    assert any("sampled" in name for name in results), "what the second machine added to a finished run"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(SECRET.encode() in path.read_bytes() for path in written)


def test_what_is_not_finished_stays_where_it_is(url, machine):
    machine("first")
    here = at(url)
    prepared(here.root, random_dataset())
    begun = here.runs / "tiny-sasrec-s42-00000000"
    begun.mkdir(parents=True)
    (begun / "run.json").write_text("{}")
    (here.root / "cache").mkdir()
    (here.root / "cache" / "cache.db").write_text("replies")
    push(here)
    mirror = Mirror(here.root, url)
    assert {name.split("/")[0] for name in mirror._there()} == {"data"}
    assert list(mirror._there())[-1] is not None and f"data/tiny/{MANIFEST}" in mirror._there()
    mirror._storage.rm_file(mirror._at(f"data/tiny/{MANIFEST}"))  # as if it were on its way
    machine("second")
    pull(at(url))
    assert not at(url).datasets() and not list(at(url).data.glob("*"))


def test_a_dataset_that_is_prepared_anew_is_replaced_whole(url, machine):
    machine("first")
    first = at(url)
    prepared(first.root, random_dataset())
    push(first)
    machine("second")
    second = at(url)
    pull(second)
    with second.dataset("tiny").create(again=True) as (folder, _):
        (folder / "other.txt").write_text("other")
    push(second)
    pull(first)
    assert sorted(path.name for path in (first.data / "tiny").iterdir()) == [MANIFEST, "other.txt"]
    assert first.dataset("tiny").manifest()["again"] is True
    assert (first.data / "tiny" / "other.txt").read_text() == "other"


def test_a_plan_whose_runs_are_made_elsewhere_finds_them_in_the_storage(url, machine, tmp_path):
    """Each run is made by a process whose mirror is another folder, as on another machine."""
    machine("head")
    workspace = at(url)
    prepared(workspace.root, random_dataset())

    def elsewhere(workspace, command, data, arguments, width, environment):
        assert url in arguments
        far = {**environment, "EDT_MIRRORS": str(tmp_path / "far")}
        return launch(workspace, command, data, arguments, width, far)

    plan = Plan.model_validate(
        {"data": ["tiny"], "seeds": [42], "systems": [{"model": "popularity"}], "protocols": ["full"]}
    )
    comparison = Comparison.open(workspace, plan)
    failed = compare(comparison, device="cpu", launcher=elsewhere)
    assert not failed and [comparison.state(cell) for cell in comparison.unique] == ["finished"]
    assert len(list((tmp_path / "far").glob("*/runs/tiny-popularity-*/manifest.json"))) == 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://key:hush-hush@bucket/ws", "has no credentials in it"),
        ("nothing://bucket/ws", "Protocol not known: nothing"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(edt, address, said):
    done = edt("runs", "list", "--workspace", address, code=2 if "@" in address else 1)
    assert said in done.stderr and "hush" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_the_library_of_a_storage_that_is_not_there_is_told(monkeypatch, machine):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    importlib.import_module("fsspec.registry")._registry.pop("s3", None)
    machine("first")
    with pytest.raises(UserError, match=r"pip install 'edt-cli\[s3\]'"):
        pull(at("s3://bucket/ws"))


def test_a_bucket_that_is_not_there_is_one_line(s3, machine, monkeypatch):
    machine("first")
    for name, value in {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    with pytest.raises(UserError, match="s3://no-such-bucket/ws cannot be read: "):
        pull(at("s3://no-such-bucket/ws"))


def test_what_is_removed_here_would_come_back(edt, url, machine):
    machine("first")
    for command in (("clean",), ("data", "remove", "tiny"), ("runs", "remove", "tiny")):
        assert f"would come back from {url}" in edt(*command, "--yes", "--workspace", url, code=2).stderr


def test_names_in_the_storage_lead_nowhere_else():
    held = ["runs/a/manifest.json", "runs/a/../../../evil", "runs/../evil/manifest.json", "../manifest.json"]
    held += ["runs/b/run.json", "data/c/.hidden", "cache/cache.db", "runs/a/results/test.json", "models.toml"]
    units = _units(dict.fromkeys(held, ""))
    assert units == {"runs/a": ["runs/a/manifest.json", "runs/a/results/test.json"], "": ["models.toml"]}


def test_folders_are_no_addresses(tmp_path):
    for place in ("ws", "./a:b/c", "/data/ws", "C:/ws", "C:\\ws"):
        assert Workspace.find(Path(place)).url is None
    found = Workspace.find(None, {"EDT_WORKSPACE": "s3://bucket/a/ws/", "EDT_MIRRORS": str(tmp_path)})
    assert found.url == found.address == "s3://bucket/a/ws" and found.root.parent == tmp_path
    assert Workspace.find(Path("s3://bucket/a/ws"), {"EDT_MIRRORS": str(tmp_path)}) == found
    with pytest.raises(UsageError):
        Workspace.find(Path("s3://b/ws?key=hush"))
