from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastmirror.descriptors import hash_descriptor, write_all
from fastmirror.errors import SettingsError, StorageError
from fastmirror.filetree import FileTree
from fastmirror.storage import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "packages/0ef/six-1.0.whl"
LONG = f"packages/0e/f1/{'e' * 60}/six-1.0.whl"
SHA = "ab" * 32
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["renameat2", "link"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileTree]:
    """A storage that is prepared and open, with either way to create a name without replacing."""
    storage = opened(tmp_path)
    if request.param == "link":
        storage._can_rename_exclusively = False
    yield storage
    storage.close()


def staging_of(storage: FileTree) -> Path:
    return Path(storage.own, "staging")


def opened(directory: Path, staging: Path | None = None, *, durable: bool = True) -> FileTree:
    storage = FileTree(str(directory), str(staging) if staging else None, durable=durable)
    storage.prepare()
    storage.open_desk()
    return storage


def below(path: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        found.relative_to(path).as_posix(): found.read_bytes() for found in sorted(path.rglob("*")) if found.is_file()
    }


def web(storage: FileTree) -> dict[str, bytes]:
    return below(Path(storage.web))


# Names without replacing


@pytest.mark.parametrize("path", [PATH, LONG])
def test_a_staged_file_gets_its_name_and_leaves_staging(storage, path):
    staged = storage.write_staged(b"content")
    assert storage.place(staged, path)
    assert web(storage) == {path: b"content"}
    assert not Path(staged).exists()


def test_a_name_that_is_taken_is_never_replaced(storage):
    storage.place(storage.write_staged(b"first"), PATH)
    staged = storage.write_staged(b"second")
    assert not storage.place(staged, PATH)
    assert web(storage) == {PATH: b"first"}
    assert Path(staged).read_bytes() == b"second"


def test_a_repair_replaces(storage):
    storage.place(storage.write_staged(b"damaged"), PATH)
    storage.place(storage.write_staged(b"sound"), PATH, replace=True)
    assert web(storage) == {PATH: b"sound"}


def test_a_dangling_link_has_its_name_too(storage, tmp_path):
    final = Path(storage.web, PATH)
    final.parent.mkdir()
    final.symlink_to(tmp_path / "elsewhere")
    assert not storage.place(storage.write_staged(b"content"), PATH)
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_has_the_name_is_left_alone(storage):
    Path(storage.web, PATH).mkdir(parents=True)
    assert not storage.place(storage.write_staged(b"content"), PATH)
    assert Path(storage.web, PATH).is_dir()


def test_of_many_processes_that_want_one_name_exactly_one_gets_it(storage):
    """Each writes its own number; what stands there in the end is the winner's."""
    code = (
        "import sys\n"
        "from fastmirror.filetree import FileTree\n"
        "storage = FileTree(sys.argv[1], None, durable=False)\n"
        "storage.open_desk()\n"
        "storage._can_rename_exclusively &= sys.argv[3] == 'True'\n"
        "staged = storage.write_staged(sys.argv[2].encode())\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        f"print(storage.place(staged, {PATH!r}))\n"
    )
    exclusively = str(storage._can_rename_exclusively)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, os.path.dirname(storage.web), str(number), exclusively],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    won = [process.communicate(timeout=30)[0].strip() == "True" for process in processes]
    assert won.count(True) == 1
    assert web(storage) == {PATH: str(won.index(True)).encode()}


def test_what_is_not_staged_cannot_be_placed(storage):
    with pytest.raises(FileNotFoundError):
        storage.place(storage.new_staged(), PATH)
    with pytest.raises(FileNotFoundError):
        storage.place(storage.new_staged(), PATH, replace=True)
    assert web(storage) == {}


# Pages


def test_a_page_takes_the_place_of_the_one_before(storage):
    for body in (b"old", b"new"):
        storage.publish(storage.write_staged(body), "simple/six/index.html")
    assert web(storage) == {"simple/six/index.html": b"new"}


def test_an_open_page_stays_whole_for_its_reader(storage):
    storage.publish(storage.write_staged(b"old"), "simple/six/index.html")
    with open(Path(storage.web, "simple/six/index.html"), "rb") as reader:
        storage.publish(storage.write_staged(b"new"), "simple/six/index.html")
        assert reader.read() == b"old"


def test_a_page_with_two_names_is_one_file(storage):
    first = storage.write_staged(b"page")
    second = storage.link_staged(first)
    for _ in range(2):
        storage.publish(first, "simple/six/index.html")
        storage.publish(second, "simple/six/index.v1_html")
        facts = [os.stat(Path(storage.web, f"simple/six/index.{kind}")) for kind in ("html", "v1_html")]
        assert facts[0].st_ino == facts[1].st_ino
        assert facts[0].st_nlink == 2
        first = storage.write_staged(b"page 2")
        second = storage.link_staged(first)


def test_what_is_published_may_be_read_by_a_server_of_another_user(storage):
    """Whatever the umask that the command was started with."""
    os.umask(0o077)
    storage.open_desk()
    storage.place(storage.write_staged(b"content"), LONG)
    storage.publish(storage.write_staged(b"page"), "simple/six/index.html")
    modes = {
        stat.S_IMODE(path.stat().st_mode) for path in Path(storage.web).rglob("*") if path.is_file() or path.is_dir()
    }
    assert modes == {0o644, 0o755}


def test_two_processes_never_stage_under_one_name(storage, tmp_path):
    code = (
        "import sys\n"
        "from fastmirror.filetree import FileTree\n"
        "storage = FileTree(sys.argv[1], None, durable=False)\n"
        "storage.open_desk()\n"
        "print(storage.write_staged(b'theirs'))\n"
    )
    theirs = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True, cwd=ROOT).strip()
    ours = [storage.write_staged(b"ours") for _ in range(3)]
    assert theirs not in ours
    assert len(set(ours)) == 3
    assert Path(theirs).read_bytes() == b"theirs"


def test_discarding_what_is_gone_is_no_error(storage):
    staged = storage.write_staged(b"content")
    storage.discard(staged)
    storage.discard(staged)
    assert not Path(staged).exists()


# Removal


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (PATH, {"packages", "simple"}),
        (LONG, {"packages", "simple"}),
        ("simple/six/index.html", {"packages", "simple"}),
        ("simple/s/six/index.html", {"packages", "simple"}),
        ("simple/index.html", {"packages", "simple"}),
    ],
)
def test_removal_takes_the_directories_that_it_leaves_empty_but_never_the_top_ones(storage, path, left):
    storage.place(storage.write_staged(b"content"), path)
    assert storage.remove(path)
    assert {found.relative_to(storage.web).as_posix() for found in Path(storage.web).rglob("*")} == left


def test_a_directory_that_holds_something_else_stays(storage):
    for path in (PATH, f"{PATH}.metadata"):
        storage.place(storage.write_staged(path.encode()), path)
    assert storage.remove(PATH)
    assert web(storage) == {f"{PATH}.metadata": f"{PATH}.metadata".encode()}


@pytest.mark.parametrize("path", [PATH, "simple/six/index.html", "simple/index.html/six"])
def test_removing_what_is_not_there_says_so(storage, path):
    storage.publish(storage.write_staged(b"page"), "simple/index.html")
    assert not storage.remove(path)
    assert web(storage) == {"simple/index.html": b"page"}


def test_a_name_can_be_taken_again_after_its_directories_were_removed(storage):
    for _ in range(2):
        assert storage.place(storage.write_staged(b"content"), LONG)
        storage.remove(LONG)


# Reading


def test_what_is_at_rest_can_be_read_measured_and_hashed(storage):
    content = os.urandom(3_000_001)
    storage.place(storage.write_staged(content), PATH)
    assert storage.read(PATH) == content
    assert storage.size(PATH) == len(content)
    assert storage.digest(PATH) == Digest(hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("path", [PATH, "simple/index.html/six"])
def test_what_is_not_at_rest_reads_as_nothing(storage, path):
    storage.publish(storage.write_staged(b"page"), "simple/index.html")
    assert storage.read(path) is None
    assert storage.size(path) is None
    assert storage.digest(path) is None


def test_an_open_file_is_hashed_from_where_it_stands(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    digest, other = hashlib.sha256(), hashlib.blake2b()
    with open(tmp_path / "file", "rb", buffering=0) as file:
        file.seek(4)
        assert hash_descriptor(file.fileno(), [digest, other]) == 6
    assert digest.hexdigest() == hashlib.sha256(b"456789").hexdigest()
    assert other.hexdigest() == hashlib.blake2b(b"456789").hexdigest()


def test_every_byte_is_written_where_the_kernel_takes_a_few_at_a_time():
    """A pipe takes what it has room for."""
    data = os.urandom(300_000)
    code = "import sys, hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        write_all(reader.stdin.fileno(), data)
        reader.stdin.close()
        assert reader.stdout.read().decode().strip() == hashlib.sha256(data).hexdigest()


def test_a_fact_lies_beside_the_tree_and_is_replaced_whole(storage, tmp_path):
    for text in ("1000\n", "7\n"):
        storage.put_fact(storage.stage_fact("status", text), "status")
    assert (tmp_path / "status").read_text() == "7\n"
    assert not list(tmp_path.glob("*.new"))


def test_free_space_is_that_of_the_tree(storage):
    facts = os.statvfs(storage.web)
    assert 0 < storage.free_bytes() <= facts.f_blocks * facts.f_frsize


# Partials


def fill(storage: FileTree, data: bytes, digest: str = SHA) -> None:
    descriptor, size = storage.open_partial(digest, create=True)
    assert (descriptor >= 0, size) == (True, 0)
    write_all(descriptor, data)
    os.close(descriptor)


def test_a_partial_is_found_again_with_what_it_holds(storage):
    assert storage.open_partial(SHA) == (-1, 0)
    fill(storage, b"beginning")
    descriptor, size = storage.open_partial(SHA)
    assert size == 9
    assert os.read(descriptor, 100) == b"beginning"
    os.close(descriptor)


def test_partials_go_where_there_is_no_room_for_them_and_stay_where_there_is(storage):
    other = "b" * 64
    for digest in (SHA, other):
        fill(storage, b"beginning", digest)
    storage.make_room(0)
    assert [os.path.exists(storage.partial(digest)) for digest in (SHA, other)] == [True, True]
    storage.make_room(1 << 60)
    assert [os.path.exists(storage.partial(digest)) for digest in (SHA, other)] == [False, False]


def test_an_empty_partial_counts_as_none(storage):
    fill(storage, b"")
    assert storage.open_partial(SHA) == (-1, 0)


def test_a_partial_made_anew_is_emptied(storage):
    fill(storage, b"beginning")
    descriptor, size = storage.open_partial(SHA, create=True)
    assert size == 0
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)


def test_a_partial_belongs_to_one_process_at_a_time(storage, tmp_path):
    """Its bytes stay as they are while another is at it, and it is free when that one is dead."""
    code = (
        "import sys, os\n"
        "from fastmirror.descriptors import write_all\nfrom fastmirror.filetree import FileTree\n"
        "storage = FileTree(sys.argv[1], None, durable=False)\n"
        f"descriptor, _ = storage.open_partial({SHA!r}, create=True)\n"
        "write_all(descriptor, b'theirs')\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        assert storage.open_partial(SHA) == (-1, 0)
        assert storage.open_partial(SHA, create=True) == (-1, 0)
        assert Path(storage.partial(SHA)).read_bytes() == b"theirs"
        other.kill()
    descriptor, size = storage.open_partial(SHA)
    assert size == 6
    os.close(descriptor)


def test_a_partial_belongs_to_one_transfer_at_a_time(storage):
    descriptor, _ = storage.open_partial(SHA, create=True)
    assert storage.open_partial(SHA, create=True) == (-1, 0)
    os.close(descriptor)


# The beginning of a run


def test_a_run_begins_with_the_directories_and_an_empty_staging(tmp_path):
    storage = opened(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_dir()} == {
        *("web", "web/simple", "web/packages"),
        *(".fastmirror", ".fastmirror/staging", ".fastmirror/staging/partial"),
    }
    storage.close()


def test_staging_is_swept_and_the_tree_is_left_as_it_is(tmp_path):
    storage = opened(tmp_path)
    storage.place(storage.write_staged(b"content"), PATH)
    for _ in range(3):
        storage.write_staged(b"left by a crash")
    Path(staging_of(storage), "loose").write_bytes(b"left by a crash")
    Path(staging_of(storage), "link").symlink_to(storage.web)
    storage.close()
    storage = opened(tmp_path)
    assert list(staging_of(storage).iterdir()) == [Path(staging_of(storage), "partial")]
    assert web(storage) == {PATH: b"content"}
    storage.close()


@pytest.mark.parametrize("days", [6, -6], ids=["old", "of a clock that was ahead"])
def test_partials_are_kept_for_some_days(tmp_path, days):
    storage = opened(tmp_path)
    fill(storage, b"young", "aa" * 32)
    fill(storage, b"old", "bb" * 32)
    long_ago = time.time() - days * 24 * 3600
    os.utime(storage.partial("bb" * 32), (long_ago, long_ago))
    storage.close()
    storage = opened(tmp_path)
    assert list(below(staging_of(storage))) == ["partial/" + "aa" * 32]
    storage.close()


def test_staging_may_lie_elsewhere_on_the_same_file_system(tmp_path):
    staging = tmp_path / "elsewhere" / "staging"
    storage = opened(tmp_path / "mirror", staging)
    staged = storage.write_staged(b"content")
    assert Path(staged).is_relative_to(staging)
    assert storage.place(staged, PATH)
    storage.close()


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than the test's own."""
    path = Path("/dev/shm", f"fastmirror-test-{os.getpid()}")
    path.mkdir()
    assert path.stat().st_dev != tmp_path.stat().st_dev, "the tests need a temporary directory outside /dev/shm"
    yield path
    subprocess.run(["rm", "-r", str(path)], check=True)


def test_staging_on_another_file_system_is_used_for_nothing(tmp_path, other_file_system):
    storage = opened(tmp_path, other_file_system)
    assert not Path(storage.write_staged(b"content")).is_relative_to(other_file_system)
    storage.close()


def test_nothing_is_swept_from_the_directory_that_staging_names(tmp_path):
    (tmp_path / "precious").write_text("not ours")
    opened(tmp_path / "mirror", tmp_path).close()
    assert (tmp_path / "precious").read_text() == "not ours"


def test_files_and_pages_may_lie_on_two_file_systems(tmp_path, other_file_system):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "packages").symlink_to(other_file_system)
    storage = opened(tmp_path, other_file_system)
    staged = storage.new_staged()
    Path(staged).write_bytes(b"content")
    assert storage.place(staged, PATH)
    storage.publish(storage.write_staged(b"page"), "simple/six/index.html")
    storage.put_fact(storage.stage_fact("web/last-modified", "now"), "web/last-modified")
    storage.close()


@pytest.mark.parametrize("name", ["simple", "packages"])
def test_a_part_of_the_tree_on_another_file_system_is_refused(tmp_path, other_file_system, name):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / name).symlink_to(other_file_system)
    with pytest.raises(SettingsError, match=f"than {tmp_path}/web/{name} "):
        FileTree(str(tmp_path), None, durable=True).prepare()


def test_a_tree_on_another_file_system_works_with_the_staging_that_the_error_names(tmp_path, other_file_system):
    (tmp_path / "web").symlink_to(other_file_system)
    with pytest.raises(SettingsError) as caught:
        FileTree(str(tmp_path), None, durable=True).prepare()
    staging = str(caught.value).rpartition("staging = ")[2].rstrip(")")
    storage = opened(tmp_path, Path(staging))
    assert storage.place(storage.write_staged(b"content"), PATH)
    storage.flush()
    assert storage.read(PATH) == b"content"
    storage.close()


# Durability


def test_flush_covers_what_was_written(storage):
    storage.place(storage.write_staged(b"content"), PATH)
    storage.flush()
    assert storage.read(PATH) == b"content"


def open_descriptors() -> dict[int, str]:
    """What this process has open."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[int(path.name)] = os.readlink(path)
    return found


def pull_the_plug(storage: FileTree) -> None:
    """Take the descriptors away that flush was opened on, as if the file system were gone."""
    directories = {storage.web, f"{storage.web}/simple", f"{storage.web}/packages", storage.own}
    for descriptor, path in open_descriptors().items():
        if path in directories:
            os.close(descriptor)


def test_a_flush_that_fails_is_an_error_of_the_storage(tmp_path):
    storage = opened(tmp_path)
    pull_the_plug(storage)
    with pytest.raises(StorageError, match=f"flush failed: {os.strerror(errno.EBADF)}"):
        storage.flush()


def test_flush_does_nothing_where_the_operator_does_without(tmp_path):
    storage = opened(tmp_path, durable=False)
    pull_the_plug(storage)
    storage.flush()


def test_descriptors_are_given_back(tmp_path):
    before = open_descriptors()
    storage = opened(tmp_path)
    storage.place(storage.write_staged(b"content"), PATH)
    fill(storage, b"beginning")
    storage.flush()
    storage.digest(PATH)
    assert storage.open_partial("cd" * 32) == (-1, 0)
    storage.close()
    assert open_descriptors() == before
