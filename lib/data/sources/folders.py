"""Roles of folder levels: classes, the source's own split, groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from lib.data.file_listing import ListedFile
from lib.data.sources import vocabulary
from lib.data.sources.options import Options
from lib.data.sources.reading import Reading, class_counts, name_attributes
from lib.errors import DarkroomError, few

NAME = "folders"
ABOUT = "a folder for each class"
LICENCE = None


class LayoutQuestion(DarkroomError):
    """Folders that can be read in several ways, none of them by a level."""


@dataclass
class Place:
    """A folder that holds pictures. `levels` are the positions in `parts` that may be the class;
    `stray` says why none is.
    """

    parts: tuple[str, ...]
    files: list[ListedFile] = field(default_factory=list)
    split: str | None = None
    levels: tuple[int, ...] = ()
    stray: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the folder names at `levels`."""
        return tuple(self.parts[level] for level in self.levels)


@dataclass
class Layout:
    """The folders of a data set with what is certain about them: splits, wrapping folders, folders
    of no class.
    """

    places: list[Place]
    overlays: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    split_levels: Counter[int] = field(default_factory=Counter)
    question: str | None = None
    unknown_splits: list[str] = field(default_factory=list)

    @property
    def labelled(self) -> list[Place]:
        """Returns the places that are not set aside."""
        return [place for place in self.places if place.stray is None]

    def count(self, places: Iterable[Place]) -> int:
        """Returns the number of pictures in some places."""
        return sum(len(place.files) for place in places)


def read(pictures: Sequence[ListedFile], options: Options) -> list[Reading]:
    """Returns the readings by folder that make sense; one is certain, several are a question, none
    means no class folders.

    Raises LayoutQuestion where no `level` says how.
    """
    places: dict[tuple[str, ...], Place] = {}
    overlays = _overlay_files(pictures)
    for file in pictures:
        if file.path in overlays:
            continue
        parts = tuple(file.path.split("/")[:-1])
        places.setdefault(parts, Place(parts)).files.append(file)
    layout = Layout(list(places.values()), overlays=sorted(overlays))
    if options.level_number is not None:
        return [_by_level(layout, options)]
    _peel(layout, layout.places, 0, None, options)
    _take_split_below(layout, options)
    _drop_image_folders(layout)
    return _readings(layout, options)


def _overlay_files(pictures: Sequence[ListedFile]) -> set[str]:
    """Pictures that go with another of their folder by name, such as `a (1)_mask.png`."""
    stems = {file.path.rpartition(".")[0] for file in pictures}
    named = {}
    for file in pictures:
        folder, _, name = file.path.rpartition("/")
        match = vocabulary.OVERLAY_SUFFIX.fullmatch(name.rpartition(".")[0])
        if match:
            named[file.path] = f"{folder}/{match[1]}" if folder else match[1]
    return {path for path, base in named.items() if base in stems}


# -- What is certain, from the top downwards


def _peel(
    layout: Layout, places: list[Place], at: int, split: str | None, options: Options
) -> None:
    """Takes splits and wrapping folders off `places`, which share their first `at` folders."""
    inside: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        place.split = split
        place.levels = tuple(range(at, len(place.parts)))
        if len(place.parts) > at:
            inside[place.parts[at]].append(place)
    if not inside:
        return
    splits = _splits(inside, options)
    if _is_split_level(inside, splits, at):
        layout.split_levels[at] += split is None
        named = options.named_splits
        for name, members in inside.items():
            if name in splits:
                _peel(
                    layout, members, at + 1, _inner_split(split, splits[name], members, at), options
                )
            elif name.casefold() not in named:
                _set_aside(layout, name, members, inside, splits, at)
            else:
                _peel(layout, members, at + 1, named[name.casefold()], options)
        return
    overlays = [name for name in inside if _words_in(name, vocabulary.OVERLAY_WORDS)]
    if overlays and any(_words_in(name, vocabulary.IMAGE_WORDS) for name in inside):
        for name in overlays:
            _stray(inside.pop(name), f"in {name}/, which goes with other pictures")
    copies = _copies_of_siblings(inside, at)
    for name, exact in copies.items():
        if not exact:
            layout.question = layout.question or (
                f"the folder {'/'.join((*places[0].parts[:at], name))} holds folders of the same "
                "names as its sibling folders; "
                f"say ignore={name} to leave it out, or level=last to read every folder that holds "
                "pictures as a class"
            )
        _stray(
            inside.pop(name),
            f"in {name}/, a copy of its sibling folders" if exact else f"in {name}/",
        )
    if len(inside) == 1:
        (name, members), direct = (
            next(iter(inside.items())),
            len(places) - sum(map(len, inside.values())),
        )
        deeper = any(len(place.parts) > at + 1 for place in members)
        if _is_wrapper(name, members, at, split, deeper=deeper):
            _peel(layout, members, at + 1, split, options)
        elif direct and not deeper:
            return


def _splits(names: Iterable[str], options: Options) -> dict[str, str]:
    named = options.named_splits
    splits = {name: named[name.casefold()] for name in names if named.get(name.casefold())}
    return {} if options.split == "none" else {**vocabulary.splits_of(names), **splits}


def _is_split_level(inside: dict[str, list[Place]], splits: dict[str, str], at: int) -> bool:
    if not splits:
        return False
    if len(set(splits.values())) > 1 or len(splits) == len(inside):
        return True
    if all(name in splits or vocabulary.is_vague_split(name) for name in inside):
        return True
    below = {name: _names_at(members, at + 1) for name, members in inside.items()}
    known = set().union(*(below[name] for name in splits))
    if any(len(below[name] & known) > 1 for name in inside if name not in splits):
        return True
    return all(bool(below[name]) == (name in splits) for name in inside)


def _names_at(places: Iterable[Place], at: int) -> set[str]:
    return {place.parts[at] for place in places if len(place.parts) > at}


def _inner_split(outer: str | None, inner: str, members: list[Place], at: int) -> str:
    if outer in ("test", "val") and inner != outer:
        path = "/".join(members[0].parts[: at + 1])
        raise DarkroomError(
            f"The folder {path} lies below {outer} and is called {inner}: which split is it? Say "
            "ignore=FOLDER to leave one "
            "out, or split=none to read no split from the folders."
        )
    return inner


def _set_aside(
    layout: Layout,
    name: str,
    members: list[Place],
    inside: dict[str, list[Place]],
    splits: dict[str, str],
    at: int,
) -> None:
    """A folder beside the splits that is none: unlabelled, and a question where it holds the same
    classes as they do.
    """
    below = _names_at(members, at + 1)
    beside = set().union(*(_names_at(inside[other], at + 1) for other in splits))
    repeats_siblings = len(below & inside.keys()) > 1
    overlay = _words_in(name, vocabulary.OVERLAY_WORDS)
    if len(below & beside) > 1 and not overlay and not repeats_siblings:
        layout.unknown_splits.append(name)
        names = layout.unknown_splits
        layout.question = (
            f"{'the folder' if len(names) == 1 else 'the folders'} {few(names)} beside "
            f"{', '.join(sorted(splits))} {'holds' if len(names) == 1 else 'hold'} the same "
            f"classes ({few(sorted(below & beside), 3)}) and no split is known by that name; say "
            f"split_names={','.join(f'{name}:test' for name in names)} (or train, val, none), "
            f"ignore={','.join(names)}, or split=none with level={at + 2}"
        )
    why = (
        "a copy of its sibling folders"
        if repeats_siblings
        else "goes with other pictures"
        if overlay
        else "no split"
    )
    _stray(members, f"in {name}/, {why}")
    layout.notes.append(
        f"The folder {name}/ ({layout.count(members):,} pictures) is beside the splits "
        f"{', '.join(sorted(splits))} and is "
        f"none of them ({why}); its pictures have no label. To use them: split_names={name}:train "
        "(or val, test, none)."
    )


def _is_wrapper(
    name: str, members: list[Place], at: int, split: str | None, *, deeper: bool
) -> bool:
    """Whether the only folder here says nothing about the class."""
    above = members[0].parts[:at]
    if _words_in(name, vocabulary.IMAGE_WORDS) or (
        split and vocabulary.split_and_rest(name)[0] == split
    ):
        return True
    if above and name.casefold() in {part.casefold() for part in above}:
        return True
    return deeper and split is None


def _copies_of_siblings(inside: dict[str, list[Place]], at: int) -> dict[str, bool]:
    """Folders that hold folders of their siblings' names, and whether the same files by name and
    size.
    """
    copies = {}
    for name, members in inside.items():
        below = _names_at(members, at + 1)
        shared = below & (inside.keys() - {name})
        if len(shared) > 1 and len(shared) * 2 > len(below):
            here = {
                (*place.parts[at + 1 :], file.path.rsplit("/", 1)[-1], file.size)
                for place in members
                for file in place.files
            }
            beside = {
                (*place.parts[at:], file.path.rsplit("/", 1)[-1], file.size)
                for other in shared
                for place in inside[other]
                for file in place.files
            }
            copies[name] = here <= beside
    return copies


def _take_split_below(layout: Layout, options: Options) -> None:
    """Takes a split out of the levels below the first, where no split has been seen above."""
    places = layout.labelled
    if layout.split_levels or options.split == "none":
        return
    for depth in range(1, max((len(place.levels) for place in places), default=0)):
        names = {place.names[depth] for place in places if len(place.levels) > depth}
        splits = _splits(names, options)
        if len(set(splits.values())) > 1 or (splits and len(splits) == len(names)):
            for place in places:
                if len(place.levels) > depth:
                    name = place.names[depth]
                    layout.split_levels[place.levels[depth]] += 1
                    place.split = splits.get(name)
                    place.levels = place.levels[:depth] + place.levels[depth + 1 :]
                    if name not in splits:
                        _stray([place], f"in {name}/, no split")
            return


def _drop_image_folders(layout: Layout) -> None:
    """Takes off last levels that only say that pictures lie there, and sets aside masks beside
    them.
    """
    while True:
        places = [place for place in layout.labelled if len(place.levels) > 1]
        last = {place.names[-1] for place in places}
        images = {name for name in last if _words_in(name, vocabulary.IMAGE_WORDS)}
        overlays = {name for name in last if _words_in(name, vocabulary.OVERLAY_WORDS)}
        same = len(last) == 1 and len({place.names[0] for place in places}) > 1
        if not (same or (images and images | overlays == last)):
            return
        for place in places:
            name = place.names[-1]
            if name in overlays and not same:
                _stray([place], f"in {name}/, which goes with other pictures")
            place.levels = place.levels[:-1]


def _is_rendition(name: str) -> bool:
    words = vocabulary.tokens(name)
    known = {word for word in words if word in vocabulary.RENDITIONS} or (
        {name.casefold()} & vocabulary.RENDITIONS
    )
    return bool(known) and all(
        word in vocabulary.RENDITIONS | vocabulary.IMAGE_WORDS or not word.isalpha()
        for word in words
    )


def _words_in(name: str, words: frozenset[str]) -> bool:
    parts = [word for word in vocabulary.tokens(name) if not vocabulary.is_number(word)]
    return bool(parts) and all(word in words for word in parts)


def _stray(places: Iterable[Place], why: str) -> None:
    for place in places:
        place.stray, place.levels, place.split = why, (), None


# -- Which of the remaining levels is the class


def _readings(layout: Layout, options: Options) -> list[Reading]:
    places = layout.labelled
    depth = max((len(place.levels) for place in places), default=0)
    if depth == 0:
        return []
    if layout.question:
        raise LayoutQuestion(layout.question)
    joined = _joined_split(layout, options)
    if joined is not None:
        return [joined]
    for name in sorted({place.names[0] for place in places if place.levels}):
        if options.split != "none" and (found := vocabulary.splits_of([name])):
            layout.notes.append(
                f"The folder {name}/ is read as a class; if it is the split {found[name]}, say "
                "split_names=NAME:SPLIT for its sibling folders."
            )
    first = defaultdict(bool)
    for place in places:
        if place.levels:
            first[place.names[0]] |= len(place.levels) == 1
    if depth == 1 or all(first.values()):
        reading = _reading(layout, 0, options)
        deeper = layout.count(place for place in places if len(place.levels) > 1)
        note = f"{deeper:,} pictures lie in folders below their class folder." if deeper else ""
        return [reading.noting(note)] if _is_sensible(reading, layout) else []
    folds = sorted({name for place in places for name in place.parts if vocabulary.is_fold(name)})
    if layout.split_levels and len(folds) > 1:
        raise LayoutQuestion(
            f"the folders {few(folds, 4)} hold a split of their own each; say "
            f"ignore={','.join(folds[1:])} to use one of them, or split=none to read none"
        )
    roles = [_role(layout, level) for level in range(depth)]
    groups = tuple(level for level, role in enumerate(roles) if role == "group")
    free = [level for level, role in enumerate(roles) if role is None]
    readings = [_reading(layout, level, options, groups=groups) for level in free]
    return [reading for reading in readings if _is_sensible(reading, layout)]


def _joined_split(layout: Layout, options: Options) -> Reading | None:
    """Class and split in one folder name, such as `train_cats`, `test_cats`, `train_dogs`."""
    names = {place.names[0] for place in layout.labelled if len(place.levels) == 1}
    parted = {name: vocabulary.split_and_rest(name) for name in names}
    if (
        layout.split_levels
        or len(names) < 4
        or not all(split and rest for split, rest in parted.values())
    ):
        return None
    if (
        len({split for split, _ in parted.values()}) < 2
        or len({rest for _, rest in parted.values()}) < 2
    ):
        return None
    for place in layout.labelled:
        if place.levels:
            place.split = parted[place.names[0]][0]
    layout.split_levels[0] += 1
    labels = {name: " ".join(rest) for name, (_, rest) in parted.items()}
    reading = _reading(layout, 0, options, rename=labels)
    return reading.noting(label="folder level 1 without the word of the split")


def _role(layout: Layout, level: int) -> str | None:
    """The role of a level if it is certain: `group`, `rendition`, `chunk`, `letter`; None if it may
    be the class.
    """
    places = [place for place in layout.labelled if len(place.levels) > level]
    names = {place.names[level] for place in places}
    below = defaultdict(set)
    for place in places:
        if len(place.levels) > level + 1:
            below[place.names[level + 1]].add(place.names[level])
    repeated = sum(len(above) > 1 for above in below.values()) * 2 > len(below) if below else False
    if all(map(vocabulary.is_fold, names)):
        return "group"
    if all(vocabulary.is_id(name, strict=True) for name in names):
        return "group"
    if (
        repeated
        and len(names) > 2
        and all(map(vocabulary.is_id, names))
        and len(below) < len(names) * 4
    ):
        return "group"
    above = defaultdict(set)
    for place in places:
        above[place.names[level]].add(place.names[:level])
    crossed = repeated or (level > 0 and all(len(parents) > 1 for parents in above.values()))
    if crossed and len(names) > 1 and all(map(_is_rendition, names)):
        return "rendition"
    if len(names) > 1 and vocabulary.are_chunks(names):
        return "chunk"
    if (
        below
        and all(len(name) == 1 for name in names)
        and len(names) > 1
        and all(
            name.casefold().startswith(tuple(letter.casefold() for letter in above))
            for name, above in below.items()
        )
    ):
        return "letter"
    return "single" if len(names) < 2 else None


def _is_sensible(reading: Reading, layout: Layout) -> bool:
    labels = reading.rows["label"].dropna()
    names = labels.unique()
    chunks = len(names) > 1 and vocabulary.are_chunks(names)
    return len(names) > 1 and not chunks and len(labels) * 2 >= layout.count(layout.labelled)


def _by_level(layout: Layout, options: Options) -> Reading:
    """The reading by a level that the user gave: splits and groups are read from the
    other levels.
    """
    wanted = options.level_number
    beside = defaultdict(set)
    at_label = {}
    for place in layout.places:
        label = len(place.parts) - 1 if wanted == -1 else wanted - 1
        at_label[place.parts] = label
        for at, name in enumerate(place.parts):
            if at != label:
                beside[at].add(name)
    if not any(0 <= at < len(parts) for parts, at in at_label.items()):
        deepest = max((len(place.parts) for place in layout.places), default=0)
        raise DarkroomError(
            f"There is no folder level {options.level}; the deepest folder with pictures is at "
            f"level {deepest}."
        )
    splits = {at: _splits(names, options) for at, names in beside.items()}
    _refuse_unknown_splits(layout, at_label, splits, options)
    groups = [
        at for at, names in beside.items() if len(names) > 2 and all(map(vocabulary.is_id, names))
    ]
    for place in layout.places:
        label = at_label[place.parts]
        others = [at for at in range(len(place.parts)) if at != label and not splits[at]]
        place.levels = (
            (label, *groups, *(at for at in others if at not in groups))
            if 0 <= label < len(place.parts)
            else ()
        )
        for at, name in enumerate(place.parts):
            if at != label and name in splits[at]:
                place.split = splits[at][name]
                layout.split_levels[at] += 1
            elif at != label and splits[at] and _words_in(name, vocabulary.OVERLAY_WORDS):
                _stray([place], f"in {name}/, which goes with other pictures")
                break
    return _reading(layout, 0, options, groups=tuple(range(1, len(groups) + 1)))


def _refuse_unknown_splits(
    layout: Layout,
    at_label: dict[tuple[str, ...], int],
    splits: dict[int, dict[str, str]],
    options: Options,
) -> None:
    """Asks for folders with labelled pictures that lie beside splits and are none that is known."""
    labelled = [place.parts for place in layout.places if at_label[place.parts] < len(place.parts)]
    for at, known in splits.items():
        names = {parts[at] for parts in labelled if at < len(parts) and at != at_label[parts]}
        strange = sorted(
            n
            for n in names - known.keys()
            if n.casefold() not in options.named_splits
            and not _words_in(n, vocabulary.OVERLAY_WORDS)
        )
        if known and strange:
            raise DarkroomError(
                f"Folder level {at + 1} holds the splits {few(sorted(known))}, and {few(strange)} "
                "beside them is none that is known; say split_names="
                f"{','.join(f'{name}:test' for name in strange[:5])} (or train, val, none), or "
                "split=none to read no split from the folders."
            )


def _reading(
    layout: Layout,
    level: int,
    options: Options,
    *,
    groups: tuple[int, ...] = (),
    rename: dict[str, str] | None = None,
) -> Reading:
    """Builds the rows: a label from `level` of what was left over, the other levels as attributes
    and groups.
    """
    used = {place.levels[level] for place in layout.labelled if len(place.levels) > level}
    columns: dict[str, list] = defaultdict(list)
    others = _attribute_levels(layout, level, options)
    unused: Counter[str] = Counter()
    for place in layout.places:
        names = place.names
        label = names[level] if len(names) > level else None
        if label is None:
            unused[f"unlabelled: {place.stray or 'in no class folder'}"] += len(place.files)
        elif rename:
            label = rename.get(label, label)
        parts = [names[at] for at in groups if len(names) > at]
        for file in place.files:
            columns["path"].append(file.path)
        number = len(place.files)
        columns["label"] += [label] * number
        columns["source_split"] += [place.split] * number
        columns["source_group"] += [
            "/".join(parts) if parts and label is not None else None
        ] * number
        for at, name in others.items():
            columns[name] += [names[at] if len(names) > at else None] * number
    number = len(layout.overlays)
    columns["path"] += layout.overlays
    for name in columns.keys() - {"path"}:
        columns[name] += [None] * number
    if number:
        unused[f"goes with another picture by its name, as {layout.overlays[0]}"] += number
    rows = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    rows = pd.concat([rows, name_attributes(rows["label"])], axis=1)
    grouped = Counter(
        place.levels[at] for place in layout.labelled for at in groups if len(place.levels) > at
    )
    return Reading(
        "folders",
        rows,
        label=_levels_text(used),
        split=_levels_text(layout.split_levels) or None,
        group=_levels_text(grouped) or None,
        files_not_used=unused,
        notes=tuple(layout.notes),
        options={"kind": "folders"} | ({"level": options.level} if options.level else {}),
    )


def _attribute_levels(layout: Layout, level: int, options: Options) -> dict[int, str]:
    """The levels beside the label's whose names differ, and their column."""
    depth = max((len(place.levels) for place in layout.labelled), default=0)
    levels = {}
    for at in range(depth):
        names = {place.names[at] for place in layout.labelled if len(place.levels) > at}
        if at != level and len(names) > 1 and (at < level or options.level):
            position = next(place.levels[at] for place in layout.labelled if len(place.levels) > at)
            levels[at] = f"attr_folder_{position + 1}"
    return levels


def _levels_text(levels: Iterable[int]) -> str:
    numbers = sorted({at + 1 for at in levels if not isinstance(levels, Counter) or levels[at]})
    return f"folder level {' or '.join(map(str, numbers))}" if numbers else ""


def question(readings: Sequence[Reading]) -> str:
    """Returns the readings with the option that chooses each: `level=1 gives 2 classes: …`."""
    return "; ".join(
        f"level={reading.label.rsplit(' ', 1)[-1]} gives {class_counts(reading.counts, 4)}"
        for reading in readings
    )
