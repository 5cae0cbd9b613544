"""Sentences, facts and links as notebooks show them."""

from types import SimpleNamespace

from lib.reporting import text


def test_one_sentence_is_a_paragraph_and_several_are_a_list():
    assert text.markdown("One.") == "One."
    assert text.markdown(["One.\nTwo.", "Three."]) == "- One.\n- Two.\n- Three."
    assert text.markdown([]) == ""
    assert text.markdown("One.")._repr_markdown_() == "One."


def test_names_are_no_markup_and_a_number_stays_with_its_percent_sign():
    shown = text.markdown("a_b: <b>$5$</b> `x` [y](z) is 95 % of *all*")
    assert shown == (r"a\_b: \<b\>\$5\$\</b\> \`x\` \[y\](z) is 95" + "\u00a0% of " + r"\*all\*")


def test_facts_are_a_row_each():
    assert text.facts({"epochs": 3, "schedule": None})["value"].to_dict() == {
        "epochs": "3",
        "schedule": "None",
    }


def test_links_lead_to_the_pages_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    run = SimpleNamespace(study="a+tiny", stage="compare", unit="all")
    shown = text.links(run, data="my set", report=tmp_path / "logs/report.html")
    assert "(http://localhost:8050/runs/a%2Btiny/compare/all/report)" in shown
    assert "(http://localhost:8050/data/my%20set)" in shown
    assert "`logs/report.html`" in shown
