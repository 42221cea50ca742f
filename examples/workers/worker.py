#!/usr/bin/env python3
"""A GopherQueue worker: fetches what jobs of type 'fetch' name, as {"url": "..."}. Python 3.8 or newer, nothing else.

GOPHERQUEUE_URL and GOPHERQUEUE_TOKEN name the server, SLOTS the jobs at once, GRACE the seconds that they have on SIGTERM.
"""
import http.client
import itertools
import json
import math
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request

SERVER = os.environ.get("GOPHERQUEUE_URL", "http://127.0.0.1:7420").rstrip("/")
TOKEN = os.environ.get("GOPHERQUEUE_TOKEN")
SLOTS = int(os.environ.get("SLOTS", "4"))
GRACE = float(os.environ.get("GRACE", "25"))
NAME = f"{socket.gethostname()}-{os.getpid()}"  # of this process alone: two loops under one name replace each other


class Permanent(Exception):
    """Raised by a handler: trying again cannot help."""


def fetch(job, stop):
    """A handler: what it returns is the result, what it raises a failure, repeated unless it is Permanent."""
    try:
        with urllib.request.urlopen(job["payload"]["url"], timeout=job["timeout"] / 1000) as response:
            size = 0
            while chunk := response.read(65536):
                if stop.is_set():
                    raise InterruptedError("stopped")
                size += len(chunk)
            return {"status": response.status, "bytes": size}
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise Permanent(f"{job['payload']['url']} is not there ({error.code})")
        raise


HANDLERS = {"fetch": fetch}


class Refused(Exception):
    """The server's last word on a request."""

    def __init__(self, status, body):
        try:
            problem = json.loads(body)
        except ValueError:
            problem = {}
        self.code = problem.get("code", f"HTTP_{status}")
        super().__init__(f"{self.code}: {problem.get('detail', body[:200])}")


def call(method, path, body=None, patience=0.0, timeout=70):
    """One request, sent again for `patience` seconds while the server is away or says that it cannot now."""
    until, pause = time.monotonic() + patience, 0.1
    while True:
        headers = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body() if callable(body) else body).encode()
        request = urllib.request.Request(SERVER + path, data, headers, method=method)
        wait = 0.0
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 429 and error.code < 500 or time.monotonic() > until:
                raise Refused(error.code, error.read())
            wait = float(error.headers.get("Retry-After") or 0)
        except (OSError, http.client.HTTPException, ValueError):  # refused, reset, timed out, cut off
            if time.monotonic() > until:
                raise
        time.sleep(max(wait, pause * random.uniform(0.5, 1)))
        pause = min(pause * 2, 5)


def run(job):
    """One attempt: heartbeats while its handler runs, then exactly one outcome, however long the server is away."""
    stop, done = threading.Event(), threading.Event()
    of_job = {"token": job["token"]}

    def beat():
        while not done.wait(job["visibilityTimeout"] / 3000):
            try:
                if call("POST", f"/v1/jobs/{job['id']}/heartbeat", of_job, timeout=10)["cancelRequested"]:
                    stop.set()
            except Refused as error:
                if error.code == "LEASE_LOST":  # its timeout is over, or another attempt has it
                    return stop.set()
            except Exception:
                pass  # the server is away: the next one may get there in time

    threading.Thread(target=beat, daemon=True).start()
    try:
        outcome = "succeed", {"result": HANDLERS[job["type"]](job, stop)}
    except Exception as error:
        what = {"name": type(error).__name__, "message": str(error), "stack": traceback.format_exc()}
        kind = "permanent" if isinstance(error, Permanent) else "temporary"
        outcome = ("release", {}) if stop.is_set() else ("fail", {"kind": kind, "error": what})
    done.set()
    event, told = outcome
    try:
        fate = call("POST", f"/v1/jobs/{job['id']}/{event}", {**of_job, **told}, patience=math.inf)
        print(f"job {job['id']} attempt {job['attempt']}: {event}, now {fate['state']}", flush=True)
    except Refused as error:  # LEASE_LOST: too late
        print(f"job {job['id']} attempt {job['attempt']}: {event} refused: {error}", flush=True)


stopping = threading.Event()
running = {}  # the token of each thread's job
failures = []


def poll():
    """The loop: one request that waits for jobs, as many as there are free slots, and a thread for each."""
    turns = itertools.count(1)

    def request():  # what an earlier answer gave and is not held was lost with it, and goes back
        held = list(running.copy().values())
        return {"worker": NAME, "types": list(HANDLERS), "slots": SLOTS, "turn": next(turns), "holds": held}

    while not stopping.is_set():
        try:
            jobs = call("POST", "/v1/leases", request, patience=math.inf)["jobs"]
        except Refused as error:  # the token, or the request itself: it would be refused again
            failures.append(error)
            return os.kill(os.getpid(), signal.SIGTERM)
        for job in jobs if not stopping.is_set() else []:
            thread = threading.Thread(target=lambda job=job: (run(job), running.pop(threading.current_thread())), daemon=True)
            running[thread] = job["token"]
            thread.start()


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: KeyboardInterrupt, in this thread
    poller = threading.Thread(target=poll, daemon=True)
    try:
        poller.start()
        print(f"{NAME} takes {', '.join(HANDLERS)}", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        stopping.set()
    try:
        end = time.monotonic() + GRACE
        no_more = {"worker": NAME, "types": list(HANDLERS), "slots": 0, "waitMs": 0, "turn": 2**53 - 1}
        try:
            call("POST", "/v1/leases", no_more, timeout=5)  # in place of the one that waits, which is answered so
            poller.join(5)
        except Exception:
            pass
        for thread in list(running):
            thread.join(max(0, end - time.monotonic()))
    except KeyboardInterrupt:
        pass  # a second signal: no more grace
    try:
        call("DELETE", f"/v1/workers/{NAME}", patience=5, timeout=5)  # what still runs goes back, uncharged
    except Exception as error:
        print(f"not signed off, what still runs goes back when its lease is over: {error}", flush=True)
    for error in failures:
        print(error, file=sys.stderr)
    os._exit(1 if failures else 0)  # also with handlers that go on


main()
