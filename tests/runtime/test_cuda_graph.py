from contextlib import contextmanager

import torch

from lca.runtime.cuda_graph import capture

CPU = torch.device("cpu")


class NoCapture:
    """A replacement for torch.cuda whose capture fails, and raises a second error when it ends."""

    def __init__(self):
        self.synchronized, self.current = 0, ["default"]

    CUDAGraph = lambda self: "graph"

    def current_stream(self, device):
        return Stream(self.current[-1])

    @contextmanager
    def stream(self, stream):
        self.current.append(str(stream))
        try:
            yield
        finally:
            del self.current[1:]  # restore the previous stream, even if the body has left another one current

    def graph(self, graph, stream, capture_error_mode):
        assert (str(stream), capture_error_mode) == ("side", "thread_local")
        self.current.append("side")
        return FailingExit()

    def synchronize(self, device):
        self.synchronized += 1


class FailingExit:
    def __enter__(self): ...

    def __exit__(self, *exception):
        raise RuntimeError("operation failed due to a previous error during capture")


class Stream(str):
    def wait_stream(self, stream): ...


def test_without_cuda_nothing_is_captured():
    function = lambda: None
    assert capture(function, CPU) == (function, None)


def test_a_failed_capture_runs_eagerly_with_a_note(monkeypatch):
    refusing, calls = NoCapture(), []
    refusing.Stream = lambda device: Stream("side")
    monkeypatch.setattr(torch, "cuda", refusing)

    def function():
        calls.append(1)
        if len(calls) == 4:  # the capture follows three warm-up calls
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    run, note = capture(function, torch.device("cuda"))
    assert run is function
    assert note == "passes run without a CUDA graph: operation not permitted when stream is capturing"
    assert (refusing.synchronized, refusing.current) == (1, ["default"])
