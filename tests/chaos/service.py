"""A service with a daemon in a session of its own that ignores SIGTERM."""

import os
import signal
import time

if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(10)
