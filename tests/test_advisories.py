"""What pip-audit says is told in lines; its answers here are canned, as the service gives them."""

import json

from tools import vulnerability_audit


def test_a_flaw_is_told_with_its_number_and_its_mending():
    answer = {
        "dependencies": [
            {
                "name": "flask",
                "version": "0.5",
                "vulns": [{"id": "PYSEC-2019-179", "fix_versions": ["1.0"], "aliases": []}],
            },
            {"name": "numpy", "version": "2.4.6", "vulns": []},
            {"name": "own", "skip_reason": "Dependency not found on PyPI"},
        ]
    }
    lines, flawed = vulnerability_audit.told(json.dumps(answer))
    assert flawed == 1
    assert lines == [
        "advisories: flask 0.5 has PYSEC-2019-179 (mended in 1.0)",
        "advisories: 2 packages asked, 1 with a known flaw, 1 could not be asked",
    ]


def test_no_answer_is_no_clean_bill():
    assert vulnerability_audit.told("") == ([], 0)
