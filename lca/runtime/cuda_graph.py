"""A pass as one CUDA graph: captured once, launched per θ without a word from Python in between."""

from collections.abc import Callable

import torch

Pass = Callable[[], None]

WARM_UPS = 3  # before a capture; cuDNN, the autograd engine and a compiler settle in them


def capture(function: Pass, device: torch.device) -> tuple[Pass, str | None]:
    """A callable that replays what function does on the device, and None; or function itself, and why not.

    function takes nothing and returns nothing: it reads and writes tensors that stay where they are. What cannot be
    captured (a synchronisation, a choice that depends on values, not enough memory) is done eagerly, as before.
    """
    if device.type != "cuda":
        return function, None
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        # A capture that fails may end without a return to the stream that was current before it; and other threads,
        # which read and write blocks, may do as they like in the meantime.
        with (
            torch.cuda.stream(torch.cuda.current_stream(device)),
            torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
        ):
            function()
    except RuntimeError as error:  # torch.OutOfMemoryError is one too
        torch.cuda.synchronize(device)
        reason = (
            error.__context__ or error
        )  # the end of a failed capture raises as well, and does not say why it failed
        return function, f"no CUDA graph, passes are eager: {str(reason).splitlines()[0]}"
    return graph.replay, None
