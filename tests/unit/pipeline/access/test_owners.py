"""An id tells its owner, and nobody else can pass for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.access.owners import OWNER_MAX, check_owner, new_id, owns
from pipeline.errors import InvalidInput
from pipeline.ids import id_maker, is_id, timestamp_of, utc_now

names = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
make = id_maker(utc_now)


@given(names, names)
def test_an_id_is_its_owners_and_nobody_elses(owner: str, other: str) -> None:
    id_ = new_id(make, owner)
    assert owns(owner, id_)
    assert owns(other, id_) == (other == owner)


def test_an_owned_id_is_an_id_and_tells_its_birth() -> None:
    plain = make()
    owned = new_id(lambda: plain, "alice")
    assert is_id(owned)
    assert timestamp_of(owned) == timestamp_of(plain)


def test_ids_of_one_millisecond_differ() -> None:
    moment = utc_now()
    ids = {new_id(id_maker(lambda: moment), "alice") for _ in range(1000)}
    assert len(ids) == 1000


def test_where_nobody_owns_anything_every_id_will_do() -> None:
    assert owns(None, new_id(make, "alice"))
    assert new_id(lambda: "0" * 32, None) == "0" * 32


def test_an_id_with_a_changed_digit_is_no_longer_its_owners() -> None:
    id_ = new_id(make, "alice")
    for position in range(32):
        changed = id_[:position] + ("0" if id_[position] != "0" else "1") + id_[position + 1 :]
        assert not owns("alice", changed)


@pytest.mark.parametrize("name", ["", "Alice", "a b", "-a", "a-", "a--b", "a/b", "é", "a" * (OWNER_MAX + 1), "a\n"])
def test_an_owner_has_a_name_that_can_stand_in_a_key(name: str) -> None:
    with pytest.raises(InvalidInput, match="lower-case"):
        check_owner(name)


@pytest.mark.parametrize("name", ["alice", "team-7", "a" * OWNER_MAX])
def test_good_names(name: str) -> None:
    assert check_owner(name) == name
