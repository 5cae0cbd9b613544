"""Commands about data sets: clean, data, collect, store."""

from __future__ import annotations

from typing import Any

from lib.cli.arguments import DATA, JSON, WORKERS, add, add_arguments, argument, flag, pairs
from lib.errors import DarkroomError

VERDICTS = ("keep", "review", "reject")


# fmt: off
def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    parser = add(
        commands, "clean", "lib.cli.data:clean",
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
    add(commands, "data", "lib.cli.data:data",
        "list, rename or forget data sets; find one whose folder moved",
        argument("what", "what to do", choices=["list", "rename", "forget", "relink"]),
        argument("name", "the data set", nargs="?", default=""),
        argument("to", "the new name, or the folder it moved to", nargs="?", default=""),
        JSON,
        epilog="Nothing is deleted: forgotten data sets are moved to datasets/.forgotten.")
    add(commands, "collect", "lib.cli.data:collect",
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
    add(commands, "store", "lib.cli.data:store",
        "put data sets into MongoDB's GridFS and get them back",
        argument("what", "put a data set there, get it back, list what is there",
                 choices=["put", "get", "list"]),
        argument("name", "the data set; for put also the path of a folder", nargs="?", default=""),
        argument("--as", "what it is called here when it comes back", dest="called",
                 metavar="NAME"),
        epilog="The server's address is read from the environment, "
        "DARKROOM_MONGO=mongodb://host/database. The same command continues a stopped transfer.")
# fmt: on


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
