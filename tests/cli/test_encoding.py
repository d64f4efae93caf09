"""Output to streams that cannot represent every character: readable text, and never a UnicodeEncodeError."""

import codecs
import json
import os
import subprocess
import sys

import pytest
from processes import Server

import lca
from lca.cli.encoding import READABLE

LOCALES = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
ENCODINGS = {"cp1252": "cp1252", "ascii": "ascii", "C": "ascii"}


@pytest.fixture(scope="module")
def allocated(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    lca.train(lca.load("digits-fc"), path, iterations=4, device="cpu")
    lca.allocate(path, lca.load("digits-fc"), audit=0, device="cpu", batch_size=500)
    return path


@pytest.fixture(scope="module", params=LOCALES)
def locale(request):
    return request.param


@pytest.fixture(scope="module")
def run(locale):
    """A function that runs `lca` and returns its stdout and stderr, decoded with the encoding of the locale."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "LANG"))}
    environment, encoding = {**clean, **LOCALES[locale]}, ENCODINGS[locale]

    def run(*arguments, status=0):
        out, errors = server.run(*arguments, status=status, env=environment)
        assert b"Traceback" not in errors
        return out.decode(encoding), errors.decode(encoding)

    with Server(environment) as server:
        yield run


def test_help_is_readable(locale, run):
    assert "Which parameters learned, and when?" in run("--help")[0]
    out, _ = run("train", "--help")
    assert ("½" if locale == "cp1252" else "1/2") + " l2 ||theta||" in " ".join(out.split())


def test_tables_are_readable(locale, run, allocated):
    out, _ = run("analyze", "layers", allocated, allocated)
    assert "-----  " in out
    assert " ± " in out if locale == "cp1252" else " +/- " in out
    out, _ = run("analyze", "helping", allocated)
    assert "?" not in out
    assert "fc1" in run("problems", "digits-fc")[0]
    assert "2,778 parameters" in run("info", allocated)[0]


def test_an_allocation_reports_progress_and_summary(run, tmp_path):
    path = tmp_path / "run.zarr"
    run("train", "digits-fc", "--iterations", 3, "--device", "cpu", "--out", path)
    out, errors = run("allocate", path, "--batch-size", 500, "--device", "cpu")
    assert "Sum A" in out
    assert " -> " in out
    assert "100%" in errors


def test_errors_are_readable(locale, run, allocated, tmp_path):
    _, errors = run("allocate", allocated, "--iterations", "3:1", status=2)
    assert "0 <= A < B <= 4" in errors
    if locale != "C":  # in the C locale, Python does not decode the argument
        _, errors = run("info", tmp_path / "θ.zarr", status=2)
        assert "theta.zarr does not exist" in errors


def test_written_files_are_utf_8(run, allocated, tmp_path):
    run("analyze", "error", allocated, "--json", tmp_path / "answer.json")
    values = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
    assert "Σ" in json.dumps(values, ensure_ascii=False)
    run("plot", "loss", allocated, "--out", tmp_path / "loss.svg")
    (tmp_path / "loss.svg").read_bytes().decode("utf-8")
    pytest.importorskip("plotly", reason="needs the extra `report`")
    run("plot", "report", allocated, "--out", tmp_path / "report.html")
    assert "Σ" in (tmp_path / "report.html").read_text(encoding="utf-8")
    run("init", tmp_path / "mine.py")
    compile((tmp_path / "mine.py").read_text(encoding="utf-8"), "mine.py", "exec")


def test_utf_8_output_keeps_every_character(allocated):
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "lca", "analyze", "layers", str(allocated), str(allocated)]
    out = subprocess.run(command, capture_output=True, env=environment, check=True).stdout.decode("utf-8")
    assert "─────  " in out
    assert " ± " in out


def test_characters_have_readable_replacements():
    text = "Σa ≤ 1 ± 2, θ₀ → θ₁, ‖x‖², 3 × ½ ≈ ‘…’ – ▁▄█ 木"
    assert (
        text.encode("ascii", READABLE).decode() == "Suma <= 1 +/- 2, theta0 -> theta1, ||x||2, 3 x 1/2 ~ '...' - 148 ?"
    )


def test_undecodable_bytes_of_a_path_are_written_unchanged():
    path = b"caf\xe9.zarr"
    assert path.decode("ascii", "surrogateescape").encode("ascii", READABLE) == path


def test_the_error_handler_raises_errors_of_decoding():
    with pytest.raises(UnicodeDecodeError):
        codecs.decode(b"\xff", "ascii", READABLE)


@pytest.mark.parametrize(("handler", "kept"), [("strict", False), ("xmlcharrefreplace", True)])
def test_an_error_handler_chosen_by_the_user_is_kept(handler, kept):
    command = [sys.executable, "-m", "lca", "train", "--help"]
    environment = {**os.environ, "PYTHONIOENCODING": f"cp1252:{handler}"}
    out = subprocess.run(command, capture_output=True, env=environment, check=True).stdout.decode("cp1252")
    assert ("&#952;" in out) == kept
    assert ("theta" in out) != kept
