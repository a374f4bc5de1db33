"""The types of what the API answers are those of its contract."""

from types import GenericAlias
from typing import Any, get_type_hints

import httpx
import pytest

from freshkey import FieldError, Session, User

NAMES: dict[str, Any] = {"string": str, "boolean": bool}


@pytest.fixture(scope="session")
def schemas(local: str) -> dict[str, Any]:
    contract: dict[str, Any] = httpx.get(f"{local}/openapi.json").json()
    schemas: dict[str, Any] = contract["components"]["schemas"]
    return schemas


@pytest.mark.parametrize("kind", [User, Session, FieldError])
def test_an_answer_has_the_members_and_types_of_the_contract(kind: type, schemas: dict[str, Any]) -> None:
    def type_of(schema: dict[str, Any]) -> Any:
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        match schema["type"]:
            case "array":
                return GenericAlias(list, type_of(schema["items"]))
            case str(name):
                return NAMES[name]
            case [name, "null"]:
                return NAMES[name] | None

    schema = schemas[kind.__name__]
    assert set(schema["required"]) == set(kind.__required_keys__)  # type: ignore[attr-defined]
    assert get_type_hints(kind) == {name: type_of(each) for name, each in schema["properties"].items()}
