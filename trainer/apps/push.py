"""python -m trainer push EXPORT REPO: upload an export to a repository of models on a Hugging Face hub."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from common.errors import UserError, first_cause, first_line
from common.shipped import installing
from trainer.config.file_names import METADATA
from trainer.export import exported_model
from trainer.export.front_matter import with_front_matter

from .request import Problems

TOKEN = "HF_TOKEN"
NETWORK = "see that the network works and, if it is set, that HF_ENDPOINT is the hub's address, and run it again"
REMEDIES = {  # by the status of the hub's answer
    401: f"set {TOKEN} to a valid token, which the hub's page settings/tokens makes",
    403: f"set {TOKEN} to a token that may write there, or name a repository of yours",
}


def push(folder: Path, repo: str, private: bool = False) -> str:
    """Upload the files of an export in one commit, and return what to tell the user.

    repo: OWNER/NAME, which is made if it is not there; private: make it private. Files of the repository that are the
    same are not sent, and others that it has stay. The token is that of the environment. Raises a UserError, before
    anything is sent, where the folder is no export or damaged, the name is wrong, the token or a package is missing, or
    a repository that should be private is public; also where the hub cannot be reached or refuses.
    """
    if find_spec("huggingface_hub") is None:
        raise UserError(f"push: needs the package huggingface_hub; install it ({installing('hub')})")
    problems = Problems()
    problems.read(lambda: _refuse_name(repo))
    token = problems.read(_token)
    files = problems.read(lambda: _files(folder))
    problems.refuse("push")
    assert token is not None
    assert files is not None
    try:
        return _upload(files, repo, private, token)
    except UserError:
        raise
    except Exception as error:  # those of the library and of what it uses are of many kinds
        cause = first_cause(error)
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        reason = first_line(cause).replace(token, "...")
        raise UserError(f"push: {repo}: not uploaded ({reason}); {REMEDIES.get(status, NETWORK)}") from None


def _upload(files: dict[str, bytes | Path], repo: str, private: bool, token: str) -> str:
    """Make the repository, if need be, and commit what it lacks."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    for name in ("huggingface_hub", "httpx", "httpx2"):  # which tell of every request
        logging.getLogger(name).setLevel(logging.ERROR)
    hub = HfApi(token=token)
    url = hub.create_repo(repo, private=private or None, exist_ok=True)
    before = hub.model_info(repo)
    if private and not before.private:
        raise UserError(f"--private: {repo}: is public; make it private on its page {url}, or name another repository")
    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    commit = hub.create_commit(repo, operations=added, commit_message="Upload a model with idgan")
    if commit.oid == before.sha:
        return f"{url} has these {len(files)} files already"
    return f"uploaded to {url}: {', '.join(files)}"


def _refuse_name(repo: str) -> None:
    """Raise a UserError where a repository cannot have such a name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    problem = "" if "/" in repo else "it lacks the owner"
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        problem = first_line(error).rstrip(".")
    if problem:
        raise UserError(f"REPO: {repo}: is no name of a repository ({problem}); name it as OWNER/NAME")


def _token() -> str:
    """Return the token of the environment. The message has no part of it."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(
            f"{TOKEN}: is not set; make a token that may write on the hub's page settings/tokens, and set the "
            "environment variable to it"
        )
    if not all("!" <= character <= "~" for character in token):
        raise UserError(f"{TOKEN}: holds blanks or other characters that no token has; set it to the token alone")
    return token


def _files(folder: Path) -> dict[str, bytes | Path]:
    """Return the files of an export, by name, after all of them were checked. Others in the folder are left out."""
    if not (folder / METADATA).is_file():
        raise UserError(f"{folder}: is no export (no {METADATA}); write one with `python -m trainer export RUN OUT`")
    metadata = asdict(exported_model.load(folder).metadata)
    files: dict[str, bytes | Path] = {name: folder / name for name in exported_model.files_of(folder)}
    card = (folder / exported_model.CARD).read_text()
    files[exported_model.CARD] = with_front_matter(card, metadata).encode()
    return files
