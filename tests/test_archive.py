import gzip
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import ConfigError
from servers import archive as archive_module
from servers.archive import check_model, fingerprint, pack_model, unpack_model
from servers.samples import samples

MakeModel = Callable[[str], Path]
PROGRAM = "def model_fn(model_dir): ...\ndef predict_fn(data, model): ...\n"


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
    return info, data


GOOD = member("code/inference.py", data=PROGRAM.encode())


def write_archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    """A small valid model folder."""
    folder = make_model(PROGRAM)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 100)
    return folder


@pytest.fixture
def packed(model: Path, tmp_path: Path) -> Path:
    """The same model as an archive."""
    pack_model(model, tmp_path / "model.tar.gz")
    return tmp_path / "model.tar.gz"


def test_packing_and_unpacking_keep_every_byte(model: Path, packed: Path, tmp_path: Path) -> None:
    """An unpacked archive has the files of the folder that was packed."""
    check_model(packed)
    unpacked = unpack_model(packed, tmp_path / "instance" / "model")
    assert unpacked == tmp_path / "instance" / "model"
    assert fingerprint(unpacked) == fingerprint(model)
    assert [path.name for path in (tmp_path / "instance").iterdir()] == ["model"]


def test_packing_is_reproducible(model: Path, packed: Path, tmp_path: Path) -> None:
    """The same files make the same archive, whatever their times, and leave nothing else behind."""
    os.utime(model / "weights.bin", (1, 1))
    (model / "code" / "__pycache__").mkdir()
    (model / "code" / "__pycache__" / "inference.pyc").write_bytes(b"cache")
    pack_model(model, tmp_path / "out" / "again.tar.gz")
    assert fingerprint(tmp_path / "out" / "again.tar.gz") == fingerprint(packed)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_fingerprints_follow_the_content(model: Path) -> None:
    """A changed byte or a changed name changes a folder's fingerprint."""
    first = fingerprint(model)
    (model / "weights.bin").rename(model / "weights2.bin")
    second = fingerprint(model)
    (model / "weights2.bin").write_bytes(b"x")
    assert len({first, second, fingerprint(model)}) == 3


def test_a_folder_is_linked_not_copied(model: Path, tmp_path: Path) -> None:
    """A model folder of any size is ready at once."""
    check_model(model)
    linked = unpack_model(model, tmp_path / "instance" / "model")
    assert linked.resolve() == model.resolve()


def test_members_written_with_dot_are_found(tmp_path: Path) -> None:
    """``tar -C folder .`` writes names as ./code/inference.py."""
    path = write_archive(
        tmp_path / "m.tar.gz",
        member("./", tarfile.DIRTYPE),
        member("./code/inference.py", data=GOOD[1]),
    )
    check_model(path)
    assert (unpack_model(path, tmp_path / "m") / "code" / "inference.py").is_file()


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (member("../evil"), "points out of the model folder"),
        (member("code/../../evil"), "points out of the model folder"),
        (member("/evil"), "points out of the model folder"),
        (member("link", tarfile.SYMTYPE), "is a link"),
        (member("link", tarfile.LNKTYPE), "is a link"),
        (member("pipe", tarfile.FIFOTYPE), "is a link, a device"),
        (member("device", tarfile.CHRTYPE), "is a link, a device"),
        (member("code/inference.py/x"), "cannot be used"),
    ],
)
def test_archives_cannot_leave_their_folder(
    tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], complaint: str
) -> None:
    """A member that is no plain file inside the folder is refused by name, and nothing stays."""
    path = write_archive(tmp_path / "m.tar.gz", GOOD, bad)
    with pytest.raises(ConfigError, match=complaint) as caught:
        unpack_model(path, tmp_path / "instance" / "model")
    assert str(path) in str(caught.value)
    assert list((tmp_path / "instance").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["instance", "m.tar.gz"]


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders count as members, too."""
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 10)
    empty = [member(f"d{number}", tarfile.DIRTYPE) for number in range(11)]
    with pytest.raises(ConfigError, match="over 10 members"):
        check_model(write_archive(tmp_path / "m.tar.gz", *empty))


def test_too_much_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that come out are counted against the limit, over all members."""
    monkeypatch.setattr(archive_module, "MAX_UNPACKED_BYTES", 3_000)
    path = write_archive(
        tmp_path / "m.tar.gz", GOOD, member("a", data=bytes(2_000)), member("b", data=bytes(2_000))
    )
    with pytest.raises(ConfigError, match="'b' takes the archive over"):
        check_model(path)


def test_a_long_name_cannot_fill_the_memory(tmp_path: Path) -> None:
    """A "long name" of many megabytes, which tarfile would read whole, is refused early."""
    info = member("long")[0]
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 50_000_000
    (tmp_path / "m.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(50_000_000), 1))
    with pytest.raises(ConfigError, match="header is over 1,000,000 bytes"):
        check_model(tmp_path / "m.tar.gz")


def test_a_truncated_archive_is_refused(packed: Path, tmp_path: Path) -> None:
    """However much is missing at its end, an archive cut short is said to be so."""
    whole = packed.read_bytes()
    for length in (1, 20, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        packed.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"damaged or cut short|not a gzip archive"):
            unpack_model(packed, tmp_path / "model2")
        assert not (tmp_path / "model2").exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", gzip.compress(b"no tar at all" * 99)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    """Other files are not taken for models."""
    (tmp_path / "model.tar.gz").write_bytes(data)
    with pytest.raises(ConfigError, match=r"model\.tar\.gz"):
        check_model(tmp_path / "model.tar.gz")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    """A path that does not exist is said to be so by every function."""
    for use in (check_model, fingerprint, samples, lambda path: unpack_model(path, tmp_path / "m")):
        with pytest.raises(ConfigError, match=r"nowhere\.tar\.gz"):
            use(tmp_path / "nowhere.tar.gz")


def test_nothing_is_overwritten(packed: Path, model: Path) -> None:
    """Unpacking onto something that exists is refused."""
    with pytest.raises(ConfigError, match="is in the way"):
        unpack_model(packed, model)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("def model_fn(:\n", "does not parse"),
        ("\0", "does not parse"),
        ("import os\n", "defines no model_fn"),
        ("def model_fn(model_dir): ...\n", "neither predict_fn"),
        (PROGRAM + "def transform_fn(m, b, c, a): ...\n", "transform_fn and predict_fn"),
    ],
)
def test_a_program_is_judged_without_running_it(
    make_model: MakeModel, tmp_path: Path, program: str, complaint: str
) -> None:
    """Folder and archive are refused alike when the program cannot work."""
    folder = make_model(program)
    pack_model(folder, tmp_path / "m.tar.gz")
    for path in (folder, tmp_path / "m.tar.gz"):
        with pytest.raises(ConfigError, match=complaint):
            check_model(path)


@pytest.mark.parametrize(
    "program",
    [
        "from elsewhere import *\n",
        "from elsewhere import model_fn, predict_fn\n",
        "model_fn = predict_fn = print\nraise SystemExit\n",
        "try:\n    from fast import model_fn\nexcept ImportError:\n    model_fn = None\n"
        "if True:\n    def predict_fn(a, b): return '\\d'\n",
        "def model_fn(d): ...\ndef transform_fn(m, b, c, a): ...\n",
    ],
)
def test_functions_may_come_from_anywhere(make_model: MakeModel, program: str) -> None:
    """Imported, assigned and conditional functions count as defined."""
    check_model(make_model(program))


def test_a_folder_without_program_is_refused(tmp_path: Path) -> None:
    """The missing file and the variable that names another are in the message."""
    with pytest.raises(ConfigError, match=r"no code/inference\.py.*SAGEMAKER_PROGRAM"):
        check_model(tmp_path)


def test_the_program_may_have_another_name(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAGEMAKER_PROGRAM names the program, inside the code folder only."""
    (model / "code" / "inference.py").rename(model / "code" / "serve.py")
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "serve.py")
    check_model(model)
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "../serve.py")
    with pytest.raises(ConfigError, match=r"'\.\./serve\.py'"):
        check_model(model)


def test_samples_are_the_models_own_requests(model: Path, tmp_path: Path) -> None:
    """samples.json is read from a folder and from an archive; without it there are none."""
    assert samples(model) == []
    (model / "samples.json").write_text('[{"body": [1, 2], "label": 3}, {"body": {"a": null}}]')
    pack_model(model, tmp_path / "m.tar.gz")
    assert samples(model) == samples(tmp_path / "m.tar.gz") == [b"[1,2]", b'{"a":null}']


@pytest.mark.parametrize("text", ["[1", '{"body": 1}', '[{"label": 1}]'])
def test_samples_that_are_none_are_refused(model: Path, text: str) -> None:
    """A samples.json of another shape is named."""
    (model / "samples.json").write_text(text)
    with pytest.raises(ConfigError, match=r"samples\.json"):
        samples(model)


@pytest.mark.slow
def test_a_full_disk_is_said_to_be_full(packed: Path, tmp_path: Path) -> None:
    """Where the system allows no more bytes, unpacking says so and leaves nothing behind."""
    child = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from servers.archive import unpack_model\nfrom bench.errors import ConfigError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: unpack_model(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except ConfigError as error: sys.stdout.write(str(error))\n"
    )
    command = [sys.executable, "-c", child, str(packed), str(tmp_path / "small" / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("No room on disk for")
    assert list((tmp_path / "small").iterdir()) == []
