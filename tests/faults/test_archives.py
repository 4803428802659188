"""Hostile archives: read in memory under a budget, nothing extracted, nothing run."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from cmprompt.errors import ItemError, UsageError
from cmprompt.sources import read_items
from cmprompt.sources.archives import MAX_MEMBER_BYTES
from tests.conftest import draw, encode

PNG = encode(draw("red"))


def outcomes(path: Path) -> dict[str, str]:
    """Status by member name; of an archive that is broken as a whole, by its own name."""
    found = {}
    for item in read_items([str(path)]):
        assert item.image is not None
        try:
            status = "ok" if item.image() == PNG else "other bytes"
        except ItemError as error:
            status = error.status
        found[item.id.removeprefix(f"{path}::")] = status
    return found


def tar_of(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    members = [("../out.png", PNG), ("/abs.png", PNG), ("a/../../b.png", PNG), ("C:\\x.png", PNG), ("good.png", PNG)]
    expected = {name: "ok" if name == "good.png" else "unsupported" for name, _ in members}
    assert outcomes(tar_of(tmp_path / "a.tar", *members)) == expected
    assert outcomes(zip_of(tmp_path / "a.zip", *members)) == expected
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "a.zip"]


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    kinds = {b"link": tarfile.LNKTYPE, b"sym": tarfile.SYMTYPE, b"fifo": tarfile.FIFOTYPE, b"chr": tarfile.CHRTYPE}
    members = [special(f"{name.decode()}.png", kind, "/etc/passwd") for name, kind in kinds.items()]
    found = outcomes(tar_of(tmp_path / "a.tar", *members, ("good.png", PNG)))
    assert found == {"link.png": "unsupported", "sym.png": "unsupported", "fifo.png": "unsupported",
                     "chr.png": "unsupported", "good.png": "ok"}  # fmt: skip


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert outcomes(tmp_path / "a.zip") == {"link.png": "unsupported"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_second_of_a_name_is_refused(tmp_path: Path) -> None:
    members = [("a.png", PNG), ("b.png", PNG), ("a.png", b"x")]
    for path in (tar_of(tmp_path / "a.tar", *members), zip_of(tmp_path / "a.zip", *members)):
        first, other, second = read_items([str(path)])
        assert all(item.image is not None and item.image() == PNG for item in (first, other))
        assert second.image is not None
        with pytest.raises(ItemError, match="second member"):
            second.image()


def grown_kb(path: Path, expected: dict[str, str]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert outcomes(path) == expected
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def test_a_bomb_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.png", "w") as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
        archive.writestr("good.png", PNG)
    assert grown_kb(tmp_path / "a.zip", {"bomb.png": "too_large", "good.png": "ok"}) < 30_000


def test_a_zip_that_lies_about_a_size_is_read_within_it(tmp_path: Path) -> None:
    data = bytearray(zip_of(tmp_path / "a.zip", ("bomb.png", bytes(32 << 20))).read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    (tmp_path / "a.zip").write_bytes(data)
    assert grown_kb(tmp_path / "a.zip", {"bomb.png": "unreadable"}) < 30_000


def test_a_member_over_the_budget_is_passed_over_unread(tmp_path: Path) -> None:
    bomb, good = tarfile.TarInfo("bomb.png"), tarfile.TarInfo("good.png")
    bomb.size, good.size = MAX_MEMBER_BYTES + (1 << 20), len(PNG)
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as stream:
        stream.write(bomb.tobuf())
        for _ in range(bomb.size >> 20):
            stream.write(bytes(1 << 20))
        stream.write(good.tobuf() + PNG.ljust(512, b"\0") + bytes(1024))
    assert len(PNG) <= 512
    assert grown_kb(tmp_path / "a.tar.gz", {"bomb.png": "too_large", "good.png": "ok"}) < 30_000


def test_a_header_that_declares_gigabytes_is_refused(tmp_path: Path) -> None:
    info = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 33
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    path = str(tmp_path / "a.tar")
    assert grown_kb(tmp_path / "a.tar", {path: "unreadable"}) < 30_000


@pytest.mark.parametrize("digits", [20, 5000])
def test_a_header_with_an_endless_number_is_refused(digits: int, tmp_path: Path) -> None:
    data = b"9" * digits + b" path=x\n"
    info = special("pax", tarfile.XHDTYPE)
    info.size = len(data)
    padding = bytes(-len(data) % 512)
    (tmp_path / "a.tar").write_bytes(info.tobuf() + data + padding + bytes(1024))
    assert outcomes(tmp_path / "a.tar") == {str(tmp_path / "a.tar"): "unreadable"}


def member(name: str, declared: int = len(PNG), **fields: str) -> bytes:
    """A header that declares any size, and any fields in a PAX header before it, with a picture behind it."""
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = declared, {field.replace("_", "."): value for field, value in fields.items()}
    return info.tobuf(tarfile.PAX_FORMAT if fields else tarfile.GNU_FORMAT) + PNG + bytes(-len(PNG) % 512)


def of_all(**fields: str) -> bytes:
    """A PAX header for all members that follow."""
    return tarfile.TarInfo.create_pax_global_header(fields)


@pytest.mark.parametrize(
    "bad",
    [
        member("b.png", -512),
        member("b.png", -1),
        member("b.png", size="-512"),
        member("b.png", GNU_sparse_size="-5"),
        member("b.png", GNU_sparse_realsize="-5"),
        of_all(size="-512") + member("b.png"),
    ],
)
def test_a_size_below_zero_breaks_an_archive(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(member("a.png") + bad + bytes(1024))
    assert outcomes(path) == {"a.png": "ok", str(path): "unreadable"}


@pytest.mark.parametrize(
    "bad",
    [
        member("b.png", comment="x" * 3_000_000),
        member("b.png", comment="9" * 30_000),
        b"".join(of_all(**{f"{i}.{j}": "x" for j in range(50)}) for i in range(4)) + member("b.png"),
    ],
    ids=["long", "digits", "many"],
)
def test_extended_headers_that_cost_too_much_are_refused(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(member("a.png") + bad + bytes(1024))
    assert outcomes(path) == {"a.png": "ok", str(path): "unreadable"}


def test_a_member_may_have_large_attributes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(
        member("a.png") + member("b.png", SCHILY_xattr_user_note="x" * 65_000) + member("c.png") + bytes(1024)
    )
    assert outcomes(path) == {"a.png": "ok", "b.png": "ok", "c.png": "ok"}


def test_members_that_overlap_are_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    headers = tarfile.TarInfo("a.png").tobuf() + tarfile.TarInfo("b.png").tobuf()
    path.write_bytes(of_all(size="10000") + headers + bytes(20_000))
    assert outcomes(path) == {"a.png": "unreadable", "b.png": "unreadable"}
    path.write_bytes(of_all(size="9") + member("a.png", -512) + bytes(1024))
    assert outcomes(path) == {"a.png": "unreadable", str(path): "unreadable"}


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(member("a.png", GNU_sparse_map="1,0,3,0") + member("b.png") + bytes(1024))
    assert outcomes(path) == {"a.png": "unsupported", "b.png": "ok"}


class Canary:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("canary-was-here",)


@pytest.mark.parametrize("ending", ["pkl", "pyd", "pickle"])
def test_pickles_are_refused_and_never_run(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tar_of(tmp_path / "a.tar", ("k.png", PNG), (f"k.{ending}", pickle.dumps(Canary())))
    assert outcomes(path) == {"k.png": "ok", f"k.{ending}": "unsupported"}
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_command_as_a_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would start a command"):
        list(read_items([f"pipe:touch {tmp_path}/ran"]))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_what_is_no_archive_is_one_record(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not an archive at all, though it is longer than a header " * 20)
    assert outcomes(tmp_path / name) == {str(tmp_path / name): "unreadable"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_cut_archive_gives_what_came_before(mode: str, tmp_path: Path) -> None:
    noise = os.urandom(40_000)
    path = tar_of(tmp_path / "a.tar", ("a.png", PNG), ("b.png", noise), mode=mode)
    path.write_bytes(path.read_bytes()[:20_000])
    found = outcomes(path)
    assert found.pop("a.png") == "ok"
    assert set(found.values()) == {"truncated"}


def header_of(path: Path, name: str) -> int:
    """Where the header of this member begins."""
    with tarfile.open(path) as archive:
        return archive.getmember(name).offset


@pytest.mark.parametrize("place", [0, 100, 130, 511])
def test_a_damaged_header_is_no_end_of_an_archive(place: int, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", *((f"{name}.png", PNG) for name in "abcd"))
    data = bytearray(path.read_bytes())
    data[header_of(path, "b.png") + place] ^= 1
    path.write_bytes(data)
    assert outcomes(path) == {"a.png": "ok", str(path): "unreadable"}


@pytest.mark.parametrize("kept", [0, 1, 511])
def test_an_archive_cut_at_a_header_is_not_whole(kept: int, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", *((f"{name}.png", PNG) for name in "abc"))
    path.write_bytes(path.read_bytes()[: header_of(path, "b.png") + kept])
    assert outcomes(path) == {"a.png": "ok", str(path): "truncated"}


def test_one_block_of_zeros_ends_an_archive(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", ("a.png", PNG), ("b.png", PNG))
    path.write_bytes(path.read_bytes()[: header_of(path, "b.png")] + bytes(512))
    assert outcomes(path) == {"a.png": "ok"}


@pytest.mark.parametrize(("ending", "status"), [(b"", "truncated"), (bytes(8), "unreadable")])
def test_the_checksum_of_a_compressed_archive_is_looked_at(ending: bytes, status: str, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar.gz", ("a.png", PNG), mode="w:gz")
    assert outcomes(path) == {"a.png": "ok"}
    path.write_bytes(path.read_bytes()[:-8] + ending)
    assert outcomes(path) == {"a.png": "ok", str(path): status}


@pytest.mark.parametrize("place", [b"PK\1\2", b"PK\3\4"])
def test_a_name_in_a_zip_that_is_not_the_utf8_it_claims_to_be(place: bytes, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("good.png", PNG), ("caf\u00e9.png", PNG))
    data = bytearray(path.read_bytes())
    data[data.index("\u00e9".encode(), data.rindex(place)) + 1] = 0xFF
    path.write_bytes(data)
    of_all = {str(path): "unreadable"}  # the list of members stands at the end
    assert outcomes(path) == (of_all if place == b"PK\1\2" else {"good.png": "ok", "caf\u00e9.png": "unreadable"})


def test_a_damaged_lzma_member_is_unreadable(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("bad.png", PNG)
        archive.writestr("good.png", PNG)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[30 + len("bad.png") + 4] = 0xFF  # the first of the LZMA properties
    (tmp_path / "a.zip").write_bytes(data)
    assert outcomes(tmp_path / "a.zip") == {"bad.png": "unreadable", "good.png": "ok"}


def test_a_member_without_a_name_is_passed_over(tmp_path: Path) -> None:
    data = zip_of(tmp_path / "a.zip", ("a.png", PNG), ("b", PNG)).read_bytes()
    end = data.rindex(b"PK\1\2")
    (tmp_path / "a.zip").write_bytes(data[:end] + data[end:].replace(b"b", b"\0", 1))
    assert outcomes(tmp_path / "a.zip") == {"a.png": "ok"}


def test_an_encrypted_member_is_unsupported(tmp_path: Path) -> None:
    data = bytearray(zip_of(tmp_path / "a.zip", ("a.png", PNG)).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert outcomes(tmp_path / "a.zip") == {"a.png": "unsupported"}


def test_an_offset_that_no_file_can_have_breaks_its_member_alone(tmp_path: Path) -> None:
    data = bytearray(zip_of(tmp_path / "a.zip", ("bad.png", PNG), ("good.png", PNG)).read_bytes())
    entry, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    wide = struct.pack("<HHQ", 1, 8, 1 << 63)  # the zip64 field of an offset
    data[end + 12 : end + 16] = struct.pack("<I", end - entry + len(wide))
    data[entry + 30 : entry + 32] = struct.pack("<H", len(wide))
    data[entry + 42 : entry + 46] = b"\xff" * 4
    data[entry + 46 + len("bad.png") : entry + 46 + len("bad.png")] = wide
    (tmp_path / "a.zip").write_bytes(data)
    assert outcomes(tmp_path / "a.zip") == {"bad.png": "unreadable", "good.png": "ok"}


def test_a_sparse_member_whose_map_is_cut_off_ends_no_run(tmp_path: Path) -> None:
    header = bytearray(special("a.png", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # the map goes on in the next block
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(header)
    assert outcomes(tmp_path / "a.tar") == {str(tmp_path / "a.tar"): "unreadable"}
