"""What the fuzzer feeds: a function a parser of ours, and real bytes to begin with.

A target takes bytes and returns; a `DarkroomError` is how a parser refuses, everything else that is
raised is a crash.
"""

import contextlib
import io
import json
import logging
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import decoder_matrix
import pandas as pd
import pyarrow
import pyarrow.parquet
import test_torch_pickle
from PIL import Image
from werkzeug.exceptions import HTTPException

from lib import notebooks, paths
from lib.batch import study as studies
from lib.cleaning import ledger
from lib.data import dataset as datasets
from lib.data import file_listing, manifest, sources, splits
from lib.data.sources import archives
from lib.errors import DarkroomError
from lib.evaluation import predictions
from lib.models import efficientnet_lite
from lib.web import classify_page, finished_runs, map_page, site

TESTS = Path(__file__).parent.parent
ALLOWED = ("DarkroomError",)
_FOLDER = tempfile.TemporaryDirectory()
HOME = Path(_FOLDER.name)
tarfile.calc_chksums = lambda header, real=tarfile.calc_chksums: _Any(
    real(header)
)  # else every change is refused at once
os.fsync = lambda handle: None  # what is written here need not outlive anything
logging.getLogger("lib.web").disabled = True  # a 500 is counted, not told


class _Any(tuple):
    __slots__ = ()

    def __contains__(self, checksum: int) -> bool:
        return True


def study(data: bytes) -> None:
    """A study file, then after a zero byte what is typed with `--set`, `name=value` in lines."""
    content, _, typed = data.partition(b"\0")
    settings = dict(
        line.split("=", 1) for line in typed.decode("utf-8", "replace").splitlines() if "=" in line
    )
    (HOME / "fuzz.toml").write_bytes(content)
    studies.read(str(HOME / "fuzz.toml"), settings=settings, tiny=data[-1:] == b"\n").runs()


def prediction_table(data: bytes) -> None:
    """A Parquet file, or JSON that tells `metadata` and `columns` of one."""
    path = _parquet(HOME / "predictions.parquet", data)
    found = predictions.read(path) if path else None
    for name in found.splits if found else ():
        found.split(name).truths, found.confidence  # noqa: B018


def manifest_table(data: bytes) -> None:
    """A data set's manifest as `prediction_table` takes it, read, hashed and split."""
    folder = paths.dataset("fuzz")
    if _parquet(folder / manifest.FILE, data):
        dataset = datasets.Dataset("fuzz", folder, folder / "raw")
        dataset.accepted(), dataset.digest()
        splits.ensure(dataset, method="random", seed=1)


def source(data: bytes) -> None:
    """`source.json` of a data set."""
    (paths.dataset("fuzz") / datasets.SOURCE).write_bytes(data)
    datasets.load("fuzz").raw_digest()


def notebook(data: bytes) -> None:
    """A notebook: its account of itself and its parameters cell."""
    (paths.notebooks() / "fuzz.ipynb").write_bytes(data)
    found = notebooks._read.__wrapped__(paths.notebooks() / "fuzz.ipynb", 0, 0)
    for parameter in found.parameters.values():
        parameter.allowed(), parameter.check(parameter.default)


def setting(data: bytes) -> None:
    """A parameters cell, then after a zero byte what is typed for each of its parameters."""
    from lib import parameter_types

    cell, _, typed = data.decode("utf-8", "replace").partition("\0")
    for parameter in parameter_types.declared(cell, where="fuzz.ipynb").values():
        with contextlib.suppress(DarkroomError):
            parameter.parse(typed)


def torch_file(data: bytes) -> None:
    """A weights file."""
    (HOME / "weights.pth").write_bytes(data)
    efficientnet_lite.read_tensors(HOME / "weights.pth")


def packed(data: bytes) -> None:
    """A zip or tar archive, unpacked."""
    (HOME / "archive").write_bytes(data)
    with tempfile.TemporaryDirectory(dir=HOME) as target:
        archives.extract(HOME / "archive", Path(target) / "in")
        strange = [path for path in Path(target).rglob("*") if path.is_symlink()]
        if strange or any(path.name != "in" for path in Path(target).iterdir()):
            raise RuntimeError("unpacked a link, or outside of its folder")


def labels(data: bytes) -> None:
    """A table of labels beside images; its second column may hold several, separated by a stroke."""
    raw = HOME / "raw"
    (raw / "labels.csv").write_bytes(data)
    for separator in (None, "|"):
        options = {"kind": "table"} | ({"separator": separator} if separator else {})
        sources.read_folder(raw, file_listing.files(raw), options)


def ledger_file(data: bytes) -> None:
    """A ledger: read, summed up, added to and taken back."""
    (HOME / "ledger.jsonl").write_bytes(data)
    ledger.state(ledger.read(HOME))
    ledger.by_hand(HOME)
    ledger.append(HOME, by="fuzz", action="verdict", changes=[])
    ledger.undo(HOME)


def picture(data: bytes) -> None:
    """An upload: anything but a picture is a 4xx."""
    try:
        classify_page.decode(data)
    except HTTPException as error:
        if error.code not in (413, 415):
            raise


def request(data: bytes) -> None:
    """A whole request: its kind in the first byte, then the body of a form, or an object for the
    map's addresses.
    """
    if not data:
        return
    address, kind = _REQUESTS[data[0] % len(_REQUESTS)]
    answer = _client().post(address, data=data[1:], content_type=kind)
    if answer.status_code >= 500:
        raise RuntimeError(f"{address} answered {answer.status_code}")


def _parquet(path: Path, data: bytes) -> Path | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not data.startswith(b"{"):
        path.write_bytes(data)
        return path
    try:
        told = json.loads(data)
        frame = pyarrow.table(
            {str(name): pyarrow.array(values) for name, values in told["columns"].items()}
        )
        noted = {b"darkroom": json.dumps(told["metadata"]).encode()} if "metadata" in told else {}
        pyarrow.parquet.write_table(frame.replace_schema_metadata(noted), path)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OverflowError,
        pyarrow.ArrowException,
    ):
        return None  # no table that a file can hold, so nothing for a parser of ours
    return path


_FORM = "multipart/form-data; boundary=fuzz"
_REQUESTS = [
    ("/api/classify/s/t/u", _FORM),
    ("/api/classify/s/t/u", "application/x-www-form-urlencoded"),
] + [
    (f"/api/maps/s/t/u/{name}", "application/json")
    for name in ("points", "selections", "csv", "ledger")
]


class _Shown:
    """A map of three points."""

    points = pd.DataFrame({"path": ["a", "b", "c"]})
    dataset = datasets.Dataset("shown", HOME / "datasets" / "shown", HOME / "raw")

    def __len__(self) -> int:
        return len(self.points)

    def checked(self, rows, *, most):
        from lib.web.map_page import MapRun

        return MapRun.checked(self, rows, most=most)

    def told(self, rows):
        return self.checked(rows, most=100)

    def csv(self, rows):
        return ",".join(map(str, self.checked(rows, most=100)))


def _client(kept=[]):  # noqa: B006  made once
    if not kept:
        finished_runs.run = lambda *names: None
        classify_page.load = lambda found: None
        classify_page._answer = lambda loaded, pixels, accuracy: pixels.shape
        map_page._found = lambda *names: (None, _Shown())
        kept.append(site.create().test_client())
    return kept[0]


def _begin() -> None:
    os.environ["DARKROOM_HOME"] = str(HOME)
    for name in ("notebooks", "datasets/fuzz/raw", "datasets/shown", "raw/images"):
        (HOME / name).mkdir(parents=True)
    for path in (TESTS / "notebooks").glob("*.ipynb"):
        (HOME / "notebooks" / path.name).write_bytes(path.read_bytes())
    for path in (TESTS.parent / "notebooks").glob("*.ipynb"):
        (HOME / "notebooks" / path.name).write_bytes(path.read_bytes())
    for name in ("a.png", "b.png", "images/c.jpg"):
        (HOME / "raw" / name).write_bytes(b"")


def _told(**columns) -> bytes:
    return json.dumps(columns, ensure_ascii=False).encode()


def _manifest() -> dict:
    return {
        "path": list("abcdefghijkl"),
        "label": ["x", "y"] * 6,
        "sha256": ["0"] * 12,
        "pixels": ["0"] * 12,
        "bytes": [9] * 12,
        "format": ["PNG"] * 12,
        "width": [8] * 12,
        "height": [8] * 12,
        "mode": ["RGB"] * 12,
        "verdict": ["keep"] * 12,
        "reasons": [["few"]] * 12,
        "group": list(range(12)),
        "source_split": ["train"] * 12,
        "attr_year": [1990.0] * 12,
    }


def _predicted() -> dict:
    return {
        "path": ["a", "b"],
        "split": ["train", "test"],
        "label": ["x", "y"],
        "group": [0, 1],
        "p_x": [0.5, 0.25],
        "p_y": [0.5, 0.75],
    }


def _tables() -> list[bytes]:
    about = {"class_names": ["x", "y"], "data_hash": "h"}
    one = _told(columns=_predicted(), metadata={**about, "kind": "probability"})
    several = _told(
        columns={**_predicted(), "label": [["x"], []]}, metadata={**about, "kind": "multilabel"}
    )
    return [one, several, _as_file(one)]


def _as_file(data: bytes) -> bytes:
    path = HOME / "seed.parquet"
    return _parquet(path, data).read_bytes()


def _zip(method: int, names: tuple[str, ...] = ("a/1.png", "b/ü.txt")) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        for name in names:
            opened.writestr(name, name * 9)
    return buffer.getvalue()


def _tar(kind: str, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w{kind}", format=form) as opened:
        for name, about in (
            ("a/1.png", tarfile.REGTYPE),
            ("b/link", tarfile.SYMTYPE),
            ("d" * 60 + "/" + "ü" * 40, b"0"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = (
                about,
                9 if about == tarfile.REGTYPE else 0,
                "../../x",
            )
            opened.addfile(member, io.BytesIO(b"123456789"))
    return buffer.getvalue()


def _weights() -> list[bytes]:
    of = test_torch_pickle
    tensors = {
        "rows": of.tensor("a", (2, 3), (3, 1)),
        "scalar": of.tensor("b", (), (), num_elements=1, kind=b"LongStorage"),
    }
    both = of.HEAD + of.named(tensors) + b"\x80\x02](" + of.text("a") + of.text("b") + b"e."
    one = of.HEAD + of.named({"rows": tensors["rows"]}) + b"\x80\x02]" + of.text("a") + b"a."
    return [both + of.storage(range(6)) + of.storage([7], "<i8"), one + of.storage(range(6))]


def _form() -> bytes:
    part = b'--fuzz\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    image = decoder_matrix.stored(_small(), "PNG")
    return (
        part % (b"pictures", b'; filename="a.png"', image)
        + part % (b"accuracy", b"", b"0.9")
        + b"--fuzz--\r\n"
    )


def _ledger() -> bytes:
    change = {"path": "a/1.png", "before": {"label": "x"}, "after": {"label": "y"}}
    acts = [
        {"entry": 1, "at": "2026-01-01", "by": "clean", "action": "clean", "changes": [change]},
        {"entry": 2, "at": "2026-01-01", "by": "ada", "action": "label", "changes": [change]},
        {"entry": 3, "at": "2026-01-01", "by": "undo", "action": "undo", "changes": [], "of": 2},
    ]
    return b"".join(json.dumps(act).encode() + b"\n" for act in acts)


def _small() -> Image.Image:
    return Image.fromarray(decoder_matrix.picture()).resize((16, 12))


def _pictures() -> list[bytes]:
    small = _small()
    made = [
        decoder_matrix.stored(small, kind)
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
    ]
    return [
        *made,
        decoder_matrix.stored(small.convert("P"), "PNG"),
        decoder_matrix.stored(small.convert("CMYK"), "JPEG"),
    ]


def _cells(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.ipynb"))]


def _parameters() -> list[bytes]:
    cells = [
        cell for data in _cells(TESTS.parent / "notebooks") for cell in json.loads(data)["cells"]
    ]
    tagged = [
        "".join(cell["source"])
        for cell in cells
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    return [
        f"{text}\0{typed}".encode()
        for text, typed in zip(tagged, ["3", "1e-3", "yes", "a,b", "[1, 2]"] * 2, strict=False)
    ]


def _studies() -> list[bytes]:
    import conftest

    files = [path.read_bytes() for path in sorted((TESTS.parent / "studies").glob("*.toml"))]
    return [conftest.STUDY.encode() + b"\0seconds=0.5\n", *files]


def _requests() -> list[bytes]:
    bodies = [
        b'{"rows": [0, 2], "name": "odd", "action": "keep"}',
        b'{"rows": [1], "action": "relabel", "label": "x"}',
    ]
    return [
        b"\0" + _form(),
        b"\1accuracy=0.9",
        *(bytes([2 + place]) + body for place in range(4) for body in bodies),
    ]


_begin()
TARGETS = {
    "study": (study, _studies, "assignments"),
    "prediction_table": (prediction_table, _tables, "json_text"),
    "manifest_table": (
        manifest_table,
        lambda: [told := _told(columns=_manifest()), _as_file(told)],
        "json_text",
    ),
    "source": (
        source,
        lambda: [b'{"kind": "folders", "path": "raw", "from": "x", "options": {}}'],
        "json_text",
    ),
    "notebook": (notebook, lambda: _cells(TESTS / "notebooks"), "json_text"),
    "setting": (setting, _parameters, "assignments"),
    "torch_file": (torch_file, _weights, ""),
    "zip": (
        packed,
        lambda: [_zip(method) for method in (0, 8, 12, 14)] + [_zip(0, ("../x", "/y", "a\\b"))],
        "",
    ),
    "tar": (
        packed,
        lambda: [_tar(kind, form) for kind in ("", ":gz", ":bz2", ":xz") for form in (0, 1, 2)],
        "",
    ),
    "labels": (
        labels,
        lambda: [
            b"image,label,year,x1,y1,x2,y2,split\na.png,x|y,1990,0,0,4,4,train\nb.png,y,,1,1,2,2,test\n",
            b'id\tgenre\nc\t"a, b"\n',
        ],
        "",
    ),
    "ledger": (ledger_file, lambda: [_ledger(), _ledger()[:-20]], "json_lines"),
    "picture": (picture, _pictures, ""),
    "request": (request, _requests, ""),
}
"""Name to the target, what makes its first inputs, and the grammar by which `mutations` changes
them ("": bytes).
"""
