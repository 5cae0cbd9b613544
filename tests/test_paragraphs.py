"""Printed sentences: broken between words, and nowhere else."""

from lib.reporting import text


def test_a_long_sentence_is_broken_between_words_and_lines_that_stand_are_kept():
    long = " ".join(["probability"] * 20)
    told = text.wrapped(f"{long}\nshort")
    lines = told.split("\n")
    assert lines[-1] == "short" and len(lines) == 4
    assert all(len(line) <= text.WIDTH for line in lines)
    assert " ".join(lines[:-1]) == long


def test_a_number_stays_with_its_percent_sign():
    told = text.wrapped("x" * (text.WIDTH - 3) + " 95 % of images")
    assert told.split("\n")[1] == "95\u00a0% of images"


def test_a_word_that_is_longer_than_the_line_stays_whole_and_sentences_stand_apart():
    path = "/" + "x-" * 60
    assert text.wrapped(["one", path], apart="\n\n") == f"one\n\n{path}"
