"""dSprites images per second on one core: `python benchmarks/rendering.py`. To reach: 6,000 at 64 px."""

from __future__ import annotations

import time

import numpy as np

from data_shards.sources.sprites.renderer import COUNT, render


def main() -> None:
    index = np.random.default_rng(0).integers(0, COUNT, 20_000)
    for size, count in ((64, 20_000), (256, 500), (1024, 50)):
        render(index[:count], size)
        began = time.perf_counter()
        render(index[:count], size)
        print(f"{size:5} px {count / (time.perf_counter() - began):10,.0f} images/s")


if __name__ == "__main__":
    main()
