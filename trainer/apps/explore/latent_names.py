"""The names that the user gives to latents, in a JSON file that holds nothing else: {"c3": "hair colour"}."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from common.atomic_writes import publish
from common.errors import UserError, disk_error, first_line

FILE = "latent_names.json"
LONGEST = 40  # letters of a name


class LatentNames:
    """Names by latent. They stay in memory where the file cannot be written."""

    def __init__(self, path: Path, latents: Collection[str]) -> None:
        """Read the file, if it is there. latents: of the model. Raises a UserError where it holds no names."""
        self.path, self._latents = path, frozenset(latents)
        self.names = self._read()

    def give(self, latent: str, name: str) -> None:
        """Name a latent, or take its name away (""), and write the file. Names of other latents in it stay.

        Raises a UserError where there is no such latent, the name is too long, or the file cannot be read or written.
        """
        self.adopt({latent: name})

    def adopt(self, names: dict[str, str]) -> None:
        """Give several names at once; see `give`."""
        given = {latent: self._checked(latent, name) for latent, name in names.items()}
        self.names = {latent: name for latent, name in (self.names | given).items() if name}
        in_file = {latent: name for latent, name in (self._read() | given).items() if name}
        try:
            publish(self.path, (json.dumps(in_file, indent=1, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            reason = str(disk_error(error)).partition(";")[0] if disk_error(error) else f"{self.path}: {error.strerror}"
            raise UserError(
                f"{reason}: names are kept only until the program ends; to keep them start it with --names FILE, a "
                "file in a folder that you may write to"
            ) from None

    def _checked(self, latent: str, name: str) -> str:
        if latent not in self._latents:
            raise UserError(f"{latent}: is no latent of this model")
        name = " ".join(name.split())
        if len(name) > LONGEST or not (name.isprintable()):
            raise UserError(
                f"{latent}: a name has at most {LONGEST} letters, all of them visible; choose a shorter one"
            )
        return name

    def _read(self) -> dict[str, str]:
        try:
            names = json.loads(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; make it readable, or name another with --names") from None
        except ValueError as error:
            raise self._damaged(first_line(error)) from None
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise self._damaged("it has another form")
        return names

    def _damaged(self, reason: str) -> UserError:
        example = '{"c3": "hair colour"}'
        return UserError(
            f"{self.path}: holds no names of latents ({reason}); write it as {example}, remove it, or name another "
            "with --names"
        )
