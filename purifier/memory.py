"""Memory that a process has used, that a call takes, and that is free."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["free_memory", "memory_taken", "peak_memory"]


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: on the GPU if `device` is one, else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # which Windows lacks

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def memory_taken(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call takes at its peak, on top of what was in use before it.

    On a GPU, memory that torch allocates; on the CPU, memory of the process on Linux, and None
    elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    except OSError:
        call()
        return None
    held = _kilobytes("/proc/self/status", "VmRSS")
    call()
    peak = _kilobytes("/proc/self/status", "VmHWM")
    return None if held is None or peak is None else 1024 * (peak - held)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None if unknown.

    A container's memory limit is taken into account.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = _kilobytes("/proc/meminfo", "MemAvailable")
    if available is None:
        return None
    left = _left_of_limit(Path("/sys/fs/cgroup"))
    return 1024 * available if left is None else min(1024 * available, left)


def _left_of_limit(group: Path) -> int | None:
    """Bytes that a control group may still use; None without a limit."""
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        taken = (group / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(taken))


def _kilobytes(file: str, key: str) -> int | None:
    """The number beside a key in a file of Linux."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return None
