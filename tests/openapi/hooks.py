"""What Schemathesis cannot know of the API: who signs in, and what API Gateway
says of methods that there are not."""

import os
from uuid import uuid4

import requests
import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.generation.meta import CoverageScenario

ORIGIN = os.environ["ORIGIN"]
PASSWORD = "a quiet river under seven bridges"


def register():
    """A new user's tokens."""
    user = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    answer = requests.post(f"{ORIGIN}/api/v1/auth/register", json=user, timeout=10)
    answer.raise_for_status()
    return answer.json()


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
    valid request: nobody guesses a password or a refresh token."""
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    for name, real in SECRETS.get(case.operation.definition.raw["operationId"], {}).items():
        made_up = case.body.get(name)
        if isinstance(made_up, str) and len(made_up) % 2 == 0:
            case.body = {**case.body, name: real()}


SECRETS = {
    "refresh": {"refresh_token": lambda: register()["refresh_token"]},
    "lexikRefresh": {"refresh_token": lambda: register()["refresh_token"]},
    "logout": {"refresh_token": lambda: register()["refresh_token"]},
    "changePassword": {"current_password": lambda: PASSWORD},
    "deleteMe": {"password": lambda: PASSWORD},
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
