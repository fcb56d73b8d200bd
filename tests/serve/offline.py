"""Serves and completes where nothing but loopback can be reached; run in a network namespace of its own.

    unshare --net --map-root-user python -m tests.serve.offline MODEL ENGINE

Prints what was completed, after it has shown that the outside cannot be reached.
"""

import errno
import fcntl
import json
import socket
import struct
import subprocess
import sys
import urllib.request

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_OUTSIDE = ("192.0.2.1", 80)  # TEST-NET-1 of RFC 5737: nobody's


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh", b"lo", 0).ljust(40, b"\0")
        flags = struct.unpack_from("16sh", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP).ljust(40, b"\0"))


def check_outside_is_away() -> None:
    with socket.socket() as any_socket:
        any_socket.settimeout(5)
        found = any_socket.connect_ex(_OUTSIDE)
    if found != errno.ENETUNREACH:
        raise SystemExit(f"there is a network here: {errno.errorcode.get(found, found)}")


def main() -> None:
    model, engine = sys.argv[1:3]
    bring_loopback_up()
    check_outside_is_away()
    command = [sys.executable, "-m", "codegemma", "serve", model, "--engine", engine, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            said = [server.stderr.readline()]
            while not said[-1].startswith("ready"):
                if not said[-1]:
                    raise SystemExit(f"the server ended: {said}")
                said.append(server.stderr.readline())
            body = json.dumps({"input_prefix": "import os\n\nprint(os.", "input_suffix": "\n", "n_predict": 6}).encode()
            request = urllib.request.Request(f"{said[0].split()[0]}/infill", body)  # noqa: S310
            with urllib.request.urlopen(request) as reply:  # noqa: S310
                told = json.load(reply)
        finally:
            server.terminate()
    print(json.dumps({"tokens": told["tokens_predicted"], "stop": told["why"]["stop_reason"], "said": said}))


if __name__ == "__main__":
    main()
