"""What `deploy/` promises, as far as it can be checked without a service manager and a container."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from duch.cli_watch import watch

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = "duch-watch@.service"


def settings_of(file: Path) -> dict[str, list[str]]:
    """The lines `key=value` of a unit or an environment file."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def console() -> list[str]:
    """The commands of the README, root's as well."""
    blocks = re.findall(r"```console\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines()]


def check_arguments(words: list[str]) -> None:
    """`duch watch` takes these, without doing anything."""
    watch.make_context("duch watch", words).close()


# --- systemd ---


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    program = shutil.which("true")
    text = (DEPLOY / UNIT).read_text()
    assert program is not None
    assert text.count("/opt/duch/bin/duch") == 1
    file = tmp_path / UNIT
    file.write_text(text.replace("/opt/duch/bin/duch", program))
    return file


def systemd_analyze(*arguments: str, unit: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here")
    return subprocess.run([program, *arguments, str(unit)], capture_output=True, text=True, check=False, timeout=60)


def test_systemd_has_nothing_to_say_about_the_unit(unit: Path) -> None:
    done = systemd_analyze("verify", "--man=no", unit=unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # of an unknown key it only warns


def test_systemd_takes_the_unit_for_safe(unit: Path) -> None:
    done = systemd_analyze("security", "--offline=true", "--no-pager", "--threshold=10", unit=unit)
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file")
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_the_service_runs_a_command_that_there_is(tmp_path: Path) -> None:
    (command,) = settings_of(DEPLOY / UNIT)["ExecStart"]
    values = {key: text for key, (text,) in settings_of(DEPLOY / "duch-watch.env").items()}
    words: list[str] = []
    for word in command.split():
        name = re.fullmatch(r"\$\{?([A-Z]+)\}?", word)
        if name is None:
            words.append(word.replace("%S", "/var/lib").replace("%i", "station"))
        else:  # systemd splits what stands without braces
            words += shlex.split(values[name[1]]) if "{" not in word else [values[name[1]]]
    assert words[:2] == ["/opt/duch/bin/duch", "watch"]
    assert words[-3:] == [values["BUNDLE"], values["INCOMING"], "/var/lib/duch/station"]
    check_arguments(words[2:])


def test_the_service_writes_where_its_gallery_is_and_has_no_network() -> None:
    settings = settings_of(DEPLOY / UNIT)
    assert settings["StateDirectory"] == ["duch"]
    assert "%S/duch/" in settings["ExecStart"][0]
    assert "ReadWritePaths" not in settings
    for key, value in {"ProtectSystem": "strict", "PrivateNetwork": "yes", "NoNewPrivileges": "yes"}.items():
        assert settings[key] == [value]


# --- the container ---


def steps() -> list[tuple[str, str]]:
    """Instructions of the Containerfile with their arguments, lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in text.splitlines() if line.strip()]


def test_the_image_is_made_of_what_is_in_the_repository() -> None:
    copied = [word for name, rest in steps() if name == "COPY" for word in rest.split()[:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
    assert not [name for name, _ in steps() if name == "ADD"]
    # What builds the wheel has all that its build names.
    build = (ROOT / "pyproject.toml").read_text()
    (packages,) = re.findall(r'^packages = \["(.*)"\]$', build, re.MULTILINE)
    assert {package.split("/")[0] for package in packages.split('", "')} <= set(copied)
    for needed in ("pyproject.toml", "hatch_build.py", *re.findall(r'^readme = "(.*)"$', build, re.MULTILINE)):
        assert needed in copied


def test_the_image_runs_the_command_and_not_as_root() -> None:
    last = [name for name, _ in steps()][::-1].index("FROM")
    final = dict(steps()[-last:])
    assert final["USER"] == "10001:10001"
    assert final["ENTRYPOINT"] == '["duch"]'
    names = [name for name, _ in steps()]
    assert len(names) - names[::-1].index("RUN") - 1 < names.index("USER")


def test_both_ways_install_the_same_pinned_wheels() -> None:
    def flags(line: str) -> set[str]:
        (pip,) = re.findall(r"pip install (?=[^&]*require-hashes)([^&]*)", line)
        words = [word.removeprefix("/duch/") for word in pip.split() if word != "--no-cache-dir"]
        return {"wheels" if word == "/wheels" else word for word in words}

    (image,) = [rest for name, rest in steps() if name == "RUN" and "pip install" in rest]
    (host,) = [line for line in console() if "pip install" in line and "require-hashes" in line]
    assert flags(image) == flags(host)
    assert {"--no-deps", "requirements-edge.txt", "requirements-geo.txt"} <= flags(host)


def test_the_pinned_wheels_are_those_of_the_tests_and_hold_the_extra() -> None:
    tested = set((ROOT / "constraints.txt").read_text().splitlines())
    pins: dict[str, list[str]] = {}
    for file in ("requirements-edge.txt", "requirements-geo.txt"):
        entries = re.split(r"\n(?=[a-z])", (ROOT / file).read_text().partition("\n\n")[2])
        pins[file] = [entry.split()[0] for entry in entries]
        assert all("--hash=sha256:" in entry for entry in entries)
        assert set(pins[file]) <= tested
    assert not set(pins["requirements-edge.txt"]) & set(pins["requirements-geo.txt"])
    assert {"rasterio", "shapely", "pystac"} <= {pin.partition("==")[0] for pin in pins["requirements-geo.txt"]}


# --- the README ---


def test_the_readmes_commands_are_taken() -> None:
    (watched,) = [words for line in console() if (words := line.partition(" duch watch ")[2])]
    check_arguments(shlex.split(watched))
    for line in console():
        for place in re.findall(r"\bdeploy/[\w@.-]+", line):
            assert (ROOT / place).is_file(), line


def test_the_readme_tells_of_every_event() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", (DEPLOY / "README.md").read_text(), re.MULTILINE))
    source = (ROOT / "runtime/duch/geo/watch.py").read_text()
    assert told == set(re.findall(r'\.event\(\s*[^,()]+,\s*"(\w+)"', source))
