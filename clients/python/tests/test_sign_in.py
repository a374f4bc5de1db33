"""Signing in and out, and what a signed-in user can do."""

import uuid

import httpx
import pytest
from conftest import Connect
from support import PASSWORD, Proxy, a_user, held, post

from freshkey import Dialect, FreshkeyError, MemoryStorage, SignedOutError

pytestmark = pytest.mark.anyio


async def test_a_user_who_registers_is_signed_in(connect: Connect, local: str) -> None:
    client, email = connect(local), f"{uuid.uuid4()}@example.com"
    user_id = await client.register(email, PASSWORD, first_name="Ada")
    me = await client.me()
    assert (me["id"], me["email"], me["first_name"]) == (user_id, email, "Ada")


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_login_returns_the_users_id(connect: Connect, local: str, dialect: Dialect) -> None:
    told: list[str] = []
    client = connect(local, dialect=dialect, on_tokens=lambda tokens: told.append(tokens.access_token))
    assert not client.is_signed_in
    user_id = await client.login(a_user(local), PASSWORD)
    assert client.is_signed_in
    assert (await client.me())["id"] == user_id
    assert told == [await client.access_token()]


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_wrong_password_changes_nothing(connect: Connect, local: str, dialect: Dialect) -> None:
    client, email = connect(local, dialect=dialect), a_user(local)
    await client.login(email, PASSWORD)
    before = await client.access_token()
    with pytest.raises(FreshkeyError) as failed:
        await client.login(email, "wrong")
    assert not isinstance(failed.value, SignedOutError)
    assert (failed.value.status, failed.value.code) == (401, "invalid_credentials")
    assert await client.access_token() == before


async def test_a_taken_address_is_an_error_with_its_code(connect: Connect, local: str) -> None:
    with pytest.raises(FreshkeyError) as failed:
        await connect(local).register(a_user(local), PASSWORD)
    assert (failed.value.status, failed.value.code) == (409, "email_taken")
    assert failed.value.request_id


async def test_a_weak_password_is_an_error_that_names_the_field(connect: Connect, local: str) -> None:
    with pytest.raises(FreshkeyError) as failed:
        await connect(local).register(f"{uuid.uuid4()}@example.com", "12345678")
    assert (failed.value.status, failed.value.code) == (422, "validation_failed")
    assert [field["field"] for field in failed.value.fields] == ["password"]
    assert "12345678" not in str(failed.value)


async def test_without_a_session_nothing_is_sent(connect: Connect, proxy: Proxy) -> None:
    client = connect(proxy.url)
    for call in (client.me, client.refresh_access_token, client.access_token):
        with pytest.raises(SignedOutError) as failed:
            await call()
        assert failed.value.code == "not_signed_in"
    assert not await client.logout()
    assert proxy.requests() == []


async def test_a_logout_ends_the_session_on_both_sides(connect: Connect, local: str) -> None:
    reasons: list[str] = []
    storage = MemoryStorage()
    client = connect(local, storage=storage, on_signed_out=reasons.append)
    await client.login(a_user(local), PASSWORD)
    refresh_token = held(storage)["refresh_token"]
    assert await client.logout()
    assert not client.is_signed_in
    assert reasons == ["logged_out"]
    assert post(local, "/api/v1/auth/refresh", refresh_token=refresh_token).status_code == 401


async def test_a_logout_works_even_if_the_server_cannot_be_reached(connect: Connect, proxy: Proxy) -> None:
    client = connect(proxy.url)
    await client.login(a_user(proxy.url), PASSWORD)
    proxy.set(dropRequest=1)
    assert not await client.logout()
    assert not client.is_signed_in
    assert len(proxy.requests("POST /api/v1/auth/logout")) == 3


async def test_a_user_lists_and_ends_sessions(connect: Connect, local: str) -> None:
    email, reasons = a_user(local), list[str]()
    here, there = connect(local), connect(local, on_signed_out=reasons.append)
    await here.login(email, PASSWORD)
    await there.login(email, PASSWORD)
    sessions = await here.sessions()
    assert len(sessions) == 3, "the registration opened one"
    [current] = [session for session in sessions if session["current"]]
    assert (current["user_agent"] or "").startswith("freshkey-python/")
    [theirs] = [session["id"] for session in await there.sessions() if session["current"]]
    await here.revoke_session(theirs)
    with pytest.raises(SignedOutError):
        await there.refresh_access_token()
    assert reasons == ["session_ended"]
    assert not there.is_signed_in
    for missing in (theirs, "../..", "a/b?c"):
        with pytest.raises(FreshkeyError) as failed:
            await here.revoke_session(missing)
        assert failed.value.status == 404
    assert (await here.me())["email"] == email


async def test_a_user_logs_out_everywhere_else(connect: Connect, local: str) -> None:
    email = a_user(local)
    here, there = connect(local), connect(local)
    await here.login(email, PASSWORD)
    await there.login(email, PASSWORD)
    await here.logout_everywhere(except_current=True)
    await here.refresh_access_token()
    with pytest.raises(SignedOutError):
        await there.refresh_access_token()


async def test_a_user_logs_out_everywhere(connect: Connect, local: str) -> None:
    email, reasons = a_user(local), list[str]()
    here, there = connect(local, on_signed_out=reasons.append), connect(local)
    await here.login(email, PASSWORD)
    await there.login(email, PASSWORD)
    await here.logout_everywhere()
    assert not here.is_signed_in
    assert reasons == ["logged_out"]
    with pytest.raises(SignedOutError):
        await there.refresh_access_token()


async def test_a_user_changes_the_password(connect: Connect, local: str) -> None:
    email = a_user(local)
    here, there = connect(local), connect(local)
    await here.login(email, PASSWORD)
    await there.login(email, PASSWORD)
    with pytest.raises(FreshkeyError) as failed:
        await here.change_password("wrong", "a better horse battery")
    assert [field["field"] for field in failed.value.fields] == ["current_password"]
    await here.change_password(PASSWORD, "a better horse battery")
    await here.refresh_access_token()
    with pytest.raises(SignedOutError):
        await there.refresh_access_token()
    await there.login(email, "a better horse battery")


async def test_a_page_in_place_of_an_answer_is_an_error(connect: Connect, local: str) -> None:
    storage = MemoryStorage()
    await connect(local, storage=storage).login(a_user(local), PASSWORD)
    client = connect(local, storage=storage, answer=lambda _: httpx.Response(200, text="Welcome"))
    for call in (
        client.me(),
        client.sessions(),
        client.revoke_session("one"),
        client.logout_everywhere(),
        client.change_password(PASSWORD, "a better horse battery"),
        client.login("ada@example.com", PASSWORD),
    ):
        with pytest.raises(FreshkeyError) as failed:
            await call
        assert (failed.value.status, failed.value.code) == (200, "unreadable")
    assert client.is_signed_in
    assert not await client.logout(), "the server has not confirmed it"
    assert not client.is_signed_in


async def test_the_device_token_outlives_the_session(connect: Connect, proxy: Proxy) -> None:
    client, email = connect(proxy.url), a_user(proxy.url)
    await client.login(email, PASSWORD)
    await client.logout()
    proxy.clear()
    await client.login(email, PASSWORD)
    await client.change_password(PASSWORD, "a better horse battery")
    await client.refresh_access_token()
    await client.me()
    sent = {entry["path"].split("/")[-1]: "x-device-token" in entry["headers"] for entry in proxy.requests()}
    assert sent == {"login": True, "password": True, "refresh": False, "me": False}
