"""What a run has finished, the next one does not do again; and it does do again whatever would come out otherwise."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from astropy.io import fits
from test_settings_act import BESIDE, CHANGES, RAW_CHANGES

from mosaic_cases import digest_of, digests_of, run_cli
from zemosaic.engine.store import Store
from zemosaic.pipelines.patches.jobs import MosaicJob, PatchJob
from zemosaic.stages.stack.stack import StackedPatch

Capture = pytest.CaptureFixture[str]


class Puts:
    """Which results were stored, and which were asked for, by stage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored: list[str] = []
        self.asked: dict[str, set[str]] = defaultdict(set)
        put, get = Store.put, Store.get

        def note_put(store: Store, key: str, value: object, kind: object = None) -> None:
            self.stored.append(key)
            put(store, key, value, kind)

        def note_get(store: Store, key: str, kind: object = None) -> object:
            self.asked[key.partition("/")[0]].add(key)
            return get(store, key, kind)

        monkeypatch.setattr(Store, "put", note_put)
        monkeypatch.setattr(Store, "get", note_get)

    def taken(self) -> tuple[list[str], dict[str, set[str]]]:
        """What was stored and asked since the last call."""
        out = self.stored, dict(self.asked)
        self.stored, self.asked = [], defaultdict(set)
        return out


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> Puts:
    return Puts(monkeypatch)


def stages_of(keys: list[str]) -> set[str]:
    return {key.partition("/")[0] for key in keys}


@pytest.mark.parametrize("kind", ["plain", "raw"])
def test_a_second_run_makes_nothing_again(
    capfd: Capture, small_set: Path, raw_set: Path, tmp_path: Path, puts: Puts, kind: str
) -> None:
    frames = small_set if kind == "plain" else raw_set
    before = digests_of(frames)
    assert run_cli(capfd, "build", frames, "-o", tmp_path).code == 0
    first, mosaic = puts.taken()[0], digest_of(tmp_path / "mosaic.fits")
    wanted = {"look", "measure", "refine", "match", "applied", "cut", "patch"}
    assert stages_of(first) == (wanted if kind == "plain" else wanted | {"solve"})
    assert len(set(first)) == len(first)
    again = run_cli(capfd, "build", frames, "-o", tmp_path)
    assert again.code == 0
    assert puts.taken()[0] == []
    assert "damaged" not in again.err
    assert f"taken from an earlier run: {8 if kind == 'plain' else 4} measured frame(s), " in again.err
    assert "1 match(es), " in again.err
    assert digest_of(tmp_path / "mosaic.fits") == mosaic
    fresh = run_cli(capfd, "build", frames, "-o", tmp_path, "--fresh")
    assert fresh.code == 0
    assert sorted(puts.taken()[0]) == sorted(first)
    assert digest_of(tmp_path / "mosaic.fits") == mosaic
    assert digests_of(frames) == before


def test_a_key_is_of_content_not_of_place(capfd: Capture, small_set: Path, tmp_path: Path, puts: Puts) -> None:
    assert run_cli(capfd, "build", small_set, "-o", tmp_path / "out").code == 0
    puts.taken()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for k, path in enumerate(sorted(small_set.glob("*.fits"), reverse=True)):
        shutil.copy(path, moved / f"other name {k}.fits")
    assert run_cli(capfd, "build", moved, "-o", tmp_path / "out", "--workers", 1, "--ram", "3G").code == 0
    assert puts.taken()[0] == []


def test_pixels_that_are_not_as_they_were_written_are_made_again(
    capfd: Capture, small_set: Path, tmp_path: Path, puts: Puts
) -> None:
    assert run_cli(capfd, "build", small_set, "-o", tmp_path).code == 0
    mosaic = (tmp_path / "mosaic.fits").read_bytes()
    puts.taken()
    spoilt = bytearray(mosaic)
    with fits.open(tmp_path / "mosaic.fits") as hdus:
        spoilt[hdus[0].fileinfo()["datLoc"] + hdus[0].data.nbytes // 2] ^= 1
    (tmp_path / "mosaic.fits").write_bytes(spoilt)
    assert run_cli(capfd, "build", small_set, "-o", tmp_path).code == 0
    assert stages_of(puts.taken()[0]) == {"patch"}
    assert (tmp_path / "mosaic.fits").read_bytes() == mosaic


def test_a_damaged_result_is_said_and_the_run_goes_on(
    capfd: Capture, small_set: Path, tmp_path: Path, puts: Puts
) -> None:
    assert run_cli(capfd, "build", small_set, "-o", tmp_path).code == 0
    mosaic = digest_of(tmp_path / "mosaic.fits")
    key = next(key for key in puts.taken()[0] if key.startswith("measure/"))
    path = next(tmp_path.rglob(key.partition("/")[2]))
    path.write_bytes(path.read_bytes()[:-1])
    ran = run_cli(capfd, "build", small_set, "-o", tmp_path)
    assert ran.code == 0
    assert f"the stored result {key} is damaged (it has" in ran.err
    assert puts.taken()[0] == [key]
    assert digest_of(tmp_path / "mosaic.fits") == mosaic


STACKING = {"patch", "cut"}
MATCHING = {"match", *STACKING}
SOLVING = {"solve", "refine", *MATCHING}

DEPENDS = {
    "warp": STACKING,
    "stack": STACKING,
    "grid": MATCHING,
    "match": MATCHING,
    "quality": MATCHING,
    "measure": {"measure", *MATCHING},
    "refine": {"refine", *MATCHING},
    "solve": SOLVING,
    "input": {"look", "measure", *SOLVING},
    "output": set[str](),
    # These change which stars or frames there are: the headers' alignment sees them.
    "measure.detect_sigma": {"measure", "refine", *MATCHING},
    "quality.best_fraction": {"refine", *MATCHING},
    "quality.ellipticity_max": {"refine", *MATCHING},
    "quality.fwhm_max_px": {"refine", *MATCHING},
}
"""The stages whose keys change with each stage of the settings, or with one key, and no other."""


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def known() -> dict[tuple[Path, tuple[str, ...]], dict[str, set[str]]]:
    """Keys of runs by frames and settings: many changes start from the same ones."""
    return {}


@pytest.mark.parametrize("key", sorted({*CHANGES, *RAW_CHANGES} - {"match.method"}))
def test_a_changed_setting_changes_exactly_the_keys_that_depend_on_it(
    capfd: Capture,
    small_set: Path,
    raw_set: Path,
    shared_out: Path,
    known: dict[tuple[Path, tuple[str, ...]], dict[str, set[str]]],
    puts: Puts,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    # Keys are made before patches are: empty ones do, and cost nothing.
    def make_empty(job: MosaicJob, work: PatchJob, *_: object) -> StackedPatch:
        return StackedPatch.empty((job.kind.n_channels, *work.patch.inner.shape))

    monkeypatch.setattr("zemosaic.pipelines.patches.stacking.make_patch", make_empty)
    frames, value = (raw_set, RAW_CHANGES[key]) if key in RAW_CHANGES else (small_set, CHANGES[key])

    def keys_of(assign: list[str]) -> dict[str, set[str]]:
        if (which := (frames, tuple(assign))) not in known:
            options = [part for text in ["output.preview=false", *assign] for part in ("--set", text)]
            assert run_cli(capfd, "build", frames, "-o", shared_out, *options).code in {0, 3}
            known[which] = puts.taken()[1]
        return known[which]

    beside = BESIDE.get(key, [])
    before, after = keys_of(beside), keys_of([*beside, f"{key}={value}"])
    changed = {stage for stage in before | after if before.get(stage) != after.get(stage)}
    # The key of what frames were last applied with names no inputs: a run that comes so far asks for it.
    assert changed - {"applied"} == DEPENDS.get(key, DEPENDS[key.split(".")[0]])


def test_the_store_command_lists_verifies_and_cleans(capfd: Capture, small_set: Path, tmp_path: Path) -> None:
    assert run_cli(capfd, "store", tmp_path).code == 3
    assert run_cli(capfd, "build", small_set, "-o", tmp_path).code == 0
    mosaic = digest_of(tmp_path / "mosaic.fits")
    listed = run_cli(capfd, "store", tmp_path)
    assert listed.code == 0
    assert [line.split()[:2] for line in listed.out.splitlines()][:4] == [
        ["applied", "1"],
        ["cut", "2"],
        ["look", "8"],
        ["match", "1"],
    ]
    (facts,) = run_cli(capfd, "store", tmp_path, "--json").events
    assert facts["stages"]["measure"]["n_results"] == 8  # type: ignore[index]
    assert run_cli(capfd, "store", tmp_path, "verify").out.startswith("all of")
    entry = next(path for path in (tmp_path / ".zemosaic/store/match").rglob("*") if path.is_file())
    entry.write_bytes(entry.read_bytes()[:-5])
    ran = run_cli(capfd, "store", tmp_path, "verify")
    assert ran.code == 4
    assert "match/" in ran.out
    assert "stored results are damaged; the next run makes them again" in ran.last_line
    assert run_cli(capfd, "store", tmp_path, "lose").code == 2
    assert run_cli(capfd, "store", tmp_path, "clean").code == 0
    assert list(Store(tmp_path / ".zemosaic/store").entries()) == []
    assert digest_of(tmp_path / "mosaic.fits") == mosaic
