"""The mails of the real system: a forgotten password, and the proof of an address."""

import json
import uuid

import pytest
from conftest import Connect
from support import PASSWORD, Proxy, a_user, generation, held, linked

from freshkey import FreshkeyError, MemoryStorage, SignedOutError, _tokens

pytestmark = pytest.mark.anyio

NEW = "a quiet river under seven bridges"


async def test_a_forgotten_password_is_reset(connect: Connect, local: str) -> None:
    email, reasons = a_user(local), list[str]()
    here = connect(local, on_signed_out=reasons.append)
    there = connect(local)
    await there.login(email, PASSWORD)
    await here.login(email, PASSWORD)
    await connect(local).request_password_reset(email.upper())
    token = linked(local, email, "reset")
    with pytest.raises(FreshkeyError) as failed:
        await here.reset_password(token, "short")
    assert [(field["field"], field["code"]) for field in failed.value.fields] == [
        ("new_password", "password_too_short")
    ]
    assert here.is_signed_in
    await here.reset_password(token, NEW)
    assert not here.is_signed_in
    assert reasons == ["session_ended"]
    with pytest.raises(SignedOutError):
        await there.refresh_access_token()
    with pytest.raises(FreshkeyError) as failed:
        await here.login(email, PASSWORD)
    assert failed.value.code == "invalid_credentials"
    await here.login(email, NEW)
    assert (await here.me())["email_verified"] is True
    for spent in (token, "x" * 43, ""):
        with pytest.raises(FreshkeyError) as failed:
            await here.reset_password(spent, "four friendly foxes and a hen")
        assert (failed.value.status, failed.value.code) == (400, "invalid_link")


@pytest.mark.parametrize("fault", ["dropRequest", "dropAnswer", "tooMany", "limited", "unavailable"])
async def test_a_lost_answer_to_a_reset_is_repaired(connect: Connect, proxy: Proxy, fault: str) -> None:
    email, client = a_user(proxy.url), connect(proxy.url)
    await client.request_password_reset(email)
    token = linked(proxy.url, email, "reset")
    proxy.next(fault, fault, only="/password/reset$")
    await client.reset_password(token, NEW)
    assert len(proxy.requests("POST /api/v1/auth/password/reset")) == 3
    await client.login(email, NEW)


async def test_an_outage_during_a_reset_is_repaired_by_the_caller(connect: Connect, proxy: Proxy) -> None:
    email, client = a_user(proxy.url), connect(proxy.url)
    await client.request_password_reset(email)
    token = linked(proxy.url, email, "reset")
    proxy.set(only="/password/reset$", dropAnswer=1)
    with pytest.raises(FreshkeyError) as failed:
        await client.reset_password(token, NEW)
    assert failed.value.code == "network"
    proxy.set()
    await client.reset_password(token, NEW)
    with pytest.raises(FreshkeyError) as failed:
        await connect(proxy.url).reset_password(token, NEW)
    assert failed.value.code == "invalid_link", "another attempt"
    await client.login(email, NEW)


async def test_an_address_is_confirmed(connect: Connect, local: str) -> None:
    email, storage = f"{uuid.uuid4()}@example.com", MemoryStorage()
    client = connect(local, storage=storage)
    await client.register(email, PASSWORD)
    assert (await client.me())["email_verified"] is False
    first = linked(local, email, "confirm")
    await client.resend_verification()
    with pytest.raises(FreshkeyError) as failed:
        await client.resend_verification()
    assert failed.value.code == "rate_limited"
    assert failed.value.retry_after
    assert linked(local, email, "confirm", count=2) != first
    device_token = held(storage)["device_token"]
    user = await client.confirm_email(first)
    assert user == await client.me()
    assert user["email_verified"] is True
    assert held(storage)["device_token"] == device_token
    await client.refresh_access_token()
    assert _tokens.claims(await client.access_token())["email_verified"] is True


async def test_a_link_is_for_the_user_to_whom_it_was_sent(connect: Connect, local: str) -> None:
    email, client = a_user(local), connect(local)
    await client.login(a_user(local), PASSWORD)
    with pytest.raises(FreshkeyError) as failed:
        await client.confirm_email(linked(local, email, "confirm"))
    assert (failed.value.status, failed.value.code) == (400, "invalid_link")
    assert client.is_signed_in


async def test_an_address_is_changed_although_the_answer_is_lost(connect: Connect, proxy: Proxy) -> None:
    email, new, storage = a_user(proxy.url), f"{uuid.uuid4()}@example.com", MemoryStorage()
    here, there = connect(proxy.url, storage=storage), connect(proxy.url)
    await here.login(email, PASSWORD)
    await there.login(email, PASSWORD)
    for address, password, field in [("no address", PASSWORD, "email"), (new, "wrong", "password")]:
        with pytest.raises(FreshkeyError) as failed:
            await here.change_email(address, password)
        assert [each["field"] for each in failed.value.fields] == [field]
    await here.change_email(new, PASSWORD)
    assert (await here.me())["email"] == email, "nothing has changed yet"
    token, device_token = linked(proxy.url, new, "confirm"), held(storage)["device_token"]
    proxy.next("dropAnswer", "dropRequest", only="/confirm$")
    user = await here.confirm_email(token)
    assert (user["email"], user["email_verified"]) == (new, True)
    assert set(user) == set(await here.me())
    assert held(storage)["device_token"] != device_token
    await here.refresh_access_token()
    assert generation(held(storage)["refresh_token"]) == 2
    with pytest.raises(SignedOutError):
        await there.refresh_access_token()
    await there.login(new, PASSWORD)
    assert json.dumps(storage.load()).count("device_token") == 1


async def test_an_address_that_was_taken_meanwhile_is_not_moved_to(connect: Connect, local: str) -> None:
    client, new = connect(local), f"{uuid.uuid4()}@example.com"
    await client.login(a_user(local), PASSWORD)
    await client.change_email(new, PASSWORD)
    token = linked(local, new, "confirm")
    await connect(local).register(new, PASSWORD)
    with pytest.raises(FreshkeyError) as failed:
        await client.confirm_email(token)
    assert (failed.value.status, failed.value.code) == (409, "email_taken")
    assert client.is_signed_in


async def test_a_taken_address_is_answered_like_a_free_one(connect: Connect, local: str) -> None:
    client, taken = connect(local), a_user(local)
    await client.login(a_user(local), PASSWORD)
    await client.change_email(taken, PASSWORD)
    await client.refresh_access_token()
