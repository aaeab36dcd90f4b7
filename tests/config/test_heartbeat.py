"""A beat makes the file young, and only a beat that does not come lets it grow old."""

import time
from datetime import timedelta
from pathlib import Path

from config.heartbeat import Heartbeat


def age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def test_a_beat_makes_the_file_and_makes_it_young(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    Heartbeat(path).beat()
    assert abs(age(path)) < 60
    Heartbeat(path).beat(next_in=timedelta(hours=-2))
    assert age(path) > 7000
    Heartbeat(path).beat()
    assert abs(age(path)) < 60


def test_a_process_that_beats_once_an_hour_is_not_old_before_the_hour_is_over(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    Heartbeat(path).beat(next_in=timedelta(hours=1))
    assert -3601 < age(path) < -3500


def test_where_nobody_watches_or_nothing_can_be_written_nothing_happens(tmp_path: Path) -> None:
    Heartbeat(None).beat()
    Heartbeat(tmp_path / "absent" / "heartbeat").beat()
    assert list(tmp_path.iterdir()) == []
