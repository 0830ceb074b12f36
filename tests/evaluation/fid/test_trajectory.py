"""Which checkpoint is the best, by hand."""

from __future__ import annotations

from typing import Any

from evaluation.fid import trajectory


def looked(step: str, fid: float, **more: object) -> dict[str, Any]:
    """A record of a run of stage 2."""
    return {"stage": "gan", "step": step, "samples": 50, "seed": 0, "kinds": {"gan": {"fid": fid}}} | more


def test_best_is_the_lowest_of_those_that_most_checkpoints_were_measured_like() -> None:
    known = [looked("a", 90), looked("b", 20), looked("c", 12)]
    assert trajectory.best_of([]) is None
    assert trajectory.best_of(known) == "c"
    for more in ({"codes": "prior"}, {"samples": 5}, {"samples": 500}, {"ema": "other"}, {"protocol": "clean"}):
        assert trajectory.best_of([*known, looked("a", 1, **more)]) == "c", more
    assert trajectory.best_of([*known, looked("c", 30)]) == "b", "the newest of a checkpoint counts"
    reals = looked("a", 0) | {"kinds": {"reals": {"fid": 0}}}
    assert trajectory.best_of([*known, reals]) == "c"
    other = [looked(step, fid, codes="prior") for step, fid in (("a", 1), ("b", 2), ("c", 3))]
    assert trajectory.best_of([*known, *other]) == "a", "as many checkpoints: the newer"
    assert trajectory.best_of([*known, *other, looked("a", 95)]) == "c"
    fewer = [looked(step, fid, samples=5) for step, fid in (("a", 1), ("b", 2), ("c", 3))]
    assert trajectory.best_of([*known, *fewer]) == "c", "as many checkpoints: more samples"
