"""The CloudFront distribution of the templates."""

import json
import shutil
import subprocess

import pytest

from functions.aws.viewer_address import ADDRESS_HEADER
from tests.infra.cloudformation import (
    environment,
    function,
    properties,
)


def test_cloudfront_paths_and_rate_limit() -> None:
    distribution = properties("edge", "Distribution")["DistributionConfig"]
    (socket,) = distribution["CacheBehaviors"]
    assert socket["PathPattern"] == f"/{properties('websocket', 'Api')['StageName']}"
    assert distribution["DefaultCacheBehavior"]["TargetOriginId"] == "http"
    # CloudFront has to wait at least as long as the function.
    (http,) = (one for one in distribution["Origins"] if one["Id"] == "http")
    assert http["CustomOriginConfig"]["OriginReadTimeout"] > function("http.HttpFunction")["Timeout"]
    (rule,) = properties("edge", "Acl")["Rules"]
    assert rule["Statement"]["RateBasedStatement"]["Limit"] == {"Ref": "RequestsPerAddress"}
    # Pages of the domain are an allowed origin.
    for stack in ("Http", "WebSocket", "Storage"):
        assert "https://${DomainName}" in str(properties("root", stack)["Parameters"]["CorsOrigins"])


def test_cloudfront_origin_secret_and_address() -> None:
    distribution = properties("edge", "Distribution")["DistributionConfig"]
    secret = {"Fn::Sub": "{{resolve:secretsmanager:${OriginSecretArn}:SecretString}}"}
    for origin in distribution["Origins"]:
        assert origin["OriginCustomHeaders"] == [{"HeaderName": "X-Origin-Secret", "HeaderValue": secret}]
    for behavior in [distribution["DefaultCacheBehavior"], *distribution["CacheBehaviors"]]:
        (association,) = behavior["FunctionAssociations"]
        assert association["FunctionARN"] == {"Fn::GetAtt": ["ViewerAddress", "FunctionARN"]}
    expected = {"Fn::If": ["HasOriginSecret", secret, {"Ref": "AWS::NoValue"}]}
    for name in ("http.HttpFunction", "websocket.ConnectFunction"):
        assert environment(name)["ORIGIN_SECRET"] == expected
    for stack in ("Http", "WebSocket"):
        arn = properties("root", stack)["Parameters"]["OriginSecretArn"]
        assert arn == {"Fn::If": ["HasDomain", {"Ref": "OriginSecret"}, ""]}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_cloudfront_replaces_forged_address() -> None:
    code = properties("edge", "ViewerAddress")["FunctionCode"]
    event = {
        "viewer": {"ip": "198.51.100.1"},
        "request": {"uri": "/", "headers": {ADDRESS_HEADER: {"value": "forged"}, "accept": {"value": "*/*"}}},
    }
    script = f"{code}; console.log(JSON.stringify(handler({json.dumps(event)})))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    headers = json.loads(done.stdout)["headers"]
    assert headers == {ADDRESS_HEADER: {"value": "198.51.100.1"}, "accept": {"value": "*/*"}}
