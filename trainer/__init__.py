"""Training of both stages.

`trainer.load(FOLDER)` opens what `python -m trainer export RUN FOLDER` wrote; `trainer.own_encoder` writes an encoder
of your own as a file for `vae=`. Both are imported when they are first used: `import trainer` alone imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.export.exported_model import Model, load

    from .encoders import own_encoder

__all__ = ["Model", "load", "own_encoder"]

_PUBLIC = {
    "Model": ("trainer.export.exported_model", "Model"),
    "load": ("trainer.export.exported_model", "load"),
    "own_encoder": ("trainer.own_encoder", None),
}


def __getattr__(name: str) -> Any:
    """The public names, imported at their first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}")
    module_name, attribute = _PUBLIC[name]
    module = importlib.import_module(module_name)
    return module if attribute is None else getattr(module, attribute)
