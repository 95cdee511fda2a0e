"""The X-Mn-O release of the paper, in the layout that the code of others reads."""

import contextlib
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryslator_flows.errors import DataError
from cryslator_flows.pairs.published.xmno import read_xmno
from cryslator_flows.pairs.raw import Dropped, RawPair
from tests.pairs.miniature import make_pairs, write_rows, write_xmno


@pytest.fixture(scope="module")
def made():
    return make_pairs(10)


@pytest.fixture
def release(tmp_path, made):
    write_xmno(tmp_path / "data", made)
    return tmp_path / "data"


def by_name(path):
    items = list(read_xmno(path))
    assert [item.name for item in items] == sorted(item.name for item in items)
    return {item.name: item for item in items}


def test_pairs_with_energy_and_split(release, made):
    found = by_name(release)
    assert set(found) == {name for name, *_ in made}
    for name, unrelaxed, relaxed, energy in made:
        pair = found[name]
        assert pair.target == name
        assert pair.columns["formation_energy_per_atom"] == pytest.approx(energy)
        assert pair.columns["template"] == name.split("_")[0]
        assert pair.unrelaxed.volume == pytest.approx(unrelaxed.volume, rel=1e-5)
        assert pair.relaxed.volume == pytest.approx(relaxed.volume, rel=1e-5)
        assert pair.relaxed.composition == relaxed.composition
    splits = [pair.columns["split"] for pair in found.values()]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (8, 1, 1)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_archives_as_downloaded(release, tmp_path, kind):
    archive = shutil.make_archive(str(tmp_path / "XMnO"), kind, tmp_path, "data")
    said = []
    assert len(list(read_xmno(Path(archive), said.append))) == 10
    assert said == [f"unpacking {Path(archive).name}", ""]
    assert {name: pair.columns for name, pair in by_name(tmp_path / archive).items()} == {
        name: pair.columns for name, pair in by_name(release).items()
    }


def test_variants_of_names_and_tables(tmp_path, made):
    """As HotRelax packs it, letters large, with a header and a further column, and what macOS leaves in archives."""
    folder = tmp_path / "a" / "XMNO" / "CIF"
    write_xmno(tmp_path / "made", made)
    folder.mkdir(parents=True)
    for path in (tmp_path / "made" / "cifs_xmno").iterdir():
        shutil.copy(path, folder / path.name.upper())
        (folder / f"._{path.name}").write_bytes(b"\x00\x05")
    rows = [(f"{name}_relaxed", number, energy) for number, (name, *_, energy) in enumerate(made)]
    write_rows(folder.parent / "train.txt", [("id", "n", "formation_energy"), *rows[:8]])
    write_rows(folder.parent / "valid.txt", [("id", "n", "formation_energy"), *rows[8:]])
    found = by_name(tmp_path / "a")
    for number, (name, *_, energy) in enumerate(made):
        columns = found[name.upper()].columns
        assert columns["formation_energy_per_atom"] == pytest.approx(energy)
        assert columns["split"] == ("train" if number < 8 else "val")


def test_what_is_broken_is_dropped_with_its_reason(release, made):
    names = [name for name, *_ in made]
    cifs, tables = release / "cifs_xmno", release / "jsons_xmno_rcut6"
    (cifs / f"{names[0]}_unrelaxed.cif").unlink()
    (cifs / f"{names[1]}_relaxed.cif").unlink()
    (cifs / f"{names[2]}_relaxed.cif").write_text("data_nothing\n")
    (cifs / f"{names[3]}_unrelaxed.cif").write_text("")
    (release / "copy").mkdir()
    shutil.copy(cifs / f"{names[4]}_relaxed.cif", release / "copy")
    write_rows(tables / "id_prop_more.csv", [(f"{names[5]}_relaxed", -99)])
    write_rows(tables / "id_prop_train_more.csv", [(f"{name}_relaxed", "") for name in names])
    found = by_name(release)
    reasons = {name: item.reason for name, item in found.items() if isinstance(item, Dropped)}
    splits = {name for name, reason in reasons.items() if reason == "tables put it into several splits"}
    assert len(splits) == 2
    assert {name: reason for name, reason in reasons.items() if name not in splits} == {
        name: reason
        for name, reason in {
            names[0]: "no unrelaxed structure",
            names[1]: "no relaxed structure",
            names[2]: "the CIF file of the relaxed structure is not readable as a crystal",
            names[3]: "the CIF file of the unrelaxed structure is not readable as a crystal",
            names[4]: "several relaxed structures of this name",
            names[5]: "tables give it several formation energies",
        }.items()
        if name not in splits
    }


def test_pairs_without_energy_are_kept(release, made):
    tables = release / "jsons_xmno_rcut6"
    for table in tables.glob("*.csv"):
        table.unlink()
    names = [name for name, *_ in made]
    # The energy of an unrelaxed crystal is not that of the relaxed one.
    write_rows(tables / "id_prop.csv", [(f"{names[0]}_relaxed", "nan"), (f"{names[1]}_unrelaxed", -1), (names[2], -2)])
    found = by_name(release)
    assert all(isinstance(item, RawPair) for item in found.values())
    energies = {name: item.columns.get("formation_energy_per_atom") for name, item in found.items()}
    assert {name: energy for name, energy in energies.items() if energy is not None} == {names[2]: -2}


def test_without_tables_of_a_split_it_is_that_of_the_generator(release, made):
    """As the paper's code draws it: rows shuffled with the seed 1234, then consecutive parts."""
    for table in release.rglob("id_prop_*_all.csv"):
        table.unlink()
    rows = [[f"{name}_relaxed", str(energy)] for name, *_, energy in made]
    np.random.seed(1234)  # noqa: NPY002
    np.random.shuffle(rows)  # noqa: NPY002
    expected = [row[0].removesuffix("_relaxed") for row in rows]
    found = by_name(release)
    assert [found[name].columns["split"] for name in expected] == ["train"] * 8 + ["val"] + ["test"]


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="no such folder or archive; check the path"):
        list(read_xmno(tmp_path / "absent.zip"))
    with pytest.raises(DataError, match=r"no files ..._unrelaxed.cif"):
        list(read_xmno(tmp_path))
    (tmp_path / "cifs.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"unpack cifs\.zip first"):
        list(read_xmno(tmp_path))
    with pytest.raises(DataError, match=r"cannot be unpacked .* download it again"):
        list(read_xmno(tmp_path / "cifs.zip"))
    (tmp_path / "cifs.rar").write_bytes(b"")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        list(read_xmno(tmp_path / "cifs.rar"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("archives")
    write_xmno(folder / "data", made[:2])
    return [Path(shutil.make_archive(str(folder / "a"), kind, folder, "data")) for kind in ("zip", "gztar", "xztar")]


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_archive_raises_nothing_but_one_clear_error(archives, data):
    archive = data.draw(st.sampled_from(archives))
    content = bytearray(archive.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    with TemporaryDirectory() as name:
        damaged = Path(name) / archive.name
        damaged.write_bytes(content)
        with contextlib.suppress(DataError):
            list(read_xmno(damaged))


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_made_to_fill_a_disk_is_refused(tmp_path, kind):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a_relaxed.cif").write_bytes(b"")
    os.truncate(tmp_path / "data/a_relaxed.cif", 90 * 2**20)
    with pytest.raises(DataError, match="unpacks to 90 MB or more"):
        list(read_xmno(Path(shutil.make_archive(str(tmp_path / "a"), kind, tmp_path, "data"))))


@pytest.mark.parametrize("name", ["../outside_relaxed.cif", "/outside_relaxed.cif", "a\\..\\..\\outside_relaxed.cif"])
def test_zip_members_that_lead_out_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "data_x")
    with pytest.raises(DataError, match="leads out of the archive; do not trust this file"):
        list(read_xmno(tmp_path / "bad.zip"))


def outside(name):
    member = tarfile.TarInfo(name)
    member.size = 6
    return member, io.BytesIO(b"data_x")


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member, None


@pytest.mark.parametrize(
    "members",
    [
        [outside("../outside_relaxed.cif")],
        [link("there", ".."), outside("there/outside_relaxed.cif")],
        [link("a_relaxed.cif", "/etc/passwd")],
    ],
)
def test_tar_members_that_lead_out_are_refused(tmp_path, members):
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, content)
    with pytest.raises(DataError, match="do not trust this file"):
        list(read_xmno(tmp_path / "bad.tar.gz"))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_no_tar_archives_before_python_has_a_filter(release, tmp_path, monkeypatch):
    archive = shutil.make_archive(str(tmp_path / "XMnO"), "gztar", tmp_path, "data")
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DataError, match=r"Python 3\.11\.4 or later is needed"):
        by_name(tmp_path / archive)
