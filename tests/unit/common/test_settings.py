"""Settings: from the environment, and nothing unknown."""

from importlib import import_module
from pathlib import Path

import pytest

from libs.common.settings import Settings, SettingsError, load
from services.gateway.settings import GatewaySettings
from services.persistence.settings import PersistenceSettings

ROOT = Path(__file__).resolve().parents[3]


def test_defaults_are_those_of_the_contract() -> None:
    settings = load(GatewaySettings)
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert (settings.partitions, settings.stream_replay_hours, settings.journal_fsync_ms) == (1, 26, 200)
    assert settings.gateway_http_port == 8082


def test_the_name_of_another_service_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVAULT_PERSISTENCE_HTTP_PORT", "9000")
    assert load(GatewaySettings).gateway_http_port == 8082
    assert load(PersistenceSettings).persistence_http_port == 9000


@pytest.mark.parametrize("path", sorted(ROOT.glob("services/*/settings.py")), ids=lambda path: path.parent.name)
def test_a_name_without_a_service_in_it_is_known_to_all_of_them(path: Path) -> None:
    service = path.parent.name
    kinds = vars(import_module(f"services.{service}.settings")).values()
    (own,) = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings) and kind.service]
    assert [name for name in own.model_fields if name not in Settings.model_fields and not name.startswith(service)] == []


@pytest.mark.parametrize("name", ["TICKVAULT_REDIS_URI", "TICKVAULT_GATEWAY_HTTPPORT", "TICKVAULT_"])
def test_a_name_nobody_knows_stops_the_service(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name} is not a setting"):
        load(GatewaySettings)


def test_a_wrong_value_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVAULT_PARTITIONS", "0")
    with pytest.raises(SettingsError, match="TICKVAULT_PARTITIONS: Input should be greater"):
        load(GatewaySettings)


def test_the_password_in_the_redis_url_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVAULT_REDIS_URL", "redis://:canary-secret@127.0.0.1/0")
    assert "canary-secret" not in repr(load(GatewaySettings))
