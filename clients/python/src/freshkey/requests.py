"""The access token for `requests`: `pip install 'freshkey[requests]'`."""

from __future__ import annotations

from typing import Any

from requests import PreparedRequest, Response
from requests.auth import AuthBase

from ._client import AuthClient


class BearerAuth(AuthBase):
    """Keeps the calls of `requests` signed in: `requests.get(url, auth=BearerAuth(client))`.

    The access token is refreshed ahead of its expiry, and once after a 401. It goes to the API's
    origin and the client's `origins`; a request to another one raises ValueError before it leaves.
    A body that cannot be read twice is not sent twice: its 401 is the answer.
    """

    def __init__(self, client: AuthClient) -> None:
        """Signs in as this client."""
        self._client = client

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """The request, with the access token (RFC 6750)."""
        self._client.check_origin(request.url or "")
        token = self._client.access_token()
        request.headers["Authorization"] = f"Bearer {token}"
        body: Any = request.body
        try:
            start = body.tell()
        except (AttributeError, OSError):  # it is no file, or a pipe
            start = None

        def once_more(response: Response, **kwargs: Any) -> Response:
            sent = response.request
            # After a redirect to another origin, requests has taken the token off: leave it off.
            if response.status_code != 401 or sent.headers.get("Authorization") != f"Bearer {token}":
                return response
            if start is not None:
                body.seek(start)
            elif not isinstance(body, str | bytes | None):
                return response
            response.content  # noqa: B018 - read, so that its connection can be used again
            response.close()
            again = sent.copy()
            again.headers["Authorization"] = f"Bearer {self._client.access_token(refused=token)}"
            answer: Response = response.connection.send(again, **kwargs)
            answer.history.append(response)
            answer.request = again
            return answer

        request.register_hook("response", once_more)  # type: ignore[no-untyped-call]
        return request
