"""Cleaning a data set: scan, group, judge, write the manifest; and decisions by hand.

Raw files are never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from filelock import FileLock

from lib import files
from lib.cleaning import duplicates, findings, label_issues, leaks, ledger
from lib.cleaning.findings import Thresholds
from lib.cleaning.label_issues import Counting, EmbeddingConfig
from lib.cleaning.scan import notes as scan_notes
from lib.cleaning.scan import scan
from lib.data import groups as data_groups
from lib.data import intake, manifest, sources
from lib.data.dataset import Dataset
from lib.errors import DarkroomError, check_choice

FINDINGS = "findings.parquet"
PLAIN: dict[str, Any] = {"verdict": "keep", "reasons": []}
"""The verdict on a file without findings and decisions."""


@dataclass(frozen=True, eq=False)
class Cleaned:
    """The result of cleaning. `findings` and `manifest` are also on disk; `scanned` holds the
    measurements.
    """

    dataset: Dataset
    scanned: pd.DataFrame
    findings: pd.DataFrame
    manifest: pd.DataFrame

    @property
    def classes(self) -> pd.DataFrame:
        """Files a class: `before`, `keep`, `review`, `reject` and `after` (= keep), with the class
        as index.
        """
        labelled = self.manifest[self.manifest["label"].notna()]
        table = pd.crosstab(labelled["label"], labelled["verdict"]).reindex(
            columns=manifest.VERDICTS, fill_value=0
        )
        table.insert(0, "before", table.sum(axis=1))
        return table.assign(after=table["keep"]).rename_axis(columns=None)

    @property
    def counts(self) -> pd.DataFrame:
        """Findings a reason: `files`, `verdict`, and `example` (the worst one's path), most
        frequent first.
        """
        worst = self.findings.sort_values(["score", "path"])
        table = worst.groupby("reason").agg(
            files=("path", "nunique"), verdict=("verdict", "first"), example=("path", "first")
        )
        return table.sort_values("files", ascending=False, kind="stable")

    @cached_property
    def notes(self) -> list[str]:
        """Remarks on the data set: how it was decoded, which checks were not made, leaks."""
        not_looked_for = self.scanned.attrs.get("note")
        remarks = [*scan_notes(self.dataset, self.scanned), not_looked_for]
        return [*filter(None, remarks), *leaks.notes(self.dataset)]

    @property
    def largest_group(self) -> pd.DataFrame:
        """The manifest's rows of the largest group of near-duplicates; one where there is none."""
        decoded = self.manifest[self.manifest["pixels"].notna()]
        sizes = decoded["copy_group"].value_counts().sort_index()
        return decoded[decoded["copy_group"] == sizes.idxmax()]

    def sentence(self) -> str:
        """Returns a summary in one sentence."""
        verdicts, most = self.manifest["verdict"].value_counts(), len(self.largest_group)
        group = "there are no near-duplicates"
        if most > 1:
            group = f"the largest group of near-duplicates has {most:,} files"
        sample = self.dataset.source.get("sample")
        drawn = f" (a sample of the {sample['num_files']:,} of {sample['of']})" if sample else ""
        return (
            f"{self.dataset.name}: {len(self.manifest):,} files{drawn}, "
            f"{verdicts.get('keep', 0):,} kept, {verdicts.get('review', 0):,} to review, "
            f"{verdicts.get('reject', 0):,} rejected; {group}. No raw file was changed."
        )


def load(data: str, **options: str) -> Dataset:
    """Returns the data set of that name, or of the folder, table or archive at that path, cleaned.

    It is registered and cleaned by the default thresholds if it is new.
    `options` determine how it is read, such as `label="column"`.

    Raises:
        DarkroomError: when it cannot be read, or not in one way only.
    """
    return ensure(intake.bring(data, options=options or None))


def ensure(dataset: Dataset) -> Dataset:
    """Returns the data set, cleaned by the default thresholds if it has not been cleaned yet.

    The manifest then reflects all decisions in the ledger.
    """
    if not dataset.cleaned():
        print(clean(dataset).sentence())
    elif changes := _changes(dataset):
        print(changes)
    sync(dataset)
    return dataset


def _changes(dataset: Dataset) -> str:
    """Describes changes on disk since the data set was cleaned; "" for none."""
    table = dataset.manifest()
    known = dict(zip(table["path"], table["bytes"], strict=True))
    there = {file.path: file.size for file in dataset.files() if file.problem is None}
    endings = {path.rpartition(".")[2].lower() for path in known}
    new = [path.rpartition(".")[2].lower() for path in there.keys() - known.keys()]
    num_added = sum(ending in endings for ending in new)
    num_removed = sum(path not in there for path, size in known.items() if size)
    num_changed = sum(there.get(path, size) != size for path, size in known.items() if size)
    if not num_added + num_removed + num_changed:
        return ""
    return (
        f"{dataset.name} has changed since it was cleaned: {num_added:,} files were added, "
        f"{num_removed:,} removed, {num_changed:,} have another size. Run 1_clean again (darkroom "
        f"clean {dataset.name}) to judge the present files."
    )


def sync(dataset: Dataset) -> bool:
    """Brings the manifest up to the ledger and returns whether it was behind.

    Decisions made in the browser are only appended to the ledger; this applies them.
    """
    if not _is_behind(dataset):
        return False
    with FileLock(dataset.folder / ".lock"):
        if _is_behind(dataset):
            _replay(dataset)
    return True


def _is_behind(dataset: Dataset) -> bool:
    reflected = manifest.ledger_bytes(dataset.folder)
    return dataset.cleaned() and reflected != ledger.whole_bytes(dataset.folder)


def clean(
    dataset: Dataset,
    *,
    thresholds: Thresholds | None = None,
    verdicts: dict[str, str] | None = None,
    embedding: EmbeddingConfig | None = None,
    grouping: str = "copies",
    workers: int | None = None,
    counting: Counting | None = None,
) -> Cleaned:
    """Scans the data set, groups duplicates, judges every file, and writes manifest, findings and
    ledger.

    Decisions by hand override the automatic verdicts. The same files, arguments and ledger give the
    same manifest.

    Args:
        dataset: the data set.
        thresholds: see `findings.Thresholds`.
        verdicts: overrides of `findings.DEFAULT_VERDICTS`.
        embedding: a pretrained network that finds wrong labels and outliers among the kept files.
        grouping: what shares a group, one of `duplicates.GROUPINGS`.
        workers: processes that read files; one a processor if None.
        counting: returns a function of (done, total) for each thing that is counted, as
            `Run.counting` does.

    Raises:
        DarkroomError: fewer than two classes have accepted files.
    """
    check_choice("grouping", grouping, duplicates.GROUPINGS)
    findings.complete_verdicts(verdicts)
    limits, counting = thresholds or Thresholds(), counting or _uncounted
    with FileLock(dataset.folder / ".lock"):
        scanned = scan(dataset, workers=workers, progress=counting("files read"))
        counting("files compared, to find copies")(0, len(scanned))
        grouped = duplicates.group_dataset(dataset, scanned, grouping=grouping, num_threads=workers)
        reflected = ledger.whole_bytes(dataset.folder)
        entries = ledger.read(dataset.folder)
        by_hand = ledger.state(entries, by_hand=True)
        labels = {path: made["label"] for path, made in by_hand.items() if "label" in made}
        relabelled = (
            grouped["path"].map(labels).where(grouped["path"].isin(labels), grouped["label"])
        )
        scanned = united(grouped).assign(source_label=grouped["label"], label=relabelled)
        issues = findings.judge(scanned, thresholds=limits, verdicts=verdicts)
        if embedding is not None:
            table = _table(scanned, _judged(issues), by_hand)
            kept = table[table["verdict"] == "keep"].reset_index(drop=True)
            suspected = label_issues.find(
                dataset, kept, embedding, outlier=limits.outlier, counting=counting
            )
            both = pd.concat([issues, findings.table(suspected, verdicts=verdicts)])
            issues = both.sort_values(["path", "reason"], ignore_index=True)
        judged = _judged(issues)
        table = _table(scanned, judged, by_hand)
        _refuse_useless(dataset, table)
        automatic = [entry for entry in entries if entry["by"] in (ledger.MACHINE, "undo")]
        changes = _changed(ledger.state(automatic), judged)
        if changes:
            about = {"thresholds": asdict(limits), "verdicts": verdicts or {}}
            about["embedding"] = asdict(embedding) if embedding else None
            entry = ledger.append(
                dataset.folder, by=ledger.MACHINE, action="clean", changes=changes, **about
            )
            if ledger.num_bytes(dataset.folder) == reflected + ledger.size_of(entry):
                reflected += ledger.size_of(entry)  # no decision was made in the meantime
        files.write_parquet(dataset.folder / FINDINGS, issues)
        manifest.write(dataset.folder, table, ledger_bytes=reflected)
        return Cleaned(dataset, scanned, issues, manifest.read(dataset.folder))


def _uncounted(what: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def united(scanned: pd.DataFrame) -> pd.DataFrame:
    """Returns the scan with `copy_group` for its verified near-duplicates and with `group` for
    these united with the groups that the user or the source names (`source_group`).
    """
    scanned = scanned.assign(copy_group=scanned["group"])
    if "source_group" not in scanned.columns or scanned["source_group"].isna().all():
        return scanned
    return scanned.assign(group=data_groups.united([scanned["group"], scanned["source_group"]]))


def relabel(dataset: Dataset, paths: Iterable[str], *, label: str, by: str = "hand") -> None:
    """Gives the files another label, recorded in the ledger; run `clean` again to judge them under
    it.
    """
    _by_hand(dataset, paths, action="label", after={"label": label}, by=by)


def decide(dataset: Dataset, paths: Iterable[str], *, verdict: str, by: str = "hand") -> None:
    """Gives the files a verdict (keep, review or reject) that overrides the automatic one."""
    check_choice("verdict", verdict, manifest.VERDICTS)
    _by_hand(dataset, paths, action="verdict", after={"verdict": verdict}, by=by)


def undo(dataset: Dataset, *, entry: int | None = None) -> dict[str, Any]:
    """Undoes an act of the ledger, by default the last, updates the manifest; returns the act."""
    with FileLock(dataset.folder / ".lock"):
        act = ledger.undo(dataset.folder, entry=entry)
        _replay(dataset)
    return act


def _judged(issues: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Path -> verdict and reasons, of the files that have a finding."""
    judged: dict[str, dict[str, Any]] = {}
    columns = (issues[name] for name in ("path", "reason", "verdict"))
    for path, reason, verdict in zip(*columns, strict=True):  # sorted by path and reason
        known = judged.setdefault(path, {"verdict": "keep", "reasons": []})
        known["verdict"] = findings.worst((known["verdict"], verdict))
        known["reasons"].append(reason)
    return judged


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """The changes of the ledger's line from one set of verdicts to another."""
    paths = sorted(before.keys() | after.keys())
    both = [(path, before.get(path, PLAIN), after.get(path, PLAIN)) for path in paths]
    return [{"path": path, "before": old, "after": new} for path, old, new in both if old != new]


def _table(
    scanned: pd.DataFrame, judged: dict[str, dict[str, Any]], by_hand: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    decided = [{**judged.get(path, PLAIN), **by_hand.get(path, {})} for path in scanned["path"]]
    return scanned.assign(**{name: [row[name] for row in decided] for name in PLAIN})


def _refuse_useless(dataset: Dataset, table: pd.DataFrame) -> None:
    kept = table.loc[table["verdict"] == "keep", "label"].nunique()
    if kept >= 2:
        return
    why = table["reasons"].explode().dropna().value_counts()
    if why.get("two_labels", 0) * 2 > len(table):
        example = next(row.path for row in table.itertuples() if "two_labels" in row.reasons)
        raise DarkroomError(
            f"{why['two_labels']:,} of the {len(table):,} files of {dataset.name!r} show a "
            f"picture that is in two classes, such as {example}: the folder seems to hold the "
            "whole set more than once, or its classes are not at this folder level. Leave a "
            "copy out by --option ignore=FOLDER, or choose --option level=N."
        )
    listed = []
    for reason, number in why.head(3).items():  # with the most frequent detail of each
        details = table.loc[(table["problem"] == reason).to_numpy(), "detail"].dropna().mode()
        listed.append(f"{reason} {number:,}" + "".join(f" ({text})" for text in details[:1]))
    raise DarkroomError(
        f"Of the {len(table):,} files of {dataset.name!r} none are left in "
        f"{'any' if kept == 0 else 'all but one'} class after cleaning: {'; '.join(listed)}. At "
        "least two classes are needed, so look at the files or change the thresholds."
    )


def _by_hand(
    dataset: Dataset, paths: Iterable[str], *, action: str, after: dict[str, Any], by: str
) -> None:
    if by in (ledger.MACHINE, "undo"):
        raise ValueError(
            f"`by` must name who decided; {by!r} stands for the program. Received: by={by!r}."
        )
    with FileLock(dataset.folder / ".lock"):
        table = dataset.manifest().set_index("path")
        paths = sorted(set(paths))
        strange = [path for path in paths if path not in table.index]
        if strange or not paths:
            named = strange[0] if strange else "(none was given)"
            raise DarkroomError(f"The data set {dataset.name!r} has no file {named!r}.")
        chosen = table.loc[paths, list(after)].astype(object)
        before = chosen.where(chosen.notna(), None).to_dict("index")
        changes = [{"path": path, "before": before[path], "after": after} for path in paths]
        ledger.append(dataset.folder, by=by, action=action, changes=changes)
        _replay(dataset)


def _replay(dataset: Dataset) -> None:
    """Rewrites the manifest from the source's labels and the acts that apply."""
    table = dataset.manifest()
    reflected = ledger.whole_bytes(dataset.folder)
    acts = ledger.state(ledger.read(dataset.folder))
    labels = sources.rows(dataset).set_index("path")["label"].to_dict()
    rows = [{**PLAIN, "label": labels.get(path), **acts.get(path, {})} for path in table["path"]]
    columns = pd.DataFrame(rows, table.index, ["verdict", "reasons", "label"], dtype=object)
    manifest.write(dataset.folder, table.assign(**columns), ledger_bytes=reflected)
