import pytest

from lib.models import build
from lib.reporting import architecture_diagram


def test_layer_table_by_hand():
    model = build(
        "custom", preset="triage", class_names="ab", image_side=16, filters=[4], dense_units=3
    )
    model.get_layer("block1_conv").trainable = False
    table = architecture_diagram.layer_table(model)
    assert table.set_index("layer").loc["block1_conv"].tolist() == [
        "Conv2D",
        (16, 16, 4),
        112,
        False,
    ]
    assert table.set_index("layer").loc["dense1"].tolist() == [
        "Dense",
        (3,),
        8 * 8 * 4 * 3 + 3,
        True,
    ]
    assert table["num_parameters"].sum() == model.count_params()


def test_a_small_network_is_drawn_convolution_by_convolution():
    model = build("custom", preset="triage_dropout", class_names="ab", image_side=16)
    found = [
        (block.kind, block.side, block.channels) for block in architecture_diagram.blocks(model)
    ]
    assert found == [
        ("input", 16, 3),
        ("maps", 16, 16),
        ("maps", 8, 32),
        ("maps", 8, 64),
        ("vector", 0, 4096),
        ("vector", 0, 128),
        ("head", 0, 2),
    ]


@pytest.mark.parametrize(
    ("name", "channels"),
    [("efficientnet_lite0", [16, 24, 40, 112, 320]), ("resnet18", [64, 64, 128, 256, 512])],
)
def test_a_deep_network_is_folded_to_one_stage_a_side(name, channels):
    model = build(name, class_names="ab", image_side=64, weights="none")
    stages = [block for block in architecture_diagram.blocks(model) if block.kind == "maps"]
    assert [stage.side for stage in stages] == [32, 16, 8, 4, 2]
    if name == "resnet18":
        assert [stage.channels for stage in stages] == channels
        assert (
            sum(int(stage.title.split()[0]) for stage in stages) == 20
        )  # 17 on the way, 3 projections
    assert (
        sum(block.num_parameters for block in architecture_diagram.blocks(model))
        == model.count_params()
    )


def test_the_drawing_says_every_shape():
    model = build("custom", preset="triage", class_names="ab", image_side=16)
    figure = architecture_diagram.drawing(architecture_diagram.blocks(model), title="triage")
    said = [text.get_text() for text in figure.axes[0].texts]
    assert {"16 × 16 × 3", "8 × 8 × 64", "4,096", "128", "2"} <= set(said)
    assert "images (16 × 16 × 3), then convolution 3x3 max pooling" in figure.alt
    assert figure.png().startswith(b"\x89PNG")
