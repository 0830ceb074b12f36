"""Paths as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.paths import typed


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("IN_HOME", "~/x")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a/b", "a/b"), ("/a//b/", "/a/b"), (" a ", "a"), ("a b", "a b"), ("a\r", "a"),
        ("~", "/home/me"), ("~/a", "/home/me/a"), ("a/~/b", "a/~/b"), ("a~", "a~"), ("./~", "~"),
        ("$SCRATCH/a", "/scratch/me/a"), ("${SCRATCH}2/a", "/scratch/me2/a"), ("a/$SCRATCH", "a/scratch/me"),
        ("$HOME/$SCRATCH", "/home/me/scratch/me"), ("$IN_HOME/a", "/home/me/x/a"),
        ("a$", "a$"), ("$1/a", "$1/a"), ("a$-b", "a$-b"), ("C:/a", "C:/a"),
    ],
)  # fmt: skip
def test_home_and_variables_are_expanded(text: str, path: str) -> None:
    assert typed(text) == Path(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$UNSET/a", "UNSET is not set; export it"),
        ("a/${UNSET}", "UNSET is not set"),
        ("$EMPTY/a", "EMPTY is empty; export it"),
        ("${}/a", "is not set"),
        ("~no_such_user/a", "no user no_such_user here; write ./~no_such_user"),
        ("s3://bucket/a", "is a URL, and a path is needed"),
        ("https://host/~/$UNSET", "is a URL"),
        ("file:///a", "is a URL"),
    ],
)
def test_what_names_no_path_is_refused_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("$", r"\$")):
        typed(text)


@pytest.mark.parametrize("name", ["~", "~/a", "$UNSET", "cash$SCRATCH", "~no_such_user"])
def test_what_is_there_under_exactly_this_name_is_meant(name: str) -> None:
    Path(name).mkdir(parents=True)
    assert typed(name) == Path(name)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_is_not_the_working_directory(text: str) -> None:
    with pytest.raises(ValueError, match="it is empty"):
        typed(text)
