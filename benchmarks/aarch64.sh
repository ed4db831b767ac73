#!/usr/bin/env bash
# The runtime on an emulated aarch64: Debian's Python 3.11 and the wheels of requirements-edge.txt, unpacked into
# build/aarch64 and run by qemu-user. Nothing is installed on this machine.
#
#     benchmarks/aarch64.sh                           tests/runtime
#     benchmarks/aarch64.sh tests/runtime/test_x.py   any arguments of pytest
#     .venv/bin/python benchmarks/other_cpu.py BUNDLE --python build/aarch64/bin/python    the codes against this machine's
#
# Wanted: Debian 12 with qemu-user, apt's network, and .venv from `make`; with gcc-aarch64-linux-gnu the wheel holds the
# NEON kernels, else it searches with NumPy. QEMU_CPU names another processor (`qemu-aarch64
# -cpu help`); cortex-a72 is a Raspberry Pi 4, cortex-a76 (with int8 dot products) a Raspberry Pi 5.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/build/aarch64
pip=".venv/bin/python -m pip --quiet --disable-pip-version-check"
site=$here/lib/python3.11/site-packages

debian() {  # the folder that stands for /
    mkdir -p "$here/root" "$here/debs/lists/partial" "$here/debs/cache"
    (
        cd "$here/debs"
        options=(-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oAPT::Sandbox::User=root
                 -oDir::State::Lists="$PWD/lists" -oDir::Cache="$PWD/cache" -qq)
        apt-get "${options[@]}" update
        apt-get "${options[@]}" download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 \
            libstdc++6 zlib1g libexpat1 libffi8 libssl3 libsqlite3-0 libbz2-1.0 liblzma5 libuuid1 libcrypt1
        for package in *.deb; do dpkg -x "$package" "$here/root"; done
    )
    # onnxruntime reads the kind of core from /proc/cpuinfo and crashes on that of an x86 host.
    mkdir -p "$here/root/proc"
    for core in $(seq 0 $(($(nproc) - 1))); do
        printf 'processor\t: %s\nFeatures\t: fp asimd crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\n' "$core"
        printf 'CPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
    done > "$here/root/proc/cpuinfo"
}

environment() {  # a virtual environment whose python is a script, so that child processes are emulated too
    mkdir -p "$here/bin" "$site"
    printf 'home = %s\ninclude-system-site-packages = false\n' "$here/root/usr/bin" > "$here/pyvenv.cfg"
    cat > "$here/bin/python" <<SCRIPT
#!/bin/sh
export QEMU_CPU="\${QEMU_CPU:-cortex-a76}"
exec qemu-aarch64 -L "$here/root" -0 "\$0" "$here/root/usr/bin/python3.11" "\$@"
SCRIPT
    chmod +x "$here/bin/python"
    options=(--no-deps --target "$site" --only-binary=:all: --implementation cp --python-version 3.11
             --platform manylinux2014_aarch64)
    for minor in 17 24 26 27 28 31 34; do options+=(--platform "manylinux_2_${minor}_aarch64"); done
    $pip install "${options[@]}" --require-hashes -r requirements-edge.txt
    $pip install "${options[@]}" -c constraints.txt pytest hypothesis iniconfig pluggy pygments sortedcontainers
}

[ -e "$here/.made" ] || { rm -rf "$here"; debian; environment; touch "$here/.made"; }
# The wheel of the working tree.
rm -rf "$here/wheels" "$site"/duch "$site"/duch_* "$site"/duch-*
if command -v aarch64-linux-gnu-gcc > /dev/null; then
    export DUCH_REQUIRE_NATIVE=1 DUCH_PLATFORM=linux_aarch64
    CC=aarch64-linux-gnu-gcc $pip wheel --no-deps --wheel-dir "$here/wheels" .
else
    DUCH_NATIVE=0 $pip wheel --no-deps --wheel-dir "$here/wheels" .
fi
unzip -q "$here"/wheels/duch-*.whl -d "$site"
[ $# -gt 0 ] || set -- -q tests/runtime
exec "$here/bin/python" -m pytest -o pythonpath= -p no:cacheprovider "$@"
