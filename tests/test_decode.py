import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from lib.data import decode as decoding
from lib.data import decode_arrays
from lib.data.decode import REASONS, ImageError, decode, resize


@pytest.fixture
def picture():
    """A smooth picture whose every corner and channel differs, uint8 (48, 64, 3)."""
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=2).clip(0, 255).astype(np.uint8)


def stored(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data, **options):
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    assert caught.value.reason in REASONS
    return caught.value.reason


def apart(pixels, expected):
    return int(np.abs(pixels.astype(int) - expected.astype(int)).max())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels_back(picture, kind):
    decoded = decode(stored(Image.fromarray(picture), kind))
    assert decoded.format == kind and decoded.mode == "RGB"
    assert decoded.pixels.dtype == np.uint8 and decoded.pixels.flags.c_contiguous
    np.testing.assert_array_equal(decoded.pixels, picture)


@pytest.mark.parametrize(
    "options", [{"quality": 95}, {"quality": 50}, {"progressive": True}, {"subsampling": 0}]
)
def test_jpeg_is_what_pillow_makes_of_it(picture, options):
    data = stored(Image.fromarray(picture), "JPEG", **options)
    assert apart(decode(data).pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_and_reported(picture, orientation, kind):
    image = Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(image, kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    decoded = decode(data)
    assert decoded.orientation == orientation
    assert decoded.pixels.shape == expected.shape and apart(decoded.pixels, expected) <= 2


def test_transparency_is_on_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (255, 0, 0, 255)
    rgba[3] = (0, 0, 0, 128)
    pixels = decode(stored(Image.fromarray(rgba), "PNG")).pixels
    assert pixels[0, 0].tolist() == [255, 0, 0] and pixels[2, 0].tolist() == [255, 255, 255]
    assert pixels[3, 0].tolist() == [127, 127, 127]


def test_palettes_with_and_without_transparency():
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decode(stored(image, "PNG")).pixels[0, :2].tolist() == [[10, 20, 30], [200, 100, 50]]
    see_through = decode(stored(image, "PNG", transparency=0))
    assert see_through.mode == "P" and see_through.pixels[0, :2].tolist() == [
        [255, 255, 255],
        [200, 100, 50],
    ]
    assert decode(stored(image, "GIF", transparency=0)).pixels[0, :2].tolist() == [
        [255, 255, 255],
        [200, 100, 50],
    ]


def test_one_bit_grey_and_grey_with_a_see_through_level():
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert decode(stored(bits, "PNG")).pixels.tolist() == [[[0] * 3, [255] * 3]]
    grey = Image.fromarray(np.array([[0, 90]], np.uint8))
    assert decode(stored(grey, "PNG", transparency=0)).pixels.tolist() == [[[255] * 3, [90] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    assert decode(stored(Image.fromarray(values), kind)).pixels[0, :, 0].tolist() == [
        0,
        1,
        128,
        255,
    ]


def test_floats_between_zero_and_one_are_scaled_by_one():
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert decode(stored(image, "TIFF")).pixels[0, :, 1].tolist() == [0, 128, 255]


def test_cmyk_comes_out_as_pillow_shows_it(picture):
    cmyk = Image.fromarray(picture).convert("CMYK")
    data = stored(cmyk, "JPEG", quality=95)
    decoded = decode(data)
    assert decoded.mode == "CMYK" and apart(decoded.pixels, picture) <= 8
    assert apart(decode(stored(cmyk, "TIFF")).pixels, picture) <= 1


def test_webp_without_pillows_own_decoder_goes_the_ordinary_way(picture, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", lossless=True)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    opened.load()
    monkeypatch.setattr(opened, "_decoder", None)
    assert np.array_equal(decoding._webp(opened), picture)


def test_first_frame_of_an_animation(picture):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    data = stored(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(decode(data).pixels, picture)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_tall_picture_lies_on_white_to_its_last_row(kind):
    values = np.zeros((600, 2, 4), np.uint8)
    values[:, 0, 3] = 255  # black and opaque on the left, transparent on the right
    pixels = decode(stored(Image.fromarray(values), kind)).pixels
    assert (pixels[:, 0] == 0).all() and (pixels[:, 1] == 255).all()


def test_srgb_profile_changes_nothing_and_a_damaged_one_neither(picture):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile at all"):
        np.testing.assert_array_equal(
            decode(stored(Image.fromarray(picture), "PNG", icc_profile=profile)).pixels, picture
        )


def test_lab_profile_of_other_space_is_left_alone(picture):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(
        decode(stored(Image.fromarray(picture), "PNG", icc_profile=lab)).pixels, picture
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_is_refused(picture, kind, share):
    noisy = (
        (picture.astype(int) + np.random.default_rng(0).integers(-40, 40, picture.shape))
        .clip(0, 255)
        .astype(np.uint8)
    )
    data = stored(Image.fromarray(noisy), kind)
    assert reason_of(data[: int(len(data) * share)]) in ("truncated", "corrupted")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG: its head cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "PNG ends before its end mark"),
    ],
)
def test_what_is_reported_of_a_file_cut_in_its_head_holds_no_address_in_memory(data, message):
    with pytest.raises(ImageError, match=f"^{message}$"):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_cut_file_is_called_truncated(picture, kind):
    data = stored(Image.fromarray(picture), kind)
    assert reason_of(data[: len(data) // 2]) == "truncated"


def test_a_jpeg_that_a_decoder_would_fill_with_grey_is_refused(picture):
    data = stored(Image.fromarray(picture).resize((256, 256)), "JPEG", quality=90)
    half = data[: len(data) // 2] + b"\xff\xd9"
    assert Image.open(io.BytesIO(half)).convert("RGB").size == (256, 256)  # Pillow passes it over
    assert reason_of(half) == "corrupted"
    assert reason_of(data[: len(data) // 2] + data[len(data) // 2 + 400 :]) == "corrupted"


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(picture):
    data = stored(Image.fromarray(picture), "JPEG")
    np.testing.assert_array_equal(decode(data + b"\0" * 500).pixels, decode(data).pixels)


def test_a_png_whose_checksum_does_not_match_is_rotten(picture):
    data = bytearray(stored(Image.fromarray(picture), "PNG"))
    data[data.index(b"IDAT") + 40] ^= 1
    assert reason_of(bytes(data)) == "corrupted"


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_damaged_zlib_inside_right_checksums_is_refused():
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    packed = bytearray(
        zlib.compress(np.random.default_rng(0).integers(0, 255, 64 * 193, np.uint8).tobytes())
    )
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    rotten = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b"")
    short = (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(193 * 20)))
        + chunk(b"IEND", b"")
    )
    assert reason_of(rotten) == "corrupted"
    assert reason_of(short) == "truncated"  # 20 of 64 rows: the rest would be black


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "not_an_image"),
        (b"hello, this is text\n" * 9, "not_an_image"),
        (b"BMW is a car", "not_an_image"),
        (b"P5 is a page", "not_an_image"),
        (b"%PDF-1.7 ...", "not_an_image"),
        (b"<svg xmlns='x'></svg>", "unsupported"),
        (b"8BPS\0\1" + bytes(40), "unsupported"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "unsupported or corrupted"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
    ],
)
def test_what_is_no_picture(data, reason):
    assert reason_of(data) in reason.split(" or ")


def test_a_bomb_is_refused_without_memory():
    row = zlib.compressobj(9)
    packed = row.compress(bytes(2501 * 20_000)) + row.flush()
    data = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    )
    data += chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert 45_000 < len(data) < 55_000
    del packed, row
    tracemalloc.start()
    assert reason_of(data) == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_the_limit_is_a_parameter(picture):
    data = stored(Image.fromarray(picture), "PNG")
    assert decode(data, max_pixels=48 * 64).pixels.shape == (48, 64, 3)
    assert reason_of(data, max_pixels=48 * 64 - 1) == "too_large"


def test_damaged_exif_does_not_damage_the_picture(picture):
    data = stored(Image.fromarray(picture), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0garbage")
    assert decode(data).orientation == 1


def test_resize_fits():
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[10:30] = 200
    assert resize(tall, height=10, width=10).shape == (10, 10, 3)
    padded = resize(tall, height=20, width=20, fit="pad")
    assert padded[10, [0, 10, 16], 0].tolist() == [0, 200, 0]
    assert (
        resize(tall, height=10, width=10, fit="crop").min() == 200
    )  # the middle square is all light
    assert (
        resize(np.full((4, 4, 3), 9, np.uint8), height=8, width=6).tolist()
        == np.full((8, 6, 3), 9).tolist()
    )


def test_resize_by_area_averages():
    board = np.indices((8, 8)).sum(0) % 2 * 200
    pixels = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    assert resize(pixels, height=4, width=4).tolist() == np.full((4, 4, 3), 100).tolist()


def test_resize_refuses():
    with pytest.raises(ValueError, match="fit must be"):
        resize(np.zeros((4, 4, 3), np.uint8), height=2, width=2, fit="squeeze")
    with pytest.raises(ValueError, match="at least 1 px"):
        resize(np.zeros((4, 4, 3), np.uint8), height=0, width=2)


def chunked_png(width, height, raw, *, colour=2, depth=8, interlaced=0, extra=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    body = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + head + extra + body + chunk(b"IEND", b"")


def test_an_interlaced_png_of_half_its_rows_is_truncated(picture):
    whole = sum(
        len(range(left, 64, across)) and len(range(top, 48, down)) * (1 + 3 * len(range(left, 64, across)))
        for left, top, across, down in (
            (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
        )
    )  # fmt: skip
    assert decode(chunked_png(64, 48, bytes(whole), interlaced=1)).pixels.shape == (48, 64, 3)
    assert reason_of(chunked_png(64, 48, bytes(whole // 2), interlaced=1)) == "truncated"


def test_a_png_is_not_inflated_past_its_last_row():
    rows = bytes(48 * (1 + 64 * 3))
    assert reason_of(chunked_png(64, 48, rows + bytes(50_000_000))) == "corrupted"


def test_a_second_head_and_colours_that_the_palette_lacks_are_damage():
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    assert reason_of(chunked_png(8, 8, bytes(8 * 25), extra=second)) == "corrupted"
    palette = chunk(b"PLTE", bytes(range(12)))
    fits, beyond = b"\0\1\2\3\0\1\2\3\0", b"\0\1\2\3\4\1\2\3\0"
    assert decode(chunked_png(8, 8, fits * 8, colour=3, extra=palette)).mode == "P"
    assert reason_of(chunked_png(8, 8, beyond * 8, colour=3, extra=palette)) == "corrupted"


def test_runs_of_a_bmp_that_leave_the_picture_are_damage():
    def bmp(runs):
        palette = b"".join(bytes((k, k, k, 0)) for k in range(256))
        start = 14 + 40 + len(palette)
        info = struct.pack("<IiiHHIIiiII", 40, 8, 2, 1, 8, 1, len(runs), 0, 0, 256, 0)
        return struct.pack("<2sIHHI", b"BM", start + len(runs), 0, 0, start) + info + palette + runs

    assert decode(bmp(b"\x08\x05\0\0\x08\x07\0\1")).pixels.shape == (2, 8, 3)
    assert reason_of(bmp(b"\0\2\x20\0\x08\x05\0\1")) == "corrupted"


def test_a_jpeg_of_very_many_scans_is_refused(picture):
    data = stored(Image.fromarray(picture), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    assert reason_of(data[:-2] + data[at:-2] * 200 + data[-2:]) == "too_large"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8", "<u2"])
def test_stored_values_are_read_where_they_lie(kind, order):
    values = (np.arange(6 * 5 * 3).reshape(6, 5, 3) / 2).astype(kind, order=order)
    npy, tiff = io.BytesIO(), io.BytesIO()
    np.save(npy, values)
    plain = {"photometric": "rgb", "byteorder": kind[0]}
    tifffile.imwrite(tiff, np.ascontiguousarray(values), **plain)
    tifffile.imwrite(packed := io.BytesIO(), values, compression="zlib", **plain)
    for file, read in ((npy, decode_arrays.from_npy), (tiff, decode_arrays.from_tiff)):
        data = file.getvalue()
        found = read(data, 100).values
        assert np.array_equal(found, values)
        assert np.shares_memory(found, np.frombuffer(data, np.uint8)) == (kind[0] == "<")
    ways = (file.getvalue() for file in (npy, tiff, packed))
    first, *others = (decode(data).pixels for data in ways)
    assert all(np.array_equal(first, other) for other in others)
