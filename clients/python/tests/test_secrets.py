"""Nothing that is printed shows a token, a key or a password."""

import copy
import logging
import pickle
import traceback
import uuid
from pathlib import Path

import pytest
from conftest import Connect
from support import PASSWORD, Proxy, a_user, held

from freshkey import BearerAuth, FileStorage, FreshkeyError, MemoryStorage, SignedOutError, Tokens

pytestmark = pytest.mark.anyio


async def test_nothing_that_is_printed_shows_a_secret(
    connect: Connect, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong, new = uuid.uuid4().hex, uuid.uuid4().hex
    seen: list[Tokens] = []
    storage = MemoryStorage()
    client = connect(proxy.url, storage=storage, on_tokens=seen.append)
    await client.login(a_user(proxy.url), PASSWORD)
    await client.refresh_access_token()
    proxy.set(dropAnswer=1)
    failures: list[BaseException] = []
    for call in (client.refresh_access_token, lambda: client.login("ada@example.com", PASSWORD)):
        with pytest.raises(FreshkeyError) as failed:
            await call()
        failures.append(failed.value)
    proxy.set()
    with pytest.raises(FreshkeyError) as failed:
        await client.change_password(wrong, new)
    failures.append(failed.value)

    secrets = [PASSWORD, wrong, new, held(storage)["device_token"]]
    for tokens in seen:
        secrets += [tokens.access_token, tokens.refresh_token, tokens.key]
    printed = [repr(thing) for thing in (client, storage, seen, BearerAuth, failures)]
    printed += [str(failure) for failure in failures]
    printed += ["".join(traceback.format_exception(failure)) for failure in failures]
    printed += [caplog.text]
    assert len(seen) == 2
    assert "expires_at" in repr(seen)
    for secret in secrets:
        assert len(secret) > 15
        assert not any(secret in text for text in printed)


async def test_an_error_can_be_copied_and_sent_to_another_process() -> None:
    error = SignedOutError(401, "invalid_refresh_token", "The session has ended.", request_id="one")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), twin.status, twin.request_id) == (SignedOutError, 401, "one")
        assert str(twin) == "The session has ended. (401 invalid_refresh_token)"


async def test_the_repr_of_a_file_storage_is_its_path() -> None:
    file = Path.cwd() / "session.json"
    assert repr(FileStorage("session.json")) == f"FileStorage({str(file)!r})"
