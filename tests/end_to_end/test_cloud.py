"""Every command that takes a run works with a run on an S3 server."""

import logging
import os
import signal
import time

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
    """The URL of an empty bucket, with an environment that reaches no other server."""
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
    s3fs.S3FileSystem.clear_instance_cache()  # cached instances use the previous environment
    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir("bucket")
    yield "s3://bucket"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    filesystem.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def read_files(place, below):
    """Return the bytes of every file below a folder of a store, by name."""
    location, found = locate(place) / below, {}
    for name in location.files():
        if not name.startswith("lock"):
            with (location / name).open() as file:
                found[name] = file.read()
    return found


def test_every_command_gives_the_same_result_on_s3_and_on_disk(bucket, tmp_path):
    remote, local = f"{bucket}/some/run.zarr", str(tmp_path / "run.zarr")
    outputs_of = {}
    for place in (remote, local):
        outputs = [
            call(*ARGUMENTS, 20, "--out", place),
            call("allocate", place, "--batch-size", 500, "--audit", 0.1),
            call("analyze", "helping", place),
            call("analyze", "layers", place, place),
            call("verify", place),
        ]
        outputs_of[place] = [output.stdout.replace(place, "RUN") for output in outputs]
        call("plot", "helping", place, "--out", tmp_path / "helping.svg")
        assert "digits-fc" in (tmp_path / "helping.svg").read_text()
        assert "21 iterates; 2,778 parameters" in call("info", place).stdout
        assert ("free" in call("check", place, "--batch-size", 500).stdout) == (place == local)
    assert outputs_of[remote] == outputs_of[local]
    for below in ("weights", "training", "lca"):
        assert len(read_files(remote, below)) >= 3
        assert read_files(remote, below) == read_files(local, below)


def test_run_resumed_after_kill_has_the_same_bytes(bucket, server, tmp_path):
    place, arguments = f"{bucket}/run.zarr", [*ARGUMENTS, "500", "--out"]
    call(*arguments, tmp_path / "run.zarr")
    process = server.start(*arguments, place)
    weights = locate(place) / "weights/c"
    deadline = time.monotonic() + 60
    while not process.ends_within(0.02) and len(weights.files()) < 2 and time.monotonic() < deadline:
        pass
    assert process.send(signal.SIGKILL) == -signal.SIGKILL
    interrupted = lca.open(place)
    assert (interrupted.status, interrupted.n_iterations < 500) == ("training", True)
    call(*arguments, place, "--resume")
    assert lca.open(place).status == "complete"
    # Only a local store keeps the state before the last one, if the training took more than a second.
    (tmp_path / "run.zarr/weights/state-before.pt").unlink(missing_ok=True)
    assert read_files(place, "weights") == read_files(tmp_path / "run.zarr", "weights")
    assert "already complete" in call(*arguments, place, "--resume").stderr


def test_run_is_replaced_only_with_overwrite(bucket):
    place = f"{bucket}/run.zarr"
    call(*ARGUMENTS, 3, "--out", place)
    assert "already exists" in call(*ARGUMENTS, 5, "--out", place, status=2).stderr
    assert "6 iterates; 2,778 parameters" in call(*ARGUMENTS, 5, "--out", place, "--overwrite").stdout


def test_missing_run_or_bucket_is_reported(bucket, problem):
    with pytest.raises(UsageError, match=r"s3://bucket/none.zarr does not exist. Create a run with lca.train\(problem"):
        lca.open(f"{bucket}/none.zarr")
    with pytest.raises(LCAError, match=r"s3://nowhere/run.zarr cannot be written: .*bucket does not exist"):
        lca.train(problem(), "s3://nowhere/run.zarr", lca.TrainConfig(batch_size=20, device="cpu"))
    output = call("allocate", "s3://nowhere/run.zarr", status=2).stderr
    assert "s3://nowhere/run.zarr does not exist" in output


def test_missing_credentials_are_reported_with_their_variables(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    output = call("info", f"{bucket}/run.zarr", status=1).stderr
    assert "Unable to locate credentials" in output
    assert "AWS_ACCESS_KEY_ID" in output


def test_unreachable_server_is_reported(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    output = call("info", f"{bucket}/run.zarr", status=1).stderr
    assert "s3://bucket/run.zarr/zarr.json cannot be read: Could not connect" in output
