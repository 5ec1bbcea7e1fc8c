"""Downloads from a server on this machine: whole, continued, broken off, changed, and refused."""

import dataclasses
import hashlib
import io
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sccengine.cli.main import run
from sccengine.data import DataError, cifar, download


class Handler(BaseHTTPRequestHandler):
    """Serves server.content under every name; server.continues: whether it knows ranges; server.cut: bytes it sends."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        if server.status != 200:
            self.send_error(server.status)
            return
        body, status = server.content, 200
        if server.continues and (asked := self.headers["Range"]):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            body, status = body[start:], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *arguments):
        pass


def small_archive():
    """An archive in CIFAR-10's layout, of three images a file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for number, name in enumerate((*cifar.CIFAR10.train, *cifar.CIFAR10.test)):
            pixels = np.random.default_rng(number).integers(0, 256, (3, 3072)).astype(np.uint8)
            content = b"".join(bytes([label]) + image.tobytes() for label, image in enumerate(pixels))
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def content():
    return small_archive()


@pytest.fixture
def server(content, monkeypatch):
    """A server of that archive, under whose address it is the known archive of "cifar10"."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.continues, server.cut, server.status, server.asked = content, True, None, 200, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/files/cifar-10-binary.tar.gz"
    known = download.Archive(url, hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(download.ARCHIVES, "cifar10", known)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_known_archives_are_those_that_the_readers_look_for():
    for name, layout in (("cifar10", cifar.CIFAR10), ("cifar100", cifar.CIFAR100)):
        archive = download.ARCHIVES[name]
        assert archive.name == layout.archive and archive.url.startswith("https://")
        assert len(bytes.fromhex(archive.sha256)) == 32


def test_an_archive_arrives_is_read_and_not_fetched_again(server, content, tmp_path):
    seen = []
    path = download.download("cifar10", tmp_path, lambda here, total: seen.append((here, total)))
    assert path == tmp_path / "cifar10" / "cifar-10-binary.tar.gz" and path.read_bytes() == content
    assert files(tmp_path) == [path.name]
    assert seen[-1] == (len(content), len(content)) and seen == sorted(seen)
    assert download.download("cifar10", tmp_path) == path and server.asked == [None]
    layout = cifar.CIFAR10
    small = dataclasses.replace(layout, train=dict.fromkeys(layout.train, 3), test=dict.fromkeys(layout.test, 3))
    train, test = cifar.load_cifar(tmp_path / "cifar10", small)
    assert (len(train), len(test), test.labels.tolist()) == (15, 3, [0, 1, 2])


@pytest.mark.parametrize("continues", [True, False], ids=["ranges", "no ranges"])
def test_a_transfer_that_broke_off_is_continued(server, content, tmp_path, continues):
    server.cut = 10_000
    with pytest.raises(RuntimeError, match=f"broke off after 10,000 of {len(content):,} bytes.*try again"):
        download.download("cifar10", tmp_path)
    assert files(tmp_path) == ["cifar-10-binary.tar.gz.part"]
    server.cut, server.continues = None, continues
    assert download.download("cifar10", tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=10000-"] and files(tmp_path) == ["cifar-10-binary.tar.gz"]


def test_a_part_that_is_already_whole_is_only_checked(server, content, tmp_path):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz.part").write_bytes(content)
    assert download.download("cifar10", tmp_path).read_bytes() == content


@pytest.mark.parametrize("part", [None, b"x" * 5000], ids=["changed on the server", "changed here"])
def test_a_wrong_checksum_leaves_nothing(server, content, tmp_path, part):
    if part is None:
        server.content = content[:-1] + b"?"
    else:
        (tmp_path / "cifar10").mkdir()
        (tmp_path / "cifar10" / "cifar-10-binary.tar.gz.part").write_bytes(part)
    wanted = hashlib.sha256(content).hexdigest()
    with pytest.raises(DataError, match=f"http.*: expected SHA-256 {wanted}, found [0-9a-f]{{64}}. Nothing of it was"):
        download.download("cifar10", tmp_path)
    assert files(tmp_path) == []


def test_another_file_of_that_name_is_named_and_left_alone(server, tmp_path):
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(DataError, match="cifar-10-binary.tar.gz: expected SHA-256 .* Remove the file to fetch it anew"):
        download.download("cifar10", tmp_path)
    assert path.read_bytes() == b"mine" and server.asked == []


def test_servers_that_refuse_or_are_not_there(server, tmp_path, monkeypatch):
    server.status = 404
    with pytest.raises(RuntimeError, match="cifar-10-binary.tar.gz: the server answers 404 Not Found"):
        download.download("cifar10", tmp_path)
    nowhere = download.Archive("http://127.0.0.1:1/nothing.tar.gz", "0" * 64)
    monkeypatch.setitem(download.ARCHIVES, "cifar10", nowhere)
    with pytest.raises(RuntimeError, match="nothing.tar.gz: the server cannot be reached"):
        download.download("cifar10", tmp_path)
    assert files(tmp_path) == []


def test_unknown_names_are_answered_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'mnist'; there are cifar10, cifar100"):
        download.download("mnist", tmp_path)


def test_the_command(server, tmp_path, capsys):
    assert run(["download", "cifar10", "--data-dir", str(tmp_path)]) == 0
    assert "cifar-10-binary.tar.gz: complete" in capsys.readouterr().out
    assert run(["download", "cifar10", "--data-dir", str(tmp_path), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    server.content = b"something else"
    assert run(["download", "cifar10", "--data-dir", str(tmp_path / "other")]) == 1
    captured = capsys.readouterr()
    assert "expected SHA-256" in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_the_command_has_a_bar_in_a_terminal(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["download", "cifar10", "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\u2501" in out and "cifar-10-binary.tar.gz: complete" in out
