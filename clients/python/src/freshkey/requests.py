"""The access token for `requests`: `pip install 'freshkey[requests]'`."""

from __future__ import annotations

from typing import Any

from requests import PreparedRequest, Response
from requests.auth import AuthBase

from ._client import AuthClient


class BearerAuth(AuthBase):
    """Keeps the requests of `requests` signed in: `requests.get(url, auth=BearerAuth(client))`.

    Each request carries the access token, which is refreshed before it expires, and once after a 401. It
    is sent to the API's origin and the client's `origins`; a request to another origin raises ValueError
    before it is sent. After a 401, a body that cannot be read twice is not sent again: the 401 is returned.
    """

    def __init__(self, client: AuthClient) -> None:
        """Uses the session of this client."""
        self._client = client

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Adds the access token to the request (RFC 6750)."""
        self._client.check_origin(request.url or "")
        token = self._client.access_token()
        request.headers["Authorization"] = f"Bearer {token}"
        body: Any = request.body
        try:
            start = body.tell()
        except (AttributeError, OSError):  # not a file, or a pipe
            start = None

        def once_more(response: Response, **kwargs: Any) -> Response:
            sent = response.request
            # After a redirect to another origin, requests has removed the token: do not add it again.
            if response.status_code != 401 or sent.headers.get("Authorization") != f"Bearer {token}":
                return response
            if start is not None:
                body.seek(start)
            elif not isinstance(body, str | bytes | None):
                return response
            response.content  # noqa: B018 - reads it, so that its connection can be reused
            response.close()
            again = sent.copy()
            again.headers["Authorization"] = f"Bearer {self._client.access_token(refused=token)}"
            answer: Response = response.connection.send(again, **kwargs)
            answer.history.append(response)
            answer.request = again
            return answer

        request.register_hook("response", once_more)  # type: ignore[no-untyped-call]
        return request
