"""Compressed DICOM files, as archives hold them."""

import numpy as np
import pytest

from anomalib_memmc.data.io import read_image

pydicom = pytest.importorskip("pydicom")
gdcm = pytest.importorskip("gdcm")


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
def test_what_is_compressed_without_loss_reads_as_before(syntax, tmp_path):
    plain = pydicom.data.get_testdata_file("MR_small.dcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(plain)
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "compressed.dcm"))
    assert writer.Write()
    written = pydicom.dcmread(tmp_path / "compressed.dcm")
    assert written.file_meta.TransferSyntaxUID.is_compressed
    expected = read_image(plain)
    assert len(np.unique(expected)) > 100
    np.testing.assert_array_equal(read_image(tmp_path / "compressed.dcm"), expected)
