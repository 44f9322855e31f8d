"""Which elements are read of a DICOM header; everything else is skipped unread."""

from functools import cache

from pydicom.tag import BaseTag

from pipeline.scans.elements import Wanted, wanted_of
from pipeline.scans.values import tag_of

KEYWORDS = (
    *(
        "SpecificCharacterSet",
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "ComplexImageComponent",
        "StudyDate",
        "SeriesDate",
        "AcquisitionDate",
        "SeriesDescription",
    ),
    *("AccessionNumber", "Modality", "Manufacturer", "ManufacturerModelName", "AcquisitionTime", "ContentTime"),
    *("PatientID", "PatientSex", "PatientAge", "PatientBirthDate", "BodyPartExamined", "PatientSpeciesDescription"),
    *("SliceThickness", "EchoTime", "EchoNumbers", "TriggerTime", "SpacingBetweenSlices", "ImagerPixelSpacing"),
    *("StudyInstanceUID", "SeriesInstanceUID", "AcquisitionNumber", "InstanceNumber", "FrameOfReferenceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "TemporalPositionIdentifier", "NumberOfTemporalPositions"),
    *("DiffusionBValue", "DiffusionGradientOrientation", "InversionTime", "NominalCardiacTriggerDelayTime"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "BurnedInAnnotation", "RescaleIntercept", "RescaleSlope", "RescaleType", "Units"),
    *("ModalityLUTSequence", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData"),
    *("Laterality", "ImageLaterality", "ViewPosition", "QualityControlImage", "PatientSpeciesCodeSequence"),
    *("BluePaletteColorLookupTableData", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("RealWorldValueMappingSequence", "EstimatedRadiographicMagnificationFactor", "ContrastBolusAgent"),
    *("DistanceSourceToDetector", "DistanceSourceToPatient", "ConcatenationUID", "InConcatenationTotalNumber"),
    *("KVP", "ConvolutionKernel", "FrameReferenceTime", "NominalPercentageOfCardiacPhase", "ContentDate"),
    "PatientName",
)
"""What is read of every header."""

PRIVATE_TAGS = (
    *(0x00190010, 0x0019100A, 0x0019100C, 0x0019100E, 0x00290010, 0x00290011, 0x00291010, 0x00291110),  # Siemens
    *(0x001910BB, 0x001910BC, 0x001910BD, 0x00430010, 0x0043102F, 0x00431039),  # GE
    *(0x20010010, 0x20011003, 0x20050010, 0x200510B0, 0x200510B1, 0x200510B2),  # Philips
    *(0x00090010, 0x0009100D),  # GE's PET: when the scan was made
    *(0x70530010, 0x70531000, 0x70531009),  # Philips' PET: from counts to SUV, to Bq/ml
    *(0x00650010, 0x00651009, 0x00651037, 0x00651050, 0x00651051),  # UIH
)
"""Diffusion weighting, mosaics, PET, and the owners of the blocks; see `diffusion`, `mosaic` and `suv`."""

MEDIA_CLASS, SYNTAX = tag_of("MediaStorageSOPClassUID"), tag_of("TransferSyntaxUID")
FILE_META = wanted_of([MEDIA_CLASS, SYNTAX])


@cache
def wanted(extra: tuple[str, ...] = ()) -> Wanted:
    """What is read of a header, and `extra` keywords."""
    return wanted_of((*map(tag_of, (*KEYWORDS, *extra)), *map(BaseTag, PRIVATE_TAGS)))
