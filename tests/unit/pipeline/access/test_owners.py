"""Ids that identify their owner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.access.owners import OWNER_MAX, check_owner, new_id, owns
from pipeline.errors import InvalidInput
from pipeline.ids import id_maker, is_id, timestamp_of, utc_now

names = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
make = id_maker(utc_now)


@given(names, names)
def test_id_belongs_to_one_owner(owner: str, other: str) -> None:
    id_ = new_id(make, owner)
    assert owns(owner, id_)
    assert owns(other, id_) == (other == owner)


def test_owned_id_is_valid() -> None:
    plain = make()
    owned = new_id(lambda: plain, "alice")
    assert is_id(owned)
    assert timestamp_of(owned) == timestamp_of(plain)


def test_ids_of_one_millisecond_differ() -> None:
    moment = utc_now()
    ids = {new_id(id_maker(lambda: moment), "alice") for _ in range(1000)}
    assert len(ids) == 1000


def test_no_owner_owns_all() -> None:
    assert owns(None, new_id(make, "alice"))
    assert new_id(lambda: "0" * 32, None) == "0" * 32


def test_changed_id_is_not_owned() -> None:
    id_ = new_id(make, "alice")
    for position in range(32):
        changed = id_[:position] + ("0" if id_[position] != "0" else "1") + id_[position + 1 :]
        assert not owns("alice", changed)


@pytest.mark.parametrize("name", ["", "Alice", "a b", "-a", "a-", "a--b", "a/b", "é", "a" * (OWNER_MAX + 1), "a\n"])
def test_check_owner_invalid(name: str) -> None:
    with pytest.raises(InvalidInput, match="lower-case"):
        check_owner(name)


@pytest.mark.parametrize("name", ["alice", "team-7", "a" * OWNER_MAX])
def test_check_owner_valid(name: str) -> None:
    assert check_owner(name) == name
