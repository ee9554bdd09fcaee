# SPDX-License-Identifier: GPL-2.0-or-later
"""The hooks: where they go, and what they call."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pydumpfile.cli.initramfs import main
from pydumpfile.errors import UsageError
from pydumpfile.service.install import HOOKS, install


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for hook in HOOKS.values():
        (tmp_path / hook.needs).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("builder", HOOKS)
def test_the_hook_is_a_script_that_calls_this_pydumpfile(builder: str, root: Path) -> None:
    path = Path(install(builder, ["--codec", "zstd,lzo"], str(root)))
    text = path.read_text("utf-8")
    assert f"{sys.executable} -I -m pydumpfile initramfs --tree" in text
    assert "--codec zstd,lzo" in text
    assert "@" not in text.replace('"$@"', "")
    assert path.stat().st_mode & 0o777 == 0o755
    shell = text.splitlines()[0][2:]
    assert shutil.which(shell)
    subprocess.run([shell, "-n", str(path)], check=True)


def test_without_the_builder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dracut is not installed"):
        install("dracut", [], str(tmp_path))


def test_the_command_passes_its_options_on(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--install", "dracut", "--as-makedumpfile", "--codec", "lzo", "--root", str(root)]
    assert main(arguments) == 0
    path = capsys.readouterr().out.split()[-1]
    assert '--tree "$initdir" --codec lzo --as-makedumpfile ||' in Path(path).read_text("utf-8")


def _run_hook(root: Path, confdir: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = Path(install("initramfs-tools", [], str(root)))
    text = path.read_text("utf-8").replace(f"exec {sys.executable} -I -m pydumpfile", "exec echo")
    path.write_text(text, "utf-8")
    return subprocess.run(
        [str(path), *environment.pop("arguments", "").split()], check=False, capture_output=True,
        text=True, env={"CONFDIR": confdir, "DESTDIR": "/tree", "PATH": "/bin", **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("confdir", "environment", "calls"),
    [
        ("/var/lib/kdump/initramfs-tools", {}, True),
        ("/etc/initramfs-tools", {}, False),
        ("/etc/initramfs-tools", {"PYDUMPFILE": "y"}, True),
    ],
)
def test_only_the_crash_kernels_initramfs(
    root: Path, confdir: str, environment: dict[str, str], calls: bool
) -> None:
    done = _run_hook(root, confdir, **environment)
    assert done.returncode == 0
    assert done.stdout == ("initramfs --tree /tree\n" if calls else "")


def test_prerequisites_are_none(root: Path) -> None:
    assert _run_hook(root, "/var/lib/kdump/x", arguments="prereqs").stdout == "\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("setting", "status"),
    [("IN_KDUMP=1", 0), ("add_dracutmodules=' kdump '", 0), ("add_dracutmodules=' lvm '", 255)],
)
def test_dracut_takes_it_for_kdump_only(root: Path, setting: str, status: int) -> None:
    path = install("dracut", [], str(root))
    script = f"{setting}; . {path}; check"
    assert subprocess.run(["bash", "-c", script], check=False).returncode == status


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_dracut_is_told_of_a_failure(root: Path) -> None:
    path = Path(install("dracut", [], str(root)))
    text = path.read_text("utf-8").replace(f"{sys.executable} -I -m pydumpfile", "false")
    path.write_text(text, "utf-8")
    script = f'inst_binary() {{ :; }}; derror() {{ echo "$*"; }}; initdir=/tree; . {path}; install'
    done = subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "could not be put into the initramfs" in done.stdout
