"""Which edits of the code repeat a finished training, and which do not."""

import ast
import json
import shutil

import pytest

from lib import hashing, paths
from lib.runs import code_digest

PARAMETERS = {
    "architecture": "custom",
    "preset": "triage",
    "augmentation": "gentle",
    "optimizer": "adam",
    "schedule": "cosine",
    "loss": "cross_entropy",
    "strategy": "scratch",
    "split_method": "grouped",
    "resize": "stretch",
}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """A copy of lib to edit, with the cells of the training notebook and their digest."""
    root = tmp_path_factory.mktemp("code")
    shutil.copytree(
        paths.checkout() / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__")
    )
    content = json.loads((paths.checkout() / "notebooks" / "3_train.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in content["cells"] if c["cell_type"] == "code"][1:]
    return root, cells, code_digest.digest("train", cells, PARAMETERS, root=root)


def edited(code, module, old, new, parameters=PARAMETERS):
    """Whether the digest is another one after an edit, which is undone."""
    root, cells, _ = code
    file = root / module
    source = file.read_text(encoding="utf-8")
    assert old in source, f"{module} does not hold {old!r} any more"
    before = code_digest.digest("train", cells, parameters, root=root)
    changed = source.replace(old, new, 1)
    ast.parse(changed)
    try:
        file.write_text(changed, encoding="utf-8")
        return code_digest.digest("train", cells, parameters, root=root) != before
    finally:
        file.write_text(source, encoding="utf-8")


KEPT = {
    "a comment": ("lib/training/fit.py", "import keras\n", "import keras  # the framework\n"),
    "a docstring": ("lib/training/fit.py", "Trains a model in place", "Fits a model in place"),
    "an annotation": ("lib/training/fit.py", "model: keras.Model,", "model: object,"),
    "an error message": ("lib/training/fit.py", "images are in train and", "pictures are in train and"),
    "a printed line": ("lib/training/callbacks.py", "best so far", "the best so far"),
    "a did-you-mean cut-off": ("lib/errors.py", "cutoff=0.6", "cutoff=0.7"),
    "a figure": ("lib/reporting/run_figures.py", "linewidth=", "linewidth=1 + "),
    "a figure of a training": ("lib/training/learning_rate_finder.py", 'linestyle="--"', 'linestyle=":"'),
    "a row of presets": ("lib/models/cnn.py", "PRESETS = {", 'PRESETS = {"mine": Cnn(filters=(8,)),'),
    "another preset": ("lib/models/cnn.py", '"simpsons": Cnn(', '"simpsons": Cnn(kernel=5,'),
    "a row of augmentations": ("lib/data/augmentation.py", '    "none": None,', '    "none": None, "tilt": Policy(rotation=5),'),
    "another augmentation": ("lib/data/augmentation.py", "rotation=36", "rotation=35"),
    "a row of backbones": ("lib/models/backbones.py", '    "resnet101v2":', '    "xception": None, "resnet101v2":'),
    "a report": ("lib/training/plots.py", "num: int = 12", "num: int = 16"),
    "a sentence": ("lib/training/finalise.py", "def sentence(", "def sentence_of(x): return x\n\n\ndef sentence("),
}  # fmt: skip
REPEATED = {
    "the warp": ("lib/data/augmentation.py", "cv2.BORDER_REFLECT_101", "cv2.BORDER_REFLECT"),
    "the augmentation": ("lib/data/augmentation.py", "rotation=10", "rotation=12"),
    "the preset": ("lib/models/cnn.py", '"triage": Cnn(', '"triage": Cnn(kernel=5,'),
    "a layer": ("lib/models/cnn.py", "momentum=0.9", "momentum=0.95"),
    "the optimizer's table": ("lib/training/optimizers.py", "settings.warm_up * total_steps", "settings.warm_up * 2 * total_steps"),
    "the callbacks": ("lib/training/callbacks.py", "gain > self._min_delta", "gain >= self._min_delta"),
    "the decoder": ("lib/data/decode.py", "cv2.INTER_AREA", "cv2.INTER_LINEAR"),
    "the split": ("lib/data/splits.py", "default_rng([seed, 1])", "default_rng([seed, 2])"),
    "scoring": ("lib/training/finalise.py", "_BATCHES_AT_ONCE = 16", "_BATCHES_AT_ONCE = 8"),
    "a metric": ("lib/evaluation/metrics.py", "def kappa(", "def kappa(*_, x=1): return x\n\n\ndef _kappa("),
}  # fmt: skip


@pytest.mark.parametrize("edit", KEPT)
def test_what_decides_no_number_leaves_a_run_finished(code, edit):
    assert not edited(code, *KEPT[edit])


@pytest.mark.parametrize("edit", REPEATED)
def test_what_decides_numbers_repeats_a_run(code, edit):
    assert edited(code, *REPEATED[edit])


def test_a_row_of_a_table_counts_for_those_who_use_it(code):
    edit = ("lib/data/augmentation.py", "rotation=36", "rotation=35")
    assert edited(code, *edit, parameters={**PARAMETERS, "augmentation": "documents"})


def test_the_cells_of_the_notebook_are_followed(code):
    root, cells, before = code
    more = [*cells, "from lib.evaluation import arm_agreement\narm_agreement.weighted_kappa"]
    assert code_digest.digest("train", more, PARAMETERS, root=root) != before


def test_every_place_that_is_named_exists():
    named = [
        *code_digest.PRESENTATION,
        *(e for all in code_digest.ENTRY_POINTS.values() for e in all),
    ]
    for place in named:
        module, _, name = place.partition(":")
        file = hashing.module_file(module)
        assert file is not None, place
        assert not name or name in code_digest._module(file, 0).defined, place
