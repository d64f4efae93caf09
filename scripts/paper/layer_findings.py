"""The paper's findings on layers that hurt, which findings.py includes.     [arXiv 1909.01440, section 4]"""

from functools import partial

from paper import hurting
from paper.experiments import ALLCNN, FC, LENET, RESNET
from paper.hurting import FIRST, LAST
from paper.measured import Finding

HURTS, HELP = "above 0 (hurts)", "all below 0 (help)"

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
        f"{HURTS} in the first {hurting.N_FIRST} iterations",
        partial(hurting.last_hurts_at_first, experiment=RESNET),
    ),
    *(
        Finding(
            "Figure 4",
            f"{what} lowers train and test loss{p}",
            "both losses lower, p < 0.05",
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
        "A tenth of the learning rate in the last layer has the same effect as freezing it",
        "LCA by layer closer to the frozen runs than to the regular runs",
        hurting.slow_as_frozen,
    ),
    *(
        Finding(
            source,
            f"With the {which} layer frozen, {statement}",
            criterion,
            partial(measure, experiment=each, layer=layer),
        )
        for source, which, each, layer in (
            ("Figure 4", "last", "cifar-resnet-last-frozen", LAST),
            ("Figure S13", "first", "cifar-resnet-first-frozen", FIRST),
        )
        for statement, criterion, measure in (
            ("the other layers help less", "sum of their LCA higher (closer to 0), p < 0.05", hurting.others_help_less),
            (
                "the neighboring layer is affected most",
                "its LCA rises, and by more than the average of the others",
                hurting.neighbor_helps_less,
            ),
        )
    ),
    Finding(
        "Figure S13",
        "Freezing the first layer neither improves nor impairs training",
        "neither loss lower, training loss at most 10 % higher",
        partial(hurting.not_better_not_worse, experiment="cifar-resnet-first-frozen"),
        ["groups-first"],
    ),
    Finding(
        "Figure 5",
        "The LCA of the last layer is fairly linear in the delay of its momentum, from helping to hurting",
        "rises from below 0 (helps) to above 0 (hurts), R² ≥ 0.8",
        hurting.linear_in_delay,
        ["trend"],
    ),
    Finding(
        "Figure 5",
        "As the last layer helps more, the others hurt more, and in the end its neighbors hurt overall",
        "sum of the others falls with the delay, and the neighbor is above 0 (hurts) at delay 0",
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
        f"two or more layers of each {HURTS}",
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
        "neither layer has a significant sign",
        partial(hurting.last_two_inconsistent, experiment="cifar-resnet-adam"),
    ),
    Finding(
        "Section 4",
        "CIFAR–AllCNN, Adam: no layer hurts",
        f"no layer {HURTS}",
        partial(hurting.hurting_layers, experiments=["cifar-allcnn-adam"], at_most=0),
        ["layers-cifar-allcnn-adam"],
    ),
]
