"""Roles of folder levels: classes, the source's own split, groups."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd

from lib.data.file_listing import ListedFile
from lib.data.sources import vocabulary
from lib.data.sources.options import Options
from lib.data.sources.reading import Reading, class_counts, name_attributes
from lib.errors import DarkroomError, few


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
    question: str = ""
    unknown_splits: list[str] = field(default_factory=list)

    @property
    def labelled(self) -> list[Place]:
        """Returns the places that are not set aside."""
        return [place for place in self.places if place.stray is None]

    def count(self, places: Iterable[Place]) -> int:
        """Returns the number of pictures in some places."""
        return sum(len(place.files) for place in places)


def read(pictures: Sequence[ListedFile], options: Options) -> tuple[list[Reading], str]:
    """Returns the readings by folder that make sense, and a question unless one is certain; none
    and no question mean no class folders.
    """
    places: dict[tuple[str, ...], Place] = {}
    overlays = _overlay_files(pictures)
    for file in pictures:
        if file.path not in overlays:
            parts = tuple(file.path.split("/")[:-1])
            places.setdefault(parts, Place(parts)).files.append(file)
    layout = Layout(list(places.values()), overlays=sorted(overlays))
    if options.level is not None:
        return [_by_level(layout, options)], ""
    _peel(layout, layout.places, 0, None, options)
    _take_split_below(layout, options)
    _drop_image_folders(layout)
    readings, question = _readings(layout, options)
    if len(readings) == 1 and _are_persons(readings[0]):
        return [], question
    if len(readings) > 1:
        question = "; ".join(
            f"level={reading.label.rsplit(' ', 1)[-1]} gives {class_counts(reading.counts, 4)}"
            for reading in readings
        )
    return readings, question


def _overlay_files(pictures: Sequence[ListedFile]) -> set[str]:
    """Pictures that go with another of their folder by name, such as `a (1)_mask.png`."""
    stems = {file.path: file.path.rpartition(".")[0].rpartition("/") for file in pictures}
    there, overlays = set(stems.values()), set()
    for path, (folder, slash, name) in stems.items():
        match = vocabulary.OVERLAY_SUFFIX.fullmatch(name)
        if match and (folder, slash, match[1]) in there:
            overlays.add(path)
    return overlays


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
    known = splits(inside, options)
    if _is_split_level(inside, known, at):
        layout.split_levels[at] += split is None
        named = options.named_splits
        for name, members in inside.items():
            if name in known:
                _refuse_other_split(split, known[name], members, at, layout)
                _peel(layout, members, at + 1, known[name], options)
            elif name.casefold() in named:
                _peel(layout, members, at + 1, named[name.casefold()], options)
            else:
                _set_aside(layout, name, members, inside, known, at)
        return
    overlays = [name for name in inside if _words_in(name, vocabulary.OVERLAY_WORDS)]
    if overlays and any(_words_in(name, vocabulary.IMAGE_WORDS) for name in inside):
        for name in overlays:
            _stray(inside.pop(name), f"in {name}/, which goes with other pictures")
    for name, is_exact in _copies_of_siblings(inside, at).items():
        if not is_exact:
            layout.question = layout.question or (
                f"the folder {'/'.join((*places[0].parts[:at], name))} holds folders of the same "
                f"names as its sibling folders; say ignore={name} to leave it out, or level=last "
                "to read every folder that holds pictures as a class"
            )
        why = f"in {name}/, a copy of its sibling folders" if is_exact else f"in {name}/"
        _stray(inside.pop(name), why)
    if len(inside) == 1:
        ((name, members),) = inside.items()
        deeper = any(len(place.parts) > at + 1 for place in members)
        if _is_wrapper(name, members, at, split, deeper=deeper):
            _peel(layout, members, at + 1, split, options)


def splits(names: Iterable[str], options: Options) -> dict[str, str]:
    """Returns the folders that are splits by their names or by the option `split_names`."""
    if options.split == "none":
        return {}
    named = options.named_splits
    given = {name: named[name.casefold()] for name in names if name.casefold() in named}
    known = vocabulary.splits_of(names) | given
    return {name: split for name, split in known.items() if split}


def _is_split_level(inside: dict[str, list[Place]], known: dict[str, str], at: int) -> bool:
    if not known:
        return False
    strange = [name for name in inside if name not in known]
    if len(set(known.values())) > 1 or all(map(vocabulary.is_vague_split, strange)):
        return True
    below = {name: _names_at(members, at + 1) for name, members in inside.items()}
    classes = set().union(*(below[name] for name in known))
    if any(len(below[name] & classes) > 1 for name in strange):
        return True
    if len(classes.intersection(strange)) > 1:
        return False  # cat, dog, test/cat, test/dog
    return all(bool(below[name]) == (name in known) for name in inside)


def _names_at(places: Iterable[Place], at: int) -> set[str]:
    return {place.parts[at] for place in places if len(place.parts) > at}


def _refuse_other_split(
    outer: str | None, inner: str, members: list[Place], at: int, layout: Layout
) -> None:
    """Refuses test/train, and train/test where there is a test beside train."""
    above = [place.parts[at - 1] for place in layout.places if len(place.parts) >= at > 0]
    beside = {vocabulary.split_and_rest(name)[0] for name in above}
    if outer and inner != outer and (outer != "train" or inner in beside):
        path = "/".join(members[0].parts[: at + 1])
        raise DarkroomError(
            f"The folder {path} lies below {outer} and is called {inner}: which split is it? Say "
            "ignore=FOLDER to leave one out, or split=none to read no split from the folders."
        )


def _set_aside(
    layout: Layout,
    name: str,
    members: list[Place],
    inside: dict[str, list[Place]],
    known: dict[str, str],
    at: int,
) -> None:
    """A folder beside the splits that is none: unlabelled, and a question where it holds the same
    classes as they do.
    """
    below = _names_at(members, at + 1)
    beside = set().union(*(_names_at(inside[other], at + 1) for other in known))
    listed, why = ", ".join(sorted(known)), "no split"
    if len(below & inside.keys()) > 1:
        why = "a copy of its sibling folders"
    elif _words_in(name, vocabulary.OVERLAY_WORDS):
        why = "goes with other pictures"
    elif len(below & beside) > 1:
        layout.unknown_splits.append(name)
        names = layout.unknown_splits
        is_one = len(names) == 1
        layout.question = (
            f"the folder{'' if is_one else 's'} {few(names)} beside {listed} "
            f"{'holds' if is_one else 'hold'} the same classes ({few(sorted(below & beside), 3)}) "
            "and no split is known by that name; say "
            f"split_names={','.join(f'{name}:test' for name in names)} (or train, val, none), "
            f"ignore={','.join(names)}, or split=none with level={at + 2}"
        )
    _stray(members, f"in {name}/, {why}")
    layout.notes.append(
        f"The folder {name}/ ({layout.count(members):,} pictures) is beside the splits {listed} "
        f"and is none of them ({why}); its pictures have no label. To use them: "
        f"split_names={name}:train (or val, test, none)."
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
            here = {file[1:] for place in members for file in _names_below(place, at)}
            beside = {
                file
                for other in shared
                for place in inside[other]
                for file in _names_below(place, at)
            }
            copies[name] = here <= beside
    return copies


def _names_below(place: Place, at: int) -> Iterator[tuple]:
    """Each file as its folders from the level `at` on, its name and its size."""
    for file in place.files:
        yield (*place.parts[at:], file.path.rsplit("/", 1)[-1], file.size)


def _take_split_below(layout: Layout, options: Options) -> None:
    """Takes a split out of the levels below the first, where no split has been seen above."""
    places = layout.labelled
    if layout.split_levels or options.split == "none":
        return
    for depth in range(1, max((len(place.levels) for place in places), default=0)):
        names = {place.names[depth] for place in places if len(place.levels) > depth}
        known = splits(names, options)
        if len(set(known.values())) > 1 or (known and len(known) == len(names)):
            classes = {name for place in places for name in place.names[depth + 1 :]}
            open_folders = {
                place.names[0] for place in places if classes & {*place.names[depth : depth + 1]}
            }
            if open_folders:
                layout.question = (
                    f"the folders {few(sorted(open_folders))} hold the same classes as others, "
                    f"but not in the splits {few(sorted(known))}; say "
                    f"ignore={','.join(sorted(open_folders))}, or split=none to read no split"
                )
            for place in places:
                if len(place.levels) > depth:
                    name = place.names[depth]
                    layout.split_levels[place.levels[depth]] += 1
                    place.split = known.get(name)
                    place.levels = place.levels[:depth] + place.levels[depth + 1 :]
                    if name not in known:
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
    words, known = vocabulary.tokens(name), vocabulary.RENDITIONS
    is_known = not known.isdisjoint((*words, name.casefold()))
    neutral = known | vocabulary.IMAGE_WORDS
    return is_known and all(word in neutral or not word.isalpha() for word in words)


def _words_in(name: str, words: frozenset[str]) -> bool:
    parts = [word for word in vocabulary.tokens(name) if not word.isdigit()]
    return bool(parts) and all(word in words for word in parts)


def _stray(places: Iterable[Place], why: str) -> None:
    for place in places:
        place.stray, place.levels, place.split = why, (), None


# -- Which of the remaining levels is the class


def _readings(layout: Layout, options: Options) -> tuple[list[Reading], str]:
    places = layout.labelled
    depth = max((len(place.levels) for place in places), default=0)
    if depth == 0 or layout.question:
        return [], layout.question if depth else ""
    joined = _joined_split(layout, options)
    if joined is not None:
        return [joined], ""
    is_last = defaultdict(bool)  # of each first name, whether pictures lie directly in it
    for place in places:
        if place.levels:
            is_last[place.names[0]] |= len(place.levels) == 1
    for name in sorted(is_last):
        is_open = options.split != "none" and not layout.split_levels
        if is_open and (split := vocabulary.splits_of([name])):
            layout.notes.append(
                f"The folder {name}/ is read as a class; if it is the split {split[name]}, say "
                "split_names=NAME:SPLIT for its sibling folders."
            )
    if depth == 1 or all(is_last.values()):
        reading = _reading(layout, 0, options)
        reading = reading.noting(_note_on_deeper(layout, 0))
        return [reading] if _is_sensible(reading, layout) else [], ""
    folds = sorted({name for place in places for name in place.parts if vocabulary.is_fold(name)})
    if layout.split_levels and len(folds) > 1:
        return [], (
            f"the folders {few(folds, 4)} hold a split of their own each; say "
            f"ignore={','.join(folds[1:])} to use one of them, or split=none to read none"
        )
    roles = [_role(layout, level) for level in range(depth)]
    groups = tuple(level for level, role in enumerate(roles) if role == "group")
    free = [level for level, role in enumerate(roles) if role is None]
    readings = [
        _reading(layout, level, options, groups=groups).noting(
            _note_on_deeper(layout, level) if {"single", None} & {*roles[level + 1 :]} else ""
        )
        for level in free
    ]
    return [reading for reading in readings if _is_sensible(reading, layout)], ""


def _note_on_deeper(layout: Layout, level: int) -> str:
    deeper = layout.count(place for place in layout.labelled if len(place.levels) > level + 1)
    return f"{deeper:,} pictures lie in folders below their class folder." if deeper else ""


def _joined_split(layout: Layout, options: Options) -> Reading | None:
    """Class and split in one folder name, such as `train_cats`, `test_cats`, `train_dogs`."""
    names = {place.names[0] for place in layout.labelled if len(place.levels) == 1}
    parted = {name: vocabulary.split_and_rest(name) for name in names}
    if layout.split_levels or not all(split and rest for split, rest in parted.values()):
        return None
    if len(names) < 4 or min(len(set(words)) for words in zip(*parted.values(), strict=True)) < 2:
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
    above, below = defaultdict(set), defaultdict(set)  # names of other levels by name of this one
    inside = defaultdict(set)  # name of the next level -> names of this one
    for place in layout.labelled:
        if len(place.levels) > level:
            name = place.names[level]
            above[name].add(place.names[:level])
            if len(place.levels) > level + 1:
                below[place.names[level + 1]].add(name)
                inside[name].add(place.names[level + 1])
    names = above.keys()
    if len(names) < 2:
        return "group" if all(map(is_group, names)) else "single"
    repeated = sum(len(ones) > 1 for ones in below.values()) * 2 > len(below)
    are_ids = repeated and len(names) > 2 and all(map(vocabulary.is_id, names))
    crossed = repeated or (level > 0 and all(len(ones) > 1 for ones in above.values()))
    if all(map(is_group, names)) or (are_ids and len(below) < len(names) * 4):
        return "group"
    if crossed and all(map(_is_rendition, names)):
        return "rendition"
    if vocabulary.are_chunks(names):
        return "chunk"
    are_letters = all(
        len(name) == 1 and all(one.casefold().startswith(name.casefold()) for one in inside[name])
        for name in names
    )
    return "letter" if below and are_letters else None


def is_group(name: str) -> bool:
    """Whether a folder is named like a fold, or like a numbered patient, session or the like."""
    return vocabulary.is_fold(name) or vocabulary.is_id(name, strict=True)


def _is_sensible(reading: Reading, layout: Layout) -> bool:
    labels = reading.rows["label"].dropna()
    names = labels.unique()
    chunks = len(names) > 1 and vocabulary.are_chunks(names)
    return len(names) > 1 and not chunks and len(labels) * 2 >= layout.count(layout.labelled)


def _are_persons(reading: Reading) -> bool:
    """Whether the labels are numbered persons, sessions or the like (`patient_3`), or ids in
    folders of such groups (`S005/001`, CK+), or ids whose files share words with those of the other
    ids (`AF01/AF01HAFL.jpg`, KDEF).
    """
    rows = reading.rows.dropna(subset="label")
    names = rows["label"].unique()
    are_ids = all(map(vocabulary.is_id, names))
    if all(map(is_group, names)) or (are_ids and reading.group):
        return True
    if len(names) < 3 or not are_ids:
        return False
    stems = rows["path"].str.rsplit("/", n=1).str[-1].str.rpartition(".")[0]
    pairs = zip(rows["label"], stems, strict=True)
    words = [re.sub(r"[\W\d_]+", "", stem.replace(name, "")) for name, stem in pairs]
    folders = rows["label"].groupby(words).nunique().drop("", errors="ignore")
    return int((folders * 2 > len(names)).sum()) > 1


def _by_level(layout: Layout, options: Options) -> Reading:
    """The reading by a level that the user gave: splits and groups are read from the other
    levels.
    """
    wanted = options.level_number
    at_label = {
        place.parts: len(place.parts) - 1 if wanted == -1 else wanted - 1 for place in layout.places
    }
    beside = defaultdict(set)
    for parts, label in at_label.items():
        for at, name in enumerate(parts):
            if at != label:
                beside[at].add(name)
    if not any(0 <= label < len(parts) for parts, label in at_label.items()):
        raise DarkroomError(
            f"There is no folder level {options.level}; the deepest folder with pictures is at "
            f"level {max(map(len, at_label), default=0)}."
        )
    known = {at: splits(names, options) for at, names in beside.items()}
    _refuse_unknown_splits(layout, at_label, known, options)
    groups = [
        at for at, names in beside.items() if len(names) > 2 and all(map(vocabulary.is_id, names))
    ]
    for place in layout.places:
        label = at_label[place.parts]
        others = [at for at in range(len(place.parts)) if at != label and not known[at]]
        if 0 <= label < len(place.parts):
            place.levels = (label, *groups, *(at for at in others if at not in groups))
        for at, name in enumerate(place.parts):
            if at != label and name in known[at]:
                place.split = known[at][name]
                layout.split_levels[at] += 1
            elif at != label and known[at] and _words_in(name, vocabulary.OVERLAY_WORDS):
                _stray([place], f"in {name}/, which goes with other pictures")
                break
    return _reading(layout, 0, options, groups=tuple(range(1, len(groups) + 1)))


def _refuse_unknown_splits(
    layout: Layout,
    at_label: dict[tuple[str, ...], int],
    known: dict[int, dict[str, str]],
    options: Options,
) -> None:
    """Asks for folders with labelled pictures that lie beside splits and are none that is known."""
    labelled = [place.parts for place in layout.places if at_label[place.parts] < len(place.parts)]
    for at, own in known.items():
        names = {parts[at] for parts in labelled if at < len(parts) and at != at_label[parts]}
        strange = sorted(
            name
            for name in names - own.keys()
            if name.casefold() not in options.named_splits
            and not _words_in(name, vocabulary.OVERLAY_WORDS)
        )
        if own and strange:
            raise DarkroomError(
                f"Folder level {at + 1} holds the splits {few(sorted(own))}, and {few(strange)} "
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
    others = _attribute_levels(layout, level, options)
    used, grouped, folders = set(), set(), []
    for place in layout.places:
        names, has_label = place.names, len(place.levels) > level
        parts = [names[at] for at in groups if len(names) > at and has_label]
        used |= {*place.levels[level : level + 1]}
        grouped |= {place.levels[at] for at in groups if len(place.levels) > at}
        folders.append(
            {
                "label": (rename or {}).get(names[level], names[level]) if has_label else None,
                "source_split": place.split,
                "source_group": "/".join(parts) or None,
                "unused": f"unlabelled: {place.stray or 'in no class folder'}",
                **{name: names[at] if len(names) > at else None for at, name in others.items()},
            }
        )
    by_folder = pd.DataFrame(folders, dtype=object)
    rows = by_folder.loc[by_folder.index.repeat([len(place.files) for place in layout.places])]
    rows = rows.assign(path=[file.path for place in layout.places for file in place.files])
    if layout.overlays:
        why = f"goes with another picture by its name, as {layout.overlays[0]}"
        rows = pd.concat([rows, pd.DataFrame({"path": layout.overlays, "unused": why})])
    rows = rows.astype(object).where(rows.notna(), None).reset_index(drop=True)
    return Reading(
        "folders",
        pd.concat([rows, name_attributes(rows["label"])], axis=1),
        label=_levels_text(used) or "",
        split=_levels_text(at for at, number in layout.split_levels.items() if number),
        group=_levels_text(grouped),
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


def _levels_text(levels: Iterable[int]) -> str | None:
    numbers = sorted({at + 1 for at in levels})
    return f"folder level {' or '.join(map(str, numbers))}" if numbers else None
