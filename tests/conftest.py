"""What a script starts in the background is deaf to Ctrl-C, and so is all that it starts; these
tests and their children heed it, as in a terminal.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
