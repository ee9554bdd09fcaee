# SPDX-License-Identifier: GPL-2.0-or-later
"""``--check-params`` says beforehand what a dump by the same command line would come to."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from pydumpfile import cli
from pydumpfile.cli import drop_in
from tests.builders import BuiltCore
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import LocklessRing

SONAMES = {
    "-c": ("libdeflate.so.0", "libz.so.1"), "-l": ("liblzo2.so.2",), "-p": ("libsnappy.so.1",),
    "-z": ("libzstd.so.1",),
}  # fmt: skip


def without_libraries(monkeypatch: pytest.MonkeyPatch, *sonames: str) -> None:
    """As on a machine where these are not installed."""
    load = ctypes.CDLL

    def refusing(name: str) -> ctypes.CDLL:
        if name in sonames:
            raise OSError(f"{name}: cannot open shared object file")
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", refusing)


@pytest.mark.parametrize("missing", SONAMES)
@pytest.mark.parametrize("flag", SONAMES)
def test_whether_the_codec_is_there(
    small: BuiltCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], flag: str, missing: str,
) -> None:  # fmt: skip
    without_libraries(monkeypatch, *SONAMES[missing])
    expected = 5 if flag == missing else 0
    words = [flag, "-d", "31", str(small.path), str(tmp_path / "dump")]
    assert cli.main(["--check-params", *words]) == expected
    assert (f"without {SONAMES[missing][0]}" in capsys.readouterr().err) == bool(expected)
    assert cli.main(["--check-params", *words], drop_in.NAME) == min(expected, 1)
    assert cli.main(words) == expected


def test_a_codec_that_would_not_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_libraries(monkeypatch, *SONAMES["-z"])
    core = tmp_path / "core"
    build_log_core(core, LocklessRing().image(PLACE))
    words = ["-z", "--dump-dmesg", str(core), str(tmp_path / "log")]
    assert cli.main(["--check-params", *words]) == cli.main(words) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [("--compress-level 3", "none has no compression levels"),
     ("-z --compress-level 99", "has levels -100 to 19, not 99"),
     ("-l --compress-level 3", "no compression levels"),
     ("-E --compress-level 3", "-E and --compress-level do not go together"),
     ("--compress auto --compress-level 3", "auto may take any")],
)  # fmt: skip
def test_whether_the_codec_has_that_level(
    small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, told: str
) -> None:
    words = [*options.split(), str(small.path), str(tmp_path / "dump")]
    for command_line in (["--check-params", *words], words):
        assert cli.main(command_line) == 1
        assert told in capsys.readouterr().err
    assert not (tmp_path / "dump").exists()


@pytest.mark.parametrize("wrong", ["-d 32", "-E -c", "-z extra"])
def test_why_is_said_at_any_message_level(capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    """kdump-utils hands on the user's own options, --message-level 0 among them."""
    words = ["--check-params", "--message-level", "0", *wrong.split(), "vmcore", "dumpfile"]
    assert cli.main(words, drop_in.NAME) == 1
    captured = capsys.readouterr()
    assert "Commandline parameter is invalid." in captured.out
    assert cli.main(words) == 1
    assert "see pydumpfile --help" in capsys.readouterr().err
