"""Pictures: the same input as torchvision gives, statistics that move with what they name, storage, near-duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from menagerie.errors import UnusableInput
from menagerie.kinds import make_kind
from menagerie.kinds.image import STATISTICS, ImageKind
from menagerie.problems import ImageInput
from menagerie.settings import get_settings
from tests.security import bad_images

SPEC = ImageInput(kind="image", size=224, resize=256)


@pytest.fixture
def kind() -> ImageKind:
    return ImageKind(SPEC)


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Shapes with grain, so that a crop one pixel off shows."""
    rng = np.random.default_rng(seed)
    smooth = np.asarray(bad_images.picture(width, height, seed)).astype(float)
    return np.clip(smooth + rng.normal(0, 25, smooth.shape), 0, 255).astype(np.uint8)


def described(kind: ImageKind, example: np.ndarray) -> dict[str, float]:
    values = kind.describe(example)
    assert values.shape == (len(STATISTICS),)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    return dict(zip(kind.statistics, values.tolist(), strict=True))


def test_it_is_what_the_problem_describes():
    kind = make_kind(SPEC)
    assert isinstance(kind, ImageKind)
    assert (kind.shape, kind.dtype, tuple(kind.statistics)) == ((224, 224, 3), "uint8", STATISTICS)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        *((500, 375), (375, 500), (333, 501), (501, 334), (257, 256), (256, 256), (301, 299), (1023, 768)),
        *((224, 225), (97, 61), (61, 98), (5, 3), (1, 1), (700, 40), (41, 703)),
    ],
)
@pytest.mark.parametrize(("size", "resize"), [(224, 256), (97, 113), (64, 64)])
def test_preprocessing_is_torchvisions(width: int, height: int, size: int, resize: int):
    from menagerie.models.torchvision_import import torchvision

    transforms = torchvision.transforms
    reference = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])
    example = textured(width, height)
    wanted = np.asarray(reference(Image.fromarray(example)))
    ours = ImageKind(ImageInput(kind="image", size=size, resize=resize)).preprocess(example)
    assert ours.dtype == np.uint8
    assert ours.shape == wanted.shape
    assert np.abs(ours.astype(int) - wanted).max() <= 1


def test_a_very_long_picture_is_cropped_without_being_blown_up(kind):
    assert kind.preprocess(np.zeros((12_000, 1, 3), np.uint8)).shape == (224, 224, 3)


def test_decoding_shrinks_and_obeys_the_settings(kind, monkeypatch):
    photo = bad_images.jpeg(2400, 1600)
    assert kind.decode(photo).shape == (800, 1200, 3)
    monkeypatch.setenv("MENAGERIE_MAX_MEGAPIXELS", "1")
    get_settings.cache_clear()
    with pytest.raises(UnusableInput, match="at most 1 megapixels"):
        ImageKind(SPEC).decode(photo)
    monkeypatch.setenv("MENAGERIE_MAX_MEGAPIXELS", "32")
    monkeypatch.setenv("MENAGERIE_MAX_SIDE", "2000")
    get_settings.cache_clear()
    with pytest.raises(UnusableInput, match="2000 pixels a side"):
        ImageKind(SPEC).decode(photo)


def test_shrinking_hardly_changes_the_input(kind):
    photo = bad_images.jpeg(2400, 1600)
    whole = np.asarray(bad_images.picture(2400, 1600))
    assert np.abs(kind.preprocess(kind.decode(photo)).astype(int) - kind.preprocess(whole)).mean() < 1.5


def test_statistics_of_plain_colours(kind):
    red = described(kind, np.full((30, 60, 3), (255, 0, 0), np.uint8))
    assert (red["red"], red["green"], red["blue"]) == (1, 0, 0)
    assert red["saturation"] == 1
    assert red["brightness"] == pytest.approx(0.299)
    assert red["contrast"] == pytest.approx(0, abs=1e-6)
    assert (red["sharpness"], red["noise"]) == (0, 0)
    assert (red["width"], red["height"], red["aspect"]) == (60, 30, 2)
    white = described(kind, np.full((30, 60, 3), 255, np.uint8))
    assert white["brightness"] == pytest.approx(1)
    assert white["saturation"] == 0
    black = described(kind, np.zeros((30, 60, 3), np.uint8))
    assert black["brightness"] == black["saturation"] == 0


@pytest.mark.parametrize("shape", [(2, 2), (3, 50), (97, 61), (145, 146), (333, 500), (1001, 800)])
def test_statistics_are_what_their_formulas_give(kind, shape):
    """Straight from the definitions, point by point, in double precision."""
    example = textured(shape[1], shape[0])
    padded = np.pad(example, ((1, 1), (1, 1), (0, 0)), mode="edge") if min(shape) < 3 else example
    height, width = padded.shape[:2]
    points = [
        padded[row : row + 3, column : column + 3].astype(float) / 255
        for row in range(0, height - 2, max(1, (height - 2) // 48))
        for column in range(0, width - 2, max(1, (width - 2) // 48))
    ]
    colours = np.array([point[1, 1] for point in points])
    luma = colours @ (0.299, 0.587, 0.114)
    green = np.array([point[:, :, 1] for point in points])
    across = np.abs(green[:, 1, 2] - green[:, 1, 0]) + np.abs(green[:, 2, 1] - green[:, 0, 1])
    grain = np.abs(np.einsum("nij,ij->n", green, np.outer((1, -2, 1), (1, -2, 1))))
    brightest = colours.max(axis=1)
    wanted = {
        "brightness": luma.mean(),
        "contrast": luma.std(),
        "saturation": ((brightest - colours.min(axis=1)) / np.maximum(brightest, 1 / 255)).mean(),
        "sharpness": across.mean() / 2,
        **dict(zip(("red", "green", "blue"), colours.mean(axis=0), strict=True)),
        "noise": grain.mean() * np.sqrt(np.pi / 2) / 6,
    }
    found = described(kind, example)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)


def test_noise_is_measured_in_its_own_unit(kind):
    rng = np.random.default_rng(1)
    for deviation in (4.0, 16.0):
        grain = np.clip(128 + rng.normal(0, deviation, (300, 400, 3)), 0, 255).astype(np.uint8)
        assert described(kind, grain)["noise"] * 255 == pytest.approx(deviation, rel=0.1)


def test_each_statistic_moves_with_what_it_names(kind):
    plain = textured(500, 375)
    blurred = np.asarray(Image.fromarray(plain).filter(ImageFilter.GaussianBlur(3)))
    before, after = described(kind, plain), described(kind, blurred)
    assert after["sharpness"] < before["sharpness"] / 2
    assert after["noise"] < before["noise"] / 2
    assert after["brightness"] == pytest.approx(before["brightness"], abs=0.02)
    night = described(kind, (plain * 0.3).astype(np.uint8))
    assert night["brightness"] < 0.4 * before["brightness"]
    assert night["contrast"] < 0.4 * before["contrast"]
    grey = described(kind, np.repeat(plain.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2))
    assert grey["saturation"] == 0 < before["saturation"]
    warm = described(kind, np.clip(plain * (1.2, 1, 0.8), 0, 255).astype(np.uint8))
    assert warm["red"] > before["red"]
    assert warm["blue"] < before["blue"]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (1, 900), (12_000, 1), (50, 51), (1000, 1001)])
def test_statistics_of_any_shape_are_finite_and_in_range(kind, shape):
    values = described(kind, textured(shape[1], shape[0]))
    assert all(0 <= values[name] <= 1 for name in STATISTICS[:8])


@pytest.mark.parametrize(("width", "height", "suffix"), [(256, 300, ".png"), (90, 61, ".png"), (257, 300, ".jpg")])
def test_what_is_stored_reads_back(kind, width, height, suffix):
    example = np.asarray(bad_images.picture(width, height))
    raw, got = kind.store(example)
    assert got == suffix
    back = kind.decode(raw)
    assert back.shape == example.shape
    assert np.abs(back.astype(int) - example).max() <= (0 if suffix == ".png" else 6)


def test_nothing_but_pixels_is_stored(kind):
    example = kind.decode(bad_images.with_exif(6, width=600, height=400) + b"<script>")
    raw, _ = kind.store(example)
    assert b"Exif" not in raw
    assert b"script" not in raw
    assert kind.decode(raw).shape == (400, 600, 3)


def test_a_shrunk_photo_is_not_shrunk_again(kind):
    example = kind.decode(bad_images.jpeg(4799, 3203))
    assert kind.decode(kind.store(example)[0]).shape == example.shape


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.unpackbits(a ^ b).sum())


def test_near_duplicates_have_near_keys(kind):
    examples = [np.asarray(bad_images.picture(400, 300, seed)) for seed in range(6)]
    keys = [kind.near_key(example) for example in examples]
    assert all(key.shape == (32,) and key.dtype == np.uint8 for key in keys)
    for example, key in zip(examples, keys, strict=True):
        again = open_again(example, quality=60)
        smaller = np.asarray(Image.fromarray(example).resize((200, 150)))
        brighter = np.clip(example * 0.9 + 10, 0, 255).astype(np.uint8)
        assert max(distance(key, kind.near_key(near)) for near in (again, smaller, brighter)) <= 16
    apart = [distance(keys[a], keys[b]) for a in range(6) for b in range(a)]
    assert min(apart) > 64
    assert not kind.near_key(np.full((40, 50, 3), 99, np.uint8)).any()


def open_again(example: np.ndarray, quality: int) -> np.ndarray:
    """The picture after a lossy copy."""
    return ImageKind(SPEC).decode(bad_images.encode(Image.fromarray(example), "JPEG", quality=quality))
