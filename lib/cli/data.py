"""Commands about data sets: clean, data, collect, store."""

from __future__ import annotations

import argparse
from typing import Any

from lib.cli.arguments import add, settings
from lib.errors import DarkroomError


def add_to(commands: Any) -> None:
    """Adds these commands to the command line."""
    _add_clean(commands)
    _add_data(commands)
    _add_collect(commands)
    _add_store(commands)


def _add_clean(commands: Any) -> None:
    parser = add(
        commands,
        "clean",
        _clean,
        "look at every file of a data set and judge it; list, decide by hand, undo, export",
        epilog="No raw file is ever changed. Every decision is a line in "
        "datasets/NAME/ledger.jsonl and can be undone.",
    )
    parser.add_argument("data", help="a data set's name, or the path of a folder, table or archive")
    group = parser.add_argument_group("cleaning")
    group.add_argument(
        "--look",
        default="none",
        metavar="NETWORK",
        help="a pretrained network finds wrong labels and outliers",
    )
    for name, pair, text in (
        ("--threshold", "NAME=NUMBER", "such as dark=0.1"),
        ("--verdict", "FINDING=VERDICT", "such as blurred=keep"),
        ("--option", "NAME=VALUE", "of the source, such as label=artist"),
    ):
        group.add_argument(name, action="append", default=[], metavar=pair, help=text)
    group.add_argument(
        "--name",
        metavar="NAME",
        help="what to call the data set (default: the last part of the path)",
    )
    group.add_argument(
        "--json", action="store_true", help="print what was read and found as one JSON object"
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read files (default: one a processor)",
    )
    group = parser.add_argument_group(
        "one act on a data set that has been cleaned; files as the findings name them"
    )
    group.add_argument(
        "--list", nargs="?", const="", metavar="FINDING", help="files with a finding or verdict"
    )
    group.add_argument("--history", action="store_true", help="all decisions, the oldest first")
    group.add_argument(
        "--undo",
        nargs="?",
        const=0,
        type=int,
        metavar="ENTRY",
        help="take back a decision (default: the last)",
    )
    for verdict in ("keep", "review", "reject"):
        group.add_argument(
            f"--{verdict}", nargs="+", metavar="FILE", help=f"judge these files: {verdict}"
        )
    group.add_argument(
        "--relabel", nargs="+", metavar=("LABEL", "FILE"), help="give these files another label"
    )
    group.add_argument(
        "--export", metavar="FOLDER", help="write a clean copy with a folder a class"
    )
    group.add_argument(
        "--by-split",
        action="store_true",
        help="with --export: the source's own split as outer folders",
    )


def _clean(arguments: argparse.Namespace) -> int:
    from lib.cleaning import command

    given = vars(arguments)
    plain = ("data", "name", "json", "look", "workers", "list", "history", "undo", "relabel")
    plain += ("export", "by_split")
    return command.run(
        command.Wish(
            **{name: given[name] for name in plain},
            options=settings(arguments.option, "--option"),
            thresholds=settings(arguments.threshold, "--threshold"),
            verdicts=settings(arguments.verdict, "--verdict"),
            decided={name: given[name] for name in ("keep", "review", "reject") if given[name]},
        )
    )


def _add_data(commands: Any) -> None:
    parser = add(
        commands,
        "data",
        _data,
        "list data sets, rename one, forget one, or find one again whose folder has moved",
        epilog="Nothing is deleted: what is forgotten lies in datasets/.forgotten.",
    )
    parser.add_argument("what", choices=["list", "rename", "forget", "relink"])
    parser.add_argument("name", nargs="?", default="", help="the data set")
    parser.add_argument("to", nargs="?", default="", help="the new name, or the folder it moved to")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _data(arguments: argparse.Namespace) -> int:
    import json

    from lib import paths
    from lib.data import registry

    what, name, to = arguments.what, arguments.name, arguments.to
    if (what != "list" and not name) or (what in ("rename", "relink") and not to):
        example = {"rename": "rename old new", "forget": "forget old", "relink": "relink old path"}
        raise DarkroomError(f"Which one? Such as: darkroom data {example[what]}")
    if what == "list":
        rows = registry.overview()
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
        registry.rename(name, to)
        facts, text = {"name": to, "was": name}, f"{name} is called {to} now."
    elif what == "forget":
        facts["moved_to"] = str(registry.forget(name))
        text = f"{name} is forgotten; its manifest and ledger lie in {facts['moved_to']}."
    else:
        facts["raw"] = str(registry.relink(name, paths.typed(to)).raw)
        text = f"{name} is read from {facts['raw']} now."
    print(json.dumps(facts, ensure_ascii=False) if arguments.json else text)
    return 0


def _add_collect(commands: Any) -> None:
    parser = add(
        commands,
        "collect",
        _collect,
        "collect film posters by genre from TMDB, for those who have its permission",
        epilog="The key is read from the environment, TMDB_TOKEN. The same command goes on "
        "where it was stopped.",
    )
    parser.add_argument("name", help="what the data set is called here")
    parser.add_argument(
        "--genres",
        required=True,
        help="TMDB's names with commas, such as Horror,Animation,Action, or all",
    )
    parser.add_argument(
        "--per-genre", type=int, default=1000, metavar="N", help="films of each genre (1000)"
    )
    parser.add_argument(
        "--permission",
        default="",
        help="who allowed you to learn from TMDB's posters, when, for what",
    )
    parser.add_argument(
        "--side", type=int, default=0, help="scale posters to so many pixels square, such as 256"
    )


def _collect(arguments: argparse.Namespace) -> int:
    from lib.data.sources import tmdb

    there = tmdb.collect(
        arguments.name,
        genres=[genre.strip() for genre in arguments.genres.split(",") if genre.strip()],
        per_genre=arguments.per_genre,
        permission=arguments.permission,
        side=arguments.side,
    )
    print(f"{len(there.files()) - 1:,} posters in {there.raw}; use them as data = {there.name!r}.")
    return 0


def _add_store(commands: Any) -> None:
    parser = add(
        commands,
        "store",
        _store,
        "put data sets into MongoDB's GridFS and get them back",
        epilog="The server's address is read from the environment, "
        "DARKROOM_MONGO=mongodb://host/database. What was stopped goes on by the same command.",
    )
    parser.add_argument(
        "what",
        choices=["put", "get", "list"],
        help="put a data set there, get it back, list what is there",
    )
    parser.add_argument(
        "name", nargs="?", default="", help="the data set; for put also the path of a folder"
    )
    parser.add_argument(
        "--as", dest="called", metavar="NAME", help="what it is called here when it comes back"
    )


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
