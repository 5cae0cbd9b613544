"""Files of every kind that a folder of images holds, each with what it must decode to or why it
must be refused.

`cases()` returns (name, bytes, expected): an array of uint8 RGB, or a reason of `decode.REASONS`.
"""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps

HEIGHT, WIDTH = 48, 64


def picture():
    """Smooth, every corner and channel differs, uint8 (48, 64, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=2).clip(0, 255).astype(np.uint8)


def stored(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(data):
    """What Pillow shows of an undamaged file: turned upright, RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, packed, *, depth=8, colour=2, end=True):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + (chunk(b"IEND", b"") if end else b"")
    )


def bomb(side=20_000):
    """A real 1-bit PNG of side x side black pixels, 48 kB for 20,000."""
    rows, pack = bytes((1 + side // 8) * 200), zlib.compressobj(9)
    packed = b"".join([*(pack.compress(rows) for _ in range(side // 200)), pack.flush()])
    return png(side, side, packed, depth=1, colour=0)


def cases():
    return [*_png(), *_jpeg(), *_tiff(), *_others(), *_refused(), *_cut(), *_rotten(), *_endless()]


def _png():
    rgb = picture()
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb[..., 0])
    wide = rgb.astype(np.uint16) * 257
    clear = np.dstack([rgb, np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))])
    share = clear[..., 3:].astype(float) / 255
    on_white = np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)
    palette = image.quantize(64)
    see_through = np.asarray(palette.convert("RGB")).copy()
    see_through[np.asarray(palette) == 5] = 255
    bits = rgb[..., 0] > 100
    white = Image.new("RGBA", (1, 1), (255, 255, 255, 0))
    keyed = Image.new("RGB", (4, 4), (9, 8, 7))
    with_alpha = Image.merge("LA", (grey, Image.new("L", grey.size, 255)))
    yield "rgb.png", stored(image, "PNG"), rgb
    yield "rgb_level0.png", stored(image, "PNG", compress_level=0), rgb
    yield "grey.png", stored(grey, "PNG"), np.repeat(rgb[..., :1], 3, axis=2)
    yield "alpha.png", stored(Image.fromarray(clear), "PNG"), on_white
    yield "opaque_alpha.png", stored(image.convert("RGBA"), "PNG"), rgb
    yield "all_clear.png", stored(white, "PNG"), np.full((1, 1, 3), 255, np.uint8)
    yield "grey_alpha.png", stored(with_alpha, "PNG"), np.repeat(rgb[..., :1], 3, axis=2)
    yield "palette.png", stored(palette, "PNG"), np.asarray(palette.convert("RGB"))
    yield "palette_transparent.png", stored(palette, "PNG", transparency=5), see_through
    yield (
        "palette_4bit.png",
        stored(image.quantize(16), "PNG", bits=4),
        np.asarray(image.quantize(16).convert("RGB")),
    )
    yield (
        "one_bit.png",
        stored(Image.fromarray(bits), "PNG"),
        np.repeat(bits[..., None] * np.uint8(255), 3, axis=2),
    )
    yield (
        "sixteen_bit_grey.png",
        stored(Image.fromarray(wide[..., 0]), "PNG"),
        np.repeat(rgb[..., :1], 3, axis=2),
    )
    yield "sixteen_bit_rgb.png", cv2.imencode(".png", wide[..., ::-1])[1].tobytes(), rgb
    yield (
        "colour_key.png",
        stored(keyed, "PNG", transparency=(9, 8, 7)),
        np.full((4, 4, 3), 255, np.uint8),
    )
    yield "srgb_profile.png", stored(image, "PNG", icc_profile=_profile("sRGB")), rgb
    yield (
        "swapped_profile.png",
        stored(image, "PNG", icc_profile=swapped_profile()),
        rgb[..., [1, 0, 2]],
    )
    yield "broken_profile.png", stored(image, "PNG", icc_profile=b"no profile"), rgb
    yield "text_chunks.png", stored(image, "PNG", pnginfo=_notes()), rgb


def _jpeg():
    image = Image.fromarray(picture())
    for name, options in {
        "q95": {"quality": 95},
        "q50": {"quality": 50},
        "q5": {"quality": 5},
        "progressive": {"progressive": True},
        "444": {"subsampling": 0, "quality": 90},
        "422": {"subsampling": 1},
        "restarts": {"restart_marker_rows": 1},
        "optimized": {"optimize": True},
        "comment": {"comment": b"a comment"},
    }.items():
        data = stored(image, "JPEG", **options)
        yield f"{name}.jpg", data, shown(data)
    for name, other in {
        "grey": image.convert("L"),
        "cmyk": image.convert("CMYK"),
        "one_pixel": image.resize((1, 1)),
    }.items():
        data = stored(other, "JPEG", quality=95)
        yield f"{name}.jpg", data, shown(data)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = stored(image, "JPEG", exif=exif, quality=95)
        yield f"turned_{orientation}.jpg", data, shown(data)
    data = stored(image, "JPEG")
    yield "bytes_after_the_end.jpg", data + b"\0" * 500, shown(data)
    yield (
        "garbage_exif.jpg",
        stored(image, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0garbage"),
        shown(data),
    )
    lab = stored(image, "JPEG", icc_profile=_profile("LAB"))
    yield "profile_of_another_space.jpg", lab, shown(data)
    double = stored(image, "MPO", save_all=True, append_images=[ImageOps.invert(image)])
    yield "two_pictures.mpo.jpg", double, shown(double)


def _tiff():
    rgb = picture()
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb[..., 0])
    grey_rgb = np.repeat(rgb[..., :1], 3, axis=2)
    for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield f"{how}.tif", stored(image, "TIFF", compression=how), rgb
    yield "grey.tif", stored(grey, "TIFF"), grey_rgb
    yield (
        "sixteen_bit.tif",
        stored(Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), "TIFF"),
        grey_rgb,
    )
    yield (
        "float.tif",
        stored(Image.fromarray(rgb[..., 0].astype(np.float32) / 255), "TIFF"),
        grey_rgb,
    )
    cmyk = stored(image.convert("CMYK"), "TIFF")
    yield "cmyk.tif", cmyk, shown(cmyk)
    bits = rgb[..., 1] > 100
    fax = stored(Image.fromarray(bits), "TIFF", compression="group4")
    yield "fax.tif", fax, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = stored(image, "TIFF", exif=exif)
    yield "turned.tif", turned, np.rot90(rgb, -1)
    yield (
        "pages.tif",
        stored(image, "TIFF", save_all=True, append_images=[ImageOps.invert(image)]),
        rgb,
    )


def _others():
    rgb = picture()
    image = Image.fromarray(rgb)
    inverted = ImageOps.invert(image)
    palette = image.quantize(64)
    clear = Image.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 128, np.uint8)]))
    half = np.rint(rgb * (128 / 255) + 255 * (127 / 255)).astype(np.uint8)
    yield "still.gif", stored(palette, "GIF"), np.asarray(palette.convert("RGB"))
    yield (
        "interlaced.gif",
        stored(palette, "GIF", interlace=True),
        np.asarray(palette.convert("RGB")),
    )
    moving = stored(palette, "GIF", save_all=True, append_images=[inverted.quantize(64)], loop=0)
    yield "moving.gif", moving, shown(moving)
    yield "rgb.bmp", stored(image, "BMP"), rgb
    yield "palette.bmp", stored(palette, "BMP"), np.asarray(palette.convert("RGB"))
    yield "lossless.webp", stored(image, "WEBP", lossless=True), rgb
    lossy = stored(image, "WEBP", quality=80)
    yield "lossy.webp", lossy, shown(lossy)
    yield "alpha.webp", stored(clear, "WEBP", lossless=True, exact=True), half
    yield (
        "moving.webp",
        stored(image, "WEBP", save_all=True, append_images=[inverted], lossless=True),
        rgb,
    )
    yield "colour.ppm", stored(image, "PPM"), rgb
    yield (
        "grey.pgm",
        stored(image.convert("L"), "PPM"),
        np.asarray(image.convert("L").convert("RGB")),
    )
    avif = stored(image, "AVIF", quality=90)
    yield "still.avif", avif, shown(avif)


def _refused():
    yield "empty.jpg", b"", "not_an_image"
    yield "text.jpg", b"this is no picture\n" * 20, "not_an_image"
    yield "page.jpg", b"<!doctype html><title>404</title>" * 4, "not_an_image"
    yield "document.png", b"%PDF-1.7\n" + bytes(64), "not_an_image"
    yield "archive.png", b"PK\x03\x04" + bytes(64), "not_an_image"
    yield "film.jpg", b"\0\0\0\x20ftypisom" + bytes(64), "not_an_image"
    yield "word_that_begins_like_a_bitmap.txt", b"BMW is a car\n" * 9, "not_an_image"
    yield "zeros.jpg", bytes(5000), "not_an_image"
    yield "phone.heic", b"\0\0\0\x18ftypheic" + bytes(64), "unsupported or corrupted"
    yield "layers.psd", b"8BPS\0\1" + bytes(64), "unsupported"
    yield "drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "unsupported"
    yield "wavelet.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), "unsupported"
    yield "bomb.png", bomb(), "too_large"
    screen, frame = struct.pack("<HH", 65_535, 65_535), struct.pack("<HHHH", 0, 0, 65_535, 65_535)
    yield (
        "huge.gif",
        b"GIF89a" + screen + b"\x80\0\0" + bytes(6) + b"," + frame + b"\0\x02\x02\x4c\x01\0;",
        "too_large",
    )
    small = stored(Image.new("RGB", (8, 8)), "BMP")
    yield (
        "huge.bmp",
        small.replace(struct.pack("<ii", 8, 8), struct.pack("<ii", 50_000, 50_000)),
        "too_large",
    )


def _cut():
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(
        (picture().astype(int) + rng.integers(-40, 40, (HEIGHT, WIDTH, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    )
    for kind, ending in (
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("GIF", "gif"),
        ("WEBP", "webp"),
        ("BMP", "bmp"),
        ("PPM", "ppm"),
    ):
        data = stored(noisy, kind)
        for share in (0.3, 0.7, 0.97):
            yield (
                f"cut_at_{share:.0%}.{ending}",
                data[: int(len(data) * share)],
                "truncated or corrupted",
            )
    yield "only_the_header.png", png(8, 8, zlib.compress(b""))[:33], "truncated"
    yield "no_end_mark.png", png(8, 8, zlib.compress(bytes(25 * 8)), end=False), "truncated"
    yield "half_of_the_rows.png", png(64, 64, zlib.compress(bytes(193 * 30))), "truncated"
    yield "start_only.jpg", b"\xff\xd8\xff\xe0", "truncated"


def _rotten():
    large = Image.fromarray(picture()).resize((256, 192))
    jpeg, whole = stored(large, "JPEG", quality=90), stored(Image.fromarray(picture()), "PNG")
    middle = len(jpeg) // 2
    yield "patched_end.jpg", jpeg[:middle] + b"\xff\xd9", "truncated or corrupted"
    yield "hole.jpg", jpeg[:middle] + jpeg[middle + 400 :], "truncated or corrupted"
    yield "zeroed.jpg", jpeg[:middle] + bytes(300) + jpeg[middle + 300 :], "truncated or corrupted"
    flipped = bytearray(whole)
    flipped[whole.index(b"IDAT") + 40] ^= 1
    yield "wrong_checksum.png", bytes(flipped), "corrupted"
    packed = bytearray(
        zlib.compress(np.random.default_rng(0).integers(0, 255, 64 * 193, np.uint8).tobytes())
    )
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    yield "damaged_stream.png", png(64, 64, bytes(packed)), "corrupted"
    yield "another_file_inside.png", whole[:60] + jpeg[60:], "truncated or corrupted"
    gif = bytearray(stored(Image.fromarray(picture()).quantize(64), "GIF"))
    yield (
        "no_such_block.gif",
        bytes(gif[: 13 + 64 * 3]) + b"\x99" + bytes(50),
        "truncated or corrupted",
    )


def interlaced(image, *, last_filter=0):
    """A PNG in seven passes; the filter of the last row may be one that there is not."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = [
        b"\0" + row.tobytes()
        for left, top, across, down in [*passes, (0, 1, 1, 2)]
        for row in image[top::down, left::across]
    ]
    rows[-1] = bytes([last_filter]) + rows[-1][1:]
    whole = png(image.shape[1], image.shape[0], zlib.compress(b"".join(rows)))
    head = whole[12:28] + b"\1"
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def strips(packed, *, compression, bits=8, bands=1, rows=8):
    """A TIFF of 8 x 8 values in strips of `rows` rows, of which it holds one."""
    values = {256: 8, 257: 8, 258: bits, 259: compression, 262: 1 + (bands == 3), 273: 134}
    values |= {277: bands, 278: rows, 279: len(packed), 284: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 10) + entries + bytes(4) + packed


def _endless():
    """Damage that decoders accept, and files that keep them busy."""
    rgb, whole = picture(), stored(Image.fromarray(picture()), "PNG")
    jpeg = stored(Image.fromarray(rgb), "JPEG")
    pixels, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    indices = png(8, 8, zlib.compress(bytes(9 * 8)), colour=3)
    palette = chunk(b"PLTE", bytes(6))
    yield "interlaced.png", interlaced(rgb), rgb
    yield "interlaced_filter.png", interlaced(rgb, last_filter=7), "corrupted"
    yield "unknown_filter.png", png(2, 2, zlib.compress(b"\0abcdef\5abcdef")), "corrupted"
    yield "empty_palette.png", indices[:33] + chunk(b"PLTE", b"") + indices[33:], "corrupted"
    yield "two_palettes.png", indices[:33] + palette + palette + indices[33:], "corrupted"
    yield "critical.png", whole[:pixels] + chunk(b"CgBI", b"") + whole[pixels:], "unsupported"
    for name, place in (("before", pixels), ("after", end)):
        empty = chunk(b"teXt", b"") * 20_000
        yield f"chunks_{name}.png", whole[:place] + empty + whole[place:], "corrupted"
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield "declared_frames.png", whole[:pixels] + frames + whole[pixels:], rgb
    frame = b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x4c\x01\0"
    screen = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6)
    yield "many_frames.gif", screen + frame * 50_000 + b";", np.zeros((1, 1, 3), np.uint8)
    yield "stray_bytes.jpg", jpeg[:2] + b"\xff" * 20_000 + jpeg[2:], "corrupted"
    yield "segments.jpg", jpeg[:2] + b"\xff\xe1\0\2" * 20_000 + jpeg[2:], "corrupted"
    yield "comment.pgm", b"P5\n#" + b"x" * 100_000 + b"\n1 1 255\n\0", "not_an_image"
    yield "above.pgm", b"P5\n2 2 100\n\0\1\2\x65", "corrupted"
    yield "one_of_8_strips.tif", strips(bytes(64), compression=1, rows=1), "truncated"
    packed = zlib.compress(bytes(48))
    wide = {"compression": 8, "bits": 16, "bands": 3}
    yield "one_of_8_wide_strips.tif", strips(packed, rows=1, **wide), "truncated"
    yield "inflated_strip.tif", strips(zlib.compress(bytes(1 << 20)), **wide), "corrupted"


def swapped_profile():
    """An ICC profile of sRGB whose red and green primaries have changed places. Source: ICC.1:2010,
    sections 7.2 and 10.
    """

    def number(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(number(value) for value in values)

    curve = b"para\0\0\0\0\0\x03\0\0" + b"".join(
        number(v) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    )
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\x08swapped\0" + bytes(78),
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"gXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
        b"cprt": b"text\0\0\0\0none\0",
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = (
        struct.pack(
            ">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ "
        )
        + bytes(12)
        + b"acsp"
    )
    white = number(0.9642) + number(1) + number(0.8249)
    return (head + bytes(28) + white).ljust(128, b"\0") + table + body


def _profile(space):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def _notes():
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Comment", "made by hand")
    notes.add_itxt("Titre", "été", zip=True)
    return notes
