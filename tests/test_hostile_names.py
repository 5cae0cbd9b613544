"""Names of files and classes that would rewrite a line, or turn its direction."""

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from lib import errors
from lib.cleaning import clean, findings_page
from lib.data import intake

HIDDEN = "\x1b[2J\u202egnp.exe"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("cat\u202egnp", "cat\\u202egnp"),
        ("x\u2066y\u2069\u200f", "x\\u2066y\\u2069\\u200f"),
        ("line\u2028end\r\x7f", "line\\u2028end\\r\\x7f"),
        ("two\nlines\tand \U0001f469‍\U0001f680 日本", "two\nlines\tand \U0001f469‍\U0001f680 日本"),
        (3, 3),
        (Markup("<b>\x1b</b>"), Markup("<b>\x1b</b>")),
    ],
)
def test_hidden_characters_are_spelled_out(text, shown):
    assert errors.visible(text) == shown


def test_the_findings_page_shows_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for name in ("cat", HIDDEN):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(number + len(name)).integers(0, 255, (24, 24, 3))
            Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "raw" / name / f"{number}.png")
    picture = (tmp_path / "raw" / HIDDEN / "0.png").read_bytes()
    (tmp_path / "raw" / HIDDEN / "copy\u202e.png").write_bytes(picture)
    cleaned = clean.clean(intake.bring(str(tmp_path / "raw")))
    page = findings_page.render(cleaned)
    assert "\\x1b[2J\\u202egnp.exe" in page
    assert not [character for character in "\x1b\u202e" if character in page]
