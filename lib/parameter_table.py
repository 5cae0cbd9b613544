"""The parameters of every notebook: type, default, range, choices, condition, and meaning.

The parameters cells, study files, `--set`, `papermill -p`, the search spaces of `4_tune` and
`darkroom list` all go by this table, and `lib` needs no notebook to exist. To add a training
option, add a row to `_FIT` and use `settings.<name>` where it acts. A name means the same in every
notebook that has it.

In a row `when` names the choice beside which a parameter acts; beside another it is refused, so
that no search varies what does nothing. `None` as a value means "as the preset, the architecture or
the strategy has it". Parameters with `in_cell=False` have no line in the notebook; they are set
through its `options`, or by name on a command line and in a study file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lib import parameter_types, paths
from lib.errors import DarkroomError, suggest, unknown
from lib.parameter_types import Parameter


@dataclass(frozen=True)
class Schema:
    """The schema of a notebook: its stage, what it reads (`raw`, `manifest`, `runs`), and its
    parameters by name, in order.
    """

    name: str
    stage: str
    reads: tuple[str, ...]
    parameters: dict[str, Parameter]
    cross_checks: tuple[Callable[[Mapping[str, Any]], None], ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Returns the default of every parameter."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    def check(
        self, values: Mapping[str, Any], *, text: bool = False, where: str = ""
    ) -> dict[str, Any]:
        """Returns some values in their declared types, those of `options` by their own names; see
        `parameters.check`.
        """
        return parameter_types.check(values, self.parameters, where=where or self.name, text=text)


def find(name: str) -> Schema:
    """Returns the schema of a notebook. Raises DarkroomError, with a suggestion, for a name that is
    none of ours.
    """
    if name not in NOTEBOOKS:
        raise unknown("notebook", name, NOTEBOOKS)
    return NOTEBOOKS[name]


def of_stage(stage: str) -> Schema | None:
    """Returns the schema of a stage, such as `train`; None for a stage of the user's own."""
    return next((schema for schema in NOTEBOOKS.values() if schema.stage == stage), None)


def renamed(values: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Returns the parameters of an older run of a stage under today's names."""
    schema = of_stage(stage)
    known = schema.parameters if schema else {}
    today = {row.was: name for name, row in known.items() if row.was}
    return {
        name if name in known else today.get(name, name): value for name, value in values.items()
    }


STRATEGY_DEFAULTS: dict[str, dict[str, Any]] = {
    "scratch": {"epochs": 12, "learning_rate": 1e-3, "optimizer": "adam", "schedule": "constant"},
    "frozen": {"epochs": 30, "learning_rate": 1e-3, "optimizer": "adam", "schedule": "cosine"},
    "linear_probe": {"feature_maps": "stages"},
    "fine_tune": {
        "epochs": 8, "learning_rate": 2e-4, "optimizer": "adamw", "schedule": "cosine",
        "feature_maps": "stages",
    },
    "full": {
        "epochs": 8, "learning_rate": 1e-4, "optimizer": "adamw", "schedule": "cosine",
        "feature_maps": "stages",
    },
}  # fmt: skip
"""The meaning of `None` for a parameter, by strategy; see docs/models.md."""
PRESET_DEFAULTS = {"residual": {"epochs": 30, "schedule": "cosine"}}
"""The same by preset of a custom network, where it differs from the strategy's."""


def with_strategy_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values with those of their strategy or preset in the place of `None`."""
    own = STRATEGY_DEFAULTS.get(values.get("strategy", ""), {})
    if values.get("architecture") == "custom":
        own = own | PRESET_DEFAULTS.get(values.get("preset", ""), {})
    return {
        name: own[name] if value is None and name in own else value
        for name, value in values.items()
    }


def is_active(name: str, values: Mapping[str, Any]) -> bool:
    """Returns whether a parameter of `3_train` acts beside the others; a choice that is not among
    the values does not count.
    """
    return parameter_types.is_active(name, values, TRAINING)


def active(some: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of `some` that act, beside each other and the values of `3_train`."""
    return {name: value for name, value in some.items() if is_active(name, {**values, **some})}


def _row(
    name: str,
    kind: str,
    default: Any,
    help: str,
    allows: str = "",
    *,
    choices: tuple[Any, ...] | str = (),
    **more: Any,
) -> Parameter:
    options = (choices,) if isinstance(choices, str) else choices
    more = {"is_trimmed": True, **more}
    return Parameter(name, kind, default, help, allows, options, **more)


def _options(*rows: Parameter, **more: Any) -> tuple[Parameter, ...]:
    """Parameters without a line in the notebook; `more` is what they have in common."""
    return tuple(replace(row, in_cell=False, **more) for row in rows)


def _group(title: str, *rows: Parameter) -> tuple[Parameter, ...]:
    return tuple(replace(row, group=title) for row in rows)


def _notebook(
    name: str,
    *groups: tuple[Parameter, ...],
    reads: tuple[str, ...] = ("manifest",),
    cross_checks: tuple[Callable[[Mapping[str, Any]], None], ...] = (),
) -> Schema:
    rows = {row.name: row for group in groups for row in group}
    return Schema(name, name.partition("_")[2], reads, rows, cross_checks)


def _check_split(values: Mapping[str, Any]) -> None:
    shares, method = values["fractions"], values.get("split_method", "")
    numbers = [int(word) for word in method.split() if word.isdigit()]
    if numbers and not (1 <= numbers[0] <= numbers[-1] and numbers[-1] >= 2):
        raise DarkroomError(
            f"`split_method` must name one of at least 2 folds. Received: {method!r}."
        )
    if len(shares) != 3 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise DarkroomError(
            "`fractions` must be three shares, of train, validation and test, whose sum is 1. "
            f"Received: {shares}, whose sum is {sum(shares):g}."
        )


def check_patience(values: Mapping[str, Any]) -> None:
    """Raises DarkroomError where early stopping comes before the learning rate can fall."""
    if values["schedule"] == "plateau" and 0 < values["patience"] <= values["plateau_patience"]:
        raise DarkroomError(
            f"With patience = {values['patience']} the training stops before the rate falls at "
            f"plateau_patience = {values['plateau_patience']}. Choose a larger patience."
        )


def _check_architecture(values: Mapping[str, Any]) -> None:
    known = [name for name in TRAINING["architecture"].choices if name != "custom"]
    names = values["architecture"].split("+")
    if len(names) == 1 or values["architecture"].startswith("keras_hub:"):
        return
    for name in names:
        if name not in known or names.count(name) > 1:
            raise DarkroomError(
                "`architecture` joins backbones of the table by +, each once. Received: "
                f"{values['architecture']!r}.{suggest(name, known) if name not in known else ''}"
            )


def _check_strategy(values: Mapping[str, Any]) -> None:
    if values["architecture"] == "custom" and values["strategy"] != "scratch":
        raise DarkroomError(
            f"strategy = {values['strategy']!r} needs a pretrained network, and the custom one "
            "starts from random weights. Use strategy = 'scratch', or another architecture."
        )


def _check_thresholds(values: Mapping[str, Any]) -> None:
    if values["dark"] >= values["bright"]:
        raise DarkroomError(
            f"`dark` must be below `bright`. Received: dark = {values['dark']:g}, bright = "
            f"{values['bright']:g}."
        )
    if both := sorted(set(values["review"]) & set(values["reject"])):
        raise DarkroomError(f"{both[0]!r} is in `review` and in `reject`. Name it once.")


def _check_comparison(values: Mapping[str, Any]) -> None:
    if both := sorted(set(values["only"]) & set(values["omit"])):
        raise DarkroomError(f"{both[0]!r} is in `only` and in `omit`. Name it once.")
    for name, arms in values["ensembles"].items():
        if not (isinstance(arms, list) and arms and all(isinstance(arm, str) for arm in arms)):
            raise DarkroomError(
                f"`ensembles` gives each name a list of arms, such as {{both = ['a', 'b']}}. "
                f"Received for {name!r}: {arms!r}."
            )
    if len(values["class_order"]) == 1:
        raise DarkroomError(
            f"`class_order` names at least two classes. Received: {values['class_order']}."
        )


def _check_tuned_on(values: Mapping[str, Any]) -> None:
    splits, known = paths.datasets() / values["data"] / "splits", values["tuned_on"]
    if known and not values["tiny"] and not (splits / f"{known}.parquet").is_file():
        names = sorted(path.stem for path in splits.glob("*.parquet"))
        raise DarkroomError(
            f"`tuned_on` names the split {known!r}, which {values['data']!r} does not have, so "
            f"nothing shows on which images the settings were chosen.{suggest(known, names)} Take "
            "its name from winner.toml, or leave it empty."
        )


def _check_copies(values: Mapping[str, Any]) -> None:
    if values["classes"] and not values["copy_to"]:
        raise DarkroomError(
            "`classes` says which pictures are copied, and acts only with `copy_to`. Received: "
            f"{values['classes']} without a folder."
        )


# fmt: off
_NAME = paths.NAME
_STUDY = _row("study", "str", "interactive", "the study it belongs to, a folder in logs/")
_ARM = _row("arm", "str", "", "name of the arm; empty takes the architecture's")
_TINY = _row("tiny", "bool", False, "a run of seconds, to see that everything works")
_SEEDS = "0 to 4294967295"  # what NumPy and the backends take
_SEED = _row("seed", "int", 0, "of weights, image order and augmentation", _SEEDS)
_DATA = _row("data", "str", "elpv", "a data set's name or a folder's path", not_empty=True)
_TARGET = _row("target", "str", "label", "label, attr_NAME, or label:CLASS against the rest",
               pattern=r"(label|attr_[^/:=]+)(/(first|rarest|all))?([:=].+)?")
_SPLIT = (
    _row("split_method", "str", "grouped", 'grouped, random, source, "fold 1 of 5", "runs of 60"',
         pattern=r"grouped|random|source|source_val|fold \d+ of \d+|folds of \d+|runs of \d+"),
    _row("split_seed", "int", 0, "which of the possible splits", _SEEDS),
    *_options(_row("fractions", "list[float]", [0.6, 0.15, 0.25],
                   "shares of train, validation and test", "above 0, below 1")),
)
_FINDINGS = "lib.cleaning.findings:DESCRIPTIONS"
_SIDE = _row("image_side", "int", 96, "height and width in pixels that the network sees",
             "8 to 2048")
_RESIZE = _row("resize", "str", "stretch", "how an image becomes square",
               choices=("stretch", "pad", "crop"), in_cell=False)
_AUGMENTATION = _row("augmentation", "str", "none", "random changes to train images",
                     choices="lib.data.augmentation:POLICIES")
_LIMIT, _TUNED_ON = _options(
    _row("limit_per_class", "int", 0, "largest number of images a class, 0 for all", "at least 0"),
    _row("tuned_on", "str", "", "the split on which these settings were chosen, as winner.toml "
         "names it; others with its images in test are refused", pattern=f"|{_NAME}"),
)

_CUSTOM = ("architecture", ("custom",))
_PRETRAINED = ("strategy", ("frozen", "linear_probe", "fine_tune", "full"))
_NETWORK = (
    _row("architecture", "str", "custom", "custom, a backbone, several joined by +, or keras_hub:…",
         choices=("custom", "lib.models.backbones:BACKBONES"),
         pattern=r"keras_hub:.+|\w+(\+\w+)+"),
    _row("strategy", "str", "scratch", "which weights learn",
         choices="lib.training.strategies:STRATEGIES", was="training"),
    *_options(
        _row("weights", "str", "imagenet", "first weights of a backbone: imagenet, none or a file",
             is_path=True, choices=("imagenet", "none"), pattern=r".*[/\\.].*"),
        _row("alpha", "float", 1.0, "width of a MobileNet", "above 0, at most 2",
             when=("architecture", ("mobilenet", "mobilenet_v2"))),
        _row("fine_tune_fraction", "float", 0.6,
             "share of the backbone's layers that fine-tuning trains, from the last on",
             "above 0, at most 1", when=("strategy", ("fine_tune",))),
        _row("feature_maps", "str | None", None,
             "maps of a backbone that the head sees: the last, or mean and deviation of all stages",
             choices=("last", "stages"), when=_PRETRAINED),
        _row("feature_backend", "str", "keras",
             "what computes frozen features; auto takes OpenVINO where it is installed",
             choices="lib.models.inference:ENGINES", when=_PRETRAINED, was="engine"),
        _row("normalization", "str | None", None,
             "scale of the pixels; None for 0 to 1, or what the backbone was trained with",
             choices="lib.models.preprocessing:NORMALIZATIONS"),
    ),
    *_options(
        _row("preset", "str", "compact", "custom network to start from",
             choices="lib.models.cnn:PRESETS"),
        _row("filters", "list[int] | None", None, "filters of each convolution block",
             "1 to 65536", not_empty=True),
        _row("kernel_size", "int | None", None, "side of the convolutions in pixels", "1 to 15",
             was="kernel"),
        _row("first_stride", "int | None", None, "stride of the first convolution", "1 to 8"),
        _row("padding", "str | None", None, "padding of the convolutions",
             choices=("same", "valid")),
        _row("pooling", "str | None", None, "pooling after a block",
             choices=("max", "average", "none")),
        _row("summary", "str | None", None, "how the last maps become one vector",
             choices=("flatten", "average", "max")),
        _row("dense_units", "list[int] | None", None, "units of each dense layer; [] for none",
             "1 to 65536"),
        _row("activation", "str | None", None, "activation after convolutions and dense layers",
             choices=("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh")),
        _row("batch_normalization", "str | None", None, "where batch normalisation is applied",
             choices=("none", "block", "flat", "all")),
        _row("block_dropout", "float | None", None, "dropout rate after each block",
             "at least 0, below 1"),
        _row("l2", "float | None", None, "weight of the squared kernels in the loss", "0 to 1"),
        _row("initializer", "str | None", None, "initial kernels",
             choices=("glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
                      "lecun_normal")),
        when=_CUSTOM,
    ),
    *_options(
        _row("dropout", "float | None", None,
             "dropout rate of dense layers and before the last layer", "at least 0, below 1"),
        _row("average_mirrored", "bool", False,
             "whether predictions are the mean over an image and its mirror image"),
    ),
)

_TRAINED_WHOLE = ("scratch", "fine_tune", "full")
_BY_GRADIENT = ("strategy", ("scratch", "frozen", "fine_tune", "full"))
_FIT = (
    _row("epochs", "int | None", None, "passes over the train split; None: the strategy's",
         "1 to 10000"),
    _row("batch_size", "int", 32, "images a step", "1 to 4096"),
    _row("learning_rate", "float | None", None, "highest rate; None: the strategy's",
         "above 0, at most 10", when=_BY_GRADIENT),
    _row("optimizer", "str | None", None, "the optimiser; None: the strategy's",
         choices="lib.training.optimizers:OPTIMIZERS", when=_BY_GRADIENT),
    *_options(
        _row("momentum", "float", 0.9, "momentum of sgd", "at least 0, below 1",
             when=("optimizer", ("sgd",))),
        _row("weight_decay", "float", 0.004, "weight decay of the kernels", "0 to 1",
             when=("optimizer", ("adamw", "sgd"))),
        _row("gradient_clip", "float", 1.0,
             "largest global norm of the gradients, 0 for no limit", "0 to 1000"),
    ),
    _row("schedule", "str | None", None, "how the rate falls; None: the strategy's",
         choices="lib.training.optimizers:SCHEDULES", when=_BY_GRADIENT),
    *_options(
        _row("warm_up", "float", 0.1, "share of the steps in which a cosine schedule rises",
             "at least 0, below 1", when=("schedule", ("cosine",))),
        _row("decay_every", "float", 0.3, "share of all steps between two falls of a step schedule",
             "above 0, below 1", when=("schedule", ("step",))),
        _row("decay_factor", "float", 0.1,
             "factor by which a step or plateau schedule lowers the rate", "above 0, below 1",
             when=("schedule", ("step", "plateau"))),
        _row("plateau_patience", "int", 3,
             "epochs without improvement before a plateau schedule falls", "at least 1",
             when=("schedule", ("plateau",))),
    ),
    _row("patience", "int", 0, "epochs without improvement before stopping, 0 for never",
         "at least 0"),
    *_options(
        _row("min_delta", "float", 0.0,
             "smallest change of `monitor` that counts as an improvement", "at least 0"),
        _row("monitor", "str", "val_loss", "what decides which epoch is kept",
             choices=("val_loss", "val_accuracy")),
    ),
    replace(_AUGMENTATION, when=("strategy", (*_TRAINED_WHOLE, "linear_probe"))),
    _row("class_weights", "str", "none", "whether rare classes count more",
         choices=("none", "balanced")),
    *_options(
        _row("mix", "str", "none", "whether train images are mixed in pairs",
             choices="lib.data.augmentation:MIX_METHODS", when=("strategy", _TRAINED_WHOLE)),
        _row("mix_alpha", "float", 0.4, "alpha of the beta distribution of mixing shares",
             "above 0, at most 10", when=("mix", ("mixup", "cutmix"))),
        _row("loss", "str", "cross_entropy", "the loss; the binary ones for two classes",
             choices="lib.training.settings:LOSSES"),
        _row("focal_gamma", "float", 2.0, "exponent of a focal loss", "above 0, at most 10",
             when=("loss", ("focal", "binary_focal"))),
        _row("label_smoothing", "float", 0.0, "share of the truth spread over all classes",
             "at least 0, below 1"),
    ),
)

_MACHINE = _options(
    _row("dtype_policy", "str", "float32", "arithmetic", choices=("float32", "mixed_bfloat16")),
    _row("devices", "int", 1, "GPUs that share each batch, 0 for all", "at least 0"),
    _row("continue_run", "bool", False, "if only `epochs` was raised, continue from the last epoch",
         in_key=False),
    _row("range_test", "bool", False, "whether to test learning rates before the training"),
)

_TUTORIAL = _notebook(
    "0_tutorial",
    _group("The study", replace(_STUDY, default="tutorial", help="a study file in studies/"),
           _TINY),
    _group("Data", replace(_DATA, default="planted")),
    reads=("raw",),
)
_CLEAN = _notebook(
    "1_clean",
    _group("The study", _STUDY, _TINY),
    _group(
        "Data",
        replace(_DATA, help="a name, or the path of a folder, table or archive"),
        _row("label_column", "str", "", "of a table: the column of the label, empty to guess"),
        _row("separator", "str", "", 'of a table: between several labels of a cell, such as "|"',
             is_trimmed=False),
        _row("several", "str", "first", "of several labels in a cell",
             choices="lib.data.sources.options:SEVERAL"),
        _row("reading", "dict", {}, 'how it is read, such as {"group": "patient"}'),
        _row("name", "str", "", "what to call the data set; empty takes it from the path",
             in_cell=False, pattern=f"|{_NAME}"),
    ),
    _group(
        "Duplicates and outliers",
        _row("grouping", "str", "copies", "what shares a group",
             choices="lib.cleaning.duplicates:GROUPINGS"),
        _row("embedding_network", "str", "efficientnet_lite0",
             "what finds wrong labels and outliers",
             choices=("none", "lib.models.backbones:BACKBONES"), was="look"),
        _row("embedding_side", "int", 128, "side in pixels at which that network looks",
             "32 to 2048", was="image_side"),
    ),
    _group(
        "Thresholds",
        _row("smallest_side", "int", 8, "review a picture with a shorter side, in pixels",
             "1 to 4096"),
        *_options(
            _row("greatest_aspect", "float", 8.0,
                 "review a picture longer than this times its breadth", "above 1, at most 1000"),
            _row("dark", "float", 0.08, "review where 99 % of the pixels are darker", "0 to 1"),
            _row("bright", "float", 0.92, "review where 99 % of the pixels are brighter", "0 to 1"),
            _row("contrast", "float", 0.04, "review where the greys span less of their range",
                 "0 to 1"),
            _row("uniform", "float", 0.998, "review where more of the pixels have one grey",
                 "0 to 1"),
            _row("sharpness", "float", 0.05, "review as blurred below this sharpness of edges",
                 "0 to 100"),
            _row("outlier", "float", 3.0,
                 "deviations of the neighbour distance that make an outlier", "0 to 100"),
        ),
        _row("review", "list[str]", [], "findings to set aside, such as wrong_label",
             choices=_FINDINGS),
        _row("reject", "list[str]", [], "findings to reject, such as blurred", choices=_FINDINGS),
    ),
    reads=("raw",),
    cross_checks=(_check_thresholds,),
)
_EXPLORE = _notebook(
    "2_explore",
    _group("The study", _STUDY, _TINY),
    _group("Data", _DATA, _TARGET, *_SPLIT, _SIDE, replace(_RESIZE, in_cell=True)),
    _group("Augmentation", replace(_AUGMENTATION, default="gentle")),
    cross_checks=(_check_split,),
)
_TRAIN = _notebook(
    "3_train",
    _group("The study", _STUDY, _ARM, _SEED, _TINY),
    _group("Data", _DATA, _TARGET, *_SPLIT, _SIDE, _LIMIT, _TUNED_ON, _RESIZE),
    _group("Network", *_NETWORK),
    _group("Training", *_FIT),
    _group("Machine", *_MACHINE),
    cross_checks=(
        _check_architecture, _check_strategy, _check_split, check_patience, _check_tuned_on,
    ),
)
_SPACE = {
    "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "batch_size": [16, 32, 64],
    "optimizer": ["adam", "sgd"],
    "momentum": {"low": 0.8, "high": 0.98, "when": {"optimizer": ["sgd"]}},
    "dropout": [0.0, 0.2, 0.4],
}
_TUNE = _notebook(
    "4_tune",
    _group("The study", _STUDY, replace(_ARM, default="tuned", help="name of the arm"), _TINY),
    _group("Data", _DATA, _TARGET, *_SPLIT, _LIMIT),
    _group(
        "The search",
        _row("base", "dict", {"image_side": 48, "augmentation": "square_gentle"},
             "other parameters"),
        _row("space", "dict", _SPACE, "parameters of 3_train that are searched"),
        _row("method", "str", "hyperband", "how to search", choices="lib.tuning.methods:METHODS"),
        _row("method_options", "dict", {}, "of the method, as docs/tuning.md lists them",
             in_cell=False, was="options"),
        _row("goals", "list[str]", ["val_accuracy"], "what to seek, the first decides",
             choices=("val_accuracy", "val_loss", "num_parameters", "seconds"), not_empty=True),
        _row("epochs", "int", 9, "passes over the train split of a trial at most", "1 to 10000"),
        _row("num_trials", "int", 20, "trials of tpe, genetic, cmaes and random", "1 to 100000"),
        _row("search_seed", "int", 0, "of proposals and of the trials' trainings", _SEEDS),
        _row("budget_minutes", "float", 0.0, "time for the search, 0 for no limit", "at least 0"),
        *_options(
            _row("at_once", "int", 0, "parallel trials, 0 for as many as fit", "0 to 1000"),
            _row("memory_gb", "float", 0.0,
                 "memory limit of a trial, 0 for nine tenths of the machine", "at least 0"),
        ),
    ),
    _group(
        "Retraining",
        _row("top", "int", 3, "how many of the best trials are retrained", "1 to 20"),
        _row("retrain_seeds", "list[int]", [1, 2, 3, 4, 5], "seeds of the retrainings", _SEEDS),
        _row("retrain_epochs", "int", 0, "epochs of the retrainings, 0 for those of the search",
             "0 to 10000", in_cell=False),
    ),
    cross_checks=(_check_split,),
)
_THUMBNAILS = _notebook(
    "5_thumbnails",
    _group("The study", _STUDY,
           replace(_ARM, help="name of the arm; empty takes the classifier's"), _SEED, _TINY),
    _group(
        "Data",
        _DATA,
        replace(_TARGET, help="what to learn, as docs/posters.md lists it"),
        *_SPLIT,
        _LIMIT,
        _RESIZE,
        _row("sizes", "list[str]", ["15x10"], "height x width in pixels; several are searched",
             not_empty=True, pattern=r"[1-9]\d{0,2} *x *[1-9]\d{0,2}"),
    ),
    _group(
        "The model",
        _row("classifier", "str", "svm_linear", "the model",
             choices="lib.baselines.estimators:MODELS", was="architecture"),
        _row("grid", "dict", {}, "lists of values by parameter of the model"),
        _row("search", "str", "grid", "which values are fitted",
             choices="lib.baselines.search:METHODS"),
        _row("genetic_trials", "int", 0, "of the genetic search, 0 for half of the grid",
             "at least 0"),
    ),
    cross_checks=(_check_split,),
)
_COMPARE = _notebook(
    "6_compare",
    _group("The study", replace(_STUDY, help="the study whose runs are compared"),
           replace(_ARM, help="name of this comparison, if there are several"), _TINY),
    _group("Data", _DATA),
    _group(
        "The comparison",
        _row("stages", "list[str]", ["train"], "stages that hold the runs", was="stage",
             not_empty=True, pattern=_NAME),
        _row("metric", "str", "auto", "auto: accuracy, or macro F1 of several labels",
             choices=("auto", "accuracy", "balanced_accuracy", "macro_f1", "kappa", "matthews",
                      "micro_f1", "exact_match")),
        _row("margin", "float", 0.02, "arms this close are called equivalent, if shown",
             "above 0, below 1"),
        _row("only", "list[str]", [], "compare only these arms; empty takes all"),
        _row("omit", "list[str]", [], "leave these arms out"),
        _row("ensembles", "dict", {}, "arms to average, by the ensemble's name"),
        _row("baseline", "str", "", "test every arm against this one; empty tests all pairs",
             was="against"),
        _row("positive_class", "str", "", "judge all models on this class against the rest",
             was="fold"),
        _row("class_order", "list[str]", [], "classes from lowest to highest, if ordered"),
    ),
    reads=("runs",),
    cross_checks=(_check_comparison,),
)
_EXPLAIN = _notebook(
    "7_explain",
    _group("The study", replace(_STUDY, help="the study whose model is explained"),
           replace(_SEED, help="of methods that draw at random"), _TINY),
    _group("Data", _DATA),
    _group(
        "The model",
        _row("stage", "str", "train", "the stage of the model: train or thumbnails", pattern=_NAME),
        _row("explained", "str", "", "the run, such as custom-s0; empty takes the best",
             pattern=f"|{_NAME}"),
    ),
    _group(
        "Methods",
        _row("explain_methods", "list[str]",
             ["gradcam", "gradcam_plus_plus", "integrated_gradients", "smoothgrad", "occlusion",
              "rise", "lime", "kernel_shap"],
             "columns of the figures", choices="lib.explain.attribution_methods:METHODS",
             was="methods", not_empty=True),
        _row("images_each", "int", 3, "images of each kind in the figures", "1 to 20"),
        _row("images_measured", "int", 24, "test images that compare the methods", "4 to 1000"),
        _row("average_by", "str", "gradcam", "method of the mean maps",
             choices="lib.explain.attribution_methods:METHODS"),
        _row("coarse", "list[str]", [], "columns of coarser labels, such as attr_make",
             pattern="attr_.+"),
    ),
    reads=("manifest", "runs"),
)
_FEATURES = _notebook(
    "8_features",
    _group("The study", _STUDY, _ARM, replace(_SEED, help="of maps and of untrained weights"),
           _TINY),
    _group(
        "The network",
        _DATA,
        _row("trained", "str", "", "a finished training; empty takes the network below",
             pattern=f"|({_NAME}/){{0,2}}{_NAME}"),
        _row("architecture", "str", "efficientnet_lite0", "the network where `trained` is empty",
             choices="lib.models.backbones:BACKBONES"),
        _SIDE,
        _TARGET,
        _row("reference", "str", "untrained", "network to compare with",
             choices=("untrained", "frozen", "none"), was="against"),
        _row("layer", "str", "pool", "the layer whose output is looked at", not_empty=True),
        _row("limit", "int", 0, "largest number of images, 0 for all", "at least 0"),
    ),
    _group(
        "Maps",
        _row("map_methods", "list[str]", ["pca", "tsne", "umap", "pca_tsne"], "the maps",
             choices="lib.embeddings.reduction:METHODS", was="methods", not_empty=True),
        _row("neighbours", "int", 10, "size of a neighbourhood when a map is judged", "1 to 200"),
        _row("shuffles", "int", 200, "label permutations of the baseline", "19 to 10000"),
    ),
    reads=("runs",),
)
_APPLY = _notebook(
    "9_apply",
    _group("The study", _STUDY, _TINY),
    _group(
        "The model and the pictures",
        _row("model", "str", "best", "a run, the path of a saved model, or best", is_path=True,
             not_empty=True),
        _row("pictures", "str", "elpv", "a folder of new pictures, or a data set's name",
             is_path=True, not_empty=True),
    ),
    _group(
        "Answers",
        _row("target_accuracy", "float", 0.95, "how often accepted labels are to be right",
             "above 0, at most 1", was="wished_accuracy"),
        _row("copy_to", "str", "", "an empty folder for copies of the accepted pictures"),
        _row("classes", "list[str]", [], "copy pictures of these classes; empty copies all"),
    ),
    reads=("runs",),
    cross_checks=(_check_copies,),
)
_ALL = (
    _TUTORIAL, _CLEAN, _EXPLORE, _TRAIN, _TUNE, _THUMBNAILS, _COMPARE, _EXPLAIN, _FEATURES, _APPLY,
)
# fmt: on
NOTEBOOKS = {schema.name: schema for schema in _ALL}
"""Every notebook of the suite, by name."""

TRAINING = NOTEBOOKS["3_train"].parameters
"""The parameters of `3_train` by name."""
FIT = tuple(row.name for row in _FIT)
"""The names of those that say how to train."""
NETWORK = tuple(
    row.name
    for row in _NETWORK
    if row.name not in ("strategy", "weights", "fine_tune_fraction", "feature_backend")
)
"""The names of those that the network follows from, besides its loss, classes and side."""
