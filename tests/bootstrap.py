# SPDX-License-Identifier: GPL-2.0-or-later
"""Get this machine ready to build, test and show pydumpfile: Debian packages and a `.venv`.

    python3 tests/bootstrap.py            everything, the lab that crashes kernels included
    python3 tests/bootstrap.py --no-lab   what building and the tests without QEMU need

Runs on a bare Python and says in one line each what it does. What is there already is left alone,
so that a second run takes a moment and needs no network. Without root, and without a sudo that asks
nothing, it prints the command to run as root and exits with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
LAB_PACKAGES = tuple(
    PROJECT / "tests" / lab / "packages.txt" for lab in ("lab", "kernel_lab", "bench")
)
# Any kernel would do: apt-cache knows none where the package lists were deleted, as in containers.
KERNEL_PACKAGE = "linux-image-cloud-amd64"
APT_WORKPLACE = Path("/var/lib/apt/lists/partial")
# Older lists name versions of kernels that the mirrors no longer have.
LISTS_GET_STALE_SECONDS = 7 * 24 * 3600
# What the environment is made of: if one of these changes, it is installed again.
INGREDIENTS = ("pyproject.toml", "setup.py", "csrc/*")
EXTRAS = "test,lint,lab"


class BootstrapError(Exception):
    """The machine cannot be made ready; the message says what to do about it."""


def main(arguments: Sequence[str]) -> int:
    """Make the machine ready; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-lab", action="store_true", help="leave out what the lab needs")
    options = parser.parse_args(arguments)
    try:
        install_packages(lab=not options.no_lab)
        make_venv()
        install_project()
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    return 0


def say(text: str) -> None:
    """One line of what is being done."""
    print(f"bootstrap: {text}", flush=True)


# Debian packages


def install_packages(lab: bool) -> None:
    """Install the Debian packages that are missing.

    Raises BootstrapError if that takes rights or programs this user does not have.
    """
    wanted = [*missing_build_packages(), *(missing_packages(lab_packages()) if lab else ())]
    missing = list(dict.fromkeys(wanted))
    has_apt = shutil.which("apt-get") is not None
    if missing and not has_apt:
        raise BootstrapError(
            "this needs Debian or a relative of it (no apt-get here). Install by hand what is "
            f"called there: {' '.join(missing)}"
        )
    # The lab downloads kernels by apt, so it needs the lists even if all packages are here.
    update = has_apt and (bool(missing) or lab) and lists_are_unfit(missing)
    if not missing and not update:
        return
    root = root_prefix()
    if root is None:
        if missing or not apt_knows([KERNEL_PACKAGE]):
            raise BootstrapError(what_root_must_run(missing, update))
        return  # the lists are only old
    if update:
        update_lists(root)
    if missing:
        apt_install(root, missing)


def missing_build_packages() -> list[str]:
    """Packages without which no environment can be made, by what is not there.

    An interpreter that is not Debian's brings headers and ensurepip itself: it is asked, not dpkg.
    """
    missing = [program for program in ("gcc", "make") if shutil.which(program) is None]
    if "gcc" in missing:
        missing.append("libc6-dev")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        missing.append(_part_of_this_python("its headers (Python.h)", "python3-dev"))
    if not venv_works() and importlib.util.find_spec("ensurepip") is None:
        missing.append(_part_of_this_python("ensurepip", "python3-venv"))
    return missing


def _part_of_this_python(what: str, package: str) -> str:
    if sys.base_prefix != "/usr":
        raise BootstrapError(
            f"{sys.executable} lacks {what}, and no Debian package adds that to it; use Debian's "
            f"own Python (make PYTHON=/usr/bin/python3) with {package}, or one built with it"
        )
    return package


def lab_packages(listings: Iterable[Path] = LAB_PACKAGES) -> list[str]:
    """The packages named in the labs' lists: one a line, `#` starts a comment."""
    lines = (line for listing in listings for line in listing.read_text("utf-8").splitlines())
    names = (line.partition("#")[0].strip() for line in lines)
    return list(dict.fromkeys(name for name in names if name))


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that dpkg does not call installed; all of them where there is no dpkg."""
    packages = list(packages)
    if shutil.which("dpkg-query") is None:
        return packages
    listing = _output(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *packages])
    installed = {line.split()[1] for line in listing.splitlines() if line.startswith("installed ")}
    return [package for package in packages if package not in installed]


def lists_are_unfit(missing: Sequence[str]) -> bool:
    """Whether apt's lists lack a package that is needed, or are too old to be relied on."""
    if not apt_knows([KERNEL_PACKAGE, *missing]):
        return True
    # The lists have the mirror's dates; what every update touches is the directory it works in.
    return time.time() - APT_WORKPLACE.stat().st_mtime > LISTS_GET_STALE_SECONDS


def apt_knows(packages: Sequence[str]) -> bool:
    """Whether apt's lists have every one of `packages`."""
    shown = _output(["apt-cache", "show", "--no-all-versions", *packages])
    known = {line.split()[1] for line in shown.splitlines() if line.startswith("Package: ")}
    return known.issuperset(packages)


def root_prefix() -> list[str] | None:
    """What to put before a command to run it as root; None if this user cannot."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and _succeeds(["sudo", "-n", "true"]):
        return ["sudo", "-n"]
    return None


def what_root_must_run(missing: Sequence[str], update: bool) -> str:
    """The message for a user without rights: the exact command line."""
    commands = []
    if update:
        commands.append("apt-get update")
    if missing:
        commands.append(f"apt-get install {' '.join(missing)}")
    why = "Debian packages are missing"
    if not missing:
        why = "apt has no package lists, and the lab finds kernels by them"
    return (
        f"{why}, which only root can mend. Run this as root, then try again:\n\n"
        f"    {' && '.join(commands)}\n"
    )


def update_lists(root: Sequence[str]) -> None:
    """Fetch apt's package lists."""
    say("apt-get update (package lists are missing or old)")
    _run_apt([*root, "apt-get", "-q", "update"])


def apt_install(root: Sequence[str], packages: Sequence[str]) -> None:
    """Install `packages`; if the lists turn out to be stale, once more with new ones."""
    say(f"apt-get install {' '.join(packages)}")
    command = [
        *root, "env", "DEBIAN_FRONTEND=noninteractive",
        "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300",
        "install", "--no-install-recommends", *packages,
    ]  # fmt: skip
    try:
        _run_apt(command)
    except BootstrapError:
        update_lists(root)
        _run_apt(command)


def _run_apt(command: Sequence[str]) -> None:
    """Run apt-get; its hundreds of lines are only shown if it fails."""
    run = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if run.returncode:
        tail = "\n".join(run.stdout.splitlines()[-15:])
        raise BootstrapError(f"{shlex.join(command)} failed:\n{tail}")


# The virtual environment


def venv_python() -> Path:
    """The environment's interpreter."""
    return VENV / "bin" / "python"


def venv_works() -> bool:
    """Whether there is an environment, with pip, of the Python version this runs on."""
    check = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return venv_python().exists() and _succeeds([str(venv_python()), "-c", check])


def make_venv() -> None:
    """Make the environment unless there is one that works."""
    if venv_works():
        return
    say(f"making {VENV.relative_to(PROJECT)} with Python {sys.version.split()[0]}")
    _run_python([sys.executable, "-m", "venv", "--clear", str(VENV)])


def install_project() -> None:
    """Build pydumpfile's C and install it editable, with all that its tests need."""
    stamp = VENV / "pydumpfile.stamp"
    fingerprint = ingredients_hash()
    modules = list((PROJECT / "pydumpfile").glob("_pagescan*.so"))
    if modules and stamp.exists() and stamp.read_text("ascii") == fingerprint:
        return
    # setuptools takes a module newer than its sources for good, whatever it was compiled with.
    for module in modules:
        module.unlink()
    say(f"pip install -e .[{EXTRAS}] (compiles csrc/)")
    pip = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "-qq"]
    # Strict editing comes with an import hook that every start of the command would pay for.
    as_path = ["--config-settings", "editable_mode=compat"]
    _run_python([*pip, "install", *as_path, "--editable", f"{PROJECT}[{EXTRAS}]"])
    stamp.write_text(fingerprint, "ascii")


def ingredients_hash() -> str:
    """Changes with whatever the environment and the compiled module are made of."""
    digest = hashlib.sha256(repr((EXTRAS, os.environ.get("CFLAGS", ""))).encode())
    for pattern in INGREDIENTS:
        for path in sorted(PROJECT.glob(pattern)):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _run_python(command: Sequence[str]) -> None:
    run = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if run.returncode:
        raise BootstrapError(f"{shlex.join(command)} failed with status {run.returncode}")


def _succeeds(command: Sequence[str]) -> bool:
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    return run.returncode == 0


def _output(command: Sequence[str]) -> str:
    """Standard output of a query; what it complains about shows in what it does not list."""
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return run.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
