"""What to learn: one small TOML file for each problem, validated, unknown keys refused."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from menagerie.errors import ConfigurationError
from menagerie.settings import get_settings


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageInput(_Part):
    """How a picture becomes the model's input: shorter side to `resize`, then the central `size` x `size`."""

    kind: Literal["image"]
    size: int = Field(ge=16, le=1024, description="pixels, after the central crop")
    resize: int = Field(ge=16, le=1024, description="pixels of the shorter side before the crop")

    @model_validator(mode="after")
    def _crop_fits(self) -> ImageInput:
        if self.resize < self.size:
            raise ValueError(f"resize ({self.resize}) must be at least size ({self.size})")
        return self


class TabularInput(_Part):
    """The columns of a row, in the order the model takes them; all are numbers."""

    kind: Literal["tabular"]
    columns: tuple[str, ...] = Field(min_length=1)


class SketchesSource(_Part):
    """Pictures drawn by the project itself."""

    type: Literal["sketches"]
    count: int = Field(1600, ge=20, description="pictures to draw")
    seed: int = 0
    condition: str = "day"


class PetsSource(_Part):
    """Oxford-IIIT Pet through torchvision, with its official split."""

    type: Literal["oxford-pets"]
    target: Literal["binary-category", "category"] = "binary-category"
    limit: int | None = Field(None, ge=20, description="pictures of each split to take, for small runs")


class CatSource(_Part):
    """Cats against everything else: the cats and dogs of Oxford-IIIT Pet, and other things as not-cats.

    Of the classes of `other` every second one, in alphabetical order, is learnt from; the rest stay unseen, to measure
    how well the unknown is recognised."""

    type: Literal["cat"]
    limit: int | None = Field(None, ge=20, description="pictures of each split of the pets to take, for small runs")


class FolderSource(_Part):
    """`<path>/<class>/*`; `<path>/{train,test}/<class>/*` keeps that split. With `training.subclasses` the folders in
    a class's folder are its subclasses."""

    type: Literal["folder"]
    path: Path


class TableSource(_Part):
    """A CSV file with a header; `label` names the column to predict."""

    type: Literal["table"]
    path: Path
    label: str


class Model(_Part):
    """The network and where its weights come from."""

    backbone: Literal[
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "resnet18",
        "baseline_cnn",
        "simple_cnn",
        "mlp",
    ]
    weights: Literal["none", "torchvision"] | str = Field("none", description="or a .safetensors file")
    mirrored: bool = Field(
        False, description="look at each picture as it is and mirrored, and use the mean: more right, half as fast"
    )


View = Literal["mirrored", "zoomed", "wide", "tall", "dim", "blurred"]
"""A changed copy of a picture that a head learns from besides the picture itself."""


class Training(_Part):
    """One training run. The whole network learns for `epochs` (none: it stays as its weights file has it); then, with
    `head = "logistic"`, a logistic regression on its frozen features takes the place of its last layer."""

    head: Literal["network", "logistic"] = Field("network", description="what gives the logits")
    head_views: tuple[View, ...] = Field((), description="changed copies that the logistic regression learns from")
    head_strengths: tuple[float, ...] = Field(
        (0.03, 0.3, 3.0), min_length=1, description="inverse regularisations that 5-fold cross-validation chooses from"
    )
    subclasses: bool = Field(
        False,
        description="the logistic regression learns finer labels, where the source has them (the breeds of cats and "
        "dogs), and adds up the probabilities of those of a class",
    )
    balance: float = Field(0.0, ge=0, le=1, description="0: every row counts the same; 1: every class does")
    epochs: int = Field(0, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of a stage over that of the next one")
    freeze_norm: bool = Field(False, description="keep the statistics of batch norm as the weights file has them")
    weight_decay: float = Field(1e-4, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0: none")
    batch_size: int = Field(64, ge=2, description="over all processes; MENAGERIE_BATCH_SIZE wins")
    patience: int = Field(5, ge=1, description="epochs without a better validation loss before stopping")
    retrain_epochs: int = Field(
        6, ge=0, description="instead of `epochs` after the champion; a logistic head keeps its trunk"
    )
    recent_share: float = Field(0.3, ge=0, le=0.9, description="share of newly labelled inputs in a retraining epoch")
    recent_views: tuple[View, ...] = Field(
        ("mirrored", "zoomed", "wide", "tall"),
        description="changed copies of newly labelled pictures that the logistic regression learns from",
    )
    keep: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="share, in the weights of a retrained logistic head, of one that saw no newly labelled input",
    )
    augmentation: Literal["basic", "trivial"] = Field("basic", description="`trivial`: TrivialAugment as well")
    flip: bool = True
    rotation: float = Field(10.0, ge=0, le=180, description="degrees either way")
    jitter: float = Field(0.2, ge=0, lt=1, description="brightness, contrast and saturation, as a share")
    aspect: float = Field(0.0, ge=0, lt=1, description="stretch of either side, as a share")
    zoom: float = Field(0.0, ge=0, lt=1, description="largest part of a side that a crop leaves out")
    mix: Literal["none", "mixup", "cutmix"] = "none"
    first_size: int | None = Field(None, ge=16, description="pixels of the first epoch's pictures, growing to the full")
    seed: int = 0

    @model_validator(mode="after")
    def _something_to_do(self) -> Training:
        if self.head == "network" and self.epochs == 0:
            raise ValueError('epochs is 0 and head is "network": nothing would be trained')
        if self.head == "network" and self.subclasses:
            raise ValueError('subclasses are learnt by a logistic head: set head = "logistic" or leave them out')
        return self


class Export(_Part):
    """Which forms of a model are tried, and what a faster one may cost."""

    precisions: tuple[Literal["fp32", "bf16", "int8"], ...] = Field(("fp32", "bf16", "int8"), min_length=1)
    budget: float = Field(0.002, ge=0, lt=1, description="validation accuracy that a faster form may lose")

    @model_validator(mode="after")
    def _has_the_reference(self) -> Export:
        if "fp32" not in self.precisions:
            raise ValueError('precisions must name "fp32": the others are measured against it')
        return self


class Confidence(_Part):
    """What an answer says of its own certainty."""

    coverage: float = Field(0.95, gt=0.5, lt=1, description="share of inputs whose prediction set holds the truth")
    unknown_alarms: float = Field(
        0.01, gt=0, lt=0.5, description="share of known inputs called unknown, at most: with 90 % confidence"
    )
    unknown_alarms_mild: float = Field(0.05, gt=0, lt=0.5, description="the same of mildly changed known inputs")


class Gate(_Part):
    """What a challenger must reach. Shares are of 1."""

    min_accuracy: float = Field(ge=0, le=1)
    min_recall: float = Field(0.0, ge=0, le=1, description="of every class")
    margin: float = Field(0.01, ge=0, le=1, description="how far below the champion golden accuracy may be")
    significance: float = Field(0.05, gt=0, lt=0.5)
    min_recent: int = Field(30, ge=1, description="recent labelled inputs needed to judge after drift")
    min_slice: int = Field(50, ge=10, description="inputs of a slice needed to judge on it")
    max_calibration_error: float = Field(0.1, gt=0, le=1, description="expected calibration error on golden")
    robustness_inputs: int = Field(100, ge=0, description="golden inputs that are corrupted to judge on; 0: none")
    robustness_margin: float = Field(0.03, ge=0, le=1, description="how far below the champion's corrupted accuracy")
    max_milliseconds: float = Field(100.0, gt=0, description="of the processor for one input, in batches of 8")
    max_megabytes: float = Field(200.0, gt=0, description="of the files that are served")


class Drift(_Part):
    """When the journal's window counts as moved."""

    window: int = Field(400, ge=20, description="predictions compared with the reference")
    min_window: int = Field(100, ge=20, description="below it the check answers `insufficient data`")
    false_alarm_rate: float = Field(0.01, gt=0, lt=0.5, description="of one check when nothing moved")
    harm: float = Field(0.03, ge=0, le=1, description="estimated loss of accuracy that makes a detection an alarm")


class Policy(_Part):
    """When to retrain, and when to take a promotion back."""

    accuracy_floor: float = Field(0.0, ge=0, le=1, description="feedback accuracy surely below it needs mending")
    min_labels: int = Field(120, ge=1, description="new labels a retraining needs after an alarm")
    enough_labels: int = Field(500, ge=1, description="new labels that alone start a retraining")
    max_age_days: float | None = Field(
        None, gt=0, description="days after a training when another is due, labels allowing; none: never"
    )
    cooldown_minutes: float = Field(30.0, ge=0, description="after a retraining was asked for")
    daily_budget: int = Field(8, ge=1, description="retrainings a day; beyond it a person has to approve")
    false_rollback_rate: float = Field(
        0.01, gt=0, lt=0.5, description="share of promotions that are taken back though they are no worse"
    )


class Canary(_Part):
    """How a challenger gets traffic: it scores in the shadow first, then answers a growing share of requests. A step
    ends by its number of requests; a challenger that does not hold in it is withdrawn."""

    use: bool = Field(False, description="a retrained challenger goes through a canary, not to all requests at once")
    shadow_percent: int = Field(50, ge=1, le=100, description="of requests that it scores without answering, at first")
    steps: tuple[int, ...] = Field((5, 25, 50), min_length=1, description="per cent that it answers, 1 to 99, growing")
    requests: int = Field(100, ge=10, description="that it has to score or answer in each step")
    patience_minutes: float = Field(240.0, gt=0, description="for the requests of a step; then it is withdrawn")
    max_failure_share: float = Field(0.02, ge=0, lt=1, description="of its requests in a step")
    latency_ratio: float = Field(2.0, ge=1, description="largest 95th percentile over the champion's in the same step")
    least_labelled: int = Field(30, ge=5, description="labels, or pairs without labels, from which accuracy is judged")
    margin: float = Field(0.03, ge=0, le=1, description="how far below the champion's its accuracy may be")
    false_stop_rate: float = Field(
        0.05, gt=0, lt=0.5, description="how often accuracy stops an equal challenger, over all steps together"
    )

    @field_validator("steps")
    @classmethod
    def _growing(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)) or not 1 <= steps[0] <= steps[-1] <= 99:
            raise ValueError("steps must grow, from at least 1 to at most 99")
        return steps


class Validation(_Part):
    """Limits of the data report."""

    min_side: int = Field(16, ge=1, description="pixels; smaller pictures are left out")
    min_per_class: int = Field(10, ge=1, description="fewer in training is an error")
    max_imbalance: float = Field(10.0, ge=1, description="largest class over smallest; more is a warning")


class Problem(_Part):
    """A problem file."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")
    description: str = ""
    classes: tuple[str, ...] = Field(min_length=2)
    source: Annotated[SketchesSource | PetsSource | CatSource | FolderSource | TableSource, Field(discriminator="type")]
    input: Annotated[ImageInput | TabularInput, Field(discriminator="kind")]
    model: Model
    training: Training
    gate: Gate
    export: Export = Export()
    confidence: Confidence = Confidence()
    drift: Drift = Drift()
    policy: Policy = Policy()
    canary: Canary = Canary()
    validation: Validation = Validation()

    @property
    def kind(self) -> str:
        """`image` or `tabular`."""
        return self.input.kind

    @property
    def registered_model(self) -> str:
        """The name in the model registry."""
        return f"menagerie-{self.name}"

    @model_validator(mode="after")
    def _fits_together(self) -> Problem:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a name twice")
        if self.policy.min_labels < 4 * self.gate.min_recent:
            raise ValueError(
                f"policy.min_labels ({self.policy.min_labels}) must be at least 4 times gate.min_recent "
                f"({self.gate.min_recent}): only a third of new labels is judged on"
            )
        if (self.kind == "tabular") != (self.model.backbone == "mlp"):
            raise ValueError(f"backbone {self.model.backbone} does not take {self.kind} inputs")
        if self.kind == "tabular" and self.model.mirrored:
            raise ValueError("model.mirrored is of pictures; tabular inputs have no mirror image")
        if self.kind == "tabular" and self.training.head_views:
            raise ValueError("training.head_views are changes of pictures; tabular inputs have none")
        if self.training.head == "logistic" and self.training.epochs == 0 and self.model.weights == "none":
            raise ValueError('model.weights is "none" and training.epochs 0: the head would learn from random features')
        if (self.kind == "tabular") != (self.source.type == "table"):
            raise ValueError(f"source {self.source.type} does not give {self.kind} inputs")
        return self


def available() -> dict[str, Path]:
    """Problem files by name: those shipped, then those in the setting `problems_dir`, which win."""
    folders = [Path(str(resources.files(__name__)))]
    if (own := get_settings().problems_dir) is not None:
        folders.append(own)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load_problem(name: str) -> Problem:
    """Read and validate a problem.

    Raises:
        ConfigurationError: no such problem, or a file with unknown keys or values out of range; names file and field.
    """
    files = available()
    if name not in files:
        raise ConfigurationError(
            f"no problem {name!r}; there are {', '.join(sorted(files))}. "
            "Put your own <name>.toml in the folder named by MENAGERIE_PROBLEMS_DIR."
        )
    path = files[name]
    try:
        problem = Problem.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'problem'}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError(f"{path}: " + "; ".join(lines)) from None
    if problem.name != name:
        raise ConfigurationError(f"{path}: name is {problem.name!r}, the file says {name!r}; make them the same")
    return _with_settings(problem)


def _with_settings(problem: Problem) -> Problem:
    """What the settings `batch_size` and `weights` say wins, so that a run's record of its problem tells all."""
    settings = get_settings()
    if settings.batch_size is not None:
        training = problem.training.model_copy(update={"batch_size": settings.batch_size})
        problem = problem.model_copy(update={"training": training})
    if settings.weights is not None and problem.model.weights != "none":
        model = problem.model.model_copy(update={"weights": str(settings.weights)})
        problem = problem.model_copy(update={"model": model})
    return problem
