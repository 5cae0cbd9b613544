"""Words that identify folders, columns and tables."""

# ruff: noqa: SIM905  word lists read best as text
from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

OTHER_ENDINGS = frozenset(
    "txt csv tsv tab json jsonl ndjson xml md rst pdf doc docx xls xlsx ods html htm py ipynb m sh "
    "r c h cpp zip tar gz tgz bz2 xz 7z rar zst db sqlite parquet arrow feather yaml yml toml ini "
    "cfg log lst mp4 avi mov mkv webm mpg mpeg wav mp3 npz mat manifest h5 hdf5 pkl pickle pt pth "
    "onnx tfrecord names labels dat data url lnk license rtf css js geojson kml aux ovr hdr".split()
)
"""Endings of files that are never meant as pictures."""

PICTURE_ENDINGS = frozenset(
    "jpg jpeg jpe jfif mpo png apng gif bmp dib tif tiff webp avif avifs ppm pgm pbm pnm "
    "heic heif jxl jp2 j2k dcm dicom npy svg psd ico".split()
)
READ_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (*READ_ARCHIVES, ".7z", ".rar", ".tar.zst", ".gz")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")

_SPLITS = {
    "train": "train training trn trainval trainset traindata trainimages trainimgs trainingset "
    "trainingdata trainingimages trainingimgs trainingsdaten entrainement apprentissage "
    "entrenamiento treino treinamento addestramento",
    "val": "val valid validation validate dev valset valdata valimages valimgs validierung "
    "validierungsdaten validacion validacao",
    "test": "test testing tst testset testdata testimages testimgs testdaten prueba teste",
}
SPLIT_WORDS = {word: split for split, words in _SPLITS.items() for word in words.split()}
"""Words that name a source's own split, and what we call it."""

VAGUE_SPLIT_WORDS = frozenset(
    "holdout hold out heldout held eval evaluation unseen reserve reserved extra "
    "additional unlabeled unlabelled pred predict prediction predictions query gallery "
    "public private final submission inference calibration tune tuning probe blind".split()
)
"""Words that name some part of a data set without saying which split it is."""

IMAGE_WORDS = frozenset(
    "image images img imgs pic pics picture pictures photo photos jpg jpeg jpegs "
    "jpegimages png tif frames raw data dataset datasets files folder input inputs".split()
)
"""Folder names that only say that pictures lie inside."""

CHUNK_WORDS = IMAGE_WORDS | frozenset(
    "part parts batch chunk archive shard volume vol disk dir set section zip".split()
)
"""With a number behind it, one of these names a piece of a download, not a class."""

OVERLAY_WORDS = frozenset(
    "mask masks groundtruth ground truth gt annotation annotations annots segmentation "
    "segmentations bbox bboxes boxes labels".split()
)
"""Folder names of pictures that go with other pictures, such as segmentation masks."""

OVERLAY_SUFFIX = re.compile(
    r"(.+?)[-_. ]+(?:masks?|gt|ground_?truth|segmentations?|seg|superpixels|annotations?|bbox|"
    r"labels?|overlay)(?:[-_ ]*\d+)?",
    re.IGNORECASE,
)
"""Name of a picture that goes with the picture whose name is its first group."""

COPY_SUFFIX = re.compile(
    r"(.+?)(?:[-_ ](?:aug|augmented|flip|flipped|hflip|vflip|mirror|mirrored|"
    r"rot|rotated|rotate|noise|blurred)[-_ ]?\d*)",
    re.IGNORECASE,
)
"""Name of an augmented copy; the first group is the original's."""


RENDITIONS = frozenset(
    "color colour colored grayscale greyscale gray grey segmented rgb bw thermal infrared nir "
    "original originals augmented resized cropped enhanced edges 40x 100x 200x 400x".split()
)
"""Folder names that say how the same pictures were prepared."""

ID_WORDS = frozenset(
    "patient patients subject subjects case lesion slide participant person individual "
    "specimen animal product film movie video clip scene session camera site donor mouse "
    "user author plot tree plate object sequence series study episode owner wafer module".split()
)
"""Column and folder names whose values say which pictures belong together."""

PERSON_WORDS = frozenset(
    "patient patients subject subjects participant person individual specimen lesion "
    "donor mouse".split()
)
"""Those of living beings, whose pictures are never independent."""

AUTOMATIC_IDS = ID_WORDS - {"camera", "site", "user", "author", "owner"}
"""Those that become the group without a question; the others are few and mix many things."""

LABEL_COLUMNS = (
    "label labels class classes class_name classname class_id classid class_label label_name "
    "target targets y category category_name category_id ground_truth gt truth image_label "
    "image_class tag tags choice choices prediction_string annotation",
    "diagnosis dx species breed genre style emotion expression disease condition pathology finding "
    "finding_labels variety cultivar crop fruit plant weed animal_type object object_name "
    "cell_type tissue tumor tumour outcome grade severity stage character letter digit symbol type "
    "kind name material scene_type defect malignant benign_malignant",
    "klasse klassen etikett kategorie befund diagnose sorte etiquette categorie classe espece "
    "diagnostic clase etiqueta categoria especie diagnostico rotulo etichetta specie",
)
"""Names of label columns, the plain ones before those of some field."""

PLAIN_LABELS = frozenset(LABEL_COLUMNS[0].split())

IMAGE_COLUMNS = tuple(
    "image image_path path file filename file_name filepath file_path img img_path "
    "image_name image_id imageid image_file id name uid bild bildname datei dateiname "
    "fichier archivo imagen imagem arquivo".split()
)
SPLIT_COLUMNS = tuple(
    "split subset set partition usage phase data_split dataset_split train_test "
    "split_name fold dataset".split()
)
TRAIN_FLAGS = ("is_train", "is_training", "is_training_image", "train", "training")
VAL_FLAGS = ("is_val", "is_valid", "is_validation")
TEST_FLAGS = ("is_test", "test", "is_testing")

_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")
_SPACES = re.compile(r"\s+")
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһԛԝАВЕКМНОРСТХІЈЅαοιντυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijsdhqwABEKMHOPCTXIJSaointuABEZHIKMNOPTYX",
)  # Cyrillic and Greek letters that are drawn like Latin ones


def tokens(name: str) -> tuple[str, ...]:
    """Returns the words and numbers of a name, in lower case: `seg_train2017` is seg,
    train, 2017.
    """
    return tuple(word.lower() for word in _TOKEN.findall(_without_accents(name)))


def _without_accents(name: str) -> str:
    parts = unicodedata.normalize("NFKD", str(name))
    return "".join(sign for sign in parts if not unicodedata.combining(sign))


def split_in(words: Sequence[str]) -> str | None:
    """Returns the one split that words tell, such as `train` of (train, labels)."""
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if splits == {"train", "val"} and "split" not in words:
        return "train"  # train_val is everything but the test split
    return splits.pop() if len(splits) == 1 else None


def split_and_rest(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Returns the split that a name tells and its other words, without numbers and words for
    pictures.

    `training_set` is (train, ()), `test-multiple` (test, (multiple,)), `photos` (None, ()).
    """
    words = [word for word in tokens(name) if not word.isdigit()]
    neutral = SPLIT_WORDS.keys() | IMAGE_WORDS | {"set", "sets", "split", "seg"}
    rest = tuple(word for word in words if word not in neutral)
    return split_in(words), rest


def is_vague_split(name: str) -> bool:
    """Whether a name tells a part of a data set, but not which split, as `holdout` does."""
    words = [word for word in tokens(name) if not word.isdigit()]
    vague = VAGUE_SPLIT_WORDS | IMAGE_WORDS | {"set", "sets", "split"}
    return bool(words) and set(words) <= vague and not VAGUE_SPLIT_WORDS.isdisjoint(words)


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Returns the names among siblings that are splits, with what they are.

    A further word is passed over where siblings of different splits share it, as in `cars_train`,
    `cars_test`.
    """
    parted = {name: split_and_rest(name) for name in names}
    plain = {name: split for name, (split, rest) in parted.items() if split and not rest}
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for name, (split, rest) in parted.items():
        if split:
            by_rest.setdefault(rest, {})[name] = split
    for rest, members in by_rest.items():
        if rest and not plain and len(set(members.values())) > 1 and len(by_rest) == 1:
            return members
    return plain


def are_chunks(names: Iterable[str]) -> bool:
    """Returns whether folder names are those of numbered pieces, such as `images_part_1`,
    `images_part_2`.
    """
    parted = [tokens(name) for name in names]
    rests = {tuple(word for word in words if not word.isdigit()) for words in parted}
    numbered = all(any(map(str.isdigit, words)) for words in parted)
    return len(rests) == 1 and numbered and not CHUNK_WORDS.isdisjoint(next(iter(rests)))


def is_fold(name: str) -> bool:
    """Whether a name is that of a numbered fold."""
    words = tokens(name)
    return len(words) == 2 and words[0] in ("fold", "cv", "kfold") and words[1].isdigit()


def is_id(name: str, *, strict: bool = False) -> bool:
    """Whether a folder's name looks like the number of a patient, a video or the like.

    `strict` asks for a word that says so (`patient_3`); else long numbers and one letter with a
    number do as well.
    """
    words = tokens(name)
    if any(word in ID_WORDS for word in words[:-1]) and words[-1].isdigit():
        return True
    if strict or re.fullmatch(r"(19|20)\d\d", name):  # a year is no patient
        return False
    return bool(
        re.fullmatch(
            r"\d{3,}|[A-Za-z]{1,4}[-_ ]?\d{2,}[\w-]*|[A-Za-z]?\d+[-_]\d+|[0-9a-f]{16,}", name
        )
    )


def plain_name(name: str) -> str:
    """Returns a class name as it is certainly meant: NFC, no invisible characters, single spaces,
    none at the ends.
    """
    return _SPACES.sub(" ", _INVISIBLE.sub("", unicodedata.normalize("NFC", name))).strip()


def skeleton(name: str) -> str:
    """Returns what two class names share that a reader takes for the same: case, look-alike
    letters, separators, quotes, `.0` behind a whole number.
    """
    text = unicodedata.normalize("NFKC", plain_name(name)).translate(_LOOK_ALIKES)
    if re.fullmatch(r"[-+]?[\d.,]+", text):
        return re.sub(r"\.0+$", "", text)  # -1 and 1 are two classes
    return re.sub(r"[\s_\-'\"]+", " ", text).casefold().strip()


def column_key(name: str) -> str:
    """Returns a column's name in lower case with single underscores: `Finding Labels` is
    finding_labels.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", _without_accents(name))
    return re.sub(r"\W+", "_", spaced).strip("_").lower()
