"""python -m data_shards make | index | check | info"""

from __future__ import annotations

from common.cli import run

from .commands import app

if __name__ == "__main__":
    run(app)
