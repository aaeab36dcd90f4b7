import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from models.crypto.secrets import Sealed, Secret


@pytest.mark.parametrize("veiled", [Secret("hunter2"), Sealed("v1.k1.hunter2")], ids=["secret", "sealed"])
@pytest.mark.parametrize("show", [str, repr, "{}".format, "{:>20}".format, "%s".__mod__, lambda v: f"{[v]}"])
def test_a_veiled_text_never_shows_itself(veiled: Sealed | Secret, show: Callable[..., Any]) -> None:
    shown = show(veiled)
    assert "***" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("veiled", [Secret("hunter2"), Sealed("hunter2")], ids=["secret", "sealed"])
@pytest.mark.parametrize("leave", [pickle.dumps, json.dumps, vars], ids=["pickle", "json", "vars"])
def test_a_veiled_text_does_not_leave_the_process(veiled: Sealed | Secret, leave: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        leave(veiled)


def test_a_secret_reveals_its_text_and_a_sealed_one_its_stored_form() -> None:
    assert (Secret("a").reveal(), Sealed("b").text) == ("a", "b")


def test_veiled_texts_are_equal_by_text_and_type() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != Sealed("a")
    assert Secret("a") != "a"
    assert {Secret("é\ud800"), Secret("é\ud800")} == {Secret("é\ud800")}


def test_a_secret_is_frozen() -> None:
    secret = Secret("a")
    with pytest.raises(AttributeError):
        secret._text = "b"
    with pytest.raises(AttributeError):
        del secret._text


def test_a_copied_holder_still_holds_a_veiled_secret() -> None:
    @dataclass
    class Holder:
        secret: Secret

    assert asdict(Holder(Secret("hunter2"))) == {"secret": Secret("hunter2")}
    assert "hunter2" not in repr(asdict(copy.deepcopy(Holder(Secret("hunter2")))))
