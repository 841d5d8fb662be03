# SPDX-License-Identifier: Apache-2.0
"""runner.py: makes attempts on demand, each in a process of its own.

A line on standard input is a JSON list: a number, then vectors.py's words. The
answer is a line "NUMBER RESULT". Answers come in the order in which attempts end.
"""
import json
import os
import signal
import sys

import vectors

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
for line in sys.stdin:
    words = json.loads(line)
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        vectors.run(words[0], words[1:])
