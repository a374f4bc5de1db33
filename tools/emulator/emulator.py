"""Runs ministack, with the parts of template.yaml that its CloudFormation leaves out.

The parts are added through ministack's own API while CloudFormation creates or updates a
resource, from the properties that CloudFormation has resolved. Each is announced as a line
`added: …` on standard output. What ministack supports by itself is not added.
"""

import contextvars
import email.utils
import functools
import json
import os
import re
import urllib.parse

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import apigateway, dynamodb
from ministack.services.cloudformation import changesets, engine, handlers, provisioners
from samtranslator.translator import transform as sam

# *.localhost has an address in curl and in browsers, but not in every library.
API_URL = f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}/_aws/execute-api/"


@functools.cache
def announce(part):
    print(f"added: {part}", flush=True)


def call(operation, *arguments):
    """Calls an operation of ministack's API."""
    status, _, body = operation(*arguments)
    if status >= 400:
        raise ValueError(f"{operation.__name__}: {body}")
    return json.loads(body) if body else {}


def handle(resource_type, prepare=lambda properties: properties, complete=lambda *made: None):
    """Prepares the properties of a resource before ministack makes or changes it, and completes it then."""
    handler = provisioners._RESOURCE_HANDLERS[resource_type]
    create, update = handler["create"], handler["update"]

    def created(logical_id, properties, stack):
        physical_id, attributes = create(logical_id, prepare(properties), stack)
        complete(physical_id, properties, attributes)
        return physical_id, attributes

    def updated(physical_id, old, new, *rest):
        physical_id, attributes = update(physical_id, old, prepare(new), *rest)
        complete(physical_id, new, attributes)
        return physical_id, attributes

    handler |= {"create": created, "update": updated}


def with_strings(properties):
    """Makes strings of a function's variables, as CloudFormation does."""
    variables = properties["Environment"]["Variables"]
    return properties | {"Environment": {"Variables": {name: str(value) for name, value in variables.items()}}}


def with_one_metric(properties):
    """Reduces an alarm over several metrics to its first one."""
    if "Metrics" not in properties:
        return properties
    announce("alarms over several metrics, each with its first metric alone")
    first = next(metric["MetricStat"] for metric in properties["Metrics"] if "MetricStat" in metric)
    kept = {name: value for name, value in properties.items() if name != "Metrics"}
    return kept | first["Metric"] | {"Statistic": first["Stat"], "Period": first["Period"]}


def complete_api(api_id, properties, attributes):
    """Adds what SAM writes into an OpenAPI document: the name, the routes and the CORS settings."""
    attributes["ApiEndpoint"] = apigateway._apis[api_id]["apiEndpoint"] = API_URL + api_id
    document = properties["Body"]
    settings = {"name": document["info"]["title"]}
    cors = document.get("x-amazon-apigateway-cors")
    if cors:
        settings["corsConfiguration"] = cors
        announce("the CORS settings of the API")
    call(apigateway._update_api, api_id, settings)
    for routes in (apigateway._routes, apigateway._integrations):
        routes[api_id].clear()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            source = operation["x-amazon-apigateway-integration"]
            integration = {
                "integrationType": source["type"].upper(),
                "integrationMethod": source["httpMethod"],
                "integrationUri": source["uri"],
                "payloadFormatVersion": source["payloadFormatVersion"],
            }
            made = call(apigateway._create_integration, api_id, integration)
            target = f"integrations/{made['integrationId']}"
            call(apigateway._create_route, api_id, {"routeKey": f"{method.upper()} {path}", "target": target})
    announce("the routes of the API, and the integrations behind them")


def complete_table(name, properties, attributes):
    """Adds the properties of a table that have an operation of their own."""
    for member, part, operation in (
        ("TimeToLiveSpecification", "the expiry of items", dynamodb._update_ttl),
        ("PointInTimeRecoverySpecification", "point-in-time recovery", dynamodb._update_continuous_backups),
        ("SSESpecification", "encryption", dynamodb._update_table),
    ):
        if member in properties:
            specification = dict(properties[member])
            if "SSEEnabled" in specification:
                specification["Enabled"] = specification.pop("SSEEnabled")
            call(operation, {"TableName": name, member: specification})
            announce(f"{part} of the table")


def refer_to_secrets_by_arn():
    """Makes a reference to a secret give its ARN, as in CloudFormation. In ministack, it gives the name."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]
    create, update, delete = handler["create"], handler["update"], handler["delete"]

    def name(arn):
        return arn.rsplit(":", 1)[1].rsplit("-", 1)[0]

    def by_arn(_, attributes):
        return attributes["Arn"], attributes

    handler |= {
        "create": lambda *made: by_arn(*create(*made)),
        "update": lambda arn, *rest: (arn, update(name(arn), *rest)[1]),
        "delete": lambda arn, *rest: delete(name(arn), *rest),
    }


# The values of the parameters, while SAM transforms a template.
parameters = contextvars.ContextVar("parameters")


def transform(original, template, provided=None, previous=None):
    """Tells SAM the values of the parameters. With ministack, it knows only their defaults."""
    token = parameters.set(engine._transform_parameters(template, provided, previous))
    try:
        return original(template, provided, previous)
    finally:
        parameters.reset(token)


def transform_with_values(original, template, _, *rest):
    return original(template, parameters.get(), *rest)


# The body of the request whose rights are checked.
body = contextvars.ContextVar("body", default=b"")
# The member of a transaction's items that each action is about.
TRANSACTION = {
    "dynamodb:ConditionCheckItem": "ConditionCheck",
    "dynamodb:DeleteItem": "Delete",
    "dynamodb:GetItem": "Get",
    "dynamodb:PutItem": "Put",
    "dynamodb:UpdateItem": "Update",
}


def pin_body(original, content):
    body.set(content)
    original(content)


def condition_key(original, key, context):
    """Returns the value of a condition key, also of two that ministack does not know."""
    if key not in ("dynamodb:LeadingKeys", "ses:FromAddress"):
        return original(key, context)
    announce(f"the condition key {key}")
    if not body.get().startswith(b"{"):
        return simulated(key)
    request = json.loads(body.get())
    if key == "ses:FromAddress":
        return sender(request)
    member = TRANSACTION.get(context.action)
    requests = [item[member] for item in request.get("TransactItems", []) if member in item] or [request]
    return [leading_key(request) for request in requests]


def simulated(key):
    """Returns the value of a condition key in a simulation of policies."""
    form = urllib.parse.parse_qs(body.get().decode())
    for name, [value] in form.items():
        if name.endswith(".ContextKeyName") and value == key:
            prefix = name.replace(".ContextKeyName", ".ContextKeyValues.member.")
            values = [value for name, [value] in form.items() if name.startswith(prefix)]
            return values if key == "dynamodb:LeadingKeys" else values[0]
    return None


def sender(request):
    return email.utils.parseaddr(request["FromEmailAddress"])[1]


def ses_resource(original, method, path, content, region, account):
    """Returns the ARN that a call to SES is about: of a mail, the domain of its sender. ministack knows none."""
    if not path.endswith("/outbound-emails"):
        return original(method, path, content, region, account)
    announce("the resource of ses:SendEmail")
    return f"arn:aws:ses:{region}:{account}:identity/{sender(json.loads(content)).split('@')[1]}"


def leading_key(request):
    """Returns the partition key of a call to DynamoDB."""
    if "KeyConditionExpression" in request:
        value = re.search(r"\bpk = (:\w+)", request["KeyConditionExpression"])[1]
        return request["ExpressionAttributeValues"][value]["S"]
    return (request.get("Key") or request["Item"])["pk"]["S"]


app.pin_signed_body = functools.partial(pin_body, app.pin_signed_body)
iam_actions._ses_v2_resource_arn = functools.partial(ses_resource, iam_actions._ses_v2_resource_arn)
iam_evaluator._resolve_condition_key = functools.partial(condition_key, iam_evaluator._resolve_condition_key)
handle("AWS::ApiGatewayV2::Api", complete=complete_api)
handle("AWS::DynamoDB::Table", complete=complete_table)
handle("AWS::CloudWatch::Alarm", prepare=with_one_metric)
handle("AWS::Lambda::Function", prepare=with_strings)
refer_to_secrets_by_arn()
# Each module has its own reference to the function.
for module in (changesets, handlers):
    module._apply_transforms = functools.partial(transform, engine._apply_transforms)
sam.transform = functools.partial(transform_with_values, sam.transform)


if __name__ == "__main__":
    app.main()
