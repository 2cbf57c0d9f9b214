"""The feeds file: one `[[fix]]` table a session with a liquidity provider."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from libs.common.domain.symbol import normalise_symbol
from libs.common.settings import SettingsError

SESSION_NAME = r"^[A-Za-z0-9_-]{1,32}$"  # becomes a folder name and the provider of every tick


class FixFeed(BaseModel):
    """A session as architecture.md writes it. Secrets come from the environment, by the name in `password_env`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=SESSION_NAME)
    begin_string: Literal["FIX.4.4"] = "FIX.4.4"
    host: str
    port: int = Field(ge=1, le=65535)
    sender_comp_id: str = Field(min_length=1)
    target_comp_id: str = Field(min_length=1)
    heartbeat_s: int = Field(30, ge=0, le=3600)
    reset_on_logon: bool = True
    symbols: Literal["all"] | tuple[str, ...] = "all"
    market_depth: Literal[1] = 1
    username: str | None = None
    password_env: str | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str | None = None
    sending_time_tolerance_s: float = Field(120, ge=0, description="0 accepts any clock")
    aliases: dict[str, str] = Field(default_factory=dict)

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

    @field_validator("aliases")
    @classmethod
    def _canonical(cls, aliases: dict[str, str]) -> dict[str, str]:
        for alias, symbol in aliases.items():
            if normalise_symbol(symbol) != symbol:
                raise ValueError(f"alias {alias!r}: {symbol!r} is not a canonical symbol ([A-Z0-9._/#-]{{1,32}})")
        return aliases


class Feeds(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fix: tuple[FixFeed, ...] = ()


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
    names = [feed.name for feed in feeds.fix]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"{path}: the session name {min(repeated)!r} is used twice")
    return feeds
