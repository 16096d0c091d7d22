"""Corruptions: stronger with severity, seeded, and as their definitions say."""

from __future__ import annotations

import colorsys
import io
from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

import orric
from orric.vision.corruptions import CORRUPTIONS, corrupt
from orric.vision.corruptions.blur import defocus_kernel
from orric.vision.corruptions.liquid import distances, equalized, rims
from orric.vision.corruptions.resampling import correlated, streaked, warped, zooming
from orric.vision.corruptions.weather import SHEET_PX, SHEETS, frost_sheets, plasma_fractal

from ..builders import ROOT

Image = pytest.importorskip("PIL.Image", reason="needs orric[models]")
every_corruption = pytest.mark.parametrize("name", sorted(CORRUPTIONS))
every_severity = pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
every_source = pytest.mark.parametrize("source", ["pictures", "clouds", "photographs"])
DETERMINISTIC = (
    "gaussian_blur", "contrast", "brightness", "defocus_blur", "zoom_blur", "pixelate", "jpeg_compression", "saturate",
)  # fmt: skip
# Those whose published levels are not in the order of the plain distortion; a test of their own says what grows.
OTHERWISE = {"glass_blur", "motion_blur", "frost", "spatter", "elastic_transform", "saturate"}
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "cifar10" / "test.npz"


def pictures(count: int = 24, seed: int = 1) -> np.ndarray:
    """Draw smooth colour images with some detail, dark and bright."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3)).astype(float)
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2) * 0.7
    return np.clip(smooth + rng.normal(0, 10, smooth.shape), 0, 255).astype(np.uint8)


def distortion(images: np.ndarray, corrupted: np.ndarray) -> float:
    """Return the root of the mean squared difference in grey levels."""
    return float(np.sqrt(((images.astype(float) - corrupted) ** 2).mean()))


def clouds(count: int = 24, seed: int = 1) -> np.ndarray:
    """Draw colour images with detail at every scale and on no grid."""
    rng = np.random.default_rng(seed)
    layers = [
        scale * ndimage.gaussian_filter(rng.standard_normal((count, 32, 32, 3)), (0, scale, scale, 0), mode="wrap")
        for scale in (0.5, 1, 2, 4, 8)
    ]
    return np.clip(110 + 90 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def photographs(count: int = 200) -> np.ndarray:
    """Return real CIFAR-10 images, where a checkout has them beside it."""
    if not PHOTOGRAPHS.exists():
        pytest.skip(f"needs {PHOTOGRAPHS.relative_to(ROOT.parent)} beside the repository")
    pack = np.load(PHOTOGRAPHS)
    pieces = np.split(pack["jpeg"], pack["offsets"][1 : count + 1])[:count]
    return np.stack([np.asarray(Image.open(io.BytesIO(piece.tobytes())).convert("RGB")) for piece in pieces])


def of_source(source: str) -> np.ndarray:
    return {"pictures": pictures, "clouds": clouds, "photographs": photographs}[source]()


def at_every_severity(images: np.ndarray, name: str) -> list[np.ndarray]:
    """Return the images at severities 0 to 5, all corrupted from one seed."""
    return [corrupt(images, name, severity, np.random.default_rng(3)) for severity in range(6)]


@every_source
@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - OTHERWISE))
def test_distortion_grows_with_severity(name: str, source: str) -> None:
    if (name, source) == ("pixelate", "pictures"):
        pytest.skip("these pictures consist of blocks of 4 pixels, which pixelate at severity 4 leaves almost whole")
    images = of_source(source)
    grown = [distortion(images, corrupted) for corrupted in at_every_severity(images, name)]
    assert grown[0] == 0.0
    assert (np.diff(grown) > 0.2).all(), grown


@every_source
def test_motion_blur_grows_but_for_severities_3_and_4(source: str) -> None:
    """They differ in where the smear ends, at 6 or at 8 standard deviations, and there is nothing left there."""
    images = of_source(source)
    corrupted = at_every_severity(images, "motion_blur")
    grown = [distortion(images, corrupted[severity]) for severity in (0, 1, 2, 3, 5)]
    assert (np.diff(grown) > 0.2).all(), grown
    assert np.array_equal(corrupted[3], corrupted[4])


@every_source
def test_glass_blur_scatters_once_up_to_3_and_twice_beyond_and_blurs_what_is_scattered(source: str) -> None:
    """Blurring brings scattered pixels nearer to the picture again, so that it shows in the detail that is left."""
    images = of_source(source)
    corrupted = at_every_severity(images, "glass_blur")
    grown = [distortion(images, one) for one in corrupted]
    assert grown[0] == 0.0
    assert min(grown[4:]) > 1.1 * max(grown[1:4]), grown
    detail = [abs(np.diff(one.astype(float), axis=axis)).mean() for one in corrupted for axis in (1, 2)]
    along, across = detail[::2], detail[1::2]
    for weaker, stronger in ((1, 2), (2, 3), (4, 5)):
        assert along[stronger] < along[weaker]
        assert across[stronger] < across[weaker]


@every_source
def test_frost_hides_more_of_the_picture_with_severity(source: str) -> None:
    """The picture is dimmed while ice brightens it, so that grey levels need not move away; likeness is lost."""
    images = of_source(source)
    unlike = []
    for corrupted in at_every_severity(images, "frost"):
        pairs = zip(images, corrupted, strict=True)
        unlike.append(1 - np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]))
    assert unlike[0] == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(unlike) > 0.003).all(), unlike


@every_source
def test_spatter_grows_within_water_and_within_mud(source: str) -> None:
    """Bright water and brown mud are as far from a picture as it is dark or bright, so they are not compared."""
    images = of_source(source)
    grown = [distortion(images, corrupted) for corrupted in at_every_severity(images, "spatter")]
    assert grown[0] == 0.0
    assert (np.diff(grown[:4]) > 0.2).all(), grown
    assert 0.2 < grown[4] < grown[5] - 0.2, grown


@every_source
def test_saturate_takes_colour_away_twice_and_adds_it_three_times(source: str) -> None:
    images = of_source(source)
    corrupted = at_every_severity(images, "saturate")
    grown = [distortion(images, one) for one in corrupted]
    assert 0.2 < grown[1] < grown[2] - 0.2, grown
    assert 0.2 < grown[3] < grown[4] - 0.2 < grown[5] - 0.4, grown
    colour = [float(np.ptp(one.astype(int), axis=3).mean()) for one in corrupted]
    assert [colour[level] for level in (2, 1, 0, 3, 4, 5)] == sorted(colour)


def test_elastic_transform_bends_more_and_moves_the_whole_less() -> None:
    """A picture moved as a whole is far off in grey levels, and no harder to tell. So what grows is the bending.

    Pictures that hold their own coordinates show where every pixel came from.
    """
    count, inside = 300, slice(10, 22)
    y, x = np.mgrid[0:32, 0:32].astype(np.float32)
    maps = np.stack([y / 31, x / 31, y * 0], axis=2)[None].repeat(count, axis=0)
    places = np.stack([y[inside, inside].ravel(), x[inside, inside].ravel()], axis=1)
    straight = np.column_stack([places, np.ones(len(places))])
    bent, moved = [], []
    for level in CORRUPTIONS["elastic_transform"].levels:
        found = CORRUPTIONS["elastic_transform"].apply(maps, level, np.random.default_rng(1))
        source = 31 * found[:, inside, inside, :2].reshape(count, -1, 2)
        fitted = straight @ (np.linalg.pinv(straight) @ source)
        bent.append(float(np.sqrt(((source - fitted) ** 2).mean())))
        moved.append(float(np.sqrt(((fitted - places) ** 2).mean())))
    assert bent[0] == pytest.approx(0.0, abs=1e-4)
    assert (np.diff([0.0, *bent[1:]]) > 0.005).all(), bent
    assert (np.diff(moved) < 0).all(), moved


@every_source
def test_elastic_transform_distorts_at_every_severity(source: str) -> None:
    images = of_source(source)
    assert min(distortion(images, corrupted) for corrupted in at_every_severity(images, "elastic_transform")[1:]) > 10


def test_the_first_five_are_what_they_always_were() -> None:
    """Profiles were measured with them. Compared within a grey level, because processors round differently."""
    expected = {
        "gaussian_noise": [(92.256, [44, 55, 35]), (92.907, [33, 74, 28])],
        "gaussian_blur": [(92.107, [49, 39, 40]), (92.101, [46, 33, 50])],
        "contrast": [(92.028, [59, 58, 52]), (92.103, [78, 94, 82])],
        "fog": [(98.605, [70, 63, 61]), (113.379, [106, 103, 102])],
        "brightness": [(100.587, [64, 53, 49]), (143.144, [128, 106, 98])],
    }
    assert list(CORRUPTIONS)[:5] == list(expected)
    assert len(CORRUPTIONS) == 19
    for name, known in expected.items():
        for severity, (mean, pixel) in zip((1, 5), known, strict=True):
            found = corrupt(pictures(2), name, severity, np.random.default_rng(4))
            assert found.mean() == pytest.approx(mean, abs=0.01)
            assert abs(found[1, 5, 6].astype(int) - pixel).max() <= 1


@every_corruption
def test_severity_0_leaves_images_alone(name: str) -> None:
    images = pictures(3)
    untouched = corrupt(images, name, 0, np.random.default_rng(1))
    assert np.array_equal(untouched, images)
    assert untouched is not images
    assert np.array_equal(corrupt(images, "none", 5, np.random.default_rng(1)), images)


@every_corruption
def test_input_is_not_changed_and_shape_and_type_are_kept(name: str) -> None:
    images = pictures(4)
    before = images.copy()
    corrupted = corrupt(images, name, 3, np.random.default_rng(1))
    assert np.array_equal(images, before)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.uint8
    assert corrupt(images[:0], name, 3, np.random.default_rng(1)).shape == (0, 32, 32, 3)


@every_corruption
def test_same_seed_same_images(name: str) -> None:
    images = pictures(5)
    first, again, other = (corrupt(images, name, 4, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("severity", [1, 4, 5])
def test_batch_is_its_images_one_by_one(name: str, severity: int) -> None:
    images, rng = pictures(6), np.random.default_rng(1)
    singly = np.concatenate([corrupt(images[k : k + 1], name, severity, rng) for k in range(6)])
    difference = abs(corrupt(images, name, severity, rng).astype(int) - singly)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_brightness_raises_the_value_of_hsv(severity: int) -> None:
    image = pictures(1)
    image[0, 0, 0] = 0
    image[0, 0, 1] = 255
    raised = corrupt(image, "brightness", severity, np.random.default_rng(1))
    level = CORRUPTIONS["brightness"].levels[severity - 1]
    for pixel, found in zip(image.reshape(-1, 3), raised.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        expected = np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + level, 1.0))) * 255
        # Whole grey levels are cut off, not rounded.
        assert (found >= np.floor(expected - 1e-3)).all()
        assert (found <= expected + 1e-3).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_contrast_by_its_formula(severity: int) -> None:
    image = pictures(1)[0] / 255
    level = CORRUPTIONS["contrast"].levels[severity - 1]
    expected = np.clip((image - image.mean(axis=(0, 1))) * level + image.mean(axis=(0, 1)), 0, 1) * 255
    found = corrupt((image * 255).round().astype(np.uint8)[None], "contrast", severity, np.random.default_rng(1))[0]
    assert abs(found + 0.5 - expected).max() <= 0.5 + 1e-3


def test_noise_has_its_standard_deviation_in_every_channel() -> None:
    grey = np.full((64, 32, 32, 3), 128, np.uint8)
    for severity, level in enumerate(CORRUPTIONS["gaussian_noise"].levels, start=1):
        noisy = corrupt(grey, "gaussian_noise", severity, np.random.default_rng(1)).astype(float)
        np.testing.assert_allclose(noisy.std(axis=(0, 1, 2)), level * 255, rtol=0.02)


def test_blur_keeps_the_mean_and_spreads_a_point_as_a_gaussian() -> None:
    point = np.zeros((1, 32, 32, 3), np.uint8)
    point[0, 16, 16] = 255
    blurred = corrupt(point, "gaussian_blur", 5, np.random.default_rng(1))[0, :, :, 0].astype(float)
    assert blurred[16, 16] == pytest.approx(255 / (2 * np.pi), abs=1.0)
    assert blurred[16, 17] / blurred[16, 16] == pytest.approx(np.exp(-0.5), abs=0.03)


def test_fog_differs_from_image_to_image_and_is_the_same_in_all_channels() -> None:
    grey = np.full((2, 32, 32, 3), 100, np.uint8)
    foggy = corrupt(grey, "fog", 5, np.random.default_rng(1))
    assert not np.array_equal(foggy[0], foggy[1])
    assert np.array_equal(foggy[..., 0], foggy[..., 1])
    assert np.array_equal(foggy[..., 0], foggy[..., 2])


def test_fractal_fills_its_range_and_grows_rougher_as_decay_falls() -> None:
    smooth, rough = (plasma_fractal(16, 32, decay, np.random.default_rng(1)) for decay in (3.0, 1.75))
    for maps in (smooth, rough):
        assert maps.shape == (16, 32, 32)
        assert (maps.min(axis=(1, 2)) == 0).all()
        assert (maps.max(axis=(1, 2)) == 1).all()
    assert abs(np.diff(rough, axis=2)).mean() > 1.2 * abs(np.diff(smooth, axis=2)).mean()


@every_severity
def test_shot_noise_counts_photons(severity: int) -> None:
    """Mean and variance of c photons are both c x, so x has the variance x / c."""
    photons = CORRUPTIONS["shot_noise"].levels[severity - 1]
    for grey in (40, 128):
        noisy = (
            corrupt(np.full((40, 32, 32, 3), grey, np.uint8), "shot_noise", severity, np.random.default_rng(1)) / 255
        )
        # Half a grey level is cut off on average.
        assert noisy.mean() == pytest.approx((grey - 0.5) / 255, abs=1e-3)
        assert noisy.std() == pytest.approx(np.sqrt(grey / 255 / photons), rel=0.02)
    black = np.zeros((2, 32, 32, 3), np.uint8)
    assert not corrupt(black, "shot_noise", severity, np.random.default_rng(1)).any()


@every_severity
def test_impulse_noise_hits_its_part_of_the_values(severity: int) -> None:
    noisy = corrupt(np.full((100, 32, 32, 3), 100, np.uint8), "impulse_noise", severity, np.random.default_rng(1))
    part = CORRUPTIONS["impulse_noise"].levels[severity - 1]
    assert set(np.unique(noisy)) == {0, 100, 255}
    deviation = np.sqrt(part / 2 / noisy.size)
    for value in (0, 255):
        assert abs((noisy == value).mean() - part / 2) < 5 * deviation


@every_severity
def test_speckle_noise_grows_with_the_value(severity: int) -> None:
    level = CORRUPTIONS["speckle_noise"].levels[severity - 1]
    for grey in (40, 120):
        noisy = corrupt(np.full((64, 32, 32, 3), grey, np.uint8), "speckle_noise", severity, np.random.default_rng(1))
        assert noisy.std() == pytest.approx(level * grey, rel=0.02)


@every_severity
def test_defocus_kernel_is_a_disk(severity: int) -> None:
    radius, softening = CORRUPTIONS["defocus_blur"].levels[severity - 1]
    kernel = defocus_kernel(radius, softening)
    assert kernel.sum() == pytest.approx(1.0)
    assert np.array_equal(kernel, kernel.T)
    assert np.array_equal(kernel, kernel[::-1])
    images = pictures(2)
    large = np.zeros((17, 17))
    reach = len(kernel) // 2
    large[8 - reach : 9 + reach, 8 - reach : 9 + reach] = kernel
    for image, found in zip(images, corrupt(images, "defocus_blur", severity, np.random.default_rng(1)), strict=True):
        for channel in range(3):
            expected = ndimage.correlate(image[..., channel] / 255, large, mode="mirror") * 255
            assert abs(found[..., channel] + 0.5 - expected).max() <= 0.5 + 1e-3
    cross = [[0.0, 0.2, 0.0], [0.2, 0.2, 0.2], [0.0, 0.2, 0.0]]
    np.testing.assert_allclose(defocus_kernel(1.0, 0.2)[1:-1, 1:-1], cross, atol=1e-4)


@every_severity
def test_glass_blur_by_its_loop(severity: int) -> None:
    """The published loop, pixel by pixel, with the neighbours that the code draws."""
    sigma, reach, rounds = CORRUPTIONS["glass_blur"].levels[severity - 1]
    images, rng = pictures(2), np.random.default_rng(5)
    found = corrupt(images, "glass_blur", severity, np.random.default_rng(5))
    blurred = [ndimage.gaussian_filter(image / np.float32(255), (sigma, sigma, 0), mode="nearest") for image in images]
    shuffled = [(image * np.float32(255)).astype(np.uint8) for image in blurred]
    for _ in range(rounds):
        down, right = rng.integers(-reach, reach, (2, 2, 30, 30), dtype=np.int8)
        assert set(np.unique(down)) == {-1, 0}
        for k, image in enumerate(shuffled):
            for row in range(31, 1, -1):
                for column in range(31, 1, -1):
                    image[row, column] = image[
                        row + down[k, row - 2, column - 2], column + right[k, row - 2, column - 2]
                    ]
    for image, one in zip(shuffled, found, strict=True):
        expected = ndimage.gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest") * 255
        assert abs(one + 0.5 - expected).max() <= 0.5 + 1e-3


def test_streaks_by_their_sum() -> None:
    images = pictures(3).astype(np.float32) / 255
    angles = np.array([0.0, 33.0, -120.0])
    found = streaked(images, 6, 1.5, angles)
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    for image, one, angle in zip(images, found, np.deg2rad(angles), strict=True):
        expected = np.zeros((32, 32, 3))
        for i, weight in enumerate(weights):
            rows = np.clip(np.arange(32) + int(np.ceil(i * np.sin(angle) - 0.5)), 0, 31)
            columns = np.clip(np.arange(32) + int(np.ceil(i * np.cos(angle) - 0.5)), 0, 31)
            expected += weight * image[rows][:, columns]
        assert abs(one - expected).max() < 2e-4
    level = np.full((1, 32, 32, 3), 255, np.uint8)
    assert np.array_equal(corrupt(level, "motion_blur", 5, np.random.default_rng(1)), level)


def test_motion_blur_keeps_within_45_degrees_of_the_horizontal() -> None:
    edge = np.zeros((100, 32, 32, 3), np.uint8)
    edge[:, :, 16:] = 255
    smeared = corrupt(edge, "motion_blur", 3, np.random.default_rng(1))
    assert (smeared[:, 16, 15, 0] > 0).all()
    assert (smeared[:, 16, 16:, 0] == 255).all()


@every_severity
def test_zoom_blur_by_scipys_zoom(severity: int) -> None:
    images = pictures(2)
    factors = np.arange(1, CORRUPTIONS["zoom_blur"].levels[severity - 1], 0.01)
    for image, found in zip(
        images / 255, corrupt(images, "zoom_blur", severity, np.random.default_rng(1)), strict=True
    ):
        total = image.copy()
        for factor in factors:
            kept = int(np.ceil(32 / factor))
            first = (32 - kept) // 2
            middle = image[first : first + kept, first : first + kept]
            large = ndimage.zoom(middle, (factor, factor, 1), order=1, mode="nearest")
            cut = (len(large) - 32) // 2
            total += large[cut : cut + 32, cut : cut + 32]
        expected = total / (len(factors) + 1) * 255
        assert abs(found + 0.5 - expected).max() <= 0.5 + 1e-2


def test_zooming_by_one_changes_nothing() -> None:
    np.testing.assert_allclose(zooming(32, 1.0), np.eye(32), atol=1e-6)
    for factor in (1.25, 1.75, 2.25):
        np.testing.assert_allclose(zooming(32, factor).sum(axis=1), 1.0, atol=1e-6)


def test_snow_brightens_and_falls_twice() -> None:
    """On black there is nothing to bleach, so what is seen is half of the bleaching and the flakes."""
    black = np.zeros((50, 32, 32, 3), np.uint8)
    snowy = corrupt(black, "snow", 4, np.random.default_rng(1))
    assert np.array_equal(snowy, snowy[:, ::-1, ::-1])
    assert np.array_equal(snowy[..., 0], snowy[..., 2])
    assert snowy.min() == int(0.15 * 0.5 * 255)
    # Streaks run downwards rather than across.
    grey = snowy[..., 0].astype(float)
    assert abs(np.diff(grey, axis=1)).mean() < 0.8 * abs(np.diff(grey, axis=2)).mean()


def test_frost_is_cut_from_its_sheets() -> None:
    sheets = frost_sheets()
    assert sheets.shape == (SHEETS, SHEET_PX, SHEET_PX)
    assert sheets.min() >= 0
    assert sheets.max() <= 0.92
    means = sheets.mean(axis=(1, 2))
    assert (abs(means - np.linspace(0.4, 0.6, SHEETS)) < 0.03).all()
    assert ((sheets.std(axis=(1, 2)) > 0.15) & (sheets.std(axis=(1, 2)) < 0.21)).all()
    frosted = corrupt(np.zeros((300, 32, 32, 3), np.uint8), "frost", 5, np.random.default_rng(1))
    assert len({image.tobytes() for image in frosted}) == 300
    assert frosted.mean() == pytest.approx(0.45 * 255 * sheets.mean(), rel=0.05)
    assert (frosted[..., 2] >= frosted[..., 0]).all()


@pytest.mark.parametrize(("severity", "colour"), [(2, (175, 238, 238)), (5, (63, 42, 20))])
def test_spatter_has_the_colour_of_water_and_of_mud(severity: int, colour: tuple[int, int, int]) -> None:
    black = np.zeros((50, 32, 32, 3), np.uint8)
    wet = corrupt(black, "spatter", severity, np.random.default_rng(1)).reshape(-1, 3).astype(float)
    strength = wet.max(axis=1) / max(colour)
    assert 0.05 < (strength > 0).mean() < 0.6
    assert strength.max() == pytest.approx(
        CORRUPTIONS["spatter"].levels[severity - 1][4] if severity < 4 else 1, abs=0.02
    )
    assert (abs(wet - strength[:, None] * colour) <= 1.01).all()


def test_rims_of_a_square_are_its_outline() -> None:
    square = np.zeros((2, 16, 16), np.float32)
    square[0, 5:11, 4:12] = 200
    found = rims(square)
    assert not found[1].any()
    assert 20 <= found[0].sum() <= 32
    outline = ndimage.binary_dilation(square[0] > 0) & ~ndimage.binary_erosion(square[0] > 0)
    assert (found[0] <= outline).all()
    # It is closed: what is inside is not reached from outside.
    inside, _ = ndimage.label(~found[0])
    assert inside[8, 8] != inside[0, 0]
    # A slope between the thresholds counts where it touches a steep one, and not by itself.
    weak = np.zeros((2, 16, 16), np.float32)
    weak[:, :, 8:] = 25
    weak[0, :8, 8:] = 200
    assert rims(weak)[0, 12].any()
    assert not rims(weak)[1].any()


def test_distances_are_scipys() -> None:
    marked = np.random.default_rng(1).random((5, 32, 32)) < 0.02
    marked[3] = False
    found = distances(marked)
    for one, flags in zip(found, marked, strict=True):
        if flags.any():
            np.testing.assert_allclose(one, ndimage.distance_transform_edt(~flags), rtol=1e-5)
        else:
            assert one.min() > 32


def test_equalized_levels_are_spread() -> None:
    grey = np.zeros((2, 2, 4), np.float32)
    grey[0] = [[3, 3, 5, 5], [5, 5, 9, 9]]
    grey[1] = 7
    assert equalized(grey)[0].tolist() == [[0, 0, 170, 170], [170, 170, 255, 255]]
    assert (equalized(grey)[1] == 7).all()


def test_correlation_is_scipys() -> None:
    images = pictures(2).astype(np.float32)
    kernel = np.arange(15.0).reshape(3, 5)
    expected = ndimage.correlate(images, kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(correlated(images, kernel), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["mirror", "reflect"])
def test_warping_is_scipys(mode: str) -> None:
    images, rng = pictures(2).astype(np.float32), np.random.default_rng(1)
    y, x = rng.uniform(-20, 50, (2, 2, 32, 32)).astype(np.float32)
    found = warped(images, y, x, mode)  # type: ignore[arg-type]
    for image, one, rows, columns in zip(images, found, y, x, strict=True):
        for channel in range(3):
            expected = ndimage.map_coordinates(image[..., channel], [rows, columns], order=1, mode=mode)
            np.testing.assert_allclose(one[..., channel], expected, atol=0.01)


def test_elastic_transform_takes_the_corners_where_they_were_moved() -> None:
    """At severity 1 the map is straight: three corners of a white frame are found where the draws say."""
    size, moves = 32, np.random.default_rng(9).uniform(-2.56, 2.56, (1, 3, 2))
    corners = np.array([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])
    for corner, moved in zip(corners, corners + moves[0], strict=True):
        picture = np.zeros((1, size, size, 3), np.uint8)
        picture[0, int(corner[1]), int(corner[0])] = 255
        found = corrupt(picture, "elastic_transform", 1, np.random.default_rng(9))[0, ..., 0].astype(float)
        y, x = np.mgrid[0:size, 0:size]
        assert (found * x).sum() / found.sum() == pytest.approx(moved[0], abs=0.2)
        assert (found * y).sum() / found.sum() == pytest.approx(moved[1], abs=0.2)


@every_severity
def test_pixelate_by_pillow(severity: int) -> None:
    images = clouds(4)
    small = {1: 30, 2: 28, 3: 27, 4: 24, 5: 20}[severity]
    for image, found in zip(images, corrupt(images, "pixelate", severity, np.random.default_rng(1)), strict=True):
        reduced = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
        assert np.array_equal(found, np.asarray(reduced.resize((32, 32), Image.Resampling.BOX)))


@every_severity
def test_jpeg_compression_by_pillow(severity: int) -> None:
    images = clouds(4)
    for image, found in zip(
        images, corrupt(images, "jpeg_compression", severity, np.random.default_rng(1)), strict=True
    ):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=CORRUPTIONS["jpeg_compression"].levels[severity - 1])
        assert np.array_equal(found, np.asarray(Image.open(file)))


@every_severity
def test_saturate_changes_the_saturation_of_hsv(severity: int) -> None:
    image = clouds(1)
    image[0, 0, :4] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0]]
    factor, offset = CORRUPTIONS["saturate"].levels[severity - 1]
    changed = corrupt(image, "saturate", severity, np.random.default_rng(1))
    for pixel, found in zip(image.reshape(-1, 3), changed.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        wanted = min(saturation * factor + offset, 1.0)
        expected = np.array(colorsys.hsv_to_rgb(hue, wanted, value)) * 255
        assert (found >= np.floor(expected - 1e-2)).all()
        assert (found <= expected + 1e-2).all()


@pytest.mark.parametrize(("name", "near"), [("fogg", "fog"), ("gausian_blur", "gaussian_blur"), ("non", "none")])
def test_unknown_corruption_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(orric.ScenarioError, match=f"did you mean '{near}'"):
        corrupt(pictures(1), name, 1, np.random.default_rng(1))


@pytest.mark.parametrize("severity", [-1, 6, 2.5])
def test_unknown_severity_is_refused(severity: float) -> None:
    with pytest.raises(orric.ScenarioError, match="severity"):
        corrupt(pictures(1), "fog", severity, np.random.default_rng(1))
