"""Translates template.yaml as CloudFormation does, and checks what SAM makes of the
parameters that it looks at itself: it replaces references to them by their text."""

import sys
from pathlib import Path

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = (Path(__file__).resolve().parent.parent / "template.yaml").read_text()


class NoPolicies:
    """The managed policies of the account, of which the template names none."""

    def load(self):
        return {}


def resources(**parameters):
    """Returns the resources of a stack with these parameters."""
    template = yaml_parse(TEMPLATE)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    values = {name: declared["Default"] for name, declared in template["Parameters"].items()}
    return transform(template, {**values, **parameters}, NoPolicies())["Resources"]


def of_type(resources, kind):
    return {name: it["Properties"] for name, it in resources.items() if it["Type"] == kind}


def check(holds, fault):
    if not holds:
        sys.exit(fault)


for tracing in ("Disabled", "Active"):
    stack = resources(Tracing=tracing)
    functions, roles = of_type(stack, "AWS::Lambda::Function"), of_type(stack, "AWS::IAM::Role")
    check(len(functions) == len(roles) >= 10, "each function must have a role")
    for name, function in functions.items():
        traces = function.get("TracingConfig") is not None
        may_write = "Xray" in str(roles[f"{name}Role"])
        check(traces == may_write == (tracing == "Active"), f"{name}, Tracing={tracing}: {traces}, {may_write}")

stack = resources(AllowedOrigins="https://a.example,http://localhost:5173", ExtraCorsHeaders="traceparent")
(api,) = of_type(stack, "AWS::ApiGatewayV2::Api").values()
condition, cors, _ = api["Body"]["x-amazon-apigateway-cors"]["Fn::If"]
check(condition == "HasOrigins", "without origins, there must be no CORS settings")
split = {"Fn::Split": [",", "https://a.example,http://localhost:5173"]}
check(cors["allowOrigins"] == split, f"two origins must arrive as two, not as {cors['allowOrigins']}")
print(f"template.yaml translates into {len(stack)} resources")
