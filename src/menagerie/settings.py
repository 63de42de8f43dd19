"""All settings of all processes: one frozen object, read from `MENAGERIE_*` variables, unknown ones refused."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from menagerie.errors import ConfigurationError

PREFIX = "MENAGERIE_"


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Every field is the variable `MENAGERIE_<FIELD>`; lists are written with commas."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    home: Path = Field(Path(".menagerie"), description="where everything that is made is kept")
    shared: Path | None = Field(None, description="holds `data/` and `weights/`; default: `shared` beside the checkout")
    data: Path | None = Field(None, description="folder of `oxford-iiit-pet`; default `<shared>/data/pets`")
    weights: Path | None = Field(None, description="safetensors file to start from, instead of the problem's")
    batch_size: int | None = Field(None, ge=2, description="of training, instead of the problem's")
    loader_workers: int = Field(0, ge=0, description="threads that read and prepare inputs; 0: one for each processor")
    download: bool = Field(False, description="whether torchvision may fetch pictures and weights that are absent")
    problems_dir: Path | None = Field(None, description="a folder with problem files of your own")
    problems: Names = Field(("sketches",), description="the problems a service hosts; the first is the default")
    tracking_uri: str = Field("", description="MLflow's database or server; default `<home>/mlflow.db`")
    journal_url: str = Field("", description="SQLAlchemy URL of the journal; default `<home>/journal.db`")
    releases_url: str = Field("", description="fsspec URL of the release channel; default `<home>/releases`")
    prefect_api_url: str = Field("http://127.0.0.1:4200/api", description="where the service posts its events")
    host: str = Field("127.0.0.1", description="address the local stack listens on")
    service_port: int = Field(3000, ge=1, le=65535, description="port of the service")
    prefect_port: int = Field(4200, ge=1, le=65535, description="port of the local Prefect server")
    mlflow_port: int = Field(5000, ge=1, le=65535, description="port of the local MLflow UI")
    ui: bool = Field(True, description="whether the service carries the Gradio page")
    keep_pictures: Literal["off", "candidates", "all"] = Field("candidates", description="which inputs are stored")
    trusted_labellers: Names = Field((), description="`X-Client-Id`s whose label counts alone")
    quorum: int = Field(2, ge=2, description="how many untrusted clients must agree before a label counts")
    quarantine_agreement: float = Field(
        0.6, gt=0, lt=1, description="share of labels that a client must agree with, or its labels do not count"
    )
    quarantine_labels: int = Field(20, ge=5, description="labels of a client that can be compared, to judge it by them")
    feedback_per_hour: int = Field(600, ge=1, description="labels of an untrusted client; with more, none of its count")
    admin_key: str | None = Field(None, min_length=16, description="Bearer key of the admin routes; unset: closed")
    max_body_bytes: int = Field(15_000_000, ge=1000, description="largest request body, in bytes")
    max_megapixels: float = Field(32.0, gt=0, le=89, description="largest picture, in millions of pixels")
    max_side: int = Field(12_000, ge=16, description="longest side of a picture, in pixels")
    batch_max: int = Field(16, ge=1, le=256, description="largest batch the service forms")
    batching: Literal["own", "batchable"] = Field("own", description="who forms batches: our batcher or BentoML's")
    inference_threads: int = Field(0, ge=0, description="parallel batches; 0: one for each processor")
    max_waiting: int = Field(256, ge=1, description="requests waiting for a batch before 503 is answered")
    request_seconds: float = Field(30.0, gt=0, description="a prediction or an upload slower than this is given up")
    follow_seconds: float = Field(1.0, gt=0, description="how often the service looks at the release channel")
    notify: Names = Field((), description="Prefect blocks that tell people, such as `slack-webhook/team`")
    tracing_url: str | None = Field(None, description="OTLP/HTTP collector that gets the service's spans; unset: off")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: dict[str, object]) -> dict[str, object]:
        known = {PREFIX + name.upper() for name in cls.model_fields} | ENVIRONMENT_ONLY
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; `docs/settings.md` lists those there are")
        return values

    @model_validator(mode="after")
    def _defaults(self) -> Settings:
        home = self.home.expanduser().resolve()
        beside = Path(__file__).resolve().parents[3] / "shared"  # of an installation from a checkout
        defaults = {
            "home": home,
            "shared": self.shared or (beside if (beside / "data").is_dir() else None),
            "tracking_uri": self.tracking_uri or f"sqlite:///{home / 'mlflow.db'}",
            "journal_url": self.journal_url or f"sqlite:///{home / 'journal.db'}",
            "releases_url": self.releases_url or f"file://{home / 'releases'}",
        }
        for name, value in defaults.items():
            object.__setattr__(self, name, value)  # the object is frozen; this is the end of its construction
        return self


# Read by the tests alone.
ENVIRONMENT_ONLY = {"MENAGERIE_NO_SKIP"}


@cache
def get_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: naming each variable that is unknown or out of range.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}"
            if e["loc"]
            else e["msg"].removeprefix("Value error, ")
            for e in error.errors()
        ]
        raise ConfigurationError("; ".join(lines)) from None
