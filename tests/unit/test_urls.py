"""What the URL of a server may say. What would count for something else than it says is refused, and never quoted."""

from __future__ import annotations

import traceback

import pytest

from redisq import InvalidSettings, urls

TAKEN = [
    "redis://",
    "redis:///3",
    "redis://host",
    "redis://host:6379",
    "redis://host:6379/",
    "redis://host:6379/15",
    "redis://a_b.example-1.org:1/0/",
    "redis://host.example.org.",
    "redis://" + "h" * 63 + ".example.org",
    "redis://bücher.example:6379/0",
    "redis://[::1]:6379/0",
    "redis://[fe80::1%25eth0]",
    "redis://:p%40s%2Fs%25@host/0",
    "redis://user:a:b!$&'()*+,;=-._~@host",
    "redis://user@host",
    "rediss://host/0?ssl_ca_certs=/etc/ssl/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=false&protocol=3",
    "redis://host?db=3&client_name=shop",
    "redis://host?username=guest&password=s3cret",
    "unix:///run/redis.sock?db=3",
    "unix:///home/a@b/my%20sockets/redis.sock",
    "unix://user:s3cret@/run/redis.sock",
    "embedded://",
    "embedded:///var/lib/queue",
    "embedded:///var/lib/%C3%BC%FF",
]
REFUSED = {
    # a form that is none
    "": "redis://host:port/db",
    "localhost:6379": "redis://host:port/db",
    "http://host": "redis://host:port/db",
    "REDIS://host": "redis://host:port/db",
    "redis+cluster://host": "redis://host:port/db",
    "redis:host": "redis://host:port/db",
    "embedded:/folder": "embedded://",
    "embedded://folder": "embedded:///path/of/directory",
    "embedded:///\ud800": "no name of a file has",
    "embedded:///data/%00": "no name of a file has",
    " redis://host": "space or line break",
    "redis://host\n": "space or line break",
    "redis://ho\tst": "control character",
    # a host that is none
    "redis://:6379/0": "names no host",
    "redis://:s3cret@/0": "names no host",
    "redis://${REDIS_HOST}:6379": "host that cannot be one",
    "redis://a,b:6379": "It takes one server",
    "redis://::1:6379": "brackets",
    "redis://[::1": "host that cannot be one",
    "redis://[nonsense]": "host that cannot be one",
    "redis://ho st": "host that cannot be one",
    "redis://h..": "name that no host has",
    "redis://.": "name that no host has",
    "redis://h..example.org:6379": "name that no host has",
    "redis://" + "h" * 64: "name that no host has",
    "redis://" + "ü" * 60: "name that no host has",
    "rediss://" + "h" * 300: "name that no host has",
    "redis://" + "h." * 127 + "h": "name that no host has",
    # a port that is none
    "redis://host:0": "port",
    "redis://host:65536": "port",
    "redis://host:6379x": "port",
    "redis://host:-1": "port",
    "redis://host:٦٣": "port",
    # a database that is none
    "redis://host/first": "one number",
    "redis://host/1/2": "one number",
    "redis://host/-1": "one number",
    "redis://host//1": "one number",
    "redis://host/1?db=2": "two databases",
    "redis://host?db=first": "option db",
    "redis://host#0": "#",
    # a socket that is none
    "unix://relative": "whole path",
    "unix://relative/redis.sock": "whole path",
    "unix://": "names no socket",
    "unix:///": "names no socket",
    "unix:///run/": "names no socket",
    "unix:///run/%00": "names no socket",
    "unix:///" + "x" * 107: "107 bytes",
    # options
    "redis://host?nonsense=1": "does not take",
    "rediss://host?ssl_ca_cert=/ca.pem": "Did you mean ssl_ca_certs?",
    "redis://host?protocol=4": "option protocol",
    "redis://host?protocol=2&protocol=3": "twice",
    "redis://host?db=": "option db",
    "redis://host?db": "option db",
    "redis://host?socket_timeout=1": "REDISQ_COMMAND_TIMEOUT",
    "redis://host?socket_connect_timeout=1": "REDISQ_CONNECT_TIMEOUT",
    "redis://host?max_connections=1": "REDISQ_MAX_CONNECTIONS",
    "redis://host?retry_on_timeout=1": "REDISQ_RETRY_DEADLINE",
    "redis://host?retry=3": "REDISQ_RETRY_DEADLINE",
    "redis://host?decode_responses=true": "sets itself",
    "redis://host?host=other": "sets itself",
    "redis://host?ssl_ca_certs=/ca.pem": "rediss://",
    "rediss://host?ssl_cert_reqs=maybe": "ssl_cert_reqs",
    "rediss://host?ssl_check_hostname=maybe": "ssl_check_hostname",
    # what was printed is no URL to connect to
    "redis://:***@host": "masked",
    "redis://host?password=***": "masked",
}
PASSWORDS = ["s3cr/3tw0rd", "s3cr?3tw0rd", "s3cr#3tw0rd", "s3cr@3tw0rd", "s3cr[3tw0rd", "s3cr]3tw0rd", "s3cr%3tw0rd"]
PASSWORDS += ["s3cr%ff3tw0rd", "123/3tw0rd", "/3tw0rd", "#3tw0rd", "s3cr/3tw0rd/3tw0rd", "s3cr@/?#3tw0rd"]


@pytest.mark.parametrize("url", TAKEN)
def test_what_is_taken(url: str) -> None:
    urls.check(url)


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused_and_why(url: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        urls.check(url)
    assert REFUSED[url] in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", ["redis://:{}@host:6379/0", "rediss://user:{}@host", "unix://:{}@/run/redis.sock"])
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(form: str, password: str) -> None:
    with pytest.raises(InvalidSettings, match="percent-encode") as refused:
        urls.check(form.format(password))
    told = "".join(traceback.format_exception(refused.value))
    assert refused.value.__context__ is None or "3tw0rd" not in str(refused.value.__context__)
    for part in ("s3cr", "3tw0rd"):
        assert part not in told
        assert part not in urls.shown(form.format(password))


def test_a_url_is_shown_without_its_secrets() -> None:
    shown = {
        "redis://host:6379/0": "redis://host:6379/0",
        "redis://user@host": "redis://user@host",
        "redis://user:s3cret@host/1?db=1": "redis://user:***@host/1?db=1",
        "redis://:s3cret@host": "redis://:***@host",
        "unix://:s3cret@/run/a.sock": "unix://:***@/run/a.sock",
        "redis://host?username=guest&password=s3cret&db=1": "redis://host?username=guest&password=***&db=1",
        "rediss://host?ssl_password=s3cret": "rediss://host?ssl_password=***",
        "embedded:///data": "embedded:///data",
        "nonsense:s3cret": "***",
        "redis://:s3cret": "redis://***",
    }
    for url, text in shown.items():
        assert urls.shown(url) == text
        assert repr(urls.Url(url)) == repr(text)
        assert f"{urls.Url(url)}" == url
