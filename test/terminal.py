"""Runs a command in a terminal of a given width, its keyboard and screen being this process's own stdin and stdout."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios

columns, command = int(sys.argv[1]), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.execvp(command[0], command)

listening = [terminal, 0]
while True:
    for source in select.select(listening, [], [])[0]:
        try:
            data = os.read(source, 65536)
        except OSError:  # Linux's way to say that the other end of a terminal was closed.
            data = b""
        if data:
            os.write(1 if source == terminal else terminal, data)
        elif source == 0:
            listening.remove(0)
        else:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status) % 256)
