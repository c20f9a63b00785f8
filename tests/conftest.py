"""One thread per test process: the suite runs in as many processes as there are cores (pytest -n auto)."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a suite in the background of a script: Ctrl-C is tested too
    signal.signal(signal.SIGINT, signal.default_int_handler)
