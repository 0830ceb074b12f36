"""An encoder of your own in place of the VAE: the public name of `encoders/own_encoder.py`."""

from __future__ import annotations

from .encoders.own_encoder import export, load

__all__ = ["export", "load"]
