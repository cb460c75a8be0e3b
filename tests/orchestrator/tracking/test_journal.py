"""The journal loses nothing that was told, passes over torn lines, and knows what has been delivered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestrator.tracking.journal import Journal, read_events


def kinds(path: Path) -> list[str]:
    return [event.kind for event in read_events(path)]


def test_events_come_back_in_order_with_growing_numbers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "t.jsonl")
    for value in range(3):
        journal.append("epoch", {"value": value, "loss": 0.1 + value})
    told = journal.pending(10)
    assert [event.seq for event in told] == [1, 2, 3, 4]
    assert [event.data.get("loss") for event in told[1:]] == [0.1, 1.1, 2.1]
    assert told[0].kind == "opened"
    assert told[0].data["id"] == journal.id


def test_what_is_marked_is_not_pending_again_nor_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    journal = Journal(path)
    for value in range(5):
        journal.append("e", {"value": value})
    journal.mark(journal.pending(3)[-1])
    assert [event.data["value"] for event in journal.pending(10)] == [2, 3, 4]
    assert journal.waiting == 3
    journal.close()
    again = Journal(path)
    assert again.id == journal.id
    assert [event.data["value"] for event in again.pending(10)] == [2, 3, 4]
    again.append("e", {"value": 5})
    assert [event.seq for event in again.pending(10)] == [4, 5, 6, 7]


def test_another_target_receives_everything_and_rewind_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    first = Journal(path, target="one")
    first.append("e", {})
    first.mark(first.pending(10)[-1])
    assert first.waiting == 0
    first.close()
    assert Journal(path, target="one").waiting == 0
    assert Journal(path, target="two").waiting == 2
    again = Journal(path, target="one")
    again.rewind()
    assert [event.kind for event in again.pending(10)] == ["opened", "e"]


@pytest.mark.parametrize("torn", [b'{"seq":3,"ti', b'{"seq":3}', b"\xff\xfe"])
def test_a_half_written_last_line_is_passed_over_and_the_next_one_is_whole(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "t.jsonl"
    journal = Journal(path)
    journal.append("a", {})
    journal.close()
    with path.open("ab") as file:
        file.write(torn)
    assert kinds(path) == ["opened", "a"]
    again = Journal(path)
    again.append("b", {})
    assert [event.kind for event in again.pending(10)][-1] == "b"
    assert kinds(path) == ["opened", "a", "b"]


def test_a_whole_event_that_lacks_only_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    Journal(path).append("a", {})
    path.write_bytes(path.read_bytes()[:-1])
    again = Journal(path)
    again.append("b", {})
    assert [(event.seq, event.kind) for event in again.pending(10)] == [(1, "opened"), (2, "a"), (3, "b")]


def test_a_torn_first_line_gets_an_id_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"seq":1,"ki')
    journal = Journal(path)
    assert journal.id
    assert Journal(path).id == journal.id


@pytest.mark.parametrize("stored", ["{", "[]", '{"seq": 1}', '{"seq": 9, "offset": 999999, "target": "x"}'])
def test_a_damaged_offset_file_means_delivering_again(tmp_path: Path, stored: str) -> None:
    path = tmp_path / "t.jsonl"
    Journal(path).append("a", {})
    (tmp_path / "t.jsonl.delivered").write_text(stored)
    assert [event.kind for event in Journal(path).pending(10)] == ["opened", "a"]


def test_a_write_that_failed_leaves_the_next_line_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.jsonl"
    journal = Journal(path)
    write = os.write

    def half(handle: int, content: bytes) -> int:
        write(handle, content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        journal.append("lost", {})
    monkeypatch.setattr(os, "write", write)
    journal.append("kept", {})
    assert kinds(path) == ["opened", "kept"]


def test_many_threads_append_whole_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "t.jsonl")

    def tell(who: int) -> None:
        for value in range(100):
            journal.append("e", {"who": who, "value": value})

    threads = [threading.Thread(target=tell, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = journal.pending(1000)
    assert [event.seq for event in told] == list(range(1, 402))
    assert sorted((event.data["who"], event.data["value"]) for event in told[1:]) == [
        (w, v) for w in range(4) for v in range(100)
    ]


def test_a_killed_writer_loses_nothing_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from orchestrator.tracking.journal import Journal\n"
        f"j = Journal(Path({str(path)!r}))\n"
        "for i in range(37): j.append('e', {'i': i})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    assert [event.data["i"] for event in Journal(path).pending(100)[1:]] == list(range(37))
