"""Commands about models: best, apply, export, spread."""

from __future__ import annotations

from typing import Any

from lib.cli.arguments import ACCURACY, CLUSTER, DATA, JSON, WORKERS, add, argument, pairs, repeated

_MODEL = argument("model", "a trained run such as quickstart/train/custom-s0, a study (its best "
                  "run), or a saved model")  # fmt: skip
_PICTURES = argument("pictures", "the folder of new pictures; it is only read")


# fmt: off
def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    add(commands, "best", "lib.training.best:command",
        "make the best model that a time limit allows",
        DATA,
        argument("--minutes", "time limit (20)", type=float, default=20, metavar="N"),
        pairs("--set", "a parameter of 3_train that all candidates share, such as "
              "target=attr_artist", "target=attr_artist", dest="values"),
        JSON)
    add(commands, "apply", "lib.apply.command:apply",
        "label the pictures of a folder, and say which to look at",
        _MODEL,
        _PICTURES,
        ACCURACY,
        argument("--copy", "copy the accepted pictures there, one folder a class", default="",
                 dest="copy_to", metavar="FOLDER"),
        repeated("--only", "copy only this class (may be given again)", dest="classes",
                 metavar="CLASS"),
        JSON)
    add(commands, "export", "lib.apply.command:export",
        "write a trained model for other programs",
        _MODEL,
        argument("format", "what to write; hub: a folder to upload to a model hub",
                 choices=["hub", "onnx", "openvino", "saved_model", "tflite"]),
        argument("--out", "where it goes (default: beside the saved model)", metavar="FOLDER"))
    spread = add(commands, "spread", "",
                 "a pass over very many files, on all cores or on a cluster")
    passes = spread.add_subparsers(title="passes", required=True, metavar="PASS")
    size = argument("--size", "files in a part (2000)", type=int, default=2000, metavar="FILES",
                    dest="part_size")
    add(passes, "scan", "lib.cli.models:spread_scan",
        "read and measure every file, for 1_clean to judge", DATA, WORKERS, CLUSTER, size)
    add(passes, "features", "lib.cli.models:spread_features",
        "compute the features of all accepted images, for 8_features",
        argument("data", "the name of a cleaned data set"),
        argument("model", "a trained run such as wikiart/train/custom-s0"), WORKERS, CLUSTER, size)
    add(passes, "apply", "lib.apply.command:spread",
        "label every picture of a folder, as `darkroom apply` does",
        argument("model", "a trained run, a study (its best run), or a saved model that all "
                 "machines see"),
        _PICTURES, ACCURACY, WORKERS, CLUSTER, size)
# fmt: on


def spread_scan(data: str, *, workers: int | None, cluster: str | None, part_size: int) -> int:
    """Reads and measures every file of a data set."""
    from lib.batch import dask_executor
    from lib.cleaning.scan import scan
    from lib.data import intake
    from lib.reporting.text import print_progress

    dataset = intake.bring(data)
    with dask_executor.for_pass(dataset.folder, workers, cluster) as executor:
        table = scan(dataset, executor=executor, part_size=part_size, progress=print_progress)
    print(f"{dataset.name}: {len(table):,} files read. Next: `darkroom clean {dataset.name}`.")
    return 0


def spread_features(
    data: str, model: str, *, workers: int | None, cluster: str | None, part_size: int
) -> int:
    """Computes the features of all accepted images of a data set."""
    from lib.apply import classifier
    from lib.batch import dask_executor
    from lib.data import dataset as datasets
    from lib.embeddings import feature_spaces
    from lib.reporting.text import print_progress

    dataset, (path, _) = datasets.load(data), classifier.find(model)
    with dask_executor.for_pass(dataset.folder, workers, cluster) as executor:
        folder = feature_spaces.compute(
            dataset, path, executor=executor, part_size=part_size, progress=print_progress
        )
    print(f"Features: {folder / 'features.npy'}")
    return 0
