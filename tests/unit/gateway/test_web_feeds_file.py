"""The tables of the feeds file for JSON feeds: what is taken, what is refused and why."""

import re
from pathlib import Path

import pytest

from libs.common.settings import SettingsError
from services.gateway.feeds import QuoteFields, RestFeed, SinkFeed, WebSocketFeed, load_feeds
from services.gateway.web.link import tls_context

FIELDS = 'fields = { symbol = "s", bid = "b", ask = "a" }'
WEBSOCKET = f'[[websocket]]\nname = "WS"\nurl = "wss://feed.example/ws"\n{FIELDS}\n'
REST = f'[[rest]]\nname = "POLL"\nurl = "https://feed.example/quotes"\n{FIELDS}\n'
SINK = '[[sink]]\nname = "DESK"\ntoken_env = "DESK_TOKEN"\n'


def load(tmp_path, *tables):
    path = tmp_path / "feeds.toml"
    path.write_text("\n".join(tables))
    return load_feeds(path)


def refusal(tmp_path, *tables):
    with pytest.raises(SettingsError) as error:
        load(tmp_path, *tables)
    return str(error.value)


def test_the_defaults(tmp_path):
    feeds = load(tmp_path, WEBSOCKET, REST, SINK)
    assert [feed.name for feed in feeds.all] == ["WS", "POLL", "DESK"]
    (websocket,), (rest,), (sink,) = feeds.websocket, feeds.rest, feeds.sink
    assert (websocket.items, websocket.subscribe, websocket.heartbeat_s, websocket.stale_after_s) == ("", (), 20, 10)
    assert (rest.interval_s, rest.timeout_s, rest.stale_after_s) == (1, 5, 10)
    assert (sink.stale_after_s, sink.symbols) == (0, None)
    assert websocket.fields.time_unit == "ms"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (WEBSOCKET.replace("wss://", "https://"), "websocket.0.url: "),
        (WEBSOCKET.replace("feed.example", "user:pass@feed.example"), "credentials belong in headers_env"),
        (WEBSOCKET.replace("wss://feed.example/ws", "wss:///ws"), "write scheme://host/path"),
        (WEBSOCKET.replace("feed.example", "feed.example:99999"), "websocket.0.url: "),
        (WEBSOCKET.replace(', ask = "a"', ""), "websocket.0.fields.ask: "),
        (WEBSOCKET.replace('"a" }', '"a", time_unit = "h" }'), "websocket.0.fields.time_unit: "),
        (WEBSOCKET + 'symbol = "X"\n', "websocket.0.symbol: "),
        (WEBSOCKET + "symbols = []\n", "websocket.0.symbols: "),
        (WEBSOCKET + "heartbeat_s = -1\n", "websocket.0.heartbeat_s: "),
        (REST + "interval_s = 0.05\n", "rest.0.interval_s: "),
        (REST + "timeout_s = 60\n", "rest.0.timeout_s: "),
        (REST.replace("https://", "ftp://"), "rest.0.url: "),
        (SINK + 'token = "secret"\n', "sink.0.token: "),
        (SINK.replace('token_env = "DESK_TOKEN"', ""), "sink.0.token_env: "),
        (SINK + SINK, "'DESK' is used twice"),
        (SINK.replace("DESK", "WS", 1) + WEBSOCKET, "'WS' is used twice"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, table, said):
    text = refusal(tmp_path, table)
    assert said in text
    assert "pass@" not in text


def test_a_ca_file_that_cannot_be_read_is_named(tmp_path):
    (feed,) = load(tmp_path, WEBSOCKET + 'tls_ca = "/no/such.pem"\n').websocket
    with pytest.raises(SettingsError, match=r"session WS: TLS file /no/such.pem cannot be used"):
        tls_context(feed)


@pytest.mark.parametrize(
    ("heading", "model", "elsewhere"),
    [
        ("### What a message is mapped by", QuoteFields, set()),
        ("### `[[websocket]]`", WebSocketFeed, set()),
        ("### `[[rest]]`", RestFeed, set(WebSocketFeed.model_fields)),
        ("### `[[sink]]`", SinkFeed, set()),
    ],
)
def test_every_key_is_explained(heading, model, elsewhere):
    page = (Path(__file__).parents[3] / "docs" / "feeds.md").read_text("utf-8")
    section = page.partition(f"{heading}\n")[2].partition("\n##")[0]
    cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section, re.MULTILINE)
    explained = {key.strip("`") for cell in cells for key in cell.split(", ")}
    assert explained | elsewhere >= set(model.model_fields)
    assert explained <= set(model.model_fields)
