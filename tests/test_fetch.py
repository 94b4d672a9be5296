"""The download against a server that fails in every way a server can: the right file, or one clear error."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import logging
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3
from fault_server import ENDLESS, FaultServer, Reply
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet_convert.cards.card import CheckpointFile
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.download import http_source
from pspnet_convert.commands.download.fetch import Fetched, fetch, sources_of, without_secrets
from pspnet_convert.commands.download.retry import Patience
from pspnet_convert.errors import ConvertError, DigestError, DownloadError, WorkspaceError
from pspnet_convert.progress import Bar, JsonLines, Silent, make_progress

NAME = "model.pth"
BODY = random.Random(1).randbytes(400_000)
OTHER = random.Random(2).randbytes(400_000)
QUICK = Patience(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)
HASTY = replace(QUICK, read_s=10)  # for servers that never answer; with less, a busy machine looks like one
LONG = 3600  # seconds


class Recorder:
    """A Progress that records its calls."""

    def __init__(self):
        self.position, self.total, self.notes, self.starts, self.ends = 0, 0, [], 0, 0

    def start(self, total, name, offset=0, *, stage="download", unit="bytes"):
        self.total, self.position, self.starts = total, offset, self.starts + 1

    def advance(self, units):
        self.position += units

    def note(self, text, event="note"):
        self.notes.append(text)

    def done(self):
        self.ends += 1


def described(body=BODY, **changes):
    digests = {"sha256": hashlib.sha256(body).hexdigest(), "sha384": hashlib.sha384(body).hexdigest()}
    return CheckpointFile(**{"name": NAME, "size": len(body), **digests, "sources": [NAME], **changes})


@pytest.fixture(autouse=True, scope="module")
def no_proxy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="module")
def server():
    with FaultServer().running() as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "workspace" / NAME


@pytest.fixture
def progress():
    return Recorder()


def get(server, target, progress, *script, body=BODY, wanted=BODY, sources=None, patience=QUICK):
    server.play(body, script)
    return fetch(described(wanted), target, sources or [server.url()], progress, patience=patience)


def refusal(kind, server, target, progress, *script, **options):
    """The message of the one error; there is no file with the final name."""
    with pytest.raises(ConvertError) as caught:
        get(server, target, progress, *script, **options)
    assert type(caught.value) is kind, caught.value
    assert not target.exists()
    assert "\n" not in caught.value.what
    assert NAME in caught.value.what
    assert "--source" in caught.value.advice and "--checkpoint" in caught.value.advice
    assert progress.ends == 1
    return caught.value.what


def leave(target, part):
    """Write the file that an interrupted earlier run leaves."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part_of(target).write_bytes(part)


def part_of(target):
    return target.with_name(target.name + ".part")


def is_right(target, body=BODY):
    return target.read_bytes() == body and [path.name for path in target.parent.iterdir()] == [target.name]


# A server that behaves


def test_file_comes_whole(server, target, progress):
    got = get(server, target, progress)
    assert got == Fetched(target, hashlib.sha256(BODY).hexdigest(), len(BODY), server.url(), False)
    assert is_right(target)
    assert (progress.position, progress.starts, progress.ends) == (len(BODY), 1, 1)
    assert server.seen[0].headers["accept-encoding"] == "identity"
    assert server.ranges == [None]


def test_right_file_is_not_fetched_again(server, target, progress):
    leave(target, b"stale")
    target.write_bytes(BODY)
    assert get(server, target, progress).already_there
    assert not server.seen
    assert is_right(target)


def test_wrong_file_is_replaced_and_that_is_logged(server, target, progress, caplog):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    assert not get(server, target, progress).already_there
    assert is_right(target)
    assert "is not the card's file; downloading it again" in caplog.text


def test_wrong_file_stays_while_no_source_gives_the_right_one(server, target, progress):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    with pytest.raises(DownloadError):
        get(server, target, progress, Reply(404))
    assert target.read_bytes() == OTHER


def test_url_that_ends_in_a_slash_is_a_folder(server, target, progress):
    get(server, target, progress, sources=[server.url("/mirror/")])
    assert [seen.path for seen in server.seen] == ["/mirror/" + NAME]


def test_body_without_length_is_taken(server, target, progress):
    get(server, target, progress, Reply(no_length=True))
    assert is_right(target)


# Connections that break, and servers that are busy


def test_dropped_connection_is_resumed(server, target, progress):
    get(server, target, progress, Reply(cut=150_000), Reply(cut=100_000))
    assert is_right(target)
    assert server.ranges == [None, "bytes=150000-", "bytes=250000-"]
    assert server.sent == len(BODY)
    assert progress.position == len(BODY)
    assert "after 150000 of 400000 bytes; trying again" in progress.notes[0]


def test_download_that_always_breaks_is_kept_for_the_next_run(server, target, progress):
    text = refusal(DownloadError, server, target, progress, *[Reply(cut=50_000)] * 3)
    assert "after 150000 of 400000 bytes" in text
    assert part_of(target).read_bytes() == BODY[:150_000]
    get(server, target, Recorder())
    assert is_right(target)
    assert (server.ranges, server.sent) == (["bytes=150000-"], len(BODY) - 150_000)


def test_source_that_sends_a_mebibyte_per_attempt_is_not_given_up(server, target, progress):
    body = random.Random(3).randbytes(5 << 20)
    get(server, target, progress, *[Reply(cut=600_000)] * 8, body=body, wanted=body)
    assert len(server.seen) == 9 > 2 * QUICK.attempts
    assert is_right(target, body)


def test_stalled_connection_is_resumed(server, target, progress):
    get(server, target, progress, Reply(cut=300_000, stall_s=LONG), patience=HASTY)
    assert is_right(target)
    assert server.sent < len(BODY) + 50_000
    assert "no data within 10 s" in progress.notes[0]


@pytest.mark.skipif(not hasattr(urllib3.HTTPResponse, "read1"), reason="urllib3 1 cannot tell a drip")
def test_dripping_server_is_given_up(server, target, progress, monkeypatch):
    """The clock advances by a second each time it is read."""
    monkeypatch.setattr(http_source, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    text = refusal(DownloadError, server, target, progress, *[Reply(drip_s=0.001)] * 3)
    assert "sends fewer than 1024 bytes a second" in text


@pytest.mark.slow
def test_slow_first_byte_is_tried_again(server, target, progress):
    get(server, target, progress, Reply(delay_s=LONG), patience=HASTY)
    assert is_right(target)


def test_truncated_body_without_length_is_resumed(server, target, progress):
    get(server, target, progress, Reply(cut=10, no_length=True))
    assert is_right(target)
    assert "ended after 10 of 400000 bytes" in progress.notes[0]


def test_refused_connection_says_so(server, target, progress):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    assert "refused" in refusal(DownloadError, server, target, progress, sources=[url]).lower()
    assert len(progress.notes) == QUICK.attempts
    assert not list(target.parent.iterdir())


def test_unknown_host_says_so(server, target, progress):
    text = refusal(DownloadError, server, target, progress, sources=["http://nowhere.invalid/x"])
    assert "http://nowhere.invalid/x: " in text
    assert "HTTPConnection" not in text


def test_server_errors_pass(server, target, progress):
    get(server, target, progress, Reply(500), Reply(503, {"Retry-After": "0"}))
    assert is_right(target)


def test_server_that_only_fails_is_named(server, target, progress):
    text = refusal(DownloadError, server, target, progress, *[Reply(502)] * 3)
    assert f"{server.url()}: HTTP 502 Bad Gateway" in text
    assert len(server.seen) == 3


def test_retry_after_is_awaited(server, target, progress):
    patient = Patience(attempts=2, first_wait_s=0.01, longest_wait_s=5)
    start = time.monotonic()
    get(server, target, progress, Reply(429, {"Retry-After": "1"}), patience=patient)
    assert time.monotonic() - start >= 1
    assert "HTTP 429 Too Many Requests; trying again in 1 s" in progress.notes[0]


def test_retry_after_is_capped(server, target, progress):
    get(server, target, progress, Reply(429, {"Retry-After": "3600"}))
    assert "trying again in 0 s" in progress.notes[0]


@pytest.mark.parametrize("value", ["", "soon", "-1", "²", "9" * 5000, "Wed, 21 Oct 2015 07:28:00"])
def test_odd_retry_after_is_no_reason_to_wait(value):
    assert not http_source._retry_after(value)


def test_retry_after_may_be_a_date():
    assert 50 < http_source._retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60


# Servers that resume wrongly


def test_server_that_ignores_ranges_is_read_from_the_start(server, target, progress):
    get(server, target, progress, Reply(cut=150_000), Reply(ignore_range=True))
    assert is_right(target)
    assert progress.position == len(BODY)


@pytest.mark.parametrize("start", [0, 1000, 200_000])
def test_answer_from_elsewhere_in_the_file_is_not_used(server, target, progress, start):
    leave(target, BODY[:150_000])
    get(server, target, progress, Reply(range_start=start))
    assert is_right(target)
    assert server.ranges == ["bytes=150000-", None]


def test_part_that_was_not_requested_is_refused(server, target, progress):
    text = refusal(DownloadError, server, target, progress, Reply(range_start=1000))
    assert "another part of the file" in text


def test_unsatisfiable_range_starts_over(server, target, progress):
    leave(target, BODY[:150_000])
    get(server, target, progress, Reply(416))
    assert is_right(target)
    assert server.ranges == ["bytes=150000-", None]


def test_resume_without_a_known_total_works(server, target, progress):
    get(server, target, progress, Reply(cut=9), Reply(unknown_total=True))
    assert is_right(target)


def test_file_that_changes_between_attempts_starts_over(server, target, progress):
    old = Reply(body=OTHER, cut=150_000, headers={"ETag": '"old"'})
    get(server, target, progress, old, Reply(headers={"ETag": '"new"'}))
    assert is_right(target)
    assert server.ranges == [None, "bytes=150000-", None]
    assert any("starting over" in note for note in progress.notes)


def test_file_that_changes_for_the_worse_is_refused(server, target, progress):
    wrong = Reply(body=OTHER)
    refusal(DigestError, server, target, progress, Reply(cut=150_000), wrong, wrong)
    assert not part_of(target).exists()


def test_wrong_file_in_pieces_is_fetched_twice_at_most(server, target, progress):
    pieces = [Reply(body=OTHER, cut=1000), Reply(body=OTHER)]
    refusal(DigestError, server, target, progress, *pieces * 5)
    assert len(server.seen) == 4


@pytest.mark.parametrize("left", [OTHER[:1000], OTHER, BODY + b"x", b""])
def test_bad_leftovers_are_not_used(server, target, progress, left):
    leave(target, left)
    get(server, target, progress)
    assert is_right(target)


def test_whole_leftover_needs_no_server(server, target, progress):
    leave(target, BODY)
    assert get(server, target, progress).already_there
    assert is_right(target)
    assert not server.seen


def test_good_leftover_survives_bad_answers(server, target, progress):
    leave(target, BODY[:150_000])
    script = [
        Reply(404),
        Reply(body=b"short", ignore_range=True),
        Reply(headers={"Content-Type": "text/html"}),
    ]
    script[2].body, script[2].ignore_range = b"<html>", True
    text = refusal(DigestError, server, target, progress, *script, sources=[server.url(f"/{n}") for n in "abc"])
    assert "5 bytes instead of 400000" in text
    assert part_of(target).read_bytes() == BODY[:150_000]


def test_another_mirror_goes_on_where_the_first_broke_off(server, target, progress):
    get(
        server,
        target,
        progress,
        Reply(cut=150_000),
        Reply(404),
        sources=[server.url("/a"), server.url("/b")],
    )
    assert is_right(target)
    assert server.sent == len(BODY)


# Wrong files


def test_wrong_bytes_are_never_kept(server, target, progress):
    text = refusal(DigestError, server, target, progress, body=OTHER)
    assert "serves other bytes (sha256 " in text
    assert not list(target.parent.iterdir())
    assert len(server.seen) == 1


def test_second_digest_counts_too(server, target, progress):
    server.play(BODY)
    with pytest.raises(DigestError, match="sha384"):
        fetch(described(sha384="0" * 96), target, [server.url()], progress, patience=QUICK)
    assert not target.exists()


def test_wrong_bytes_send_it_to_the_next_source(server, target, progress):
    sources = [server.url("/a"), server.url("/b")]
    got = get(server, target, progress, Reply(body=OTHER), sources=sources)
    assert got.source == sources[1]
    assert is_right(target)


def test_wrong_length_is_refused_before_the_body(server, target, progress):
    text = refusal(DigestError, server, target, progress, Reply(body=OTHER[:1234]))
    assert "serves 1234 bytes instead of 400000" in text
    assert len(server.seen) == 1


def test_false_length_is_refused(server, target, progress):
    assert "400001 bytes instead" in refusal(DigestError, server, target, progress, Reply(claim=400_001))


def test_right_length_over_a_short_body_ends_in_an_error(server, target, progress):
    short = Reply(body=BODY[:100], claim=400_000, no_length=False)
    text = refusal(DigestError, server, target, progress, short, body=BODY[:100])
    assert "100 bytes instead of 400000" in text


@pytest.mark.parametrize("prefix", [b"", OTHER[:100_000]])
def test_endless_body_is_stopped(server, target, progress, prefix):
    text = refusal(DigestError, server, target, progress, Reply(endless=True, body=prefix))
    assert "serves other bytes" in text
    assert server.sent < ENDLESS / 2


@pytest.mark.parametrize("no_length", [False, True])
def test_html_page_is_reported_as_one(server, target, progress, no_length):
    page = Reply(body=b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    page.no_length = no_length
    text = refusal(DigestError, server, target, progress, page)
    assert "serves an HTML page instead of the file" in text
    assert len(server.seen) == 1


def test_compressed_body_is_not_decoded(server, target, progress):
    text = refusal(DownloadError, server, target, progress, Reply(headers={"Content-Encoding": "gzip"}))
    assert "compressed" in text


def test_client_error_goes_to_the_next_source_at_once(server, target, progress):
    sources = [server.url("/a"), server.url("/b")]
    assert get(server, target, progress, Reply(404), sources=sources).source == sources[1]
    assert [seen.path for seen in server.seen] == ["/a", "/b"]


def test_every_source_and_its_reason_are_in_the_one_line(server, target, progress):
    sources = [server.url("/a"), server.url("/b"), "ftp://host/x", str(target.parent / "nothing")]
    text = refusal(DownloadError, server, target, progress, Reply(404), Reply(403), sources=sources)
    assert "/a: HTTP 404 Not Found; " in text
    assert "/b: HTTP 403 Forbidden; " in text
    assert "ftp://host/x: is no http, https or file URL; " in text
    assert text.endswith("nothing: No such file or directory")


def test_no_source_at_all(target, progress):
    with pytest.raises(DownloadError, match="there is none"):
        fetch(described(), target, [], progress)


def test_broken_url_says_so(server, target, progress):
    text = refusal(DownloadError, server, target, progress, sources=["http://[::1", "http://a:b/"])
    assert "the request failed (InvalidURL)" in text


# Redirects


def test_redirect_is_followed_with_the_range(server, target, progress):
    leave(target, BODY[:100])
    get(server, target, progress, Reply(302, {"Location": "/elsewhere"}))
    assert is_right(target)
    assert [(seen.path, seen.range) for seen in server.seen] == [
        ("/model.pth", "bytes=100-"),
        ("/elsewhere", "bytes=100-"),
    ]


def test_redirect_loop_goes_to_the_next_source(server, target, progress):
    loop = [Reply(302, {"Location": "/model.pth"})] * 11
    sources = [server.url(), server.url("/b")]
    assert get(server, target, progress, *loop, sources=sources).source == sources[1]
    assert "more than 10 redirects" in progress.notes[0]


def test_endless_body_of_a_redirect_is_not_read(server, target, progress):
    get(server, target, progress, Reply(302, {"Location": "/b"}, body=b"", endless=True))
    assert is_right(target)
    assert server.sent < ENDLESS / 2


@pytest.mark.parametrize(
    ("location", "reason"),
    [("file:///etc/passwd", "redirects away from http"), ("http://[", "redirects to no valid URL")],
)
def test_bad_redirect_is_refused(server, target, progress, location, reason):
    text = refusal(DownloadError, server, target, progress, Reply(302, {"Location": location}))
    assert reason in text


def test_password_goes_to_its_own_host_only(server, target, progress):
    other_host = server.url("/c").replace("127.0.0.1", "localhost")
    script = [Reply(302, {"Location": to}, body=b"") for to in ("/a", server.url("/b"), other_host)]
    get(server, target, progress, *script, sources=[server.url().replace("://", "://me:pw@")])
    assert [seen.path for seen in server.seen] == ["/model.pth", "/a", "/b", "/c"]
    assert ["authorization" in seen.headers for seen in server.seen] == [True, True, True, False]


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate, and is not installed")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = (
        "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -out cert.pem -keyout key.pem"
    )
    subprocess.run(["openssl", "req", "-x509", *options.split()], cwd=tmp_path, check=True, capture_output=True)
    return paths


def test_https_may_become_http_only_where_that_is_allowed(
    cli, server, target, progress, certificate, monkeypatch, tmp_path
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    body = (find_card("demo").folder / "demo.pth").read_bytes()
    secure = FaultServer(body, [Reply(302, {"Location": server.url("/demo.pth")})] * 2)
    secure.encrypt(*certificate)
    server.play(body)
    (tmp_path / "card").mkdir()
    card = shutil.copy(find_card("demo").folder / "model.yml", tmp_path / "card")
    command = ["download", card, "-o", tmp_path, "--source", secure.url("/")]
    with secure.running():
        refused = cli(*command)
        assert refused.exit_code == 4
        assert "redirects from https to unencrypted http, which needs --allow-http-redirect" in refused.error
        assert not server.seen
        assert cli(*command, "--allow-http-redirect").exit_code == 0
        assert cli(*command, "--force").exit_code == 0  # no redirect any more
    assert (tmp_path / "public" / "demo" / "demo.pth").read_bytes() == body
    assert len(server.seen) == 1


def test_untrusted_certificate_is_not_tried_again(server, target, progress, certificate):
    secure = FaultServer(BODY)
    secure.encrypt(*certificate)
    with secure.running():
        text = refusal(DownloadError, server, target, progress, sources=[secure.url()])
    assert "its certificate is not trusted" in text
    assert len(progress.notes) == 1


# Secrets


def test_password_is_sent_and_not_shown(server, target, progress, caplog):
    caplog.set_level(logging.DEBUG, logger="pspnet_convert")
    url = server.url("/a?token=hush").replace("://", "://me:s3cret@")
    text = refusal(DownloadError, server, target, progress, *[Reply(500)] * 3, sources=[url])
    assert server.seen[0].headers["authorization"].startswith("Basic ")
    assert server.seen[0].path == "/a?token=hush"
    got = get(server, target, progress, sources=[url])
    told = f"{text} {progress.notes} {caplog.text} {got}"
    assert "s3cret" not in told
    assert "hush" not in told


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://user:p@ss@host/x", "https://host/x"),
        ("https://user:p/w@host/x", "https://host/x"),
        ("https://user:p?#@host/x", "https://host/x"),
        ("https://host/a@b/x", "https://host/a@b/x"),
        ("https://host:80/a@b/x", "https://host:80/a@b/x"),
        ("https://[::1]:80/a@b/x", "https://[::1]:80/a@b/x"),
        ("https://host/x?sig=1#2", "https://host/x?..."),
        ("models/a@b?.pth", "models/a@b?.pth"),
    ],
)
def test_what_is_shown_of_a_source(source, shown):
    assert without_secrets(source) == shown


# Local sources


@pytest.mark.parametrize("kind", ["file", "folder", "file URL", "folder URL"])
def test_local_sources_are_copied(server, target, progress, tmp_path, kind):
    folder = tmp_path / "a mirror%41"
    folder.mkdir()
    (folder / NAME).write_bytes(BODY)
    path = folder / NAME if kind.startswith("file") else folder
    source = path.as_uri() if kind.endswith("URL") else str(path)
    assert get(server, target, progress, sources=[source]).source == source
    assert is_right(target)
    assert progress.position == len(BODY)
    assert not server.seen


def test_local_copy_goes_on_from_a_broken_download(server, target, progress, tmp_path):
    (tmp_path / NAME).write_bytes(BODY)
    get(server, target, progress, *[Reply(cut=1000)] * 3, sources=[server.url(), str(tmp_path)])
    assert is_right(target)
    assert server.sent == 3000
    assert not any("starting over" in note for note in progress.notes)


@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        (OTHER, DigestError, "serves other bytes"),
        (b"x", DigestError, "serves 1 bytes instead of 400000"),
        (None, DownloadError, "No such file"),
    ],
)
def test_wrong_local_source_is_refused(server, target, progress, tmp_path, body, error, reason):
    if body is not None:
        (tmp_path / NAME).write_bytes(body)
    assert reason in refusal(error, server, target, progress, sources=[str(tmp_path / NAME)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_pipe_as_a_source_does_not_hang(server, target, progress, tmp_path):
    os.mkfifo(tmp_path / NAME)
    text = refusal(DownloadError, server, target, progress, sources=[str(tmp_path / NAME)])
    assert "is no file" in text


def test_file_url_of_another_machine_is_refused(server, target, progress):
    text = refusal(DownloadError, server, target, progress, sources=["file://host/model.pth"])
    assert "another machine" in text


@pytest.mark.parametrize("source", ["\0", "file:///%00", ""])
def test_path_that_cannot_be_is_refused(server, target, progress, source):
    refusal(DownloadError, server, target, progress, sources=[source])


def test_own_sources_come_before_the_cards():
    card = find_card()
    theirs = list(card.checkpoint.sources)
    assert sources_of(card, ["https://mirror/", theirs[1]]) == ["https://mirror/", theirs[1], theirs[0]]


def test_bare_name_in_a_card_is_a_file_next_to_it(tmp_path):
    text = Path(find_card().folder / "model.yml").read_text(encoding="utf-8")
    first = find_card().checkpoint.sources[0]
    (tmp_path / "model.yml").write_text(text.replace(first, "local.pth"), encoding="utf-8")
    assert sources_of(find_card(str(tmp_path)))[0] == str(tmp_path / "local.pth")


# Disks that refuse


def test_folder_that_cannot_be_made_is_a_workspace_error(server, tmp_path, progress):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        get(server, tmp_path / "file" / NAME, progress)


def test_target_that_is_a_folder_is_a_workspace_error(server, target, progress):
    target.mkdir(parents=True)
    with pytest.raises(WorkspaceError, match="directory"):
        get(server, target, progress)


def test_full_disk_leaves_nothing_under_the_final_name(server, target, progress, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match="No space left"):
        get(server, target, progress)
    assert not target.exists()
    assert progress.ends == 1


def test_interrupted_run_keeps_what_it_has(server, target, progress):
    def interrupt(units):
        raise KeyboardInterrupt

    progress.advance = interrupt
    with pytest.raises(KeyboardInterrupt):
        get(server, target, progress)
    assert not target.exists()
    assert BODY.startswith(part_of(target).read_bytes())
    get(server, target, Recorder())
    assert server.sent < len(BODY)
    assert is_right(target)


# For any size, any leftover, any breaks


@settings(max_examples=60)
@given(size=st.integers(1, 300_000), fractions=st.lists(st.floats(0, 1), max_size=6), has_part=st.booleans())
def test_each_byte_comes_once_and_the_file_is_right(server, size, fractions, has_part):
    body = random.Random(size).randbytes(size)
    cuts = sorted({int(fraction * (size - 1)) for fraction in fractions})
    left = cuts.pop(0) if cuts and has_part else 0
    script = [Reply(cut=end - start) for start, end in zip([left, *cuts], cuts)]
    patience = Patience(len(cuts) + 1, first_wait_s=0, longest_wait_s=0)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / NAME
        leave(target, body[:left])
        get(server, target, Recorder(), *script, body=body, wanted=body, patience=patience)
        assert is_right(target, body)
    assert server.sent == size - left
    assert len(server.seen) == len(cuts) + 1


@settings(max_examples=60)
@given(
    script=st.lists(
        st.builds(
            Reply,
            status=st.sampled_from([200, 200, 200, 404, 416, 500]),
            cut=st.none() | st.integers(0, 3000),
            body=st.none() | st.sampled_from([OTHER[:3000], OTHER[:2999], b""]),
            claim=st.none() | st.integers(0, 4000),
            no_length=st.booleans(),
            ignore_range=st.booleans(),
            range_start=st.none() | st.integers(0, 3000),
            unknown_total=st.booleans(),
        ),
        max_size=8,
    ),
    left=st.integers(0, 3000),
)
def test_no_mix_of_faults_gives_a_wrong_file(server, script, left):
    body = BODY[:3000]
    patience = Patience(3, first_wait_s=0, longest_wait_s=0)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / NAME
        leave(target, (body[:1500] + OTHER)[:left])
        sources = [server.url("/a"), server.url("/b")]
        with contextlib.suppress(DigestError, DownloadError):
            get(
                server,
                target,
                Recorder(),
                *script,
                body=body,
                wanted=body,
                sources=sources,
                patience=patience,
            )
            assert is_right(target, body)
            return
        assert not target.exists()


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_json_events_report_the_start_the_retries_and_the_end(server, target):
    out = io.StringIO()
    get(server, target, make_progress("json", io.StringIO(), out), Reply(cut=1000), Reply(500))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert events[0] == {"event": "download", "file": NAME, "bytes": 0, "total": len(BODY)}
    assert events[-1] == {"event": "download", "file": NAME, "bytes": len(BODY), "total": len(BODY)}
    retries = [event for event in events if event["event"] == "retry"]
    assert len(retries) == 2
    assert "HTTP 500" in retries[1]["reason"]
    assert len(events) <= 5


def test_json_events_take_other_units():
    out = io.StringIO()
    events = JsonLines(out)
    events.start(3, "images", stage="verify", unit="images")
    for _ in range(3):
        events.advance(1)
    events.done()
    lines = out.getvalue().splitlines()
    assert json.loads(lines[-1]) == {"event": "verify", "file": "images", "images": 3, "total": 3}
    assert len(lines) == 2


def test_bar_is_for_terminals(server, target):
    terminal = Terminal()
    bar = make_progress("auto", terminal)
    assert isinstance(bar, Bar)
    get(server, target, bar, Reply(cut=1000), Reply(ignore_range=True))
    assert NAME in terminal.getvalue()
    assert "trying again" in terminal.getvalue()
    bar.start(2, "[images]", stage="verify", unit="images")
    bar.advance(2)
    bar.done()
    assert "[images]" in terminal.getvalue()


def test_without_a_terminal_retries_go_to_the_log(server, target, caplog):
    quiet = make_progress("auto", io.StringIO())
    assert isinstance(quiet, Silent)
    get(server, target, quiet, Reply(500))
    assert "HTTP 500 Internal Server Error; trying again" in caplog.text
    assert isinstance(make_progress("none", Terminal()), Silent)
