"""Names that a user chooses from on the command line. This file imports no torch, so that --help answers at once."""

from __future__ import annotations

from typing import Literal

Kind = Literal["gan", "vae", "untrained", "reals"]
"""Kinds of images: of the generator, decodings of its VAE, of the generator before its first step, the data's own."""
KINDS: tuple[Kind, ...] = ("reals", "gan", "vae", "untrained")

Codes = Literal["posterior", "prior", "none"]
"""Where codes c come from: the aggregated posterior of reals, N(0, I), or nowhere in a GAN without a code."""
RequestedCodes = Literal["posterior", "prior"] | None
"""None: as in training."""
FidCodes = Literal["posterior", "prior", "both"] | None
"""Of `fid`: both measures each in turn."""

FidProtocol = Literal["factor-net", "face-net", "clean", "legacy_pytorch", "dinov2"]
"""Features behind FID: of the shipped networks for sprites and faces, of Inception in two ways, of DINOv2."""
FvmProtocolName = Literal["paper", "dlib", "short", "faces", "faces-short"]
"""Settings of the FactorVAE metric, see evaluation/disentanglement/factor_vae.py."""
