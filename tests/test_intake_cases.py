"""Odd data sets as people have them: public layouts rebuilt small, one case a name, with what each
must give. A second part holds their pixels.
"""

import json
import unicodedata

import numpy as np
import pytest
from intake_folders import each, fill, labels, read, splits, table
from PIL import Image

from lib.cleaning import clean, scan
from lib.data import intake
from lib.errors import DarkroomError

CDO = ("cat", "dog", "owl")
SIXTEEN = each("images/{i}.png", n=16)
NAMES = [name.rsplit("/", 1)[-1] for name in SIXTEEN]


def cycle(values, n=16):
    return [values[at % len(values)] for at in range(n)]


def flat(root, header, rows, name="labels.csv", names=tuple(SIXTEEN), **style):
    return table(fill(root, *names), header, rows, name, **style)


def lines(root, name, rows):
    return table(root, "", rows, name, sep=" ")


# -- The cases that were reported: (number of images of each class, of each split, the group) ------


def c01_split_folders_by_other_names(root):
    fill(root, *each("training_set/{c}/{i}.png", c=CDO), *each("test_set/{c}/{i}.png", n=2, c=CDO))
    return dict.fromkeys(CDO, 6), {"train": 12, "test": 6}, None


def c03_intel_scenes(root):
    fill(
        root,
        *each("seg_train/seg_train/{c}/{i}.png", c=CDO),
        *each("seg_test/seg_test/{c}/{i}.png", n=2, c=CDO),
        *each("seg_pred/seg_pred/{i}.png"),
    )
    return dict.fromkeys(CDO, 6), {"train": 12, "test": 6}, None


def c05_a_folder_of_annotations_beside_the_splits(root):
    fill(root, *each("train/{c}/{i}.png", c=CDO), *each("test/{c}/{i}.png", n=2, c=CDO))
    (root / "annotations").mkdir()
    (root / "annotations" / "0.xml").write_text("<a/>")
    return dict.fromkeys(CDO, 6), {"train": 12, "test": 6}, None


def c08_patients_above_the_classes(root):
    fill(root, *each("{p}/{c}/{i}.png", p=("10250", "10251", "10252", "10253"), c=("0", "1")))
    return {"0": 16, "1": 16}, {}, "folder level 1"


def c09_names_in_other_case_space_and_unicode_form(root):
    forms = [unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD")]
    fill(root, *each("{c}/{i}.png", c=[*forms, "Dog", "dog", "owl", "owl "]))
    return {forms[0]: 8, "dog": 8, "owl": 8}, {}, None


def c16_ids_with_leading_zeros_and_no_ending(root):
    flat(root, "id,label", zip([name[:-4] for name in NAMES], cycle("ab"), strict=True))
    return {"a": 8, "b": 8}, {}, None


def c17_labels_with_leading_zeros(root):
    rows = zip(NAMES, cycle(["01", "1", "007", "10"]), strict=True)
    flat(root, "image,label", rows)
    return {"007": 4, "01": 4, "1": 4, "10": 4}, {}, None


def c20_one_hot(root):
    rows = [(name, *(int(at % 4 == k) for k in range(4))) for at, name in enumerate(NAMES)]
    flat(root, "image_id,healthy,rust,scab,rot", rows, "train.csv")
    return {"healthy": 4, "rot": 4, "rust": 4, "scab": 4}, {"train": 16}, None


def c21_no_header(root):
    flat(root, "", zip(SIXTEEN, cycle("ab"), strict=True))
    return {"a": 8, "b": 8}, {}, None


def c22_semicolons_and_a_byte_order_mark(root):
    rows = zip(NAMES, cycle("ab"), cycle(["1,5"]), strict=True)
    flat(root, "image;label;weight", rows, sep=";", encoding="utf-8-sig")
    return {"a": 8, "b": 8}, {}, None


def c24_files_that_the_table_does_not_name(root):
    flat(root, "image,label", list(zip(NAMES, cycle("ab"), strict=True))[:10])
    return {"a": 5, "b": 5}, {}, None


def c25_a_sample_submission(root):
    fill(root, *each("images/Train_{i}.png", n=12), *each("images/Test_{i}.png", n=6))
    train, test = ([p.stem for p in sorted(root.rglob(f"{s}_*"))] for s in ("Train", "Test"))
    table(root, "image_id,label", zip(train, cycle("abc", 12), strict=True), "train.csv")
    table(root, "image_id,label", zip(test, cycle("ccc", 6), strict=True), "sample_submission.csv")
    table(root, "image_id", [(name,) for name in test], "test.csv")
    return {"a": 4, "b": 4, "c": 4}, {"train": 12}, None


def c27_a_table_of_patients_beside_class_folders(root):
    fill(root, *each("{c}/{i}.png", c=CDO, n=9))
    paths = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    rows = [(path, f"P{at // 3}", 48) for at, path in enumerate(paths)]
    table(root, "file,patient,width", rows, "info.csv")
    return dict.fromkeys(CDO, 9), {}, "column patient"


def c28_ham10000(root):
    rows = zip(
        [f"HAM_{at // 2}" for at in range(16)],
        [name[:-4] for name in NAMES],
        cycle(["nv", "mel"]),
        cycle(["histo"]),
        range(40, 56),
        cycle(["male"]),
        strict=True,
    )
    flat(root, "lesion_id,image_id,dx,dx_type,age,sex", rows, "HAM_metadata.csv")
    return {"mel": 8, "nv": 8}, {}, "column lesion_id"


def c32_hugging_face_metadata(root):
    for split, number in (("train", 8), ("test", 4)):
        names = each("{i}.png", n=number)
        fill(root / split, *names)
        rows = zip(names, cycle("ab", number), strict=True)
        table(root / split, "file_name,label", rows, "metadata.csv")
    return {"a": 6, "b": 6}, {"train": 8, "test": 4}, None


def c33_ids_of_a_flat_train_folder(root):
    fill(root, *[f"train/{at:032x}.tif" for at in range(12)])
    rows = [(f"{at:032x}", at % 2) for at in range(12)]
    table(root, "id,label", rows, "train_labels.csv")
    return {"0": 6, "1": 6}, {"train": 12}, None


def c53_renditions_above_the_classes(root):
    fill(root, *each("{r}/{c}/{i}.png", r=("color", "grayscale"), c=CDO))
    return dict.fromkeys(CDO, 8), {}, None


def c66_files_that_are_not_there(root):
    rows = zip([*NAMES, "x1.png", "x2.png"], cycle("ab", 18), strict=True)
    flat(root, "image,label", rows)
    return {"a": 9, "b": 9}, {}, None  # the scan counts two of them as missing


def c80_folds_above_the_classes(root):
    fill(root, *each("{f}/{c}/{i}.png", f=("fold_0", "fold_1", "fold_2"), c=("all", "hem")))
    return {"all": 12, "hem": 12}, {}, "folder level 1"


def c82_a_class_of_another_name_in_the_test_folder(root):
    fill(
        root,
        *each("train/{c}/{i}.png", c=("ripe", "unripe")),
        *each("test/{c}/{i}.png", c=("ripe", "not ripe"), n=2),
    )
    return {"not ripe": 2, "ripe": 6, "unripe": 4}, {"train": 8, "test": 4}, None


def c85_products(root):
    names = each("images/{i}.png", n=40)
    rows = [
        (name.rsplit("/", 1)[-1], "ab"[at // 4 % 2], f"p{at // 4}") for at, name in enumerate(names)
    ]
    flat(root, "image,label,product_id", rows, names=tuple(names))
    return {"a": 20, "b": 20}, {}, "column product_id"


# -- Others of the same kinds ----------------------------------------------------------------------


def cub_200(root):
    fill(root, *each("images/{c}/A_{i}.jpg", c=("001.Auk", "002.Tern"), n=6))
    paths = sorted(p.relative_to(root / "images").as_posix() for p in root.rglob("*.jpg"))
    lines(root, "images.txt", [(at + 1, path) for at, path in enumerate(paths)])
    lines(root, "image_class_labels.txt", [(at + 1, at // 6 + 1) for at in range(12)])
    lines(root, "train_test_split.txt", [(at + 1, int(at % 3 > 0)) for at in range(12)])
    lines(root, "classes.txt", [(1, "001.Auk"), (2, "002.Tern")])
    return {"001.Auk": 6, "002.Tern": 6}, {"train": 8, "test": 4}, None


def a_label_text_beside_each_picture(root):
    fill(root, *SIXTEEN)
    for name, label in zip(SIXTEEN, cycle(CDO), strict=True):
        (root / name).with_suffix(".txt").write_text(label + "\n")
    return {"cat": 6, "dog": 5, "owl": 5}, {}, None


def yolo_texts_of_equal_names_in_two_splits(root):
    for split, shift in (("train", 0), ("val", 1)):
        fill(root, *[f"images/{split}/{at}.jpg" for at in range(6)])
        (root / "labels" / split).mkdir(parents=True)
        for at in range(6):
            text = f"{min(1, at // 3 + shift)} 0.5 0.5 0.2 0.2"
            (root / "labels" / split / f"{at}.txt").write_text(text)
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    return {"cat": 3, "dog": 9}, {"train": 6, "val": 6}, None


def labelme(root):
    fill(root, *SIXTEEN)
    for name, label in zip(SIXTEEN, cycle(CDO), strict=True):
        (root / name).with_suffix(".json").write_text(json.dumps({"shapes": [{"label": label}]}))
    return {"cat": 6, "dog": 5, "owl": 5}, {}, None


def json_under_a_key(root):
    records = [{"file": name, "label": at % 2} for at, name in enumerate(NAMES)]
    fill(root, *SIXTEEN)
    (root / "meta.json").write_text(json.dumps({"info": {"year": 1, "by": 2}, "data": records}))
    return {"0": 8, "1": 8}, {}, None


def json_of_records_by_name(root):
    fill(root, *SIXTEEN)
    records = {name: {"label": "ab"[at % 2], "patient": at // 4} for at, name in enumerate(NAMES)}
    (root / "meta.json").write_text(json.dumps(records))
    return {"a": 8, "b": 8}, {}, "column patient"


def json_of_splits(root):
    fill(root, *SIXTEEN)
    rows = [[name, at % 2, "ab"[at % 2]] for at, name in enumerate(NAMES)]
    parts = {"train": rows[:8], "val": rows[8:12], "test": rows[12:]}
    (root / "split.json").write_text(json.dumps(parts))
    return {"a": 8, "b": 8}, {"train": 8, "val": 4, "test": 4}, None


def chest_x_ray_lists_of_train_val_and_test(root):
    rows = zip(NAMES, cycle(["Mass", "No Finding"]), [at // 3 for at in range(16)], strict=True)
    flat(root, "Image Index,Finding Labels,Patient ID", rows, "Data_Entry.csv")
    lines(root, "train_val_list.txt", [(name,) for name in NAMES[:12]])
    lines(root, "test_list.txt", [(name,) for name in NAMES[12:]])
    return {"Mass": 8, "No Finding": 8}, {"train": 12, "test": 4}, "column Patient ID"


def cars_of_equal_names_in_two_folders(root):
    for split, shift in (("train", 0), ("test", 1)):
        names = [f"{at:05}.jpg" for at in range(6)]
        fill(root, *[f"cars_{split}/{name}" for name in names])
        rows = [(name, 1, 2, 8, 9, "ab"[min(1, at // 3 + shift)]) for at, name in enumerate(names)]
        table(root, "", rows, f"anno_{split}.csv")
    return {"a": 3, "b": 9}, {"train": 6, "test": 6}, None


def celeba(root):
    names = [f"{at:06}.jpg" for at in range(12)]
    fill(root, *[f"img/{name}" for name in names])
    rows = [(name, 1 if at % 2 else -1, -1 if at % 2 else 1) for at, name in enumerate(names)]
    text = "".join(f"{name} {one:2} {other:2}\n" for name, one, other in rows)
    (root / "list_attr_celeba.txt").write_text("12\nSmiling Serious\n" + text)
    lines(root, "list_eval_partition.txt", [(name, at // 5) for at, name in enumerate(names)])
    return {"Serious": 6, "Smiling": 6}, {"train": 5, "val": 5, "test": 2}, None


def masks_in_the_class_folders(root):
    names = [
        f"{c}/{c} ({at}){end}" for c in CDO for at in range(4) for end in (".png", "_mask.png")
    ]
    fill(root / "BUSI", *names, "cat/cat (1)_mask_1.png")
    return dict.fromkeys(CDO, 4), {}, None


def augmented_copies_by_their_names(root):
    fill(
        root,
        *[f"{c}/{at}{end}.png" for c in CDO for at in range(4) for end in ("", "_aug1", "_flip")],
    )
    return dict.fromkeys(CDO, 12), {}, "file name before _aug, _flip or the like (augmented copies)"


def tables_of_two_splits_with_other_columns(root):
    fill(root, *SIXTEEN)
    rows = list(zip(NAMES, cycle("ab"), cycle(["web"]), strict=True))
    table(root, "image,label,source", rows[:12], "train.csv")
    table(root, "image,label", [row[:2] for row in rows[12:]], "valid.csv")
    return {"a": 8, "b": 8}, {"train": 12, "val": 4}, None


def a_class_list_names_the_numbers_and_is_no_attribute(root):
    flat(root, "image_id,label", zip(NAMES, cycle([0, 1]), strict=True), "train.csv")
    (root / "names.json").write_text('{"0": "blight", "1": "healthy"}')
    return {"blight": 8, "healthy": 8}, {"train": 16}, None


def minus_one_and_one_are_two_classes(root):
    flat(root, "image,label", zip(NAMES, cycle([-1, 1]), strict=True))
    return {"-1": 8, "1": 8}, {}, None


CASES = [
    c01_split_folders_by_other_names,
    c03_intel_scenes,
    c05_a_folder_of_annotations_beside_the_splits,
    c08_patients_above_the_classes,
    c09_names_in_other_case_space_and_unicode_form,
    c16_ids_with_leading_zeros_and_no_ending,
    c17_labels_with_leading_zeros,
    c20_one_hot,
    c21_no_header,
    c22_semicolons_and_a_byte_order_mark,
    c24_files_that_the_table_does_not_name,
    c25_a_sample_submission,
    c27_a_table_of_patients_beside_class_folders,
    c28_ham10000,
    c32_hugging_face_metadata,
    c33_ids_of_a_flat_train_folder,
    c53_renditions_above_the_classes,
    c66_files_that_are_not_there,
    c80_folds_above_the_classes,
    c82_a_class_of_another_name_in_the_test_folder,
    c85_products,
    cub_200,
    a_label_text_beside_each_picture,
    yolo_texts_of_equal_names_in_two_splits,
    labelme,
    json_under_a_key,
    json_of_records_by_name,
    json_of_splits,
    chest_x_ray_lists_of_train_val_and_test,
    cars_of_equal_names_in_two_folders,
    celeba,
    masks_in_the_class_folders,
    augmented_copies_by_their_names,
    tables_of_two_splits_with_other_columns,
    a_class_list_names_the_numbers_and_is_no_attribute,
    minus_one_and_one_are_two_classes,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_case_is_read_as_meant(tmp_path, case):
    classes, split, group = case(tmp_path)
    reading = read(tmp_path)
    assert (labels(reading), splits(reading), reading.group) == (classes, split, group)
    if case is a_class_list_names_the_numbers_and_is_no_attribute:
        assert not [name for name in reading.rows if name.startswith("attr_")]


# -- Cases with two readings, and the option that decides ------------------------------------------


def c12_links_out_of_the_folder(root):
    fill(root / "store", *each("{c}/{i}.png", c=CDO))
    for file in sorted((root / "store").rglob("*.png")):
        target = root / "sel" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    return root / "sel"


def c13_the_class_in_the_file_name(root):
    return fill(root, *[f"train/{name}.{at}.png" for name in ("cat", "dog") for at in range(8)])


def c19_rows_with_other_labels(root):
    rows = [(name, label) for name in NAMES for label in ("car", "bus")]
    return flat(root, "filename,class", rows)


def two_objects_of_mvtec(root):
    for name in ("bottle", "cable"):
        fill(
            root,
            *each(f"{name}/train/good/{{i}}.png"),
            *each(f"{name}/test/crack/{{i}}.png"),
            *each(f"{name}/test/good/{{i}}.png"),
            *[f"{name}/ground_truth/crack/{at}_mask.png" for at in range(4)],
        )
    return root


def ham10000_twice(root):
    for folder in ("HAM_part_1", "ham_part_1b"):
        fill(root, *[f"{folder}/ISIC_{at}.jpg" for at in range(8)])
    rows = [(f"ISIC_{at}", "ab"[at % 2]) for at in range(8)]
    return table(root, "image_id,dx", rows, "meta.csv")


def folds_with_a_split_of_their_own(root):
    return fill(
        root,
        *[
            f"fold{f}/{'val' if at % 3 == f else 'train'}/{c}/{at}.png"
            for f in range(3)
            for c in CDO
            for at in range(6)
        ],
    )


def tags_between_spaces(root):
    tags = cycle(["haze primary", "clear primary", "clear", "primary water"])
    return flat(root, "image_name,tags", zip(NAMES, tags, strict=True))


def binary_columns_of_which_several_are_one(root):
    rows = [(name[:-4], at % 2, at // 2 % 2, int(at % 3 == 0)) for at, name in enumerate(NAMES)]
    return flat(root, "Id,Eyes,Face,Near", rows)


QUESTIONS = [
    (c12_links_out_of_the_folder, "links=follow", {"links": "follow"}, dict.fromkeys(CDO, 4)),
    (c13_the_class_in_the_file_name, "label=name", {"label": "name"}, {"cat": 8, "dog": 8}),
    (
        c19_rows_with_other_labels,
        "16 rows .* another label.*several=last",
        {"several": "last"},
        {"bus": 16},
    ),
    (two_objects_of_mvtec, "level=1 .*level=3", {"level": "3"}, {"crack": 8, "good": 16}),
    (ham10000_twice, "several times.*ignore=FOLDER", {"ignore": "ham_part_1b"}, {"a": 4, "b": 4}),
    (
        folds_with_a_split_of_their_own,
        "ignore=fold1,fold2",
        {"ignore": "fold1,fold2"},
        dict.fromkeys(CDO, 6),
    ),
    (
        tags_between_spaces,
        "several labels.*several=all",
        {"several": "join"},
        {"clear": 4, "clear primary": 4, "haze primary": 4, "primary water": 4},
    ),
    (
        binary_columns_of_which_several_are_one,
        "several labels.*several=drop",
        {"label": "Face"},
        {"0": 8, "1": 8},
    ),
]


@pytest.mark.parametrize(
    ("case", "sentence", "options", "classes"), QUESTIONS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_case_of_two_readings_is_asked(tmp_path, case, sentence, options, classes):
    folder = case(tmp_path)
    with pytest.raises(DarkroomError, match=sentence):
        read(folder)
    assert labels(read(folder, **options)) == classes


def test_what_c24_c66_c82_leave_out_is_counted(tmp_path):
    reading = {}
    for case in (
        c24_files_that_the_table_does_not_name,
        c66_files_that_are_not_there,
        c82_a_class_of_another_name_in_the_test_folder,
    ):
        case(tmp_path / case.__name__)
        reading[case.__name__[:3]] = read(tmp_path / case.__name__)
    assert reading["c24"].files_not_used["unlabelled: not named in labels.csv"] == 6
    assert reading["c66"].rows_not_used["missing: the file is not there"] == 2
    (note,) = reading["c82"].notes
    assert "'not ripe' is in test only" in note and "'unripe' is in train only" in note


def test_lists_that_divide_in_different_ways_are_no_split_until_one_is_chosen(tmp_path):
    fill(tmp_path, *each("images/{c}/{c}_{i}.jpg", c=CDO, n=3))
    paths = sorted(p.relative_to(tmp_path / "images").as_posix() for p in tmp_path.rglob("*.jpg"))
    for series in (1, 2):  # as the Describable Textures Dataset does
        for at, split in enumerate(("train", "val", "test")):
            rows = [(path,) for place, path in enumerate(paths) if (place + series) % 3 == at]
            lines(tmp_path, f"labels/{split}{series}.txt", rows)
    reading = read(tmp_path)
    assert splits(reading) == {} and "split=labels/test1.txt" in reading.notes[0]
    chosen = read(tmp_path, split="train2.txt")
    assert splits(chosen) == {"train": 3, "val": 3, "test": 3}
    first = chosen.rows.set_index("path")["source_split"][f"images/{paths[0]}"]
    assert first == "test"  # (0 + 2) % 3


def test_ids_in_file_names_are_reported(tmp_path):
    fill(tmp_path, *[f"{'ab'[p % 2]}/P{p:02}_{at}.png" for p in range(8) for at in range(3)])
    reading = read(tmp_path)
    assert reading.group is None and "such as P00, P01" in reading.notes[0]
    pattern = reading.notes[0].partition("group=")[2].partition(" keeps")[0]
    assert read(tmp_path, group=pattern).rows["source_group"].nunique() == 8


# -- Pixels ----------------------------------------------------------------------------------------


def picture(kind, side=32):
    rng = np.random.default_rng(kind)
    blobs = np.kron(rng.integers(40, 200, (4, 4, 1)), np.ones((side // 4, side // 4, 1)))
    return np.clip(blobs + rng.integers(-25, 25, (side, side, 3)), 0, 255)


def c40_twelve_bits_in_sixteen(path, kind):
    stored = (picture(kind).mean(2) / 255 * 4095).astype(np.uint16)
    Image.fromarray(stored).save(f"{path}.png")
    return picture(kind).mean(2)


def c71_floats_that_overshoot(path, kind):
    grey = picture(kind).mean(2) / 255
    grey = (grey / grey.max() * (1.002 if kind % 3 == 0 else 0.99)).astype(np.float32)
    Image.fromarray(grey).save(f"{path}.tif")
    return grey * 255 / 1.002


@pytest.mark.parametrize(
    "case", [c40_twelve_bits_in_sixteen, c71_floats_that_overshoot], ids=lambda case: case.__name__
)
def test_values_of_more_than_eight_bits_have_one_scale(tmp_path, monkeypatch, case):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    expected = {}
    for kind in range(6):
        folder = tmp_path / "set" / "ab"[kind % 2]
        folder.mkdir(parents=True, exist_ok=True)
        expected[kind] = case(folder / str(kind), kind)
    data = intake.bring(str(tmp_path / "set"))
    cleaned = clean.clean(data, workers=1)
    assert "in all of them (range=LOW..HIGH" in " ".join(scan.notes(data, cleaned.scanned))
    for row in cleaned.scanned.itertuples():
        kind = int(row.path.rsplit("/", 1)[-1].partition(".")[0])
        shown = data.image(row.path).pixels[..., 0]
        np.testing.assert_allclose(shown, expected[kind], atol=1)


def test_c53_twins_of_two_renditions_share_a_group(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for kind in range(8):
        colour = Image.fromarray(picture(kind, 64).astype(np.uint8))
        for folder, image in (("color", colour), ("grayscale", colour.convert("L"))):
            path = tmp_path / "set" / folder / "ab"[kind % 2] / f"{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    cleaned = clean.clean(intake.bring(str(tmp_path / "set")), workers=1)
    sizes = cleaned.manifest.groupby("group")["path"].nunique()
    assert list(sizes) == [2] * 8
