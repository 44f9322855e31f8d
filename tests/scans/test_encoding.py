from io import BytesIO

import pydicom
import pytest

from pipeline.domain import ScanError
from pipeline.scans.encoding import encoded
from tests.scans.fake_pacs import instances


def test_a_file_has_an_empty_preamble_and_the_object() -> None:
    (ds,) = instances(1)
    ds.preamble = b"#!/bin/sh\n".ljust(128)
    content = encoded(ds, "the object")
    assert content[:132] == bytes(128) + b"DICM"
    assert pydicom.dcmread(BytesIO(content)) == ds


def test_what_no_file_can_hold_is_refused() -> None:
    (ds,) = instances(1)
    ds.file_meta.TransferSyntaxUID = None
    with pytest.raises(ScanError, match=r"malformed: the object is malformed \(\w+Error\)"):
        encoded(ds, "the object")
