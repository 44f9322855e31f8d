"""imagecodecs as a decoder plugin of pydicom: `Dataset.pixel_array` reads every compressed syntax that we read.

The reader itself does not need it. It is for notebooks and for libraries that ask pydicom for pixels: call `register`
once. Frames are decoded where all of ours are, in child processes that may crash, hang or run out of memory.
"""

from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import UID

from pipeline.scans.codecs import CODECS, codec_of, decode_frame

NAME = "pipeline"

DECODER_DEPENDENCIES = {UID(syntax): ("imagecodecs",) for syntax in CODECS}
"""Part of pydicom's plugin interface."""


def register() -> None:
    """Add the plugin to pydicom's decoders; a second call changes nothing."""
    for syntax in DECODER_DEPENDENCIES:
        decoder = get_decoder(syntax)
        if NAME not in decoder.available_plugins:
            decoder.add_plugin(NAME, (__name__, "decode"))


def is_available(syntax: str) -> bool:
    """Whether the plugin decodes a transfer syntax."""
    return syntax in CODECS


def decode(encoded: bytes, runner: DecodeRunner) -> bytearray:
    """The bytes of one decoded frame, colour by pixel; JPEG and JPEG 2000 colour comes out as RGB.

    Raises:
        ScanError: As `codecs.decode_frame`.
    """
    codec = codec_of(runner.transfer_syntax)
    request = {
        "codec": codec,
        "rows": runner.rows,
        "columns": runner.columns,
        "samples": runner.samples_per_pixel,
        "dtype": f"{'i' if runner.pixel_representation else 'u'}{runner.bits_allocated // 8}",
        "photometric": str(runner.photometric_interpretation),
    }
    frame = decode_frame(request, encoded)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
        if codec in ("jpeg", "jpeg2k", "htj2k"):
            runner.set_option("photometric_interpretation", "RGB")
    return bytearray(frame.tobytes())
