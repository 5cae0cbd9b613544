"""Pictures of more than 8 bits, of more bands than three, of several frames; each with the pixels
that it must give.
"""

import struct

import numpy as np
import pytest
from PIL import Image

from lib.cleaning import clean, measurements, scan
from lib.data import decode, intake, pixel_cache
from lib.data.decode import ImageError
from lib.data.value_range import Rendering, choose, refuse_two_scales, united
from lib.errors import DarkroomError


def tiff(array, *, photometric=2, extra=None, kind=None):
    """A bare little-endian TIFF of one strip; `extra` is the value of ExtraSamples or None."""
    height, width, bands = array.shape
    data = np.ascontiguousarray(array).tobytes()
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, bands, array.dtype.itemsize * 8),
        (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, bands),
        (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1),
    ]  # fmt: skip
    tags += [(338, 3, 1, extra)] if extra is not None else []
    tags += [(339, 3, 1, kind)] if kind else []
    data += b"\0" * (len(data) % 2)
    bits_at = 8 + len(data)
    bits = struct.pack(f"<{bands}H", *[array.dtype.itemsize * 8] * bands)
    start = bits_at + len(bits) + len(bits) % 2
    out = b"II*\0" + struct.pack("<I", start) + data + bits + b"\0" * (len(bits) % 2)
    out += struct.pack("<H", len(tags))
    for tag, letter, count, value in sorted(tags):
        if tag == 258 and bands > 2:
            field = struct.pack("<I", bits_at)
        elif letter == 3:
            field = struct.pack("<HH", value, value if count == 2 else 0)
        else:
            field = struct.pack("<I", value)
        out += struct.pack("<HHI", tag, letter, count) + field
    return out + bytes(4)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("float", 1, 255), ("uint16", 4095, 65535), ("float", 1, 9000)]
)
def test_a_set_on_two_scales_is_refused(kind, low, high):
    tops = np.array([0.9 * low, 0.8 * low, 0.9 * high, high, high, 0])
    refused = f"^2 pictures hold {kind} values within 0..{low}, such as p1, and 3 within 0..{high}"
    with pytest.raises(DarkroomError, match=refused):
        refuse_two_scales([f"p{at}" for at in range(6)], [kind] * 6, tops)
    refuse_two_scales(["a", "b", "c"], [kind, "int32", kind], np.array([low, high, low]))
    refuse_two_scales(["a", "b", "c"], [kind] * 3, np.array([low, high, high]))  # one dark picture
    refuse_two_scales(["a", "b", "c"], ["int16"] * 3, np.array([-900, -800, 3000]))  # of air


def noise(shape=(12, 16, 3), top=256, seed=0, kind=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape).astype(kind)


def test_ranges_of_a_set():
    assert choose("uint16", 3, 3222) == (0, 4095) and choose("uint16", 0, 16383) == (0, 16383)
    assert choose("uint16", 0, 200) == (0, 255) and choose("int32", 0, 70_000) == (0, 131_071)
    assert choose("int16", -1024, 3071) == (-1024, 3071)
    assert choose("float", 0, 1) == (0, 1) and choose("float", 0, 1.002) == (0, 1.002)
    assert choose("float", 0, 254.5) == (0, 255) and choose("float", 0, 9000) == (0, 9000)
    assert united([("float", 0.1, 0.9), ("float", 0, 1.002), ("uint16", 5, 900)]) == {
        "float": (0, 1.002), "uint16": (0, 1023)
    }  # fmt: skip


@pytest.mark.parametrize("top", [4095, 16383])
def test_values_are_scaled_by_the_range_of_the_set(tmp_path, top):
    values = noise((12, 16), top + 1, kind=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    rendering = Rendering({"uint16": (0, top)})
    decoded = decode.decode((tmp_path / "x.png").read_bytes(), rendering=rendering)
    np.testing.assert_array_equal(decoded.pixels[..., 0], np.rint(values * (255 / top)))
    assert decoded.stored == ("uint16", values.min(), values.max())


def test_wide_rgb_keeps_its_low_bits(tmp_path):
    values = noise(top=4096, kind=np.uint16)
    rendering = Rendering({"uint16": (0, 4095)})
    expected = np.rint(values * (255 / 4095))
    import cv2

    png = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    for data in (tiff(values), png):
        np.testing.assert_array_equal(decode.decode(data, rendering=rendering).pixels, expected)


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint16, np.uint8, np.float32])
def test_tiffs_packed_by_lzw(bands, kind):
    import cv2

    values = noise((12, 16, bands), 255, kind=kind)
    turned = values[..., [2, 1, 0, 3][:bands]] if bands > 1 else values
    data = cv2.imencode(".tif", turned, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    ranges = {"uint16": (0, 255), "float": (0, 255)}
    rendering = Rendering(ranges, bands=(1, 2, 3) if bands == 4 else ())
    pixels = decode.decode(data, rendering=rendering).pixels
    np.testing.assert_array_equal(pixels, np.broadcast_to(values[..., :3], (12, 16, 3)))


def test_white_is_zero_is_inverted():
    values = noise((12, 16, 1), 65536, kind=np.uint16)
    pixels = decode.decode(tiff(values, photometric=0)).pixels
    np.testing.assert_array_equal(pixels[..., 0], 255 - np.rint(values[..., 0] / 257))


def test_signed_values_and_floats():
    values = (noise((12, 16, 1), 4096, kind=np.int16) - 1024).astype(np.int16)
    rendering = Rendering({"int16": (-1024, 3071), "float": (0.0, 1.002)})
    decoded = decode.decode(tiff(values, photometric=1, kind=2), rendering=rendering)
    expected = np.rint((values[..., 0] + 1024.0) * (255 / 4095))
    np.testing.assert_array_equal(decoded.pixels[..., 0], expected)
    for kind in (np.float32, np.float64):
        shares = (noise((12, 16, 1), 1000) / 255 * 1.002).astype(kind)
        decoded = decode.decode(tiff(shares, photometric=1, kind=3), rendering=rendering)
        difference = decoded.pixels[..., 0] - shares[..., 0] * 255 / 1.002
        assert np.abs(difference).max() <= 0.5 + 1e-3


def test_a_fourth_band_is_alpha_only_where_the_file_says_so():
    values = noise((12, 16, 4))
    for extra in (None, 0):
        np.testing.assert_array_equal(
            decode.decode(tiff(values, extra=extra)).pixels, values[..., :3]
        )
    alpha = values[..., 3:] / 255
    on_white = values[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(decode.decode(tiff(values, extra=2)).pixels - on_white).max() <= 1.01


def test_more_bands_are_unsupported_or_chosen():
    values = noise((12, 16, 5), 4096, kind=np.uint16)
    with pytest.raises(ImageError, match="5 bands x 16 bits; choose the bands by") as refused:
        decode.decode(tiff(values))
    assert refused.value.reason == "unsupported"
    rendering = Rendering({"uint16": (0, 4095)}, bands=(4, 3, 2))
    pixels = decode.decode(tiff(values), rendering=rendering).pixels
    np.testing.assert_array_equal(pixels, np.rint(values[..., [3, 2, 1]] * (255 / 4095)))
    with pytest.raises(ImageError, match="there is no band 6"):
        decode.decode(tiff(values), rendering=Rendering(bands=(6,)))


def test_numpy_files(tmp_path):
    values = noise()
    for name, array in {
        "hwc": values,
        "chw": values.transpose(2, 0, 1),
        "grey": values[..., 0],
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
        pixels = decode.decode((tmp_path / f"{name}.npy").read_bytes()).pixels
        expected = values if name != "grey" else np.repeat(values[..., :1], 3, axis=2)
        np.testing.assert_array_equal(pixels, expected)
    for array, reason in ((np.zeros((9, 30, 30, 3), np.uint8), "unsupported"),
                          (np.array([{}]), "unsupported")):  # fmt: skip
        np.save(tmp_path / "odd.npy", array, allow_pickle=True)
        with pytest.raises(ImageError) as refused:
            decode.decode((tmp_path / "odd.npy").read_bytes())
        assert refused.value.reason == reason
    cut = (tmp_path / "hwc.npy").read_bytes()[:-9]
    with pytest.raises(ImageError) as refused:
        decode.decode(cut)
    assert refused.value.reason == "truncated"


def test_dicom_in_hounsfield_units(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    values = noise((12, 16), 4096, kind=np.uint16)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 0, 1, -1024
    dataset.PixelData = values.tobytes()
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    data = (tmp_path / "x.dcm").read_bytes()
    rendering = Rendering({"int16": (-1024, 3071)})
    decoded = decode.decode(data, rendering=rendering)
    np.testing.assert_array_equal(decoded.pixels[..., 0], np.rint(values * (255 / 4095)))
    assert decoded.stored == ("int16", int(values.min()) - 1024, int(values.max()) - 1024)


@pytest.mark.parametrize(
    ("package", "ending", "name"),
    [("pillow_heif", "heic", "HEIC"), ("pillow_jxl", "jxl", "JPEG XL")],
)
def test_pictures_of_telephones(tmp_path, package, ending, name):
    plugin = pytest.importorskip(package)
    if package == "pillow_heif":
        plugin.register_heif_opener()
    colours = np.full((32, 48, 3), (200, 60, 30), np.uint8)
    colours[:, 24:] = (20, 120, 220)
    Image.fromarray(colours).save(tmp_path / f"x.{ending}", quality=95)
    decoded = decode.decode((tmp_path / f"x.{ending}").read_bytes())
    assert decoded.format == name and decoded.pixels.shape == (32, 48, 3)
    for column in (8, 40):  # far from the edge, where chroma is shared
        assert np.abs(decoded.pixels[16, column].astype(int) - colours[16, column]).max() <= 8


def test_a_fourth_band_is_reported_and_why_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for number, bands in ((0, 4), (1, 5)):
        for label in "ab":
            folder = tmp_path / f"set{number}" / label
            folder.mkdir(parents=True)
            for i in range(3):
                picture = noise((12, 16, bands), seed=100 * ord(label) + i)
                (folder / f"{i}.tif").write_bytes(tiff(picture))
    cleaned = clean.clean(intake.bring(str(tmp_path / "set0")), workers=1)
    assert any("6 pictures have a fourth band" in note for note in cleaned.notes)
    with pytest.raises(DarkroomError, match=r"unsupported 6 \(5 bands x 8 bits; choose the bands"):
        clean.clean(intake.bring(str(tmp_path / "set1")), workers=1)


def test_a_missing_decoder_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ImageError, match="pip install pydicom") as refused:
        decode.decode(bytes(128) + b"DICM" + bytes(60))
    assert refused.value.reason == "unsupported"


def test_the_limit_says_what_to_do(tmp_path):
    Image.new("L", (40, 40)).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match="40 x 40 pixels; the limit is .* into tiles"):
        decode.decode((tmp_path / "x.png").read_bytes(), max_pixels=1000)


@pytest.fixture
def wide(tmp_path, monkeypatch):
    """Two classes of 12-bit pictures, each with its own greatest value."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for number, name in enumerate(("a/1", "a/2", "a/3", "b/1", "b/2", "b/3")):
        path = tmp_path / "ct" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise((24, 24), 1000 + 500 * number, number, np.uint16)).save(path)
    return tmp_path / "ct"


def test_one_range_for_the_whole_set(wide):
    data = intake.bring(str(wide))
    cleaned = clean.clean(data, workers=1)
    assert data.source["rendering"]["ranges"] == {"uint16": [0.0, 4095.0]}
    assert set(cleaned.scanned["range_high"]) == {4095}
    (note,) = scan.notes(data, cleaned.scanned)
    assert "6 pictures hold uint16 values" in note and "4095 white in all of them" in note
    assert pixel_cache.cache(data, side=24).array.max() <= 255 * 3499 / 4095 + 1
    values = np.asarray(Image.open(wide / "b/3.png"))
    np.testing.assert_array_equal(
        data.image("b/3.png").pixels[..., 0], np.rint(values * (255 / 4095))
    )


def test_a_wide_set_is_decoded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for number in range(70):
        path = tmp_path / "ct" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise((16, 16), 900 + 45 * number, number, np.uint16)).save(path)
    calls, measure_all = [], measurements.measure_all

    def counted(files, **arguments):
        calls.append(len(files))
        return measure_all(files, **arguments)

    monkeypatch.setattr(measurements, "measure_all", counted)
    scanned = scan.scan(intake.bring(str(tmp_path / "ct")), workers=1)
    assert set(scanned["range_high"]) == {4095} and scanned["problem"].isna().all()
    assert calls[:2] == [18, 52]  # every fourth picture tells the range of all
    assert sum(calls[2:]) <= 18  # of those some are decoded again


def test_the_range_is_an_option_and_what_it_cuts_is_reported(wide):
    data = intake.bring(str(wide), options={"range": "0..2047"})
    cleaned = clean.clean(data, workers=1)
    assert set(cleaned.scanned["range_high"]) == {2047}
    assert "which cuts values of 3 pictures" in scan.notes(data, cleaned.scanned)[0]
    again = intake.bring(str(wide), options={"range": "0..4095"})
    assert set(clean.clean(again, workers=1).scanned["range_high"]) == {4095}


def test_several_frames_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for number, ending in enumerate(("gif", "tif", "webp", "png")):
        for name in ("a", "b"):
            frames = [
                Image.fromarray(noise((24, 24, 3), seed=18 * number + 9 * (name == "b") + k))
                for k in range(3)
            ]
            path = tmp_path / "set" / name / f"{name}{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            frames[0].save(path, save_all=True, append_images=frames[1:])
    cleaned = clean.clean(intake.bring(str(tmp_path / "set")), workers=1)
    assert (cleaned.findings["reason"] == "several_frames").sum() == 8
    assert (
        "8 files hold several frames or pages (up to 3)"
        in scan.notes(cleaned.dataset, cleaned.scanned)[0]
    )


def test_the_limit_of_a_large_picture_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "home"))
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(3):
            side = 1100 if i == 0 else 40
            picture = Image.fromarray(noise((side, side, 3), seed=ord(label) + i))
            picture.save(tmp_path / "set" / label / f"{i}.png")
    path = str(tmp_path / "set")
    low = clean.clean(intake.bring(path, options={"max_megapixels": "1"}), workers=1)
    assert low.counts.loc["too_large", "files"] == 2
    detail = low.scanned.loc[low.scanned["problem"] == "too_large", "detail"].iloc[0]
    assert "limit is 1 million pixels" in detail and "max_megapixels=N" in detail
    high = clean.clean(intake.bring(path, options={"max_megapixels": "2"}), workers=1)
    assert "too_large" not in high.counts.index
