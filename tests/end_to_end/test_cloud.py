"""Runs on a server that speaks S3, by every command that takes one."""

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from shell import call

import lca
from lca.errors import LCAError, UsageError
from lca.store.paths import locate

s3fs = pytest.importorskip("s3fs", reason="the extra `cloud` is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")

ARGUMENTS = ["train", "digits-fc", "--device", "cpu", "--iterations"]


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """An empty bucket, and the environment that leads to it and nowhere else."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # which has another environment
    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir("bucket")
    yield "s3://bucket"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    filesystem.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def contents(place, below):
    """The bytes of every file of a part of a store, by name."""
    location, found = locate(place) / below, {}
    for name in location.files():
        if not name.startswith("lock"):
            with (location / name).open() as file:
                found[name] = file.read()
    return found


def test_every_command_does_there_what_it_does_on_a_disk(bucket, tmp_path):
    there, here = f"{bucket}/some/run.zarr", str(tmp_path / "run.zarr")
    said = {}
    for place in (there, here):
        outputs = [
            call(*ARGUMENTS, 20, "--out", place),
            call("allocate", place, "--batch-size", 500, "--audit", 0.1),
            call("analyze", "helping", place),
            call("analyze", "layers", place, place),
            call("verify", place),
        ]
        said[place] = [output.stdout.replace(place, "RUN") for output in outputs]
        call("plot", "helping", place, "--out", tmp_path / "helping.svg")
        assert "digits-fc" in (tmp_path / "helping.svg").read_text()
        assert "21 iterates; 2,778 parameters" in call("info", place).stdout
        assert ("free" in call("check", place, "--batch-size", 500).stdout) == (place == here)
    assert said[there] == said[here]
    for below in ("weights", "training", "lca"):
        assert len(contents(there, below)) >= 3
        assert contents(there, below) == contents(here, below)


def test_killed_it_ends_with_the_same_bytes(bucket, tmp_path):
    place, arguments = f"{bucket}/run.zarr", [*ARGUMENTS, "500", "--out"]
    call(*arguments, tmp_path / "run.zarr")
    process = subprocess.Popen([sys.executable, "-m", "lca", *arguments, place], stderr=subprocess.DEVNULL)
    weights = locate(place) / "weights/c"
    deadline = time.monotonic() + 60
    while process.poll() is None and len(weights.files()) < 2 and time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    held = lca.open(place)
    assert (held.status, held.n_iterations < 500) == ("training", True)
    call(*arguments, place, "--resume")
    assert lca.open(place).status == "complete"
    assert contents(place, "weights") == contents(tmp_path / "run.zarr", "weights")
    assert "finished already" in call(*arguments, place, "--resume").stderr


def test_a_run_is_replaced_only_when_asked(bucket):
    place = f"{bucket}/run.zarr"
    call(*ARGUMENTS, 3, "--out", place)
    assert "exists already" in call(*ARGUMENTS, 5, "--out", place, status=2).stderr
    assert "6 iterates; 2,778 parameters" in call(*ARGUMENTS, 5, "--out", place, "--overwrite").stdout


def test_what_is_not_there_is_said(bucket, problem):
    with pytest.raises(UsageError, match=r"s3://bucket/none.zarr does not exist. Create a run with lca.train\(problem"):
        lca.open(f"{bucket}/none.zarr")
    with pytest.raises(LCAError, match=r"s3://nowhere/run.zarr cannot be written: .*bucket does not exist"):
        lca.train(problem(), "s3://nowhere/run.zarr", lca.TrainConfig(batch_size=20, device="cpu"))
    output = call("allocate", "s3://nowhere/run.zarr", status=2).stderr
    assert "s3://nowhere/run.zarr does not exist" in output


def test_without_credentials_it_says_where_they_come_from(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    output = call("info", f"{bucket}/run.zarr", status=1).stderr
    assert "Unable to locate credentials" in output
    assert "AWS_ACCESS_KEY_ID" in output


def test_a_server_that_does_not_answer_is_said(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    output = call("info", f"{bucket}/run.zarr", status=1).stderr
    assert "s3://bucket/run.zarr/zarr.json cannot be read: Could not connect" in output
