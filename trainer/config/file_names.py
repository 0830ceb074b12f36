"""Names of the files that hold networks: beside a run's checkpoints, and in an export."""

from __future__ import annotations

# Of a run of stage 2: its copy of the encoder, a VAE of stage 1 or an encoder of your own.
VAE_FILE, OWN_FILE = "vae.safetensors", "encoder.pt2"

# Of an export; see trainer/export/exported_model.py.
METADATA, GENERATOR, DISCRIMINATOR = "export.json", "generator.safetensors", "discriminator.safetensors"
ENCODER, OWN_ENCODER = "encoder.safetensors", "encoder.pt2"

# Of an export with ONNX files; see trainer/export/onnx_files.py.
ONNX_GENERATOR, ONNX_ENCODER, ONNX_DECODER = "generator.onnx", "encoder.onnx", "decoder.onnx"

# Beside an export that was measured; see evaluation/exports/check.py.
REFERENCE, CHECK = "reference.safetensors", "check.json"
