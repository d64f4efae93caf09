"""CUDA graphs: capture a pass once and replay it for every θ, without the overhead of Python."""

from collections.abc import Callable

import torch

from lca.runtime.device import supports_cuda

Pass = Callable[[], None]

WARM_UPS = 3  # passes before a capture, for the one-time setup of cuDNN, autograd and torch.compile


def capture(function: Pass, device: torch.device) -> tuple[Pass, str | None]:
    """Capture the CUDA work of a function as a graph.

    The function must read and write tensors whose addresses do not change. Returns a callable that replays the graph,
    and None. On a device other than CUDA, returns the function itself and None. If the capture fails, for example
    because of a synchronization, control flow that depends on values, or too little memory, returns the function itself
    and the reason.
    """
    if not supports_cuda(device):
        return function, None
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        # The outer context restores the current stream even if the capture fails. With "thread_local", other threads
        # may use CUDA during the capture, as those that read and write blocks do.
        with (
            torch.cuda.stream(torch.cuda.current_stream(device)),
            torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
        ):
            function()
    except RuntimeError as error:  # includes torch.OutOfMemoryError
        torch.cuda.synchronize(device)
        reason = error.__context__ or error  # ending a failed capture raises a second error that hides the cause
        return function, f"passes run without a CUDA graph: {str(reason).splitlines()[0]}"
    return graph.replay, None
