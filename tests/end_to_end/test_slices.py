"""Analyses of an allocation that covers only some iterations."""

import pytest

import lca
from lca.analysis import helping, layers

CONFIG = {"batch_size": 20, "audit": 0, "device": "cpu"}


def allocate(run, problem, name, **options):
    summary = lca.allocate(run, problem(), lca.AllocateConfig(name=name, **{**CONFIG, **options}))
    return lca.open(run).allocation(name), summary


def test_analyses_exclude_iterations_that_are_not_allocated(run, problem):
    allocate(run, problem, "part", iterations="10:40:2")
    opened = lca.open(run)
    counts = helping(opened, name="part")
    assert counts.iterations.exclusions == {"not allocated": 85}
    assert counts.iterations.n == 15
    whole, _ = allocate(run, problem, "whole")
    by_layer = layers(opened, name="part")
    assert by_layer.iterations.exclusions == {"not allocated": 85}
    assert by_layer.total.sum() == pytest.approx(whole.allocated[:][10:40:2].sum())
