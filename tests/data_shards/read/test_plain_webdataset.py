"""Other programs read a set with webdataset alone, as docs/data.md says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import webdataset
from torch.utils.data import DataLoader

from data_shards.read.loader import open_dataset
from tests.support.data_sets import make_dsprites

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


def test_plain_webdataset_reads_every_level(tmp_path: Path) -> None:
    out = make_dsprites(tmp_path / "set", 10, "128,64", per_shard=4)
    level = open_dataset(out, 128)
    for resolution in (128, 64):
        urls = sorted(str(p) for p in (out / str(resolution)).glob("*.tar"))
        read = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("l8"))
        assert [s["__key__"] for s in read] == [f"{i:09d}" for i in range(10)]
        truth = open_dataset(out, resolution).read_samples(np.arange(10))[:, 0].numpy()
        np.testing.assert_array_equal([s["png"] for s in read], truth)
        assert ("json" in read[0]) == (resolution == 128)
        if resolution == 128:
            assert [s["json"]["labels"]["index"] for s in read] == level.labels["index"].tolist()


def test_the_documented_code_reads_every_sample_once_and_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dsprites(tmp_path / "data" / "few", 128, per_shard=40)
    section = PAGE.read_text().partition("## Streaming with webdataset")[2]
    found = re.search(r"```python\n(.*?)```\n\n    (.*?)\n", section, re.DOTALL)
    assert found is not None
    code, printed = found.groups()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(code, PAGE, "exec"), {})
    assert capsys.readouterr().out.splitlines() == [printed] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_in_shuffled_order_gives_each_sample_its_own_labels_and_factors(workers: int, tmp_path: Path) -> None:
    level = open_dataset(make_dsprites(tmp_path / "set", 40, per_shard=10), 64)
    urls = sorted(str(path) for path in (tmp_path / "set" / "64").glob("*.tar"))
    stream = webdataset.WebDataset(urls, shardshuffle=4, seed=0).shuffle(8, seed=0).decode("l8")
    batches = DataLoader(
        stream.to_tuple("__key__", "png", "json"), batch_size=None, num_workers=workers, collate_fn=tuple
    )
    read = {int(key): (image, note) for key, image, note in batches}
    assert sorted(read) == list(range(40))
    assert list(read) != sorted(read)
    assert level.factors is not None
    pixels, names = level.read_samples(np.arange(40))[:, 0].numpy(), [factor.name for factor in level.manifest.factors]
    for sample, (image, note) in read.items():
        np.testing.assert_array_equal(image, pixels[sample])
        assert [note["factors"][name] for name in names] == level.factors[sample].tolist()
        assert note["labels"]["index"] == level.labels["index"][sample]
