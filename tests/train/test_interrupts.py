"""Signals as requests to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from raysl.train.interrupts import SIGNALS, stop_on_signals


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_the_first_signal_is_a_request_and_the_second_acts_as_usual(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    usual: list[int] = []
    before = signal.signal(number, lambda got, frame: usual.append(got))
    try:
        with stop_on_signals() as request:
            assert not request()
            os.kill(os.getpid(), number)
            assert request()
            assert request.signal is number
            assert usual == []
            os.kill(os.getpid(), number)
            assert usual == [number]
        told = capsys.readouterr().err
        assert told == f"{number.name}: saving at the next step (again to stop at once)\n"
    finally:
        signal.signal(number, before)


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_on_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_the_main_thread_no_request_is_ever_made() -> None:
    asked: list[bool] = []

    def work() -> None:
        with stop_on_signals() as request:
            asked.append(request())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]
