"""The feeds file: one table a feed, `[[fix]]`, `[[websocket]]`, `[[rest]]` or `[[sink]]`."""

import tomllib
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from libs.common.domain.symbol import normalise_symbol
from libs.common.settings import SettingsError
from services.gateway.schedule import MarketHours, Schedule

SESSION_NAME = r"^[A-Za-z0-9_-]{1,32}$"  # becomes a folder name and the provider of every tick
REST_OF_SYMBOLS = "all"  # the group of the symbols that no market hours name: always open


class Feed(BaseModel):
    """What feeds of every kind have. Secrets come from the environment, by the names in `…_env`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=SESSION_NAME)
    aliases: dict[str, str] = Field(default_factory=dict)
    stale_after_s: float = Field(10, ge=0, description="0: never")
    market_hours: tuple[MarketHours, ...] = ()

    @field_validator("aliases")
    @classmethod
    def _canonical(cls, aliases: dict[str, str]) -> dict[str, str]:
        for alias, symbol in aliases.items():
            if normalise_symbol(symbol) != symbol:
                raise ValueError(f"alias {alias!r}: {symbol!r} is not a canonical symbol ([A-Z0-9._/#-]{{1,32}})")
        return aliases

    @property
    def expects_quotes(self) -> bool:
        return True

    def group_of(self, symbol: str) -> str:
        """The name of the market hours that hold for a canonical symbol: the first that fit."""
        for hours in self.market_hours:
            if any(fnmatchcase(symbol, pattern) for pattern in hours.symbols):
                return hours.name
        return REST_OF_SYMBOLS

    def opened(self, groups: Collection[str], at_ns: int) -> int:
        """When the first of the groups that are open now opened, in ns; 0 where none has hours, or all are closed."""
        stretches = (schedule for hours in self.market_hours if hours.name in groups for schedule in hours.open)
        return min((began for schedule in stretches if (began := schedule.began(at_ns)) is not None), default=0)

    def is_open(self, group: str, at_ns: int) -> bool:
        return next((hours.is_open(at_ns) for hours in self.market_hours if hours.name == group), True)


class FixFeed(Feed):
    """A session as architecture.md writes it."""

    begin_string: Literal["FIX.4.2", "FIX.4.4", "FIXT.1.1"] = "FIX.4.4"
    default_appl_ver_id: Literal["9"] | None = Field(None, description="DefaultApplVerID(1137): 9 is FIX 5.0SP2")
    host: str
    port: int = Field(ge=1, le=65535)
    sender_comp_id: str = Field(min_length=1)
    target_comp_id: str = Field(min_length=1)
    heartbeat_s: int = Field(30, ge=0, le=3600)
    reset_on_logon: bool = True
    next_expected_seq_num: bool = False
    resend_chunk: int = Field(0, ge=0, le=1_000_000, description="messages a ResendRequest asks for; 0: all that are missing")
    schedule: Schedule | None = None
    symbols: Literal["all"] | tuple[str, ...] = "all"
    subscribe_by: Literal["market_data", "quote_request"] = "market_data"
    market_depth: int = Field(1, ge=0, le=1000)
    book_interval_s: float = Field(1.0, ge=0)
    trades: bool = False
    username: str | None = None
    password_env: str | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str | None = None
    sending_time_tolerance_s: float = Field(120, ge=0, description="0 accepts any clock")

    @field_validator("sender_comp_id", "target_comp_id", "username")
    @classmethod
    def _no_separator(cls, value: str | None) -> str | None:
        if value is not None and not (value.isprintable() and value.isascii()):
            raise ValueError("only printable ASCII may enter a FIX field")
        return value

    @field_validator("symbols")
    @classmethod
    def _sendable(cls, symbols: object) -> object:
        for symbol in symbols if isinstance(symbols, tuple) else ():
            if not (symbol.isprintable() and symbol.isascii() and symbol):
                raise ValueError(f"{symbol!r} cannot be sent as a FIX symbol")
        return symbols

    @model_validator(mode="after")
    def _application_version(self) -> Self:
        if (self.begin_string == "FIXT.1.1") != (self.default_appl_ver_id is not None):
            raise ValueError('begin_string = "FIXT.1.1" needs default_appl_ver_id = "9" (FIX 5.0SP2); other versions have none')
        return self

    @property
    def expects_quotes(self) -> bool:
        return self.symbols != ()

    def in_session(self, at_ns: int) -> bool:
        return self.schedule is None or self.schedule.covers(at_ns)


TimeUnit = Literal["s", "ms", "us", "ns", "rfc3339"]


class QuoteFields(BaseModel):
    """Where in an item of JSON a quote's parts are: names with dots between them; a number steps into a list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str = Field(min_length=1)
    bid: str = Field(min_length=1)
    ask: str = Field(min_length=1)
    bid_size: str | None = None
    ask_size: str | None = None
    time: str | None = Field(None, description="absent: a quote's time is when it was received")
    time_unit: TimeUnit = "ms"


class WebFeed(Feed):
    """What feeds of JSON have."""

    symbols: tuple[str, ...] | None = Field(None, min_length=1, description="absent: any symbol may come")


class SinkFeed(WebFeed):
    """A client that posts ticks to us."""

    token_env: str
    stale_after_s: float = Field(0, ge=0, description="0: never; a client comes and goes")


class SourceFeed(WebFeed):
    """What we connect to."""

    url: str
    items: str = Field("", description="the path to the object or list that holds the quotes; empty: the message itself")
    fields: QuoteFields
    headers_env: dict[str, str] = Field(default_factory=dict, description="header -> environment variable")
    tls_ca: Path | None = None

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, url: str) -> str:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0 or parts.username is not None:
            raise ValueError("write scheme://host/path; credentials belong in headers_env")
        return url


class WebSocketFeed(SourceFeed):
    url: str = Field(pattern=r"^wss?://")
    subscribe: tuple[str, ...] = Field((), description="messages that are sent after connecting")
    heartbeat_s: float = Field(20, ge=0, le=3600, description="a ping this often, and as long for its answer; 0: none")


class RestFeed(SourceFeed):
    url: str = Field(pattern=r"^https?://")
    interval_s: float = Field(1.0, ge=0.1)
    timeout_s: float = Field(5.0, gt=0, le=20, description="of a whole answer; shorter than a drain")


class Feeds(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fix: tuple[FixFeed, ...] = ()
    websocket: tuple[WebSocketFeed, ...] = ()
    rest: tuple[RestFeed, ...] = ()
    sink: tuple[SinkFeed, ...] = ()

    @property
    def all(self) -> tuple[Feed, ...]:
        return (*self.fix, *self.websocket, *self.rest, *self.sink)


def load_feeds(path: Path) -> Feeds:
    """The feeds file, or a SettingsError that says what is wrong where."""
    try:
        feeds = Feeds.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such feeds file; set TICKVAULT_FEEDS_FILE (docs/feeds.md shows one)") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        raise SettingsError("\n".join(lines)) from None
    names = [feed.name for feed in feeds.all]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"{path}: the session name {min(repeated)!r} is used twice")
    return feeds
