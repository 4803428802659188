"""Which picture format bytes are in, told from the bytes alone, and whether the end of a file is missing."""

from __future__ import annotations

import re
import struct

ALLOWED = frozenset({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF"})

_MAGIC = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"MM*\0", "TIFF"),
    (0, b"II\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    # Everything below is recognised only to say "unsupported" rather than "unreadable".
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "PSD"),
    (0, b"SIMPLE  =", "FITS"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"\0\0\2\0", "CUR"),
    (0, b"DDS ", "DDS"),
    (0, b"\x01\xda", "SGI"),
    (0, b"qoif", "QOI"),
    (0, b"/* XPM */", "XPM"),
    (4, b"\x11\xaf", "FLI"),
    (4, b"\x12\xaf", "FLC"),
    (0, b"icns", "ICNS"),
    (0, b"BLP1", "BLP"),
    (0, b"BLP2", "BLP"),
    (0, b"FTEX", "FTEX"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"GRIB", "GRIB"),
    (0, b"BUFR", "BUFR"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (40, b" EMF", "EMF"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"gimp xcf", "XCF"),
    (0, b"\x8aMNG", "MNG"),
    (0, b"FUJIFILMCCD-RAW", "Fujifilm raw"),
    (0, b"DanM", "MSP"),
    (0, b"LinS", "MSP"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"\x1aE\xdf\xa3", "Matroska video"),
    (8, b"AVI ", "AVI video"),
    (0, b"\0\0\1\xba", "MPEG video"),
    (0, b"\0\0\1\xb3", "MPEG video"),
)
_BMP = re.compile(rb"BM.{12}[\x0c-\x7c]\0\0\0", re.DOTALL)  # the length of its second header, 12 to 124
_XBM = re.compile(rb"#define\s+\S+_width\s")
_SVG = re.compile(rb"[\xef\xbb\xbf\s]*(<(\?|!(?!doctype\s+html))[^<]*)*<svg\b", re.IGNORECASE)  # no element before it
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_PNG_ESSENTIALS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
_MAX_PADDING = 64 << 20  # a header may promise 4 GB that never come


def sniff(data: bytes) -> str | None:
    """The format's name: one of `ALLOWED`, another picture format's, or None for what is no picture at all."""
    head = data[:64]
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return name
    if head.startswith(b"RIFF"):
        return "WEBP" if head[8:12] == b"WEBP" else None
    if head[4:8] == b"ftyp":
        return _by_brand(data)
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456fFy" and head[2:3] in b" \t\r\n#":
        return "PPM"
    return _by_layout(data)


def _by_brand(data: bytes) -> str:
    """ISO base media files say by their brands what they hold."""
    length = min(int.from_bytes(data[:4], "big"), 512, len(data))
    brands = {data[i : i + 4] for i in range(8, length - 3, 4) if i != 12}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else "video"


def _by_layout(data: bytes) -> str | None:
    """Formats without a magic number: plausible headers of BMP, XBM, PCX and TGA, and SVG's root element."""
    for form, name in ((_BMP, "BMP"), (_XBM, "XBM"), (_SVG, "SVG")):
        if form.match(data, 0, 1024):
            return name
    if len(data) >= 128 and data[0] == 10 and data[1] in (0, 2, 3, 4, 5) and data[2] <= 1 and data[3] in (1, 2, 4, 8):
        return "PCX"
    if len(data) < 18:
        return None
    width, height, depth = struct.unpack_from("<HHB", data, 12)
    plausible = data[1] in (0, 1) and data[2] in (1, 2, 3, 9, 10, 11) and depth in (1, 8, 15, 16, 24, 32)
    return "TGA" if plausible and width and height and data[17] & 0xC0 == 0 else None


def is_cut_short(name: str, data: bytes) -> bool:
    """Whether the end of a file that failed to decode is missing, by what its own structure promises."""
    if name == "JPEG":
        return not data.rstrip(b"\0\r\n").endswith(b"\xff\xd9")
    if name == "PNG":
        return b"IEND" not in data
    if name == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if name == "TIFF":
        return _tiff_end(data) > len(data)
    promised = _promised_length(name, data)
    return promised is not None and promised > len(data)


def completed(name: str, data: bytes) -> bytes | None:
    """A cut file with its end made up, for decoders that give nothing for half a file; None where that helps nobody."""
    if name == "JPEG":
        return data + b"\xff\xd9"
    promised = _promised_length(name, data) if name in ("WEBP", "AVIF", "HEIF") else None
    if promised is None or not 0 < promised - len(data) <= _MAX_PADDING:
        return None
    return data.ljust(promised, b"\0")


def repaired(name: str, data: bytes) -> bytes | None:
    """A file that strict decoders refuse and browsers show, made strict; None where nothing is known to help."""
    fixed = _bare_png(data) if name == "PNG" else _with_one_association_box(data) if name == "AVIF" else data
    return None if fixed == data else fixed


def _bare_png(data: bytes) -> bytes:
    """The still picture alone: a PNG whose colour profile or animation is broken is shown without it."""
    kept, position = [data[:8]], 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in _PNG_ESSENTIALS:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _with_one_association_box(data: bytes) -> bytes:
    """Several `ipma` boxes of one kind as one, since libavif takes no more; early encoders wrote one for each item.

    The bytes saved become an unused property, so that nothing else in the file moves.
    """
    start = data.find(b"ipco") - 4
    first = start + int.from_bytes(data[start : start + 4], "big") if start >= 0 else len(data)
    kinds, parts, count, end = set(), [], 0, first
    while data[end + 4 : end + 8] == b"ipma" and (length := int.from_bytes(data[end : end + 4], "big")) >= 16:
        kinds.add(data[end + 8 : end + 12])
        count += int.from_bytes(data[end + 12 : end + 16], "big")
        parts.append(data[end + 16 : end + length])
        end += length
    entries = b"".join(parts)
    spare = end - first - 16 - len(entries)
    if len(kinds) != 1 or spare < 16:
        return data
    properties = struct.pack(">I", first - start + spare) + data[start + 4 : first] + _box(b"free", bytes(spare - 8))
    association = _box(b"ipma", kinds.pop() + struct.pack(">I", count & 0xFFFFFFFF) + entries)
    return data[:start] + properties + association + data[end:]


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _promised_length(name: str, data: bytes) -> int | None:
    """The length in bytes that the container's own fields declare."""
    if len(data) < 12:
        return None
    if name == "WEBP":
        return 8 + int(struct.unpack_from("<I", data, 4)[0])
    if name == "BMP":
        return int(struct.unpack_from("<I", data, 2)[0])
    if name in ("AVIF", "HEIF"):
        return _boxes_end(data)
    return None


def _boxes_end(data: bytes) -> int:
    """Where the last top-level box of an ISO base media file ends."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8:  # 0: to the end of the file; less: not a box
            return len(data)
        position += length
    return position


def _tiff_end(data: bytes) -> int:
    """Where the last strip or tile of a classic TIFF's first page ends; an unreadable directory ends past the file."""
    order = "<" if data[:1] == b"I" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        tags = {}
        for i in range(count):
            tag, kind, number = struct.unpack_from(order + "HHI", data, start + 2 + 12 * i)
            if tag in (273, 279, 324, 325) and kind in (3, 4):
                tags[tag] = _tiff_values(data, order, kind, number, start + 10 + 12 * i)
    except struct.error:
        return len(data) + 1
    ends = [
        offset + length
        for offsets, lengths in ((273, 279), (324, 325))
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    ]
    return max(ends, default=0)


def _tiff_values(data: bytes, order: str, kind: int, number: int, at: int) -> tuple[int, ...]:
    """The values of one directory entry, in place when they fit in four bytes."""
    width, code = (2, "H") if kind == 3 else (4, "I")
    if number * width > 4:
        (at,) = struct.unpack_from(order + "I", data, at)
        if at + number * width > len(data):
            raise struct.error
    return struct.unpack_from(f"{order}{number}{code}", data, at)
