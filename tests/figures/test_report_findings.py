"""The findings of a report, for runs whose sentences are known in advance."""

import numpy as np
import pytest
from handmade import make_audit, make_run
from torch import nn

from lca.figures.report_certificate import describe_certificate
from lca.figures.report_data import aggregate_run
from lca.figures.report_evidence import bound_layer_errors, fill_loss, measure_learning
from lca.figures.report_findings import describe_helping, describe_layers, describe_learning, describe_rises, find
from lca.figures.report_hurting import describe_hurting
from lca.figures.report_sentences import enumerate_some, significant, spread

NAN = np.nan
PARTS = ("part_error", "half_way", "sign_change", "helping_shift")


def audit_with(error, iterations):
    return make_audit(iterations, *[[error] * len(iterations) for _ in PARTS]).to_json()


def measure(path, layers, *, audit=None, attributes=None, **options):
    """Measure a run in which one parameter of layer "0" and one of layer "1" have this LCA, and the others have 0."""
    lca = np.zeros((7, np.shape(layers)[1]))
    lca[[0, 3]] = layers
    attributes = {**(attributes or {}), **({"audit_result": audit} if audit else {})}
    options = {"loss": 4 + np.append(0, np.nancumsum(lca.sum(axis=0))), **options}
    return aggregate_run(make_run(path / "run.zarr", lca, attributes=attributes, **options), "train", 1)[1]


FALL = [[-1.0, -1.0, -0.25, 0.0], [0.0, -0.5, -0.15, -0.1]]  # the loss is 4, 3, 1.5, 1.1, 1


def test_falling_loss_is_described_with_its_progress(tmp_path):
    finding = describe_learning([measure(tmp_path, FALL)])
    assert finding.text == (
        "The train loss fell by 3.00 nats, from 4.00 to 1.00, over 4 iterations. "
        "Half of this decrease was reached after 2 and 90 % after 3 iterations."
    )
    assert (finding.anchor, finding.kind, finding.warns) == ("loss", "learning", False)


def test_sudden_fall_is_described_by_one_number_of_iterations(tmp_path):
    text = describe_learning([measure(tmp_path, [[-2, 0], [-1, 0]])]).text
    assert text.endswith("over 2 iterations. At least 90 % of this decrease was reached after 1 iteration.")


def test_rising_loss_is_a_warning(tmp_path):
    finding = describe_learning([measure(tmp_path, [[-1, 2, 0.5], [0, 0, 0]])])
    assert finding.text == (
        "The train loss rose by 1.50 nats, from 4.00 to 5.50, over 3 iterations. "
        "The lowest loss was 3.00, after 1 iteration."
    )
    assert finding.warns


def test_progress_is_not_reported_if_most_of_it_is_lost_again(tmp_path):
    text = describe_learning([measure(tmp_path, [[-3, 2.9], [0, 0]])]).text
    assert text == (
        "The train loss fell by 0.100 nats, from 4.00 to 3.90, over 2 iterations. "
        "The lowest loss was 1.00, after 1 iteration."
    )


def test_constant_loss_is_called_the_same(tmp_path):
    text = describe_learning([measure(tmp_path, [[0, 0], [0, 0]])]).text
    assert text == "The train loss is the same at the start and at the end, 4.00 nats, over 2 iterations."


def test_partial_allocation_is_mentioned(tmp_path):
    layers = [[-1, NAN, NAN, -1], [0, NAN, NAN, 0]]
    run = measure(tmp_path, layers, status=[1, 0, 0, 1], loss=[4, NAN, NAN, 2, NAN])
    assert describe_learning([run]).text == (
        "The train loss fell by 3.00 nats, from 4.00 to 1.00, over 4 iterations. "
        "Half of this decrease was reached after at most 3 and 90 % after at most 4 iterations. "
        "Only 2 of 4 iterations are allocated and finite. The loss changes in these add up to −2.00 nats."
    )
    assert describe_layers([run]).text.endswith(
        "The LCA is summed over the 2 of 4 iterations that are allocated and finite."
    )
    assert describe_rises([run]).text == "The loss did not rise in any of the 2 iterations."


def test_a_part_of_the_run_begins_at_its_first_known_loss():
    learning = measure_learning(fill_loss(np.array([NAN, NAN, 3, NAN, NAN]), np.array([NAN, NAN, -1, NAN])))
    assert (learning.first, learning.last, learning.start, learning.end) == (2, 3, 3, 2)
    assert not learning.sampled


def test_most_and_least_useful_layers_are_named(tmp_path):
    finding = describe_layers([measure(tmp_path, FALL)])
    assert finding.text == (
        "Layer 0 did most to lower the loss: its LCA is −2.25 nats, 75 % of the total. "
        "Layer 1 did least: −0.750 nats, 25 % of the total."
    )
    assert finding.anchor == "layers"


def test_least_useful_layer_that_hurts_raised_the_loss(tmp_path):
    text = describe_layers([measure(tmp_path, [[-3, 0], [0.5, 0.5]])]).text
    assert text == (
        "Layer 0 did most to lower the loss: its LCA is −3.00 nats, 150 % of the total. "
        "Layer 1 did not help but raised the loss most: +1.00 nats."
    )


def test_no_useful_layer_is_a_warning(tmp_path):
    finding = describe_layers([measure(tmp_path, [[1, 1], [0, 0.5]])])
    assert finding.text == (
        "No layer lowered the loss. The LCA of the layers ranges from +0.500 nats (layer 1) to +2.00 nats (layer 0)."
    )
    assert finding.warns


def test_model_with_a_single_layer_is_described(tmp_path):
    run = make_run(tmp_path / "run.zarr", [[-1, -1], [0, 0]], model=nn.Linear(1, 1), loss=[3, 2, 1])
    evidence = [aggregate_run(run, "train", 1)[1]]
    (layer,) = run.parameters.layers
    assert describe_layers(evidence).text == f"The model has a single layer, {layer}. Its LCA is −2.00 nats."
    assert describe_helping(evidence).text == (
        "In an average iteration, 100 % of the parameters with non-zero LCA help. Half of the parameters with any "
        "effect help in 98 to 100 % of the iterations. 1 of 2 parameters (50 %) never have an effect: their LCA is "
        "always 0."
    )
    assert len(find(evidence)) == 6


def test_no_hurting_layer_is_no_warning(tmp_path):
    finding = describe_hurting([measure(tmp_path, FALL, audit=audit_with(0.01, [0, 1]))])
    assert finding.text == "No layer hurts overall: the LCA of every layer is below 0."
    assert not finding.warns


def test_uncertain_sign_is_mentioned_if_no_layer_hurts(tmp_path):
    layers = [[-2, -1], [-1, 0.9]]
    text = describe_hurting([measure(tmp_path, layers, audit=audit_with(0.1, [0, 1]))]).text
    assert text == (
        "No layer hurts overall: the LCA of every layer is below 0. "
        "The sign is uncertain for 1, because the error estimated from the audit is up to 0.19 nats."
    )


HURTS = [[-2, -1], [0.25, 0.25]]  # Σ|A| of layer 1 is 0.5


@pytest.mark.parametrize(
    ("error", "certainty"),
    [
        (0.1, "This exceeds the error estimated from the audit (up to 0.050 nats)."),
        (1.2, "The sign is uncertain, because the error estimated from the audit is up to 0.60 nats."),
    ],
)
def test_layer_that_hurts_is_compared_with_its_error(tmp_path, error, certainty):
    finding = describe_hurting([measure(tmp_path, HURTS, audit=audit_with(error, [0]))])
    assert finding.text == f"1 of 2 layers hurts overall: 1 (+0.500 nats). {certainty}"
    assert finding.warns


def test_certain_and_uncertain_layers_are_listed_separately(tmp_path):
    layers = [[1, 1], [-1, 1.1]]  # 2.1 · 0.1 is more than the 0.1 of layer 1
    text = describe_hurting([measure(tmp_path, layers, audit=audit_with(0.1, [0, 1]))]).text
    assert text == (
        "2 of 2 layers hurt overall: 0 (+2.00 nats) and 1 (+0.100 nats). "
        "This exceeds the error estimated from the audit for 0 (up to 0.20 nats). "
        "The sign is uncertain for 1, because the error estimated from the audit is up to 0.21 nats."
    )


def test_unknown_errors_are_explained(tmp_path):
    def explain(name, **options):
        (tmp_path / name).mkdir()
        return describe_hurting([measure(tmp_path / name, HURTS, **options)]).text.partition(". ")[2]

    unknown = "It is unknown whether this exceeds the error, because"
    assert explain("none") == f"{unknown} the allocation was not audited."
    tensors = explain("tensors", audit=audit_with(0.1, [0]), keep=False)
    assert tensors == f"{unknown} the LCA of single parameters was not stored."


def test_audit_of_iterations_without_motion_says_nothing(tmp_path):
    layers = [[-2, -1, 0, 0], [0.25, 0.25, 0, 0]]
    run = measure(tmp_path, layers, audit=audit_with(0.0, [2, 3]))
    assert np.isnan(run.errors).all()
    assert describe_hurting([run]).text == (
        "1 of 2 layers hurts overall: 1 (+0.500 nats). It is unknown whether this exceeds the error, because the "
        "layer hardly moved in the audited iterations."
    )
    assert describe_certificate([run]).text.endswith(
        "The error of the LCA of single parameters is unknown, because hardly anything moved in the audited iterations."
    )


def test_layer_errors_are_the_largest_part_error_times_the_absolute_sum():
    audit = make_audit([1, 2], [0.01, 0.02], [0, 0], [0, 0], [0, 0])
    absolute = np.array([[1.0, 4], [1, 0], [1, 0]])
    errors = bound_layer_errors(absolute, np.array([False, True, True]), audit)
    np.testing.assert_allclose(errors, [0.06, np.nan])  # the second layer did not move in the audited iterations


def test_largest_rises_are_listed_with_their_layers(tmp_path):
    layers = [[-1, 0.5, 0.1, -0.1, 0.3], [-1, 0.25, 0.3, 0.2, -0.1]]
    finding = describe_rises([measure(tmp_path, layers)])
    assert finding.text == (
        "The loss rose in 4 of 5 iterations. It rose most in iteration 1 (+0.750 nats; layer 0 contributed most: "
        "+0.500), iteration 2 (+0.400 nats; layer 1 contributed most: +0.300) and iteration 4 (+0.200 nats; "
        "layer 0 contributed most: +0.300)."
    )
    assert finding.anchor == "over-time"


def test_rise_in_an_unconverged_iteration_is_listed(tmp_path):
    run = measure(tmp_path, [[-3, 1, -1], [0, 0, 0]], status=[1, 2, 1])
    assert "(+1.00 nats; layer 0 contributed most: +1.00)" in describe_rises([run]).text


def test_percentage_of_helping_parameters_is_described(tmp_path):
    finding = describe_helping([measure(tmp_path, [[-1, -1, -1, -1], [-1, 1, 1, 1]])])
    assert finding.text == (
        "In an average iteration, 62.5 % of the parameters with non-zero LCA help. Among the layers, this ranges from "
        "25.0 % (layer 1) to 100 % (layer 0). Half of the parameters with any effect help in 24 to 100 % of the "
        "iterations. 5 of 7 parameters (71 %) never have an effect: their LCA is always 0."
    )
    assert finding.anchor == "helping"


def test_percentage_is_missing_without_effect_or_stored_parameters(tmp_path):
    still = describe_helping([measure(tmp_path, [[0, 0], [0, 0]])])
    assert still.text == "No parameter has any effect: the LCA of every parameter is 0."
    (tmp_path / "tensors").mkdir()
    unknown = describe_helping([measure(tmp_path / "tensors", FALL, keep=False)])
    assert unknown.text.startswith("The percentage of parameters that help is unknown, because")
    assert unknown.anchor == "layers"  # there is no chart of helping


def test_certificate_that_holds_states_residuals_and_errors(tmp_path):
    run = measure(tmp_path, FALL, residual=[1e-4, -2e-4, 1e-4, 3e-4], audit=audit_with(0.01, [0, 1]))
    assert describe_certificate([run]).text == (
        "The certificate holds. Σ A differs from the loss change by 0.00030 nats (0.010 % of the loss change, with "
        "a bound of 1 %). The largest residual of an iteration is 0.00030 nats (tolerance 0.001). The LCA of single "
        "parameters is off by 1.00 ± 0.00 % of Σ|A|, measured on 2 audited iterations."
    )


def test_certificate_that_does_not_hold_states_the_reasons(tmp_path):
    run = measure(tmp_path, FALL, status=[1, 2, 1, 3], residual=[0, -0.1, 0, 0])
    finding = describe_certificate([run])
    assert finding.text.startswith(
        "The certificate does not hold: 1 iteration did not converge, 1 iteration is not finite and the cumulative "
        "residual exceeds its bound. Σ A differs from the loss change by 0.10 nats (3.6 % of the loss change"
    )
    assert finding.text.endswith("The error of the LCA of single parameters is unknown, because there was no audit.")
    assert finding.warns


def test_standard_error_of_a_subset_is_stated(tmp_path):
    error = {"start": 0.1, "end": 0.1, "change": 0.05}
    attributes = {"examples": 10, "examples_in_split": 1_000, "standard_error": error}
    text = describe_certificate([measure(tmp_path, FALL, attributes=attributes)]).text
    assert "The loss is measured on 10 of 1,000 examples, which adds a standard error of 0.050 nats." in text


def test_several_runs_are_described_by_means(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = measure(tmp_path / "a", FALL)
    second = measure(tmp_path / "b", [[-1, -3, 0.0, 0.0], [1, 0, 0.5, 0.5]], status=[1, 1, 1, 2])
    runs = [first, second]
    texts = {finding.kind: finding.text for finding in find(runs)}
    assert texts["learning"] == (
        "On average over 2 runs, the train loss fell by 2.50 ± 0.71 nats, from 4.00 to 1.50, over 4 iterations. "
        "At least 90 % of this decrease was reached after 2 iterations."
    )
    assert texts["layers"].startswith(
        "On average over 2 runs, layer 0 did most to lower the loss: its LCA is −3.12 ± 1.24"
    )
    assert texts["hurting"].startswith(
        "1 of 2 layers hurts overall, on average over 2 runs: 1 (+0.62 ± 1.94 nats, above 0 in 1 of 2 runs)."
    )
    assert texts["rises"].startswith(
        "The loss rose in 2 of 8 iterations of 2 runs. It rose most in iteration 2 of run.zarr"
    )
    assert texts["helping"].startswith("In an average iteration, ")
    assert "help (mean over 2 runs)." in texts["helping"]
    assert texts["certificate"].startswith(
        "The certificate does not hold for 1 of 2 runs (run.zarr: 1 iteration did not converge)."
    )


def test_runs_whose_loss_falls_are_counted_if_they_disagree(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    runs = [measure(tmp_path / "a", FALL), measure(tmp_path / "b", [[1, 0, 0, 0], [0, 0, 0, 0]])]
    assert describe_learning(runs).text == "The train loss fell in 1 of 2 runs. Its mean change is −1.00 ± 2.83 nats."


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (1.0, "1.00"), (-1234.5, "−1,234"), (0.0999, "0.0999"), (9.999, "10.0"), (3.14e-6, "3.14 × 10⁻⁶")],
)
def test_numbers_are_rounded_to_significant_digits(value, text):
    assert significant(value) == text


def test_signs_deviations_and_lists_are_formatted():
    assert significant(0.5, 2, signed=True) == "+0.50"
    assert significant(np.nan) == "not finite"
    assert spread([1.0]) == "1.00"
    assert spread([-1.0, -2.0]) == "−1.50 ± 0.71"
    assert enumerate_some(["a"]) == "a"
    assert enumerate_some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
