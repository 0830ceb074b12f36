"""How errors are worded, and what they carry for code that reads them."""

from __future__ import annotations

import errno
import pickle

import pytest

from common.cli import EXIT_FAULT, EXIT_USER, explain
from common.errors import UserError, disk_error, first_cause, first_line, joined, listed


def test_the_first_line_of_a_message_or_else_the_kind_of_error() -> None:
    assert first_line(RuntimeError("size mismatch\n  frame #0\n  frame #1")) == "size mismatch"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("")) == "ValueError"


def test_the_first_cause_is_what_was_wrong_before_a_library_wrapped_it() -> None:
    try:
        try:
            try:
                raise OSError("refused")
            except OSError as error:
                raise RuntimeError("while uploading") from error
        except RuntimeError as error:
            raise ValueError("failed") from error
    except ValueError as error:
        found = error
    assert str(first_cause(found)) == "refused"
    alone = KeyError("x")
    assert first_cause(alone) is alone


def test_a_joined_error_carries_its_problems_as_data_also_between_processes() -> None:
    error = pickle.loads(pickle.dumps(joined("data/few", ["a.tar: missing", "b.tar: truncated"])))
    assert str(error) == "data/few: 2 problems\n  - a.tar: missing\n  - b.tar: truncated"
    assert error.problems == ("a.tar: missing", "b.tar: truncated")
    assert UserError("one thing").problems == ()


def test_an_error_of_several_lines_is_one_line_in_another_list() -> None:
    error = listed("runs/x differs:", ["seed: was 0, now 9", "set it back"])
    assert str(error) == "runs/x differs:\n  - seed: was 0, now 9\n  - set it back"
    whole = joined("the run cannot start", ["c_dim: 0", *error.problems])
    assert str(whole).splitlines()[1:] == ["  - c_dim: 0", "  - runs/x differs: seed: was 0, now 9; set it back"]


def test_a_full_disk_is_the_users_to_mend_and_a_missing_file_is_not_a_full_disk() -> None:
    assert "runs/x: no space left" in str(disk_error(OSError(errno.ENOSPC, "full", "runs/x")))
    assert disk_error(OSError(errno.ENOENT, "gone", "runs/x")) is None


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.ENOSPC, "no space left", "make room"),
        (errno.EDQUOT, "quota is used up", "make room"),
        (errno.EFBIG, "larger than may be written", "ulimit -f"),
        (errno.EROFS, "read-only", "mount it for writing, or name another folder"),
        (errno.EIO, "cannot be read or written", "see that the disk"),
        (errno.ESTALE, "network file system", "see that the disk and its connection work"),
    ],
)
def test_each_trouble_of_a_disk_has_its_own_remedy(number: int, reason: str, remedy: str) -> None:
    code, message = explain(OSError(number, "any", "runs/x"))
    assert code == EXIT_USER
    for words in ("runs/x: ", reason, remedy):
        assert words in str(message)
    assert ("make room" in str(message)) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_a_terminal_that_is_gone_is_no_broken_disk() -> None:
    assert disk_error(OSError(errno.EIO, "any")) is None


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP])
def test_a_path_that_cannot_be_used_is_named(number: int) -> None:
    assert explain(OSError(number, "because", "runs/x")) == (
        EXIT_USER,
        "runs/x: because; check the path and its permissions",
    )
    assert explain(OSError(errno.ENOTCONN, "because", "runs/x")) == (EXIT_FAULT, None)
