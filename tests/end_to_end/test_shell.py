"""The shell commands, from training to report, and their messages for bad input."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from signal import SIGTERM

import pytest
from shell import call

import lca
from lca.cli.train import number_path
from lca.problem.zoo.presets import PRESETS
from lca.runtime.progress import make_progress_bar
from lca.store.run import open_run
from lca.store.run_writer import RunWriter


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "run.zarr"
    call("train", "digits-fc", "--iterations", 12, "--out", path, "--device", "cpu")
    call("allocate", path)
    return path


def test_train_allocate_analyze_and_plot(tmp_path, digits):
    info = call("info", digits).stdout
    assert "13 iterates; 2,778 parameters in 6 tensors" in info
    assert "lca/train  complete, 12 of 12 iterations allocated" in info
    summary = call("allocate", digits).stdout  # already complete, so only summarized
    assert "12 iterations of" in summary
    assert "bounds               hold" in summary
    table = call("analyze", "helping", digits, digits, "--json", tmp_path / "helping.json").stdout
    assert "2 runs of 12 iterations" in table
    assert "± 0.00" in table
    values = json.loads((tmp_path / "helping.json").read_text())
    by_layer, by_tensor = (table["columns"]["helping %"] for table in values["tables"])
    assert 50 < by_layer["all parameters"]["mean"] < 100
    assert by_layer["all parameters"]["deviation"] == 0
    assert set(by_layer) == {"all parameters", "fc1", "fc2", "fc3"}
    assert set(by_tensor) == {f"fc{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")}
    table = call("analyze", "layers", digits, "--json", tmp_path / "layers.json").stdout
    assert [line.split()[0] for line in table.splitlines()[2:6]] == ["fc1", "fc2", "fc3", "sum"]
    columns = json.loads((tmp_path / "layers.json").read_text())["tables"][0]["columns"]
    change = lca.open(digits).allocation("train").loss[:]
    assert columns["LCA (nats)"]["sum"]["mean"] == pytest.approx(change[-1] - change[0], rel=0.01)
    assert columns["LCA (nats)"]["sum"]["deviation"] is None
    for figure in ("helping", "layers"):
        call("plot", figure, digits, "--out", tmp_path / f"{figure}.svg")
        assert "digits-fc" in (tmp_path / f"{figure}.svg").read_text()


QUESTIONS = [
    ["helping"],
    ["layers"],
    ["neurons"],
    ["oscillation", "--no-crossings"],
    ["tails"],
    ["synchrony", "--without-0", "--repeats", "50", "--seed", "1"],
    ["prune", "--percent", "50", "--device", "cpu"],
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question[0])
def test_question_prints_tables_and_writes_json(tmp_path, digits, question):
    result = call("analyze", *question, digits, digits, "--json", tmp_path / "answer.json")
    assert "2 runs of 12 iterations" in result.stdout
    values = json.loads((tmp_path / "answer.json").read_text())
    assert (values["question"], values["runs"], values["iterations"]) == (question[0], 2, [12, 12])
    for table in values["tables"]:
        for heading in table["columns"]:
            assert heading in result.stdout


def test_questions_about_several_allocations(tmp_path, digits):
    digits = shutil.copytree(digits, tmp_path / "run.zarr")
    for name, *options in (["val", "--split", "val"], ["part", "--examples", 200], ["first", "--rule", "first-order"]):
        call("allocate", digits, "--name", name, *options, "--audit", 0, status=3 if name == "first" else 0)
    assert "with the largest gaps" in call("analyze", "overfit", digits).stdout
    assert re.search(r"^part +200 ", call("analyze", "subset", digits).stdout, re.M)
    rows = [
        line.split("  ")[0]
        for line in call("analyze", "error", digits, "--name", "first", "--name", "train").stdout.splitlines()
    ]
    assert {"first, first-order", "train, simpson"} <= set(rows)
    compared = call("analyze", "compare", digits, digits, "--", digits, "--json", tmp_path / "compared.json").stdout
    assert "A, n = 2 (nats)" in compared
    assert "final loss, val" in compared
    assert json.loads((tmp_path / "compared.json").read_text())["question"] == "compare"
    everything = call("analyze", "all", digits, "--json", tmp_path / "all.json")
    answered = ["helping", "layers", "neurons", "oscillation", "tails", "synchrony", "overfit", "error", "subset"]
    assert list(json.loads((tmp_path / "all.json").read_text())) == answered
    assert all(question.upper() in everything.stdout.splitlines() for question in answered)
    assert "not answered: prune: it needs the model. Ask this question with `lca analyze prune" in everything.stderr


FIGURES = [
    ["loss"],
    ["helping", "--style", "paper", "--dpi", "60"],
    ["helping-by-layer", "--layers", "fc[12]"],
    ["helping-by-parameter", "--colors", "blue-orange"],
    ["distribution", "--title", "a title"],
    ["layers"],
    ["peaks", "--what", "motion"],
    ["frame", "--iteration", "3"],
    ["neurons", "--iterations", "2:9"],
    ["curves", "--parameter", "random", "--parameter", "fc3.bias"],
    ["cumulative"],
    ["oscillation"],
    ["overfit"],
    ["prune", "--device", "cpu"],
    ["subset"],
    ["error"],
]


@pytest.fixture(scope="module")
def digits_with_more(tmp_path_factory, digits):
    path = shutil.copytree(digits, tmp_path_factory.mktemp("more") / "run.zarr")
    for name, *options in (["val", "--split", "val"], ["part", "--examples", 200]):
        call("allocate", path, "--name", name, *options, "--audit", 0)
    return path


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure[0])
def test_figure_is_drawn(tmp_path, digits_with_more, figure):
    out = tmp_path / "figure.svg"
    assert call("plot", *figure, digits_with_more, "--out", out).stdout == f"{out}\n"
    title = "a title" if "--title" in figure else "digits-fc, LCA of the train loss"
    assert title in out.read_text()


def test_paper_style_is_smaller(tmp_path, digits):
    widths = []
    for style in ("screen", "paper"):
        call("plot", "layers", digits, "--style", style, "--out", tmp_path / f"{style}.svg")
        widths.append(float(re.search(r'width="([\d.]+)pt"', (tmp_path / f"{style}.svg").read_text())[1]))
    assert widths[1] == pytest.approx(0.55 * widths[0])


def test_groups_and_trends_are_drawn(tmp_path, digits):
    out = tmp_path / "layers.svg"
    call("plot", "layers", digits, "--", digits, digits, "--label", "one", "--label", "two", "--out", out)
    assert "two (n = 2)" in out.read_text()
    result = call("plot", "layers", digits, "--", digits, "--label", "one", "--out", out, status=2)
    assert "expected one label for each of the 2 groups of runs, found 1 label" in result.stderr
    other = tmp_path / "run.zarr"
    call("train", "digits-fc", "--iterations", 4, "--momentum", 0.5, "--out", other, "--device", "cpu")
    call("allocate", other, "--audit", 0)
    call("plot", "trend", digits, other, "--option", "momentum", "--delay", "--out", tmp_path / "trend.svg")
    assert "delay of momentum" in (tmp_path / "trend.svg").read_text()


def test_film_and_report_are_written(tmp_path, digits):
    film = call("plot", "animation", digits, "--every", 3, "--size", "320x240", "--fps", 2, "--out", tmp_path / "f.gif")
    assert film.stdout == f"{tmp_path / 'f.gif'}: 4 frames, 2.0 s\n"
    call("plot", "report", digits, digits, "--out", tmp_path / "report.html")
    assert "digits-fc, LCA of the train loss, 2 runs" in (tmp_path / "report.html").read_text()


def test_trend_over_runs(tmp_path):
    runs = [tmp_path / f"{i}.zarr" for i in range(3)]
    for run, momentum in zip(runs, (0, 0.5, 0.9), strict=True):
        options = ["--iterations", 4, "--layer", f"last:momentum={momentum}", "--device", "cpu"]
        call("train", "digits-fc", "--out", run, *options)
        call("allocate", run, "--audit", 0)
    output = call("analyze", "trend", *runs, "--option", "last:momentum", "--delay", "--layer", "last").stdout
    assert output.splitlines()[0] == "total LCA (nats) by delay of last:momentum, with a linear fit"
    assert output.splitlines()[1].split("  ")[0] == "layer"
    assert re.search(r"^fc3 +-", output, re.M)


def test_options_and_seed_are_stored_in_the_run(tmp_path):
    options = ["--optimizer", "adam", "--lr", 0.01, "--batch-size", 100, "--epochs", 1, "--seed", 3]
    call("train", "digits-fc", "--out", tmp_path / "run.zarr", *options)
    train = lca.open(tmp_path / "run.zarr").attributes["train"]
    assert (train["optimizer"], train["learning_rate"], train["iterations"], train["seed"]) == ("adam", 0.01, 15, 3)


def test_exit_status_is_3_if_bounds_do_not_hold(digits):
    options = ["--name", "strict", "--tolerance", 1e-12, "--max-intervals", 2]
    summary = call("allocate", digits, *options, status=3).stdout
    assert "DO NOT HOLD: 12 iterations did not converge" in summary


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "minst-fc", "--out", "{new}"], 2, "unknown problem 'minst-fc'"),
        (["train", "digits-fc", "--out", "{run}"], 2, "already exists. Choose another path, or pass --overwrite"),
        (["train", "digits-fc", "--out", "{folder}", "--overwrite"], 2, "is not a run store, so it is not replaced"),
        (["train", "mnist-fc", "--out", "{new}", "--data-dir", "{folder}"], 1, "--download"),
        (["train", "digits-fc", "--out", "{new}", "--lr", "-1"], 2, "learning_rate: expected a positive number"),
        (["train", "digits-fc", "--out", "{new}", "--batch-size", "9999"], 2, "expected at most 1,500"),
        (["train", "digits-fc", "--out", "{new}", "--set", "layers=4"], 2, "no option 'layers'"),
        (["train", "digits-fc", "--out", "{new}", "--set", "width"], 2, "--set: expected NAME=VALUE"),
        (["train", "digits-fc", "--out", "{new}", "--freeze", "conv1"], 2, "The layers are fc1, fc2, fc3"),
        (["train", "digits-fc", "--out", "{new}", "--init-from", "{run}@13"], 2, "expected 0 to 12, found 13"),
        (["problems", "--set", "width=2"], 2, "--set requires a PROBLEM"),
        (["problems", "digits"], 2, "unknown problem 'digits'"),
        (["allocate", "{new}"], 2, "does not exist. Create a run with `lca train PROBLEM --out {new}`"),
        (["allocate", "{folder}"], 2, "is not a run store"),
        (["allocate", "{run}", "--tolerance", "0.5"], 2, "(tolerance: stored 0.001, requested 0.5)"),
        (["allocate", "{run}", "--split", "test"], 2, "has no split 'test'"),
        (["analyze", "helping", "{run}", "--name", "val"], 1, "Create it with `lca allocate {run} --split val`."),
        (["analyze", "overfit", "{run}"], 1, "`lca allocate {run} --split val`"),
        (["analyze", "oscillation", "{run}"], 1, "`lca allocate {run} --gradient-signs --overwrite`"),
        (["analyze", "synchrony", "{run}", "--by-class"], 1, "`lca allocate {run} --by-class --overwrite`"),
        (["analyze", "subset", "{run}"], 1, "`lca allocate {run} --split train --examples 1000"),
        (["analyze", "trend", "{run}", "--option", "momentum"], 2, "0.9 in every run"),
        (["analyze", "compare", "{run}", "{run}"], 2, "two groups, RUN... -- RUN..."),
        (["analyze", "compare", "--", "{run}"], 2, "found an empty group"),
        (["analyze", "prune", "{run}", "--percent", "100"], 2, "pruned: expected"),
        (["analyze", "subset", "{run}", "--against", "train"], 2, "'train' would be compared with itself"),
        (["plot", "layers", "{run}", "--out", "layers.bmp"], 2, ".bmp"),
        (
            ["plot", "layers", "{run}", "--out", "a.png", "--dpi", "1000000"],
            2,
            "1000000 is not in the range 1<=x<=1200",
        ),
        (["info", "ftp://host/run.zarr"], 2, "expected a path, or a URL such as s3://bucket/run.zarr"),
        (["train", "digits-fc", "--out", "ftp://host/run.zarr"], 2, "expected a path, or a URL such as s3://"),
        (
            ["plot", "loss", "{run}", "{run}", "--out", "loss.png"],
            2,
            "runs: expected one, because this figure shows a single run, found 2",
        ),
        (["plot", "helping", "{run}", "--out", "a.png", "--iterations", "5"], 2, "iterations: expected A:B"),
        (["plot", "layers", "{run}", "--out", "a.png", "--layers", "conv*"], 2, "'conv*'"),
        (["plot", "frame", "{run}", "--out", "a.png", "--iteration", "12"], 2, "--iteration"),
        (["plot", "animation", "{run}", "--out", "a.gif", "--size", "big"], 2, "size: expected WxH"),
        (["plot", "animation", "{run}", "--out", "a.avi"], 2, ".avi"),
        (["plot", "report", "{run}", "--out", "a.pdf"], 2, ".pdf"),
        (["info", "{folder}"], 2, "is not a run store"),
    ],
)
def test_bad_input_is_reported(tmp_path, digits, arguments, status, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    places = {"new": tmp_path / "new.zarr", "run": digits, "folder": folder}
    result = call(*[argument.format(**places) for argument in arguments], status=status)
    assert message.format(**places) in result.stderr, result.stderr
    assert not (tmp_path / "new.zarr").exists()
    assert (folder / "file").exists()


def test_several_runs_have_consecutive_seeds(tmp_path):
    arguments = ["train", "digits-fc", "--iterations", 3, "--seed", 4, "--device", "cpu"]
    call(*arguments, "--out", tmp_path / "one.zarr")
    call(*arguments, "--out", tmp_path / "many.zarr", "--runs", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many-4.zarr", "many-5.zarr", "one.zarr"]
    runs = [lca.open(tmp_path / f"many-{seed}.zarr") for seed in (4, 5)]
    assert [run.attributes["train"]["seed"] for run in runs] == [4, 5]
    assert (runs[0].weights[:] == lca.open(tmp_path / "one.zarr").weights[:]).all()
    assert (runs[0].weights[:, 0] != runs[1].weights[:, 0]).any()
    result = call(*arguments, "--out", tmp_path / "many.zarr", "--runs", 3, "--resume")
    assert result.stderr.count("is already complete") == 2
    assert lca.open(tmp_path / "many-6.zarr").n_iterations == 3
    result = call(*arguments[:-2], "--seed", 3, "--runs", 2, "--out", tmp_path / "many.zarr", status=2)
    assert "many-4.zarr already exists" in result.stderr
    assert not (tmp_path / "many-3.zarr").exists()  # the error is raised before any run is trained


@pytest.mark.parametrize(
    ("out", "place"), [("run.zarr", "run-3.zarr"), ("a/run", "a/run-3"), ("s3://b/run.zarr/", "s3://b/run-3.zarr")]
)
def test_path_of_one_of_several_runs_contains_its_seed(out, place):
    assert number_path(out, 3) == place


def test_path_of_one_of_several_runs_contains_its_seed_on_windows(monkeypatch):
    monkeypatch.setattr("os.sep", "\\")
    assert number_path("C:\\runs\\run.zarr\\", 3) == "C:\\runs\\run-3.zarr"


def test_problem_options_and_initial_weights_are_restored(tmp_path):
    path = tmp_path / "run.zarr"
    options = ["--set", "width=0.5", "--freeze", "first", "--layer", "last:lr=0.01", "--l2", "0.001"]
    options += ["--schedule", "step", "--milestone", "0.2", "--milestone", "0.4", "--nesterov"]
    output = call("train", "digits-fc", "--iterations", 3, "--device", "cpu", "--out", path, *options).stdout
    assert "problem   digits-fc (width 0.5)" in output
    assert "nesterov, l2 0.001, freeze first, layer last:lr=0.01, " in output
    assert "learning rate multiplied by 0.1 at epochs 0.2, 0.4" in output
    call("allocate", path)
    weights = lca.open(path).weights
    assert weights.shape[0] == 64 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10
    assert (weights[:1040, 0] == weights[:1040, 3]).all()
    table = call("analyze", "layers", path).stdout
    assert table.splitlines()[2].split() == ["fc1", "0.000000", "0.0"]
    other = call("train", "digits-fc", "--init-from", f"{path}@1", "--out", tmp_path / "next.zarr", status=1).stderr
    assert "the model does not match the model that" in other
    output = call(
        *("train", "digits-fc", "--set", "width=0.5", "--iterations", 2, "--device", "cpu"),
        *("--init-from", f"{path}@1", "--out", tmp_path / "next.zarr"),
    ).stdout
    assert f"started   from iterate 1 of {path}" in output


def test_problems_are_listed_with_size_cost_and_recipe(tmp_path):
    output = call("problems", "--json", tmp_path / "problems.json").stdout
    lines = {line.split()[0]: line for line in output.splitlines() if line}
    assert set(PRESETS) <= set(lines)
    assert "273,066" in lines["cifar-resnet"]
    assert "sgd 0.1, momentum 0.9, batch 250, 4,500 iterations" in lines["cifar-resnet"]
    assert "or of transformer blocks; 1 in digits-resnet; 3 in mnist-resnet" in output
    values = {entry["problem"]: entry for entry in json.loads((tmp_path / "problems.json").read_text())}
    assert values["mnist-fc"]["n_train"] == 55_000
    assert values["mnist-fc"]["recipe"]["learning_rate"] == 0.05
    output = call("problems", "cifar-fc", "--set", "layers=5").stdout
    assert "dense layers, 3 to 5; 5 in all" in output
    assert "layers of cifar-fc  fc1, fc2, fc3, fc4, fc5" in output


def test_runs_of_different_models_raise(tmp_path, digits, run):
    result = call("analyze", "layers", digits, run, status=1)
    assert "does not match the model that" in result.stderr


def test_run_of_a_custom_problem_needs_the_problem(run):
    result = call("allocate", run, status=2)
    assert "was trained on 'small', which is not a built-in problem" in result.stderr
    assert "--problem path/file.py:factory" in result.stderr


def test_help_imports_nothing_heavy():
    code = "import sys\nfrom lca.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'matplotlib', 'zarr', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Which parameters learned, and when?" in done.stdout


def test_python_m_lca():
    done = subprocess.run([sys.executable, "-m", "lca", "--version"], capture_output=True, text=True, check=True)
    assert "0.1.0" in done.stdout


def test_progress_is_a_few_lines_if_stderr_is_not_a_terminal(capsys):
    with make_progress_bar(5000, "train", shown=True) as shown:
        for _ in range(5000):
            shown.update()
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3
    assert "100%" in lines[-1]
    with make_progress_bar(10, "train", shown=False) as shown:
        shown.update()
    assert capsys.readouterr().err == ""


def test_unfinished_run_is_resumed_with_its_original_command(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    arguments = ["train", "digits-fc", "--iterations", "5", "--seed", "3", "--out", str(path), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["lca", *arguments, "--overwrite"])
    call(*arguments, "--overwrite")
    RunWriter(open_run(path, "r+")).reopen()
    errors = call("allocate", path, status=1).stderr
    (command,) = re.findall(r"Resume it with `lca (.*)`", errors)
    assert shlex.split(command) == [*arguments, "--resume"]
    call(*shlex.split(command))
    call("allocate", path)


def test_resume_of_new_and_complete_runs(tmp_path):
    path = tmp_path / "run.zarr"
    arguments = ["train", "digits-fc", "--iterations", 5, "--out", path, "--device", "cpu"]
    call(*arguments, "--resume")
    result = call(*arguments, "--resume")
    assert "is already complete; nothing to resume" in result.stderr
    assert "6 iterates; 2,778 parameters" in result.stdout
    result = call(*arguments, "--resume", "--seed", 1, status=2)
    assert "seed: stored 0, requested 1" in result.stderr
    call(*arguments, "--resume", "--overwrite", status=2)


def test_signal_is_reported_and_the_run_can_be_resumed(tmp_path, server):
    path = tmp_path / "run.zarr"
    arguments = ["train", "digits-fc", "--iterations", "1000000", "--out", str(path), "--device", "cpu"]
    with (tmp_path / "errors").open("wb") as errors:
        process = server.start(*arguments, stderr=errors)
    while not process.ends_within(0.01) and not (path / "weights" / "c").exists():
        pass
    assert process.send(SIGTERM) == 1
    errors = (tmp_path / "errors").read_text()
    assert "stopped by SIGTERM after" in errors
    assert "--resume" in errors
    result = call("info", path).stdout
    assert "training" in result.splitlines()[0]
    assert "of 1,000,001 iterates; 2,778 parameters" in result


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seed=-1", "seed: expected at least 0, found -1"),
        (f"--seed={10**22}", "seed: expected 0 to 9,223,372,036,854,775,807, found 1"),
        (f"--iterations={10**20}", "iterations: expected 1 to 1,000,000,000,000, found 1"),
        ("--lr=1e308", "learning_rate: expected a positive number, and below 3.4e+38, found 1e+308"),
        ("--set=width=1e30", "width: expected at most 1,000, found 1e+30"),
        ("--device=meta", "device 'meta' is not usable"),
        ("--device=cpu:7", "device 'cpu:7' is not usable: there is only one CPU device"),
        ("--freeze=*", "freeze selects every layer, so nothing is trained"),
        ("--layer=fc1:lr=0.1,lr=0.2", "'fc1:lr=0.1,lr=0.2' sets learning_rate twice"),
    ],
)
def test_values_out_of_range_are_usage_errors(tmp_path, option, message):
    result = call("train", "digits-fc", "--batch-size", 100, option, "--out", tmp_path / "run.zarr", status=2)
    assert message in result.stderr
    assert not (tmp_path / "run.zarr").exists()
