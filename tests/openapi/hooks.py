"""What Schemathesis cannot know of the API: who signs in, and what API Gateway
says of methods that there are not."""

import os
import re
import time
from uuid import uuid4

import requests
import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.generation.meta import CoverageScenario

ORIGIN = os.environ["ORIGIN"]
PASSWORD = "a quiet river under seven bridges"


def post(path, body):
    answer = requests.post(ORIGIN + path, json=body, timeout=10)
    answer.raise_for_status()
    return answer.json()


def register(email=None):
    """A new user's tokens."""
    return post("/api/v1/auth/register", {"email": email or address(), "password": PASSWORD})


def address():
    return f"{uuid4()}@example.com"


def mailed(email, page):
    """The token of a link to a page, in a mail to this address."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        mails = requests.get(f"{ORIGIN}/.local/mail", params={"to": email}, timeout=10).json()
        for mail in mails:
            if link := re.search(rf"/{page}#token=([\w-]+)", mail["text"]):
                return link[1]
        time.sleep(0.02)
    raise AssertionError(f"no mail with a link to {page}")


@schemathesis.auth(refresh_interval=1).apply_to(tag="account")
class Caller:
    """A user who has just registered: the one before may be gone."""

    def get(self, case, context):
        return register()["access_token"]

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts what is somebody's in the place of what was made up, in every other
    valid request: nobody guesses a password, a refresh token or the token of a mail."""
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    for name, real in SECRETS.get(case.operation.definition.raw["operationId"], {}).items():
        made_up = case.body.get(name)
        if isinstance(made_up, str) and len(made_up) % 2 == 0:
            case.body = {**case.body, name: real(case)}


def refresh_token(case):
    return register()["refresh_token"]


def password(case):
    return PASSWORD


def reset_token(case):
    email = address()
    register(email)
    post("/api/v1/auth/password/forgot", {"email": email})
    return mailed(email, "reset")


def confirm_token(case):
    """The token of a new user, who then is the caller."""
    email = address()
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {register(email)['access_token']}"}
    return mailed(email, "confirm")


SECRETS = {
    "refresh": {"refresh_token": refresh_token},
    "lexikRefresh": {"refresh_token": refresh_token},
    "logout": {"refresh_token": refresh_token},
    "resetPassword": {"token": reset_token},
    "confirmEmail": {"token": confirm_token},
    "changePassword": {"current_password": password},
    "changeEmail": {"password": password},
    "deleteMe": {"password": password},
}


@schemathesis.check
def unknown_method_is_no_route(ctx, response, case):
    """API Gateway answers a method that no route has with its own 404."""
    scenario = getattr(case.meta.phase.data, "scenario", None) if case.meta else None
    if scenario != CoverageScenario.UNSPECIFIED_HTTP_METHOD:
        return
    if response.status_code != 404 or response.json() != {"message": "Not Found"}:
        found = f"{response.status_code} {response.text}"
        raise Failure(operation=case.operation.label, message=f"{response.request.method} is answered with {found}")
