"""The list of planted faults fits the code: what it names is there. Whether they are caught, run.py says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.test_rooms import ROOMS, module_name, room_of

from .run import ROOT, Fault, read

FAULTS = read()
# Rooms without a fault: what they hold is not mathematics, files or jobs of their own.
WITHOUT = {
    "data_shards": "the command line",
    "data_shards.sources": "what sources share, and a source that reads through the containers",
    "trainer": "the loop, and commands that join the rooms",
    "trainer.stages": "joins networks, data and steps",
    "trainer.reporting": "what people read",
    "evaluation.inputs": "opens what other rooms have written",
    "evaluation.measure": "joins the rooms",
    "evaluation.measured_once": "joins them with the records",
}


def test_there_are_thirty_or_more_each_with_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
    assert all(fault.why and fault.tests for fault in FAULTS)


def test_every_room_has_one_or_is_named_above() -> None:
    rooms = {room_of(module_name(Path(fault.file))) for fault in FAULTS}
    assert rooms | WITHOUT.keys() == set(ROOMS)
    assert not rooms & WITHOUT.keys()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_its_text_stands_once_and_the_faulty_one_is_python(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text()
    assert text.count(fault.find) == 1
    faulty = ast.parse(text.replace(fault.find, fault.replace))
    assert ast.dump(faulty) != ast.dump(ast.parse(text)), "more than a comment or a space"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_tests_that_catch_it_are_there(fault: Fault) -> None:
    for test in fault.tests:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name.partition("[")[0] in functions, test
