"""The comparison and its page: the numbers are the tables' own, nothing unequal is mixed, and the
page stands alone.
"""

import html.parser
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.errors import DarkroomError
from lib.evaluation import comparison, predictions
from lib.reporting import comparison_page

CLASSES = ["<b>café</b>", "猫 & 🐈", "x $1$"]


def make_run(
    logs, arm, seed, *, accuracy, classes=CLASSES, data_hash="h", num=60, offset=0, **result
):
    generator = np.random.default_rng(seed * 10 + offset)
    k = len(classes)
    truth = np.arange(num) % k
    splits = np.where(
        np.arange(num) % 4 == 0, "test", np.where(np.arange(num) % 4 == 1, "val", "train")
    )
    said = np.where(generator.random(num) < accuracy, truth, (truth + 1) % k)
    probabilities = np.full((num, k), 0.1 / (k - 1))
    probabilities[np.arange(num), said] = 0.9
    frame = predictions.table(
        [f"{index:03d} <i>.png" for index in range(num)],
        splits=splits,
        labels=[classes[index] for index in truth],
        groups=range(num),
        probabilities=probabilities,
        class_names=classes,
    )
    folder = logs / f"{arm}-s{seed}"
    folder.mkdir(parents=True)
    predictions.write(
        folder / "predictions.parquet", frame, {"class_names": classes, "data_hash": data_hash}
    )
    (folder / "environment.json").write_text(
        json.dumps({"versions": {"keras": "3.15"}, "device": "cpu"})
    )
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "loss": [1, 0.5],
            "accuracy": [0.5, 0.8],
            "val_loss": [1, 0.6],
            "val_accuracy": [0.5, 0.7],
        }
    )
    history.to_csv(folder / "history.csv", index=False)
    told = {
        "arm": arm,
        "seed": seed,
        "seconds": 12.5,
        "num_parameters": 1000,
        "audit": [{"guard": "D", "outcome": "flagged", "message": "moved"}],
    }
    (folder / "result.json").write_text(json.dumps(told | result))
    return folder


@pytest.fixture
def runs(tmp_path):
    made = [
        make_run(tmp_path / "train", "cnn", seed, accuracy=0.6, num=600, offset=5)
        for seed in range(3)
    ]
    return made + [
        make_run(tmp_path / "train", "resnet", seed, accuracy=0.95, num=600) for seed in range(3)
    ]


def test_the_best_arm_comes_first_with_its_numbers(runs):
    found = comparison.comparison(runs)
    assert list(found.arms) == ["resnet", "cnn"]
    row = found.table.iloc[0]
    tests = [unit.predictions.split("test") for unit in found.arms["resnet"]]
    assert row["accuracy"] == pytest.approx(
        np.mean([(part.truth == part.predicted).mean() for part in tests])
    )
    assert (row["seeds"], row["num_test"], row["num_parameters"]) == (3, 150, 1000)
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert found.verdicts[0].startswith("resnet is better than cnn (accuracy +")
    assert found.confusion("resnet").sum() == 450
    shown = found.shown
    assert shown["arm"].tolist() == ["resnet", "cnn"]
    assert re.fullmatch(r"\d\d\.\d ± \d\.\d %", shown.loc[0, "accuracy"])


def test_classes_and_images_on_which_arms_differ(runs):
    found = comparison.comparison(runs, metric="kappa")
    table = found.per_class("recall")
    on_validation = found._per_class("recall", "val").loc[table.index]
    assert (on_validation["resnet"] - on_validation["cnn"]).abs().is_monotonic_decreasing
    hardest = found.hardest(5)
    assert hardest["of_truth"].is_monotonic_increasing
    assert (hardest["num_runs"] == 6).all()
    assert set(hardest["predicted"]) <= set(CLASSES)


def test_what_cannot_stand_in_one_table_is_refused(tmp_path, runs):
    other = make_run(tmp_path / "other", "vgg", 0, accuracy=0.9, data_hash="z")
    with pytest.raises(DarkroomError, match=r"measured on different data \(seed 0\)"):
        comparison.comparison([*runs, other])
    other = make_run(tmp_path / "classes", "vgg", 0, accuracy=0.9, classes=["a", "b", "c"])
    with pytest.raises(DarkroomError, match="have other class names"):
        comparison.comparison([*runs, other])
    twin = make_run(tmp_path / "twin", "cnn", 0, accuracy=0.9)
    with pytest.raises(DarkroomError, match="are both cnn, seed 0"):
        comparison.comparison([*runs, twin])
    with pytest.raises(DarkroomError, match="nothing to compare"):
        comparison.comparison([])
    with pytest.raises(DarkroomError, match="has not finished"):
        comparison.comparison([tmp_path])
    with pytest.raises(DarkroomError, match="`metric` must be one of auto, accuracy"):
        comparison.comparison(runs, metric="acuracy")


def test_against_one_arm_there_are_fewer_tests_to_correct_for(tmp_path, runs):
    third = [
        make_run(tmp_path / "train", "plain", seed, accuracy=0.5, num=600, offset=9)
        for seed in range(3)
    ]
    every = comparison.comparison([*runs, *third])
    found = comparison.comparison([*runs, *third], against="plain")
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("resnet", "plain"),
        ("cnn", "plain"),
    ]
    assert [pair.num_pairs for pair in (*every.pairs, *found.pairs)] == [3, 3, 3, 2, 2]
    ours, theirs = (
        next(pair for pair in each.pairs if pair.first == "cnn") for each in (found, every)
    )
    assert ours.p == theirs.p and ours.p_adjusted <= theirs.p_adjusted
    lead = next(flag for flag in found.audit if flag["check"] == "lead_is_significant")
    assert lead["outcome"] == "not_judged"
    with pytest.raises(DarkroomError, match="Received: 'plane'. Did you mean 'plain'"):
        comparison.comparison([*runs, *third], against="plane")


def test_other_data_at_another_seed_is_another_split_and_allowed(tmp_path):
    runs = [
        make_run(tmp_path, arm, seed, accuracy=0.8, data_hash=f"h{seed}")
        for arm in ("a", "b")
        for seed in (0, 1)
    ]
    assert len(comparison.comparison(runs).runs) == 4


def test_finished_runs_are_found_and_others_left_out(tmp_path, runs):
    (tmp_path / "train" / "cnn-s9").mkdir()
    assert comparison.finished_runs(tmp_path / "train") == sorted(runs)
    (tmp_path / "train" / "cnn-s9" / "result.json").write_text('{"accuracy": 0.9, "checksum": "x"}')
    with pytest.raises(
        DarkroomError, match="cnn-s9 cannot be compared: its result.json is damaged"
    ):
        comparison.finished_runs(tmp_path / "train")


class Page(html.parser.HTMLParser):
    """What a page holds, for looking at: its tags with attributes, and whether they are closed in
    order.
    """

    void = ("meta", "img", "source", "br", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def raw_folder(tmp_path, runs):
    raw = tmp_path / "raw"
    raw.mkdir()
    frame = predictions.read(runs[0] / "predictions.parquet").frame
    for path in frame["path"][:-1]:
        picture = Image.new("RGB", (40, 20), "teal")
        picture.save(raw / path)
    (raw / frame["path"].iloc[-1]).write_bytes(b"no image")
    return raw


def test_the_page_is_self_contained_and_escapes_every_name(tmp_path, runs):
    found = comparison.comparison(runs)
    path = comparison_page.write(
        found,
        tmp_path / "compare",
        question="Is <script>alert(1)</script> better?",
        published={
            "vgg19": {
                "title": "Deitsch 2019",
                "accuracy": 0.8842,
                "n": 656,
                "url": "https://example.org/?a=1&b=2",
            }
        },
        raw=raw_folder(tmp_path, runs),
        notes={"command": "darkroom run quickstart", "openings": {"grouped_seed0": 12}},
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert "&lt;b&gt;café&lt;/b&gt;" in text and "<b>café" not in text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert pictures and all(
        attributes["alt"] and attributes["src"].startswith("data:image/") for attributes in pictures
    )
    assert not [
        1
        for tag, attributes in page.tags
        if tag in ("script", "iframe")
        or (tag == "link" and not attributes["href"].startswith("data:image/svg+xml,"))
        or "http" in str(attributes.get("src"))
    ]
    words = " ".join(page.words)
    assert found.verdicts[0] in words
    assert "was read 12 times" in words and "published by others" in words and "moved" in words
    targets = [
        attributes["popovertarget"]
        for tag, attributes in page.tags
        if "popovertarget" in attributes
    ]
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert targets and set(targets) <= set(identities) and len(identities) == len(set(identities))
    assert (
        "88.4 %" in words and "85.7 to 90.6 %" in words
    )  # the interval that 656 images give the published figure
    assert "Deitsch 2019 (published)" in words and "vgg19" not in words  # by title, not by key
    assert (
        "Deitsch 2019 (88.4 %, published by others, on other images) lies below the interval of "
        "resnet" in words
    )
    brief = (tmp_path / "compare" / "comparison.csv").read_text(encoding="utf-8").splitlines()
    assert brief[0] == "arm,seeds,accuracy,kappa,seconds"
    assert re.fullmatch(
        r"resnet,3,9\d\.\d % \(.* to .*\),0\.\d\d \(.*\) almost perfect,12", brief[1]
    )
    assert max(map(len, brief)) < 90
    numbers = pd.read_csv(tmp_path / "compare" / "arms.csv")
    assert numbers["accuracy"].tolist() == pytest.approx(found.table["accuracy"].tolist())
    assert (tmp_path / "compare" / "seeds" / "resnet" / "mean").is_dir()


def test_openings_and_memory_come_from_the_runs(tmp_path):
    told = {"split": "grouped_seed0", "peak_memory_bytes": 1_500_000_000}
    runs = [
        make_run(tmp_path, "only", seed, accuracy=0.9, test_openings=3 + seed, **told)
        for seed in (0, 1)
    ]
    found = comparison.comparison(runs)
    assert found.openings == {"grouped_seed0": 4}
    assert found.shown["memory"].tolist() == ["1.5 GB"]
    assert "The test split grouped_seed0 was read 4 times" in " ".join(
        Page(comparison_page.render(found)).words
    )


def test_a_model_of_many_classes_is_next_to_one_of_the_groups(tmp_path):
    fine = [make_run(tmp_path, "fine", seed, accuracy=0.95, num=400) for seed in range(3)]
    groups = {CLASSES[0]: "coffee"}
    direct = []
    for seed in range(3):
        one = predictions.read(fine[seed] / "predictions.parquet")
        folded = predictions.fold(one, groups, rest="rest")
        frame = folded.frame.assign(
            p_coffee=1 - folded.frame["p_coffee"], p_rest=1 - folded.frame["p_rest"]
        )
        direct.append(make_run(tmp_path, "direct", seed, accuracy=0.9))
        about = {"class_names": ["coffee", "rest"], "data_hash": f"other {seed}"}
        predictions.write(direct[-1] / "predictions.parquet", frame, about)
    with pytest.raises(DarkroomError, match="have other class names"):
        comparison.comparison([*fine, *direct])
    found = comparison.comparison([*fine, *direct], fold=groups)
    assert found.class_names == ("coffee", "rest")
    assert found.verdicts[0].startswith("fine is better than direct")
    assert [unit.history is None for unit in found.runs] == [True] * 3 + [
        False
    ] * 3  # epochs of other classes
    assert comparison_page.drawings(found)["curves"].alt.count("direct") == 1


def test_the_page_without_pictures_with_one_arm_and_many_classes(tmp_path):
    classes = [f"class {index:02d}" for index in range(25)]
    runs = [make_run(tmp_path, "only", 0, accuracy=0.9, classes=classes, num=400)]
    text = comparison_page.render(comparison.comparison(runs))
    assert "There is only one arm" in text
    assert "Fewer than three trainings: only (1)" in text
    assert 'alt="only: ' in text
    assert 1 <= len(re.findall(r"<summary>class \d\d predicted as class \d\d: 1 ", text)) <= 12


def make_multilabel_run(logs, arm, seed, *, hit, num=400):
    generator = np.random.default_rng(7)
    truths = generator.random((num, 3)) < [0.5, 0.3, 0.2]
    generator = np.random.default_rng([seed, round(100 * hit)])
    said = np.where(generator.random((num, 3)) < hit, truths, ~truths)
    splits = np.resize(["test", "val", "train", "train"], num)
    names = ["action", "comedy", "noir"]
    frame = predictions.table(
        [f"{index:03d}.png" for index in range(num)],
        splits=splits,
        labels=[[name for name, there in zip(names, row, strict=True) if there] for row in truths],
        groups=range(num),
        probabilities=np.where(said, 0.8, 0.1) + 0.1 * generator.random((num, 3)),
        class_names=names,
    )
    folder = logs / f"{arm}-s{seed}"
    folder.mkdir(parents=True)
    facts = {"class_names": names, "data_hash": "h", "kind": "multilabel"}
    predictions.write(folder / "predictions.parquet", frame, facts)
    (folder / "result.json").write_text(json.dumps({"arm": arm, "seed": seed}))
    return folder


def test_models_of_several_labels_are_compared(tmp_path):
    runs = [
        make_multilabel_run(tmp_path / "train", arm, seed, hit=hit)
        for arm, hit in (("weak", 0.75), ("strong", 0.95))
        for seed in range(3)
    ]
    found = comparison.comparison(runs)
    assert (found.metric, list(found.arms), found.winner) == (
        "macro_f1", ["strong", "weak"], "strong",
    )  # fmt: skip
    row = found.table.iloc[0]
    assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"] <= 1
    assert 0 < row["kappa_low"] < row["kappa"] < row["kappa_high"] < 1
    counts = found.label_counts()["weak"]
    assert (counts.sum(axis=1) == 3 * 100).all()
    page = comparison_page.write(found, tmp_path / "compare").read_text(encoding="utf-8")
    assert "true positives" in page and "macro f1" in page and "Confusion matrices" not in page
    with pytest.raises(DarkroomError, match="one of auto, macro_f1, micro_f1"):
        comparison.comparison(runs, metric="matthews")
    single = make_run(tmp_path / "train", "one", 0, accuracy=0.8, classes=["x", "y"])
    with pytest.raises(DarkroomError, match="one class, the other several"):
        comparison.comparison([*runs, single])


def test_arms_go_by_their_titles_and_more_than_five_get_letters(tmp_path):
    logs = tmp_path / "study" / "train"
    runs = [
        make_run(logs, f"arm{place}", seed, accuracy=accuracy, num=600, offset=place)
        for place, accuracy in enumerate((0.95, 0.94, 0.9, 0.6, 0.61, 0.3))
        for seed in range(2)
    ]
    titles = {"arm0": "Large network", "arm1": "arm2", "arm3": "Twins", "arm4": "Twins"}
    (tmp_path / "study" / "study.json").write_text(json.dumps({"titles": titles}))
    found = comparison.comparison(runs, against="arm0")
    assert set(found.arms) == {"Large network", *(f"arm{place}" for place in range(1, 6))}
    assert len(found.pairs) == 5 and not found.has_letters
    assert found.table["arm"].tolist()[0] in ("arm0", "arm1")
    found = comparison.comparison(runs)
    drawing = comparison_page.drawings(found)["arms"]
    assert found.has_letters and "share a letter" in drawing.alt
    assert f"Large network {found.letters['Large network']}" in drawing.alt
    page = comparison_page.render(found)
    assert "Large network" in page and "arm0" not in page
