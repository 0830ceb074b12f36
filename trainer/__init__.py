"""Training of both stages. `trainer.load(FOLDER)` opens what `python -m trainer export RUN FOLDER` wrote."""

from .exported import Model, load

__all__ = ["Model", "load"]
