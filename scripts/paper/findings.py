"""The findings of the paper, as a table: what it says, by which criterion we agree, and how it is measured.

A sign is agreed on by a t-test over runs, p < 0.05; where there are two runs, by both; of a single one nothing is said.
"""

from functools import partial

from paper import certainty, hurting, moments, noise, open_questions
from paper.experiments import ADAM_RATE, PLAIN_RATE, RATE, SWEEP
from paper.hurting import FIRST, LAST
from paper.measured import Finding

# Of experiments: the name, the paper's percentage helping (mean, deviation), and how near we want to be.
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
RATES_OF_RUNS = {"plain": PLAIN_RATE, "sgd": RATE, "adam": ADAM_RATE}  # of MNIST–FC
TUNED = [f"mnist-fc-{optimizer}" for optimizer in RATES_OF_RUNS]

FC, LENET, RESNET, ALLCNN = "mnist-fc-sgd", "mnist-lenet-sgd", "cifar-resnet-sgd", "cifar-allcnn-sgd"
SHOWN = {FC: "MNIST–FC", RESNET: "CIFAR–ResNet"}  # in the paper's figure 3
OPEN = "the paper leaves it open"
HURTS, HELP = "above 0", "all below 0"


def _problem(experiment: str) -> str:
    return experiment.removesuffix("-sgd")


TABLE_1_FINDINGS = [
    *(
        Finding(
            "Table 1",
            f"{name}: {mean} ± {deviation} % of the parameters help",
            f"within {tolerance:g} points" + ("; our learning rate was chosen so" if each in TUNED else ""),
            partial(noise.helping_near, experiment=each, value=mean, tolerance=tolerance),
            [f"helping-{each}"],
        )
        for each, (name, mean, deviation, tolerance) in TABLE_1.items()
    ),
    *(
        Finding(
            "Table 1",
            f"{TABLE_1[f'mnist-fc-{optimizer}'][0]}: learning rates are not given; our curve over them",
            "the paper's percentage is on it",
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
        "over 50, to 58.5 %",
        partial(noise.all_within, experiments=list(TABLE_1), low=50, high=58.5),
    ),
    Finding(
        "Section 3",
        "CIFAR networks are even tighter, at 50 to 51 %",
        "over 50, to 51.5 %",
        partial(noise.all_within, experiments=[each for each in TABLE_1 if "cifar" in each], low=50, high=51.5),
    ),
    Finding(
        "Section 3",
        "In every configuration more help than hurt, if barely",
        "over 50 % in each",
        partial(noise.over_half, experiments=list(TABLE_1)),
    ),
]

NOISE = [
    Finding(
        "Figure 2",
        "MNIST–FC: learning is strongest in early iterations and greatly diminished after one epoch of four",
        "80 % of the loss change in the first quarter",
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
        "MNIST–FC: mostly due to dead pixels",
        "more than half of those that never have any",
        partial(noise.of_dead_pixels, experiment=FC),
    ),
    Finding(
        "Section 3",
        "CIFAR–ResNet: rarely any parameter has no effect",
        "at most 1 %",
        partial(noise.without_effect, experiment=RESNET, low=0, high=1),
    ),
    *(
        Finding(
            "Figure 3a",
            f"{name}: in the earliest iterations more help, but only slightly",
            "more in the first 2 % than in all, by 10 points at most, in every run",
            partial(noise.more_help_early, experiment=each),
        )
        for each, name in SHOWN.items()
    ),
    *(
        Finding(
            "Figure 3c",
            f"{name}: near 50 % help in every layer",
            "all in 45 to 60 %",
            partial(noise.layers_near_half, experiment=each, low=45, high=60),
            [f"layers-helping-{_problem(each)}"],
        )
        for each, name in SHOWN.items()
    ),
    *(
        Finding(
            "Figure 3d",
            f"{name}: most parameters swing evenly between helping and hurting",
            "over half help in 40 to 60 % of the iterations",
            partial(noise.parameters_swing, experiment=each),
            [f"parameters-helping-{_problem(each)}"],
        )
        for each, name in SHOWN.items()
    ),
    Finding(
        "Section 3, S3",
        "CIFAR–ResNet: weights turn once in 6.7 iterations, gradients change sign once in 9.5",
        "both within a fifth",
        partial(noise.turns_and_crossings, experiment=RESNET, per_turn=6.7, per_crossing=9.5),
        ["oscillation-cifar-resnet"],
    ),
    Finding(
        "S3",
        "CIFAR–ResNet: with other learning rates, momenta and batch sizes 50.3 to 51.6 % help",
        "49.8 to 52.1 %",
        partial(
            noise.all_within, experiments=[RESNET, *(f"cifar-resnet-{name}" for name in SWEEP)], low=49.8, high=52.1
        ),
        ["sweep"],
    ),
    *(
        Finding(
            where, f"{name}: {says}", criterion, partial(measure, experiment=each), [f"distribution-{_problem(each)}"]
        )
        for where, says, criterion, measure in (
            (
                "S10",
                "the tails contribute about three times what a Gaussian's would",
                "2 to 4 times",
                noise.heavy_tails,
            ),
            ("Section 3", "LCA is like a Weibull distribution with k < 1", "both sides, every run", noise.weibull),
        )
        for each, name in SHOWN.items()
    ),
]

LAYERS = [
    Finding(
        "Figure 4",
        "CIFAR–ResNet, SGD: the first and the last layer hurt (p < 1e-4)",
        f"both {HURTS}",
        partial(hurting.first_and_last_hurt, experiment=RESNET),
        ["layers-cifar-resnet-sgd"],
    ),
    Finding(
        "Figure 4",
        "CIFAR–ResNet, SGD: all other layers help (p < 1e-4)",
        HELP,
        partial(hurting.others_help, experiment=RESNET),
    ),
    Finding(
        "Section 4",
        "CIFAR–ResNet, SGD: the LCA of the last layer is high in the first few iterations",
        f"{HURTS} in the first {hurting.N_FIRST}",
        partial(hurting.last_hurts_at_first, experiment=RESNET),
    ),
    *(
        Finding(
            "Figure 4",
            f"{what} lowers train and test loss{p}",
            "both lower, p < 0.05",
            partial(hurting.better_in_the_end, experiment=f"cifar-resnet-{each}"),
            figures,
        )
        for each, what, p, figures in (
            ("last-frozen", "Freezing the last layer", " (p < 0.001)", ["groups-last", "losses"]),
            ("last-slow", "A tenth of the learning rate in the last layer", "", []),
        )
    ),
    Finding(
        "Figure 4",
        "A tenth of the learning rate in the last layer is like freezing it",
        "the layers' LCA is nearer to that of frozen than of regular runs",
        hurting.slow_as_frozen,
    ),
    *(
        Finding(
            where, f"With the {which} layer frozen, {says}", criterion, partial(measure, experiment=each, layer=layer)
        )
        for where, which, each, layer in (
            ("Figure 4", "last", "cifar-resnet-last-frozen", LAST),
            ("Figure S13", "first", "cifar-resnet-first-frozen", FIRST),
        )
        for says, criterion, measure in (
            ("the other layers help less", "their sum is nearer to 0, p < 0.05", hurting.others_help_less),
            ("most of all its neighbour", "it loses more than the others on average", hurting.neighbour_helps_less),
        )
    ),
    Finding(
        "Figure S13",
        "Freezing the first layer makes it no better, and does not impair it",
        "neither loss lower, the training loss at most a tenth higher",
        partial(hurting.not_better_not_worse, experiment="cifar-resnet-first-frozen"),
        ["groups-first"],
    ),
    Finding(
        "Figure 5",
        "The LCA of the last layer is fairly linear in the delay of its momentum, from helping to hurting",
        "rising from below 0 to above, R² ≥ 0.8",
        hurting.linear_in_delay,
        ["trend"],
    ),
    Finding(
        "Figure 5",
        "As the last layer helps more, the others hurt more, in the end its neighbours over all",
        "their sum falls with the delay; the neighbour is above 0 at delay 0",
        hurting.others_by_delay,
    ),
    *(
        Finding(
            "Figure S11",
            f"{name}, SGD: all layers help",
            HELP,
            partial(hurting.all_help, experiment=each),
            [f"layers-{each}"],
        )
        for name, each in (("MNIST–FC", FC), ("MNIST–LeNet", LENET))
    ),
    Finding(
        "Section 4",
        "MNIST–ResNet, SGD: the last layer hurts",
        HURTS,
        partial(hurting.layer_hurts, experiment="mnist-resnet-sgd", layer=LAST),
        ["layers-mnist-resnet-sgd"],
    ),
    Finding(
        "Figure S14",
        "CIFAR–AllCNN, SGD: the last layer hurts",
        HURTS,
        partial(hurting.layer_hurts, experiment=ALLCNN, layer=LAST),
        ["layers-cifar-allcnn-sgd"],
    ),
    Finding(
        "Figure S12",
        "Two VGG-like networks: several layers hurt",
        f"two or more in each, {HURTS}",
        partial(hurting.hurting_layers, experiments=["cifar-vgg-sgd", "cifar-vgg-mini-sgd"], at_least=2),
        ["layers-cifar-vgg-sgd", "layers-cifar-vgg-mini-sgd"],
    ),
    Finding(
        "Section 4",
        "CIFAR–ResNet, Adam: the first layer hurts",
        HURTS,
        partial(hurting.layer_hurts, experiment="cifar-resnet-adam", layer=FIRST),
        ["layers-cifar-resnet-adam"],
    ),
    Finding(
        "Section 4",
        "CIFAR–ResNet, Adam: the last two layers hurt inconsistently",
        "neither is clearly of one sign",
        partial(hurting.last_two_inconsistent, experiment="cifar-resnet-adam"),
    ),
    Finding(
        "Section 4",
        "CIFAR–AllCNN, Adam: no layer hurts",
        f"none {HURTS}",
        partial(hurting.hurting_layers, experiments=["cifar-allcnn-adam"], at_most=0),
        ["layers-cifar-allcnn-adam"],
    ),
]

MOMENTS = [
    Finding(
        "Figure 6",
        "MNIST–FC: 9.4 iterations a class are peaks of all layers, by chance 0.4 (p < 0.001)",
        "within 3 of 9.4, and p < 0.01 against random shifts",
        partial(moments.layers_peak_together_by_class, experiment=FC),
        ["peaks-by-class"],
    ),
    *(
        Finding(
            where,
            f"{name}: iterations that are peaks of all layers are more than by chance (p < 1e-6)",
            "p < 0.01 against random shifts, over all runs",
            partial(moments.layers_peak_together, experiment=each),
            figures,
        )
        for where, each, name, figures in (
            ("Figure S17", FC, "MNIST–FC", ["peaks-lca"]),
            ("S5", RESNET, "CIFAR–ResNet", ["peaks-cifar-resnet"]),
        )
    ),
    Finding(
        "Section 5",
        "MNIST–FC: neither the gradient nor the motion alone drives it; the peaks of each are clearly different",
        "under half of the common peaks of LCA are those of the gradient's norm, and of the motion's",
        partial(moments.not_by_its_factors_alone, experiment=FC),
        ["peaks-gradient", "peaks-motion"],
    ),
]

ERRORS = [
    *(
        Finding(
            "Table S1",
            f"{name}: Simpson's rule (RK4) shrinks the accumulated error drastically",
            "under 1 % without refinement, and a tenth of the first order's",
            partial(certainty.simpson_against_first_order, experiment=each),
            [f"error-{_problem(each)}"],
        )
        for each, name in {**SHOWN, LENET: "MNIST–LeNet", ALLCNN: "CIFAR–AllCNN"}.items()
    ),
    Finding(
        "Section 2",
        "Steps are halved until an iteration's error is under 0.001, and in the end it is under 1 % in all",
        "so it is, in every run of table 1",
        partial(certainty.within_bounds, experiments=[FC, *(each for each in TABLE_1 if each != FC)]),
    ),
]

OPEN_QUESTIONS = [
    Finding(
        "Section 6.2",
        "MNIST–FC: gradients over a subset",
        OPEN,
        partial(open_questions.agreement_of_subsets, experiment=FC),
        ["subset"],
    ),
    Finding(
        "Section 6.2",
        "MNIST–FC: which layers overfit",
        OPEN,
        partial(open_questions.overfitting, experiment=FC),
        ["overfit"],
    ),
    Finding("Section 6.2", "MNIST–FC: pruning by LCA", OPEN, partial(open_questions.pruning, experiment=FC), ["prune"]),
    Finding(
        "Section 5",
        "Transformers: is learning synchronised, and do layers hurt?",
        OPEN,
        partial(open_questions.transformer, experiment="charlm-transformer"),
        ["layers-charlm-transformer"],
    ),
]

FINDINGS = [*TABLE_1_FINDINGS, *NOISE, *LAYERS, *MOMENTS, *ERRORS, *OPEN_QUESTIONS]
