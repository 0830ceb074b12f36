"""Numbers of different networks do not compare: pages name the network of each, and say where two versions meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from markupsafe import Markup

from evaluation.inputs.run import Run
from evaluation.pages import report, showcase
from trainer.export.exported_model import Model

OLDER, NEWER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
COMMON = {"extractor": NEWER, "step": "000064", "images_seen": 64}
LATENTS = COMMON | {"latents": ["c1"], "factors": ["x"], "share_of_range": [[0.5]], "clear": []}
CONTROL = COMMON | {"grid": [8, 8], "codes": "prior", "factors": {"x": {"c": 0.5, "s": 0.25, "std": 0.1}}}
ALIGNMENT = COMMON | {
    "samples": 8,
    "encoder": "a VAE",
    "kinds": {"gan": {"r2": {"x": 0.5}, "accuracy": {"shape": 1.0}}},
}
SECTIONS = [(report._movement, LATENTS), (report._control, CONTROL), (report._alignment, ALIGNMENT)]
RUN = cast(
    Run,
    SimpleNamespace(step=SimpleNamespace(name="000064"), config=SimpleNamespace(system="ID-GAN"), generator=object()),
)
Section = Callable[[Run, report.Record, report.Record], Markup]


@pytest.mark.parametrize(("section", "record"), SECTIONS, ids=["latents", "control", "alignment"])
def test_a_section_names_its_network_and_says_where_fids_is_another(section: Section, record: dict[str, Any]) -> None:
    alone = section(RUN, record, None)
    assert f"Network {NEWER[:12]}." in alone
    assert OLDER[:12] not in alone
    assert section(RUN, record, {"protocol": "factor-net", "extractor": NEWER}) == alone
    assert section(RUN, record, {"protocol": "clean", "extractor": OLDER}) == alone, "Inception is no version of it"
    other = section(RUN, record, {"protocol": "factor-net", "extractor": OLDER})
    assert f"Network {NEWER[:12]}. FID on this page is by another version of it, {OLDER[:12]}: " in other


def exported(folder: Path) -> showcase.Exported:
    folder.mkdir()
    metadata = SimpleNamespace(origin={"images_seen": 1_000_000}, codes="posterior")
    return showcase.Exported(folder, cast(Model, SimpleNamespace(generator=object(), metadata=metadata)))


def test_the_showcase_names_the_network_of_each_fid(tmp_path: Path) -> None:
    measured, checked, bare = (exported(tmp_path / name) for name in ("measured", "checked", "bare"))
    numbers = {"kinds": {"gan": {"fid": 3.0, "fidelity": 0.5, "readings": {}}}}
    record = numbers | {"protocol": "factor-net", "extractor": NEWER, "codes": "posterior", "samples": 5000}
    (measured.path / "evaluation").mkdir()
    (measured.path / "evaluation" / "fid.jsonl").write_text(json.dumps(record) + "\n")
    check = numbers | {"extractor": OLDER, "images": 256, "reference_sha256": "0"}
    (checked.path / "check.json").write_text(json.dumps(check))
    page = showcase._numbers([measured, checked, bare])
    cells = "".join(line.strip() for line in page.splitlines())
    assert "<th>network</th>" in cells
    assert f"<td>3</td><td>50.0%</td><td>5,000</td><td>{NEWER[:12]}</td>" in cells
    assert f"<td>3</td><td>50.0%</td><td>256</td><td>{OLDER[:12]}</td>" in cells
    assert "<td>bare</td><td>1.00 million images</td><td></td><td></td><td></td><td></td>" in cells
