from pathlib import Path

import pytest

from pipeline.cohort.labels import path_key, read_labels
from pipeline.domain import UsageError
from tests.cohort.cases import write

PLAIN = "path,label,sex\na/1.dcm,1,F\nb.dcm,,M\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_separators_and_line_ends_read_alike(tmp_path: Path, encoding: str, separator: str, end: str) -> None:
    text = PLAIN.replace(",", separator).replace("\n", end)
    labels = read_labels(write(tmp_path / "l.csv", text, encoding))
    assert labels.rows.to_dict("list") == {"path": ["a/1.dcm", "b.dcm"], "label": ["1", ""], "sex": ["F", "M"]}
    assert (labels.key, labels.columns, labels.extras) == ("path", ("label",), ("sex",))
    assert list(labels.rows.index) == [2, 3]


def test_ids_stay_text_and_spaces_go(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "patient_id , label\n 001 , 1 \n"))
    assert labels.rows.to_dict("list") == {"patient_id": ["001"], "label": ["1"]}


def test_headers_are_found_whatever_their_case(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "Patient_ID,Nodule,Split\n1,1,Val\n"), ["nodule"])
    assert (labels.key, labels.columns, list(labels.rows["split"])) == ("patient_id", ("nodule",), ["tune"])


def test_label_columns_default_to_label_and_label_x(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "scan_id,label_a,label_b,labels\nx,1,0,q\n"))
    assert (labels.columns, labels.extras) == (("label_a", "label_b"), ("labels",))


def test_the_first_key_joins(tmp_path: Path) -> None:
    text = "patient_id,study_uid,accession_number,label\np,s,a,1\n"
    assert read_labels(write(tmp_path / "l.csv", text)).key == "accession_number"


def test_columns_that_prepare_measures_are_passed_over_aloud(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "path,label,shape,warnings\na,1,2x2x2,\n"))
    assert labels.extras == ()
    assert "shape, warnings" in labels.notices[0]


def test_a_quote_that_our_tables_added_is_taken_off(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "patient_id,label\n'=A1,1\n'quoted,0\n"))
    assert list(labels.rows["patient_id"]) == ["=A1", "'quoted"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,outcome\na,1\n", r"no column is called label or label_\*.*columns are: path, outcome"),
        ("name,label\na,1\n", r"no key column \(path, accession_number.*columns are: name, label"),
        ("path,label,label\na,1,0\n", r"column name 'label' occurs 2 times"),
        ("path,label\na,1\nb,0,,x\n", r"line 3: not 2 cells"),
        ("path,label\na\n", r"line 2: not 2 cells"),
        ("path,label\n", r"at least one row, found 1 line"),
        ("", r"found 0 line"),
        ('path,label\n"a,1\n', r"no readable CSV"),
        ("path,label\n/etc/passwd,1\n../x,1\nb,0\n", r"path, lines 2, 3: 2 not inside SCANS"),
        ("path,label,split\na,1,learn\n", r"split: expected train, tune, test .*found 'learn'"),
        ("path,label,fold\na,1,first\n", r"fold: expected whole numbers.*found 'first'"),
    ],
)
def test_a_table_that_can_not_be_used_says_why(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_labels(write(tmp_path / "l.csv", text))


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as told:
        read_labels(write(tmp_path / "l.csv", "who,what\na,1\n"), ["nodule", "mass"])
    assert all(words in str(told.value) for words in ("'nodule' is missing", "'mass' is missing", "no key column"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04rest", "spreadsheet file; save it as 'CSV UTF-8'"),
        ("path,label\nM\xfcller,1\n".encode("cp1252"), r"is not UTF-8 text \(line 2\)"),
        ("path,label\na,1\n".encode("utf-16-le"), "zero bytes"),
    ],
)
def test_files_that_are_no_utf8_table_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_labels(tmp_path / "l.csv")


def test_a_missing_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_labels(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["patient_id", "split", "content_sha256"])
def test_a_label_can_not_take_the_name_of_another_column(tmp_path: Path, name: str) -> None:
    header = "path,patient_id,split,content_sha256\na,1,train,0\n"
    with pytest.raises(UsageError, match=rf"label column '{name}' has a name that scans.csv uses"):
        read_labels(write(tmp_path / "l.csv", header), [name])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a/b.dcm", "a/b.dcm"), ("./a//b.dcm", "a/b.dcm"), ("a\\b.dcm", "a/b.dcm"), ("a/", "a"), (".", "."),
        ("Mu\u0308ller.png", "M\xfcller.png"),
        ("/a", ""), ("../a", ""), ("a/../b", ""), ("file:///a", ""), ("https://h/a", ""), ("C:\\a", ""),
        ("\\\\host\\share\\a", ""), ("//host/share/a", ""), ("C:a", ""),
    ],
)  # fmt: skip
def test_paths_are_relative_or_refused(text: str, key: str) -> None:
    assert path_key(text) == key
