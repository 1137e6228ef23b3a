"""What bytes are, by their first few; names and extensions are never believed."""

import re

IMAGE_EXTENSIONS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WebP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
"""Picture formats that are decoded, with their usual extensions."""

AUDIO_EXTENSIONS = {
    "WAV": (".wav", ".wave"),
    "FLAC": (".flac",),
    "Ogg": (".ogg", ".oga", ".opus", ".spx"),
    "MP3": (".mp3",),
}
"""Recording formats that are decoded, with their usual extensions."""

_FOREIGN_MAGIC = {
    b"8BPS": "PSD",
    b"v/1\x01": "EXR",
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"\xff\n": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"#?RADIANCE": "Radiance HDR",
    b"DDS ": "DDS",
    b"gimp xcf": "XCF",
    b"II+\x00": "BigTIFF",
    b"MM\x00+": "BigTIFF",
    b"PK\x03\x04": "ZIP",
    b"\x1f\x8b": "gzip",
    b"FORM": "AIFF",
    b"#!AMR": "AMR",
    b".snd": "AU",
    b"MThd": "MIDI",
    b"caff": "CAF",
    b"0&\xb2u": "WMA",
    b"\x1aE\xdf\xa3": "Matroska",
    b"RF64": "RF64",
    b"RIFX": "RIFX",
}


def image_format(data: bytes) -> str | None:
    """A key of `IMAGE_EXTENSIONS`, or None."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        return "TIFF"
    if data[:2] == b"BM" and data[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"):
        return "BMP"
    return None


def audio_format(data: bytes) -> str | None:
    """A key of `AUDIO_EXTENSIONS`, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "WAV"
    if data[:4] == b"fLaC":
        return "FLAC"
    if data[:4] == b"OggS":
        return "Ogg"
    if data[:3] == b"ID3" or (len(data) > 3 and data[0] == 0xFF and data[1] & 0xE6 in (0xE2, 0xE4, 0xE6)):
        return "MP3"
    return None


def foreign(data: bytes) -> str:
    """What bytes look like that are not decoded: "SVG", "PDF", "HTML", "text", "unknown bytes" ..."""
    for magic, name in _FOREIGN_MAGIC.items():
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return (
            "HEIC" if brand in (b"heic", b"heix", b"mif1", b"heim") else "AVIF" if brand == b"avif" else "MP4"
        )
    if re.match(rb"P[1-7]\s", data):
        return "PNM"
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in head and head.startswith(b"<"):
        return "SVG"
    if head.startswith((b"<!doctype html", b"<html")) or b"<html" in head[:512]:
        return "HTML"
    if head.startswith(b"<?xml"):
        return "XML"
    if head.startswith((b"{", b"[")):
        return "JSON"
    return "text" if _is_text(data[:4096]) else "unknown bytes"


def extension_warning(modality: str, name: str, found: str) -> str | None:
    """`image: a PNG named .jpg`, where the file's extension says otherwise than its bytes."""
    known = IMAGE_EXTENSIONS | AUDIO_EXTENSIONS
    dot = name.rfind(".")
    extension = name[dot:].lower() if dot >= 0 else ""
    if extension in known[found]:
        return None
    return f"{modality}: a {found} named {extension or 'without extension'}"


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4:
            return False
        text = data[: error.start].decode("utf-8")
    return not any(ord(letter) < 32 and letter not in "\t\n\r\f\x1b" for letter in text)
