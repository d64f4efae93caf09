"""Configurations: their checks and error messages, and their fields as keywords of functions."""

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

import lca
from lca.config import MANY, configuration, option, resolve
from lca.errors import UsageError


@configuration
class Config:
    """A configuration for these tests."""

    rate: float = option(default=0.1, short="lr", help="Rate.")
    rule: str | None = option(default="simpson", choices=("simpson", "trapezoid"), help="Rule.")
    count: int = option(default=3, help="Count.")

    def __post_init__(self):
        if self.count < 1:
            raise UsageError("count", expected="at least 1", found=str(self.count))


def test_a_configuration_is_a_frozen_dataclass():
    assert Config(count=4) == replace(Config(), count=4)
    assert Config(0.2).rate == 0.2
    with pytest.raises(FrozenInstanceError):
        Config().count = 5


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lr", " Did you mean rate?"), ("cuont", " Did you mean count?"), ("color", "")],
)
def test_an_unknown_field_lists_the_fields_and_suggests_the_nearest(name, hint):
    with pytest.raises(UsageError) as caught:
        Config(**{name: 1})
    assert str(caught.value) == f"Config has no field {name!r}.{hint} Its fields are rate, rule, count."


def test_a_value_outside_the_choices_lists_the_choices():
    with pytest.raises(UsageError, match="^rule: expected one of simpson, trapezoid, found 'boole'.$"):
        Config(rule="boole")
    assert Config(rule=None).rule is None


def test_post_init_checks_run_after_the_choices_are_checked():
    with pytest.raises(UsageError, match="^count: expected at least 1, found 0.$"):
        Config(count=0)
    with pytest.raises(UsageError, match="^rule"):
        Config(count=0, rule="boole")
    with pytest.raises(UsageError, match="^count"):
        replace(Config(), count=0)


def test_keywords_replace_the_fields_of_a_configuration():
    assert resolve(Config, None, {}) == Config()
    assert resolve(Config, None, {"count": 5}) == Config(count=5)
    assert resolve(Config, Config(rate=0.5, count=4), {"count": 5}) == Config(rate=0.5, count=5)


@pytest.mark.parametrize("config", [None, Config()])
def test_an_unknown_keyword_is_an_unknown_field(config):
    with pytest.raises(UsageError, match="Config has no field 'lr'. Did you mean rate"):
        resolve(Config, config, {"lr": 1})


def test_the_configuration_of_another_function_is_refused():
    with pytest.raises(UsageError, match="^config: expected an lca.Config, found a TrainConfig.$"):
        resolve(Config, lca.TrainConfig(), {})
    with pytest.raises(UsageError, match="^config: expected an lca.Config, found a dict.$"):
        resolve(Config, {"count": 1}, {})


@pytest.mark.parametrize("kind", [lca.TrainConfig, lca.AllocateConfig])
def test_every_field_has_a_help_sentence(kind):
    for field in fields(kind):
        text = field.metadata["help"]
        assert text[0].isupper(), field.name
        assert len(text.split()) > 1 or text == "Optimizer.", field.name


@pytest.mark.parametrize("kind", [lca.TrainConfig, lca.AllocateConfig])
def test_defaults_are_among_the_choices(kind):
    for field in fields(kind):
        if field.metadata["choices"]:
            assert field.default in field.metadata["choices"], field.name


def test_the_command_line_name_of_a_field_suggests_the_field():
    with pytest.raises(UsageError, match=r"TrainConfig has no field 'lr'. Did you mean learning_rate\?"):
        lca.TrainConfig(lr=0.1)


def test_allocate_and_train_take_fields_as_keywords(tmp_path, problem):
    run = lca.train(problem(), tmp_path / "run.zarr", batch_size=20, iterations=10, device="cpu")
    assert (run.n_iterations, run.attributes["train"]["batch_size"]) == (10, 20)
    options = {"batch_size": 20, "audit": 0, "device": "cpu"}
    summary = lca.allocate(tmp_path / "run.zarr", problem(), split="val", **options)
    assert (summary.name, lca.open(tmp_path / "run.zarr").allocations) == ("val", ["val"])
    config = lca.AllocateConfig(split="val", **options)
    lca.allocate(tmp_path / "run.zarr", problem(), config, name="again")
    first, again = (lca.open(tmp_path / "run.zarr").allocation(name) for name in ("val", "again"))
    np.testing.assert_array_equal(first.lca[:], again.lca[:])
    assert lca.check(tmp_path / "run.zarr", problem(), config, rule="trapezoid", audit=0).n_passes == 11


def test_misspelt_keywords_and_wrong_configurations_are_refused_before_a_run_is_created(tmp_path, problem):
    path = tmp_path / "run.zarr"
    with pytest.raises(UsageError, match=r"TrainConfig has no field 'lr'. Did you mean learning_rate\?"):
        lca.train(problem(), path, lr=0.1)
    with pytest.raises(UsageError, match="config: expected an lca.TrainConfig, found an AllocateConfig"):
        lca.train(problem(), path, lca.AllocateConfig())
    assert not path.exists()
    with pytest.raises(UsageError, match=r"AllocateConfig has no field 'spilt'. Did you mean split\?"):
        lca.allocate(path, problem(), spilt="val")


@pytest.mark.parametrize("given", [None, "digits-fc", 3])
def test_anything_but_a_problem_is_refused(tmp_path, run, given):
    message = "^problem: expected an lca.Problem, found (None|a str|an int). See lca.Problem and lca.load.$"
    path = tmp_path / "new.zarr"
    for call in (lambda: lca.allocate(run, given), lambda: lca.check(run, given), lambda: lca.train(given, path)):
        with pytest.raises(UsageError, match=message):
            call()
    assert not path.exists()


def test_limits_belong_to_the_field():
    @configuration
    class Limited:
        n: int = option(default=1, help="A number.", limits=(1, MANY))
        share: float | None = option(default=None, help="A fraction.", limits=(0, 1))

    assert Limited(n=5, share=0).share == 0.0
    for options, message in (
        ({"n": 0}, "n: expected at least 1, found 0."),
        ({"n": 10**20}, "n: expected 1 to 1,000,000,000,000, found 100000000000000000000."),
        ({"n": "5"}, "n: expected 1 to 1,000,000,000,000, found '5'."),
        ({"share": 1.5}, "share: expected 0 to 1, found 1.5."),
        ({"share": float("nan")}, "share: expected 0 to 1, found nan."),
    ):
        with pytest.raises(UsageError) as error:
            Limited(**options)
        assert str(error.value) == message
