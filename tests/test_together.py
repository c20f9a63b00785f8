"""Calls done together (store/together.py): who waits goes along with the next group, and answers for itself alone.

Kinds: hand-made orders of events, properties under many threads.
"""

import threading

import pytest

from posttrain.store.together import Together


def test_a_call_alone_begins_at_once_and_its_exception_is_its_own():
    groups = []

    def do_all(jobs):
        groups.append(list(jobs))
        return [ValueError(job) if job < 0 else job * 10 for job in jobs]

    together = Together(do_all)
    assert together(1) == 10
    with pytest.raises(ValueError, match="-2"):
        together(-2)
    assert groups == [[1], [-2]]


def test_what_arrives_meanwhile_is_done_at_one_go():
    begun, go, groups, answers = threading.Event(), threading.Event(), [], {}

    def do_all(jobs):
        groups.append(sorted(jobs))
        begun.set()
        go.wait(10)
        return [job * 10 for job in jobs]

    together = Together(do_all)

    def call(job):
        answers[job] = together(job)

    threads = [threading.Thread(target=call, args=(job,)) for job in range(9)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(together._waiting) < 8:
        begun.wait(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert groups == [[0], list(range(1, 9))] and answers == {job: job * 10 for job in range(9)}


def test_when_the_work_cannot_be_done_at_all_everybody_is_told_and_the_next_call_tries_again():
    broken = [OSError("gone"), None]

    def do_all(jobs):
        if error := broken.pop(0):
            raise error
        return list(jobs)

    together = Together(do_all)
    with pytest.raises(OSError, match="gone"):
        together(1)
    assert together(2) == 2


def test_no_call_is_lost_or_done_twice():
    done = []

    def do_all(jobs):
        done.extend(jobs)
        return [-job for job in jobs]

    together, wrong = Together(do_all), []

    def many(first):
        wrong.extend(job for job in range(first, first + 300) if together(job) != -job)

    threads = [threading.Thread(target=many, args=(1 + 300 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and sorted(done) == list(range(1, 2401))
