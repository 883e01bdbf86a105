"""The packed star list: what goes in comes out, and cones hold exactly what they should."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from zemosaic.errors import EnvironmentProblem
from zemosaic.io.astrometry.catalogue import PackedCatalogue, pack_stars, tycho2
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.celestial import unit_vectors

STEP_MAS = 28.0


def save(folder: Path, ra: np.ndarray, dec: np.ndarray, mag: np.ndarray) -> PackedCatalogue:
    stars, starts = pack_stars(ra, dec, mag)
    np.save(folder / "list.npy", stars)
    np.save(folder / "list_cells.npy", starts)
    return PackedCatalogue(folder / "list.npy", "test", 0.1)


def apart_mas(ra1: np.ndarray, dec1: np.ndarray, ra2: np.ndarray, dec2: np.ndarray) -> np.ndarray:
    return np.rad2deg(np.linalg.norm(unit_vectors(ra1, dec1) - unit_vectors(ra2, dec2), axis=-1)) * 3.6e6


def test_edges_of_the_sky_come_back(tmp_path: Path) -> None:
    ra = np.array([0.0, 359.9999999, -0.0000001, 180.0, 12.5, 77.0, 90.0, 720.25])
    dec = np.array([0.0, 0.0, 45.0, 90.0, -90.0, 89.9999, 0.4999999, -0.5])
    mag = np.arange(8) / 2 - 1.5
    stars = save(tmp_path, ra, dec, mag).cone(0, 0, 180)
    assert np.all(np.diff(stars.mag) > 0)
    assert np.all(apart_mas(stars.ra_deg, stars.dec_deg, ra, dec) < STEP_MAS)


@pytest.fixture(scope="module")
def random_list(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackedCatalogue, CatalogueStars]:
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 20000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 20000)))
    # Both poles and the 0h line are where cells wrap: crowd them.
    ra[:3000] = rng.normal(0, 1, 3000) % 360
    dec[3000:4000], dec[4000:5000] = 90 - rng.random(1000) * 2, -90 + rng.random(1000) * 2
    packed = save(tmp_path_factory.mktemp("list"), ra, dec, rng.uniform(2, 12, 20000))
    return packed, packed.cone(0, 0, 180)


@settings(deadline=None, max_examples=60)
@given(
    ra=st.one_of(st.floats(0, 360), st.sampled_from([0.0, 359.999, 360.0])),
    dec=st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 89.9, -89.6, 0.0, 0.5])),
    radius=st.one_of(st.floats(0.05, 5), st.sampled_from([0.5, 40.0, 95.0])),
)
def test_a_cone_holds_every_star_within_it_and_no_other(
    random_list: tuple[PackedCatalogue, CatalogueStars], ra: float, dec: float, radius: float
) -> None:
    packed, everything = random_list
    cone = packed.cone(ra, dec, radius)
    distance = np.linalg.norm(unit_vectors(everything.ra_deg, everything.dec_deg) - unit_vectors(ra, dec), axis=1)
    inside = distance <= 2 * np.sin(np.deg2rad(radius) / 2)
    assert len(cone) == inside.sum()
    assert np.all(np.diff(cone.mag) >= 0)
    assert sorted(cone.ra_deg) == sorted(everything.ra_deg[inside])


def test_packaged_list_is_whole_and_small() -> None:
    catalogue = tycho2()
    assert len(catalogue) == 1_871_011
    folder = Path(sys.modules["zemosaic"].__path__[0]) / "data"
    assert sum(path.stat().st_size for path in folder.glob("tycho2*.npy")) < 13e6
    assert (folder / "README.md").is_file()


def test_packaged_list_knows_the_pleiades() -> None:
    stars = tycho2().cone(56.75, 24.12, 0.8)
    atlas = apart_mas(stars.ra_deg[0], stars.dec_deg[0], 57.290597, 24.053415)
    assert atlas < 300
    assert stars.mag[0] == pytest.approx(3.62, abs=0.1)


def test_packaged_list_equals_the_one_it_was_made_from(shared_dir: Path) -> None:
    source = np.load(shared_dir / "data" / "star_catalog" / "tycho2_idx07.npz")
    ra = source["ra_u32"] / 2**32 * 360
    dec = np.cumsum(source["dec_mas_diff"].astype("i8")) / 3.6e6
    vectors = unit_vectors(ra, dec)
    for where in ((192.8, 41.1), (0.0, 0.0), (83.8, -5.4), (10.0, 89.0), (200.0, -89.5)):
        cone = tycho2().cone(*where, 1.5)
        near = np.flatnonzero(vectors @ unit_vectors(*where) > np.cos(np.deg2rad(1.6)))
        gap = np.linalg.norm(unit_vectors(cone.ra_deg, cone.dec_deg)[:, None] - vectors[near], axis=2)
        nearest = near[gap.argmin(axis=1)]
        assert len(set(nearest)) == len(cone) > 50
        assert np.rad2deg(gap.min(axis=1)).max() * 3.6e6 < STEP_MAS
        np.testing.assert_array_equal(np.round(cone.mag * 1000), source["vt_mmag"][nearest])
        well_inside = vectors[near] @ unit_vectors(*where) > np.cos(np.deg2rad(1.499))
        assert set(near[well_inside]) <= set(nearest)


def test_the_packing_script_reads_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    xyz = rng.normal(size=(50, 3))
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    steps = np.round((xyz + 1) * 2147483647).astype("<u4")
    scaling = np.array([-1, -1, -1, 1, 1, 1, 2147483647], "<f8")
    vt = rng.uniform(3, 12, 50).astype(">f4")
    columns = [
        fits.Column("kdtree_range_stars", "8B", array=as_bytes(scaling, 8)),
        fits.Column("kdtree_data_stars", "12B", array=as_bytes(steps, 12)),
        fits.Column("MAG_VT", "E", array=vt),
    ]
    tables = [fits.BinTableHDU.from_columns([column]) for column in columns]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "index.fits")
    script = Path(__file__).resolve().parents[2] / "scripts" / "pack_tycho2.py"
    monkeypatch.setattr(sys, "argv", ["pack", str(tmp_path / "index.fits"), "--out", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    stars = PackedCatalogue(tmp_path / "tycho2.npy", "test", 0.1).cone(0, 0, 180)
    order = np.argsort(vt)
    ra, dec = np.rad2deg(np.arctan2(xyz[:, 1], xyz[:, 0])), np.rad2deg(np.arcsin(xyz[:, 2]))
    assert apart_mas(stars.ra_deg, stars.dec_deg, ra[order], dec[order]).max() < STEP_MAS
    np.testing.assert_allclose(stars.mag, vt[order], atol=6e-4)


def as_bytes(numbers: np.ndarray, width: int) -> np.ndarray:
    return np.frombuffer(numbers.tobytes(), "u1").reshape(-1, width)


def test_missing_and_foreign_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="reinstall the package"):
        PackedCatalogue(tmp_path / "none.npy", "none", 0.1)
    np.save(tmp_path / "list.npy", np.zeros(3))
    np.save(tmp_path / "list_cells.npy", np.zeros(3))
    with pytest.raises(EnvironmentProblem, match="not a packed star list"):
        PackedCatalogue(tmp_path / "list.npy", "none", 0.1)


def test_columns_must_agree() -> None:
    with pytest.raises(ValueError, match="different lengths: 2, 2, 1"):
        CatalogueStars(np.zeros(2), np.zeros(2), np.zeros(1))
