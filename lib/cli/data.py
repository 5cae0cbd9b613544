"""Commands about data sets: clean, data, collect, store."""

from __future__ import annotations

import argparse
from typing import Any

from lib.cli.arguments import DATA, JSON, WORKERS, add, argument, flag, repeated, settings
from lib.errors import DarkroomError


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    _add_clean(commands)
    add(
        commands,
        "data",
        _data,
        "list data sets, rename one, forget one, or find one again whose folder has moved",
        argument("what", "what to do", choices=["list", "rename", "forget", "relink"]),
        argument("name", "the data set", nargs="?", default=""),
        argument("to", "the new name, or the folder it moved to", nargs="?", default=""),
        JSON,
        epilog="Nothing is deleted: forgotten data sets are moved to datasets/.forgotten.",
    )
    add(
        commands,
        "collect",
        _collect,
        "collect film posters by genre from TMDB, for those who have its permission",
        argument("name", "what the data set is called here"),
        argument(
            "--genres",
            "TMDB's names with commas, such as Horror,Animation,Action, or all",
            required=True,
        ),
        argument("--language", "of the genres' names, such as fr (en)", default="en"),
        argument("--per-genre", "films of each genre (1000)", type=int, default=1000, metavar="N"),
        argument(
            "--permission",
            "who allowed you to learn from TMDB's posters, when, for what",
            default="",
        ),
        argument(
            "--side", "scale posters to this side in pixels, such as 256", type=int, default=0
        ),
        epilog="The key is read from the environment, TMDB_TOKEN. The same command "
        "continues a stopped collection.",
    )
    add(
        commands,
        "store",
        _store,
        "put data sets into MongoDB's GridFS and get them back",
        argument(
            "what",
            "put a data set there, get it back, list what is there",
            choices=["put", "get", "list"],
        ),
        argument("name", "the data set; for put also the path of a folder", nargs="?", default=""),
        argument(
            "--as", "what it is called here when it comes back", dest="called", metavar="NAME"
        ),
        epilog="The server's address is read from the environment, "
        "DARKROOM_MONGO=mongodb://host/database. The same command continues a stopped transfer.",
    )


def _add_clean(commands: Any) -> None:
    parser = add(
        commands,
        "clean",
        _clean,
        "check every file of a data set; list, decide by hand, undo, export",
        DATA,
        epilog="No raw file is ever changed. Every decision is a line in "
        "datasets/NAME/ledger.jsonl and can be undone.",
    )
    group = parser.add_argument_group("cleaning")
    for option in (
        argument(
            "--embedding-network",
            "a pretrained network finds wrong labels and outliers",
            "--look",
            default="none",
            metavar="NETWORK",
        ),
        repeated("--threshold", "such as dark=0.1", metavar="NAME=NUMBER"),
        repeated("--verdict", "such as blurred=keep", metavar="FINDING=VERDICT"),
        repeated("--option", "of the source, such as label=artist", metavar="NAME=VALUE"),
        argument(
            "--name", "name of the data set (default: the last part of the path)", metavar="NAME"
        ),
        JSON,
        WORKERS,
    ):
        option.add_to(group)
    group = parser.add_argument_group(
        "one act on a data set that has been cleaned; files as the findings name them"
    )
    for option in (
        argument(
            "--list", "files with a finding or verdict", nargs="?", const="", metavar="FINDING"
        ),
        flag("--history", "all decisions, the oldest first"),
        argument(
            "--undo",
            "take back a decision (default: the last)",
            nargs="?",
            const=0,
            type=int,
            metavar="ENTRY",
        ),
        *(
            argument(f"--{verdict}", f"judge these files: {verdict}", nargs="+", metavar="FILE")
            for verdict in ("keep", "review", "reject")
        ),
        argument(
            "--relabel", "give these files another label", nargs="+", metavar=("LABEL", "FILE")
        ),
        argument(
            "--export",
            "write a clean copy that load_dataset reads, a folder a class",
            metavar="FOLDER",
        ),
        flag(
            "--by-split", "with --export: its split as outer folders, of the source or else grouped"
        ),
    ):
        option.add_to(group)


def _clean(arguments: argparse.Namespace) -> int:
    from lib.cleaning import command

    data, given = arguments.data, vars(arguments)
    decisions = {name: given[name] for name in ("keep", "review", "reject") if given[name]}
    acts = {
        "list": lambda: command.list_files(data, arguments.list),
        "history": lambda: command.history(data),
        "undo": lambda: command.undo(data, arguments.undo or None),
        "decisions": lambda: command.decide(data, decisions),
        "relabel": lambda: command.relabel(data, *arguments.relabel),
        "export": lambda: command.export_copy(data, arguments.export, by_split=arguments.by_split),
    }
    given["decisions"] = decisions or None
    chosen = [
        act for name, act in acts.items() if given[name] is not None and given[name] is not False
    ]
    if len(chosen) > 1:
        raise DarkroomError(
            "One act at a time: --list, --history, --undo, --keep, --review, --reject, --relabel "
            "or --export."
        )
    if chosen:
        chosen[0]()
        return 0
    command.clean(
        data,
        name=arguments.name,
        options=settings(arguments.option, "--option"),
        thresholds=settings(arguments.threshold, "--threshold"),
        verdicts=settings(arguments.verdict, "--verdict"),
        embedding_network=arguments.embedding_network,
        workers=arguments.workers,
        as_json=arguments.json,
    )
    return 0


def _data(arguments: argparse.Namespace) -> int:
    import json

    from lib import paths
    from lib.data import dataset as datasets

    what, name, to = arguments.what, arguments.name, arguments.to
    if (what != "list" and not name) or (what in ("rename", "relink") and not to):
        example = {"rename": "rename old new", "forget": "forget old", "relink": "relink old path"}
        raise DarkroomError(f"Which one? Such as: darkroom data {example[what]}")
    if what == "list":
        rows = datasets.overview()
        if arguments.json:
            print(json.dumps({"datasets": rows}, ensure_ascii=False))
        for row in [] if arguments.json else rows:
            counts = "not cleaned yet"
            if row["files"] is not None:
                counts = f"{row['kept']:,} of {row['files']:,} files kept, {row['classes']} classes"
            gone = "" if row["raw"] else "  (its folder is gone: darkroom data relink)"
            print(f"{row['name']:<24}{counts:<44}{row['from']}{gone}")
        return 0
    facts: dict[str, Any] = {"name": name}
    if what == "rename":
        datasets.rename(name, to)
        facts, text = {"name": to, "was": name}, f"{name} is called {to} now."
    elif what == "forget":
        facts["moved_to"] = str(datasets.forget(name))
        text = f"{name} is forgotten; its manifest and ledger are in {facts['moved_to']}."
    else:
        facts["raw"] = str(datasets.relink(name, paths.typed(to)).raw)
        text = f"{name} is read from {facts['raw']} now."
    print(json.dumps(facts, ensure_ascii=False) if arguments.json else text)
    return 0


def _collect(arguments: argparse.Namespace) -> int:
    from lib.data.sources import tmdb

    there = tmdb.collect(
        arguments.name,
        genres=[genre.strip() for genre in arguments.genres.split(",") if genre.strip()],
        per_genre=arguments.per_genre,
        permission=arguments.permission,
        side=arguments.side,
        language=arguments.language,
    )
    print(f"{len(there.files()) - 1:,} posters in {there.raw}; use them as data = {there.name!r}.")
    return 0


def _store(arguments: argparse.Namespace) -> int:
    from lib.data import intake
    from lib.data.sources import gridfs

    if arguments.what == "list":
        print("\n".join(gridfs.names()) or "The store holds no data set.")
        return 0
    if not arguments.name:
        raise DarkroomError(f"Which data set? Such as: darkroom store {arguments.what} elpv")
    if arguments.what == "put":
        done = gridfs.put(intake.bring(arguments.name))
    else:
        _, done = gridfs.get(arguments.name, called=arguments.called)
    print(
        f"{done.images:,} images ({done.num_bytes / 1e6:,.1f} MB), {done.moved:,} of them moved in "
        f"{done.seconds:.1f} s."
    )
    return 0
