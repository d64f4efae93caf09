"""The findings of the paper: the statement, the criterion for agreement, and the function that measures it.

The sign of a quantity is judged by a t-test over runs (p < 0.05). With two runs, both must have the expected
sign. A single run is not judged.
"""

from functools import partial

from paper import certainty, moments, noise, open_questions
from paper.experiments import ADAM_RATE, ALLCNN, FC, LENET, PLAIN_RATE, RATE, RESNET, SWEEP
from paper.layer_findings import LAYERS
from paper.measured import Finding

# Experiment -> name, the paper's percentage helping (mean and standard deviation), and tolerance for agreement.
TABLE_1 = {
    "mnist-fc-plain": ("MNIST–FC, SGD without momentum", 53.72, 0.05, 1.5),
    "mnist-fc-sgd": ("MNIST–FC, SGD", 57.79, 0.16, 1.0),
    "mnist-fc-adam": ("MNIST–FC, Adam", 55.82, 0.09, 1.5),
    "mnist-lenet-sgd": ("MNIST–LeNet, SGD", 53.97, 0.48, 1.5),
    "mnist-lenet-adam": ("MNIST–LeNet, Adam", 51.77, 0.21, 1.5),
    "cifar-resnet-sgd": ("CIFAR–ResNet, SGD", 50.66, 0.14, 0.5),
    "cifar-resnet-adam": ("CIFAR–ResNet, Adam", 50.30, 0.004, 0.5),
    "cifar-allcnn-sgd": ("CIFAR–AllCNN, SGD", 51.09, 0.23, 0.5),
    "cifar-allcnn-adam": ("CIFAR–AllCNN, Adam", 50.19, 0.01, 0.5),
}
RATES_OF_RUNS = {"plain": PLAIN_RATE, "sgd": RATE, "adam": ADAM_RATE}  # learning rates of the MNIST–FC runs
TUNED = [f"mnist-fc-{optimizer}" for optimizer in RATES_OF_RUNS]

SHOWN = {FC: "MNIST–FC", RESNET: "CIFAR–ResNet"}  # the networks of the paper's figure 3
OPEN = "none (left open by the paper)"


def _get_problem(experiment: str) -> str:
    return experiment.removesuffix("-sgd")


TABLE_1_FINDINGS = [
    *(
        Finding(
            "Table 1",
            f"{name}: {mean} ± {deviation} % of the parameters help",
            f"within {tolerance:g} percentage points"
            + (" (the learning rate was chosen to reach this value)" if each in TUNED else ""),
            partial(noise.helping_near, experiment=each, value=mean, tolerance=tolerance),
            [f"helping-{each}"],
        )
        for each, (name, mean, deviation, tolerance) in TABLE_1.items()
    ),
    *(
        Finding(
            "Table 1",
            f"{TABLE_1[f'mnist-fc-{optimizer}'][0]}: no learning rate is given, so several are tried here",
            "the paper's percentage lies between the lowest and the highest found",
            partial(
                noise.helping_by_rate, optimizer=optimizer, regular=rate, value=TABLE_1[f"mnist-fc-{optimizer}"][1]
            ),
            ["rates"],
        )
        for optimizer, rate in RATES_OF_RUNS.items()
    ),
    Finding(
        "Section 3",
        "The percentage varies in a small range of 50 to 58 %",
        "above 50 %, at most 58.5 %",
        partial(noise.all_within, experiments=list(TABLE_1), low=50, high=58.5),
    ),
    Finding(
        "Section 3",
        "CIFAR networks are even tighter, at 50 to 51 %",
        "above 50 %, at most 51.5 %",
        partial(noise.all_within, experiments=[each for each in TABLE_1 if "cifar" in each], low=50, high=51.5),
    ),
    Finding(
        "Section 3",
        "In every configuration, slightly more parameters help than hurt",
        "above 50 % in each",
        partial(noise.over_half, experiments=list(TABLE_1)),
    ),
]

NOISE = [
    Finding(
        "Figure 2",
        "MNIST–FC: learning is strongest in early iterations and greatly diminished after one epoch of four",
        "at least 80 % of the loss change in the first quarter",
        partial(noise.learned_early, experiment=FC, part=0.25),
        [
            "film-mnist-fc",
            "frame-mnist-fc",
            "film-mnist-lenet",
            "frame-mnist-lenet",
            "curves-mnist-fc",
            "neurons-mnist-fc",
        ],
    ),
    Finding(
        "Figure 3a",
        "MNIST–FC: around 20 % of the parameters have no effect in an iteration",
        "15 to 25 %",
        partial(noise.without_effect, experiment=FC, low=15, high=25),
    ),
    Finding(
        "Section 3",
        "MNIST–FC: most of these parameters are weights of dead pixels",
        "more than half of the parameters that never have an effect",
        partial(noise.of_dead_pixels, experiment=FC),
    ),
    Finding(
        "Section 3",
        "CIFAR–ResNet: parameters without any effect are rare",
        "at most 1 %",
        partial(noise.without_effect, experiment=RESNET, low=0, high=1),
    ),
    *(
        Finding(
            "Figure 3a",
            f"{name}: slightly more parameters help in the earliest iterations",
            "in every run, up to 10 percentage points more in the first 2 % of the iterations than overall",
            partial(noise.more_help_early, experiment=each),
        )
        for each, name in SHOWN.items()
    ),
    *(
        Finding(
            "Figure 3c",
            f"{name}: close to 50 % of the parameters help in every layer",
            "45 to 60 % in every layer",
            partial(noise.layers_near_half, experiment=each, low=45, high=60),
            [f"layers-helping-{_get_problem(each)}"],
        )
        for each, name in SHOWN.items()
    ),
    *(
        Finding(
            "Figure 3d",
            f"{name}: most parameters swing evenly between helping and hurting",
            "more than half of them help in 40 to 60 % of the iterations",
            partial(noise.parameters_swing, experiment=each),
            [f"parameters-helping-{_get_problem(each)}"],
        )
        for each, name in SHOWN.items()
    ),
    Finding(
        "Section 3, S3",
        "CIFAR–ResNet: weights turn once in 6.7 iterations, gradients change sign once in 9.5",
        "both within 20 %",
        partial(noise.turns_and_crossings, experiment=RESNET, per_turn=6.7, per_crossing=9.5),
        ["oscillation-cifar-resnet"],
    ),
    Finding(
        "S3",
        "CIFAR–ResNet: with other learning rates, momenta and batch sizes, 50.3 to 51.6 % help",
        "49.8 to 52.1 %",
        partial(
            noise.all_within, experiments=[RESNET, *(f"cifar-resnet-{name}" for name in SWEEP)], low=49.8, high=52.1
        ),
        ["sweep"],
    ),
    *(
        Finding(
            source,
            f"{name}: {statement}",
            criterion,
            partial(measure, experiment=each),
            [f"distribution-{_get_problem(each)}"],
        )
        for source, statement, criterion, measure in (
            (
                "S10",
                "the tails contribute about three times as much as those of a Gaussian",
                "2 to 4 times",
                noise.heavy_tails,
            ),
            (
                "Section 3",
                "LCA is like a Weibull distribution with k < 1",
                "k < 1 on both sides in every run",
                noise.weibull,
            ),
        )
        for each, name in SHOWN.items()
    ),
]

MOMENTS = [
    Finding(
        "Figure 6",
        "MNIST–FC: per class, 9.4 iterations are peaks of all layers, compared with 0.4 by chance (p < 0.001)",
        "within 3 of 9.4, and p < 0.01 compared with random shifts",
        partial(moments.layers_peak_together_by_class, experiment=FC),
        ["peaks-by-class"],
    ),
    *(
        Finding(
            source,
            f"{name}: more iterations are peaks of all layers than by chance (p < 1e-6)",
            "p < 0.01 compared with random shifts, over all runs",
            partial(moments.layers_peak_together, experiment=each),
            figures,
        )
        for source, each, name, figures in (
            ("Figure S17", FC, "MNIST–FC", ["peaks-lca"]),
            ("S5", RESNET, "CIFAR–ResNet", ["peaks-cifar-resnet"]),
        )
    ),
    Finding(
        "Section 5",
        "MNIST–FC: neither the gradient nor the motion alone drives common peaks, as their peaks are clearly different",
        "less than half of the common LCA peaks are also common peaks of the gradient norm, or of the motion",
        partial(moments.not_by_its_factors_alone, experiment=FC),
        ["peaks-gradient", "peaks-motion"],
    ),
]

ERRORS = [
    *(
        Finding(
            "Table S1",
            f"{name}: Simpson's rule (RK4) shrinks the accumulated error drastically",
            "below 1 % without refinement, and below a tenth of the first-order error",
            partial(certainty.simpson_against_first_order, experiment=each),
            [f"error-{_get_problem(each)}"],
        )
        for each, name in {**SHOWN, LENET: "MNIST–LeNet", ALLCNN: "CIFAR–AllCNN"}.items()
    ),
    Finding(
        "Section 2",
        "Steps are halved until the error of an iteration is below 0.001, and the total error is below 1 %",
        "both hold in every run of table 1",
        partial(certainty.within_bounds, experiments=[FC, *(each for each in TABLE_1 if each != FC)]),
    ),
]

OPEN_QUESTIONS = [
    Finding(
        "Section 6.2",
        "MNIST–FC: are gradients over a subset sufficient?",
        OPEN,
        partial(open_questions.agreement_of_subsets, experiment=FC),
        ["subset"],
    ),
    Finding(
        "Section 6.2",
        "MNIST–FC: which layers overfit?",
        OPEN,
        partial(open_questions.overfitting, experiment=FC),
        ["overfit"],
    ),
    Finding(
        "Section 6.2",
        "MNIST–FC: can LCA guide pruning?",
        OPEN,
        partial(open_questions.pruning, experiment=FC),
        ["prune"],
    ),
    Finding(
        "Section 5",
        "Transformers: is learning synchronized, and do layers hurt?",
        OPEN,
        partial(open_questions.transformer, experiment="charlm-transformer"),
        ["layers-charlm-transformer"],
    ),
]

FINDINGS = [*TABLE_1_FINDINGS, *NOISE, *LAYERS, *MOMENTS, *ERRORS, *OPEN_QUESTIONS]
