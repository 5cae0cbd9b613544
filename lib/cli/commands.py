"""The commands and their arguments; each names the `module:function` that it calls."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import sys
from pathlib import Path
from typing import Any

from lib import paths
from lib.errors import DarkroomError

Argument = tuple[tuple[str, ...], dict[str, Any]]
"""The names of an argument, and what else `add_argument` takes."""


def argument(name: str, text: str, *names: str, **settings: Any) -> Argument:
    """Returns a positional argument, or an option with a value."""
    return (name, *names), {"help": text, **settings}


def flag(name: str, text: str, **settings: Any) -> Argument:
    """Returns an option without a value."""
    return argument(name, text, action="store_true", **settings)


def repeated(name: str, text: str, **settings: Any) -> Argument:
    """Returns an option that may be given again."""
    return argument(name, text, action="append", default=[], **settings)


def pairs(name: str, text: str, example: str, **settings: Any) -> Argument:
    """Returns an option that takes NAME=VALUE pairs and may be given again."""
    settings = {"metavar": "NAME=VALUE", **settings}
    return argument(name, text, action=_Pairs, const=example, default={}, **settings)


class _Pairs(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, pair: Any, option: str | None = None) -> None:
        name, sign, value = pair.partition("=")
        known = getattr(namespace, self.dest)
        if not sign or not name:
            raise DarkroomError(
                f"{option} takes NAME=VALUE, such as {option} {self.const}. Received: {pair!r}."
            )
        if name in known:
            raise DarkroomError(
                f"{option} gives `{name}` twice: {known[name]!r} and {value!r}. Give it once."
            )
        setattr(namespace, self.dest, {**known, name: value})


DATA = argument("data", "a data set's name, or the path of a folder, table or archive")
JSON = flag("--json", "print the outcome as JSON, for scripts", dest="as_json")
SET = pairs(
    "--set",
    "another value of a parameter in every notebook that has it, such as --set data=path/to/folder,"
    " or in one stage, such as --set train.epochs=20",
    "epochs=20",
    dest="settings",
)
WORKERS = argument("--workers", "processes on this machine", type=int, metavar="N")
CLUSTER = argument("--cluster", "use this Dask cluster, such as tcp://10.0.0.1:8786", metavar="URL")
ACCURACY = argument(
    "--accuracy",
    "target accuracy of the accepted labels (0.95)",
    type=float,
    default=0.95,
    metavar="SHARE",
)


def add(
    commands: Any, name: str, function: str, text: str, *arguments: Argument, **more: Any
) -> argparse.ArgumentParser:
    """Adds a command: its help, its arguments, and the `module:function` that they are passed to by
    name.
    """
    about = text[0].upper() + text[1:] + "."
    parser = commands.add_parser(name, help=text, description=about, **more)
    parser.set_defaults(function=function)
    add_arguments(parser, *arguments)
    return parser


def add_arguments(parser: Any, *arguments: Argument) -> None:
    """Adds arguments to a parser or to one of its groups."""
    for names, settings in arguments:
        parser.add_argument(*names, **settings)


MAX_SEEDS = 1000


class _Seeds(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, text: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, _seeds(text))


VERDICTS = ("keep", "review", "reject")


_MODEL = argument("model", "a trained run such as quickstart/train/custom-s0, a study (its best "
                  "run), or a saved model")  # fmt: skip
_PICTURES = argument("pictures", "the folder of new pictures; it is only read")


COPIED = ("notebooks", "studies", "requirements.txt")
WRITTEN = {
    "datasets": "One folder a data set. `raw/` in it is never written.",
    "checkpoints": "The trained models, laid out as `logs/`.",
    "logs": "One folder a run, with everything that it produced.",
}

_JUPYTER = Path(__file__).parent / "jupyter"
"""A Jupyter configuration folder: JupyterLab asks no question about news and updates."""
_TENSORBOARD = (  # without TensorFlow, which our files do not need and which warns of missing GPUs
    "import sys; sys.modules['tensorflow'] = None; "
    "from tensorboard.main import run_main; run_main()"
)


# fmt: off
def add_to(commands: Any) -> None:
    """Adds all commands to the command line."""
    for add_some in (_add_studies, _add_data, _add_models, _add_project):
        add_some(commands)


def _add_studies(commands: Any) -> None:
    add(commands, "run", "lib.batch.command:run",
        "run a study, or continue one; finished runs are skipped",
        argument("name", "name of a study in studies/, or the path of a .toml file"),
        SET,
        flag("--tiny", "the study's small twin, in a folder of its own"),
        flag("--force", "repeat what has finished (the earlier runs are kept aside)"),
        repeated("--stage", "run only this stage (may be given again)", dest="stages"),
        repeated("--arm", "run only this arm (may be given again)", dest="arms"),
        argument("--workers", "runs at the same time on this machine", type=int, metavar="N"),
        CLUSTER,
        argument("--seeds", "this many seeds, or these (0,1,7), instead of the study's",
                 metavar="N", action=_Seeds, default=[]),
        flag("--log-output", "print what the cells print"),
        argument("--output", "write the executed notebooks there too: a folder, s3://, gs://, …",
                 default="", metavar="FOLDER"),
        flag("--prepare-only", "only write each run's notebook with its parameters"),
        flag("--dry-run", "only show what would be run, and why"),
        JSON,
        epilog="Ctrl-C once: no further run starts. Twice: the running ones are stopped too.")
    add(commands, "status", "lib.cli.show:print_status",
        "show the state of studies, also while they run",
        argument("folder", "folder in logs/, such as quickstart or quickstart@flowers "
                 "(default: all)", nargs="?"),
        JSON)
    add(commands, "results", "lib.cli.show:print_results",
        "write the runs of a study as a table, and the page of studies",
        argument("folder", "folder in logs/ (default: all of them)", nargs="?"),
        JSON,
        argument("--mlflow", "export the study's finished runs to this MLflow store",
                 metavar="URI"))
    add(commands, "list", "lib.cli.show:print_list",
        "show what there is: studies, data sets, notebooks, backbones",
        argument("what", "studies, data, notebooks or backbones; or a notebook such as 3_train, "
                 "for its parameters", nargs="?"),
        argument("parameter", "one parameter of the notebook, with all that it may be", nargs="?"),
        JSON)
    add(commands, "check", "lib.batch.command:check",
        "check study files and notebooks without running anything",
        argument("names", "names or paths of study files (default: all)", nargs="*"), SET, JSON)
    add(commands, "prune", "lib.batch.prune:run",
        "delete what no run needs: earlier runs, leftovers, checkpoints",
        flag("--yes", "do not ask"),
        flag("--caches", "delete pixel caches and features too; both are rebuilt when needed"),
        JSON)


def _add_data(commands: Any) -> None:
    parser = add(
        commands, "clean", "lib.cli.commands:clean",
        "check every file of a data set; list, decide, undo, export",
        DATA,
        epilog="No raw file is ever changed. Every decision is a line in "
        "datasets/NAME/ledger.jsonl and can be undone.")
    add_arguments(
        parser.add_argument_group("cleaning"),
        argument("--embedding-network", "a pretrained network finds wrong labels and outliers",
                 "--look", default="none", metavar="NETWORK"),
        pairs("--threshold", "such as dark=0.1", "dark=0.1", dest="thresholds"),
        pairs("--verdict", "such as blurred=keep", "blurred=keep", dest="verdicts"),
        pairs("--option", "of the source, such as label=artist", "label=artist", dest="options"),
        argument("--name", "name of the data set (default: the last part of the path)",
                 metavar="NAME"),
        JSON,
        WORKERS)
    add_arguments(
        parser.add_argument_group(
            "one act on a data set that has been cleaned; files as the findings name them"),
        argument("--list", "files with a finding or verdict", nargs="?", const="",
                 metavar="FINDING"),
        flag("--history", "all decisions, the oldest first"),
        argument("--undo", "take back a decision (default: the last)", nargs="?", const=0,
                 type=int, metavar="ENTRY"),
        *(argument(f"--{verdict}", f"judge these files: {verdict}", nargs="+", metavar="FILE")
          for verdict in VERDICTS),
        argument("--relabel", "give these files another label", nargs="+",
                 metavar=("LABEL", "FILE")),
        argument("--export", "write a clean copy that load_dataset reads, a folder a class",
                 metavar="FOLDER"),
        flag("--by-split",
             "with --export: its split as outer folders, of the source or else grouped"))
    add(commands, "data", "lib.cli.commands:data",
        "list, rename or forget data sets; find one whose folder moved",
        argument("what", "what to do", choices=["list", "rename", "forget", "relink"]),
        argument("name", "the data set", nargs="?", default=""),
        argument("to", "the new name, or the folder it moved to", nargs="?", default=""),
        JSON,
        epilog="Nothing is deleted: forgotten data sets are moved to datasets/.forgotten.")
    add(commands, "collect", "lib.cli.commands:collect",
        "collect film posters by genre from TMDB, with its permission",
        argument("name", "what the data set is called here"),
        argument("--genres", "TMDB's names with commas, such as Horror,Animation,Action, or all",
                 required=True),
        argument("--language", "of the genres' names, such as fr (en)", default="en"),
        argument("--per-genre", "films of each genre (1000)", type=int, default=1000, metavar="N"),
        argument("--permission", "who allowed you to learn from TMDB's posters, when, for what",
                 default=""),
        argument("--side", "scale posters to this side in pixels, such as 256", type=int,
                 default=0),
        epilog="The key is read from the environment, TMDB_TOKEN. The same command "
        "continues a stopped collection.")
    add(commands, "store", "lib.cli.commands:store",
        "put data sets into MongoDB's GridFS and get them back",
        argument("what", "put a data set there, get it back, list what is there",
                 choices=["put", "get", "list"]),
        argument("name", "the data set; for put also the path of a folder", nargs="?", default=""),
        argument("--as", "what it is called here when it comes back", dest="called",
                 metavar="NAME"),
        epilog="The server's address is read from the environment, "
        "DARKROOM_MONGO=mongodb://host/database. The same command continues a stopped transfer.")


def _add_models(commands: Any) -> None:
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
    add(passes, "scan", "lib.cli.commands:spread_scan",
        "read and measure every file, for 1_clean to judge", DATA, WORKERS, CLUSTER, size)
    add(passes, "features", "lib.cli.commands:spread_features",
        "compute the features of all accepted images, for 8_features",
        argument("data", "the name of a cleaned data set"),
        argument("model", "a trained run such as wikiart/train/custom-s0"), WORKERS, CLUSTER, size)
    add(passes, "apply", "lib.apply.command:spread",
        "label every picture of a folder, as `darkroom apply` does",
        argument("model", "a trained run, a study (its best run), or a saved model that all "
                 "machines see"),
        _PICTURES, ACCURACY, WORKERS, CLUSTER, size)


def _add_project(commands: Any) -> None:
    add(commands, "init", "lib.cli.commands:init",
        "lay out a project: notebooks, studies and folders for results",
        argument("folder", "the project's folder; created if it does not exist"))
    add(commands, "lab", "lib.cli.commands:lab",
        "open JupyterLab on the notebooks; takes its options").set_defaults(rest=[])
    add(commands, "board", "lib.cli.commands:board",
        "open TensorBoard on all runs; takes its options").set_defaults(rest=[])
    add(commands, "web", "lib.web.site:serve",
        "serve the site: runs, data, maps, pictures to classify",
        argument("--port", "8050 by default; 0 takes a free one", type=int, default=8050,
                 metavar="N"),
        argument("--host", "address to serve on (default: this machine alone; no password)",
                 default="127.0.0.1"),
        repeated("--name", "a further host name to answer to (may be given again)", dest="names"))
# fmt: on


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words) or words == ["0"]:
        raise DarkroomError(
            "--seeds takes how many seeds, such as 5, or the seeds with commas, such as 0,1,7. "
            f"Received: {text!r}."
        )
    if "," not in text and int(words[0]) > MAX_SEEDS:
        raise DarkroomError(f"--seeds takes at most {MAX_SEEDS} seeds. Received: {text}.")
    return list(range(int(words[0]))) if "," not in text else [int(word) for word in words]


def clean(data: str, *, by_split: bool, **given: Any) -> int:
    """Cleans a data set, or does the one act that was asked for."""
    from lib.cleaning import command

    judged = {name: files for name in VERDICTS if (files := given.pop(name))}
    acts = {
        "list": lambda finding: command.list_files(data, finding),
        "history": lambda _: command.history(data),
        "undo": lambda entry: command.undo(data, entry or None),
        "relabel": lambda words: command.relabel(data, *words),
        "export": lambda folder: command.export_copy(data, folder, by_split=by_split),
    }
    asked = {name: given.pop(name) for name in acts}
    chosen = {
        name: value for name, value in asked.items() if value is not None and value is not False
    }
    if len(chosen) + bool(judged) > 1:
        raise DarkroomError(
            "One act at a time: --list, --history, --undo, --keep, --review, --reject, --relabel "
            "or --export."
        )
    if judged:
        command.decide(data, judged)
    elif chosen:
        ((name, value),) = chosen.items()
        acts[name](value)
    else:
        command.clean(data, **given)
    return 0


def data(what: str, name: str, to: str, *, as_json: bool) -> int:
    """Lists data sets, or renames, forgets or relinks one."""
    import json

    from lib import paths
    from lib.data import dataset as datasets

    example = {"rename": "rename old new", "forget": "forget old", "relink": "relink old path"}
    if what != "list" and not (name and (to or what == "forget")):
        raise DarkroomError(f"Which one? Such as: darkroom data {example[what]}")
    text = ""
    if what == "list":
        facts: dict[str, Any] = {"datasets": datasets.overview()}
        text = "\n".join(map(_described, facts["datasets"]))
    elif what == "rename":
        datasets.rename(name, to)
        facts, text = {"name": to, "was": name}, f"{name} is called {to} now."
    elif what == "forget":
        facts = {"name": name, "moved_to": str(datasets.forget(name))}
        text = f"{name} is forgotten; its manifest and ledger are in {facts['moved_to']}."
    else:
        facts = {"name": name, "raw": str(datasets.relink(name, paths.typed(to)).raw)}
        text = f"{name} is read from {facts['raw']} now."
    if as_json or text:
        print(json.dumps(facts, ensure_ascii=False) if as_json else text)
    return 0


def _described(row: dict[str, Any]) -> str:
    counts = "not cleaned yet"
    if row["files"] is not None:
        counts = f"{row['kept']:,} of {row['files']:,} files kept, {row['classes']} classes"
    gone = "" if row["raw"] else "  (its folder is gone: darkroom data relink)"
    return f"{row['name']:<24}{counts:<44}{row['from']}{gone}"


def collect(name: str, *, genres: str, **given: Any) -> int:
    """Collects film posters from TMDB."""
    from lib.data.sources import tmdb

    chosen = [genre.strip() for genre in genres.split(",") if genre.strip()]
    there = tmdb.collect(name, genres=chosen, **given)
    print(f"{len(there.files()) - 1:,} posters in {there.raw}; use them as data = {there.name!r}.")
    return 0


def store(what: str, name: str, *, called: str | None) -> int:
    """Puts a data set into GridFS, gets one back, or lists what is there."""
    from lib.data import intake
    from lib.data.sources import gridfs

    if what == "list":
        print("\n".join(gridfs.names()) or "The store holds no data set.")
        return 0
    if not name:
        raise DarkroomError(f"Which data set? Such as: darkroom store {what} elpv")
    if what == "put":
        done = gridfs.put(intake.bring(name))
    else:
        _, done = gridfs.get(name, called=called)
    print(
        f"{done.images:,} images ({done.num_bytes / 1e6:,.1f} MB), {done.moved:,} of them moved in "
        f"{done.seconds:.1f} s."
    )
    return 0


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


def lab(rest: list[str]) -> int:
    """Opens JupyterLab."""
    _refuse_other_lib(paths.notebooks(), "Rename it or move it.")
    root = ["--ServerApp.root_dir", str(paths.notebooks().parent)]
    start = ["--LabApp.default_url", "/lab/tree/notebooks"]
    return _open("jupyterlab", ["-m", "jupyterlab", *root, *start, *rest])


def board(rest: list[str]) -> int:
    """Opens TensorBoard."""
    return _open("tensorboard", ["-c", _TENSORBOARD, "--logdir", str(paths.logs()), *rest])


def _open(package: str, command: list[str]) -> int:
    import importlib.util
    import os
    import subprocess

    from lib.batch import machine

    if importlib.util.find_spec(package) is None:
        raise DarkroomError(
            f"{package} is not installed. Install it with: python -m pip install {package}"
        )
    config = os.pathsep.join(filter(None, [str(_JUPYTER), os.environ.get("JUPYTER_CONFIG_PATH")]))
    # An installed environment's own kernel comes before whatever the user has registered.
    own = {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_PATH": config}
    environment = {**machine.FRUGAL, **os.environ, **own}
    words = [sys.executable, *command]
    if os.name == "posix":
        os.execve(sys.executable, words, environment)  # noqa: S606  signals reach it without us
    return subprocess.run(words, env=environment, check=False).returncode


def init(folder: str) -> int:
    """Lays out a project and says how to begin."""
    made = create(paths.typed(folder))
    print(f"{made} is a Darkroom project now. Begin with:\n")
    print(f"    cd {made}\n    darkroom run quickstart\n    darkroom lab")
    return 0


def create(folder: Path) -> Path:
    """Lays out a project in `folder` and returns its absolute path.

    Raises:
        DarkroomError: where a file would be overwritten, or where the folder has a `lib` of its
            own, which notebooks there would import in place of this package.
    """
    folder = folder.resolve()
    taken = [name for name in (*COPIED, *WRITTEN, paths.PROJECT) if (folder / name).exists()]
    if taken:
        raise DarkroomError(
            f"{folder} already has {', '.join(taken)}. Nothing was written. Give `darkroom init` a "
            "new or empty folder."
        )
    _refuse_other_lib(folder, "Give `darkroom init` another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        _copy(paths.shipped() / name, folder / name)
    for name, text in WRITTEN.items():
        (folder / name).mkdir()
        (folder / name / "README.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    version = importlib.metadata.version("darkroom")
    marker = f'# Marks this folder as a Darkroom project.\ncreated_with = "{version}"\n'
    (folder / paths.PROJECT).write_text(marker, encoding="utf-8")
    return folder


def _refuse_other_lib(folder: Path, instead: str) -> None:
    if any((folder / name).exists() for name in ("lib", "lib.py")):
        raise DarkroomError(
            f"{folder} has a `lib` of its own, which notebooks there would import in place of "
            f"Darkroom's. {instead}"
        )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    else:
        # Pinned, because another package is called darkroom on PyPI.
        pin = f"darkroom=={importlib.metadata.version('darkroom')}  # install its wheel first\n"
        lines = source.read_text(encoding="utf-8").replace("-e .\n", pin)
        target.write_text(lines, encoding="utf-8")
