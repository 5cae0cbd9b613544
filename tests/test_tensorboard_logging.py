"""What TensorBoard shows of a training: the network as it is wired, and results that are no part of
a learning curve.
"""

from types import SimpleNamespace

import keras

from lib import models
from lib.reporting import tensorboard
from lib.reporting.tensorboard import Node
from lib.training import plots


def test_the_network_is_reported_layer_by_layer_with_its_branches():
    images = keras.Input((8, 8, 3), name="images")
    left = keras.layers.Conv2D(4, 1, name="left")(images)
    right = keras.layers.Conv2D(4, 1, use_bias=False, name="right")(images)
    model = keras.Model(images, keras.layers.Add(name="sum")([left, right]))
    assert plots.nodes(model) == [
        Node("images", "InputLayer", (), (None, 8, 8, 3), 0),
        Node("left", "Conv2D", ("images",), (None, 8, 8, 4), 16),
        Node("right", "Conv2D", ("images",), (None, 8, 8, 4), 12),
        Node("sum", "Add", ("left", "right"), (None, 8, 8, 4), 0),
    ]
    ours = plots.nodes(models.build("custom", class_names=["a", "b"], image_side=16))
    assert ours[-1].name == "logits"
    known = {node.name for node in ours}
    assert all(set(node.inputs) <= known for node in ours)


def test_a_notebook_opened_by_hand_has_an_arm_and_its_folder_a_name_in_the_table_of_hyperparameters():
    run = SimpleNamespace(
        parameters={"arm": "", "seed": 12, "data": "/some/folder/cats", "epochs": 3},
        unit="custom-s12",
    )
    told = plots.hyperparameters(run, SimpleNamespace(name="cats"))
    assert told == {"arm": "custom", "seed": 12, "data": "cats", "epochs": 3}


def test_curves_come_before_results_and_validation_before_test():
    curves, results = tensorboard.CURVES.values(), tensorboard.RESULTS
    assert not set(curves) & set(results.values())
    assert max(curves) < min(results.values())  # TensorBoard sorts its cards by name
    assert min(results, key=results.get) == "val_accuracy"
